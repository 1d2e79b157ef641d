/* AVX-512 VNNI and AVX-VNNI: vpdpbusd multiplies four bytes by four levels and adds the products
 * to 32 bits, exactly. */
#include "sqz_avx512.h"

#if defined(SQZ_VNNI)
/* Positions at once: the rows of SqueezeNet have 13, 27, 55 and 111. Each multiplication of one block
 * needs 1 + 1 / 14 reads, of a pair of blocks 1 / 2 + 1 / 7. That matters to processors that multiply
 * as often as they read, and to two threads that share a core. */
#define TILE 14
#define TILE_PAIR 7

#define AVX2 __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline))

/* Every fourth position of a tile has a pointer. The three after it are at offsets from it, so all
 * addresses are sums of two registers. */
typedef struct {
    const uint8_t *fourth[(TILE + 3) / 4];
    size_t in_stride;
} windows;

INLINE windows windows_of(const uint8_t *in, size_t in_stride, unsigned count) {
    windows x = {{NULL}, in_stride};
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i += 4) x.fourth[i / 4] = in + i * in_stride;
    return x;
}

/* Four inputs of position i. */
INLINE int32_t vnni_inputs(const windows *x, int32_t offset, unsigned i) {
    int32_t word;
    memcpy(&word, x->fourth[i / 4] + ((size_t)offset + i % 4 * x->in_stride), sizeof word);
    return word;
}

/* Length of the next tile. Tiles are about equally long: a short one would have to wait for the
 * latency of its own sums. */
INLINE unsigned vnni_next(uint32_t left, unsigned max) {
    uint32_t tiles = (left + max - 1) / max;
    return (left + tiles - 1) / tiles;
}

/* Compute the accumulators of `count` positions, a constant. A register holds the weights of a group,
 * and all accumulators of a position. */
SQZ_AVX512_INLINE void accumulate_512(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                      unsigned count, __m512i first, __m512i *acc) {
    const windows x = windows_of(in, in_stride, count);
    const int32_t *offset = b->offsets, *end = offset + b->num_groups;
    const int8_t *w = b->weights;
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) acc[i] = first;
    for (; offset < end; offset++, w += 64) {
        __m512i levels = _mm512_loadu_si512((const void *)w);
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) {
            __m512i four = _mm512_set1_epi32(vnni_inputs(&x, *offset, i));
            acc[i] = _mm512_dpbusd_epi32(acc[i], four, levels);
        }
    }
}

SQZ_AVX512_INLINE void convolve_512(const sqz_block *b, const sqz_requantiser_512 *q, __m512i bias,
                                    const uint8_t *in, size_t in_stride, uint8_t *out,
                                    size_t out_stride, unsigned count) {
    __m512i acc[(TILE + 3) / 4 * 4];
    accumulate_512(b, in, in_stride, count, bias, acc);
    SQZ_UNROLL_FOR (unsigned i = count; i % 4; i++) acc[i] = acc[count - 1];
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i += 4)
        sqz_store_512(q, acc[i], acc[i + 1], acc[i + 2], acc[i + 3], out + i * out_stride,
                      out_stride, count - i);
}

SQZ_AVX512_INLINE void sum_512(const sqz_block *b, __m512i bias, const uint8_t *in,
                               size_t in_stride, __m512i floor, __m512i sums[2], unsigned count) {
    __m512i acc[TILE];
    accumulate_512(b, in, in_stride, count, bias, acc);
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) sqz_add_512(acc[i], floor, sums);
}

/* Do something with `count` as a constant. */
#define UP_TO_7(DO)       \
    case 1: DO(1); break; \
    case 2: DO(2); break; \
    case 3: DO(3); break; \
    case 4: DO(4); break; \
    case 5: DO(5); break; \
    case 6: DO(6); break; \
    case 7: DO(7); break;
#define EACH_COUNT(DO)      \
    switch (count) {        \
        UP_TO_7(DO)         \
    case 8: DO(8); break;   \
    case 9: DO(9); break;   \
    case 10: DO(10); break; \
    case 11: DO(11); break; \
    case 12: DO(12); break; \
    case 13: DO(13); break; \
    case 14: DO(14); break; \
    }
#define EACH_COUNT_OF_PAIR(DO) \
    switch (count) { UP_TO_7(DO) }

