/* squeezenet._native.round_output: round the weights of one output channel to codes, at the lowest
 * distortion + lambda * bits, by a list Viterbi search with error feedback. round_levels does so
 * for all outputs of a layer, without feedback, while a network is trained.
 *
 * A code is a level of the trellis (spec/FORMAT.md, "Trellis") or, without a trellis, a level.
 * Each rounding error is compensated by the weights that follow (GPTQ, arXiv 2210.17323). Let U be
 * the upper Cholesky factor of the inverse Hessian. The distortion is exactly the sum, over the
 * weights, of the squared error that is left at a weight divided by U's diagonal element. So the
 * costs of two paths can be compared at every weight.
 *
 * List Viterbi: each trellis state keeps its cheapest paths, the survivors. One path per state
 * would not be enough: two paths in one state carry different errors. Without a trellis there is
 * one state.
 *
 * Legend: P weights of an output channel, K kernel positions. */
#include "rounding.h"

#include "../runtime/src/sqz_levels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STATES 8
#define MAX_SURVIVORS 16 /* per state */
#define MAX_PATHS (STATES * MAX_SURVIVORS)
#define WINDOW 512  /* weights in which paths may still differ; older ones are decided */
#define SETTLE 16   /* every so many weights, the common beginning of all paths is written out */
#define MAX_CODE 63 /* of a trellis, whose levels are twice as large: within 127 */

/* Sizes of the tables of bits: the contexts of spec/FORMAT.md, "Levels". */
#define SUMS 16
#define PLACES 9
#define CLASSES 16
#define MAGNITUDES 128

typedef struct {
    size_t num_weights;   /* P */
    unsigned kernel_size; /* K */
    unsigned survivors;   /* per state */
    int trellis;
    double lambda;                /* nats per bit */
    const double *upper_PP;       /* U, or NULL: no feedback, and errors count alike */
    const float *columns_PP;      /* U transposed */
    const double *zero, *nonzero; /* bits: SUMS x PLACES x CLASSES */
    const double *magnitude;      /* bits: CLASSES x MAGNITUDES */
} layer;

/* The survivors after a weight. Those of state s start at s * survivors, the cheapest first. */
typedef struct {
    unsigned count[STATES];
    unsigned from[MAX_PATHS]; /* index of the path at the weight before */
    unsigned sum[MAX_PATHS];  /* of the kernel so far, as the contexts of the coder have it */
    int16_t code[MAX_PATHS];
    float error[MAX_PATHS];
    double cost[MAX_PATHS]; /* nats */
} frontier;

/* Codes and errors of each path since the last settled weight. */
typedef struct {
    int16_t codes[MAX_PATHS][WINDOW];
    float errors[MAX_PATHS][WINDOW];
} history;

typedef struct {
    frontier frontiers[2];
    history histories[2];
    double left[]; /* P: weights less the errors of settled ones */
} workspace;

static float dot_product(const float *a, const float *b, size_t count) {
    float sums[8] = {0}, rest = 0;
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int j = 0; j < 8; j++) sums[j] += a[i + (size_t)j] * b[i + (size_t)j];
    for (; i < count; i++) rest += a[i] * b[i];
    for (int j = 0; j < 8; j++) rest += sums[j];
    return rest;
}

/* Insert a path into a state's survivors if it is cheap enough. */
static void offer(frontier *to, const layer *l, unsigned state, unsigned from, int code,
                  double error, double cost) {
    unsigned first = state * l->survivors, at = to->count[state];
    if (at == l->survivors && cost >= to->cost[first + at - 1]) return;
    if (at < l->survivors) to->count[state]++;
    else at--;
    for (; at > 0 && to->cost[first + at - 1] > cost; at--) {
        to->cost[first + at] = to->cost[first + at - 1];
        to->from[first + at] = to->from[first + at - 1];
        to->code[first + at] = to->code[first + at - 1];
        to->error[first + at] = to->error[first + at - 1];
    }
    to->cost[first + at] = cost;
    to->from[first + at] = from;
    to->code[first + at] = (int16_t)code;
    to->error[first + at] = (float)error;
}

/* Extend a path by one weight, which is `x` times the scale: by code 0, and by the three codes
 * around x. `weight` times a squared error, in scales, is a distortion in nats. */
