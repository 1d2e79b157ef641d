/* The sizes that the runtime computes, computed a second time: all in 64 bits, from a graph that
 * sqz_read_graph has accepted. With 32-bit addresses the two must still agree. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"
#include "../src/sqz_reader.h"

void require(int holds, const char *promise) {
    if (holds) return;
    fprintf(stderr, "broken promise: %s\n", promise);
    abort();
}

int graph_of(const sqz_file *file, const sqz_tensor **tensors, const sqz_operation **ops) {
    static sqz_tensor all_tensors[MAX_TENSORS];
    static sqz_operation all_ops[MAX_OPERATIONS];
    *tensors = all_tensors;
    *ops = all_ops;
    return !sqz_read_graph(file, all_tensors, MAX_TENSORS, all_ops, MAX_OPERATIONS);
}

static uint64_t up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

static void piece(uint64_t *used, uint64_t count, uint64_t bytes) {
    *used = up(*used, 64) + count * bytes;
}

/* The number of blocks of a convolution. */
static uint64_t blocks_of(const sqz_operation *op) {
    return (op->out_channels / op->groups + SQZ_BLOCK - 1) / SQZ_BLOCK * (uint64_t)op->groups;
}

static uint64_t groups_of(const sqz_operation *op) {
    return (uint64_t)op->kernel_height * op->kernel_width * ((op->inputs + 3) / 4);
}

static uint64_t room_of(const sqz_operation *op, const sqz_kernels *kernels, uint64_t blocks) {
    int is_in_16_bits = kernels->sums_in_16_bits;
    uint64_t groups = blocks * groups_of(op) * (is_in_16_bits ? 2 : 1);
    return up(blocks * sizeof(sqz_block), 64) + groups * (64 + 4 + (is_in_16_bits ? 1 : 0));
}

/* 0: more than the runtime accepts. */
static uint64_t model_bytes(const sqz_file *file, const sqz_operation *ops,
                            const sqz_options *options) {
    const sqz_kernels *kernels = options->kernels ? options->kernels : sqz_kernels_here(0);
    uint64_t used = 0, tensors = file->num_tensors, steps = file->num_operations;
    if (file->activations.bytes == NULL || tensors > SQZ_MAX_STEPS || steps > SQZ_MAX_STEPS)
        return 0;
    piece(&used, tensors, sizeof(sqz_tensor));
    piece(&used, tensors, sizeof(sqz_place));
    piece(&used, steps, sizeof(sqz_plan_op));
    piece(&used, steps, sizeof(sqz_operation));
    if (!options->streamed) {
        piece(&used, 1, sizeof(sqz_decoder));
        piece(&used, file->largest_channel, 1);
    }
    for (uint64_t i = 0; i < steps; i++) {
        if (ops[i].kind != SQZ_CONVOLUTION) continue;
        if (blocks_of(&ops[i]) * groups_of(&ops[i]) > SQZ_MAX_WEIGHTS) return 0;
        if (options->streamed) continue;
        piece(&used, room_of(&ops[i], kernels, blocks_of(&ops[i])), 1);
        if (used > SIZE_MAX / 4) return 0;
    }
    return used + 64;
}

size_t checked_model_size(const sqz_file *file, const sqz_options *options) {
    const sqz_tensor *tensors;
    const sqz_operation *ops;
    static uint8_t little[64];
    sqz_model model;
    size_t size = sqz_model_size(file, options);
    if (graph_of(file, &tensors, &ops))
        require(size == model_bytes(file, ops, options), "sqz_model_size is what 64 bits make it");
    require(sqz_load(&model, file, options, little, sizeof little) != SQZ_OK,
            "sqz_load refuses 64 bytes");
    require(sqz_arena_size(&model) == 0, "a model that is not loaded is empty");
    return size;
}

static void within(const sqz_model *m, uint32_t offset, uint64_t bytes, const char *promise) {
    require(offset + bytes <= m->arena && offset % 16 == 0, promise);
}

