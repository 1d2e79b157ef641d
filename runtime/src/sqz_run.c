/* One image through a loaded model. Each operation is cut into tasks, one a thread. */
#include <string.h>

#include "sqz_runtime.h"

#define ALIGNMENT 64

typedef struct {
    sqz_context *context;
    const sqz_model *m;
    uint8_t *arena;
} run;

/* Where position (row, column) of a tensor lies; either may be in the border. */
static uint8_t *at(const run *r, uint32_t tensor, int64_t row, int64_t column) {
    const sqz_place *p = &r->m->places[tensor];
    return r->arena + p->offset + (row + p->border) * p->row + (column + p->border) * p->pixel;
}

static unsigned tasks_of(const run *r) {
    return r->context->parallel == NULL || !r->m->options.threads ? 1 : r->m->options.threads;
}

static void in_parallel(const run *r, void (*task)(void *, unsigned), void *argument,
                        unsigned count) {
    if (r->context->parallel != NULL && count > 1) {
        r->context->parallel(r->context->user, task, argument, count);
        return;
    }
    for (unsigned i = 0; i < count; i++) task(argument, i);
}

/* Make the border of a tensor stand for 0. */
static void fill_border(const run *r, uint32_t tensor, const uint8_t *zeros, unsigned channels) {
    const sqz_place *p = &r->m->places[tensor];
    const sqz_tensor *shape = &r->m->tensors[tensor];
    if (!p->border) return;
    uint8_t *row = r->arena + p->offset;
    uint32_t rows = shape->height + 2 * p->border, columns = shape->width + 2 * p->border;
    for (uint32_t y = 0; y < rows; y++, row += p->row) {
        int inner = y >= p->border && y < p->border + shape->height;
        for (uint32_t x = 0; x < columns; x++) {
            if (inner && x == p->border) x += shape->width;
            if (channels == 1) memset(row + (size_t)x * p->pixel, zeros[0], p->pixel);
            else memcpy(row + (size_t)x * p->pixel, zeros, channels);
        }
    }
}

/* Pixels become the input, a row at a time. */
typedef struct {
    const run *r;
    sqz_entry entry;
} reader;

static reader begin_reading(const run *r) {
    reader in;
    in.r = r;
    sqz_entry_of(&r->m->file.input, &in.entry);
    fill_border(r, 0, in.entry.padding, r->m->tensors[0].channels);
    return in;
}

static void read_row(void *taker, uint32_t y, const uint8_t *row) {
    const reader *in = taker;
    const sqz_tensor *shape = &in->r->m->tensors[0];
    uint8_t *out = at(in->r, 0, y, 0);
    const uint32_t *a = in->entry.multiplier;
    if (shape->channels == 3) { /* written out, compilers vectorise it */
        for (uint32_t x = 0; x < shape->width; x++, out += SQZ_GROUP, row += 3) {
            out[0] = (uint8_t)((row[0] * a[0] + 32768) >> 16);
            out[1] = (uint8_t)((row[1] * a[1] + 32768) >> 16);
            out[2] = (uint8_t)((row[2] * a[2] + 32768) >> 16);
        }
    } else {
        for (uint32_t x = 0; x < shape->width; x++, out += SQZ_GROUP)
            out[0] = (uint8_t)((row[x] * a[0] + 32768) >> 16);
    }
}

/* Some blocks of a convolution; its rows are written from `out` on. */
typedef struct {
    const run *r;
    const sqz_step *s;
    const sqz_block *blocks;
    uint32_t first_block, num_blocks; /* of the step's */
    uint32_t first_row, num_rows;     /* of the target's */
    unsigned num_tasks;
    uint8_t *out; /* channel 0 of the first row's first position */
    uint32_t out_row;
} convolution;

/* Output channel that a block begins with. */
static uint32_t channel_of(const sqz_step *s, uint32_t block) {
    uint32_t group = block / s->blocks_a_group;
    return group * (s->op.out_channels / s->op.groups) + block % s->blocks_a_group * SQZ_BLOCK;
}

