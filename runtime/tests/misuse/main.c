/* Uses the runtime wrongly in every way that we know. A line per case says what was done, what came
 * of it, and whether that is right: an error, never a crash. Built with sanitizers, and in memory
 * of exactly the size that is asked for, no access goes unnoticed.
 *
 *     cc -g -fsanitize=address,undefined -pthread misuse/?*.c ../src/?*.c ../kernels/?*.c
 *     ./a.out INTEGER.sqz FLOAT.sqz [null|room|pictures|order|options|addresses|threads|damage|
 *                                    float|limits]
 *
 * INTEGER.sqz is a small file, of which every bit is flipped; FLOAT.sqz has codebooks. The exit
 * code is 1 if a line says WRONG. */
#define _POSIX_C_SOURCE 200809L /* alarm */
#include <unistd.h>

#include "misuse.h"

#define MAX_SECONDS 300 /* for all cases: a program that hangs is ended */

static int num_wrong;

void say(const char *what, const char *got, int good) {
    if (!good) num_wrong++;
    printf("%-6s%-68s %s\n", good ? "ok" : "WRONG", what, got);
    fflush(stdout);
}

void expect(const char *what, sqz_error got, sqz_error expected) {
    say(what, sqz_error_text(got), got == expected);
}

void expect_size(const char *what, size_t got, size_t expected) {
    char text[32];
    sprintf(text, "%lu bytes", (unsigned long)got);
    say(what, text, got == expected);
}

void *exactly(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (memory == NULL) exit((say("malloc", "not enough memory", 0), 1));
    return memset(memory, 0xa5, size);
}

uint8_t *read_file(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) exit((say(name, "cannot be read", 0), 1));
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = exactly(*size);
    if (fread(bytes, 1, *size, file) != *size) exit((say(name, "cannot be read", 0), 1));
    fclose(file);
    return bytes;
}

sqz_error run(client *c) {
    size_t bytes = c->num_classes * sizeof *c->logits;
    sqz_error error = sqz_run(&c->context, c->pixels, c->logits, c->num_classes);
    if (error || memcmp(c->logits, c->expected, bytes)) return error ? error : SQZ_MALFORMED;
    error = sqz_classify(&c->context, &c->image, c->answers, c->num_classes);
    for (size_t i = 0; !error && i < c->num_classes; i++)
        if (c->answers[i].logit != c->expected[c->answers[i].label]) error = SQZ_MALFORMED;
    return error;
}

void start(client *c, int streamed, unsigned threads) {
    sqz_options options = {streamed, threads, NULL};
    c->options = options;
    c->need = sqz_model_size(&c->file, &options);
    c->memory = exactly(c->need);
    sqz_error error = sqz_load(&c->model, &c->file, &options, c->memory, c->need);
    c->room = sqz_classify_size(&c->model, &c->image);
    c->arena = exactly(c->room);
    if (!error) error = sqz_start(&c->context, &c->model, c->arena, c->room);
    if (error) exit((expect("the file itself", error, SQZ_OK), 1));
}

void stop(client *c) { free(c->arena), free(c->memory); }

void open_client(client *c, const char *name) {
    static uint8_t rgb[3 * 7 * 5];
    const sqz_image image = {rgb, 7, 5, 3 * 5};
    for (unsigned i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(89 * i + i * i);
    memset(c, 0, sizeof *c);
    c->bytes = read_file(name, &c->size);
    sqz_error error = sqz_open(&c->file, c->bytes, c->size);
    if (error) exit((expect(name, error, SQZ_OK), 1));
    c->image = image;
    c->scratch_size = sqz_crop_scratch(&c->file, &image);
    c->scratch = exactly(c->scratch_size);
    c->pixels = exactly((size_t)c->file.input.crop_height * c->file.input.crop_width *
                        (c->file.input.channels ? 3 : 1));
    ACCEPTED(sqz_crop(&c->file, &c->image, c->pixels, c->scratch, c->scratch_size));
    start(c, 0, 1);
    c->num_classes = c->model.num_classes;
    c->logits = exactly(c->num_classes * sizeof *c->logits);
    c->expected = exactly(c->num_classes * sizeof *c->expected);
    c->answers = exactly(c->num_classes * sizeof *c->answers);
    ACCEPTED(sqz_run(&c->context, c->pixels, c->expected, c->num_classes));
    ACCEPTED(run(c));
}

void close_client(client *c) {
    stop(c);
    free(c->answers), free(c->expected), free(c->logits), free(c->pixels), free(c->scratch);
    free(c->bytes);
}

reader *open_reader(const sqz_file *file) {
    reader *r = exactly(sizeof *r);
    ACCEPTED(sqz_read_graph(file, r->tensors, SQZ_MAX_STEPS, r->ops, SQZ_MAX_STEPS));
    for (r->op = r->ops; r->op->kind != SQZ_CONVOLUTION;) r->op++;
    r->levels = exactly(file->largest_channel);
    r->codes = exactly(2 * (size_t)file->largest_channel);
    ACCEPTED(sqz_decode_begin(&r->decoder, file));
    ACCEPTED(sqz_decode_layer(&r->decoder, r->op, &r->layer));
    return r;
}

void close_reader(reader *r) { free(r->codes), free(r->levels), free(r); }

int main(int argc, char **argv) {
    static client c;
    if (argc < 3) return say("usage", "misuse INTEGER.sqz FLOAT.sqz [GROUP]", 0), 1;
    const char *only = argc > 3 ? argv[3] : NULL;
    const struct {
        const char *name;
        void (*of)(client *c);
    } groups[] = {{"null", null_pointers}, {"room", too_little_room},  {"pictures", pictures},
                  {"order", wrong_order},  {"options", wrong_options}, {"addresses", addresses},
                  {"threads", threads},    {"damage", damage}};
    alarm(MAX_SECONDS);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        if (only != NULL && strcmp(only, groups[i].name)) continue;
        printf("-- %s\n", groups[i].name);
        open_client(&c, argv[1]);
        groups[i].of(&c);
        close_client(&c);
    }
    if (only == NULL || !strcmp(only, "float")) float_only(argv[2]);
    if (only == NULL || !strcmp(only, "limits")) limits();
    printf("%d wrong\n", num_wrong);
    return num_wrong != 0;
}
