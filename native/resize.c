/* squeezenet._native.resize: a rectangle of a picture -> a window of its resize, for training.
 *
 * The same bytes as images/resize.py: spec/INTEGER.md, "From a picture to pixels". Columns are
 * resized first, each time for ROWS rows together: their bytes are laid side by side, so that the
 * compiler makes vectors of them. Products and sums stay below 2^22. */
#include "resize.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BITS 14 /* of filter weights */
#define HALF (1 << (BITS - 1))
#define ROWS 16
#define CHANNELS 3
#define MAX_SIDE (1u << 24) /* as in the runtime */
#define MAX_RESIZED (1u << 30)

/* One side: n places become m, of which the `count` from `start` on are wanted. A place is made of
 * at most `taps` places of the n, `lengths[i]` of them from `firsts[i]` on. */
typedef struct {
    uint32_t n, m, start, count, taps;
    uint32_t *firsts, *lengths;
    int16_t *weights;
} side;

/* The filter of place i of m, as the definition has it; taps of weight 0 at the borders are left
 * out. */
static void filter(side *s, uint32_t place) {
    int64_t n = s->n, m = s->m, longer = n > m ? n : m, support = 2 * longer;
    int64_t centre = (2 * ((int64_t)s->start + place) + 1) * n, above = centre - support - m;
    int64_t first = (above < 0 ? -((-above + 2 * m - 1) / (2 * m)) : above / (2 * m)) + 1;
    int64_t last = first + s->taps, total = 0, running = 0, before = 0;
    int16_t *weights = s->weights + (size_t)place * s->taps;
    if (first < 0) first = 0;
    if (last > n) last = n;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = first; j < last; j++) {
            int64_t away = (2 * j + 1) * m - centre, raw = support - (away < 0 ? -away : away);
            if (raw < 0) raw = 0;
            if (pass == 0) {
                total += raw;
                continue;
            }
            running += raw;
            int64_t rounded = ((running << (BITS + 1)) + total) / (2 * total);
            weights[j - first] = (int16_t)(rounded - before);
            before = rounded;
        }
    s->firsts[place] = (uint32_t)first;
    s->lengths[place] = (uint32_t)(last - first);
}

static int make_side(side *s) {
    s->taps = s->n == s->m ? 1 : 2 * (s->n > s->m ? s->n : s->m) / s->m + 1;
    s->firsts = malloc(2 * s->count * sizeof *s->firsts);
    s->weights = malloc((size_t)s->count * s->taps * sizeof *s->weights);
    if (s->firsts == NULL || s->weights == NULL) return 0;
    s->lengths = s->firsts + s->count;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->n == s->m) {
            s->firsts[i] = s->start + i;
            s->lengths[i] = 1;
            s->weights[i] = 1 << BITS;
        } else {
            filter(s, i);
        }
    return 1;
}

/* The places of n that the wanted ones need: from the first of the first filter to the last. */
static uint32_t begin_of(const side *s) { return s->firsts[0]; }

static uint32_t end_of(const side *s) { return s->firsts[s->count - 1] + s->lengths[s->count - 1]; }

/* Lay `rows` rows side by side: of each byte those of all rows. A last group of fewer than ROWS
 * rows is filled up by its last one. */
static void lay(const uint8_t *picture, size_t stride, uint32_t rows, size_t bytes, int16_t *tile) {
    const uint8_t *in[ROWS];
    for (uint32_t r = 0; r < ROWS; r++) in[r] = picture + (r < rows ? r : rows - 1) * stride;
    for (size_t i = 0; i < bytes; i++, tile += ROWS)
        for (unsigned r = 0; r < ROWS; r++) tile[r] = in[r][i];
}

/* Resize the columns of the rows in `tile`, whose first column is `begin`. */
static void resize_columns(const side *s, const int16_t *tile, uint32_t begin, uint32_t rows,
                           uint8_t *out, size_t out_stride) {
    for (uint32_t x = 0; x < s->count; x++) {
        const int16_t *weights = s->weights + (size_t)x * s->taps;
        const int16_t *from = tile + (size_t)(s->firsts[x] - begin) * CHANNELS * ROWS;
        int32_t sums[CHANNELS * ROWS];
        for (unsigned i = 0; i < CHANNELS * ROWS; i++) sums[i] = HALF;
        for (uint32_t k = 0; k < s->lengths[x]; k++, from += CHANNELS * ROWS) {
            int16_t weight = weights[k];
            for (unsigned i = 0; i < CHANNELS * ROWS; i++) sums[i] += weight * from[i];
        }
        for (unsigned c = 0; c < CHANNELS; c++)
            for (uint32_t r = 0; r < rows; r++)
                out[r * out_stride + x * CHANNELS + c] = (uint8_t)(sums[c * ROWS + r] >> BITS);
    }
}

