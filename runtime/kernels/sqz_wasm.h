/* What the kernels for WebAssembly share: requantisation, and the loops over positions. They differ
 * in how accumulators are computed, which are passed on in memory. That costs little, since each is
 * the sum of many groups of inputs. */
#ifndef SQZ_WASM_H
#define SQZ_WASM_H

#include "../src/sqz_runtime.h"

#if defined(SQZ_WASM)
#include <string.h>
#include <wasm_simd128.h>

#define INLINE static inline __attribute__((always_inline))
#define TILE 2 /* positions at once: 8 sums in 16 registers, of x86 */

/* Computes the accumulators of `count` positions, at most a tile. */
typedef void accumulator(const sqz_block *b, const uint8_t *in, size_t in_stride, unsigned count,
                         int32_t (*acc)[SQZ_BLOCK]);

/* All lanes of a register are shifted by the same number of bits. So all are shifted by the
 * smallest of the shifts, and then, for each bit of the rest, those that have it in their mask. */
typedef struct {
    v128_t half[4], mask[4][5];
    uint32_t min, bits;
} shifter;

static shifter shifter_of(const sqz_block *b) {
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

INLINE v128_t shifted(const shifter *s, v128_t acc, unsigned q) {
    acc = wasm_i32x4_shr(wasm_i32x4_add(acc, s->half[q]), s->min);
    for (unsigned k = 0; k < s->bits; k++)
        acc = wasm_v128_bitselect(wasm_i32x4_shr(acc, 1u << k), acc, s->mask[q][k]);
    return acc;
}

INLINE void wasm_convolve(const sqz_block *b, const sqz_span *span, accumulator *accumulate) {
    const shifter s = shifter_of(b);
    const v128_t zero = wasm_i16x8_splat(b->zero_point), low = wasm_u8x16_splat(b->low);
    const uint8_t *in = span->in;
    uint8_t *out = span->out;
    for (uint32_t left = span->count, count; left; left -= count, in += count * span->in_stride) {
        int32_t acc[TILE][SQZ_BLOCK];
        count = left < TILE ? left : TILE;
        accumulate(b, in, span->in_stride, count, acc);
        for (uint32_t i = 0; i < count; i++, out += span->out_stride) {
            v128_t t[2];
            SQZ_UNROLL_FOR (unsigned h = 0; h < 2; h++) {
                v128_t acc0 = shifted(&s, wasm_v128_load(acc[i] + 8 * h), 2 * h);
                v128_t acc1 = shifted(&s, wasm_v128_load(acc[i] + 8 * h + 4), 2 * h + 1);
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

INLINE void wasm_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums,
                     accumulator *accumulate) {
    const uint8_t *in = span->in;
    for (uint32_t left = span->count, count; left; left -= count, in += count * span->in_stride) {
        int32_t acc[TILE][SQZ_BLOCK];
        count = left < TILE ? left : TILE;
        accumulate(b, in, span->in_stride, count, acc);
        for (uint32_t i = 0; i < count; i++)
            for (unsigned k = 0; k < SQZ_BLOCK; k++)
                sums[k] += relu && acc[i][k] < 0 ? 0 : acc[i][k];
    }
}
#endif
#endif
