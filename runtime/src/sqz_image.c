/* From a picture of any size to the pixels of the crop: spec/INTEGER.md, "From a picture to
 * pixels". Only what the crop needs is computed. Rows of the picture are resized along the row, one
 * after another, and kept in a ring until no row of the crop needs them any more. */
#include <string.h>

#include "sqz_runtime.h"

#define MAX_SIDE (1u << 24)
#define MAX_RESIZED (1u << 30) /* of a side, before the crop */
#define BITS 14                /* of filter weights */

/* One side: n places become m, of which the crop is the `count` from `start` on. A place of the
 * m is made of at most `taps` places of the n. */
typedef struct {
    uint32_t n, m, start, count, taps;
} resize_side;

typedef struct {
    resize_side rows, columns;
} geometry;

/* "floor((2 * long * r + short) / (2 * short))" */
static uint64_t scaled(uint32_t length, uint32_t resize, uint32_t short_side) {
    return (2 * (uint64_t)length * resize + short_side) / (2 * (uint64_t)short_side);
}

static resize_side side_of(uint32_t n, uint32_t short_side, uint32_t resize, uint32_t crop) {
    resize_side s = {n, (uint32_t)scaled(n, resize, short_side), 0, crop, 1};
    s.start = (s.m - crop) / 2;
    if (s.n != s.m) s.taps = 2 * (s.n > s.m ? s.n : s.m) / s.m + 1;
    return s;
}

static sqz_error geometry_of(const sqz_file *file, const sqz_image *image, geometry *g) {
    if (file == NULL || image == NULL || image->rgb == NULL || file->input.resize == 0)
        return SQZ_WRONG_USE;
    if (!image->height || !image->width || image->stride < 3 * (size_t)image->width)
        return SQZ_WRONG_USE;
    if (image->height > MAX_SIDE || image->width > MAX_SIDE) return SQZ_LIMIT;
    uint32_t short_side = image->height < image->width ? image->height : image->width;
    const sqz_input *input = &file->input;
    uint32_t long_side = image->height + image->width - short_side;
    if (scaled(long_side, input->resize, short_side) > MAX_RESIZED) return SQZ_LIMIT;
    g->rows = side_of(image->height, short_side, input->resize, input->crop_height);
    g->columns = side_of(image->width, short_side, input->resize, input->crop_width);
    return SQZ_OK;
}

/* "Place i of m is a weighted sum of places j of n, with triangle weights
 * T(j) = max(0, 2 * max(n, m) - |(2j + 1) * m - (2i + 1) * n|) for 0 <= j < n.
 * weight(j) = floor(2^14 * F(j) / F + 1/2) - floor(2^14 * F(j - 1) / F + 1/2)"
 * Returns the j of the first tap, which may be negative: taps outside have weight 0. */
static int64_t filter(const resize_side *s, uint32_t i, int16_t *weights) {
    int64_t n = s->n, m = s->m, support = 2 * (n > m ? n : m), centre = (2 * (int64_t)i + 1) * n;
    int64_t above = centre - support - m; /* floor of it / 2m, plus 1, is the first place */
    int64_t first = (above < 0 ? -((-above + 2 * m - 1) / (2 * m)) : above / (2 * m)) + 1;
    int64_t total = 0, running = 0, before = 0;
    if (n == m) {
        weights[0] = 1 << BITS;
        return i;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t k = 0; k < s->taps; k++) {
            int64_t j = first + k, away = (2 * j + 1) * m - centre;
            int64_t raw = support - (away < 0 ? -away : away);
            if (raw < 0 || j < 0 || j >= n) raw = 0;
            if (pass == 0) {
                total += raw;
                continue;
            }
            running += raw;
            int64_t rounded = ((running << (BITS + 1)) + total) / (2 * total);
            weights[k] = (int16_t)(rounded - before);
            before = rounded;
        }
    }
    return first;
}

/* The scratch: filters of all columns, the filter of one row, the ring, and a row of the crop. */
typedef struct {
    int32_t *firsts;
    int16_t *filters, *row_filter;
    uint8_t *ring, *row;
    size_t row_bytes, bytes;
} crop_scratch;

/* Divide scratch; if it is NULL, only the bytes are computed. */
static crop_scratch scratch_of(const geometry *g, uint8_t *scratch) {
    crop_scratch w;
    size_t columns = g->columns.count;
    memset(&w, 0, sizeof w);
    w.row_bytes = 3 * columns;
    size_t filters = sqz_round_up(columns * sizeof *w.firsts, 16);
    size_t row_filter = filters + sqz_round_up(columns * g->columns.taps * sizeof *w.filters, 16);
    size_t ring = row_filter + sqz_round_up(g->rows.taps * sizeof *w.row_filter, 16);
    size_t row = ring + g->rows.taps * w.row_bytes;
    w.bytes = row + w.row_bytes;
    if (scratch == NULL) return w;
    w.firsts = (int32_t *)(void *)scratch;
    w.filters = (int16_t *)(void *)(scratch + filters);
    w.row_filter = (int16_t *)(void *)(scratch + row_filter);
    w.ring = scratch + ring;
    w.row = scratch + row;
    return w;
}