static sqz_span row_span(const run *r, const sqz_step *s, uint32_t row) {
    int64_t padding = s->op.padding;
    sqz_span span;
    span.in = at(r, s->op.source, (int64_t)row * s->op.stride - padding, -padding);
    span.in_step = (size_t)s->op.stride * r->m->places[s->op.source].pixel;
    span.out = NULL;
    span.out_step = r->m->places[s->op.target].pixel;
    span.count = r->m->tensors[s->op.target].width;
    return span;
}

/* Task i: its share of all rows of all blocks. */
static void convolve_part(void *argument, unsigned i) {
    const convolution *c = argument;
    uint64_t units = (uint64_t)c->num_blocks * c->num_rows;
    uint64_t unit = units * i / c->num_tasks, end = units * (i + 1) / c->num_tasks;
    const sqz_kernels *kernels = c->r->m->options.kernels;
    for (; unit < end; unit++) {
        uint32_t block = (uint32_t)(unit / c->num_rows), row = (uint32_t)(unit % c->num_rows);
        sqz_span span = row_span(c->r, c->s, c->first_row + row);
        span.out = c->out + (size_t)row * c->out_row + c->s->op.target_start +
                   channel_of(c->s, c->first_block + block);
        kernels->convolve(&c->blocks[block], &span);
    }
}

static void convolve(const run *r, const sqz_step *s, const sqz_block *blocks, uint32_t first,
                     uint32_t count) {
    convolution c = {r, s, blocks, first, count, 0, r->m->tensors[s->op.target].height,
                     tasks_of(r), at(r, s->op.target, 0, 0), r->m->places[s->op.target].row};
    in_parallel(r, convolve_part, &c, c.num_tasks);
}

/* The head. */
typedef struct {
    const run *r;
    const sqz_step *s;
    const sqz_block *blocks;
    uint32_t first_block, num_blocks;
    unsigned num_tasks;
    int32_t *logits;
} head;

static int32_t logit_of(int64_t sum, int16_t multiplier, int32_t shift) {
    int64_t half = ((int64_t)1 << shift) >> 1;
    int64_t logit = sqz_shift_right(sum * multiplier + half, (unsigned)shift);
    return (int32_t)(logit < INT32_MIN ? INT32_MIN : logit > INT32_MAX ? INT32_MAX : logit);
}

static void sum_part(void *argument, unsigned i) {
    const head *h = argument;
    const run *r = h->r;
    uint32_t block = (uint32_t)((uint64_t)h->num_blocks * i / h->num_tasks);
    uint32_t end = (uint32_t)((uint64_t)h->num_blocks * (i + 1) / h->num_tasks);
    for (; block < end; block++) {
        const sqz_block *b = &h->blocks[block];
        int64_t sums[SQZ_BLOCK] = {0};
        for (uint32_t row = 0; row < r->m->tensors[h->s->op.target].height; row++) {
            sqz_span span = row_span(r, h->s, row);
            r->m->options.kernels->sum(b, &span, (int)h->s->op.relu, sums);
        }
        int32_t *logits = h->logits + channel_of(h->s, h->first_block + block);
        for (uint32_t k = 0; k < b->channels; k++)
            logits[k] = logit_of(sums[k], b->multiplier[k], b->shift[k]);
    }
}

static void sum_logits(const run *r, const sqz_step *s, const sqz_block *blocks, uint32_t first,
                       uint32_t count, int32_t *logits) {
    head h = {r, s, blocks, first, count, tasks_of(r), logits};
    in_parallel(r, sum_part, &h, h.num_tasks);
}

