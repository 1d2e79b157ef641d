/* The operations of a run: spec/INTEGER.md, "Convolution", "Max pool" and "Addition". Each
 * convolution is cut into tasks, as many as the model has threads. */
#include <string.h>

#include "sqz_runtime.h"

#define CHUNK 64 /* positions */

static unsigned num_tasks(const sqz_run_state *r) {
    return r->context->parallel == NULL || !r->m->options.threads ? 1 : r->m->options.threads;
}

static void in_parallel(const sqz_run_state *r, void (*task)(void *, unsigned), void *argument,
                        unsigned count) {
    if (r->context->parallel != NULL && count > 1) {
        r->context->parallel(r->context->user, task, argument, count);
        return;
    }
    for (unsigned i = 0; i < count; i++) task(argument, i);
}

/* ---- Convolution ---- */

/* Some blocks of a convolution on some rows of its target. */
typedef struct {
    const sqz_run_state *r;
    const sqz_plan_op *s;
    const sqz_block *blocks;
    uint32_t first_block, num_blocks; /* of those of the convolution */
    uint32_t first_row, num_rows;     /* of the target */
    unsigned num_tasks;
    uint8_t *out; /* channel 0 of the first position of the first row */
    uint32_t out_row;
} convolution;

/* The first output channel of a block. */
static uint32_t channel_of(const sqz_plan_op *s, uint32_t block) {
    uint32_t group = block / s->blocks_per_group;
    return group * (s->op.out_channels / s->op.groups) + block % s->blocks_per_group * SQZ_BLOCK;
}

/* A row of the target, without where it is written. */
static sqz_span row_span(const sqz_run_state *r, const sqz_plan_op *s, uint32_t row) {
    int64_t padding = s->op.padding;
    sqz_span span;
    span.in = sqz_at(r, s->op.source, (int64_t)row * s->op.stride - padding, -padding);
    span.in_stride = (size_t)s->op.stride * r->m->places[s->op.source].pixel;
    span.out = NULL;
    span.out_stride = r->m->places[s->op.target].pixel;
    span.count = r->m->tensors[s->op.target].width;
    span.num_rows = 1;
    span.in_row = (size_t)s->op.stride * r->m->places[s->op.source].row;
    span.out_row = 0;
    span.is_pair = 0;
    return span;
}

static void begin_blocks(const sqz_run_state *r, const sqz_plan_op *s, const sqz_block *block) {
    const sqz_span span = row_span(r, s, 0);
    if (r->m->options.kernels->begin != NULL) r->m->options.kernels->begin(block, &span);
}

/* Rows of the target that are computed for one block after another: some dozens of positions. What
 * they read and write stays in the first cache, also where all channels take much more. */
static uint32_t chunk_rows(const sqz_run_state *r, const sqz_plan_op *s) {
    uint32_t rows = CHUNK / r->m->tensors[s->op.target].width;
    return rows ? rows : 1;
}

/* Whether kernels compute a block together with another: 1 with the one after, -1 with the one
 * before. `block` is one of `count` that the convolution begins with. */
static int pair_of(const sqz_run_state *r, const sqz_plan_op *s, uint32_t block, uint32_t count) {
    if (!r->m->options.kernels->takes_pairs) return 0;
    if (block % s->blocks_per_group % 2) return -1;
    return block % s->blocks_per_group + 1 < s->blocks_per_group && block + 1 < count;
}

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Task i: its share of all blocks of all chunks. */
static void convolve_part(void *argument, unsigned i) {
    const convolution *c = argument;
    const uint32_t rows = chunk_rows(c->r, c->s), num_chunks = (c->num_rows + rows - 1) / rows;
    const uint64_t units = (uint64_t)c->num_blocks * num_chunks;
    uint64_t unit = units * i / c->num_tasks, end = units * (i + 1) / c->num_tasks;
    const sqz_kernels *kernels = c->r->m->options.kernels;
    if (unit == end) return;
    begin_blocks(c->r, c->s, c->blocks);
    for (; unit < end; unit++) {
        uint32_t block = (uint32_t)(unit % c->num_blocks);
        uint32_t row = (uint32_t)(unit / c->num_blocks) * rows;
        uint32_t last = min_u32(row + rows, c->num_rows);
        uint32_t step = kernels->takes_rows ? rows : 1;
        int pair = pair_of(c->r, c->s, block, c->num_blocks);
        if (pair < 0) continue; /* whoever has the one before computes it */
        uint8_t *out = c->out + c->s->op.target_start + channel_of(c->s, c->first_block + block);
        for (; row < last; row += step) {
            sqz_span span = row_span(c->r, c->s, c->first_row + row);
            span.num_rows = min_u32(step, last - row);
            span.out = out + (size_t)row * c->out_row;
            span.out_row = c->out_row;
            span.is_pair = pair;
            kernels->convolve(&c->blocks[block], &span);
        }
    }
    if (kernels->end != NULL) kernels->end();
}

