/* Biases, multipliers and shifts from scales and zero points: spec/INTEGER.md, in integers. */
#include "sqz_runtime.h"

/* Limits of spec/INTEGER.md: "Convolution", "The head", "Addition". */
#define MAX_ACCUMULATOR ((int64_t)1 << 30)
#define MAX_POSITIONS (1u << 17)
#define MAX_RATIO (1u << 21)

#define TOO_LARGE UINT64_MAX

/* value = n * 2^e / d */
typedef struct {
    uint64_t n, d;
    int e;
} ratio;

/* spec/FORMAT.md, "Levels": "(32 + scale mod 32) * 2^(floor(scale / 32) - 132) for scale of 32 and
 * more". Below 32 the float32 is subnormal. */
static ratio weight_scale(uint32_t code) {
    ratio r = {code < 32 ? code : 32 + code % 32, 1, (code < 32 ? 1 : (int)(code / 32)) - 132};
    return r;
}

/* The scale of a tensor, (128 + f) * 2^x, from the upper half of a float32. */
static uint64_t mantissa_of(uint16_t scale) { return 128u + (scale & 127u); }

static int exponent_of(uint16_t scale) { return (int)(scale >> 7) - 127 - 7; }

/* weight scale * source scale: what 1 in an accumulator stands for. */
static ratio accumulator_scale(const sqz_channel_units *u, uint32_t scale) {
    ratio r = weight_scale(scale);
    if (u->input != NULL) { /* 65536 / d */
        r.d = u->input->min_deviation;
        r.e += 16;
    } else {
        r.n *= mantissa_of(u->source_scale);
        r.e += exponent_of(u->source_scale);
    }
    return r;
}

/* floor(2 * n * 2^k / d), or TOO_LARGE if 2 * n * 2^k is 2^64 or more. Of a result t,
 * (t + 1) >> 1 is floor(n * 2^k / d + 1/2). */
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

/* "s = the smallest of 0 .. max_s with M * 2^(bits + s) >= min_m, or max_s;
 * m = min(32767, floor(M * 2^(bits + s) + 1/2))", where M is r. */
static sqz_error multiplier(ratio r, int bits, uint32_t min_m, int max_s, int16_t *m, int32_t *s) {
    uint64_t found = twice(r.n, r.e + bits, r.d);
    if (found >> 16) return SQZ_LIMIT; /* M * 2^bits is 2^15 or more */
    for (*s = 0; (found >> 1) < min_m && *s < max_s;) {
        ++*s;
        found = twice(r.n, r.e + bits + *s, r.d);
    }
    found = (found + 1) >> 1;
    *m = (int16_t)(found < 32767 ? found : 32767);
    return SQZ_OK;
}

/* round(b * 2^-shift / unit), or SQZ_LIMIT. */
static sqz_error bias_of(int32_t bias, uint32_t shift, ratio unit, int64_t *rounded) {
    uint64_t magnitude = bias < 0 ? (uint64_t)-(int64_t)bias : (uint64_t)bias;
    uint64_t found = twice(magnitude * unit.d, -(int)shift - unit.e, unit.n);
    if (found >> 32) return SQZ_LIMIT;
    *rounded = (int64_t)((found + 1) >> 1);
    if (bias < 0) *rounded = -*rounded;
    return SQZ_OK;
}

/* "A = floor(65536 * d / deviation[c] + 1/2)
 * Z = (mean[c] * A + 32768) >> 16
 * The padding has q = clamp((Z + 32768) >> 16, 0, 255)" */
