/* Decode all weights of a .sqz file, twice, and print the milliseconds of the second time.
 *
 *     decode FILE.sqz */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sqz.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* Open the file, read its graph and decode every output channel. */
static sqz_error decode(const void *bytes, size_t size, uint32_t *sum) {
    sqz_file file;
    sqz_error error = sqz_open(&file, bytes, size);
    if (error) return error;
    sqz_tensor *tensors = calloc(file.num_tensors, sizeof *tensors);
    sqz_operation *operations = calloc(file.num_operations, sizeof *operations);
    int16_t *codes = calloc(file.largest_channel, sizeof *codes);
    sqz_decoder *d = malloc(sizeof *d);
    if (!tensors || !operations || !codes || !d) exit(2);
    error = sqz_read_graph(&file, tensors, file.num_tensors, operations, file.num_operations);
    if (!error) error = sqz_decode_begin(d, &file);
    for (uint32_t i = 0; i < file.num_operations && !error; i++) {
        sqz_layer layer;
        sqz_channel_info channel;
        if (operations[i].kind != SQZ_CONVOLUTION) continue;
        error = sqz_decode_layer(d, &operations[i], &layer);
        for (uint32_t o = 0; o < layer.out_channels && !error; o++) {
            error = sqz_decode_codes(d, codes, &channel);
            *sum = 31 * *sum + (uint16_t)codes[0];
        }
    }
    if (!error) error = sqz_decode_end(d);
    free(tensors);
    free(operations);
    free(codes);
    free(d);
    return error;
}

int main(int count, char **arguments) {
    FILE *in = count == 2 ? fopen(arguments[1], "rb") : NULL;
    static unsigned char bytes[1 << 24];
    size_t size = in ? fread(bytes, 1, sizeof bytes, in) : 0;
    double started = 0;
    uint32_t sum = 0;
    for (int i = 0; i < 2; i++) {
        started = now();
        sqz_error error = decode(bytes, size, &sum);
        if (error) {
            fprintf(stderr, "decode: %s\n", sqz_error_text(error));
            return 1;
        }
    }
    printf("%.3f %08x\n", now() - started, (unsigned)sum);
    return 0;
}