static void convolve(const sqz_run_state *r, const sqz_plan_op *s, const sqz_block *blocks,
                     uint32_t first, uint32_t count) {
    convolution c = {r,
                     s,
                     blocks,
                     first,
                     count,
                     0,
                     r->m->tensors[s->op.target].height,
                     num_tasks(r),
                     sqz_at(r, s->op.target, 0, 0),
                     r->m->places[s->op.target].row};
    in_parallel(r, convolve_part, &c, c.num_tasks);
}

/* ---- The head ---- */

typedef struct {
    const sqz_run_state *r;
    const sqz_plan_op *s;
    const sqz_block *blocks;
    uint32_t first_block, num_blocks;
    unsigned num_tasks;
    int32_t *logits;
    int64_t (*sums)[SQZ_BLOCK]; /* of each block */
} head;

/* logit = clamp((S * m + (2^s >> 1)) >> s, -2^31, 2^31 - 1) */
static int32_t logit_of(int64_t sum, int16_t multiplier, int32_t shift) {
    int64_t half = ((int64_t)1 << shift) >> 1;
    int64_t logit = sqz_shift_right(sum * multiplier + half, (unsigned)shift);
    return (int32_t)(logit < INT32_MIN ? INT32_MIN : logit > INT32_MAX ? INT32_MAX : logit);
}

/* Task i: its share of the blocks. */
static void sum_part(void *argument, unsigned i) {
    const head *h = argument;
    const sqz_run_state *r = h->r;
    const uint32_t first = (uint32_t)((uint64_t)h->num_blocks * i / h->num_tasks);
    const uint32_t end = (uint32_t)((uint64_t)h->num_blocks * (i + 1) / h->num_tasks);
    const sqz_kernels *kernels = r->m->options.kernels;
    const uint32_t rows = chunk_rows(r, h->s), step = kernels->takes_rows ? rows : 1;
    const uint32_t num_rows = r->m->tensors[h->s->op.target].height;
    if (first == end) return;
    begin_blocks(r, h->s, h->blocks);
    memset(h->sums[first], 0, (end - first) * sizeof *h->sums);
    for (uint32_t chunk = 0; chunk < num_rows; chunk += rows) {
        const uint32_t last = min_u32(chunk + rows, num_rows);
        for (uint32_t block = first, pair; block < end; block += 1 + pair) {
            pair = kernels->takes_pairs && block + 1 < end &&
                   block % h->s->blocks_per_group + 1 < h->s->blocks_per_group;
            for (uint32_t row = chunk; row < last; row += step) {
                sqz_span span = row_span(r, h->s, row);
                span.num_rows = min_u32(step, last - row);
                span.is_pair = (int)pair;
                kernels->sum(&h->blocks[block], &span, (int)h->s->op.relu, h->sums[block]);
            }
        }
    }
    if (kernels->end != NULL) kernels->end();
    for (uint32_t block = first; block < end; block++) {
        const sqz_block *b = &h->blocks[block];
        int32_t *logits = h->logits + channel_of(h->s, h->first_block + block);
        for (uint32_t k = 0; k < b->channels; k++)
            logits[k] = logit_of(h->sums[block][k], b->multiplier[k], b->shift[k]);
    }
}

static void sum_logits(const sqz_run_state *r, const sqz_plan_op *s, const sqz_block *blocks,
                       uint32_t first, uint32_t count, int32_t *logits) {
    int64_t one[1][SQZ_BLOCK]; /* of a streamed model, which has one block at a time */
    head h = {r, s, blocks, first, count, num_tasks(r), logits, one};
    if (!r->m->options.streamed) h.sums = (int64_t (*)[SQZ_BLOCK])(void *)(r->arena + s->scratch);
    in_parallel(r, sum_part, &h, h.num_tasks);
}

/* ---- Max pool ---- */

static uint8_t larger(uint8_t a, uint8_t b) { return a > b ? a : b; }

/* The largest bytes, of 32 channels from `c` on, at the positions of a window of 3x3. Compilers
 * vectorise it, with all maxima in registers. */
