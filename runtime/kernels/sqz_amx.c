/* AMX: tdpbusd multiplies a tile of 16 positions x 64 inputs by a tile of 64 inputs x 16 channels,
 * and adds the products to 16 x 16 accumulators of 32 bits, exactly. Rows of a tile are read from
 * memory with a stride. So the bytes of a tensor and the weights of a block are tiles as they lie:
 * positions one after the other, and 16 groups of inputs.
 *
 * Tiles have the shape that was configured, at most 16 x 64 bytes. All tiles of accumulators are as
 * high as divides a row of the target best. There are two widths: 16 groups, and the rest of those
 * that lie one after another. */
#include "sqz_avx512.h"

#if defined(SQZ_AMX)
#define AMX __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,amx-tile,amx-int8")))
#define INLINE AMX static inline __attribute__((always_inline))

#define MAX_HEIGHT 16 /* positions of a tile */
#define WIDTH 16      /* groups of inputs */
#define TILES 4       /* of accumulators at once, in registers 0 to 3 */
/* The other registers, by number. */
#define INPUTS 4
#define WEIGHTS 5
#define LAST_INPUTS 6
#define LAST_WEIGHTS 7

/* How a row of positions is divided into tiles of one height. The last begins where it ends with
 * the row, and shares positions with the one before. */
typedef struct {
    uint32_t count, height;
} division;

INLINE division division_of(uint32_t positions) {
    division d;
    d.count = (positions + MAX_HEIGHT - 1) / MAX_HEIGHT;
    d.height = (positions + d.count - 1) / d.count;
    return d;
}

