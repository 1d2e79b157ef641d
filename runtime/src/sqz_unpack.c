/* Weights from the decoder into the blocks that kernels read: spec/INTEGER.md, "Convolution". */
#include <string.h>

#include "sqz_runtime.h"

/* ---- Where the parts of a block lie ---- */

/* Groups of inputs that a block has room for: see split_groups. */
static size_t room_of(const sqz_options *options, const sqz_plan_op *s) {
    return options->kernels->sums_in_16_bits ? 2 * (size_t)s->num_groups : s->num_groups;
}

uint64_t sqz_blocks_in(const sqz_options *options, const sqz_plan_op *s, uint32_t count,
                       uint8_t *memory, sqz_block **blocks) {
    /* In 64 bits: a hostile file may ask for more than a small machine can address. */
    uint64_t groups = room_of(options, s), all = count * groups;
    uint64_t weights = (uint64_t)count * sizeof(sqz_block) + SQZ_ALIGNMENT - 1;
    weights -= weights % SQZ_ALIGNMENT;
    uint64_t offsets = weights + all * SQZ_GROUP_BYTES;
    uint64_t widenings = offsets + all * sizeof(int32_t);
    uint64_t end = widenings + (options->kernels->sums_in_16_bits ? all : 0);
    if (memory == NULL) return end;
    *blocks = (sqz_block *)(void *)memory;
    for (uint32_t i = 0; i < count; i++) {
        sqz_block *b = *blocks + i;
        b->weights = (int8_t *)memory + (size_t)(weights + i * groups * SQZ_GROUP_BYTES);
        b->offsets = (int32_t *)(void *)(memory + (size_t)offsets) + (size_t)(i * groups);
        b->groups_per_widening = memory + (size_t)(widenings + i * groups);
    }
    return end;
}

/* ---- Packing ---- */

/* Where each group of inputs lies, from the beginning of a window; `group` is that of channels. */
static void fill_offsets(const sqz_plan_op *s, const sqz_place *source, uint32_t group,
                         int32_t *offsets) {
    for (uint32_t y = 0; y < s->op.kernel_height; y++)
        for (uint32_t x = 0; x < s->op.kernel_width; x++)
            for (uint32_t c = 0; c < s->op.inputs; c += SQZ_GROUP)
                *offsets++ =
                    (int32_t)(y * source->row + x * source->pixel + group * s->op.inputs + c);
}

/* How many of these offsets lie one after another: the inputs of a position, or of all positions of
 * a row of the window, if a position has no others. */
static uint16_t groups_in_line(const sqz_plan_op *s, const sqz_place *source) {
    uint32_t position = (s->op.inputs + SQZ_GROUP - 1) / SQZ_GROUP;
    uint32_t row = s->op.kernel_width * position;
    if (position * SQZ_GROUP == source->pixel && row <= UINT16_MAX) return (uint16_t)row;
    return position <= UINT16_MAX ? (uint16_t)position : 1;
}

/* Put the levels of one output channel, in the order input, row, column, into its block. */
static void pack(const sqz_plan_op *s, const int8_t *levels, int8_t *weights, uint32_t channel) {
    uint32_t kernel = s->op.kernel_height * s->op.kernel_width;
    uint32_t groups_per_position = s->num_groups / kernel;
    for (uint32_t c = 0; c < s->op.inputs; c++)
        for (uint32_t k = 0; k < kernel; k++) {
            uint32_t group = k * groups_per_position + c / SQZ_GROUP;
            weights[(group * SQZ_BLOCK + channel) * SQZ_GROUP + c % SQZ_GROUP] = *levels++;
        }
}

/* ---- Sums of 16 bits ---- */

/* Kernels for sums of 16 bits multiply pairs of inputs and add the two products in one lane. */
#define LANES (SQZ_GROUP_BYTES / 2)
/* A byte is at most 255. So a lane's sum fits into 16 bits if its positive levels add up to at most
 * 128, and its negative ones too: 255 * 128 = 32,640. */
#define MAX_LANE_SUM 128

/* Sums of the levels in each lane: of the positive ones, and of the magnitudes of the others. */
typedef struct {
    int16_t positive[LANES], negative[LANES];
} lane_sums;

/* Add a group of inputs; returns whether the sums of all lanes still fit. */
static int add_group(lane_sums *sums, const int8_t *weights) {
    int max = 0;
    for (unsigned i = 0; i < LANES; i++) { /* compilers vectorise it */
        int a = weights[2 * i], b = weights[2 * i + 1];
        int positive = sums->positive[i] + (a > 0 ? a : 0) + (b > 0 ? b : 0);
        int negative = sums->negative[i] - (a < 0 ? a : 0) - (b < 0 ? b : 0);
        sums->positive[i] = (int16_t)positive;
        sums->negative[i] = (int16_t)negative;
        max = positive > max ? positive : max;
        max = negative > max ? negative : max;
    }
    return max <= MAX_LANE_SUM;
}