static void check_tensor(const sqz_model *m, uint32_t t) {
    const sqz_place *p = &m->places[t];
    const sqz_tensor *shape = &m->tensors[t];
    uint64_t border = 0;
    for (uint32_t i = 0; i < m->num_steps; i++) {
        const sqz_operation *op = &m->steps[i].op;
        if (op->kind == SQZ_CONVOLUTION && op->source == t && op->padding > border)
            border = op->padding;
    }
    uint64_t row = up(shape->channels, 4) * (shape->width + 2 * border);
    uint64_t bytes = row * (shape->height + 2 * border) + 4;
    require(p->border == border && p->row == row && p->bytes == bytes, "a tensor has its bytes");
    if (p->offset != SQZ_NOWHERE) within(m, p->offset, bytes, "a tensor is within the arena");
}

/* Two tensors that are alive at once do not overlap, unless one works in place of the other. */
static void check_apart(const sqz_model *m, uint32_t t, uint32_t u) {
    const sqz_place *p = &m->places[t], *q = &m->places[u];
    if (p->offset == SQZ_NOWHERE || q->offset == SQZ_NOWHERE || p->root == q->root) return;
    if (m->tensors[t].last < m->tensors[u].first || m->tensors[u].last < m->tensors[t].first)
        return;
    require((uint64_t)p->offset + p->bytes <= q->offset ||
                (uint64_t)q->offset + q->bytes <= p->offset,
            "tensors that are alive lie apart");
}

void check_arena(const sqz_model *m) {
    require(sqz_arena_size(m) == (uint64_t)m->arena + 64, "sqz_arena_size has not run over");
    for (uint32_t t = 0; t < m->num_tensors; t++) {
        check_tensor(m, t);
        for (uint32_t u = 0; u < t; u++) check_apart(m, t, u);
    }
    for (uint32_t i = 0; i < m->num_steps; i++) {
        const sqz_plan_op *s = &m->steps[i];
        uint64_t min = 0;
        if (s->op.kind == SQZ_MAX_POOL && i > 0 && s[-1].is_fused)
            min = (uint64_t)m->options.threads * s->op.kernel_height *
                  m->tensors[s->op.source].width * up(m->tensors[s->op.source].channels, 4);
        if (s->op.kind == SQZ_CONVOLUTION && m->options.streamed && !s->is_fused)
            min = room_of(&s->op, m->options.kernels, 1) + 64;
        require(s->scratch_bytes >= min, "an operation has its scratch");
        if (s->scratch_bytes) within(m, s->scratch, s->scratch_bytes, "scratch is in the arena");
    }
    within(m, m->logits, 4 * (uint64_t)m->num_classes, "the logits are within the arena");
    if (!m->options.streamed) return;
    within(m, m->decoder, sizeof(sqz_decoder), "the decoder is within the arena");
    within(m, m->levels, m->file.largest_channel, "a channel's levels are within the arena");
}

static uint64_t scaled(uint64_t length, uint64_t resize, uint64_t min) {
    return (2 * length * resize + min) / (2 * min);
}

static uint64_t taps(uint64_t n, uint64_t m) { return n == m ? 1 : 2 * (n > m ? n : m) / m + 1; }

/* 0: an invalid picture. */
static uint64_t crop_bytes(const sqz_input *input, const sqz_image *image) {
    uint64_t height = image->height, width = image->width;
    if (!height || !width || image->stride < 3 * width || height > 1 << 24 || width > 1 << 24)
        return 0;
    uint64_t min = height < width ? height : width, columns = input->crop_width;
    uint64_t rows_m = scaled(height, input->resize, min);
    uint64_t columns_m = scaled(width, input->resize, min);
    if (rows_m > 1 << 30 || columns_m > 1 << 30) return 0;
    uint64_t rows_taps = taps(height, rows_m), columns_taps = taps(width, columns_m);
    return up(4 * columns, 16) + up(2 * columns * columns_taps, 16) + up(2 * rows_taps, 16) +
           3 * columns * (rows_taps + 1) + 16;
}

size_t checked_classify_size(const sqz_model *m, const sqz_image *image) {
    uint64_t crop = crop_bytes(&m->file.input, image);
    uint64_t size = up((uint64_t)m->places[0].offset + m->places[0].bytes, 64) + crop + 64;
    if (size < (uint64_t)m->arena + 64) size = (uint64_t)m->arena + 64;
    if (crop == 0 || size > SIZE_MAX) size = 0;
    require(sqz_crop_scratch(&m->file, image) == crop, "sqz_crop_scratch is what 64 bits make it");
    size_t said = sqz_classify_size(m, image);
    require(said == size, "sqz_classify_size is what 64 bits make it");
    return said;
}