/* The largest of the windows that `out` positions of a row see in `rows` rows of a tensor. */
static void pool_row(const uint8_t *const *rows, uint32_t num_rows, uint32_t in_columns,
                     uint32_t pixel, uint32_t kernel, uint32_t stride, uint32_t channels,
                     uint8_t *out, uint32_t out_columns) {
    for (uint32_t x = 0; x < out_columns; x++, out += pixel) {
        uint32_t first = x * stride, end = first + kernel;
        if (end > in_columns) end = in_columns;
        for (uint32_t c = 0; c < channels; c += 32) {
            uint8_t most[32];
            uint32_t count = channels - c < 32 ? channels - c : 32;
            memset(most, 0, sizeof most);
            for (uint32_t y = 0; y < num_rows; y++)
                for (uint32_t k = first; k < end; k++) {
                    const uint8_t *in = rows[y] + (size_t)k * pixel + c;
                    if (count == 32) {
                        for (unsigned i = 0; i < 32; i++)
                            most[i] = in[i] > most[i] ? in[i] : most[i];
                    } else {
                        for (unsigned i = 0; i < count; i++)
                            most[i] = in[i] > most[i] ? in[i] : most[i];
                    }
                }
            memcpy(out + c, most, count);
        }
    }
}

/* `rows_of` gives row y of the source. */
static void pool_out_row(const run *r, const sqz_operation *op, uint32_t row,
                         uint8_t *(*row_of)(const void *, uint32_t), const void *source) {
    const sqz_tensor *in = &r->m->tensors[op->source], *out = &r->m->tensors[op->target];
    const uint8_t *rows[SQZ_MOST_POOLED];
    uint32_t first = row * op->stride, end = first + op->kernel_height;
    if (end > in->height) end = in->height;
    for (uint32_t y = first; y < end; y++) rows[y - first] = row_of(source, y);
    pool_row(rows, end - first, in->width, r->m->places[op->source].pixel, op->kernel_width,
             op->stride, out->channels, at(r, op->target, row, 0), out->width);
}

typedef struct {
    const run *r;
    uint32_t tensor;
} whole;

static uint8_t *whole_row(const void *source, uint32_t y) {
    const whole *w = source;
    return at(w->r, w->tensor, y, 0);
}

static void pool(const run *r, const sqz_operation *op) {
    whole source = {r, op->source};
    for (uint32_t row = 0; row < r->m->tensors[op->target].height; row++)
        pool_out_row(r, op, row, whole_row, &source);
}

/* A convolution within its pool: a ring of as many rows as a window has. */
typedef struct {
    const run *r;
    const sqz_step *conv, *pool;
    const sqz_block *blocks;
    unsigned num_tasks;
} fused;

typedef struct {
    uint8_t *rows;
    uint32_t count, row_bytes;
} ring;

static uint8_t *ring_row(const void *source, uint32_t y) {
    const ring *g = source;
    return g->rows + (size_t)(y % g->count) * g->row_bytes;
}

static void fused_part(void *argument, unsigned i) {
    const fused *f = argument;
    const run *r = f->r;
    const sqz_operation *op = &f->pool->op;
    const sqz_tensor *rows = &r->m->tensors[op->source];
    uint32_t height = r->m->tensors[op->target].height;
    ring g = {NULL, op->kernel_height, rows->width * r->m->places[op->source].pixel};
    g.rows = r->arena + f->pool->scratch + (size_t)i * g.count * g.row_bytes;
    uint32_t row = (uint32_t)((uint64_t)height * i / f->num_tasks);
    uint32_t last = (uint32_t)((uint64_t)height * (i + 1) / f->num_tasks);
    uint32_t made = row * op->stride;
    for (; row < last; row++) {
        uint32_t end = row * op->stride + op->kernel_height;
        if (end > rows->height) end = rows->height;
        if (made < row * op->stride) made = row * op->stride;
        for (; made < end; made++) {
            convolution c = {r, f->conv, f->blocks, 0, f->conv->num_blocks, made, 1, 1,
                             ring_row(&g, made), 0};
            convolve_part(&c, 0);
        }
        pool_out_row(r, op, row, ring_row, &g);
    }
}

