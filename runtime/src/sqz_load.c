/* From a file to a model that runs: the graph, the plan of the arena, and the weights in blocks. */
#include <string.h>

#include "sqz_runtime.h"
#include "sqz_reader.h"

#define ALIGNMENT 64
#define BLOCK_BYTES (SQZ_BLOCK * SQZ_GROUP) /* of weights, for each group of inputs */

/* Takes pieces of the caller's memory; with memory NULL only counts. */
typedef struct {
    uint8_t *memory;
    size_t size, used;
} allotment;

static void *allot(allotment *a, size_t count, size_t bytes) {
    size_t start = sqz_round_up(a->used, ALIGNMENT);
    a->used = start + count * bytes; /* far below 2^32 by the limits of the format */
    return a->memory == NULL || a->used > a->size ? NULL : a->memory + start;
}

static uint32_t num_threads(const sqz_options *options) {
    return options->threads ? options->threads : 1;
}

/* In how many blocks and groups a convolution is worked out. */
static void divide(sqz_step *s) {
    uint32_t outputs = s->op.out_channels / s->op.groups;
    s->blocks_a_group = (outputs + SQZ_BLOCK - 1) / SQZ_BLOCK;
    s->num_blocks = s->blocks_a_group * s->op.groups;
    s->num_groups = s->op.kernel_height * s->op.kernel_width *
                    ((s->op.inputs + SQZ_GROUP - 1) / SQZ_GROUP);
}

/* The steps of the graph, without weights or places. */
static sqz_error read_steps(sqz_model *m, sqz_operation *operations) {
    sqz_error error = sqz_read_graph(&m->file, m->tensors, m->num_tensors, operations,
                                     m->num_steps);
    uint32_t weight_index = 0;
    for (uint32_t i = 0; !error && i < m->num_steps; i++) {
        sqz_step *s = &m->steps[i];
        memset(s, 0, sizeof *s);
        s->op = operations[i];
        if (s->op.kind != SQZ_CONVOLUTION) continue;
        s->weight_index = weight_index++;
        divide(s);
    }
    return error;
}

static int reads_from(const sqz_operation *op, uint32_t tensor) {
    return op->source == tensor || (op->kind == SQZ_ADD && op->other == tensor);
}

/* Which convolution is the head, and is this a network for integers at all? */
static sqz_error find_head(sqz_model *m) {
    uint32_t last = m->num_steps - 1, writers = 0;
    uint32_t sums = m->steps[last].op.source;
    if (m->steps[last].op.kind != SQZ_AVERAGE_POOL) return SQZ_FLOAT_ONLY;
    for (uint32_t i = 0; i < last; i++) {
        sqz_step *s = &m->steps[i];
        if (s->op.kind > SQZ_ADD || reads_from(&s->op, sums)) return SQZ_FLOAT_ONLY;
        if (s->op.kind == SQZ_MAX_POOL && s->op.kernel_height > SQZ_MOST_POOLED) return SQZ_LIMIT;
        if (s->op.kind != SQZ_CONVOLUTION && reads_from(&s->op, 0)) return SQZ_FLOAT_ONLY;
        if (s->op.target != sums) continue;
        if (s->op.kind != SQZ_CONVOLUTION || writers++) return SQZ_FLOAT_ONLY;
        s->is_head = 1;
    }
    m->num_classes = m->tensors[sums].channels;
    return writers ? SQZ_OK : SQZ_FLOAT_ONLY;
}

/* Steps and zeros of ACTIVATIONS; max pools hand them on. */
static sqz_error read_activations(sqz_model *m) {
    sqz_bytes section = m->file.activations;
    uint32_t used = 0;
    if (section.bytes == NULL) return SQZ_FLOAT_ONLY;
    for (uint32_t t = 1; t < m->num_tensors; t++) {
        for (uint32_t i = 0; i < m->num_steps; i++) {
            const sqz_step *s = &m->steps[i];
            int scaled = (s->op.kind == SQZ_CONVOLUTION && !s->is_head) || s->op.kind == SQZ_ADD;
            if (s->op.target != t || !scaled) continue;
            if (section.size - used < 3) return SQZ_MALFORMED;
            const uint8_t *b = section.bytes + used;
            m->places[t].step = (uint16_t)sqz_u16(b);
            m->places[t].zero = b[2];
            if (m->places[t].step < 0x0080 || m->places[t].step >= 0x7f80) return SQZ_MALFORMED;
            used += 3;
            break;
        }
    }
    if (used != section.size) return SQZ_MALFORMED;
    for (uint32_t i = 0; i < m->num_steps; i++) {
        sqz_step *s = &m->steps[i];
        const sqz_place *in = &m->places[s->op.source];
        sqz_place *out = &m->places[s->op.target];
        if (s->op.kind == SQZ_MAX_POOL) {
            out->step = in->step;
            out->zero = in->zero;
        } else if (s->op.kind == SQZ_ADD) {
            s->ratio = sqz_addition_ratio(in->step, out->step);
            s->other_ratio = sqz_addition_ratio(m->places[s->op.other].step, out->step);
            if (s->ratio < 0 || s->other_ratio < 0) return SQZ_LIMIT;
        }
    }
    return SQZ_OK;
}

