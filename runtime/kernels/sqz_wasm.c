/* SIMD of WebAssembly. Products of bytes and levels are summed in 16 bits for as many groups of
 * inputs as surely fit (groups_per_widening). On x86 that takes about as long as i32x4.dot_i16x8,
 * which sums in 32 bits, and ARM has no instruction for the latter. Accumulators are passed on in
 * memory. That costs little, since each is the sum of many groups. */
#include "../src/sqz_runtime.h"

#if defined(SQZ_WASM)
#include <string.h>
#include <wasm_simd128.h>

#define INLINE static inline __attribute__((always_inline))
#define TILE 2 /* positions at once, of 8 channels: 8 sums in 16 registers */

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

/* All lanes of a register are shifted by the same number of bits. So all are shifted by the
 * smallest of the shifts, and then, for each bit of the rest, those that have it in their mask. */
typedef struct {
    v128_t half[4], mask[4][5];
    uint32_t min, bits;
} shifter;

static shifter simd_shifter_of(const sqz_block *b) {
    shifter s;
    int32_t half[SQZ_BLOCK], left[SQZ_BLOCK], any = 0;
    s.min = 31;
    for (unsigned i = 0; i < b->channels; i++)
        if ((uint32_t)b->shift[i] < s.min) s.min = (uint32_t)b->shift[i];
    for (unsigned i = 0; i < SQZ_BLOCK; i++) {
        half[i] = (int32_t)((1u << b->shift[i]) >> 1);
        left[i] = i < b->channels ? b->shift[i] - (int32_t)s.min : 0;
        any |= left[i];
    }
    for (s.bits = 0; any >> s.bits; s.bits++) {}
    for (unsigned q = 0; q < 4; q++) {
        s.half[q] = wasm_v128_load(half + 4 * q);
        for (unsigned k = 0; k < s.bits; k++) {
            v128_t bit = wasm_v128_and(wasm_v128_load(left + 4 * q), wasm_i32x4_splat(1 << k));
            s.mask[q][k] = wasm_i32x4_ne(bit, wasm_i32x4_splat(0));
        }
    }
    return s;
}

INLINE v128_t simd_shift(const shifter *s, v128_t acc, unsigned q) {
    acc = wasm_i32x4_shr(wasm_i32x4_add(acc, s->half[q]), s->min);
    for (unsigned k = 0; k < s->bits; k++)
        acc = wasm_v128_bitselect(wasm_i32x4_shr(acc, 1u << k), acc, s->mask[q][k]);
    return acc;
}

static void simd_convolve(const sqz_block *b, const sqz_span *span) {
    const shifter s = simd_shifter_of(b);
    const v128_t zero = wasm_i16x8_splat(b->zero_point), low = wasm_u8x16_splat(b->low);
    const uint8_t *in = span->in;
    uint8_t *out = span->out;
    for (uint32_t left = span->count, count; left; left -= count, in += count * span->in_stride) {
        int32_t acc[TILE][SQZ_BLOCK];
        count = left < TILE ? left : TILE;
        simd_accumulate_tile(b, in, span->in_stride, count, acc);
        for (uint32_t i = 0; i < count; i++, out += span->out_stride) {
            v128_t t[2];
            SQZ_UNROLL_FOR (unsigned h = 0; h < 2; h++) {
                v128_t acc0 = simd_shift(&s, wasm_v128_load(acc[i] + 8 * h), 2 * h);
                v128_t acc1 = simd_shift(&s, wasm_v128_load(acc[i] + 8 * h + 4), 2 * h + 1);
                t[h] = wasm_i16x8_q15mulr_sat(wasm_i16x8_narrow_i32x4(acc0, acc1),
                                              wasm_v128_load(b->multiplier + 8 * h));
                t[h] = wasm_i16x8_add_sat(t[h], zero);
            }
            v128_t bytes = wasm_u8x16_max(wasm_u8x16_narrow_i16x8(t[0], t[1]), low);
            if (b->channels == SQZ_BLOCK) {
                wasm_v128_store(out, bytes);
            } else {
                uint8_t all[SQZ_BLOCK];
                wasm_v128_store(all, bytes);
                memcpy(out, all, b->channels);
            }
        }
    }
}

static void simd_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    const uint8_t *in = span->in;
    for (uint32_t left = span->count, count; left; left -= count, in += count * span->in_stride) {
        int32_t acc[TILE][SQZ_BLOCK];
        count = left < TILE ? left : TILE;
        simd_accumulate_tile(b, in, span->in_stride, count, acc);
        for (uint32_t i = 0; i < count; i++)
            for (unsigned k = 0; k < SQZ_BLOCK; k++)
                sums[k] += relu && acc[i][k] < 0 ? 0 : acc[i][k];
    }
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