static void branch(frontier *to, const frontier *now, const layer *l, unsigned state, unsigned path,
                   double x, double weight, double error_unit, size_t bits_at, unsigned class) {
    double size = fabs(x), odd = state & 1;
    int coarse = l->trellis ? 2 : 1, sign = x < 0 ? -1 : 1, max = 2 * MAX_CODE / coarse;
    double nearest = (size + odd) / coarse;
    int below = nearest < max ? (int)nearest : max;
    const double *magnitude = l->magnitude + (size_t)class * MAGNITUDES;
    for (int i = 0; i < 4; i++) {
        int code = i == 0 ? 0 : below + 2 - i;
        if (i > 0 && code <= 0) break;
        if (code > max) code -= 2; /* same parity, so it leads to the same state */
        double error = size - (code ? coarse * code - odd : 0);
        double bits = code ? l->nonzero[bits_at] + magnitude[code] : l->zero[bits_at];
        double cost = now->cost[path] + weight * error * error + l->lambda * bits;
        unsigned next = l->trellis ? sqz_next_state(state, code) : 0;
        offer(to, l, next, path, sign * code, sign * error * error_unit, cost);
    }
}

/* Length of the beginning, at most `count`, that all paths have in common. */
static size_t common_length(const frontier *f, const history *h, unsigned survivors, size_t count) {
    const int16_t *first = NULL;
    for (unsigned s = 0; s < STATES; s++)
        for (unsigned i = 0; i < f->count[s]; i++) {
            const int16_t *codes = h->codes[s * survivors + i];
            if (first == NULL) first = codes;
            size_t same = 0;
            while (same < count && codes[same] == first[same]) same++;
            count = same;
        }
    return count;
}

/* Index of the cheapest path. */
static unsigned best_path(const frontier *f, unsigned survivors) {
    unsigned best = 0;
    int found = 0;
    for (unsigned s = 0; s < STATES; s++)
        if (f->count[s] && (!found || f->cost[s * survivors] < f->cost[best])) {
            best = s * survivors;
            found = 1;
        }
    return best;
}

/* Drop all paths whose oldest unsettled code differs from that of the cheapest path. */
static void decide_oldest(frontier *f, history *h, unsigned survivors, size_t count) {
    int16_t code = h->codes[best_path(f, survivors)][0];
    for (unsigned s = 0; s < STATES; s++) {
        unsigned kept = 0;
        for (unsigned i = 0; i < f->count[s]; i++) {
            unsigned a = s * survivors + i, b = s * survivors + kept;
            if (h->codes[a][0] != code) continue;
            kept++;
            if (a == b) continue;
            f->cost[b] = f->cost[a];
            f->sum[b] = f->sum[a];
            memcpy(h->codes[b], h->codes[a], count * sizeof(int16_t));
            memcpy(h->errors[b], h->errors[a], count * sizeof(float));
        }
        f->count[s] = kept;
    }
}

/* Write the common beginning of all paths to `codes`, and take its errors off the weights from `p`
 * on. `start` is the oldest unsettled weight; returns the new one. */
static size_t settle(const layer *l, workspace *w, frontier *f, history *h, size_t start, size_t p,
                     int16_t *codes) {
    size_t count = p - start, same = common_length(f, h, l->survivors, count);
    const float *errors = h->errors[best_path(f, l->survivors)];
    memcpy(codes + start, h->codes[best_path(f, l->survivors)], same * sizeof(int16_t));
    for (size_t i = 0; i < same && l->upper_PP != NULL; i++) {
        const double *row = l->upper_PP + (start + i) * l->num_weights;
        for (size_t j = p; j < l->num_weights; j++) w->left[j] -= errors[i] * row[j];
    }
    for (unsigned s = 0; s < STATES; s++)
        for (unsigned i = 0; i < f->count[s]; i++) {
            unsigned n = s * l->survivors + i;
            memmove(h->codes[n], h->codes[n] + same, (count - same) * sizeof(int16_t));
            memmove(h->errors[n], h->errors[n] + same, (count - same) * sizeof(float));
        }
    return start + same;
}

/* Complete the survivors in `to` by what follows from their predecessors. */
static void extend_histories(const layer *l, frontier *to, const frontier *now, const history *h,
                             history *next, size_t length) {
    for (unsigned s = 0; s < STATES; s++)
        for (unsigned i = 0; i < to->count[s]; i++) {
            unsigned n = s * l->survivors + i, from = to->from[n];
            int code = to->code[n];
            unsigned sum = code == 0 ? 0 : code == 1 || code == -1 ? 1 : 2;
            memcpy(next->codes[n], h->codes[from], length * sizeof(int16_t));
            memcpy(next->errors[n], h->errors[from], length * sizeof(float));
            next->codes[n][length] = to->code[n];
            next->errors[n][length] = to->error[n];
            sum = l->kernel_size > 1 ? now->sum[from] + sum : 0;
            to->sum[n] = sum < SUMS ? sum : SUMS - 1;
        }
}