/* The same for a block and the one after it, whose offsets are equal. */
SQZ_AVX512_INLINE void accumulate_pair(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                       unsigned count, __m512i acc[2][(TILE_PAIR + 3) / 4 * 4]) {
    const windows x = windows_of(in, in_stride, count);
    const int32_t *offset = b->offsets, *end = offset + b->num_groups;
    const int8_t *w0 = b[0].weights, *w1 = b[1].weights;
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) {
        acc[0][i] = _mm512_loadu_si512((const void *)b[0].bias);
        acc[1][i] = _mm512_loadu_si512((const void *)b[1].bias);
    }
    for (; offset < end; offset++, w0 += 64, w1 += 64) {
        __m512i levels0 = _mm512_loadu_si512((const void *)w0);
        __m512i levels1 = _mm512_loadu_si512((const void *)w1);
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) {
            __m512i four = _mm512_set1_epi32(vnni_inputs(&x, *offset, i));
            acc[0][i] = _mm512_dpbusd_epi32(acc[0][i], four, levels0);
            acc[1][i] = _mm512_dpbusd_epi32(acc[1][i], four, levels1);
        }
    }
}

SQZ_AVX512_INLINE void convolve_pair(const sqz_block *b, const sqz_requantiser_512 *q0,
                                     const sqz_requantiser_512 *q1, const uint8_t *in,
                                     size_t in_stride, uint8_t *out, size_t out_stride,
                                     unsigned count) {
    __m512i acc[2][(TILE_PAIR + 3) / 4 * 4];
    accumulate_pair(b, in, in_stride, count, acc);
    SQZ_UNROLL_FOR (unsigned k = 0; k < 2; k++) {
        const sqz_requantiser_512 *q = k ? q1 : q0;
        __m512i *a = acc[k];
        SQZ_UNROLL_FOR (unsigned i = count; i % 4; i++) a[i] = a[count - 1];
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i += 4)
            sqz_store_512(q, a[i], a[i + 1], a[i + 2], a[i + 3],
                          out + i * out_stride + k * SQZ_BLOCK, out_stride, count - i);
    }
}

SQZ_AVX512_INLINE void sum_pair(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                __m512i floor, __m512i sums[2][2], unsigned count) {
    __m512i acc[2][(TILE_PAIR + 3) / 4 * 4];
    accumulate_pair(b, in, in_stride, count, acc);
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) {
        sqz_add_512(acc[0][i], floor, sums[0]);
        sqz_add_512(acc[1][i], floor, sums[1]);
    }
}

static SQZ_AVX512 void avx512_convolve_pair(const sqz_block *b, const sqz_span *span) {
    const sqz_requantiser_512 q0 = sqz_requantiser_512_of(b, _mm512_setzero_si512());
    const sqz_requantiser_512 q1 = sqz_requantiser_512_of(b + 1, _mm512_setzero_si512());
    const uint8_t *in = span->in;
    uint8_t *out = span->out;
    for (uint32_t left = span->count, count; left; left -= count) {
        count = vnni_next(left, TILE_PAIR);
#define CONVOLVE_PAIR(n) convolve_pair(b, &q0, &q1, in, span->in_stride, out, span->out_stride, n)
        EACH_COUNT_OF_PAIR(CONVOLVE_PAIR)
        in += count * span->in_stride;
        out += count * span->out_stride;
    }
}

static SQZ_AVX512 void avx512_convolve(const sqz_block *b, const sqz_span *span) {
    if (span->is_pair) {
        avx512_convolve_pair(b, span);
        return;
    }
    const __m512i bias = _mm512_loadu_si512((const void *)b->bias);
    const sqz_requantiser_512 q = sqz_requantiser_512_of(b, _mm512_setzero_si512());
    const uint8_t *in = span->in;
    uint8_t *out = span->out;
    for (uint32_t left = span->count, count; left; left -= count) {
        count = vnni_next(left, TILE);
#define CONVOLVE(n) convolve_512(b, &q, bias, in, span->in_stride, out, span->out_stride, n)
        EACH_COUNT(CONVOLVE)
        in += count * span->in_stride;
        out += count * span->out_stride;
    }
}

static SQZ_AVX512 void avx512_sum_pair(const sqz_block *b, const sqz_span *span, __m512i floor,
                                       int64_t *sums) {
    __m512i all[2][2];
    for (unsigned k = 0; k < 4; k++) all[k / 2][k % 2] = _mm512_loadu_si512(sums + 8 * k);
    const uint8_t *in = span->in;
    for (uint32_t left = span->count, count; left; left -= count) {
        count = vnni_next(left, TILE_PAIR);
#define SUM_PAIR(n) sum_pair(b, in, span->in_stride, floor, all, n)
        EACH_COUNT_OF_PAIR(SUM_PAIR)
        in += count * span->in_stride;
    }
    for (unsigned k = 0; k < 4; k++) _mm512_storeu_si512(sums + 8 * k, all[k / 2][k % 2]);
}