static void max_of_9(const uint8_t *const window[9], uint32_t c, uint8_t max[32]) {
    const uint8_t *p0 = window[0] + c, *p1 = window[1] + c, *p2 = window[2] + c;
    const uint8_t *p3 = window[3] + c, *p4 = window[4] + c, *p5 = window[5] + c;
    const uint8_t *p6 = window[6] + c, *p7 = window[7] + c, *p8 = window[8] + c;
    uint8_t all[32];
    for (unsigned i = 0; i < 32; i++) {
        uint8_t row0 = larger(larger(p0[i], p1[i]), p2[i]);
        uint8_t row1 = larger(larger(p3[i], p4[i]), p5[i]);
        uint8_t row2 = larger(larger(p6[i], p7[i]), p8[i]);
        all[i] = larger(larger(row0, row1), row2);
    }
    memcpy(max, all, sizeof all); /* at the end, since a pool may work in place */
}

/* "q = the largest q of the window, which is cut off at the edges." For `out_columns` positions of
 * a row, whose windows see `num_rows` rows of the source. */
static void pool_row(const uint8_t *const *rows, uint32_t num_rows, uint32_t in_columns,
                     uint32_t pixel, uint32_t kernel, uint32_t stride, uint32_t channels,
                     uint8_t *out, uint32_t out_columns) {
    for (uint32_t x = 0; x < out_columns; x++, out += pixel) {
        uint32_t first = x * stride, end = first + kernel, c = 0;
        if (end > in_columns) end = in_columns;
        if (num_rows == 3 && end - first == 3) {
            const uint8_t *window[9];
            for (uint32_t i = 0; i < 9; i++)
                window[i] = rows[i / 3] + (size_t)(first + i % 3) * pixel;
            for (; c + 32 <= channels; c += 32) max_of_9(window, c, out + c);
        }
        for (; c < channels; c += 32) {
            uint8_t max[32];
            uint32_t count = channels - c < 32 ? channels - c : 32;
            memset(max, 0, sizeof max);
            for (uint32_t y = 0; y < num_rows; y++)
                for (uint32_t k = first; k < end; k++) {
                    const uint8_t *in = rows[y] + (size_t)k * pixel + c;
                    for (unsigned i = 0; i < count; i++) max[i] = larger(max[i], in[i]);
                }
            memcpy(out + c, max, count);
        }
    }
}

/* One row of the target. `row_of` returns row y of the source. */
static void pool_out_row(const sqz_run_state *r, const sqz_operation *op, uint32_t row,
                         uint8_t *(*row_of)(const void *, uint32_t), const void *source) {
    const sqz_tensor *in = &r->m->tensors[op->source], *out = &r->m->tensors[op->target];
    const uint8_t *rows[SQZ_MAX_POOL_KERNEL];
    uint32_t first = row * op->stride, end = first + op->kernel_height;
    if (end > in->height) end = in->height;
    for (uint32_t y = first; y < end; y++) rows[y - first] = row_of(source, y);
    pool_row(rows, end - first, in->width, r->m->places[op->source].pixel, op->kernel_width,
             op->stride, out->channels, sqz_at(r, op->target, row, 0), out->width);
}

/* A source that is in the arena as a whole. */
typedef struct {
    const sqz_run_state *r;
    uint32_t tensor;
} whole_tensor;

static uint8_t *whole_row(const void *source, uint32_t y) {
    const whole_tensor *w = source;
    return sqz_at(w->r, w->tensor, y, 0);
}

void sqz_run_pool(const sqz_run_state *r, const sqz_plan_op *s) {
    whole_tensor source = {r, s->op.source};
    for (uint32_t row = 0; row < r->m->tensors[s->op.target].height; row++)
        pool_out_row(r, &s->op, row, whole_row, &source);
}

/* ---- Convolution within the max pool after it ---- */

typedef struct {
    const sqz_run_state *r;
    const sqz_plan_op *conv, *pool;
    const sqz_block *blocks;
    unsigned num_tasks;
} fused_pool;

/* As many rows of the pool's source as its windows are high. */
typedef struct {
    uint8_t *rows;
    uint32_t count, row_bytes;
} ring;

static uint8_t *ring_row(const void *source, uint32_t y) {
    const ring *g = source;
    return g->rows + (size_t)(y % g->count) * g->row_bytes;
}

/* Task i: its share of the rows of the pool's target. Tasks compute rows that two of them need
 * twice. */
