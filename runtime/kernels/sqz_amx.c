/* AMX: tdpbusd multiplies a tile of 16 positions x 64 inputs by a tile of 64 inputs x 16 channels,
 * and adds the products to 16 x 16 accumulators of 32 bits, exactly. Rows of a tile are read from
 * memory with a stride. So the bytes of a tensor and the weights of a block are tiles as they lie:
 * positions one after the other, and 16 groups of inputs.
 *
 * Tiles have the shape that was configured, at most 16 x 64 bytes, for all blocks of a convolution:
 * as many positions as divide a row of the target best, and as many groups as divide those that lie
 * one after another. For the channels of SqueezeNet that is 12 or 16, where there are so many. */
#include "sqz_avx512.h"

#if defined(SQZ_AMX)
#define AMX __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,amx-tile,amx-int8")))
#define INLINE AMX static inline __attribute__((always_inline))

#define MAX_HEIGHT 16 /* positions of a tile */
#define MAX_WIDTH 16  /* groups of inputs */
/* The registers: accumulators of 4 tiles are in 0 to 3. Inputs and weights have one each. Processors
 * rename them, so the next are read during a multiplication; two each in turns were slower. */
#define TILES 4
#define INPUTS 4
#define WEIGHTS 5

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

/* The largest divisor of a number that is not above MAX_WIDTH. */
INLINE uint32_t width_of(uint32_t groups) {
    uint32_t width = groups < MAX_WIDTH ? groups : MAX_WIDTH;
    while (groups % width) width--;
    return width;
}

/* Configure the registers for convolutions of such blocks on such spans. */
static AMX void amx_begin(const sqz_block *b, const sqz_span *span) {
    struct {
        uint8_t palette, start_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape;
    const uint32_t width = width_of(b->groups_in_line);
    const uint32_t height = division_of(span->count).height;
    memset(&shape, 0, sizeof shape);
    shape.palette = 1;
    for (unsigned i = 0; i < TILES; i++) {
        shape.rows[i] = (uint8_t)height;
        shape.row_bytes[i] = SQZ_BLOCK * sizeof(int32_t);
    }
    shape.rows[INPUTS] = (uint8_t)height;
    shape.row_bytes[INPUTS] = (uint16_t)(SQZ_GROUP * width);
    shape.rows[WEIGHTS] = (uint8_t)width;
    shape.row_bytes[WEIGHTS] = SQZ_GROUP_BYTES;
    __asm__ volatile("" : : "m"(shape)); /* GCC 12 takes only its first bytes for used below */
    _tile_loadconfig(&shape);
}

static AMX void amx_end(void) { _tile_release(); }

/* Compute the accumulators, without biases, of `count` tiles, a constant, whose first windows are
 * at `x`. */
INLINE void accumulate_tiles(const sqz_block *b, const uint8_t *const *x, size_t in_stride,
                             unsigned count) {
    const uint32_t width = width_of(b->groups_in_line);
    const int8_t *w = b->weights;
    _tile_zero(0);
    if (count > 1) _tile_zero(1);
    if (count > 2) _tile_zero(2);
    if (count > 3) _tile_zero(3);
    for (uint32_t group = 0; group < b->num_groups; group += width, w += width * SQZ_GROUP_BYTES) {
        const ptrdiff_t offset = b->offsets[group];
        _tile_loadd(WEIGHTS, w, SQZ_GROUP_BYTES);
        _tile_loadd(INPUTS, x[0] + offset, in_stride);
        _tile_dpbusd(0, INPUTS, WEIGHTS);
        if (count > 1) {
            _tile_loadd(INPUTS, x[1] + offset, in_stride);
            _tile_dpbusd(1, INPUTS, WEIGHTS);
        }
        if (count > 2) {
            _tile_loadd(INPUTS, x[2] + offset, in_stride);
            _tile_dpbusd(2, INPUTS, WEIGHTS);
        }
        if (count > 3) {
            _tile_loadd(INPUTS, x[3] + offset, in_stride);
            _tile_dpbusd(3, INPUTS, WEIGHTS);
        }
    }
}

/* Some tiles of a span, as many as there are registers for. */
typedef struct {
    const uint8_t *x[TILES]; /* their first windows */
    uint8_t *out[TILES];
    uint32_t skip[TILES]; /* positions that the tile before has too */
    unsigned count;
} tiles;

/* Those from number `tile` on, row by row. */
INLINE tiles next_tiles(const sqz_span *span, division d, uint32_t tile) {
    tiles t;
    uint32_t left = d.count * span->num_rows - tile, row = tile / d.count, column = tile % d.count;
    t.count = left < TILES ? left : TILES;
    for (unsigned i = 0; i < t.count; i++) {
        uint32_t first = column * d.height, max = span->count - d.height;
        t.skip[i] = first < max ? 0 : first - max;
        first -= t.skip[i];
        t.x[i] = span->in + row * span->in_row + first * span->in_stride;
        t.out[i] = span->out + row * span->out_row + first * span->out_stride;
        if (++column == d.count) row++, column = 0;
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
    for (uint32_t tile = 0; tile < d.count * span->num_rows; tile += TILES) {
        const tiles t = next_tiles(span, d, tile);
        accumulate_next(b, &t, span->in_stride);
        for (unsigned i = 0; i < t.count; i++) {
            uint8_t *out = t.out[i];
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
    for (uint32_t tile = 0; tile < d.count * span->num_rows; tile += TILES) {
        const tiles t = next_tiles(span, d, tile);
        accumulate_next(b, &t, span->in_stride);
        for (unsigned i = 0; i < t.count; i++) {
            store_tile(i, acc);
            for (uint32_t p = t.skip[i]; p < d.height; p++) {
                __m512i sum = _mm512_load_si512((const void *)acc[p]);
                sqz_add_512(_mm512_add_epi32(sum, bias), floor, all);
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
    .takes_rows = 1,
    .is_supported = amx_is_supported,
    .write_pixels = sqz_write_pixels_512,
    .begin = amx_begin,
    .convolve = amx_convolve,
    .sum = amx_sum,
    .end = amx_end,
};
#endif