/* Find how many groups of inputs may be summed before each widening. A group that does not even fit
 * alone is split in two, each with half of its levels. That is why there is room for twice as many:
 * the groups are in the second half of it, and are moved to its beginning. */
static void split_groups(sqz_block *b) {
    const lane_sums none = {{0}, {0}};
    const uint32_t count = b->num_groups;
    const int8_t *in = b->weights + (size_t)count * SQZ_GROUP_BYTES;
    const int32_t *offset = b->offsets + count;
    lane_sums sums = none;
    uint32_t out = 0, run = 0, num_widenings = 0;
    for (uint32_t g = 0; g < count; g++, in += SQZ_GROUP_BYTES) {
        int8_t parts[2][SQZ_GROUP_BYTES];
        lane_sums alone = none;
        int32_t where = offset[g];
        unsigned num_parts = add_group(&alone, in) ? 1 : 2;
        memcpy(parts[0], in, SQZ_GROUP_BYTES);
        for (unsigned i = 0; num_parts == 2 && i < SQZ_GROUP_BYTES; i++) {
            parts[0][i] = (int8_t)(in[i] / 2);
            parts[1][i] = (int8_t)(in[i] - in[i] / 2);
        }
        for (unsigned part = 0; part < num_parts; part++) {
            const int8_t *w = parts[part];
            if (!add_group(&sums, w) || run == 255) {
                b->groups_per_widening[num_widenings++] = (uint8_t)run;
                run = 0;
                sums = none;
                add_group(&sums, w);
            }
            run++;
            b->offsets[out] = where;
            memcpy(b->weights + (size_t)out++ * SQZ_GROUP_BYTES, w, SQZ_GROUP_BYTES);
        }
    }
    b->groups_per_widening[num_widenings] = (uint8_t)run;
    b->num_groups = out;
}

/* ---- Unpacking ---- */

static sqz_error unpack_block(const sqz_model *m, sqz_decoder *decoder, const sqz_plan_op *s,
                              const sqz_layer *layer, sqz_channel_units *units, int8_t *levels,
                              sqz_block *b, uint32_t index) {
    const sqz_place *in = &m->places[s->op.source], *out = &m->places[s->op.target];
    size_t first_group = room_of(&m->options, s) - s->num_groups;
    int8_t *weights = b->weights + first_group * SQZ_GROUP_BYTES;
    uint32_t group = index / s->blocks_per_group, outputs = s->op.out_channels / s->op.groups;
    uint32_t start = index % s->blocks_per_group * SQZ_BLOCK;
    units->first_channel = group * s->op.inputs;
    fill_offsets(s, in, group, b->offsets + first_group);
    b->num_groups = s->num_groups;
    b->groups_in_line = groups_in_line(s, in);
    b->channels = outputs - start < SQZ_BLOCK ? outputs - start : SQZ_BLOCK;
    b->zero_point = s->is_head ? 0 : out->zero_point;
    b->low = s->op.relu ? b->zero_point : 0;
    memset(weights, 0, (size_t)s->num_groups * SQZ_GROUP_BYTES);
    memset(b->bias, 0, sizeof b->bias);
    memset(b->shift, 0, sizeof b->shift);
    memset(b->multiplier, 0, sizeof b->multiplier);
    for (uint32_t channel = 0; channel < b->channels; channel++) {
        sqz_channel_info info;
        sqz_error error = sqz_decode_channel(decoder, levels, &info);
        if (!error) error = sqz_channel_parameters(units, layer, &info, levels, b, channel);
        if (error) return error;
        pack(s, levels, weights, channel);
    }
    if (first_group) split_groups(b);
    if (m->options.kernels->prepare != NULL) m->options.kernels->prepare(b);
    return SQZ_OK;
}

sqz_error sqz_unpack(const sqz_model *m, sqz_decoder *decoder, const sqz_plan_op *s,
                     const sqz_layer *layer, int8_t *levels, sqz_block *blocks, uint32_t first,
                     uint32_t count) {
    const sqz_place *in = &m->places[s->op.source], *out = &m->places[s->op.target];
    const sqz_tensor *target = &m->tensors[s->op.target];
    sqz_input_quant quant;
    sqz_channel_units units = {NULL,
                               in->scale,
                               s->is_head ? 0 : out->scale,
                               in->zero_point,
                               target->height * target->width,
                               0};
    if (s->op.source == 0) {
        sqz_input_quant_of(&m->file.input, &quant);
        units.input = &quant;
    }
    if (layer->representation != SQZ_LEVELS) return SQZ_FLOAT_ONLY;
    sqz_error error = SQZ_OK;
    for (uint32_t i = 0; !error && i < count; i++)
        error = unpack_block(m, decoder, s, layer, &units, levels, &blocks[i], first + i);
    return error;
}
