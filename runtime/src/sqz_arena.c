/* Where everything lies in the arena: tensors, scratch and logits. What is no longer needed makes
 * room for what comes later. */
#include "sqz_runtime.h"

/* ---- How large things are ---- */

static uint32_t num_threads(const sqz_options *options) {
    return options->threads ? options->threads : 1;
}

/* Sizes of tensors with their borders, and when each is needed. */
static sqz_error measure_tensors(sqz_model *m) {
    const sqz_operation *last = &m->steps[m->num_steps - 1].op;
    for (uint32_t t = 0; t < m->num_tensors; t++) {
        sqz_place *p = &m->places[t];
        p->root = t;
        p->first = m->tensors[t].first;
        p->last = m->tensors[t].last;
        /* The head adds its sums up and writes logits; the pool after it has nothing to do. */
        if (t == last->target || t == last->source) p->offset = SQZ_NOWHERE;
    }
    for (uint32_t i = 0; i < m->num_steps; i++) {
        const sqz_plan_op *s = &m->steps[i];
        sqz_place *in = &m->places[s->op.source];
        if (s->op.kind == SQZ_CONVOLUTION && s->op.padding > in->border) in->border = s->op.padding;
        /* A fused convolution reads while its pool runs. */
        if (s->is_fused && in->last < i + 1) in->last = i + 1;
    }
    for (uint32_t t = 0; t < m->num_tensors; t++) {
        sqz_place *p = &m->places[t];
        const sqz_tensor *shape = &m->tensors[t];
        uint64_t border = 2 * (uint64_t)p->border;
        uint64_t pixel = sqz_round_up(shape->channels, SQZ_GROUP);
        uint64_t row = pixel * (shape->width + border);
        /* Each factor is below 2^29, but their product need not be. */
        if (row > SQZ_NOWHERE || shape->height + border > SQZ_NOWHERE / 4 / (row + 1))
            return SQZ_LIMIT;
        p->pixel = (uint32_t)pixel;
        p->row = (uint32_t)row;
        /* Kernels may read a group of inputs up to 3 bytes beyond the last input. */
        p->bytes = (uint32_t)(row * (shape->height + border)) + SQZ_GROUP;
    }
    return SQZ_OK;
}

/* What operations need besides tensors: a block of streamed weights; within a max pool, a ring of
 * rows per thread and all blocks of streamed weights; for the head, unless streamed, the sums of
 * all blocks. */
static sqz_error measure_scratch(sqz_model *m) {
    const sqz_options *options = &m->options;
    for (uint32_t i = 0; i < m->num_steps; i++) {
        sqz_plan_op *s = &m->steps[i];
        uint64_t bytes = 0;
        if (s->op.kind == SQZ_CONVOLUTION && options->streamed && !s->is_fused)
            bytes = sqz_blocks_in(options, s, 1, NULL, NULL) + SQZ_ALIGNMENT;
        if (s->is_head && !options->streamed)
            bytes = (uint64_t)s->num_blocks * SQZ_BLOCK * sizeof(int64_t);
        if (s->op.kind == SQZ_MAX_POOL && i > 0 && s[-1].is_fused) {
            const sqz_plan_op *conv = s - 1;
            const sqz_tensor *rows = &m->tensors[conv->op.target];
            bytes = (uint64_t)num_threads(options) * s->op.kernel_height * rows->width *
                    m->places[conv->op.target].pixel;
            bytes = (bytes + SQZ_ALIGNMENT) / SQZ_ALIGNMENT * SQZ_ALIGNMENT;
            if (options->streamed)
                bytes += sqz_blocks_in(options, conv, conv->num_blocks, NULL, NULL) + SQZ_ALIGNMENT;
        }
        if (bytes >= SQZ_NOWHERE) return SQZ_LIMIT;
        s->scratch_bytes = (uint32_t)bytes;
    }
    return SQZ_OK;
}

/* ---- Where they lie ---- */

/* Bytes that must not overlap others from operation `first` to `last`. */
typedef struct {
    uint32_t bytes, first, last;
    uint32_t *offset;
} arena_request;

/* Requests are numbered: tensors, the scratch of each operation, the logits, and two that a
 * streamed model has during the whole run. Returns 0 if number i needs nothing. */