/* Resize rows of `bytes` bytes, the first of which is row `begin`. */
static void resize_rows(const side *s, const uint8_t *rows, uint32_t begin, size_t bytes,
                        int32_t *sums, uint8_t *out) {
    for (uint32_t y = 0; y < s->count; y++, out += bytes) {
        const int16_t *weights = s->weights + (size_t)y * s->taps;
        const uint8_t *from = rows + (size_t)(s->firsts[y] - begin) * bytes;
        for (size_t i = 0; i < bytes; i++) sums[i] = HALF;
        for (uint32_t k = 0; k < s->lengths[y]; k++, from += bytes) {
            int16_t weight = weights[k];
            for (size_t i = 0; i < bytes; i++) sums[i] += weight * (int16_t)from[i];
        }
        for (size_t i = 0; i < bytes; i++) out[i] = (uint8_t)(sums[i] >> BITS);
    }
}

int sqz_resize_rectangle(const uint8_t *picture, size_t stride, side *rows, side *columns,
                         uint8_t *out);

/* `picture` is the first byte of the rectangle. Returns 0 if memory is short.
 *
 * Not static: GCC 12 would put it into its only caller, take its loops there for rarely run and
 * make no vectors of them, which is four times as slow. */
int sqz_resize_rectangle(const uint8_t *picture, size_t stride, side *rows, side *columns,
                         uint8_t *out) {
    int good = make_side(rows) && make_side(columns);
    uint8_t *between = NULL;
    int16_t *tile = NULL;
    int32_t *sums = NULL;
    if (good) {
        uint32_t top = begin_of(rows), bottom = end_of(rows), left = begin_of(columns);
        size_t in_bytes = (size_t)CHANNELS * (end_of(columns) - left);
        size_t bytes = (size_t)CHANNELS * columns->count;
        between = malloc(bytes * (bottom - top));
        tile = malloc(in_bytes * ROWS * sizeof *tile);
        sums = malloc(bytes * sizeof *sums);
        good = between != NULL && tile != NULL && sums != NULL;
        for (uint32_t y = top; good && y < bottom; y += ROWS) {
            uint32_t count = bottom - y < ROWS ? bottom - y : ROWS;
            lay(picture + y * stride + (size_t)CHANNELS * left, stride, count, in_bytes, tile);
            resize_columns(columns, tile, left, count, between + (y - top) * bytes, bytes);
        }
        if (good) resize_rows(rows, between, top, bytes, sums, out);
    }
    free(between);
    free(tile);
    free(sums);
    return good;
}

/* Whether `count` places from `start` on lie among m, and the sides are within the limits. */
static int is_side(const side *s) {
    return s->n && s->m && s->count && s->n <= MAX_SIDE && s->m <= MAX_RESIZED && s->start < s->m &&
           s->count <= s->m - s->start;
}

/* resize(picture, (height, width), (top, left, rows, columns), (to_height, to_width),
 * (window_top, window_left, window_rows, window_columns), out): see src/squeezenet/_native.pyi. */
PyObject *sqz_resize(PyObject *self, PyObject *args) {
    Py_buffer picture, out;
    unsigned height, width, top, left;
    side rows = {0}, columns = {0};
    if (!PyArg_ParseTuple(args, "y*(II)(IIII)(II)(IIII)w*", &picture, &height, &width, &top, &left,
                          &rows.n, &columns.n, &rows.m, &columns.m, &rows.start, &columns.start,
                          &rows.count, &columns.count, &out))
        return NULL;
    size_t stride = (size_t)CHANNELS * width;
    int good = height <= MAX_SIDE && width <= MAX_SIDE && is_side(&rows) && is_side(&columns) &&
               rows.n <= height && top <= height - rows.n && columns.n <= width &&
               left <= width - columns.n && (uint64_t)picture.len == (uint64_t)stride * height &&
               (uint64_t)out.len == (uint64_t)CHANNELS * rows.count * columns.count;
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "expected a rectangle and a window that fit the buffers");
    } else {
        Py_BEGIN_ALLOW_THREADS
        const uint8_t *first = picture.buf;
        first += top * stride + (size_t)CHANNELS * left;
        good = sqz_resize_rectangle(first, stride, &rows, &columns, out.buf);
        free(rows.firsts);
        free(rows.weights);
        free(columns.firsts);
        free(columns.weights);
        Py_END_ALLOW_THREADS
        if (!good) PyErr_NoMemory();
    }
    PyBuffer_Release(&picture);
    PyBuffer_Release(&out);
    if (!good) return NULL;
    Py_RETURN_NONE;
}
