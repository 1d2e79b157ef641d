/* The kernels in plain C, which read as the definition: spec/INTEGER.md, "Convolution". Tests
 * compare all other kernels with them. */
#include "../src/sqz_runtime.h"

/* acc = B + sum over the window of w * q, of 16 channels at one position */
static void portable_accumulate(const sqz_block *b, const uint8_t *in, int32_t *acc) {
    const int8_t *w = b->weights;
    for (unsigned i = 0; i < SQZ_BLOCK; i++) acc[i] = b->bias[i];
    for (uint32_t g = 0; g < b->num_groups; g++, w += SQZ_BLOCK * SQZ_GROUP) {
        const uint8_t *x = in + b->offsets[g];
        for (unsigned i = 0; i < SQZ_BLOCK; i++)
            for (unsigned k = 0; k < SQZ_GROUP; k++) acc[i] += x[k] * w[SQZ_GROUP * i + k];
    }
}

/* t = clamp((acc + (2^s >> 1)) >> s, -32768, 32767)
 * q = clamp(zero point + ((t * m + 16384) >> 15), low, 255) */
static uint8_t portable_requantise(const sqz_block *b, unsigned i, int32_t acc) {
    int32_t half = (int32_t)((1u << b->shift[i]) >> 1);
    int32_t t = (int32_t)sqz_shift_right(acc + half, (unsigned)b->shift[i]);
    t = t < -32768 ? -32768 : t > 32767 ? 32767 : t;
    int32_t q = b->zero_point + (int32_t)sqz_shift_right(t * b->multiplier[i] + 16384, 15);
    return (uint8_t)(q < b->low ? b->low : q > 255 ? 255 : q);
}

static void portable_convolve(const sqz_block *b, const sqz_span *span) {
    int32_t acc[SQZ_BLOCK];
    for (uint32_t p = 0; p < span->count; p++) {
        uint8_t *out = span->out + p * span->out_stride;
        portable_accumulate(b, span->in + p * span->in_stride, acc);
        for (unsigned i = 0; i < b->channels; i++) out[i] = portable_requantise(b, i, acc[i]);
    }
}

/* S = sum over all positions of relu(acc) */
static void portable_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    int32_t acc[SQZ_BLOCK];
    for (uint32_t p = 0; p < span->count; p++) {
        portable_accumulate(b, span->in + p * span->in_stride, acc);
        for (unsigned i = 0; i < SQZ_BLOCK; i++) sums[i] += relu && acc[i] < 0 ? 0 : acc[i];
    }
}

static int portable_is_supported(void) { return 1; }

const sqz_kernels sqz_portable = {
    .name = "portable",
    .is_supported = portable_is_supported,
    .convolve = portable_convolve,
    .sum = portable_sum,
};
