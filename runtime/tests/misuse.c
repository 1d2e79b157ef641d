/* Uses the runtime wrongly in every way there is. Each line says what was done, what came of it and
 * whether that is as it should be: an error, never a crash. Built with sanitizers, and in memory of
 * exactly the size that is asked for, nothing is touched unseen.
 *
 *     cc -g -fsanitize=address,undefined -pthread misuse.c ../src/sqz_*.c ../kernels/sqz_*.c
 *     ./a.out INTEGER.sqz FLOAT.sqz [null|room|pictures|order|options|addresses|threads|damage|
 *                                    float|limits]
 *
 * INTEGER.sqz is a small file, of which every bit is turned; FLOAT.sqz one of codebooks. The exit
 * code is 1 if a line says WRONG. */
#define _POSIX_C_SOURCE 200809L /* alarm */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/sqz_runtime.h"

#define MOST_SECONDS 300 /* for all: whatever hangs is ended */

static int num_wrong;

static void say(const char *what, const char *got, int good) {
    if (!good) num_wrong++;
    printf("%-6s%-68s %s\n", good ? "ok" : "WRONG", what, got);
    fflush(stdout);
}

static void expect(const char *what, sqz_error got, sqz_error expected) {
    say(what, sqz_error_text(got), got == expected);
}

static void expect_size(const char *what, size_t got, size_t expected) {
    char text[32];
    sprintf(text, "%lu bytes", (unsigned long)got);
    say(what, text, got == expected);
}

#define REFUSED(call) expect(#call, call, SQZ_WRONG_USE)
#define IS_LIMIT(call) expect(#call, call, SQZ_LIMIT)
#define TAKEN(call) expect(#call, call, SQZ_OK)
#define NOTHING(call) expect_size(#call, call, 0)

static void *exactly(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (memory == NULL) exit((say("malloc", "not enough memory", 0), 1));
    return memset(memory, 0xa5, size);
}

static uint8_t *read_file(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) exit((say(name, "cannot be read", 0), 1));
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = exactly(*size);
    if (fread(bytes, 1, *size, file) != *size) exit((say(name, "cannot be read", 0), 1));
    fclose(file);
    return bytes;
}

/* A file that is ready to run, with a picture and the logits of its crop. */
typedef struct {
    uint8_t *bytes;
    sqz_file file;
    sqz_options options;
    sqz_model model;
    sqz_context context;
    void *memory, *arena, *scratch;
    size_t size, need, room, scratch_size, num_classes;
    sqz_image image;
    uint8_t *pixels;
    int32_t *logits, *expected;
    sqz_answer *answers;
} client;

/* Crop, run and answer; the logits must be those that are expected. */
static sqz_error run(client *c) {
    size_t bytes = c->num_classes * sizeof *c->logits;
    sqz_error error = sqz_run(&c->context, c->pixels, c->logits, c->num_classes);
    if (error || memcmp(c->logits, c->expected, bytes)) return error ? error : SQZ_MALFORMED;
    error = sqz_classify(&c->context, &c->image, c->answers, c->num_classes);
    for (size_t i = 0; !error && i < c->num_classes; i++)
        if (c->answers[i].logit != c->expected[c->answers[i].label]) error = SQZ_MALFORMED;
    return error;
}

