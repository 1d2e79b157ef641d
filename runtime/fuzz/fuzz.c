/* libFuzzer targets, one a stage; the stage is chosen when compiling:
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DSQZ_NO_CHECKSUMS
 *         -DTARGET=target_file fuzz.c ../src/sqz_*.c ../kernels/sqz_*.c -o fuzz_file
 * Targets: target_header, target_graph, target_decoder, target_file, target_run. */
#include <stdlib.h>
#include <string.h>

#include "../sqz.h"

#ifndef TARGET
#define TARGET target_file
#endif

enum { MOST = 1 << 20 }; /* weights and elements that a fuzzed file may make us hold */

static sqz_error decode(const sqz_file *file, const sqz_operation *ops) {
    static sqz_decoder decoder;
    static sqz_layer layer;
    static int16_t row[MOST];
    sqz_error error = sqz_decode_begin(&decoder, file);
    for (uint32_t i = 0; !error && i < file->num_operations; i++) {
        if (ops[i].kind != SQZ_CONVOLUTION) continue;
        error = sqz_decode_layer(&decoder, &ops[i], &layer);
        for (uint32_t o = 0; !error && o < ops[i].out_channels; o++) {
            sqz_channel_info channel;
            if (layer.representation == SQZ_LEVELS && o % 2)
                error = sqz_decode_channel(&decoder, (int8_t *)row, &channel);
            else error = sqz_decode_codes(&decoder, row, &channel);
        }
    }
    return error ? error : sqz_decode_end(&decoder);
}

static int target_header(const uint8_t *data, size_t size) {
    sqz_file file;
    sqz_open(&file, data, size);
    return 0;
}

/* The bytes are the graph of a file that is otherwise as it should be. */
static int target_graph(const uint8_t *data, size_t size) {
    static sqz_tensor tensors[4096];
    static sqz_operation ops[4096];
    sqz_file file;
    if (size < 20) return 0;
    memset(&file, 0, sizeof file);
    file.input.channels = 1;
    file.input.crop_height = data[0];
    file.input.crop_width = data[1];
    memcpy(&file.num_weights, data + 2, 4);
    memcpy(&file.largest_channel, data + 6, 4);
    memcpy(&file.peak_activations, data + 10, 4);
    file.num_tensors = 1 + data[14];
    file.num_operations = 1 + data[15];
    file.graph.bytes = data + 16;
    file.graph.size = (uint32_t)size - 16;
    sqz_read_graph(&file, tensors, 4096, ops, 4096);
    return 0;
}

/* The bytes are the weights of two layers whose shapes the first bytes choose. */
static int target_decoder(const uint8_t *data, size_t size) {
    sqz_operation ops[2];
    sqz_file file;
    if (size < 10) return 0;
    memset(&file, 0, sizeof file);
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < 2; i++) {
        ops[i].kind = SQZ_CONVOLUTION;
        ops[i].inputs = 1 + data[4 * i] * (data[4 * i + 1] & 7u);
        ops[i].out_channels = 1 + (data[4 * i + 1] >> 3);
        ops[i].kernel_height = 1 + (data[4 * i + 2] & 7);
        ops[i].kernel_width = 1 + (data[4 * i + 3] & 7);
        file.num_weights += ops[i].inputs * ops[i].out_channels * ops[i].kernel_height *
                            ops[i].kernel_width;
    }
    file.num_operations = 2;
    file.weights.bytes = data + 8;
    file.weights.size = (uint32_t)size - 8;
    decode(&file, ops);
    static sqz_decoder decoder;
    static char text[4096];
    size_t length;
    sqz_decode_text(&decoder, file.weights, text, sizeof text, &length);
    return 0;
}

static int target_file(const uint8_t *data, size_t size) {
    static sqz_tensor tensors[4096];
    static sqz_operation ops[4096];
    sqz_file file;
    if (sqz_open(&file, data, size) || file.largest_channel > MOST || file.num_weights > MOST)
        return 0;
    if (sqz_read_graph(&file, tensors, 4096, ops, 4096) == SQZ_OK) decode(&file, ops);
    return 0;
}

/* Whether a network is small enough to be run thousands of times. */
static int is_small(const sqz_file *file) {
    static sqz_tensor tensors[4096];
    static sqz_operation ops[4096];
    uint64_t macs = 0;
    if (file->num_weights > MOST || sqz_read_graph(file, tensors, 4096, ops, 4096)) return 0;
    for (uint32_t i = 0; i < file->num_operations; i++) {
        const sqz_tensor *target = &tensors[ops[i].target];
        uint64_t window = (uint64_t)ops[i].kernel_height * ops[i].kernel_width;
        if (ops[i].kind == SQZ_CONVOLUTION) window *= (uint64_t)ops[i].inputs * ops[i].out_channels;
        else window *= target->channels;
        macs += window * target->height * target->width;
        if (macs > 1 << 22) return 0;
    }
    return 1;
}

/* From the file to the answer, in memory of exactly the size that is asked for. The last byte
 * chooses how; the pixels are the file's own bytes. */
static int target_run(const uint8_t *data, size_t size) {
    sqz_file file;
    sqz_model model;
    sqz_context context;
    if (size < 2) return 0;
    uint8_t choice = data[--size];
    sqz_options options = {choice & 1, 1 + (choice >> 1 & 3), NULL};
    unsigned n = choice >> 3 & 3;
    while (options.kernels == NULL) options.kernels = sqz_kernels_here(n--);
    if (sqz_open(&file, data, size)) return 0;
    size_t need = sqz_model_size(&file, &options);
    if (!is_small(&file) || need == 0 || need > 1 << 24) return 0;
    void *memory = malloc(need);
    if (memory != NULL && sqz_load(&model, &file, &options, memory, need) == SQZ_OK &&
        sqz_arena_size(&model) < 1 << 24) {
        sqz_image image = {data, 1 + data[size / 2] % 8, 1 + data[size / 3] % 8, 0};
        image.stride = 3 * (size_t)image.width;
        size_t room = size < 192 ? 0 : sqz_classify_size(&model, &image);
        if (room < sqz_arena_size(&model)) room = sqz_arena_size(&model);
        void *arena = malloc(room);
        sqz_answer answers[4];
        if (arena != NULL && room < 1 << 24 && !sqz_start(&context, &model, arena, room) &&
            size >= 192)
            sqz_classify(&context, &image, answers, model.num_classes < 4 ? 1 : 4);
        free(arena);
    }
    free(memory);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > UINT32_MAX) return 0;
    (void)target_header, (void)target_graph, (void)target_decoder, (void)target_file;
    (void)target_run;
    return TARGET(data, size);
}