/* Returns the cost of the cheapest path, in nats. */
static double round_row(const layer *l, workspace *w, const double *weights, double curvature,
                        double scale, const uint8_t *classes, int16_t *codes) {
    size_t start = 0;
    unsigned turn = 0, k = 0;
    frontier *now = &w->frontiers[0];
    memset(now->count, 0, sizeof now->count);
    now->count[0] = 1;
    now->cost[0] = 0;
    now->sum[0] = 0;
    memcpy(w->left, weights, l->num_weights * sizeof(double));
    for (size_t p = 0; p < l->num_weights; p++, turn ^= 1) {
        frontier *to = &w->frontiers[turn ^ 1];
        history *h = &w->histories[turn];
        now = &w->frontiers[turn];
        if (p - start >= SETTLE && p % SETTLE == 0) {
            start = settle(l, w, now, h, start, p, codes);
            while (p - start > WINDOW - SETTLE) {
                decide_oldest(now, h, l->survivors, p - start);
                start = settle(l, w, now, h, start, p, codes);
            }
        }
        size_t length = p - start;
        int feedback = l->upper_PP != NULL;
        const float *column = feedback ? l->columns_PP + p * l->num_weights + start : NULL;
        double diagonal = feedback ? l->upper_PP[p * l->num_weights + p] : 1;
        double weight = curvature / 2 * (scale / diagonal) * (scale / diagonal);
        unsigned place = l->kernel_size > 1 ? PLACES * k / l->kernel_size : 0;
        memset(to->count, 0, sizeof to->count);
        for (unsigned s = 0; s < STATES; s++)
            for (unsigned i = 0; i < now->count[s]; i++) {
                unsigned n = s * l->survivors + i;
                if (k == 0) now->sum[n] = 0;
                double left = w->left[p];
                if (feedback) left -= dot_product(h->errors[n], column, length);
                size_t bits_at = (now->sum[n] * PLACES + place) * CLASSES + classes[p];
                branch(to, now, l, s, n, left / scale, weight, scale / diagonal, bits_at,
                       classes[p]);
            }
        extend_histories(l, to, now, h, &w->histories[turn ^ 1], length);
        if (++k == l->kernel_size) k = 0;
    }
    const history *h = &w->histories[turn];
    unsigned best = best_path(&w->frontiers[turn], l->survivors);
    memcpy(codes + start, h->codes[best], (l->num_weights - start) * sizeof(int16_t));
    return w->frontiers[turn].cost[best];
}

/* Get `count` buffers, number `written` to write to. Returns how many there are: fewer with a Python
 * error. */
static int hold(PyObject **objects, Py_buffer *views, int count, int written) {
    int held = 0;
    for (; held < count; held++) {
        int flags = PyBUF_C_CONTIGUOUS | (held == written ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(objects[held], &views[held], flags) < 0) break;
    }
    return held;
}

static void release(Py_buffer *views, int held) {
    while (held-- > 0) PyBuffer_Release(&views[held]);
}

/* Whether buffers have these sizes, and all classes are below CLASSES. */
static int fit(const Py_buffer *views, const size_t *sizes, int num_buffers, int classes_at) {
    int good = 1;
    for (int i = 0; i < num_buffers; i++) good &= (size_t)views[i].len == sizes[i];
    const uint8_t *classes = views[classes_at].buf;
    for (size_t i = 0; good && i < sizes[classes_at]; i++) good = classes[i] < CLASSES;
    return good;
}

enum { WEIGHTS, UPPER, COLUMNS, ZERO, NONZERO, MAGNITUDE, CLASSES_P, CODES, NUM_BUFFERS };

/* Whether all buffers have the sizes that P weights need, and all classes are below CLASSES. */
static int fit_together(const Py_buffer *views) {
    size_t bits = SUMS * PLACES * CLASSES * sizeof(double), count = (size_t)views[CLASSES_P].len;
    size_t expected[NUM_BUFFERS] = {count * sizeof(double),
                                    count * count * sizeof(double),
                                    count * count * sizeof(float),
                                    bits,
                                    bits,
                                    CLASSES * MAGNITUDES * sizeof(double),
                                    count,
                                    count * sizeof(int16_t)};
    return count > 0 && fit(views, expected, NUM_BUFFERS, CLASSES_P);
}

/* round_output(weight_P, upper_PP, columns_PP, zero, nonzero, magnitude, classes_P, codes_P,
 * curvature, scale, kernel_size, survivors, trellis, lambda): see src/squeezenet/_native.pyi.
 * Writes codes_P and returns the cost in nats. */
