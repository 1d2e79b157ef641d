/* What the kernels with registers of 512 bits share: how accumulators become bytes, and pixels the
 * input. */
#ifndef SQZ_AVX512_H
#define SQZ_AVX512_H

#include "../src/sqz_runtime.h"

#if defined(SQZ_VNNI)
#include <immintrin.h>
#include <string.h>

#define SQZ_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define SQZ_AVX512_INLINE SQZ_AVX512 static inline __attribute__((always_inline, unused))

/* The constants of requantising a block, for four positions at once. Packing leaves 4 channels of
 * each position together, so multipliers are in pairs of 4. */
typedef struct {
    __m512i half, shift, multiplier, zero_point, low;
    __mmask16 channels;
} sqz_requantiser_512;

/* `half` also has what is to be added to each accumulator: the bias, or 0. */
SQZ_AVX512_INLINE sqz_requantiser_512 sqz_requantiser_512_of(const sqz_block *b, __m512i bias) {
    const __m512i pairs = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
    sqz_requantiser_512 q;
    q.shift = _mm512_loadu_si512((const void *)b->shift);
    q.half = _mm512_srli_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(1), q.shift), 1);
    q.half = _mm512_add_epi32(q.half, bias);
    q.multiplier = _mm512_permutexvar_epi64(
        pairs, _mm512_castsi256_si512(_mm256_loadu_si256((const void *)b->multiplier)));
    q.zero_point = _mm512_set1_epi16(b->zero_point);
    q.low = _mm512_set1_epi8((char)b->low);
    q.channels = (__mmask16)(0xffffu >> (SQZ_BLOCK - b->channels));
    return q;
}

/* Two positions: 16 bits per channel. */
SQZ_AVX512_INLINE __m512i sqz_requantise_512(const sqz_requantiser_512 *q, __m512i acc0,
                                             __m512i acc1) {
    acc0 = _mm512_srav_epi32(_mm512_add_epi32(acc0, q->half), q->shift);
    acc1 = _mm512_srav_epi32(_mm512_add_epi32(acc1, q->half), q->shift);
    __m512i t = _mm512_mulhrs_epi16(_mm512_packs_epi32(acc0, acc1), q->multiplier);
    return _mm512_adds_epi16(t, q->zero_point);
}

/* Write the bytes of `count` positions, 1 to 4, whose accumulators are given. */
SQZ_AVX512_INLINE void sqz_store_512(const sqz_requantiser_512 *q, __m512i acc0, __m512i acc1,
                                     __m512i acc2, __m512i acc3, uint8_t *out, size_t out_stride,
                                     unsigned count) {
    const __m512i by_position =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i bytes =
        _mm512_packus_epi16(sqz_requantise_512(q, acc0, acc1), sqz_requantise_512(q, acc2, acc3));
    bytes = _mm512_permutexvar_epi32(by_position, _mm512_max_epu8(bytes, q->low));
    _mm_mask_storeu_epi8(out, q->channels, _mm512_castsi512_si128(bytes));
    if (count > 1)
        _mm_mask_storeu_epi8(out + out_stride, q->channels, _mm512_extracti32x4_epi32(bytes, 1));
    if (count > 2)
        _mm_mask_storeu_epi8(out + 2 * out_stride, q->channels,
                             _mm512_extracti32x4_epi32(bytes, 2));
    if (count > 3)
        _mm_mask_storeu_epi8(out + 3 * out_stride, q->channels,
                             _mm512_extracti32x4_epi32(bytes, 3));
}

/* sqz_kernels.write_pixels */
void sqz_write_pixels_512(const uint32_t multiplier[3], const uint8_t *in, uint32_t count,
                          uint8_t *out);

/* Add the accumulators of a position to the sums of the head. */
SQZ_AVX512_INLINE void sqz_add_512(__m512i acc, __m512i floor, __m512i sums[2]) {
    acc = _mm512_max_epi32(acc, floor);
    sums[0] = _mm512_add_epi64(sums[0], _mm512_cvtepi32_epi64(_mm512_castsi512_si256(acc)));
    sums[1] = _mm512_add_epi64(sums[1], _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(acc, 1)));
}
#endif

#endif
