/* Reads a whole .sqz file and prints what a test can compare: numbers, shapes, and the CRC-32 of
 * each layer's weights and of its biases as float32, little-endian, and of the texts.
 * cc -O2 -I.. read.c ../src/sqz_*.c ../kernels/sqz_*.c -o read && ./read FILE.sqz [REPEATS] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../sqz.h"

static uint32_t crc32(uint32_t crc, const void *bytes, size_t size) {
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= ((const uint8_t *)bytes)[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static uint32_t crc_of_word(uint32_t crc, uint32_t word) {
    uint8_t bytes[4] = {(uint8_t)word, (uint8_t)(word >> 8), (uint8_t)(word >> 16),
                        (uint8_t)(word >> 24)};
    return crc32(crc, bytes, 4);
}

static uint32_t bits_of(float value) {
    uint32_t word;
    memcpy(&word, &value, 4);
    return word;
}

static float float_of(uint32_t word) {
    float value;
    memcpy(&value, &word, 4);
    return value;
}

/* The bits of a weight as float32. */
static uint32_t weight(const sqz_layer *layer, const sqz_channel_info *channel, int level) {
    if (layer->representation == SQZ_LEVELS)
        return bits_of((float)level * float_of(channel->scale << 18));
    if (level == 0) return 0;
    return layer->codebook[level < 0 ? -level - 1 : (int)layer->num_negative + level - 1];
}

static uint32_t bias(const sqz_layer *layer, const sqz_channel_info *channel) {
    if (layer->representation == SQZ_CODEBOOK) return channel->float_bias;
    return bits_of((float)channel->bias / (float)(1u << layer->bias_shift));
}

static int fail(const char *where, sqz_error error) {
    printf("error %d %s: %s\n", error, where, sqz_error_text(error));
    return 1;
}

/* Decode all weights; print a line per layer if `print`. */
static sqz_error decode(const sqz_file *file, const sqz_operation *ops, int16_t *row, int print) {
    static sqz_decoder decoder;
    sqz_error error = sqz_decode_begin(&decoder, file);
    for (uint32_t i = 0; !error && i < file->num_operations; i++) {
        static sqz_layer layer;
        if (ops[i].kind != SQZ_CONVOLUTION) continue;
        error = sqz_decode_layer(&decoder, &ops[i], &layer);
        uint32_t weights_crc = 0, biases_crc = 0;
        size_t size = (size_t)ops[i].inputs * ops[i].kernel_height * ops[i].kernel_width;
        for (uint32_t o = 0; !error && o < ops[i].out_channels; o++) {
            sqz_channel_info channel;
            if (layer.representation == SQZ_LEVELS) {
                error = sqz_decode_channel(&decoder, (int8_t *)row, &channel);
            } else {
                error = sqz_decode_codes(&decoder, row, &channel);
            }
            if (error || !print) continue;
            for (size_t k = 0; k < size; k++) {
                int wide = layer.representation != SQZ_LEVELS;
                int level = wide ? row[k] : ((const int8_t *)row)[k];
                weights_crc = crc_of_word(weights_crc, weight(&layer, &channel, level));
            }
            biases_crc = crc_of_word(biases_crc, bias(&layer, &channel));
        }
        if (print && !error)
            printf("layer %ux%ux%ux%u weights %08x biases %08x\n", layer.out_channels, layer.inputs,
                   layer.kernel_height, layer.kernel_width, weights_crc, biases_crc);
    }
    return error ? error : sqz_decode_end(&decoder);
}

static int print_text(const char *name, sqz_bytes text) {
    static sqz_decoder decoder;
    size_t length = 0;
    sqz_error error = sqz_decode_text(&decoder, text, NULL, 0, &length);
    char *out = error ? NULL : malloc(length + 1);
    if (out == NULL) return fail(name, error);
    sqz_decode_text(&decoder, text, out, length, &length);
    printf("%s %zu bytes, CRC-32 %08x\n", name, length, crc32(0, out, length));
    free(out);
    return 0;
}

int main(int argc, char **argv) {
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (f == NULL || fseek(f, 0, SEEK_END) != 0) return fail("open", SQZ_WRONG_USE);
    size_t size = (size_t)ftell(f);
    rewind(f);
    uint8_t *bytes = malloc(size + 1);
    if (bytes == NULL || fread(bytes, 1, size, f) != size) return fail("read", SQZ_WRONG_USE);
    fclose(f);
    sqz_file file;
    sqz_error error = sqz_open(&file, bytes, size);
    if (error) return fail("sqz_open", error);
    sqz_tensor *tensors = malloc(file.num_tensors * sizeof *tensors);
    sqz_operation *ops = malloc(file.num_operations * sizeof *ops);
    int16_t *row = malloc(2 * (size_t)file.largest_channel);
    if (tensors == NULL || ops == NULL || row == NULL) return fail("memory", SQZ_LIMIT);
    error = sqz_read_graph(&file, tensors, file.num_tensors, ops, file.num_operations);
    if (error) return fail("sqz_read_graph", error);
    printf("weights %u largest %u peak %u tensors %u operations %u decoder %zu\n", file.num_weights,
           file.largest_channel, file.peak_activations, file.num_tensors, file.num_operations,
           sizeof(sqz_decoder));
    error = decode(&file, ops, row, 1);
    if (error) return fail("sqz_decode", error);
    sqz_bytes labels = {file.labels.bytes + 1, file.labels.size ? file.labels.size - 1 : 0};
    if (print_text("labels", labels) || print_text("record", file.record)) return 1;
    double best = 1e9;
    for (int i = 0; i < (argc > 2 ? atoi(argv[2]) : 0); i++) {
        clock_t start = clock();
        error = decode(&file, ops, row, 0);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (seconds < best) best = seconds;
    }
    if (argc > 2) printf("decoded in %.1f ms at best\n", 1e3 * best);
    free(row), free(ops), free(tensors), free(bytes);
    return error != SQZ_OK;
}
