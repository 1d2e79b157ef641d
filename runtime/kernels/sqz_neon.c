/* NEON of 64-bit ARM, with and without dot products. Both multiply signed bytes, so 128 is
 * subtracted from the inputs, and arm_prepare adds to the bias what that takes off the sums.
 * Accumulators are passed on in memory. That costs little, since each is the sum of many groups of
 * inputs. */
#include "../src/sqz_runtime.h"

#if defined(SQZ_NEON)
#include <arm_neon.h>
#include <string.h>

#if defined(SQZ_DOTPROD) && !defined(__ARM_FEATURE_DOTPROD)
#include <sys/auxv.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define TILE 4 /* positions at once: 16 accumulators in 32 registers */

/* Computes the accumulators of `count` positions, at most a tile. */
typedef void accumulator(const sqz_block *b, const uint8_t *in, size_t in_stride, unsigned count,
                         int32_t (*acc)[SQZ_BLOCK]);

/* One load, even with -ffreestanding, where memcpy is an ordinary function. */
static inline uint32_t arm_word(const uint8_t *bytes) {
    uint32_t word;
    __builtin_memcpy(&word, bytes, sizeof word);
    return word;
}

static inline int8x16_t lowered(uint8x16_t x) {
    return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(128)));
}

/* Add to the bias 128 * (sum of all levels): inputs are 128 lower. */
static void arm_prepare(sqz_block *b) {
    int32x4_t total[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    const int8_t *w = b->weights;
    for (uint32_t g = 0; g < b->num_groups; g++, w += 64)
        SQZ_UNROLL_FOR (unsigned q = 0; q < 4; q++)
            total[q] = vpadalq_s16(total[q], vpaddlq_s8(vld1q_s8(w + 16 * q)));
    SQZ_UNROLL_FOR (unsigned q = 0; q < 4; q++) {
        int32_t *bias = b->bias + 4 * q;
        vst1q_s32(bias, vaddq_s32(vld1q_s32(bias), vshlq_n_s32(total[q], 7)));
    }
}

/* Length of the next tile. Tiles are about equally long: a short one would have to wait for the
 * latency of its own sums. */
INLINE unsigned arm_next(uint32_t left, unsigned max) {
    uint32_t tiles = (left + max - 1) / max;
    return (left + tiles - 1) / tiles;
}

INLINE void arm_convolve(const sqz_block *b, const sqz_span *span, accumulator *accumulate,
                         unsigned max) {
    const int16x8_t zero = vdupq_n_s16(b->zero_point);
    const uint8x16_t low = vdupq_n_u8(b->low);
    const uint8_t *in = span->in;
    uint8_t *out = span->out;
    int32_t acc[TILE][SQZ_BLOCK];
    for (uint32_t left = span->count, count; left; left -= count, in += count * span->in_stride) {
        count = arm_next(left, max);
        accumulate(b, in, span->in_stride, count, acc);
        for (uint32_t i = 0; i < count; i++, out += span->out_stride) {
            uint8x8_t bytes[2];
            SQZ_UNROLL_FOR (unsigned h = 0; h < 2; h++) {
                int16x4_t t[2];
                SQZ_UNROLL_FOR (unsigned q = 0; q < 2; q++) {
                    unsigned k = 8 * h + 4 * q;
                    int32x4_t shift = vnegq_s32(vld1q_s32(b->shift + k));
                    t[q] = vqmovn_s32(vrshlq_s32(vld1q_s32(acc[i] + k), shift));
                }
                int16x8_t multiplier = vld1q_s16(b->multiplier + 8 * h);
                int16x8_t q = vqrdmulhq_s16(vcombine_s16(t[0], t[1]), multiplier);
                bytes[h] = vqmovun_s16(vqaddq_s16(q, zero));
            }
            uint8x16_t all = vmaxq_u8(vcombine_u8(bytes[0], bytes[1]), low);
            if (b->channels == SQZ_BLOCK) {
                vst1q_u8(out, all);
            } else {
                uint8_t some[SQZ_BLOCK];
                vst1q_u8(some, all);
                memcpy(out, some, b->channels);
            }
        }
    }
}

INLINE void arm_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums,
                    accumulator *accumulate, unsigned max) {
    const int32x4_t floor = vdupq_n_s32(relu ? 0 : INT32_MIN);
    const uint8_t *in = span->in;
    int32_t acc[TILE][SQZ_BLOCK];
    for (uint32_t left = span->count, count; left; left -= count, in += count * span->in_stride) {
        count = arm_next(left, max);
        accumulate(b, in, span->in_stride, count, acc);
        for (unsigned k = 0; k < SQZ_BLOCK; k += 2) {
            int64x2_t total = vld1q_s64(sums + k);
            for (uint32_t i = 0; i < count; i++)
                total = vaddw_s32(total, vmax_s32(vld1_s32(acc[i] + k), vget_low_s32(floor)));
            vst1q_s64(sums + k, total);
        }
    }
}

/* Without dot products, products are summed in 16 bits for as many groups of inputs as surely fit
 * (groups_per_widening). In each pair of lanes the positive levels add up to at most 128, and so do
 * the negative ones. With inputs of -128 to 127 the sum is within 127 * 128 + 128 * 128 = 32640. */
#define TILE_16 2 /* positions at once: 16 sums of 16 bits and 8 of 32 bits in registers */

