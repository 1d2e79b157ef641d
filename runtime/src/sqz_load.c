/* From a file to a model that is ready to run, in the caller's memory. */
#include <string.h>

#include "sqz_reader.h"
#include "sqz_runtime.h"

/* ---- The caller's memory ---- */

/* Hands out the caller's memory piece by piece. If memory is NULL, it only counts. */
typedef struct {
    uint8_t *memory;
    size_t size, used;
} bump_allocator;

static void *allocate(bump_allocator *a, size_t count, size_t bytes) {
    size_t start = sqz_round_up(a->used, SQZ_ALIGNMENT);
    a->used = start + count * bytes; /* far below 2^32 by the limits of the format */
    return a->memory == NULL || a->used > a->size ? NULL : a->memory + start;
}

/* What loading needs besides the model itself. */
typedef struct {
    sqz_operation *operations;
    sqz_decoder *decoder;
    int8_t *levels; /* of one output channel */
} load_scratch;

static void allocate_tables(sqz_model *m, bump_allocator *a, load_scratch *scratch) {
    m->tensors = allocate(a, m->num_tensors, sizeof *m->tensors);
    m->places = allocate(a, m->num_tensors, sizeof *m->places);
    m->steps = allocate(a, m->num_steps, sizeof *m->steps);
    scratch->operations = allocate(a, m->num_steps, sizeof *scratch->operations);
    scratch->decoder = NULL;
    scratch->levels = NULL;
    if (m->options.streamed) return;
    scratch->decoder = allocate(a, 1, sizeof *scratch->decoder);
    scratch->levels = allocate(a, m->file.largest_channel, 1);
}

static void allocate_blocks(sqz_plan_op *s, const sqz_options *options, bump_allocator *a) {
    size_t bytes = (size_t)sqz_blocks_in(options, s, s->num_blocks, NULL, NULL);
    uint8_t *memory = allocate(a, bytes, 1);
    if (memory != NULL) sqz_blocks_in(options, s, s->num_blocks, memory, &s->blocks);
}

/* ---- How much memory ---- */

/* Whether kernels are NULL, the fastest, or among those that run here. */
static int can_run(const sqz_kernels *kernels) {
    const sqz_kernels *each = NULL;
    if (kernels != NULL && kernels == sqz_kernels_amx()) return 1;
    for (unsigned n = 0; kernels != NULL && each != kernels; n++)
        if ((each = sqz_kernels_here(n)) == NULL) return 0;
    return 1;
}

static sqz_error begin(sqz_model *m, const sqz_file *file, const sqz_options *options) {
    if (file->weights.bytes == NULL || options->threads > SQZ_MAX_THREADS ||
        !can_run(options->kernels))
        return SQZ_WRONG_USE;
    if (file->activations.bytes == NULL) return SQZ_FLOAT_ONLY;
    /* This bounds it, as the number of weights is bounded; sqz_read_graph checks it later. */
    if (file->largest_channel > file->num_weights) return SQZ_MALFORMED;
    memset(m, 0, sizeof *m);
    m->file = *file;
    m->options = *options;
    if (m->options.kernels == NULL) m->options.kernels = sqz_kernels_here(0);
    m->num_tensors = file->num_tensors;
    m->num_steps = file->num_operations;
    if (m->num_tensors > SQZ_MAX_STEPS || m->num_steps > SQZ_MAX_STEPS) return SQZ_LIMIT;
    return SQZ_OK;
}

/* A cursor on the channels of a tensor of GRAPH, or, after the last tensor, on the number of
 * operations. There is no memory yet to keep the tensors in. */
static sqz_cursor tensor_cursor(sqz_bytes graph, uint32_t tensor) {
    sqz_cursor c = {graph.bytes, graph.bytes + graph.size, 0};
    sqz_count(&c);
    for (uint32_t i = 0; i < 3 * tensor; i++) sqz_count(&c);
    return c;
}

/* How many counts follow the code of an operation: spec/FORMAT.md, "GRAPH". */
static const uint8_t num_counts[] = {0, 10, 4, 3, 2, 3};

