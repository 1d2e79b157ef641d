/* Runs a model on pools of threads, as the Python extension does, and checks that all give the same
 * logits. For systems without a Python that could load the extension itself:
 *
 *     cc -O3 pooled.c ../threads.c ../../runtime/{src,kernels}/sqz_*.c -pthread -o pooled
 *     ./pooled MODEL.sqz
 *
 * The last line is "all agree" and the exit code 0, or it says what differs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../runtime/sqz.h"
#include "../threads.h"

#define MAX_BYTES (1 << 24) /* of a model */
#define TIMES 20            /* that each pool runs */

static int fail(const char *what, const char *why) {
    printf("pooled: %s: %s\n", what, why);
    return 1;
}

/* Wait for longer than workers spin before they sleep. */
static void pass_time(void) {
    clock_t end = clock() + CLOCKS_PER_SEC / 200;
    while (clock() < end) continue;
}

/* All logits by a pool of that many threads; NULL if it does not run. */
static int32_t *logits_of(const sqz_file *file, const uint8_t *pixels, unsigned threads,
                          uint32_t *count) {
    sqz_options options = {0, threads, NULL};
    sqz_model model;
    sqz_context context;
    size_t need = sqz_model_size(file, &options);
    void *memory = malloc(need + 1);
    if (!need || memory == NULL || sqz_load(&model, file, &options, memory, need)) return NULL;
    *count = model.num_classes;
    void *arena = malloc(sqz_arena_size(&model));
    int32_t *logits = calloc(2 * (size_t)*count, sizeof *logits), *again = logits + *count;
    if (arena == NULL || logits == NULL) return NULL;
    for (unsigned i = 0; i < TIMES; i++) {
        sqz_pool *pool = i % 10 == 0 ? sqz_pool_new(threads) : context.user;
        if (i % 10 == 0 && sqz_start(&context, &model, arena, sqz_arena_size(&model))) return NULL;
        context.parallel = pool == NULL ? NULL : sqz_pool_run;
        context.user = pool;
        if (i % 3 == 0) pass_time();
        if (sqz_run(&context, pixels, i ? again : logits, *count)) return NULL;
        if (i && memcmp(logits, again, *count * sizeof *logits) != 0) return NULL;
        if (i % 10 == 9) sqz_pool_free(pool);
    }
    free(arena), free(memory);
    return logits;
}

int main(int argc, char **argv) {
    static const unsigned threads[] = {1, 2, 3, 5};
    sqz_file file;
    uint32_t count = 0;
    int32_t *first = NULL;
    if (argc != 2) return fail("usage", "pooled MODEL.sqz");
    FILE *stream = fopen(argv[1], "rb");
    uint8_t *bytes = malloc(MAX_BYTES);
    if (stream == NULL || bytes == NULL) return fail(argv[1], "cannot be read");
    size_t size = fread(bytes, 1, MAX_BYTES, stream);
    fclose(stream);
    sqz_error error = sqz_open(&file, bytes, size);
    if (error) return fail(argv[1], sqz_error_text(error));
    size_t area = (size_t)file.input.crop_height * file.input.crop_width;
    uint8_t *pixels = malloc(3 * area);
    if (pixels == NULL) return fail(argv[1], "too large");
    for (size_t i = 0; i < 3 * area; i++) pixels[i] = (uint8_t)(i * i / 7 + 3 * i);
    for (unsigned i = 0; i < sizeof threads / sizeof *threads; i++) {
        int32_t *logits = logits_of(&file, pixels, threads[i], &count);
        if (logits == NULL)
            return fail(argv[1], "does not run, or has other logits the second time");
        if (first == NULL) first = logits;
        else if (memcmp(first, logits, count * sizeof *first) != 0)
            return fail(argv[1], "has other logits with more threads");
    }
    for (uint32_t i = 0; i < count; i++) printf("class %u: %ld\n", (unsigned)i, (long)first[i]);
    printf("all agree\n");
    return 0;
}