static void add(const run *r, const sqz_step *s) {
    const sqz_tensor *shape = &r->m->tensors[s->op.target];
    const sqz_place *a = &r->m->places[s->op.source], *b = &r->m->places[s->op.other];
    int32_t zero = r->m->places[s->op.target].zero;
    int32_t offset = 32768 - s->ratio * a->zero - s->other_ratio * b->zero;
    for (uint32_t y = 0; y < shape->height; y++) {
        const uint8_t *p = at(r, s->op.source, y, 0), *q = at(r, s->op.other, y, 0);
        uint8_t *out = at(r, s->op.target, y, 0);
        for (size_t k = 0; k < (size_t)shape->width * a->pixel; k++) {
            int32_t sum = s->ratio * p[k] + s->other_ratio * q[k] + offset;
            sum = zero + (int32_t)sqz_shift_right(sum, 16);
            out[k] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
        }
    }
}

/* Unpack `count` blocks from `first` on into scratch. */
static sqz_error stream(const run *r, const sqz_step *s, uint32_t scratch, size_t used,
                        const sqz_layer *layer, uint32_t first, uint32_t count,
                        sqz_block **blocks) {
    const sqz_model *m = r->m;
    size_t start = sqz_round_up(scratch + used, ALIGNMENT);
    sqz_give_room(&m->options, s, count, r->arena + start, blocks);
    return sqz_unpack(m, (sqz_decoder *)(void *)(r->arena + m->decoder), s, layer,
                      (int8_t *)r->arena + m->levels, *blocks, first, count);
}