/* Configure the tile registers for convolutions of such blocks on such spans. */
static AMX void amx_begin(const sqz_block *b, const sqz_span *span) {
    struct {
        uint8_t palette, start_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape;
    const uint32_t last = b->groups_in_line % WIDTH;
    const uint8_t height = (uint8_t)division_of(span->count).height;
    memset(&shape, 0, sizeof shape);
    shape.palette = 1;
    for (unsigned i = 0; i < 8; i++) {
        shape.rows[i] = height;
        shape.row_bytes[i] = SQZ_GROUP_BYTES;
    }
    shape.rows[WEIGHTS] = WIDTH;
    shape.rows[LAST_WEIGHTS] = (uint8_t)(last ? last : 1);
    shape.row_bytes[LAST_INPUTS] = (uint16_t)(SQZ_GROUP * (last ? last : 1));
    __asm__ volatile("" : : "m"(shape)); /* GCC 12 takes only the first bytes for used below */
    _tile_loadconfig(&shape);
}

static AMX void amx_end(void) { _tile_release(); }

/* Multiply tiles of inputs of the row by one of weights. */
#define MULTIPLY(inputs, weights)                          \
    do {                                                   \
        _tile_loadd(weights, w, SQZ_GROUP_BYTES);          \
        _tile_loadd(inputs, x[0] + offset, in_stride);     \
        _tile_dpbusd(0, inputs, weights);                  \
        if (count > 1) {                                   \
            _tile_loadd(inputs, x[1] + offset, in_stride); \
            _tile_dpbusd(1, inputs, weights);              \
        }                                                  \
        if (count > 2) {                                   \
            _tile_loadd(inputs, x[2] + offset, in_stride); \
            _tile_dpbusd(2, inputs, weights);              \
        }                                                  \
        if (count > 3) {                                   \
            _tile_loadd(inputs, x[3] + offset, in_stride); \
            _tile_dpbusd(3, inputs, weights);              \
        }                                                  \
    } while (0)

/* Compute the accumulators, without biases, of `count` tiles, a constant, whose first windows are
 * at `x`. */
INLINE void accumulate_tiles(const sqz_block *b, const uint8_t *const *x, size_t in_stride,
                             unsigned count) {
    const int8_t *w = b->weights;
    _tile_zero(0);
    if (count > 1) _tile_zero(1);
    if (count > 2) _tile_zero(2);
    if (count > 3) _tile_zero(3);
    for (uint32_t g = 0; g < b->num_groups; g += b->groups_in_line) {
        ptrdiff_t offset = b->offsets[g];
        uint32_t left = b->groups_in_line;
        for (; left >= WIDTH; left -= WIDTH, offset += WIDTH * SQZ_GROUP) {
            MULTIPLY(INPUTS, WEIGHTS);
            w += WIDTH * SQZ_GROUP_BYTES;
        }
        if (left) {
            MULTIPLY(LAST_INPUTS, LAST_WEIGHTS);
            w += left * SQZ_GROUP_BYTES;
        }
    }
}

/* Some tiles of a row, as many as there are registers for. */
typedef struct {
    const uint8_t *x[TILES]; /* their first windows */
    uint32_t first[TILES];   /* their first positions */
    unsigned count;
} tiles;

INLINE tiles next_tiles(const sqz_span *span, division d, uint32_t tile) {
    tiles t;
    t.count = d.count - tile < TILES ? d.count - tile : TILES;
    for (unsigned i = 0; i < t.count; i++) {
        uint32_t first = (tile + i) * d.height, max = span->count - d.height;
        t.first[i] = first < max ? first : max;
        t.x[i] = span->in + t.first[i] * span->in_stride;
    }
    return t;
}

INLINE void accumulate_next(const sqz_block *b, const tiles *t, size_t in_stride) {
    switch (t->count) {
    case 1: accumulate_tiles(b, t->x, in_stride, 1); break;
    case 2: accumulate_tiles(b, t->x, in_stride, 2); break;
    case 3: accumulate_tiles(b, t->x, in_stride, 3); break;
    case 4: accumulate_tiles(b, t->x, in_stride, 4); break;
    }
}

/* Copy the accumulators of tile i to memory. */
INLINE void store_tile(unsigned i, int32_t (*acc)[SQZ_BLOCK]) {
    switch (i) {
    case 0: _tile_stored(0, acc, SQZ_GROUP_BYTES); break;
    case 1: _tile_stored(1, acc, SQZ_GROUP_BYTES); break;
    case 2: _tile_stored(2, acc, SQZ_GROUP_BYTES); break;
    case 3: _tile_stored(3, acc, SQZ_GROUP_BYTES); break;
    }
}

static AMX void amx_convolve(const sqz_block *b, const sqz_span *span) {
    __attribute__((aligned(64))) int32_t acc[MAX_HEIGHT][SQZ_BLOCK];
    const division d = division_of(span->count);
    const size_t stride = span->out_stride;
    const __m512i bias = _mm512_loadu_si512((const void *)b->bias);
    const sqz_requantiser_512 q = sqz_requantiser_512_of(b, bias);
    /* Four positions are read at once, also where a tile ends before. */
    for (uint32_t i = d.height; i % 4; i++)
        _mm512_store_si512((void *)acc[i], _mm512_setzero_si512());
    for (uint32_t tile = 0; tile < d.count; tile += TILES) {
        const tiles t = next_tiles(span, d, tile);
        accumulate_next(b, &t, span->in_stride);
        for (unsigned i = 0; i < t.count; i++) {
            uint8_t *out = span->out + t.first[i] * stride;
            store_tile(i, acc);
            for (uint32_t p = 0; p < d.height; p += 4, out += 4 * stride)
                sqz_store_512(&q, _mm512_load_si512((const void *)acc[p]),
                              _mm512_load_si512((const void *)acc[p + 1]),
                              _mm512_load_si512((const void *)acc[p + 2]),
                              _mm512_load_si512((const void *)acc[p + 3]), out, stride,
                              d.height - p);
        }
    }
}

static AMX void amx_sum(const sqz_block *b, const sqz_span *span, int relu, int64_t *sums) {
    __attribute__((aligned(64))) int32_t acc[MAX_HEIGHT][SQZ_BLOCK];
    const division d = division_of(span->count);
    const __m512i floor = _mm512_set1_epi32(relu ? 0 : INT32_MIN);
    const __m512i bias = _mm512_loadu_si512((const void *)b->bias);
    __m512i all[2] = {_mm512_loadu_si512((const void *)sums),
                      _mm512_loadu_si512((const void *)(sums + 8))};
    uint32_t position = 0; /* those before have been added */
    for (uint32_t tile = 0; tile < d.count; tile += TILES) {
        const tiles t = next_tiles(span, d, tile);
        accumulate_next(b, &t, span->in_stride);
        for (unsigned i = 0; i < t.count; i++) {
            store_tile(i, acc);
            for (; position < t.first[i] + d.height; position++) {
                const int32_t *at = acc[position - t.first[i]];
                sqz_add_512(_mm512_add_epi32(_mm512_load_si512((const void *)at), bias), floor,
                            all);
            }
        }
    }
    _mm512_storeu_si512((void *)sums, all[0]);
    _mm512_storeu_si512((void *)(sums + 8), all[1]);
}

static int amx_is_supported(void) {
    const unsigned needed = SQZ_HAS_AVX512_VNNI | SQZ_HAS_AMX;
    return (sqz_x86_features() & needed) == needed;
}

const sqz_kernels sqz_amx = {
    .name = "AMX-INT8",
    .is_supported = amx_is_supported,
    .begin = amx_begin,
    .convolve = amx_convolve,
    .sum = amx_sum,
    .end = amx_end,
};
#endif
