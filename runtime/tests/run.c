/* Runs a model in every mode that this machine has: all kernels, the weights loaded and streamed,
 * in one task and in several. Prints the logits, and whether all modes agree.
 *
 *     cc -O2 -I.. run.c ../src/sqz_*.c ../kernels/sqz_*.c -o run
 *     ./run MODEL.sqz PIXELS [KERNELS|fastest [loaded|streamed [TASKS]]]
 *
 * PIXELS holds cropped pictures, one after the other, as sqz_run takes them. Or it is a picture of
 * any size, NAME.ppm (P6). That is cropped, and sqz_classify must rank the classes by its logits.
 * The last line is "all agree" and the exit code 0, or it says what differs. */
#if defined(__linux__) && defined(__x86_64__)
#define _GNU_SOURCE /* for syscall */
#include <sys/syscall.h>
#include <unistd.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../sqz.h"

#define NUM_TASKS 3 /* unless given */

static int fail(const char *what, const char *why) {
    printf("run: %s: %s\n", what, why);
    return 1;
}

/* Memory of exactly that size, so that a sanitizer detects accesses beyond it. It is filled with
 * other bytes each time, so that results that depend on them differ. It is never freed. */
static void *memory_of(size_t size) {
    static uint8_t fill = 0xa5;
    void *memory = malloc(size ? size : 1);
    if (memory == NULL) exit(fail("memory", "not enough"));
    fill = (uint8_t)(5 * fill + 13);
    return memset(memory, fill, size);
}

static uint8_t *read_file(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) exit(fail(name, "cannot be read"));
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = memory_of(*size);
    if (fread(bytes, 1, *size, file) != *size) exit(fail(name, "cannot be read"));
    fclose(file);
    return bytes;
}

/* An sqz_parallel that runs the last task first: the order must not matter. */
static void backwards(void *user, void (*task)(void *argument, unsigned i), void *argument,
                      unsigned count) {
    (void)user;
    while (count-- > 0) task(argument, count);
}

/* A model that is ready, in one of the modes. */
typedef struct {
    sqz_model model;
    sqz_context context;
    char name[64];
    size_t memory, arena;
} client;

/* What to run: cropped pictures, and the picture that they were cropped from, if any. */
typedef struct {
    const uint8_t *pixels;
    size_t bytes, count; /* of one, how many */
    const sqz_image *image;
} pictures;

static client *client_of(const sqz_file *file, const sqz_kernels *kernels, int streamed,
                         unsigned tasks, const pictures *p) {
    client *c = memory_of(sizeof *c);
    sqz_options options = {streamed, tasks, kernels};
    sprintf(c->name, "%.20s, %s, %u tasks", sqz_kernels_name(kernels),
            streamed ? "streamed" : "loaded", tasks);
    c->memory = sqz_model_size(file, &options);
    sqz_error error = c->memory == 0
                          ? SQZ_LIMIT
                          : sqz_load(&c->model, file, &options, memory_of(c->memory), c->memory);
    if (error) exit(fail(c->name, sqz_error_text(error)));
    c->arena =
        p->image == NULL ? sqz_arena_size(&c->model) : sqz_classify_size(&c->model, p->image);
    error = sqz_start(&c->context, &c->model, memory_of(c->arena), c->arena);
    if (error) exit(fail(c->name, sqz_error_text(error)));
    if (tasks > 1) c->context.parallel = backwards;
    return c;
}

/* The logits of all pictures, one after the other. */
static int32_t *logits_of(client *c, const pictures *p) {
    size_t num_classes = c->model.num_classes;
    int32_t *logits = memory_of(p->count * num_classes * sizeof *logits);
    for (size_t i = 0; i < p->count; i++) {
        sqz_error error =
            sqz_run(&c->context, p->pixels + i * p->bytes, logits + i * num_classes, num_classes);
        if (error) exit(fail(c->name, sqz_error_text(error)));
    }
    return logits;
}

static void print_logits(const client *c, const int32_t *logits, size_t count) {
    for (size_t i = 0; i < count; i++) {
        printf("logits");
        for (size_t k = 0; k < c->model.num_classes; k++) printf(" %ld", (long)*logits++);
        printf("\n");
    }
}

static int agrees(const client *c, const int32_t *logits, const int32_t *expected, size_t count) {
    for (size_t i = 0; i < count * c->model.num_classes; i++) {
        if (logits[i] == expected[i]) continue;
        printf("run: %s: picture %lu, class %lu: %ld, expected %ld\n", c->name,
               (unsigned long)(i / c->model.num_classes), (unsigned long)(i % c->model.num_classes),
               (long)logits[i], (long)expected[i]);
        return 0;
    }
    return 1;
}

