/* SIMD of WebAssembly. Products of bytes and levels are summed in 16 bits for as many groups of
 * inputs as surely fit (groups_per_widening). On x86 that takes about as long as i32x4.dot_i16x8,
 * which sums in 32 bits, and ARM has no instruction for the latter. */
#include "sqz_wasm.h"

#if defined(SQZ_WASM)
/* Four inputs, twice, in 16 bits. */
INLINE v128_t simd_inputs(const uint8_t *x) {
    return wasm_u16x8_extend_low_u8x16(wasm_v128_load32_splat(x));
}

/* Compute the accumulators of channels `first` to `first` + 7 of `count` positions, a constant. A
 * register holds the four products of two channels, so an accumulator is in two halves. */
INLINE void simd_accumulate(const sqz_block *b, unsigned first, const uint8_t *in, size_t in_stride,
                            unsigned count, int32_t (*out)[SQZ_BLOCK]) {
    const int32_t *offset = b->offsets, *end = offset + b->num_groups;
    const int8_t *w = b->weights + SQZ_GROUP * first;
    v128_t acc[TILE][4];
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) acc[i][h] = wasm_i32x4_splat(0);
    for (const uint8_t *run = b->groups_per_widening; offset < end; run++) {
        const int32_t *until = offset + *run;
        v128_t sum[TILE][4];
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
            SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) sum[i][h] = wasm_i16x8_splat(0);
        for (; offset < until; offset++, w += SQZ_BLOCK * SQZ_GROUP) {
            v128_t x[TILE];
            SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
                x[i] = simd_inputs(in + *offset + i * in_stride);
            SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++) {
                v128_t levels = wasm_i16x8_load8x8(w + 8 * h);
                SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
                    sum[i][h] = wasm_i16x8_add(sum[i][h], wasm_i16x8_mul(x[i], levels));
            }
        }
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
            SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h++)
                acc[i][h] = wasm_i32x4_add(acc[i][h], wasm_i32x4_extadd_pairwise_i16x8(sum[i][h]));
    }
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++)
        SQZ_UNROLL_FOR (unsigned h = 0; h < 4; h += 2) {
            unsigned channel = first + 2 * h;
            v128_t even = wasm_i32x4_shuffle(acc[i][h], acc[i][h + 1], 0, 2, 4, 6);
            v128_t odd = wasm_i32x4_shuffle(acc[i][h], acc[i][h + 1], 1, 3, 5, 7);
            v128_t bias = wasm_v128_load(b->bias + channel);
            wasm_v128_store(out[i] + channel, wasm_i32x4_add(bias, wasm_i32x4_add(even, odd)));
        }
}

static void simd_accumulate_tile(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                 unsigned count, int32_t (*acc)[SQZ_BLOCK]) {
    for (unsigned first = 0; first < SQZ_BLOCK; first += 8)
        if (count == TILE) simd_accumulate(b, first, in, in_stride, TILE, acc);
        else simd_accumulate(b, first, in, in_stride, 1, acc);
}

static void simd_convolve(const sqz_block *b, const sqz_span *span) {
    wasm_convolve(b, span, simd_accumulate_tile);
}

static void simd_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    wasm_sum(b, span, relu, sums, simd_accumulate_tile);
}

static int simd_is_supported(void) { return 1; }

const sqz_kernels sqz_wasm = {
    .name = "WASM-SIMD",
    .sums_in_16_bits = 1,
    .is_supported = simd_is_supported,
    .convolve = simd_convolve,
    .sum = simd_sum,
};
#endif
