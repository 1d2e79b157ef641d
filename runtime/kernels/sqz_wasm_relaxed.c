/* Relaxed SIMD of WebAssembly, which multiplies bytes in one instruction. Where the highest bit of
 * its second operand is set, that is signed on some machines and unsigned on others. A machine
 * never changes its mind, so each of the two kernels first tries all bytes.
 *
 * WASM-MADD, where it is unsigned, as on x86: a byte times a level, and sums in 16 bits, for as
 * many groups of inputs as surely fit (groups_per_widening).
 *
 * WASM-DOT, where it is signed, as on ARM: four products in 32 bits. The operand is the byte less
 * 128, and dot_prepare adds to the bias what that takes off the sums. */
#include "sqz_wasm.h"

#if defined(SQZ_WASM_RELAXED)
/* ---- WASM-MADD ---- */

INLINE void madd_accumulate(const sqz_block *b, const uint8_t *in, size_t in_stride, unsigned count,
                            int32_t (*out)[SQZ_BLOCK]) {
    const int32_t *offset = b->offsets, *end = offset + b->num_groups;
    const int8_t *w = b->weights;
    v128_t acc[TILE][4];
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) acc[i][h] = wasm_v128_load(b->bias + 4 * h);
    for (const uint8_t *run = b->groups_per_widening; offset < end; run++) {
        const int32_t *until = offset + *run;
        v128_t sum[TILE][4];
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
            SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) sum[i][h] = wasm_i16x8_splat(0);
        for (; offset < until; offset++, w += SQZ_GROUP_BYTES) {
            v128_t x[TILE];
            SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
                x[i] = wasm_v128_load32_splat(in + *offset + i * in_stride);
            SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) {
                v128_t levels = wasm_v128_load(w + 16 * h);
                SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
                    sum[i][h] =
                        wasm_i16x8_add(sum[i][h], wasm_i16x8_relaxed_dot_i8x16_i7x16(levels, x[i]));
            }
        }
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
            SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++)
                acc[i][h] = wasm_i32x4_add(acc[i][h], wasm_i32x4_extadd_pairwise_i16x8(sum[i][h]));
    }
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) wasm_v128_store(out[i] + 4 * h, acc[i][h]);
}

static void madd_accumulate_tile(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                 unsigned count, int32_t (*acc)[SQZ_BLOCK]) {
    if (count == TILE) madd_accumulate(b, in, in_stride, TILE, acc);
    else madd_accumulate(b, in, in_stride, 1, acc);
}

static void madd_convolve(const sqz_block *b, const sqz_span *span) {
    wasm_convolve(b, span, madd_accumulate_tile);
}

static void madd_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    wasm_sum(b, span, relu, sums, madd_accumulate_tile);
}

/* Levels for a trial: pairs of small and large ones, whose products with 255 fit into 16 bits. */
INLINE v128_t trial_levels(void) {
    return wasm_i8x16_const(1, 0, -1, 0, 127, 0, -127, 0, 64, 64, -64, -64, 0, 127, 100, -127);
}

/* The exact sums of the products of pairs. */
INLINE v128_t trial_sums(v128_t x) {
    v128_t low = wasm_i16x8_mul(wasm_i16x8_extend_low_i8x16(trial_levels()), x);
    v128_t high = wasm_i16x8_mul(wasm_i16x8_extend_high_i8x16(trial_levels()), x);
    return wasm_i16x8_add(wasm_i16x8_shuffle(low, high, 0, 2, 4, 6, 8, 10, 12, 14),
                          wasm_i16x8_shuffle(low, high, 1, 3, 5, 7, 9, 11, 13, 15));
}

static int madd_is_supported(void) {
    v128_t wrong = wasm_i32x4_splat(0);
    for (int x = 0; x < 256; x++) {
        v128_t found =
            wasm_i16x8_relaxed_dot_i8x16_i7x16(trial_levels(), wasm_i8x16_splat((int8_t)x));
        wrong = wasm_v128_or(wrong, wasm_v128_xor(found, trial_sums(wasm_i16x8_splat((int16_t)x))));
    }
    return !wasm_v128_any_true(wrong);
}

const sqz_kernels sqz_wasm_madd = {
    .name = "WASM-MADD",
    .sums_in_16_bits = 1,
    .is_supported = madd_is_supported,
    .convolve = madd_convolve,
    .sum = madd_sum,
};

/* ---- WASM-DOT ---- */

/* Add to the bias 128 * (sum of all levels): inputs are 128 lower. */
static void dot_prepare(sqz_block *b) {
    const v128_t ones = wasm_i8x16_splat(1);
    const int8_t *w = b->weights;
    v128_t total[4];
    SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) total[h] = wasm_i32x4_splat(0);
    for (uint32_t g = 0; g < b->num_groups; g++, w += SQZ_GROUP_BYTES)
        SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++)
            total[h] =
                wasm_i32x4_relaxed_dot_i8x16_i7x16_add(wasm_v128_load(w + 16 * h), ones, total[h]);
    SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) {
        v128_t bias = wasm_v128_load(b->bias + 4 * h);
        wasm_v128_store(b->bias + 4 * h, wasm_i32x4_add(bias, wasm_i32x4_shl(total[h], 7)));
    }
}

INLINE void dot_accumulate(const sqz_block *b, const uint8_t *in, size_t in_stride, unsigned count,
                           int32_t (*out)[SQZ_BLOCK]) {
    const int32_t *offset = b->offsets, *end = offset + b->num_groups;
    const int8_t *w = b->weights;
    const v128_t high_bits = wasm_u8x16_splat(128);
    v128_t acc[TILE][4];
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) acc[i][h] = wasm_v128_load(b->bias + 4 * h);
    for (; offset < end; offset++, w += SQZ_GROUP_BYTES) {
        v128_t x[TILE];
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
            x[i] = wasm_v128_xor(wasm_v128_load32_splat(in + *offset + i * in_stride), high_bits);
        SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) {
            v128_t levels = wasm_v128_load(w + 16 * h);
            SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
                acc[i][h] = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(levels, x[i], acc[i][h]);
        }
    }
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) wasm_v128_store(out[i] + 4 * h, acc[i][h]);
}

static void dot_accumulate_tile(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                unsigned count, int32_t (*acc)[SQZ_BLOCK]) {
    if (count == TILE) dot_accumulate(b, in, in_stride, TILE, acc);
    else dot_accumulate(b, in, in_stride, 1, acc);
}

static void dot_convolve(const sqz_block *b, const sqz_span *span) {
    wasm_convolve(b, span, dot_accumulate_tile);
}

static void dot_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    wasm_sum(b, span, relu, sums, dot_accumulate_tile);
}

static int dot_is_supported(void) {
    v128_t wrong = wasm_i32x4_splat(0);
    for (int x = -128; x < 128; x++) {
        v128_t found = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(
            trial_levels(), wasm_i8x16_splat((int8_t)x), wasm_i32x4_splat(0));
        v128_t sums = wasm_i32x4_extadd_pairwise_i16x8(trial_sums(wasm_i16x8_splat((int16_t)x)));
        wrong = wasm_v128_or(wrong, wasm_v128_xor(found, sums));
    }
    return !wasm_v128_any_true(wrong);
}

const sqz_kernels sqz_wasm_dot = {
    .name = "WASM-DOT",
    .is_supported = dot_is_supported,
    .prepare = dot_prepare,
    .convolve = dot_convolve,
    .sum = dot_sum,
};
#endif
