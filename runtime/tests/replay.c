/* Runs a fuzz target without libFuzzer, on given inputs and on mutations of them that are the same
 * every time: for coverage.
 *
 *     cc -DSQZ_NO_CHECKSUMS -DTARGET=target_run replay.c ../fuzz/?*.c ../src/?*.c ../kernels/?*.c \
 *        -o replay
 *     ./replay MUTATIONS FILE ...
 *
 * MUTATIONS: how many to try per file. Prints the number of inputs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);

enum { MAX_INPUT = 1 << 17 };

static uint32_t random_below(uint32_t limit) {
    static uint32_t state = 1;
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return (uint32_t)((uint64_t)state * limit >> 32);
}

/* What libFuzzer offers to custom mutators: change some bytes, or the size. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room) {
    if (size == 0) return 0;
    for (uint32_t changes = 1 + random_below(4); changes > 0; changes--) {
        uint32_t at = random_below((uint32_t)size), what = random_below(8);
        if (what == 0) {
            size = at + 1;
        } else if (what == 1 && size < room) {
            memmove(data + at + 1, data + at, size - at);
            size++;
        } else if (what < 5) {
            data[at] ^= (uint8_t)(1u << random_below(8));
        } else {
            data[at] = (uint8_t)random_below(256);
        }
    }
    return size;
}

/* Run copies of exactly the size of the input, so that a sanitizer detects accesses beyond it. */
static void run_copy(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (copy == NULL) exit(2);
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

int main(int argc, char **argv) {
    static uint8_t original[MAX_INPUT], changed[MAX_INPUT];
    unsigned long num_inputs = 0;
    for (int i = 2; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        size_t size = file == NULL ? 0 : fread(original, 1, MAX_INPUT, file);
        if (file == NULL) return fprintf(stderr, "replay: %s cannot be read\n", argv[i]), 1;
        fclose(file);
        run_copy(original, size);
        num_inputs++;
        size_t now = 0;
        for (unsigned k = 0; k < (unsigned)atoi(argv[1]); k++, num_inputs++) {
            /* Up to 8 mutations on top of each other, then from the file again. */
            if (k % 8 == 0 || now == 0) memcpy(changed, original, now = size);
            now = LLVMFuzzerCustomMutator(changed, now, MAX_INPUT, random_below(UINT32_MAX));
            run_copy(changed, now);
        }
    }
    printf("%lu inputs\n", num_inputs);
    return 0;
}
