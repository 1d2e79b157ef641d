/* The graph as an integer client runs it: spec/INTEGER.md, "Which files", "Tensors" and
 * "Addition"; and which convolutions run within the max pool after them. */
#include <string.h>

#include "sqz_reader.h"
#include "sqz_runtime.h"

void sqz_divide(sqz_plan_op *s) {
    uint32_t outputs = s->op.out_channels / s->op.groups;
    s->blocks_per_group = (outputs + SQZ_BLOCK - 1) / SQZ_BLOCK;
    s->num_blocks = s->blocks_per_group * s->op.groups;
    s->num_groups =
        s->op.kernel_height * s->op.kernel_width * ((s->op.inputs + SQZ_GROUP - 1) / SQZ_GROUP);
}

static sqz_error read_steps(sqz_model *m, sqz_operation *operations) {
    sqz_error error =
        sqz_read_graph(&m->file, m->tensors, m->num_tensors, operations, m->num_steps);
    for (uint32_t i = 0; !error && i < m->num_steps; i++) {
        sqz_plan_op *s = &m->steps[i];
        memset(s, 0, sizeof *s);
        s->op = operations[i];
        if (s->op.kind == SQZ_CONVOLUTION) sqz_divide(s);
    }
    return error;
}

static int reads_from(const sqz_operation *op, uint32_t tensor) {
    return op->source == tensor || (op->kind == SQZ_ADD && op->other == tensor);
}

/* "Its operations are convolutions, max pools, additions, and, as the last, a global average pool.
 * One convolution, the head, writes all channels of that pool's source, and only the pool reads
 * them. Only convolutions read the input." */
static sqz_error find_head(sqz_model *m) {
    uint32_t last = m->num_steps - 1, writers = 0;
    uint32_t sums = m->steps[last].op.source;
    if (m->steps[last].op.kind != SQZ_AVERAGE_POOL) return SQZ_FLOAT_ONLY;
    for (uint32_t i = 0; i < last; i++) {
        sqz_plan_op *s = &m->steps[i];
        if (s->op.kind > SQZ_ADD || reads_from(&s->op, sums)) return SQZ_FLOAT_ONLY;
        if (s->op.kind == SQZ_MAX_POOL && s->op.kernel_height > SQZ_MAX_POOL_KERNEL)
            return SQZ_LIMIT;
        if (s->op.kind != SQZ_CONVOLUTION && reads_from(&s->op, 0)) return SQZ_FLOAT_ONLY;
        if (s->op.target != sums) continue;
        if (s->op.kind != SQZ_CONVOLUTION || writers++) return SQZ_FLOAT_ONLY;
        s->is_head = 1;
    }
    m->num_classes = m->tensors[sums].channels;
    return writers ? SQZ_OK : SQZ_FLOAT_ONLY;
}

/* Whether ACTIVATIONS has a scale and a zero point for the operation's target. */
static int is_scaled(const sqz_plan_op *s) {
    return (s->op.kind == SQZ_CONVOLUTION && !s->is_head) || s->op.kind == SQZ_ADD;
}

/* spec/FORMAT.md, "ACTIVATIONS": "For each tensor that a convolution or an addition writes, except
 * the head's, in the order of the graph: u16 the scale, the upper half of a positive normal
 * float32, and u8 the zero point." */
static sqz_error read_scales(sqz_model *m) {
    sqz_bytes section = m->file.activations;
    uint32_t used = 0;
    if (section.bytes == NULL) return SQZ_FLOAT_ONLY;
    for (uint32_t t = 1; t < m->num_tensors; t++) {
        for (uint32_t i = 0; i < m->num_steps; i++) {
            if (m->steps[i].op.target != t || !is_scaled(&m->steps[i])) continue;
            if (section.size - used < 3) return SQZ_MALFORMED;
            const uint8_t *b = section.bytes + used;
            m->places[t].scale = (uint16_t)sqz_u16(b);
            m->places[t].zero_point = b[2];
            if (m->places[t].scale < 0x0080 || m->places[t].scale >= 0x7f80) return SQZ_MALFORMED;
            used += 3;
            break;
        }
    }
    return used == section.size ? SQZ_OK : SQZ_MALFORMED;
}

/* "The target of a max pool has those of its source", and the ratios of additions. */
static sqz_error derive_scales(sqz_model *m) {
    for (uint32_t i = 0; i < m->num_steps; i++) {
        sqz_plan_op *s = &m->steps[i];
        const sqz_place *in = &m->places[s->op.source];
        sqz_place *out = &m->places[s->op.target];
        if (s->op.kind == SQZ_MAX_POOL) {
            out->scale = in->scale;
            out->zero_point = in->zero_point;
        } else if (s->op.kind == SQZ_ADD) {
            s->ratio = sqz_addition_ratio(in->scale, out->scale);
            s->other_ratio = sqz_addition_ratio(m->places[s->op.other].scale, out->scale);
            if (s->ratio < 0 || s->other_ratio < 0) return SQZ_LIMIT;
        }
    }
    return SQZ_OK;
}

/* A convolution whose target only the max pool after it reads runs within that pool, a few rows
 * ahead of it. Its target is never held as a whole. */
static void fuse(sqz_model *m) {
    for (uint32_t i = 0; i + 1 < m->num_steps; i++) {
        sqz_plan_op *conv = &m->steps[i], *pool = conv + 1;
        uint32_t target = conv->op.target;
        if (conv->op.kind != SQZ_CONVOLUTION || conv->is_head || pool->op.kind != SQZ_MAX_POOL ||
            pool->op.source != target || conv->op.out_channels != m->tensors[target].channels)
            continue;
        int alone = 1;
        for (uint32_t j = 0; j < m->num_steps; j++)
            if (j != i + 1 && reads_from(&m->steps[j].op, target)) alone = 0;
        if (!alone) continue;
        conv->is_fused = 1;
        m->places[target].offset = SQZ_NOWHERE;
    }
}

sqz_error sqz_plan(sqz_model *m, sqz_operation *operations) {
    memset(m->places, 0, m->num_tensors * sizeof *m->places);
    sqz_error error = read_steps(m, operations);
    if (!error) error = find_head(m);
    if (!error) error = read_scales(m);
    if (!error) error = derive_scales(m);
    if (!error) fuse(m);
    return error;
}
