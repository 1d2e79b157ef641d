/* Biases, multipliers and shifts, from what the file holds: spec/INTEGER.md, in whole numbers. */
#include "sqz_runtime.h"

#define MAX_ACCUMULATOR ((int64_t)1 << 30)
#define MAX_POSITIONS (1u << 17)
#define MAX_RATIO (1u << 21)
#define TOO_LARGE UINT64_MAX

/* value = n * 2^e / d */
typedef struct {
    uint64_t n, d;
    int e;
} ratio;

/* A scale of WEIGHTS: 5 bits of mantissa; subnormal below 32. */
static ratio weight_scale(uint32_t code) {
    ratio r = {code < 32 ? code : 32 + code % 32, 1, (code < 32 ? 1 : (int)(code / 32)) - 132};
    return r;
}

static uint64_t step_mantissa(uint16_t step) { return 128u + (step & 127u); }

static int step_exponent(uint16_t step) { return (int)(step >> 7) - 127 - 7; }

/* The scale of a channel times the step of its source: what 1 in an accumulator stands for. */
static ratio accumulator_unit(const sqz_units *u, uint32_t scale) {
    ratio r = weight_scale(scale);
    if (u->entry != NULL) {
        r.d = u->entry->least;
        r.e += 16;
    } else {
        r.n *= step_mantissa(u->source_step);
        r.e += step_exponent(u->source_step);
    }
    return r;
}

/* floor(n * 2^(k + 1) / d), or TOO_LARGE where n * 2^(k + 1) is 2^64 or more. */
static uint64_t twice(uint64_t n, int k, uint64_t d) {
    if (n == 0) return 0;
    for (k++; k < 0; k++) {
        if (d >> 62) return 0; /* n is below 2^56 */
        d <<= 1;
    }
    for (; k > 0; k--) {
        if (n >> 63) return TOO_LARGE;
        n <<= 1;
    }
    return n / d;
}

/* m and s, so that r is about m / 2^(bits + s) and m is at least `least` if s <= `most` allows. */
static sqz_error multiplier(ratio r, int bits, uint32_t least, int most, int16_t *m, int32_t *s) {
    uint64_t found = twice(r.n, r.e + bits, r.d);
    if (found >> 16) return SQZ_LIMIT; /* 2^15 or more */
    for (*s = 0; (found >> 1) < least && *s < most;) {
        ++*s;
        found = twice(r.n, r.e + bits + *s, r.d);
    }
    found = (found + 1) >> 1;
    *m = (int16_t)(found < 32767 ? found : 32767);
    return SQZ_OK;
}

/* round(bias / unit), or SQZ_LIMIT. */
static sqz_error bias_of(int32_t bias, uint32_t shift, ratio unit, int64_t *rounded) {
    uint64_t magnitude = bias < 0 ? (uint64_t)-(int64_t)bias : (uint64_t)bias;
    uint64_t found = twice(magnitude * unit.d, -(int)shift - unit.e, unit.n);
    if (found >> 32) return SQZ_LIMIT;
    *rounded = (int64_t)((found + 1) >> 1);
    if (bias < 0) *rounded = -*rounded;
    return SQZ_OK;
}

void sqz_entry_of(const sqz_input *input, sqz_entry *entry) {
    unsigned channels = input->channels ? 3 : 1;
    entry->least = (uint32_t)input->deviation[0];
    for (unsigned c = 1; c < channels; c++)
        if ((uint32_t)input->deviation[c] < entry->least)
            entry->least = (uint32_t)input->deviation[c];
    for (unsigned c = 0; c < channels; c++) {
        uint64_t deviation = (uint32_t)input->deviation[c];
        entry->multiplier[c] =
            (uint32_t)((((uint64_t)entry->least << 17) + deviation) / (2 * deviation));
        entry->zero[c] =
            sqz_shift_right((int64_t)input->mean[c] * entry->multiplier[c] + 32768, 16);
        int64_t byte = sqz_shift_right(entry->zero[c] + 32768, 16);
        entry->padding[c] = (uint8_t)(byte < 0 ? 0 : byte > 255 ? 255 : byte);
    }
}

/* The sum of levels; that of their magnitudes is added. Pieces of it fit into 32 bits, which is
 * what compilers vectorise. */
static int64_t add_up(const int8_t *levels, size_t count, int64_t *magnitudes) {
    int64_t sum = 0;
    while (count > 0) {
        size_t piece = count < 4096 ? count : 4096;
        int32_t some = 0, some_magnitudes = 0;
        for (size_t i = 0; i < piece; i++) {
            some += levels[i];
            some_magnitudes += levels[i] < 0 ? -levels[i] : levels[i];
        }
        sum += some;
        *magnitudes += some_magnitudes;
        levels += piece;
        count -= piece;
    }
    return sum;
}

sqz_error sqz_channel_parameters(const sqz_units *u, const sqz_layer *layer,
                                 const sqz_channel_info *channel, const int8_t *levels,
                                 sqz_block *block, unsigned i) {
    ratio unit = accumulator_unit(u, channel->scale);
    uint32_t kernel = layer->kernel_height * layer->kernel_width;
    int64_t bias, magnitudes = 0, offset = 0;
    if (u->entry == NULL) {
        offset = u->source_zero * add_up(levels, (size_t)layer->inputs * kernel, &magnitudes);
    } else {
        const int64_t *zero = u->entry->zero + u->first_channel;
        for (uint32_t c = 0; c < layer->inputs; c++) {
            int64_t sum = add_up(levels + (size_t)c * kernel, kernel, &magnitudes);
            /* Now, as the product must fit: a zero may have 32 bits. */
            if (255 * magnitudes > MAX_ACCUMULATOR) return SQZ_LIMIT;
            offset += zero[c] * sum;
        }
        offset = sqz_shift_right(offset + 32768, 16);
    }
    sqz_error error = bias_of(channel->bias, layer->bias_shift, unit, &bias);
    if (error) return error;
    bias -= offset;
    if (255 * magnitudes + (bias < 0 ? -bias : bias) > MAX_ACCUMULATOR) return SQZ_LIMIT;
    block->bias[i] = (int32_t)bias;
    if (u->target_step) {
        unit.d *= step_mantissa(u->target_step);
        unit.e -= step_exponent(u->target_step);
        return multiplier(unit, 15, 1u << 11, 30, &block->multiplier[i], &block->shift[i]);
    }
    if (u->positions > MAX_POSITIONS) return SQZ_LIMIT;
    unit.d *= u->positions;
    return multiplier(unit, 16, 1u << 14, 62, &block->multiplier[i], &block->shift[i]);
}

int32_t sqz_addition_ratio(uint16_t source_step, uint16_t target_step) {
    uint64_t found = twice(step_mantissa(source_step),
                           16 + step_exponent(source_step) - step_exponent(target_step),
                           step_mantissa(target_step));
    found = found == TOO_LARGE ? MAX_RATIO : (found + 1) >> 1;
    return found < MAX_RATIO ? (int32_t)found : -1;
}