static sqz_error run_convolution(const run *r, const sqz_step *s, int32_t *logits) {
    const sqz_model *m = r->m;
    const sqz_step *whole_pool = s + 1;
    sqz_decoder *decoder = (sqz_decoder *)(void *)(r->arena + m->decoder);
    sqz_layer layer;
    sqz_block *blocks = s->blocks;
    sqz_error error = SQZ_OK;
    if (m->options.streamed) error = sqz_decode_layer(decoder, &s->op, &layer);
    if (error) return error;
    if (s->is_fused) {
        fused f = {r, s, whole_pool, blocks, tasks_of(r)};
        if (m->options.streamed) {
            size_t used = (size_t)(m->options.threads ? m->options.threads : 1) *
                          whole_pool->op.kernel_height * m->tensors[s->op.target].width *
                          m->places[s->op.target].pixel;
            error = stream(r, s, whole_pool->scratch, used, &layer, 0, s->num_blocks, &blocks);
            if (error) return error;
            f.blocks = blocks;
        }
        in_parallel(r, fused_part, &f, f.num_tasks);
        return SQZ_OK;
    }
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

static sqz_error run_all(const run *r, int32_t *logits) {
    const sqz_model *m = r->m;
    sqz_error error = SQZ_OK;
    if (m->options.streamed)
        error = sqz_decode_begin((sqz_decoder *)(void *)(r->arena + m->decoder), &m->file);
    for (uint32_t i = 0; !error && i + 1 < m->num_steps; i++) {
        const sqz_step *s = &m->steps[i];
        uint32_t target = s->op.target;
        /* The border is made with the first channels; the second expand finds it there. */
        if (m->places[target].offset != SQZ_NOWHERE &&
            (s->op.kind != SQZ_CONVOLUTION || s->op.target_start == 0))
            fill_border(r, target, &m->places[target].zero, 1);
        if (s->op.kind == SQZ_CONVOLUTION) error = run_convolution(r, s, logits);
        else if (s->op.kind == SQZ_ADD) add(r, s);
        else if (i == 0 || !s[-1].is_fused) pool(r, &s->op);
    }
    if (!error && m->options.streamed)
        error = sqz_decode_end((sqz_decoder *)(void *)(r->arena + m->decoder));
    return error;
}

/* One thread at a time may have a context. Processors without atomics have no threads either. */
static int take(sqz_context *context) {
#if defined(__GCC_ATOMIC_INT_LOCK_FREE) && __GCC_ATOMIC_INT_LOCK_FREE == 2
    return !__atomic_exchange_n(&context->busy, 1, __ATOMIC_ACQUIRE);
#else
    int busy = context->busy;
    context->busy = 1;
    return !busy;
#endif
}

static void leave(sqz_context *context) {
#if defined(__GCC_ATOMIC_INT_LOCK_FREE) && __GCC_ATOMIC_INT_LOCK_FREE == 2
    __atomic_store_n(&context->busy, 0, __ATOMIC_RELEASE);
#else
    context->busy = 0;
#endif
}

sqz_error sqz_start(sqz_context *context, const sqz_model *model, void *arena, size_t size) {
    if (context == NULL) return SQZ_WRONG_USE;
    memset(context, 0, sizeof *context); /* without a model nothing runs */
    if (model == NULL || model->steps == NULL || arena == NULL || size < sqz_arena_size(model))
        return SQZ_WRONG_USE;
    uintptr_t misfit = (uintptr_t)arena % ALIGNMENT;
    context->model = model;
    context->arena = (uint8_t *)arena + (misfit ? ALIGNMENT - misfit : 0);
    context->arena_size = size;
    return SQZ_OK;
}

sqz_error sqz_run(sqz_context *context, const uint8_t *pixels, int32_t *logits,
                  size_t num_logits) {
    if (context == NULL || context->model == NULL || pixels == NULL || logits == NULL ||
        num_logits < context->model->num_classes)
        return SQZ_WRONG_USE;
    if (!take(context)) return SQZ_BUSY;
    run r = {context, context->model, context->arena};
    reader in = begin_reading(&r);
    const sqz_tensor *shape = &context->model->tensors[0];
    for (uint32_t y = 0; y < shape->height; y++)
        read_row(&in, y, pixels + (size_t)y * shape->width * shape->channels);
    sqz_error error = run_all(&r, logits);
    leave(context);
    return error;
}

/* Behind the input there is room to resize the picture, as nothing else is held yet. */
static size_t behind_input(const sqz_model *model) {
    return sqz_round_up(model->places[0].offset + (size_t)model->places[0].bytes, ALIGNMENT);
}

size_t sqz_classify_size(const sqz_model *model, const sqz_image *image) {
    if (model == NULL || model->steps == NULL) return 0;
    size_t scratch = sqz_crop_scratch(&model->file, image), arena = sqz_arena_size(model);
    if (!scratch) return 0;
    scratch += ALIGNMENT;
    if (behind_input(model) > SIZE_MAX - scratch) return 0; /* where addresses have 32 bits */
    size_t size = behind_input(model) + scratch;
    return size > arena ? size : arena;
}

sqz_error sqz_classify(sqz_context *context, const sqz_image *image, sqz_answer *answers,
                       size_t count) {
    if (context == NULL || context->model == NULL || image == NULL || answers == NULL || !count ||
        count > context->model->num_classes)
        return SQZ_WRONG_USE;
    const sqz_model *m = context->model;
    size_t needed = sqz_classify_size(m, image);
    if (needed == 0) return sqz_crop_rows(&m->file, image, NULL, 0, NULL, NULL); /* says why */
    if (context->arena_size < needed) return SQZ_WRONG_USE;
    if (!take(context)) return SQZ_BUSY;
    run r = {context, m, context->arena};
    reader in = begin_reading(&r);
    int32_t *logits = (int32_t *)(void *)(r.arena + m->logits);
    sqz_error error = sqz_crop_rows(&m->file, image, r.arena + behind_input(m),
                                    sqz_crop_scratch(&m->file, image), read_row, &in);
    if (!error) error = run_all(&r, logits);
    if (!error) sqz_rank(logits, m->num_classes, answers, count);
    leave(context);
    return error;
}