PyObject *sqz_round_output(PyObject *self, PyObject *args) {
    PyObject *objects[NUM_BUFFERS];
    Py_buffer views[NUM_BUFFERS];
    unsigned kernel_size, survivors;
    int trellis;
    double curvature, scale, lambda, cost = 0;
    if (!PyArg_ParseTuple(args, "OOOOOOOOddIIpd", &objects[0], &objects[1], &objects[2],
                          &objects[3], &objects[4], &objects[5], &objects[6], &objects[7],
                          &curvature, &scale, &kernel_size, &survivors, &trellis, &lambda))
        return NULL;
    int held = hold(objects, views, NUM_BUFFERS, CODES), good = 0;
    if (held == NUM_BUFFERS) {
        if (!fit_together(views) || kernel_size == 0 || survivors == 0 ||
            survivors > MAX_SURVIVORS) {
            PyErr_SetString(PyExc_ValueError, "expected the arrays of one output channel");
        } else {
            size_t count = (size_t)views[CLASSES_P].len;
            workspace *w = malloc(sizeof *w + count * sizeof(double));
            layer l = {count,
                       kernel_size,
                       survivors,
                       trellis,
                       lambda,
                       views[UPPER].buf,
                       views[COLUMNS].buf,
                       views[ZERO].buf,
                       views[NONZERO].buf,
                       views[MAGNITUDE].buf};
            good = w != NULL;
            if (!good) {
                PyErr_NoMemory();
            } else {
                Py_BEGIN_ALLOW_THREADS
                cost = round_row(&l, w, views[WEIGHTS].buf, curvature, scale, views[CLASSES_P].buf,
                                 views[CODES].buf);
                Py_END_ALLOW_THREADS
            }
            free(w);
        }
    }
    release(views, held);
    return good ? PyFloat_FromDouble(cost) : NULL;
}

enum { ROWS, ROWS_ZERO, ROWS_NONZERO, ROWS_MAGNITUDE, ROWS_CLASSES, ROWS_CODES, NUM_ROWS_BUFFERS };

/* Whether all buffers have the sizes that outputs of P weights need, and all classes are below
 * CLASSES. */
static int rows_fit_together(const Py_buffer *views, size_t num_weights) {
    size_t bits = SUMS * PLACES * CLASSES * sizeof(double);
    size_t count = (size_t)views[ROWS_CLASSES].len;
    size_t expected[NUM_ROWS_BUFFERS] = {
        count * sizeof(double), bits, bits, CLASSES * MAGNITUDES * sizeof(double), count,
        count * sizeof(int16_t)};
    int whole = num_weights > 0 && count % num_weights == 0;
    return whole && fit(views, expected, NUM_ROWS_BUFFERS, ROWS_CLASSES);
}

/* round_levels(weight_OP, zero, nonzero, magnitude, classes_OP, codes_OP, num_weights,
 * kernel_size, trellis, lambda): see src/squeezenet/_native.pyi. Writes codes_OP. */
PyObject *sqz_round_levels(PyObject *self, PyObject *args) {
    PyObject *objects[NUM_ROWS_BUFFERS];
    Py_buffer views[NUM_ROWS_BUFFERS];
    Py_ssize_t num_weights;
    unsigned kernel_size;
    int trellis;
    double lambda;
    if (!PyArg_ParseTuple(args, "OOOOOOnIpd", &objects[0], &objects[1], &objects[2], &objects[3],
                          &objects[4], &objects[5], &num_weights, &kernel_size, &trellis, &lambda))
        return NULL;
    int held = hold(objects, views, NUM_ROWS_BUFFERS, ROWS_CODES), good = 0;
    if (held == NUM_ROWS_BUFFERS) {
        size_t size = num_weights > 0 ? (size_t)num_weights : 0;
        if (!rows_fit_together(views, size) || kernel_size == 0) {
            PyErr_SetString(PyExc_ValueError, "expected the arrays of one layer");
        } else {
            workspace *w = malloc(sizeof *w + size * sizeof(double));
            layer l = {size,
                       kernel_size,
                       1,
                       trellis,
                       lambda,
                       NULL,
                       NULL,
                       views[ROWS_ZERO].buf,
                       views[ROWS_NONZERO].buf,
                       views[ROWS_MAGNITUDE].buf};
            good = w != NULL;
            if (!good) {
                PyErr_NoMemory();
            } else {
                const double *weights = views[ROWS].buf;
                const uint8_t *classes = views[ROWS_CLASSES].buf;
                int16_t *codes = views[ROWS_CODES].buf;
                size_t count = (size_t)views[ROWS_CLASSES].len;
                Py_BEGIN_ALLOW_THREADS
                /* A curvature of 2 makes the squared error the distortion. */
                for (size_t i = 0; i < count; i += size)
                    round_row(&l, w, weights + i, 2, 1, classes + i, codes + i);
                Py_END_ALLOW_THREADS
            }
            free(w);
        }
    }
    release(views, held);
    if (!good) return NULL;
    Py_RETURN_NONE;
}