/* Whether sqz_classify ranks the classes by these logits, and equal ones by their number. */
static int classifies(client *c, const sqz_image *image, const int32_t *logits) {
    size_t count = c->model.num_classes;
    sqz_answer *answers = memory_of(count * sizeof *answers);
    sqz_error error = sqz_classify(&c->context, image, answers, count);
    if (error) return !fail(c->name, sqz_error_text(error));
    for (size_t i = 0; i < count; i++) {
        if (answers[i].logit != logits[answers[i].label])
            return !fail(c->name, "sqz_classify has other logits than sqz_run");
        if (i > 0 &&
            (answers[i - 1].logit < answers[i].logit || (answers[i - 1].logit == answers[i].logit &&
                                                         answers[i - 1].label >= answers[i].label)))
            return !fail(c->name, "sqz_classify has another order");
    }
    return 1;
}

/* A PPM without comments, as our driver writes it. */
static int read_ppm(const uint8_t *bytes, size_t size, sqz_image *image) {
    unsigned width, height;
    int head = 0;
    char text[32] = {0};
    memcpy(text, bytes, size < sizeof text - 1 ? size : sizeof text - 1);
    if (sscanf(text, "P6 %u %u 255%n", &width, &height, &head) != 2 || head == 0) return 0;
    image->rgb = bytes + head + 1;
    image->width = width;
    image->height = height;
    image->stride = (size_t)3 * width;
    return size == (size_t)head + 1 + height * image->stride;
}

/* What the last argument names: cropped pictures as they are, or one of any size. */
static pictures pictures_of(const char *name, const sqz_file *file) {
    static sqz_image image;
    const sqz_input *input = &file->input;
    size_t size, length = strlen(name);
    uint8_t *bytes = read_file(name, &size);
    pictures p = {bytes, 0, 1, NULL};
    p.bytes = (size_t)input->crop_height * input->crop_width * (input->channels ? 3 : 1);
    if (length > 4 && strcmp(name + length - 4, ".ppm") == 0) {
        if (!read_ppm(bytes, size, &image)) exit(fail(name, "not a PPM picture (P6)"));
        size_t scratch = sqz_crop_scratch(file, &image);
        uint8_t *cropped = memory_of(p.bytes);
        sqz_error error = sqz_crop(file, &image, cropped, memory_of(scratch), scratch);
        if (error) exit(fail(name, sqz_error_text(error)));
        p.image = &image;
        p.pixels = cropped;
    } else {
        p.count = size / p.bytes;
        if (!p.count || size % p.bytes) exit(fail(name, "not pixels of whole crops"));
    }
    return p;
}

/* Whether the system lets this process use AMX. */
static int may_use_amx(void) {
#if defined(__linux__) && defined(__x86_64__)
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
#else
    return 0;
#endif
}

/* The n-th of all kernels, the fastest first. */
static const sqz_kernels *kernels_at(unsigned n) {
    const sqz_kernels *amx = sqz_kernels_amx();
    if (amx == NULL || !may_use_amx()) return sqz_kernels_here(n);
    return n == 0 ? amx : sqz_kernels_here(n - 1);
}

/* Whether the command line selects the n-th kernels. */
static int wanted(const sqz_kernels *kernels, unsigned n, const char *name) {
    if (name == NULL) return 1;
    if (strcmp(name, "fastest") == 0) return n == 0;
    return strcmp(name, sqz_kernels_name(kernels)) == 0;
}

int main(int argc, char **argv) {
    sqz_file file;
    size_t size;
    if (argc < 3 || argc > 6)
        return fail("usage", "run MODEL.sqz PIXELS [KERNELS|fastest [loaded|streamed [TASKS]]]");
    const char *only_kernels = argc > 3 ? argv[3] : NULL, *only_mode = argc > 4 ? argv[4] : NULL;
    unsigned num_tasks = argc > 5 ? (unsigned)atoi(argv[5]) : NUM_TASKS;
    uint8_t *bytes = read_file(argv[1], &size);
    sqz_error error = sqz_open(&file, bytes, size);
    if (error) return fail(argv[1], sqz_error_text(error));
    pictures p = pictures_of(argv[2], &file);
    int32_t *expected = NULL;
    int good = 1;
    const sqz_kernels *kernels;
    for (unsigned n = 0; (kernels = kernels_at(n)) != NULL; n++) {
        if (!wanted(kernels, n, only_kernels)) continue;
        for (unsigned mode = 0; mode < 4; mode++) {
            int streamed = mode & 1;
            if (only_mode != NULL && streamed != !strcmp(only_mode, "streamed")) continue;
            if (argc > 5 && !(mode & 2)) continue; /* that number of tasks alone */
            client *c = client_of(&file, kernels, streamed, mode & 2 ? num_tasks : 1, &p);
            int32_t *logits = logits_of(c, &p);
            printf("%s: memory %lu, arena %lu\n", c->name, (unsigned long)c->memory,
                   (unsigned long)c->arena);
            if (expected == NULL) print_logits(c, expected = logits, p.count);
            if (!agrees(c, logits, expected, p.count)) good = 0;
            if (p.image != NULL && !classifies(c, p.image, expected)) good = 0;
        }
    }
    if (expected == NULL) return fail(argv[3], "no such kernels here");
    if (good) printf("all agree\n");
    return !good;
}
