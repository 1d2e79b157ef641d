/* The DSP instructions of 32-bit ARM, as in Cortex-M4, M7 and M33. Four bytes become two pairs
 * of 16 bits, the even and the odd ones, and one instruction adds two products. */
#include "../src/sqz_runtime.h"

#if defined(SQZ_DSP)

#define INLINE static inline __attribute__((always_inline))
/* Positions and channels at once: 4 sums and 4 pairs of inputs in 14 registers. */
#define TILE 2
#define CHANNELS 2

#define EXTEND(name, instruction)                       \
    INLINE uint32_t name(uint32_t bytes) {              \
        uint32_t pair;                                  \
        __asm__(instruction : "=r"(pair) : "r"(bytes)); \
        return pair;                                    \
    }

EXTEND(even_inputs, "uxtb16 %0, %1")
EXTEND(odd_inputs, "uxtb16 %0, %1, ror #8")
EXTEND(even_levels, "sxtb16 %0, %1")
EXTEND(odd_levels, "sxtb16 %0, %1, ror #8")

INLINE int32_t dsp_add_products(uint32_t x, uint32_t levels, int32_t acc) {
    __asm__("smlad %0, %1, %2, %0" : "+r"(acc) : "r"(x), "r"(levels));
    return acc;
}

/* One load, even with -ffreestanding, where memcpy is an ordinary function. */
INLINE uint32_t dsp_word(const void *bytes) {
    uint32_t word;
    __builtin_memcpy(&word, bytes, sizeof word);
    return word;
}

/* Compute the accumulators of two channels, from `first` on, of `count` positions, a constant. */
INLINE void dsp_accumulate(const sqz_block *b, unsigned first, const uint8_t *in, size_t in_stride,
                           unsigned count, int32_t (*out)[SQZ_BLOCK]) {
    const int32_t *offset = b->offsets, *end = offset + b->num_groups;
    const int8_t *w = b->weights + SQZ_GROUP * first;
    int32_t acc[TILE][CHANNELS];
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned k = 0; k < CHANNELS; k++) acc[i][k] = b->bias[first + k];
    for (; offset < end; offset++, w += SQZ_BLOCK * SQZ_GROUP) {
        uint32_t even[TILE], odd[TILE];
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) {
            uint32_t x = dsp_word(in + *offset + i * in_stride);
            even[i] = even_inputs(x);
            odd[i] = odd_inputs(x);
        }
        SQZ_UNROLL_FOR (unsigned k = 0; k < CHANNELS; k++) {
            uint32_t levels = dsp_word(w + SQZ_GROUP * k);
            uint32_t even_w = even_levels(levels), odd_w = odd_levels(levels);
            SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) {
                acc[i][k] = dsp_add_products(even[i], even_w, acc[i][k]);
                acc[i][k] = dsp_add_products(odd[i], odd_w, acc[i][k]);
            }
        }
    }
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned k = 0; k < CHANNELS; k++) out[i][first + k] = acc[i][k];
}

static void dsp_accumulate_tile(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                unsigned count, int32_t (*acc)[SQZ_BLOCK]) {
    for (unsigned first = 0; first < SQZ_BLOCK && first < b->channels; first += CHANNELS)
        if (count == TILE) dsp_accumulate(b, first, in, in_stride, TILE, acc);
        else dsp_accumulate(b, first, in, in_stride, 1, acc);
}

/* >> of a negative number rounds down with all compilers that have these instructions. */
INLINE uint8_t dsp_requantise(const sqz_block *b, unsigned i, int32_t acc) {
    int32_t t = (acc + (int32_t)((1u << b->shift[i]) >> 1)) >> b->shift[i];
    t = t < -32768 ? -32768 : t > 32767 ? 32767 : t;
    int32_t q = b->zero_point + ((t * b->multiplier[i] + 16384) >> 15);
    return (uint8_t)(q < b->low ? b->low : q > 255 ? 255 : q);
}

static void dsp_convolve(const sqz_block *b, const sqz_span *span) {
    const uint8_t *in = span->in;
    uint8_t *out = span->out;
    for (uint32_t left = span->count, count; left; left -= count, in += count * span->in_stride) {
        int32_t acc[TILE][SQZ_BLOCK];
        count = left < TILE ? left : TILE;
        dsp_accumulate_tile(b, in, span->in_stride, count, acc);
        for (uint32_t i = 0; i < count; i++, out += span->out_stride)
            for (unsigned k = 0; k < b->channels; k++) out[k] = dsp_requantise(b, k, acc[i][k]);
    }
}

static void dsp_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    const uint8_t *in = span->in;
    for (uint32_t left = span->count, count; left; left -= count, in += count * span->in_stride) {
        int32_t acc[TILE][SQZ_BLOCK];
        count = left < TILE ? left : TILE;
        dsp_accumulate_tile(b, in, span->in_stride, count, acc);
        for (uint32_t i = 0; i < count; i++)
            for (unsigned k = 0; k < b->channels; k++)
                sums[k] += relu && acc[i][k] < 0 ? 0 : acc[i][k];
    }
}

static int dsp_is_supported(void) { return 1; }

const sqz_kernels sqz_dsp = {
    .name = "ARM-DSP",
    .is_supported = dsp_is_supported,
    .convolve = dsp_convolve,
    .sum = dsp_sum,
};
#endif
