/* Contexts: one image after another through a loaded model. */
#include <string.h>

#include "sqz_runtime.h"

/* ---- Borders and the input ---- */

/* Fill the border of a tensor with its zero point. `zero_points` has one for all channels, or one
 * for each. */
static void fill_border(const sqz_run_state *r, uint32_t tensor, const uint8_t *zero_points,
                        unsigned channels) {
    const sqz_place *p = &r->m->places[tensor];
    const sqz_tensor *shape = &r->m->tensors[tensor];
    if (!p->border) return;
    uint8_t *row = r->arena + p->offset;
    uint32_t rows = shape->height + 2 * p->border, columns = shape->width + 2 * p->border;
    for (uint32_t y = 0; y < rows; y++, row += p->row) {
        int inner = y >= p->border && y < p->border + shape->height;
        for (uint32_t x = 0; x < columns; x++) {
            if (inner && x == p->border) x += shape->width;
            if (channels == 1) memset(row + (size_t)x * p->pixel, zero_points[0], p->pixel);
            else memcpy(row + (size_t)x * p->pixel, zero_points, channels);
        }
    }
}

/* Writes pixels into the input, one row at a time. */
typedef struct {
    const sqz_run_state *r;
    sqz_input_quant quant;
} input_writer;

static input_writer begin_input(const sqz_run_state *r) {
    input_writer w;
    w.r = r;
    sqz_input_quant_of(&r->m->file.input, &w.quant);
    fill_border(r, 0, w.quant.padding, r->m->tensors[0].channels);
    return w;
}

/* spec/INTEGER.md, "Tensors": q = (pixel * A + 32768) >> 16 */
static void write_row(void *taker, uint32_t y, const uint8_t *row) {
    const input_writer *w = taker;
    const sqz_tensor *shape = &w->r->m->tensors[0];
    uint8_t *out = sqz_at(w->r, 0, y, 0);
    const uint32_t *a = w->quant.multiplier;
    const sqz_kernels *kernels = w->r->m->options.kernels;
    if (shape->channels == 3 && kernels->write_pixels != NULL) {
        kernels->write_pixels(a, row, shape->width, out);
    } else if (shape->channels == 3) { /* written out, compilers vectorise it */
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

/* ---- All operations ---- */

static sqz_error run_operation(const sqz_run_state *r, uint32_t i, int32_t *logits) {
    const sqz_plan_op *s = &r->m->steps[i];
    const sqz_place *target = &r->m->places[s->op.target];
    /* The convolution that writes the first channels fills the border for the others too. */
    if (target->offset != SQZ_NOWHERE && (s->op.kind != SQZ_CONVOLUTION || s->op.target_start == 0))
        fill_border(r, s->op.target, &target->zero_point, 1);
    if (s->op.kind == SQZ_CONVOLUTION) return sqz_run_convolution(r, s, logits);
    if (s->op.kind == SQZ_ADD) sqz_run_addition(r, s);
    else if (i == 0 || !s[-1].is_fused) sqz_run_pool(r, s);
    return SQZ_OK;
}

/* The last operation, the global average pool, is part of the head. */
static sqz_error run_all(const sqz_run_state *r, int32_t *logits) {
    const sqz_model *m = r->m;
    sqz_decoder *decoder = (sqz_decoder *)(void *)(r->arena + m->decoder);
    sqz_error error = SQZ_OK;
    if (m->options.streamed) error = sqz_decode_begin(decoder, &m->file);
    for (uint32_t i = 0; !error && i + 1 < m->num_steps; i++) error = run_operation(r, i, logits);
    if (!error && m->options.streamed) error = sqz_decode_end(decoder);
    return error;
}

/* ---- Contexts ---- */

/* Take the context for this thread; 0 if another has it. Processors without atomics have no
 * threads either. */
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
    uintptr_t misfit = (uintptr_t)arena % SQZ_ALIGNMENT;
    context->model = model;
    context->arena = (uint8_t *)arena + (misfit ? SQZ_ALIGNMENT - misfit : 0);
    context->arena_size = size;
    return SQZ_OK;
}

sqz_error sqz_run(sqz_context *context, const uint8_t *pixels, int32_t *logits, size_t num_logits) {
    if (context == NULL || context->model == NULL || pixels == NULL || logits == NULL ||
        num_logits < context->model->num_classes)
        return SQZ_WRONG_USE;
    if (!take(context)) return SQZ_BUSY;
    sqz_run_state r = {context, context->model, context->arena};
    input_writer input = begin_input(&r);
    const sqz_tensor *shape = &context->model->tensors[0];
    for (uint32_t y = 0; y < shape->height; y++)
        write_row(&input, y, pixels + (size_t)y * shape->width * shape->channels);
    sqz_error error = run_all(&r, logits);
    leave(context);
    return error;
}

/* ---- Pictures ---- */

/* Offset of the scratch for resizing: after the input, since nothing else is held yet. */
static size_t crop_scratch_offset(const sqz_model *model) {
    return sqz_round_up(model->places[0].offset + (size_t)model->places[0].bytes, SQZ_ALIGNMENT);
}

size_t sqz_classify_size(const sqz_model *model, const sqz_image *image) {
    if (model == NULL || model->steps == NULL) return 0;
    size_t scratch = sqz_crop_scratch(&model->file, image), arena = sqz_arena_size(model);
    if (!scratch) return 0;
    scratch += SQZ_ALIGNMENT;
    if (crop_scratch_offset(model) > SIZE_MAX - scratch) return 0; /* with 32-bit addresses */
    size_t size = crop_scratch_offset(model) + scratch;
    return size > arena ? size : arena;
}

sqz_error sqz_classify(sqz_context *context, const sqz_image *image, sqz_answer *answers,
                       size_t count) {
    if (context == NULL || context->model == NULL || image == NULL || answers == NULL || !count ||
        count > context->model->num_classes)
        return SQZ_WRONG_USE;
    const sqz_model *m = context->model;
    size_t needed = sqz_classify_size(m, image);
    if (needed == 0) /* sqz_crop_rows returns the reason */
        return sqz_crop_rows(&m->file, image, NULL, 0, NULL, NULL);
    if (context->arena_size < needed) return SQZ_WRONG_USE;
    if (!take(context)) return SQZ_BUSY;
    sqz_run_state r = {context, m, context->arena};
    input_writer input = begin_input(&r);
    int32_t *logits = (int32_t *)(void *)(r.arena + m->logits);
    sqz_error error = sqz_crop_rows(&m->file, image, r.arena + crop_scratch_offset(m),
                                    sqz_crop_scratch(&m->file, image), write_row, &input);
    if (!error) error = run_all(&r, logits);
    if (!error) sqz_rank(logits, m->num_classes, answers, count);
    leave(context);
    return error;
}