static int request_of(sqz_model *m, uint32_t i, arena_request *r) {
    uint32_t end = m->num_steps - 1;
    if (i < m->num_tensors) {
        sqz_place *p = &m->places[i];
        r->bytes = p->offset == SQZ_NOWHERE || p->root != i ? 0 : p->bytes;
        r->first = p->first;
        r->last = p->last;
        r->offset = &p->offset;
    } else if (i < m->num_tensors + m->num_steps) {
        sqz_plan_op *s = &m->steps[i - m->num_tensors];
        r->bytes = s->scratch_bytes;
        r->first = r->last = i - m->num_tensors;
        r->offset = &s->scratch;
    } else if (i == m->num_tensors + m->num_steps) {
        r->bytes = m->num_classes * (uint32_t)sizeof(int32_t);
        r->first = r->last = end;
        while (!m->steps[r->first].is_head) r->first--; /* operations may follow the head */
        r->offset = &m->logits;
    } else {
        int levels = i - m->num_tensors - m->num_steps == 2;
        r->bytes = !m->options.streamed ? 0
                   : levels             ? m->file.largest_channel
                                        : (uint32_t)sizeof(sqz_decoder);
        r->first = 0;
        r->last = end;
        r->offset = levels ? &m->levels : &m->decoder;
    }
    return r->bytes > 0;
}

/* Let operations work in place if their source dies with them: a max pool writes a position after
 * it has read it, and an addition while it reads it. */
static void share_places(sqz_model *m) {
    for (uint32_t i = 0; i < m->num_steps; i++) {
        const sqz_operation *op = &m->steps[i].op;
        sqz_place *out = &m->places[op->target];
        if (op->kind != SQZ_MAX_POOL && op->kind != SQZ_ADD) continue;
        uint32_t sources[2] = {op->source, op->kind == SQZ_ADD ? op->other : op->source};
        for (unsigned k = 0; k < 2 && out->root == op->target; k++) {
            sqz_place *in = &m->places[sources[k]];
            sqz_place *root = &m->places[in->root];
            if (in->offset == SQZ_NOWHERE || in->last != i || root->last != i) continue;
            if (in->border != out->border || (op->kind == SQZ_MAX_POOL && in->border)) continue;
            if (out->bytes > root->bytes) continue;
            out->root = in->root;
            root->last = out->last;
        }
    }
}

/* The lowest offset at which a request overlaps none that has been placed. */
static uint64_t lowest_offset(sqz_model *m, const uint8_t *placed, uint32_t num_requests,
                              const arena_request *request) {
    /* Kernels are faster on cache lines; where memory is short, they are not filled up. */
    const size_t alignment = m->options.streamed ? 16 : SQZ_ALIGNMENT;
    arena_request other;
    uint64_t offset = 0;
    for (int moved = 1; moved;) {
        moved = 0;
        for (uint32_t i = 0; i < num_requests; i++) {
            if (!placed[i] || !request_of(m, i, &other) || other.last < request->first ||
                other.first > request->last)
                continue;
            uint64_t end = *other.offset + sqz_round_up(other.bytes, alignment);
            if (offset < end && *other.offset < offset + request->bytes) {
                offset = end;
                moved = 1;
            }
        }
    }
    return offset;
}

/* First fit by decreasing size. */
static sqz_error place_requests(sqz_model *m) {
    uint32_t num_requests = m->num_tensors + m->num_steps + 3;
    uint8_t placed[2 * SQZ_MAX_STEPS + 3] = {0};
    m->arena = 0;
    for (;;) {
        arena_request largest = {0, 0, 0, NULL}, other;
        uint32_t chosen = 0;
        for (uint32_t i = 0; i < num_requests; i++)
            if (!placed[i] && request_of(m, i, &other) && other.bytes > largest.bytes)
                largest = other, chosen = i;
        if (largest.offset == NULL) return SQZ_OK;
        uint64_t offset = lowest_offset(m, placed, num_requests, &largest);
        if (offset + largest.bytes >= SQZ_NOWHERE - 4096) return SQZ_LIMIT;
        *largest.offset = (uint32_t)offset;
        placed[chosen] = 1;
        if (offset + largest.bytes > m->arena) m->arena = (size_t)(offset + largest.bytes);
    }
}

sqz_error sqz_lay_out(sqz_model *m) {
    sqz_error error = measure_tensors(m);
    if (!error) error = measure_scratch(m);
    if (error) return error;
    share_places(m);
    error = place_requests(m);
    for (uint32_t i = 0; i < m->num_tensors; i++)
        if (m->places[i].offset != SQZ_NOWHERE)
            m->places[i].offset = m->places[m->places[i].root].offset;
    return error;
}