static void start(client *c, int streamed, unsigned threads) {
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

static void stop(client *c) {
    free(c->arena), free(c->memory);
}

static void open_client(client *c, const char *name) {
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
    TAKEN(sqz_crop(&c->file, &c->image, c->pixels, c->scratch, c->scratch_size));
    start(c, 0, 1);
    c->num_classes = c->model.num_classes;
    c->logits = exactly(c->num_classes * sizeof *c->logits);
    c->expected = exactly(c->num_classes * sizeof *c->expected);
    c->answers = exactly(c->num_classes * sizeof *c->answers);
    TAKEN(sqz_run(&c->context, c->pixels, c->expected, c->num_classes));
    TAKEN(run(c));
}

static void close_client(client *c) {
    stop(c);
    free(c->answers), free(c->expected), free(c->logits), free(c->pixels), free(c->scratch);
    free(c->bytes);
}

/* The reader's state, with the first layer begun. */
typedef struct {
    sqz_tensor tensors[SQZ_MAX_STEPS];
    sqz_operation ops[SQZ_MAX_STEPS], *op;
    sqz_decoder decoder;
    sqz_layer layer;
    sqz_channel_info info;
    int8_t *levels;
    int16_t *codes;
} reader;

static reader *open_reader(const sqz_file *file) {
    reader *r = exactly(sizeof *r);
    TAKEN(sqz_read_graph(file, r->tensors, SQZ_MAX_STEPS, r->ops, SQZ_MAX_STEPS));
    for (r->op = r->ops; r->op->kind != SQZ_CONVOLUTION;) r->op++;
    r->levels = exactly(file->largest_channel);
    r->codes = exactly(2 * (size_t)file->largest_channel);
    TAKEN(sqz_decode_begin(&r->decoder, file));
    TAKEN(sqz_decode_layer(&r->decoder, r->op, &r->layer));
    return r;
}

static void close_reader(reader *r) {
    free(r->codes), free(r->levels), free(r);
}

static void null_pointers(client *c) {
    const size_t n = SQZ_MAX_STEPS;
    size_t length;
    char text[8];
    sqz_file file;
    sqz_model model;
    sqz_context context;
    sqz_bytes none = {NULL, 9};
    reader *r = open_reader(&c->file);
    REFUSED(sqz_open(NULL, c->bytes, c->size));
    REFUSED(sqz_open(&file, NULL, c->size));
    REFUSED(sqz_read_graph(NULL, r->tensors, n, r->ops, n));
    REFUSED(sqz_read_graph(&c->file, NULL, n, r->ops, n));
    REFUSED(sqz_read_graph(&c->file, r->tensors, n, NULL, n));
    REFUSED(sqz_decode_layer(NULL, r->op, &r->layer));
    REFUSED(sqz_decode_layer(&r->decoder, NULL, &r->layer));
    REFUSED(sqz_decode_layer(&r->decoder, r->op, NULL));
    REFUSED(sqz_decode_channel(NULL, r->levels, &r->info));
    REFUSED(sqz_decode_channel(&r->decoder, NULL, &r->info));
    REFUSED(sqz_decode_channel(&r->decoder, r->levels, NULL));
    REFUSED(sqz_decode_codes(NULL, r->codes, &r->info));
    REFUSED(sqz_decode_codes(&r->decoder, NULL, &r->info));
    REFUSED(sqz_decode_codes(&r->decoder, r->codes, NULL));
    REFUSED(sqz_decode_end(NULL));
    REFUSED(sqz_decode_text(NULL, c->file.record, text, sizeof text, &length));
    REFUSED(sqz_decode_text(&r->decoder, none, text, sizeof text, &length));
    REFUSED(sqz_decode_text(&r->decoder, c->file.record, NULL, 1, &length));
    REFUSED(sqz_decode_text(&r->decoder, c->file.record, text, sizeof text, NULL));
    TAKEN(sqz_decode_text(&r->decoder, c->file.record, NULL, 0, &length));
    REFUSED(sqz_decode_begin(NULL, &c->file));
    REFUSED(sqz_decode_begin(&r->decoder, NULL));
    NOTHING(sqz_model_size(NULL, &c->options));
    NOTHING(sqz_model_size(&c->file, NULL));
    REFUSED(sqz_load(NULL, &c->file, &c->options, c->memory, c->need));
    REFUSED(sqz_load(&model, NULL, &c->options, c->memory, c->need));
    REFUSED(sqz_load(&model, &c->file, NULL, c->memory, c->need));
    REFUSED(sqz_load(&model, &c->file, &c->options, NULL, c->need));
    NOTHING(sqz_arena_size(NULL));
    REFUSED(sqz_start(NULL, &c->model, c->arena, c->room));
    REFUSED(sqz_start(&context, NULL, c->arena, c->room));
    REFUSED(sqz_start(&context, &c->model, NULL, c->room));
    REFUSED(sqz_run(NULL, c->pixels, c->logits, c->num_classes));
    REFUSED(sqz_run(&c->context, NULL, c->logits, c->num_classes));
    REFUSED(sqz_run(&c->context, c->pixels, NULL, c->num_classes));
    NOTHING(sqz_crop_scratch(NULL, &c->image));
    NOTHING(sqz_crop_scratch(&c->file, NULL));
    REFUSED(sqz_crop(NULL, &c->image, c->pixels, c->scratch, c->scratch_size));
    REFUSED(sqz_crop(&c->file, NULL, c->pixels, c->scratch, c->scratch_size));
    REFUSED(sqz_crop(&c->file, &c->image, NULL, c->scratch, c->scratch_size));
    REFUSED(sqz_crop(&c->file, &c->image, c->pixels, NULL, c->scratch_size));
    NOTHING(sqz_classify_size(NULL, &c->image));
    NOTHING(sqz_classify_size(&c->model, NULL));
    REFUSED(sqz_classify(NULL, &c->image, c->answers, 1));
    REFUSED(sqz_classify(&c->context, NULL, c->answers, 1));
    REFUSED(sqz_classify(&c->context, &c->image, NULL, 1));
    say("sqz_kernels_name(NULL)", sqz_kernels_name(NULL), sqz_kernels_name(NULL) != NULL);
    say("sqz_kernels_here(1000000)", "NULL", sqz_kernels_here(1000000) == NULL);
    say("sqz_error_text of no error", sqz_error_text((sqz_error)77), 1);
    TAKEN(run(c));
    close_reader(r);
}

static void too_little_room(client *c) {
    sqz_file file;
    sqz_model model;
    sqz_context context;
    reader *r = open_reader(&c->file);
    const size_t t = c->file.num_tensors, o = c->file.num_operations, k = c->num_classes;
    expect("sqz_open: no bytes", sqz_open(&file, c->bytes, 0), SQZ_UNKNOWN_FORMAT);
    expect("sqz_open: a byte less", sqz_open(&file, c->bytes, c->size - 1), SQZ_TRUNCATED);
    /* The header's number is looked at before what lies beyond. */
    expect("sqz_open: a byte more", sqz_open(&file, c->bytes, c->size + 1), SQZ_MALFORMED);
    expect("sqz_open: SIZE_MAX", sqz_open(&file, c->bytes, SIZE_MAX), SQZ_MALFORMED);
    REFUSED(sqz_read_graph(&c->file, r->tensors, t - 1, r->ops, o));
    REFUSED(sqz_read_graph(&c->file, r->tensors, t, r->ops, o - 1));
    REFUSED(sqz_load(&model, &c->file, &c->options, c->memory, c->need - 1));
    REFUSED(sqz_load(&model, &c->file, &c->options, c->memory, 0));
    REFUSED(sqz_start(&context, &c->model, c->arena, sqz_arena_size(&c->model) - 1));
    REFUSED(sqz_start(&context, &c->model, c->arena, 0));
    REFUSED(sqz_crop(&c->file, &c->image, c->pixels, c->scratch, c->scratch_size - 1));
    REFUSED(sqz_crop(&c->file, &c->image, c->pixels, c->scratch, 0));
    REFUSED(sqz_run(&c->context, c->pixels, c->logits, k - 1));
    REFUSED(sqz_run(&c->context, c->pixels, c->logits, 0));
    REFUSED(sqz_classify(&c->context, &c->image, c->answers, 0));
    REFUSED(sqz_classify(&c->context, &c->image, c->answers, k + 1));
    REFUSED(sqz_classify(&c->context, &c->image, c->answers, SIZE_MAX));
    sqz_image large = {exactly(3 * 999 * 999), 999, 999, 3 * 999};
    size_t more = sqz_classify_size(&c->model, &large);
    void *arena = exactly(more);
    TAKEN(sqz_start(&context, &c->model, arena, more - 1));
    expect("sqz_classify: an arena a byte short of a large picture",
           sqz_classify(&context, &large, c->answers, 1),
           more > sqz_arena_size(&c->model) ? SQZ_WRONG_USE : SQZ_OK);
    TAKEN(sqz_start(&context, &c->model, arena, more));
    TAKEN(sqz_classify(&context, &large, c->answers, 1));
    free(arena), free((void *)large.rgb);
    TAKEN(run(c));
    close_reader(r);
}

static void pictures(client *c) {
    static const struct {
        const char *name;
        sqz_error expected;
        uint32_t height, width;
        size_t stride;
        int no_pixels;
    } cases[] = {
        {"no pixels", SQZ_WRONG_USE, 7, 5, 15, 1},
        {"no rows", SQZ_WRONG_USE, 0, 5, 15, 0},
        {"no columns", SQZ_WRONG_USE, 7, 0, 15, 0},
        {"neither", SQZ_WRONG_USE, 0, 0, 0, 0},
        {"a stride a byte short", SQZ_WRONG_USE, 7, 5, 14, 0},
        {"a stride of 0", SQZ_WRONG_USE, 7, 5, 0, 0},
        {"2^24 + 1 rows", SQZ_LIMIT, (1 << 24) + 1, 1, 3, 0},
        {"2^24 + 1 columns", SQZ_LIMIT, 1, (1 << 24) + 1, SIZE_MAX, 0},
        {"2^32 - 1 rows and columns", SQZ_LIMIT, UINT32_MAX, UINT32_MAX, SIZE_MAX, 0},
        {"columns of which three times are 2^32 + 2", SQZ_LIMIT, 1, 0x55555556u, SIZE_MAX, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sqz_image image = {cases[i].no_pixels ? NULL : c->image.rgb, cases[i].height,
                           cases[i].width, cases[i].stride};
        say(cases[i].name, "", 1);
        NOTHING(sqz_crop_scratch(&c->file, &image));
        NOTHING(sqz_classify_size(&c->model, &image));
        expect("sqz_crop", sqz_crop(&c->file, &image, c->pixels, c->scratch, c->scratch_size),
               cases[i].expected);
        expect("sqz_classify", sqz_classify(&c->context, &image, c->answers, 1),
               cases[i].expected);
    }
    /* The largest that may be: only its sizes, nobody has so many bytes. */
    sqz_image most = {c->image.rgb, 1 << 24, 1 << 24, 3 << 24};
    size_t scratch = sqz_crop_scratch(&c->file, &most), arena = sqz_classify_size(&c->model, &most);
    say("2^24 rows and columns need scratch", scratch ? "some" : "none", scratch > 1 << 24);
    say("and an arena", arena ? "some" : "none", arena > scratch);
    REFUSED(sqz_crop(&c->file, &most, c->pixels, c->scratch, c->scratch_size));
    if (arena > c->room) REFUSED(sqz_classify(&c->context, &most, c->answers, 1));
    TAKEN(run(c));
}

/* What has failed, or was never done, is empty. */
static void wrong_order(client *c) {
    sqz_file file;
    sqz_model model;
    sqz_context context;
    reader *r = open_reader(&c->file);
    say("all zeros", "", 1);
    memset(&file, 0, sizeof file);
    memset(&model, 0, sizeof model);
    memset(&context, 0, sizeof context);
    for (int failed = 0; failed < 2; failed++) {
        REFUSED(sqz_read_graph(&file, r->tensors, SQZ_MAX_STEPS, r->ops, SQZ_MAX_STEPS));
        NOTHING(sqz_model_size(&file, &c->options));
        REFUSED(sqz_load(&model, &file, &c->options, c->memory, c->need));
        NOTHING(sqz_crop_scratch(&file, &c->image));
        REFUSED(sqz_crop(&file, &c->image, c->pixels, c->scratch, c->scratch_size));
        NOTHING(sqz_arena_size(&model));
        NOTHING(sqz_classify_size(&model, &c->image));
        REFUSED(sqz_start(&context, &model, c->arena, c->room));
        REFUSED(sqz_run(&context, c->pixels, c->logits, c->num_classes));
        REFUSED(sqz_classify(&context, &c->image, c->answers, 1));
        if (failed) break;
        say("whatever was there, and then an error", "", 1);
        memset(&file, 0xa5, sizeof file);
        memset(&model, 0xa5, sizeof model);
        memset(&context, 0xa5, sizeof context);
        sqz_open(&file, c->bytes, c->size - 1);
    }
    sqz_file half = c->file; /* which sqz_load finds last */
    half.weights.size /= 2;
    expect("sqz_load: half of the weights",
           sqz_load(&model, &half, &c->options, c->memory, c->need), SQZ_MALFORMED);
    REFUSED(sqz_start(&context, &model, c->arena, c->room));
    REFUSED(sqz_run(&context, c->pixels, c->logits, c->num_classes));

    say("the decoder", "", 1);
    memset(&r->decoder, 0, sizeof r->decoder);
    for (int failed = 0; failed < 3; failed++) {
        REFUSED(sqz_decode_layer(&r->decoder, r->op, &r->layer));
        REFUSED(sqz_decode_channel(&r->decoder, r->levels, &r->info));
        REFUSED(sqz_decode_codes(&r->decoder, r->codes, &r->info));
        REFUSED(sqz_decode_end(&r->decoder));
        memset(&r->decoder, 0xa5, sizeof r->decoder);
        if (failed == 0) REFUSED(sqz_decode_begin(&r->decoder, &file));
        if (failed == 1) {
            sqz_file other = c->file;
            other.weights.size = 0;
            expect("sqz_decode_begin: nothing", sqz_decode_begin(&r->decoder, &other),
                   SQZ_MALFORMED);
        }
    }
    TAKEN(sqz_decode_begin(&r->decoder, &c->file));
    REFUSED(sqz_decode_end(&r->decoder));
    REFUSED(sqz_decode_channel(&r->decoder, r->levels, &r->info));
    sqz_operation other = *r->op;
    other.inputs = other.kernel_height = 0x80000000u;
    other.kernel_width = 4;
    REFUSED(sqz_decode_layer(&r->decoder, &other, &r->layer));
    other = *r->op;
    other.kind = SQZ_ADD;
    REFUSED(sqz_decode_layer(&r->decoder, &other, &r->layer));
    TAKEN(sqz_decode_layer(&r->decoder, r->op, &r->layer));
    REFUSED(sqz_decode_layer(&r->decoder, r->op, &r->layer));
    REFUSED(sqz_decode_end(&r->decoder));
    for (uint32_t i = 0; i < r->op->out_channels; i++)
        if (sqz_decode_channel(&r->decoder, r->levels, &r->info))
            say("sqz_decode_channel", "an error", 0);
    REFUSED(sqz_decode_channel(&r->decoder, r->levels, &r->info));
    size_t length;
    TAKEN(sqz_decode_text(&r->decoder, c->file.record, NULL, 0, &length));
    REFUSED(sqz_decode_layer(&r->decoder, r->op, &r->layer));
    TAKEN(run(c));
    close_reader(r);
}

static void wrong_options(client *c) {
    const sqz_kernels copy = sqz_portable;
    sqz_model model;
    sqz_options options = c->options;
    void *junk = exactly(sizeof(sqz_kernels));
    options.threads = 65;
    NOTHING(sqz_model_size(&c->file, &options));
    REFUSED(sqz_load(&model, &c->file, &options, c->memory, c->need));
    options.threads = UINT32_MAX;
    REFUSED(sqz_load(&model, &c->file, &options, c->memory, c->need));
    options.threads = 1;
    say("kernels that are not in the list", "", 1);
    const sqz_kernels *wrong[] = {&copy, junk, (const sqz_kernels *)(uintptr_t)64,
                                  &sqz_portable + 1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.kernels = wrong[i];
        NOTHING(sqz_model_size(&c->file, &options));
        REFUSED(sqz_load(&model, &c->file, &options, c->memory, c->need));
    }
    free(junk);
    stop(c);
    start(c, 2, 0); /* any number but 0 streams, and 0 threads are one */
    TAKEN(run(c));
}

/* Memory may lie anywhere. */
static void addresses(client *c) {
    int good = 1;
    for (int streamed = 0; streamed < 2; streamed++)
        for (size_t off = 0; off <= 64; off++) {
            sqz_file file;
            sqz_model model;
            sqz_context context;
            sqz_options options = {streamed, 1, NULL};
            uint8_t *bytes = exactly(c->size + off), *scratch = exactly(c->scratch_size + off);
            memcpy(bytes + off, c->bytes, c->size);
            good &= !sqz_open(&file, bytes + off, c->size);
            size_t need = sqz_model_size(&file, &options);
            uint8_t *memory = exactly(need + off);
            good &= !sqz_load(&model, &file, &options, memory + off, need);
            size_t room = sqz_arena_size(&model);
            uint8_t *arena = exactly(room + off);
            good &= !sqz_start(&context, &model, arena + off, room);
            good &= !sqz_crop(&file, &c->image, c->pixels, scratch + off, c->scratch_size);
            good &= !sqz_run(&context, c->pixels, c->logits, c->num_classes);
            good &= !memcmp(c->logits, c->expected, c->num_classes * sizeof *c->logits);
            free(arena), free(memory), free(scratch), free(bytes);
        }
    say("file, memory, arena and scratch 0 .. 64 bytes beside an alignment", "the same logits",
        good);
}

/* What a callback, or another thread, finds while a context runs. */
typedef struct {
    client *c;
    pthread_mutex_t mutex;
    pthread_cond_t turn;
    int stage; /* 1: the context runs; 2: it may go on */
    sqz_error ran, answered;
} meeting;

static void set_stage(meeting *m, int stage) {
    pthread_mutex_lock(&m->mutex);
    m->stage = stage;
    pthread_cond_broadcast(&m->turn);
    pthread_mutex_unlock(&m->mutex);
}

static void await_stage(meeting *m, int stage) {
    pthread_mutex_lock(&m->mutex);
    while (m->stage < stage) pthread_cond_wait(&m->turn, &m->mutex);
    pthread_mutex_unlock(&m->mutex);
}

/* Both ways of running a context that runs. */
static void intrude(meeting *m) {
    int32_t *logits = exactly(m->c->num_classes * sizeof *logits);
    sqz_answer *answers = exactly(m->c->num_classes * sizeof *answers);
    m->ran = sqz_run(&m->c->context, m->c->pixels, logits, m->c->num_classes);
    m->answered = sqz_classify(&m->c->context, &m->c->image, answers, m->c->num_classes);
    free(answers), free(logits);
}

static void call_again(void *user, void (*task)(void *argument, unsigned i), void *argument,
                       unsigned count) {
    intrude(user);
    for (unsigned i = 0; i < count; i++) task(argument, i);
}

static void wait_for_the_other(void *user, void (*task)(void *argument, unsigned i),
                               void *argument, unsigned count) {
    meeting *m = user;
    set_stage(m, m->stage < 1 ? 1 : m->stage);
    await_stage(m, 2);
    for (unsigned i = 0; i < count; i++) task(argument, i);
}

static void *other_thread(void *argument) {
    meeting *m = argument;
    await_stage(m, 1);
    intrude(m);
    set_stage(m, 2);
    return NULL;
}

/* Runs the one context again and again, or one of its own. */
typedef struct {
    client *c;
    int own;
    unsigned ran, busy, wrong;
} worker;

static void *work(void *argument) {
    worker *w = argument;
    const client *c = w->c;
    sqz_context own, *context = w->own ? &own : &w->c->context;
    size_t bytes = c->num_classes * sizeof(int32_t);
    int32_t *logits = exactly(bytes);
    void *arena = exactly(c->room);
    if (sqz_start(&own, &c->model, arena, c->room)) w->wrong++;
    for (unsigned i = 0; i < 200; i++) {
        sqz_error error = sqz_run(context, c->pixels, logits, c->num_classes);
        if (error == SQZ_BUSY) w->busy++;
        else if (error || memcmp(logits, c->expected, bytes)) w->wrong++;
        else w->ran++;
    }
    free(arena), free(logits);
    return NULL;
}

static void threads(client *c) {
    meeting m = {c, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, SQZ_OK, SQZ_OK};
    pthread_t thread, all[4];
    for (int streamed = 0; streamed < 2; streamed++) {
        stop(c);
        start(c, streamed, 2);
        c->context.user = &m;
        c->context.parallel = call_again;
        TAKEN(run(c));
        expect("sqz_run from a callback", m.ran, SQZ_BUSY);
        expect("sqz_classify from a callback", m.answered, SQZ_BUSY);
        m.stage = 0;
        c->context.parallel = wait_for_the_other;
        if (pthread_create(&thread, NULL, other_thread, &m)) say("pthread_create", "failed", 0);
        TAKEN(sqz_run(&c->context, c->pixels, c->logits, c->num_classes));
        pthread_join(thread, NULL);
        expect("sqz_run from another thread", m.ran, SQZ_BUSY);
        expect("sqz_classify from another thread", m.answered, SQZ_BUSY);
        TAKEN(run(c));
        c->context.parallel = NULL;
        for (int own = 0; own < 2; own++) {
            worker workers[4];
            char text[80];
            unsigned ran = 0, busy = 0, wrong = 0;
            for (unsigned i = 0; i < 4; i++) {
                worker w = {c, own, 0, 0, 0};
                workers[i] = w;
                if (pthread_create(&all[i], NULL, work, &workers[i])) exit(1);
            }
            for (unsigned i = 0; i < 4; i++) {
                pthread_join(all[i], NULL);
                ran += workers[i].ran, busy += workers[i].busy, wrong += workers[i].wrong;
            }
            sprintf(text, "%u ran, %u busy, %u wrong", ran, busy, wrong);
            say(own ? "4 threads on a context each" : "4 threads on one context", text,
                !wrong && ran && !(own && busy));
        }
        TAKEN(run(c));
    }
}

/* How often something came of damage; nothing is wrong about any of it but a crash. */
typedef struct {
    unsigned errors[16], same, other;
} tally;

static void count(tally *t, const client *c, sqz_error error) {
    if (error) t->errors[error]++;
    else if (memcmp(c->logits, c->expected, c->num_classes * sizeof *c->logits)) t->other++;
    else t->same++;
}

static void say_tally(const char *what, const tally *t) {
    char text[400];
    int end = sprintf(text, "%u the same logits, %u others", t->same, t->other);
    for (int e = 0; e < 16; e++)
        if (t->errors[e])
            end += sprintf(text + end, ", %u: %s", t->errors[e], sqz_error_text((sqz_error)e));
    say(what, text, !t->errors[SQZ_WRONG_USE] && !t->errors[SQZ_BUSY]);
}

/* A file is damaged after it was opened, and then loaded and run. */
static void load_damaged(client *c, int streamed, tally *t) {
    sqz_model model;
    sqz_context context;
    sqz_options options = {streamed, 1, NULL};
    size_t need = sqz_model_size(&c->file, &options);
    void *memory = exactly(need), *arena = NULL;
    sqz_error error = sqz_load(&model, &c->file, &options, memory, need);
    if (!need) error = error == SQZ_WRONG_USE ? SQZ_OK : error; /* which is no crash either */
    if (!error) {
        size_t room = sqz_classify_size(&model, &c->image);
        arena = exactly(room);
        error = sqz_start(&context, &model, arena, room);
        if (!error && model.num_classes == c->num_classes) {
            error = sqz_run(&context, c->pixels, c->logits, c->num_classes);
            sqz_classify(&context, &c->image, c->answers, 1);
        }
    }
    count(t, c, error);
    free(arena), free(memory);
}

/* It is damaged after sqz_start, and must be good again when it is mended. */
static void run_damaged(client *c, tally *t) {
    count(t, c, sqz_run(&c->context, c->pixels, c->logits, c->num_classes));
    sqz_classify(&c->context, &c->image, c->answers, c->num_classes);
}

static uint32_t random_below(uint32_t most) {
    static uint32_t state = 1;
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state % most;
}

static client *victim;

/* Damages the file under a context that runs. */
static void damage_and_work(void *user, void (*task)(void *argument, unsigned i), void *argument,
                            unsigned count) {
    (void)user;
    victim->bytes[random_below((uint32_t)victim->size)] ^= (uint8_t)(1 + random_below(255));
    for (unsigned i = 0; i < count; i++) task(argument, i);
}

static void damage(client *c) {
    static const char *const ways[] = {"loaded", "streamed"};
    uint8_t *good = exactly(c->size);
    char text[80];
    memcpy(good, c->bytes, c->size);
    for (int streamed = 0; streamed < 2; streamed++) {
        tally t = {{0}, 0, 0};
        for (size_t bit = 0; bit < 8 * c->size; bit++) {
            c->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            load_damaged(c, streamed, &t);
            c->bytes[bit / 8] = good[bit / 8];
        }
        sprintf(text, "each bit turned before sqz_load, %s", ways[streamed]);
        say_tally(text, &t);
    }
    stop(c);
    start(c, 1, 2);
    tally turned = {{0}, 0, 0}, many = {{0}, 0, 0}, meanwhile = {{0}, 0, 0}, ends = {{0}, 0, 0};
    for (size_t bit = 0; bit < 8 * c->size; bit++) {
        c->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        run_damaged(c, &turned);
        c->bytes[bit / 8] = good[bit / 8];
    }
    say_tally("each bit turned between sqz_start and sqz_run", &turned);
    for (unsigned i = 0; i < 2000; i++) {
        for (unsigned k = 0; k < 1 + i % 40; k++)
            c->bytes[random_below((uint32_t)c->size)] = (uint8_t)random_below(256);
        run_damaged(c, &many);
        load_damaged(c, (int)i % 2, &many);
        memcpy(c->bytes, good, c->size);
    }
    say_tally("1 to 40 bytes changed", &many);
    victim = c;
    c->context.parallel = damage_and_work;
    for (unsigned i = 0; i < 500; i++) {
        run_damaged(c, &meanwhile);
        memcpy(c->bytes, good, c->size);
    }
    c->context.parallel = NULL;
    say_tally("bytes changed while it runs", &meanwhile);
    for (int value = 0; value < 256; value += 51) {
        memset(c->bytes, value, c->size);
        run_damaged(c, &ends);
        load_damaged(c, value & 1, &ends);
    }
    memcpy(c->bytes, good, c->size);
    say_tally("all bytes alike", &ends);
    TAKEN(run(c));
    free(good);
}

/* A good file that is for float32 alone. */
static void float_only(const char *name) {
    sqz_file file;
    sqz_model model;
    sqz_options options = {0, 1, NULL};
    uint8_t memory[64];
    size_t size;
    uint8_t *bytes = read_file(name, &size);
    TAKEN(sqz_open(&file, bytes, size));
    reader *r = open_reader(&file);
    for (options.streamed = 0; options.streamed < 2; options.streamed++) {
        NOTHING(sqz_model_size(&file, &options));
        expect("sqz_load: a file of codebooks",
               sqz_load(&model, &file, &options, memory, sizeof memory), SQZ_FLOAT_ONLY);
        NOTHING(sqz_arena_size(&model));
    }
    if (r->layer.representation == SQZ_CODEBOOK) {
        expect("sqz_decode_channel: codes as levels",
               sqz_decode_channel(&r->decoder, r->levels, &r->info), SQZ_UNSUPPORTED);
        TAKEN(sqz_decode_codes(&r->decoder, r->codes, &r->info));
    }
    /* The section ends behind its first bytes: an error, and then nothing more. */
    sqz_bytes whole = file.weights;
    for (file.weights.size = 1; file.weights.size < whole.size; file.weights.size++) {
        sqz_error error = sqz_decode_begin(&r->decoder, &file);
        for (uint32_t i = 0; !error && i < file.num_operations; i++) {
            if (r->ops[i].kind != SQZ_CONVOLUTION) continue;
            error = sqz_decode_layer(&r->decoder, &r->ops[i], &r->layer);
            for (uint32_t k = 0; !error && k < r->ops[i].out_channels; k++)
                error = sqz_decode_codes(&r->decoder, r->codes, &r->info);
        }
        if (!error) error = sqz_decode_end(&r->decoder);
        if (error != SQZ_MALFORMED) expect("WEIGHTS cut off", error, SQZ_MALFORMED);
    }
    REFUSED(sqz_decode_codes(&r->decoder, r->codes, &r->info));
    REFUSED(sqz_decode_end(&r->decoder));
    close_reader(r);
    free(bytes);
}

/* Good files may get to the ends of numbers too. */
static void limits(void) {
    enum { SIDE = 1 << 13 };
    const size_t count = (size_t)SIDE * SIDE / 2;
    sqz_entry entry = {{65536, 0, 0}, {INT32_MIN, 0, 0}, {0, 0, 0}, 1};
    sqz_units units = {&entry, 0, 0x3f80, 0, 1, 0};
    sqz_layer layer;
    sqz_channel_info info = {4000, 0, 0};
    sqz_block block;
    int8_t *levels = exactly(count);
    memset(&layer, 0, sizeof layer);
    memset(levels, 127, count);
    layer.representation = SQZ_LEVELS;
    layer.inputs = 1;
    layer.kernel_height = SIDE;
    layer.kernel_width = SIDE / 2;
    IS_LIMIT(sqz_channel_parameters(&units, &layer, &info, levels, &block, 0));
    free(levels);
}

int main(int argc, char **argv) {
    static client c;
    if (argc < 3) return say("usage", "misuse INTEGER.sqz FLOAT.sqz [GROUP]", 0), 1;
    const char *only = argc > 3 ? argv[3] : NULL;
    const struct {
        const char *name;
        void (*of)(client *c);
    } groups[] = {{"null", null_pointers}, {"room", too_little_room}, {"pictures", pictures},
                  {"order", wrong_order},  {"options", wrong_options}, {"addresses", addresses},
                  {"threads", threads},    {"damage", damage}};
    alarm(MOST_SECONDS);
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