/* Resize one row of the picture to the columns of the crop. */
static void resize_row(const geometry *g, const crop_scratch *w, const uint8_t *in, uint8_t *out) {
    const resize_side *s = &g->columns;
    const int16_t *weights = w->filters;
    for (uint32_t x = 0; x < s->count; x++, weights += s->taps, out += 3) {
        int64_t first = w->firsts[x];
        uint32_t from = first < 0 ? (uint32_t)-first : 0, to = s->taps;
        if (first + to > s->n) to = (uint32_t)(s->n - first);
        int32_t sums[3] = {8192, 8192, 8192};
        const uint8_t *p = in + 3 * (first + from);
        for (uint32_t k = from; k < to; k++, p += 3)
            for (unsigned c = 0; c < 3; c++) sums[c] += weights[k] * p[c];
        for (unsigned c = 0; c < 3; c++) out[c] = (uint8_t)(sums[c] >> BITS);
    }
}

/* "RGB, BGR, or luma (19595 R + 38470 G + 7471 B + 32768) >> 16" */
static uint8_t *put_pixel(const sqz_input *input, const uint32_t rgb[3], uint8_t *out) {
    if (input->channels == 0) {
        *out++ = (uint8_t)((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) >> 16);
        return out;
    }
    for (unsigned c = 0; c < 3; c++) *out++ = (uint8_t)rgb[input->channels == 1 ? c : 2 - c];
    return out;
}

size_t sqz_crop_scratch(const sqz_file *file, const sqz_image *image) {
    geometry g;
    if (geometry_of(file, image, &g)) return 0;
    return scratch_of(&g, NULL).bytes + 16;
}

sqz_error sqz_crop_rows(const sqz_file *file, const sqz_image *image, void *scratch, size_t size,
                        void (*take)(void *taker, uint32_t y, const uint8_t *row), void *taker) {
    geometry g;
    sqz_error error = geometry_of(file, image, &g);
    if (error) return error;
    if (scratch == NULL || size < sqz_crop_scratch(file, image)) return SQZ_WRONG_USE;
    uintptr_t misfit = (uintptr_t)scratch % 16;
    crop_scratch w = scratch_of(&g, (uint8_t *)scratch + (misfit ? 16 - misfit : 0));
    for (uint32_t x = 0; x < g.columns.count; x++)
        w.firsts[x] = (int32_t)filter(&g.columns, g.columns.start + x,
                                      w.filters + (size_t)x * g.columns.taps);
    int64_t resized = -1; /* rows of the picture before this one have been resized */
    for (uint32_t y = 0; y < g.rows.count; y++) {
        int64_t first = filter(&g.rows, g.rows.start + y, w.row_filter);
        int64_t from = first < 0 ? 0 : first, to = first + g.rows.taps;
        if (to > g.rows.n) to = g.rows.n;
        if (resized < from) resized = from;
        for (; resized < to; resized++)
            resize_row(&g, &w, image->rgb + (size_t)resized * image->stride,
                       w.ring + (size_t)(resized % g.rows.taps) * w.row_bytes);
        uint8_t *pixel = w.row;
        for (uint32_t x = 0; x < g.columns.count; x++) {
            uint32_t rgb[3];
            for (unsigned c = 0; c < 3; c++) {
                int32_t sum = 8192;
                for (int64_t j = from; j < to; j++)
                    sum += w.row_filter[j - first] *
                           w.ring[(size_t)(j % g.rows.taps) * w.row_bytes + 3 * x + c];
                rgb[c] = (uint32_t)(sum >> BITS);
            }
            pixel = put_pixel(&file->input, rgb, pixel);
        }
        take(taker, y, w.row);
    }
    return SQZ_OK;
}

typedef struct {
    uint8_t *pixels;
    size_t row_bytes;
} copier;

static void copy_row(void *taker, uint32_t y, const uint8_t *row) {
    const copier *c = taker;
    memcpy(c->pixels + y * c->row_bytes, row, c->row_bytes);
}

sqz_error sqz_crop(const sqz_file *file, const sqz_image *image, uint8_t *pixels, void *scratch,
                   size_t size) {
    if (file == NULL || pixels == NULL) return SQZ_WRONG_USE;
    copier c = {pixels, (size_t)file->input.crop_width * (file->input.channels ? 3 : 1)};
    return sqz_crop_rows(file, image, scratch, size, copy_row, &c);
}