static void fused_part(void *argument, unsigned i) {
    const fused_pool *f = argument;
    const sqz_run_state *r = f->r;
    const sqz_operation *op = &f->pool->op;
    const sqz_tensor *rows = &r->m->tensors[op->source];
    uint32_t height = r->m->tensors[op->target].height;
    ring g = {NULL, op->kernel_height, rows->width * r->m->places[op->source].pixel};
    g.rows = r->arena + f->pool->scratch + (size_t)i * g.count * g.row_bytes;
    uint32_t row = (uint32_t)((uint64_t)height * i / f->num_tasks);
    uint32_t last = (uint32_t)((uint64_t)height * (i + 1) / f->num_tasks);
    uint32_t made = row * op->stride; /* rows of the source before this one have been computed */
    for (; row < last; row++) {
        uint32_t end = row * op->stride + op->kernel_height;
        if (end > rows->height) end = rows->height;
        if (made < row * op->stride) made = row * op->stride;
        for (; made < end; made++) {
            convolution c = {r, f->conv, f->blocks,          0, f->conv->num_blocks, made,
                             1, 1,       ring_row(&g, made), 0};
            convolve_part(&c, 0);
        }
        pool_out_row(r, op, row, ring_row, &g);
    }
}

/* ---- Addition ---- */

/* q = clamp(zero point + ((R1 * (q1 - zero point 1) + R2 * (q2 - zero point 2) + 32768) >> 16),
 * 0, 255) */
void sqz_run_addition(const sqz_run_state *r, const sqz_plan_op *s) {
    const sqz_tensor *shape = &r->m->tensors[s->op.target];
    const sqz_place *a = &r->m->places[s->op.source], *b = &r->m->places[s->op.other];
    /* Copies, which the bytes written below cannot change for all that a compiler knows. */
    const int32_t ratio = s->ratio, other_ratio = s->other_ratio;
    const int32_t zero_point = r->m->places[s->op.target].zero_point;
    const int32_t offset = 32768 - ratio * a->zero_point - other_ratio * b->zero_point;
    const size_t count = (size_t)shape->width * a->pixel;
    for (uint32_t y = 0; y < shape->height; y++) {
        const uint8_t *p = sqz_at(r, s->op.source, y, 0), *q = sqz_at(r, s->op.other, y, 0);
        uint8_t *out = sqz_at(r, s->op.target, y, 0);
        for (size_t k = 0; k < count; k++) {
            int32_t sum = ratio * p[k] + other_ratio * q[k] + offset;
            sum = zero_point + (int32_t)sqz_shift_right(sum, 16);
            out[k] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
        }
    }
}

/* ---- Weights that are loaded or streamed ---- */

/* Unpack `count` blocks from `first` on into the arena, `used` bytes after `scratch`. */
static sqz_error stream(const sqz_run_state *r, const sqz_plan_op *s, uint32_t scratch, size_t used,
                        const sqz_layer *layer, uint32_t first, uint32_t count,
                        sqz_block **blocks) {
    const sqz_model *m = r->m;
    size_t start = sqz_round_up(scratch + used, SQZ_ALIGNMENT);
    sqz_blocks_in(&m->options, s, count, r->arena + start, blocks);
    return sqz_unpack(m, (sqz_decoder *)(void *)(r->arena + m->decoder), s, layer,
                      (int8_t *)r->arena + m->levels, *blocks, first, count);
}

static sqz_error run_fused(const sqz_run_state *r, const sqz_plan_op *s, const sqz_layer *layer) {
    const sqz_model *m = r->m;
    const sqz_plan_op *pool = s + 1;
    sqz_block *blocks = s->blocks;
    if (m->options.streamed) {
        size_t rings = (size_t)(m->options.threads ? m->options.threads : 1) *
                       pool->op.kernel_height * m->tensors[s->op.target].width *
                       m->places[s->op.target].pixel;
        sqz_error error = stream(r, s, pool->scratch, rings, layer, 0, s->num_blocks, &blocks);
        if (error) return error;
    }
    fused_pool f = {r, s, pool, blocks, num_tasks(r)};
    in_parallel(r, fused_part, &f, f.num_tasks);
    return SQZ_OK;
}

sqz_error sqz_run_convolution(const sqz_run_state *r, const sqz_plan_op *s, int32_t *logits) {
    const sqz_model *m = r->m;
    sqz_layer layer;
    sqz_block *blocks = s->blocks;
    sqz_error error = SQZ_OK;
    if (m->options.streamed)
        error = sqz_decode_layer((sqz_decoder *)(void *)(r->arena + m->decoder), &s->op, &layer);
    if (error) return error;
    if (s->is_fused) return run_fused(r, s, &layer);
    uint32_t count = m->options.streamed ? 1 : s->num_blocks;
    for (uint32_t first = 0; first < s->num_blocks; first += count) {
        if (m->options.streamed) {
            error = stream(r, s, s->scratch, 0, &layer, first, 1, &blocks);
            if (error) return error;
        }
        if (s->is_head) sum_logits(r, s, blocks, first, count, logits);
        else convolve(r, s, blocks, first, count);
    }
    return SQZ_OK;
}