/* Add the memory of a convolution, of which only the counts are known. */
static sqz_error measure_convolution(const sqz_model *m, const uint32_t counts[10],
                                     bump_allocator *a) {
    sqz_plan_op s;
    memset(&s, 0, sizeof s);
    s.op.out_channels = counts[3];
    s.op.kernel_height = counts[4];
    s.op.kernel_width = counts[5];
    s.op.groups = counts[8];
    if (counts[0] >= m->num_tensors || !s.op.groups) return SQZ_MALFORMED;
    sqz_cursor source = tensor_cursor(m->file.graph, counts[0]);
    s.op.inputs = sqz_count(&source) / s.op.groups;
    uint64_t weights = (uint64_t)s.op.kernel_height * s.op.kernel_width;
    if (weights > SQZ_MAX_WEIGHTS || weights * s.op.inputs > SQZ_MAX_WEIGHTS ||
        weights * s.op.inputs * s.op.out_channels > SQZ_MAX_WEIGHTS)
        return SQZ_LIMIT;
    sqz_divide(&s);
    /* Blocks and groups of inputs are filled up: at most 64 times the weights. */
    if ((uint64_t)s.num_blocks * s.num_groups > SQZ_MAX_WEIGHTS) return SQZ_LIMIT;
    if (m->options.streamed) return SQZ_OK;
    if (sqz_blocks_in(&m->options, &s, s.num_blocks, NULL, NULL) > SIZE_MAX / 4) return SQZ_LIMIT;
    allocate_blocks(&s, &m->options, a);
    return a->used > SIZE_MAX / 4 ? SQZ_LIMIT : SQZ_OK;
}

/* Compute the bytes of a model, or why it cannot be. */
static sqz_error measure_model(const sqz_file *file, const sqz_options *options, size_t *size) {
    sqz_model m;
    load_scratch scratch;
    bump_allocator a = {NULL, 0, 0};
    sqz_error error = begin(&m, file, options);
    if (error) return error;
    allocate_tables(&m, &a, &scratch);
    sqz_cursor c = tensor_cursor(file->graph, m.num_tensors);
    sqz_count(&c);
    for (uint32_t i = 0; i < m.num_steps && !c.failed; i++) {
        uint32_t counts[10], kind = sqz_count(&c);
        if (kind < SQZ_CONVOLUTION || kind > SQZ_RESPONSE_NORM) return SQZ_MALFORMED;
        for (uint32_t k = 0; k < num_counts[kind]; k++) counts[k] = sqz_count(&c);
        if (kind != SQZ_CONVOLUTION || c.failed) continue;
        error = measure_convolution(&m, counts, &a);
        if (error) return error;
    }
    *size = a.used + SQZ_ALIGNMENT;
    return c.failed ? SQZ_MALFORMED : SQZ_OK;
}

size_t sqz_model_size(const sqz_file *file, const sqz_options *options) {
    size_t size;
    return file == NULL || options == NULL || measure_model(file, options, &size) ? 0 : size;
}

/* ---- Loading ---- */

static sqz_error unpack_all(sqz_model *m, sqz_decoder *decoder, int8_t *levels) {
    sqz_layer layer;
    sqz_error error = sqz_decode_begin(decoder, &m->file);
    for (uint32_t i = 0; !error && i < m->num_steps; i++) {
        const sqz_plan_op *s = &m->steps[i];
        if (s->op.kind != SQZ_CONVOLUTION) continue;
        error = sqz_decode_layer(decoder, &s->op, &layer);
        if (!error) error = sqz_unpack(m, decoder, s, &layer, levels, s->blocks, 0, s->num_blocks);
    }
    return error ? error : sqz_decode_end(decoder);
}

static sqz_error load(sqz_model *m, const sqz_file *file, const sqz_options *options, void *memory,
                      size_t size) {
    load_scratch scratch;
    size_t needed;
    sqz_error error = measure_model(file, options, &needed);
    if (!error && size < needed) error = SQZ_WRONG_USE;
    if (!error) error = begin(m, file, options);
    if (error) return error;
    uintptr_t misfit = (uintptr_t)memory % SQZ_ALIGNMENT;
    bump_allocator a = {(uint8_t *)memory + (misfit ? SQZ_ALIGNMENT - misfit : 0), size, 0};
    allocate_tables(m, &a, &scratch);
    error = sqz_plan(m, scratch.operations);
    if (!error) error = sqz_lay_out(m);
    if (error || options->streamed) return error;
    for (uint32_t i = 0; i < m->num_steps; i++)
        if (m->steps[i].op.kind == SQZ_CONVOLUTION) allocate_blocks(&m->steps[i], &m->options, &a);
    return unpack_all(m, scratch.decoder, scratch.levels);
}

sqz_error sqz_load(sqz_model *m, const sqz_file *file, const sqz_options *options, void *memory,
                   size_t size) {
    if (m == NULL) return SQZ_WRONG_USE;
    sqz_error error = file == NULL || options == NULL || memory == NULL
                          ? SQZ_WRONG_USE
                          : load(m, file, options, memory, size);
    if (error) memset(m, 0, sizeof *m); /* half a model must not run */
    return error;
}

size_t sqz_arena_size(const sqz_model *m) {
    return m == NULL || m->steps == NULL ? 0 : m->arena + SQZ_ALIGNMENT;
}