void sqz_input_quant_of(const sqz_input *input, sqz_input_quant *quant) {
    unsigned channels = input->channels ? 3 : 1;
    quant->min_deviation = (uint32_t)input->deviation[0];
    for (unsigned c = 1; c < channels; c++)
        if ((uint32_t)input->deviation[c] < quant->min_deviation)
            quant->min_deviation = (uint32_t)input->deviation[c];
    for (unsigned c = 0; c < channels; c++) {
        uint64_t deviation = (uint32_t)input->deviation[c];
        quant->multiplier[c] =
            (uint32_t)((((uint64_t)quant->min_deviation << 17) + deviation) / (2 * deviation));
        quant->zero_point[c] =
            sqz_shift_right((int64_t)input->mean[c] * quant->multiplier[c] + 32768, 16);
        int64_t byte = sqz_shift_right(quant->zero_point[c] + 32768, 16);
        quant->padding[c] = (uint8_t)(byte < 0 ? 0 : byte > 255 ? 255 : byte);
    }
}

/* Return the sum of levels, and add that of their magnitudes. Pieces of 4,096 fit into 32 bits, so
 * that compilers vectorise the loop. */
static int64_t sum_levels(const int8_t *levels, size_t count, int64_t *magnitudes) {
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

/* "B = round(b * 2^-shift / (weight scale * source scale)) - Y
 * Y = zero point * (sum of all w);
 *     for the input: (sum over c of Z[c] * (sum of w on channel c) + 32768) >> 16
 * 255 * (sum of |w|) + |B| MUST be at most 2^30" */
static sqz_error accumulator_bias(const sqz_channel_units *u, const sqz_layer *layer,
                                  const sqz_channel_info *channel, const int8_t *levels, ratio unit,
                                  int32_t *result) {
    uint32_t kernel = layer->kernel_height * layer->kernel_width;
    int64_t bias, magnitudes = 0, offset = 0;
    if (u->input == NULL) {
        offset =
            u->source_zero_point * sum_levels(levels, (size_t)layer->inputs * kernel, &magnitudes);
    } else {
        const int64_t *zero_point = u->input->zero_point + u->first_channel;
        for (uint32_t c = 0; c < layer->inputs; c++) {
            int64_t sum = sum_levels(levels + (size_t)c * kernel, kernel, &magnitudes);
            /* Checked here, since the product below must fit: Z may have 32 bits. */
            if (255 * magnitudes > MAX_ACCUMULATOR) return SQZ_LIMIT;
            offset += zero_point[c] * sum;
        }
        offset = sqz_shift_right(offset + 32768, 16);
    }
    sqz_error error = bias_of(channel->bias, layer->bias_shift, unit, &bias);
    if (error) return error;
    bias -= offset;
    if (255 * magnitudes + (bias < 0 ? -bias : bias) > MAX_ACCUMULATOR) return SQZ_LIMIT;
    *result = (int32_t)bias;
    return SQZ_OK;
}

sqz_error sqz_channel_parameters(const sqz_channel_units *u, const sqz_layer *layer,
                                 const sqz_channel_info *channel, const int8_t *levels,
                                 sqz_block *block, unsigned i) {
    ratio unit = accumulator_scale(u, channel->scale);
    sqz_error error = accumulator_bias(u, layer, channel, levels, unit, &block->bias[i]);
    if (error) return error;
    if (u->target_scale) {
        unit.d *= mantissa_of(u->target_scale);
        unit.e -= exponent_of(u->target_scale);
        return multiplier(unit, 15, 1u << 11, 30, &block->multiplier[i], &block->shift[i]);
    }
    if (u->positions > MAX_POSITIONS) return SQZ_LIMIT;
    unit.d *= u->positions;
    return multiplier(unit, 16, 1u << 14, 62, &block->multiplier[i], &block->shift[i]);
}

/* "R1 = floor(65536 * scale of the source / scale of the target + 1/2)" MUST be below 2^21. */
int32_t sqz_addition_ratio(uint16_t source_scale, uint16_t target_scale) {
    uint64_t found =
        twice(mantissa_of(source_scale), 16 + exponent_of(source_scale) - exponent_of(target_scale),
              mantissa_of(target_scale));
    found = found == TOO_LARGE ? MAX_RATIO : (found + 1) >> 1;
    return found < MAX_RATIO ? (int32_t)found : -1;
}