INLINE void accumulate_16(const sqz_block *b, const uint8_t *in, size_t in_stride, unsigned count,
                          int32_t (*out)[SQZ_BLOCK]) {
    const int32_t *offset = b->offsets, *end = offset + b->num_groups;
    const int8_t *w = b->weights;
    int32x4_t acc[TILE_16][4];
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned q = 0; q < 4; q++) acc[i][q] = vld1q_s32(b->bias + 4 * q);
    for (const uint8_t *run = b->groups_per_widening; offset < end; run++) {
        const int32_t *until = offset + *run;
        int16x8_t sum[TILE_16][8];
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
            SQZ_UNROLL_FOR (unsigned h = 0; h < 8; h++) sum[i][h] = vdupq_n_s16(0);
        for (; offset < until; offset++, w += 64) {
            int8x16_t x[TILE_16];
            const uint8_t *at = in + *offset;
            SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
                x[i] = lowered(vreinterpretq_u8_u32(vdupq_n_u32(arm_word(at + i * in_stride))));
            SQZ_UNROLL_FOR (unsigned q = 0; q < 4; q++) {
                int8x16_t levels = vld1q_s8(w + 16 * q);
                SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) {
                    int16x8_t *s = &sum[i][2 * q];
                    s[0] = vmlal_s8(s[0], vget_low_s8(levels), vget_low_s8(x[i]));
                    s[1] = vmlal_high_s8(s[1], levels, x[i]);
                }
            }
        }
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
            SQZ_UNROLL_FOR (unsigned q = 0; q < 4; q++)
                acc[i][q] = vpadalq_s16(acc[i][q], vpaddq_s16(sum[i][2 * q], sum[i][2 * q + 1]));
    }
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned q = 0; q < 4; q++) vst1q_s32(out[i] + 4 * q, acc[i][q]);
}

static void neon_accumulate(const sqz_block *b, const uint8_t *in, size_t in_stride, unsigned count,
                            int32_t (*acc)[SQZ_BLOCK]) {
    if (count == 2) accumulate_16(b, in, in_stride, 2, acc);
    else accumulate_16(b, in, in_stride, 1, acc);
}

static void neon_convolve(const sqz_block *b, const sqz_span *span) {
    arm_convolve(b, span, neon_accumulate, TILE_16);
}

static void neon_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    arm_sum(b, span, relu, sums, neon_accumulate, TILE_16);
}

static int neon_is_supported(void) { return 1; }

const sqz_kernels sqz_neon = {
    .name = "NEON",
    .sums_in_16_bits = 1,
    .is_supported = neon_is_supported,
    .prepare = arm_prepare,
    .convolve = neon_convolve,
    .sum = neon_sum,
};
#endif

#if defined(SQZ_DOTPROD)
#if defined(__ARM_FEATURE_DOTPROD)
#define DOTPROD
static int dotprod_is_supported(void) { return 1; }
#else
#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
static int dotprod_is_supported(void) { return getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */ }
#endif

/* The inputs of four groups, which are mostly adjacent. */
INLINE DOTPROD int8x16_t dotprod_inputs(const uint8_t *in, const int32_t *offset, int adjacent) {
    if (adjacent) return lowered(vld1q_u8(in + offset[0]));
    uint32x4_t x = vdupq_n_u32(arm_word(in + offset[0]));
    x = vsetq_lane_u32(arm_word(in + offset[1]), x, 1);
    x = vsetq_lane_u32(arm_word(in + offset[2]), x, 2);
    x = vsetq_lane_u32(arm_word(in + offset[3]), x, 3);
    return lowered(vreinterpretq_u8_u32(x));
}

INLINE DOTPROD void accumulate_32(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                  unsigned count, int32_t (*out)[SQZ_BLOCK]) {
    const int32_t *offset = b->offsets, *end = offset + b->num_groups;
    const int8_t *w = b->weights;
    int32x4_t acc[TILE][4];
    int8x16_t x[TILE];
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned q = 0; q < 4; q++) acc[i][q] = vld1q_s32(b->bias + 4 * q);
#define GROUP(n)                                                     \
    SQZ_UNROLL_FOR (unsigned q = 0; q < 4; q++) {                    \
        int8x16_t levels = vld1q_s8(w + 64 * n + 16 * q);            \
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)              \
            acc[i][q] = vdotq_laneq_s32(acc[i][q], levels, x[i], n); \
    }
    for (; end - offset >= 4; offset += 4, w += 4 * 64) {
        int adjacent =
            offset[1] - offset[0] == 4 && offset[2] - offset[0] == 8 && offset[3] - offset[0] == 12;
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
            x[i] = dotprod_inputs(in + i * in_stride, offset, adjacent);
        GROUP(0)
        GROUP(1)
        GROUP(2)
        GROUP(3)
    }
    for (; offset < end; offset++, w += 64) {
        const uint8_t *at = in + *offset;
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
            x[i] = lowered(vreinterpretq_u8_u32(vdupq_n_u32(arm_word(at + i * in_stride))));
        GROUP(0)
    }
#undef GROUP
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned q = 0; q < 4; q++) vst1q_s32(out[i] + 4 * q, acc[i][q]);
}

static DOTPROD void dotprod_accumulate(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                       unsigned count, int32_t (*acc)[SQZ_BLOCK]) {
    switch (count) {
    case 1: accumulate_32(b, in, in_stride, 1, acc); break;
    case 2: accumulate_32(b, in, in_stride, 2, acc); break;
    case 3: accumulate_32(b, in, in_stride, 3, acc); break;
    case 4: accumulate_32(b, in, in_stride, 4, acc); break;
    }
}

static void dotprod_convolve(const sqz_block *b, const sqz_span *span) {
    arm_convolve(b, span, dotprod_accumulate, TILE);
}

static void dotprod_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    arm_sum(b, span, relu, sums, dotprod_accumulate, TILE);
}

const sqz_kernels sqz_dotprod = {
    .name = "NEON-DOTPROD",
    .is_supported = dotprod_is_supported,
    .prepare = arm_prepare,
    .convolve = dotprod_convolve,
    .sum = dotprod_sum,
};
#endif