/* A convolution with nothing but a max pool behind it runs within the pool, a few rows ahead, and
 * is never held as a whole. */
static void fuse(sqz_model *m) {
    for (uint32_t i = 0; i + 1 < m->num_steps; i++) {
        sqz_step *conv = &m->steps[i], *pool = conv + 1;
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

/* Sizes of tensors with their borders, and when each is needed. */
static sqz_error measure(sqz_model *m) {
    for (uint32_t t = 0; t < m->num_tensors; t++) {
        sqz_place *p = &m->places[t];
        p->root = t;
        p->first = m->tensors[t].first;
        p->last = m->tensors[t].last;
        if (t == m->steps[m->num_steps - 1].op.target || t == m->steps[m->num_steps - 1].op.source)
            p->offset = SQZ_NOWHERE;
    }
    for (uint32_t i = 0; i < m->num_steps; i++) {
        const sqz_step *s = &m->steps[i];
        sqz_place *in = &m->places[s->op.source];
        if (s->op.kind == SQZ_CONVOLUTION && s->op.padding > in->border)
            in->border = s->op.padding;
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
        /* Groups of inputs may be read up to 3 bytes beyond the last. */
        p->bytes = (uint32_t)(row * (shape->height + border)) + SQZ_GROUP;
    }
    return SQZ_OK;
}

/* What operations need besides tensors, while they run. */
static sqz_error measure_scratch(sqz_model *m) {
    for (uint32_t i = 0; i < m->num_steps; i++) {
        sqz_step *s = &m->steps[i];
        uint64_t bytes = 0;
        if (s->op.kind == SQZ_CONVOLUTION && m->options.streamed && !s->is_fused)
            bytes = sqz_give_room(&m->options, s, 1, NULL, NULL) + ALIGNMENT;
        if (s->op.kind == SQZ_MAX_POOL && i > 0 && s[-1].is_fused) {
            const sqz_step *conv = s - 1;
            const sqz_tensor *rows = &m->tensors[conv->op.target];
            bytes = (uint64_t)num_threads(&m->options) * s->op.kernel_height * rows->width *
                    m->places[conv->op.target].pixel;
            bytes = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
            if (m->options.streamed)
                bytes += sqz_give_room(&m->options, conv, conv->num_blocks, NULL, NULL) + ALIGNMENT;
        }
        if (bytes >= SQZ_NOWHERE) return SQZ_LIMIT;
        s->scratch_bytes = (uint32_t)bytes;
    }
    return SQZ_OK;
}

/* Where each group of inputs lies, from where a window begins. */
static void fill_offsets(const sqz_step *s, const sqz_place *source, uint32_t group,
                         int32_t *offsets) {
    for (uint32_t y = 0; y < s->op.kernel_height; y++)
        for (uint32_t x = 0; x < s->op.kernel_width; x++)
            for (uint32_t c = 0; c < s->op.inputs; c += SQZ_GROUP)
                *offsets++ = (int32_t)(y * source->row + x * source->pixel +
                                       group * s->op.inputs + c);
}

/* Put one output channel's levels, in the order input, row, column, into its block. */
static void pack(const sqz_step *s, const int8_t *levels, int8_t *weights, uint32_t channel) {
    uint32_t kernel = s->op.kernel_height * s->op.kernel_width;
    uint32_t groups_a_place = s->num_groups / kernel;
    for (uint32_t c = 0; c < s->op.inputs; c++)
        for (uint32_t k = 0; k < kernel; k++) {
            uint32_t group = k * groups_a_place + c / SQZ_GROUP;
            weights[(group * SQZ_BLOCK + channel) * SQZ_GROUP + c % SQZ_GROUP] = *levels++;
        }
}

#define LANES (SQZ_BLOCK * SQZ_GROUP / 2) /* of pairs that are multiplied and added */
#define MOST 128                        /* 255 times as much just fits into 16 bits */

/* The levels of a run so far, lane by lane: those above 0, and those below. */
typedef struct {
    int16_t up[LANES], down[LANES];
} lane_sums;

/* Add a group; does the run still fit? */
static int add_group(lane_sums *sums, const int8_t *weights) {
    int most = 0;
    for (unsigned i = 0; i < LANES; i++) { /* compilers vectorise it */
        int a = weights[2 * i], b = weights[2 * i + 1];
        int up = sums->up[i] + (a > 0 ? a : 0) + (b > 0 ? b : 0);
        int down = sums->down[i] - (a < 0 ? a : 0) - (b < 0 ? b : 0);
        sums->up[i] = (int16_t)up;
        sums->down[i] = (int16_t)down;
        most = up > most ? up : most;
        most = down > most ? down : most;
    }
    return most <= MOST;
}

/* Cut the groups of a block into runs. A byte is at most 255, so the sums of a run fit if in each
 * lane its levels above 0 add up to 128 at most, and those below 0. A group that does not even fit
 * alone stands twice, each time with half of its levels. The groups are at the end of a room twice
 * as long, and are moved to its front. */
static void cut_runs(sqz_block *b) {
    const lane_sums none = {{0}, {0}};
    const uint32_t count = b->num_groups;
    const int8_t *in = b->weights + (size_t)count * BLOCK_BYTES;
    const int32_t *offset = b->offsets + count;
    lane_sums sums = none;
    uint32_t out = 0, run = 0, num_runs = 0;
    for (uint32_t g = 0; g < count; g++, in += BLOCK_BYTES) {
        int8_t parts[2][BLOCK_BYTES];
        lane_sums alone = none;
        int32_t where = offset[g];
        unsigned num_parts = add_group(&alone, in) ? 1 : 2;
        memcpy(parts[0], in, BLOCK_BYTES);
        for (unsigned i = 0; num_parts == 2 && i < BLOCK_BYTES; i++) {
            parts[0][i] = (int8_t)(in[i] / 2);
            parts[1][i] = (int8_t)(in[i] - in[i] / 2);
        }
        for (unsigned part = 0; part < num_parts; part++) {
            const int8_t *w = parts[part];
            if (!add_group(&sums, w) || run == 255) {
                b->runs[num_runs++] = (uint8_t)run;
                run = 0;
                sums = none;
                add_group(&sums, w);
            }
            run++;
            b->offsets[out] = where;
            memcpy(b->weights + (size_t)out++ * BLOCK_BYTES, w, BLOCK_BYTES);
        }
    }
    b->runs[num_runs] = (uint8_t)run;
    b->num_groups = out;
}

/* Groups that a block has room for. */
static size_t room_of(const sqz_options *options, const sqz_step *s) {
    return options->kernels->sums_in_16_bits ? 2 * (size_t)s->num_groups : s->num_groups;
}

uint64_t sqz_give_room(const sqz_options *options, const sqz_step *s, uint32_t count,
                       uint8_t *memory, sqz_block **blocks) {
    /* In 64 bits: a hostile file may ask for more than a small machine can address. */
    uint64_t groups = room_of(options, s), all = count * groups;
    uint64_t weights = (uint64_t)count * sizeof(sqz_block) + ALIGNMENT - 1;
    weights -= weights % ALIGNMENT;
    uint64_t offsets = weights + all * BLOCK_BYTES;
    uint64_t runs = offsets + all * sizeof(int32_t);
    uint64_t end = runs + (options->kernels->sums_in_16_bits ? all : 0);
    if (memory == NULL) return end;
    *blocks = (sqz_block *)(void *)memory;
    for (uint32_t i = 0; i < count; i++) {
        sqz_block *b = *blocks + i;
        b->weights = (int8_t *)memory + (size_t)(weights + i * groups * BLOCK_BYTES);
        b->offsets = (int32_t *)(void *)(memory + (size_t)offsets) + (size_t)(i * groups);
        b->runs = memory + (size_t)(runs + i * groups);
    }
    return end;
}

sqz_error sqz_unpack(const sqz_model *m, sqz_decoder *decoder, const sqz_step *s,
                     const sqz_layer *layer, int8_t *levels, sqz_block *blocks, uint32_t first,
                     uint32_t count) {
    const sqz_place *in = &m->places[s->op.source], *out = &m->places[s->op.target];
    sqz_entry entry;
    sqz_units units = {NULL, in->step, s->is_head ? 0 : out->step, in->zero, 1, 0};
    if (s->op.source == 0) {
        sqz_entry_of(&m->file.input, &entry);
        units.entry = &entry;
    }
    const sqz_tensor *target = &m->tensors[s->op.target];
    units.positions = target->height * target->width;
    if (layer->representation != SQZ_LEVELS) return SQZ_FLOAT_ONLY;
    for (uint32_t i = first; i < first + count; i++) {
        sqz_block *b = &blocks[i - first];
        size_t first_group = room_of(&m->options, s) - s->num_groups;
        int8_t *weights = b->weights + first_group * BLOCK_BYTES;
        uint32_t group = i / s->blocks_a_group, outputs = s->op.out_channels / s->op.groups;
        uint32_t start = i % s->blocks_a_group * SQZ_BLOCK;
        units.first_channel = group * s->op.inputs;
        fill_offsets(s, in, group, b->offsets + first_group);
        b->num_groups = s->num_groups;
        b->channels = outputs - start < SQZ_BLOCK ? outputs - start : SQZ_BLOCK;
        b->zero = s->is_head ? 0 : out->zero;
        b->low = s->op.relu ? b->zero : 0;
        memset(weights, 0, (size_t)s->num_groups * BLOCK_BYTES);
        memset(b->bias, 0, sizeof b->bias);
        memset(b->shift, 0, sizeof b->shift);
        memset(b->multiplier, 0, sizeof b->multiplier);
        for (uint32_t channel = 0; channel < b->channels; channel++) {
            sqz_channel_info info;
            sqz_error error = sqz_decode_channel(decoder, levels, &info);
            if (!error) error = sqz_channel_parameters(&units, layer, &info, levels, b, channel);
            if (error) return error;
            pack(s, levels, weights, channel);
        }
        if (first_group) cut_runs(b);
        if (m->options.kernels->prepare != NULL) m->options.kernels->prepare(b);
    }
    return SQZ_OK;
}

static sqz_error unpack_all(sqz_model *m, sqz_decoder *decoder, int8_t *levels) {
    sqz_layer layer;
    sqz_error error = sqz_decode_begin(decoder, &m->file);
    for (uint32_t i = 0; !error && i < m->num_steps; i++) {
        const sqz_step *s = &m->steps[i];
        if (s->op.kind != SQZ_CONVOLUTION) continue;
        error = sqz_decode_layer(decoder, &s->op, &layer);
        if (!error) error = sqz_unpack(m, decoder, s, &layer, levels, s->blocks, 0, s->num_blocks);
    }
    return error ? error : sqz_decode_end(decoder);
}

/* What a model takes besides its convolutions. */
typedef struct {
    sqz_operation *operations;
    sqz_decoder *decoder;
    int8_t *levels;
} workshop;

static void allot_tables(sqz_model *m, allotment *a, workshop *w) {
    m->tensors = allot(a, m->num_tensors, sizeof *m->tensors);
    m->places = allot(a, m->num_tensors, sizeof *m->places);
    m->steps = allot(a, m->num_steps, sizeof *m->steps);
    w->operations = allot(a, m->num_steps, sizeof *w->operations);
    w->decoder = NULL;
    w->levels = NULL;
    if (m->options.streamed) return;
    w->decoder = allot(a, 1, sizeof *w->decoder);
    w->levels = allot(a, m->file.largest_channel, 1);
}

/* Everything but the weights. */
static sqz_error build(sqz_model *m, sqz_operation *operations) {
    memset(m->places, 0, m->num_tensors * sizeof *m->places);
    sqz_error error = read_steps(m, operations);
    if (!error) error = find_head(m);
    if (!error) error = read_activations(m);
    if (error) return error;
    fuse(m);
    error = measure(m);
    if (!error) error = measure_scratch(m);
    return error ? error : sqz_place_all(m);
}

/* Room for a convolution's blocks. */
static void allot_blocks(sqz_step *s, const sqz_options *options, allotment *a) {
    uint8_t *room = allot(a, (size_t)sqz_give_room(options, s, s->num_blocks, NULL, NULL), 1);
    if (room != NULL) sqz_give_room(options, s, s->num_blocks, room, &s->blocks);
}

/* NULL, the fastest, or one of those that run here. */
static int runs_here(const sqz_kernels *kernels) {
    const sqz_kernels *each = NULL;
    for (unsigned n = 0; kernels != NULL && each != kernels; n++)
        if ((each = sqz_kernels_here(n)) == NULL) return 0;
    return 1;
}

static sqz_error begin(sqz_model *m, const sqz_file *file, const sqz_options *options) {
    if (file->weights.bytes == NULL || options->threads > 64 || !runs_here(options->kernels))
        return SQZ_WRONG_USE;
    if (file->activations.bytes == NULL) return SQZ_FLOAT_ONLY;
    /* So it is bounded, as the weights are; nobody has looked at it yet. */
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

/* Channels of a tensor, found by walking there: there is no room to keep them. */
static uint32_t channels_of(sqz_bytes graph, uint32_t tensor) {
    sqz_cursor c = {graph.bytes, graph.bytes + graph.size, 0};
    sqz_count(&c);
    for (uint32_t i = 0; i < 3 * tensor; i++) sqz_count(&c);
    return sqz_count(&c);
}

/* The numbers behind the kind of an operation. */
static const uint8_t num_counts[] = {0, 10, 4, 3, 2, 3};

/* Memory for a model, or why it cannot be. */
static sqz_error measure_model(const sqz_file *file, const sqz_options *options, size_t *size) {
    sqz_model m;
    workshop w;
    allotment a = {NULL, 0, 0};
    sqz_error error = begin(&m, file, options);
    if (error) return error;
    allot_tables(&m, &a, &w);
    sqz_cursor c = {file->graph.bytes, file->graph.bytes + file->graph.size, 0};
    sqz_count(&c);
    for (uint32_t i = 0; i < 3 * m.num_tensors; i++) sqz_count(&c);
    sqz_count(&c);
    for (uint32_t i = 0; i < m.num_steps && !c.failed; i++) {
        uint32_t counts[10], kind = sqz_count(&c);
        if (kind < SQZ_CONVOLUTION || kind > SQZ_RESPONSE_NORM) return SQZ_MALFORMED;
        for (uint32_t k = 0; k < num_counts[kind]; k++) counts[k] = sqz_count(&c);
        if (kind != SQZ_CONVOLUTION || c.failed) continue;
        sqz_step s;
        memset(&s, 0, sizeof s);
        s.op.out_channels = counts[3];
        s.op.kernel_height = counts[4];
        s.op.kernel_width = counts[5];
        s.op.groups = counts[8];
        if (counts[0] >= m.num_tensors || !s.op.groups) return SQZ_MALFORMED;
        s.op.inputs = channels_of(file->graph, counts[0]) / s.op.groups;
        uint64_t weights = (uint64_t)s.op.kernel_height * s.op.kernel_width;
        if (weights > SQZ_MAX_WEIGHTS || weights * s.op.inputs > SQZ_MAX_WEIGHTS ||
            weights * s.op.inputs * s.op.out_channels > SQZ_MAX_WEIGHTS)
            return SQZ_LIMIT;
        divide(&s);
        /* Blocks and groups are filled up: at most 64 times the weights. */
        if ((uint64_t)s.num_blocks * s.num_groups > SQZ_MAX_WEIGHTS) return SQZ_LIMIT;
        if (options->streamed) continue;
        if (sqz_give_room(&m.options, &s, s.num_blocks, NULL, NULL) > SIZE_MAX / 4)
            return SQZ_LIMIT;
        allot_blocks(&s, &m.options, &a);
        if (a.used > SIZE_MAX / 4) return SQZ_LIMIT;
    }
    *size = a.used + ALIGNMENT;
    return c.failed ? SQZ_MALFORMED : SQZ_OK;
}

size_t sqz_model_size(const sqz_file *file, const sqz_options *options) {
    size_t size;
    return file == NULL || options == NULL || measure_model(file, options, &size) ? 0 : size;
}

static sqz_error load(sqz_model *m, const sqz_file *file, const sqz_options *options, void *memory,
                      size_t size) {
    workshop w;
    size_t needed;
    sqz_error error = measure_model(file, options, &needed);
    if (!error && size < needed) error = SQZ_WRONG_USE;
    if (!error) error = begin(m, file, options);
    if (error) return error;
    uintptr_t misfit = (uintptr_t)memory % ALIGNMENT;
    allotment a = {(uint8_t *)memory + (misfit ? ALIGNMENT - misfit : 0), size, 0};
    allot_tables(m, &a, &w);
    error = build(m, w.operations);
    if (error) return error;
    for (uint32_t i = 0; i < m->num_steps; i++) {
        sqz_step *s = &m->steps[i];
        if (s->op.kind == SQZ_CONVOLUTION && !options->streamed) allot_blocks(s, &m->options, &a);
    }
    return options->streamed ? SQZ_OK : unpack_all(m, w.decoder, w.levels);
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
    return m == NULL || m->steps == NULL ? 0 : m->arena + ALIGNMENT;
}