static SQZ_AVX512 void avx512_sum(const sqz_block *b, const sqz_span *span, int relu,
                                  int64_t *sums) {
    const __m512i floor = _mm512_set1_epi32(relu ? 0 : INT32_MIN);
    if (span->is_pair) {
        avx512_sum_pair(b, span, floor, sums);
        return;
    }
    const __m512i bias = _mm512_loadu_si512((const void *)b->bias);
    __m512i all[2] = {_mm512_loadu_si512((const void *)sums),
                      _mm512_loadu_si512((const void *)(sums + 8))};
    const uint8_t *in = span->in;
    for (uint32_t left = span->count, count; left; left -= count) {
        count = vnni_next(left, TILE);
#define SUM(n) sum_512(b, bias, in, span->in_stride, floor, all, n)
        EACH_COUNT(SUM)
        in += count * span->in_stride;
    }
    _mm512_storeu_si512((void *)sums, all[0]);
    _mm512_storeu_si512((void *)(sums + 8), all[1]);
}

/* The product with a multiplier below 2^16 is two halves of 16 bits; the highest bit of the lower one
 * rounds. The multiplier 2^16, which does not fit, leaves a pixel as it is. */
SQZ_AVX512_INLINE __m512i write_half_512(__m512i pixels, __m512i multiplier, __m512i is_one) {
    __m512i up = _mm512_srli_epi16(_mm512_mullo_epi16(pixels, multiplier), 15);
    __m512i q = _mm512_add_epi16(_mm512_mulhi_epu16(pixels, multiplier), up);
    return _mm512_add_epi16(q, _mm512_and_si512(pixels, is_one));
}

SQZ_AVX512 void sqz_write_pixels_512(const uint32_t multiplier[3], const uint8_t *in,
                                     uint32_t count, uint8_t *out) {
    /* Four pixels to a lane of 128 bits, and there each to 4 bytes. */
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 0, 3, 4, 5, 0, 6, 7, 8, 0, 9, 10, 11, 0);
    const __m512i spread =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
    const __m512i zero = _mm512_setzero_si512();
    uint64_t low = 0, one = 0;
    for (unsigned c = 0; c < 3; c++) {
        low |= (uint64_t)(multiplier[c] & 0xffff) << 16 * c;
        one |= (uint64_t)(multiplier[c] >> 16 ? 0xffff : 0) << 16 * c;
    }
    const __m512i factor = _mm512_set1_epi64((int64_t)low);
    const __m512i is_one = _mm512_set1_epi64((int64_t)one);
    for (uint32_t left = count, n; left; left -= n, in += 3 * n, out += SQZ_GROUP * n) {
        n = left < 16 ? left : 16;
        __m512i p = _mm512_maskz_loadu_epi8(((uint64_t)1 << 3 * n) - 1, in);
        p = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(lanes, p), spread);
        p = _mm512_packus_epi16(write_half_512(_mm512_unpacklo_epi8(p, zero), factor, is_one),
                                write_half_512(_mm512_unpackhi_epi8(p, zero), factor, is_one));
        _mm512_mask_storeu_epi32(out, (__mmask16)(0xffffu >> (16 - n)), p);
    }
}

static int avx512_is_supported(void) { return sqz_x86_features() & SQZ_HAS_AVX512_VNNI; }

const sqz_kernels sqz_vnni = {
    .name = "AVX512-VNNI",
    .takes_pairs = 1,
    .is_supported = avx512_is_supported,
    .write_pixels = sqz_write_pixels_512,
    .convolve = avx512_convolve,
    .sum = avx512_sum,
};
#endif

#if defined(SQZ_AVX_VNNI)
#define AVX_VNNI __attribute__((target("avx2,avxvnni")))
#define TILE_256 6 /* positions at once: 12 accumulators in 16 registers */

/* `count` is a constant. Accumulators are passed on in memory. That costs little, since each is the
 * sum of many groups of inputs. */
INLINE AVX_VNNI void accumulate_256(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                    unsigned count, int32_t (*out)[SQZ_BLOCK]) {
    const windows x = windows_of(in, in_stride, count);
    const int32_t *offset = b->offsets, *end = offset + b->num_groups;
    const int8_t *w = b->weights;
    __m256i acc[TILE_256][2];
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) {
        acc[i][0] = _mm256_loadu_si256((const void *)b->bias);
        acc[i][1] = _mm256_loadu_si256((const void *)(b->bias + 8));
    }
    for (; offset < end; offset++, w += 64) {
        __m256i w0 = _mm256_loadu_si256((const void *)w);
        __m256i w1 = _mm256_loadu_si256((const void *)(w + 32));
        SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) {
            __m256i four = _mm256_set1_epi32(vnni_inputs(&x, *offset, i));
            acc[i][0] = _mm256_dpbusd_avx_epi32(acc[i][0], four, w0);
            acc[i][1] = _mm256_dpbusd_avx_epi32(acc[i][1], four, w1);
        }
    }
    SQZ_UNROLL_FOR (unsigned i = 0; i < count; i++) {
        _mm256_storeu_si256((void *)out[i], acc[i][0]);
        _mm256_storeu_si256((void *)(out[i] + 8), acc[i][1]);
    }
}

