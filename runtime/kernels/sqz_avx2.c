/* AVX2. Products of bytes and levels are summed in 16 bits for as many groups of inputs as surely
 * fit (groups_per_widening), and then widened to 32 bits. Levels are small, so many groups fit. */
#include "../src/sqz_runtime.h"

#if defined(SQZ_AVX2)
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline, target("avx2")))

#define TILE 3 /* positions at once: 6 sums of 16 bits and 6 of 32 bits fit into registers */

INLINE __m256i broadcast(const uint8_t *bytes) {
    int32_t word;
    memcpy(&word, bytes, 4);
    return _mm256_set1_epi32(word);
}

/* Compute the accumulators of `count` positions, a constant: channels 0 to 7, then 8 to 15. */
INLINE void accumulate(const sqz_block *b, const uint8_t *in, size_t in_stride, unsigned count,
                       __m256i acc[TILE][2]) {
    const __m256i ones = _mm256_set1_epi16(1);
    const int32_t *offset = b->offsets, *end = offset + b->num_groups;
    const int8_t *w = b->weights;
    for (unsigned i = 0; i < count; i++) {
        acc[i][0] = _mm256_loadu_si256((const void *)b->bias);
        acc[i][1] = _mm256_loadu_si256((const void *)(b->bias + 8));
    }
    for (const uint8_t *run = b->groups_per_widening; offset < end; run++) {
        const int32_t *until = offset + *run;
        __m256i sum[TILE][2];
        for (unsigned i = 0; i < count; i++) sum[i][0] = sum[i][1] = _mm256_setzero_si256();
        /* Unrolled, GCC keeps the sums in their registers and does not move them around. */
#pragma GCC unroll 4
        for (; offset < until; offset++, w += 64) {
            const uint8_t *x = in + *offset;
            __m256i w0 = _mm256_loadu_si256((const void *)w);
            __m256i w1 = _mm256_loadu_si256((const void *)(w + 32));
            for (unsigned i = 0; i < count; i++) {
                __m256i v = broadcast(x + i * in_stride);
                sum[i][0] = _mm256_add_epi16(sum[i][0], _mm256_maddubs_epi16(v, w0));
                sum[i][1] = _mm256_add_epi16(sum[i][1], _mm256_maddubs_epi16(v, w1));
            }
        }
        for (unsigned i = 0; i < count; i++)
            for (unsigned h = 0; h < 2; h++)
                acc[i][h] = _mm256_add_epi32(acc[i][h], _mm256_madd_epi16(sum[i][h], ones));
    }
}

/* The constants of requantising a block, in the order in which packing leaves the channels: 0-3,
 * 8-11, 4-7, 12-15. */
typedef struct {
    __m256i half[2], shift[2], multiplier, zero;
    __m128i low;
    uint32_t channels;
} requantiser;

INLINE requantiser requantiser_of(const sqz_block *b) {
    requantiser q;
    const __m256i one = _mm256_set1_epi32(1);
    for (unsigned h = 0; h < 2; h++) {
        q.shift[h] = _mm256_loadu_si256((const void *)(b->shift + 8 * h));
        q.half[h] = _mm256_srli_epi32(_mm256_sllv_epi32(one, q.shift[h]), 1);
    }
    __m256i multiplier = _mm256_loadu_si256((const void *)b->multiplier);
    q.multiplier = _mm256_permute4x64_epi64(multiplier, 0xd8);
    q.zero = _mm256_set1_epi16(b->zero_point);
    q.low = _mm_set1_epi8((char)b->low);
    q.channels = b->channels;
    return q;
}

INLINE void store(const requantiser *q, __m256i acc0, __m256i acc1, uint8_t *out) {
    acc0 = _mm256_srav_epi32(_mm256_add_epi32(acc0, q->half[0]), q->shift[0]);
    acc1 = _mm256_srav_epi32(_mm256_add_epi32(acc1, q->half[1]), q->shift[1]);
    __m256i t = _mm256_mulhrs_epi16(_mm256_packs_epi32(acc0, acc1), q->multiplier);
    t = _mm256_adds_epi16(t, q->zero);
    t = _mm256_packus_epi16(t, t);
    t = _mm256_permutevar8x32_epi32(t, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
    __m128i bytes = _mm_max_epu8(_mm256_castsi256_si128(t), q->low);
    if (q->channels == SQZ_BLOCK) {
        _mm_storeu_si128((void *)out, bytes);
    } else {
        uint8_t all[SQZ_BLOCK];
        _mm_storeu_si128((void *)all, bytes);
        memcpy(out, all, q->channels);
    }
}

INLINE void convolve_tile(const sqz_block *b, const requantiser *q, const uint8_t *in,
                          size_t in_stride, uint8_t *out, size_t out_stride, unsigned count) {
    __m256i acc[TILE][2];
    accumulate(b, in, in_stride, count, acc);
    for (unsigned i = 0; i < count; i++) store(q, acc[i][0], acc[i][1], out + i * out_stride);
}

AVX2 static void avx2_convolve(const sqz_block *b, const sqz_span *span) {
    const requantiser q = requantiser_of(b);
    const uint8_t *in = span->in;
    uint8_t *out = span->out;
    uint32_t left = span->count;
    for (; left >= TILE; left -= TILE, in += TILE * span->in_stride, out += TILE * span->out_stride)
        convolve_tile(b, &q, in, span->in_stride, out, span->out_stride, TILE);
    if (left == 2) convolve_tile(b, &q, in, span->in_stride, out, span->out_stride, 2);
    if (left == 1) convolve_tile(b, &q, in, span->in_stride, out, span->out_stride, 1);
}

/* `sums` stay in memory: they would take 4 more registers, and are rarely touched. */
INLINE void add_sums(__m256i acc, __m256i floor, int64_t *sums) {
    acc = _mm256_max_epi32(acc, floor);
    __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(acc));
    __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(acc, 1));
    low = _mm256_add_epi64(low, _mm256_loadu_si256((const void *)sums));
    high = _mm256_add_epi64(high, _mm256_loadu_si256((const void *)(sums + 4)));
    _mm256_storeu_si256((void *)sums, low);
    _mm256_storeu_si256((void *)(sums + 4), high);
}

INLINE void sum_tile(const sqz_block *b, const uint8_t *in, size_t in_stride, __m256i floor,
                     int64_t *sums, unsigned count) {
    __m256i acc[TILE][2];
    accumulate(b, in, in_stride, count, acc);
    for (unsigned i = 0; i < count; i++) {
        add_sums(acc[i][0], floor, sums);
        add_sums(acc[i][1], floor, sums + 8);
    }
}

AVX2 static void avx2_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    const __m256i floor = _mm256_set1_epi32(relu ? 0 : INT32_MIN);
    const uint8_t *in = span->in;
    uint32_t left = span->count;
    for (; left >= TILE; left -= TILE, in += TILE * span->in_stride)
        sum_tile(b, in, span->in_stride, floor, sums, TILE);
    if (left == 2) sum_tile(b, in, span->in_stride, floor, sums, 2);
    if (left == 1) sum_tile(b, in, span->in_stride, floor, sums, 1);
}

static int avx2_is_supported(void) { return sqz_x86_features() & SQZ_HAS_AVX2; }

const sqz_kernels sqz_avx2 = {
    .name = "AVX2",
    .sums_in_16_bits = 1,
    .is_supported = avx2_is_supported,
    .convolve = avx2_convolve,
    .sum = avx2_sum,
};
#endif