static AVX_VNNI void avx_accumulate(const sqz_block *b, const uint8_t *in, size_t in_stride,
                                    unsigned count, int32_t (*acc)[SQZ_BLOCK]) {
    switch (count) {
    case 1: accumulate_256(b, in, in_stride, 1, acc); break;
    case 2: accumulate_256(b, in, in_stride, 2, acc); break;
    case 3: accumulate_256(b, in, in_stride, 3, acc); break;
    case 4: accumulate_256(b, in, in_stride, 4, acc); break;
    case 5: accumulate_256(b, in, in_stride, 5, acc); break;
    case 6: accumulate_256(b, in, in_stride, 6, acc); break;
    }
}

static AVX2 void avx_convolve(const sqz_block *b, const sqz_span *span) {
    const __m256i one = _mm256_set1_epi32(1);
    const __m256i shift0 = _mm256_loadu_si256((const void *)b->shift);
    const __m256i shift1 = _mm256_loadu_si256((const void *)(b->shift + 8));
    const __m256i half0 = _mm256_srli_epi32(_mm256_sllv_epi32(one, shift0), 1);
    const __m256i half1 = _mm256_srli_epi32(_mm256_sllv_epi32(one, shift1), 1);
    const __m256i multiplier = _mm256_loadu_si256((const void *)b->multiplier);
    const __m256i zero = _mm256_set1_epi16(b->zero_point), low = _mm256_set1_epi16(b->low);
    const uint8_t *in = span->in;
    uint8_t *out = span->out;
    for (uint32_t left = span->count, count; left; left -= count, in += count * span->in_stride) {
        __attribute__((aligned(64))) int32_t acc[TILE_256][SQZ_BLOCK];
        count = vnni_next(left, TILE_256);
        avx_accumulate(b, in, span->in_stride, count, acc);
        for (uint32_t i = 0; i < count; i++, out += span->out_stride) {
            __m256i acc0 = _mm256_loadu_si256((const void *)acc[i]);
            __m256i acc1 = _mm256_loadu_si256((const void *)(acc[i] + 8));
            acc0 = _mm256_srav_epi32(_mm256_add_epi32(acc0, half0), shift0);
            acc1 = _mm256_srav_epi32(_mm256_add_epi32(acc1, half1), shift1);
            /* Packing leaves the channels 0-3, 8-11, 4-7, 12-15. */
            __m256i t = _mm256_permute4x64_epi64(_mm256_packs_epi32(acc0, acc1), 0xd8);
            t = _mm256_adds_epi16(_mm256_mulhrs_epi16(t, multiplier), zero);
            t = _mm256_max_epi16(t, low);
            __m128i bytes =
                _mm_packus_epi16(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
            if (b->channels == SQZ_BLOCK) {
                _mm_storeu_si128((void *)out, bytes);
            } else {
                uint8_t all[SQZ_BLOCK];
                _mm_storeu_si128((void *)all, bytes);
                memcpy(out, all, b->channels);
            }
        }
    }
}

static AVX2 void avx_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    const __m128i floor = _mm_set1_epi32(relu ? 0 : INT32_MIN);
    const uint8_t *in = span->in;
    for (uint32_t left = span->count, count; left; left -= count, in += count * span->in_stride) {
        __attribute__((aligned(64))) int32_t acc[TILE_256][SQZ_BLOCK];
        count = vnni_next(left, TILE_256);
        avx_accumulate(b, in, span->in_stride, count, acc);
        for (unsigned k = 0; k < SQZ_BLOCK; k += 4) {
            __m256i total = _mm256_loadu_si256((const void *)(sums + k));
            for (uint32_t i = 0; i < count; i++) {
                __m128i four = _mm_loadu_si128((const void *)(acc[i] + k));
                four = _mm_max_epi32(four, floor);
                total = _mm256_add_epi64(total, _mm256_cvtepi32_epi64(four));
            }
            _mm256_storeu_si256((void *)(sums + k), total);
        }
    }
}

static int avx_is_supported(void) {
    const unsigned needed = SQZ_HAS_AVX2 | SQZ_HAS_AVX_VNNI;
    return (sqz_x86_features() & needed) == needed;
}

const sqz_kernels sqz_avx_vnni = {
    .name = "AVX-VNNI",
    .is_supported = avx_is_supported,
    .convolve = avx_convolve,
    .sum = avx_sum,
};
#endif
