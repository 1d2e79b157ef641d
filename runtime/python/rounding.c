/* squeezenet._native.round_output: weights of an output channel -> codes, mostly on the trellis, of
 * least distortion plus bits.
 *
 * A path through the trellis has an error at each weight, and each error is made good by the
 * weights still to come (GPTQ, arXiv 2210.17323): with U the upper Cholesky factor of the inverse
 * Hessian, distortion is exactly the sum of the squares of what is left at each weight over U's
 * diagonal, so that paths can be compared where they stand. In every state the best few go on
 * (list Viterbi), as the errors of two paths in one state still differ. Without a trellis there is
 * one state, and a code is a level.
 * Legend: P weights of an output channel, K kernel positions. */
#include "rounding.h"

#include "../src/sqz_levels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STATES 8
#define MOST_LIST 16
#define MOST_PATHS (STATES * MOST_LIST)
#define WINDOW 512 /* weights that paths may differ in; what is before is settled */
#define SETTLE 16  /* every so many weights it is looked which are */
#define MOST_CODE 63 /* levels of a trellis are twice as large */
#define SUMS 16
#define PLACES 9
#define CLASSES 16
#define MAGNITUDES 128

typedef struct {
    size_t num_inputs; /* P */
    unsigned size;     /* K */
    unsigned list;     /* paths a state */
    int trellis;
    double price;      /* nats a bit */
    const double *upper_PP;
    const float *columns_PP; /* the same, transposed */
    const double *zero, *nonzero; /* bits: SUMS x PLACES x CLASSES */
    const double *magnitude;      /* bits: CLASSES x MAGNITUDES */
} layer;

/* Paths of one state stand together, the cheapest first. */
typedef struct {
    unsigned count[STATES];
    unsigned from[MOST_PATHS];
    unsigned sum[MOST_PATHS]; /* of the kernel so far, as the coder's contexts have it */
    int16_t code[MOST_PATHS];
    float error[MOST_PATHS];
    double cost[MOST_PATHS];
} front;

/* What the paths have been since the last settled weight. */
typedef struct {
    int16_t codes[MOST_PATHS][WINDOW];
    float errors[MOST_PATHS][WINDOW];
} past;

typedef struct {
    front fronts[2];
    past pasts[2];
    double left[]; /* P: weights less the errors of settled ones */
} workspace;

static float sum_of_products(const float *a, const float *b, size_t count) {
    float sums[8] = {0}, rest = 0;
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int j = 0; j < 8; j++) sums[j] += a[i + (size_t)j] * b[i + (size_t)j];
    for (; i < count; i++) rest += a[i] * b[i];
    for (int j = 0; j < 8; j++) rest += sums[j];
    return rest;
}

static void offer(front *to, const layer *l, unsigned state, unsigned from, int code, double error,
                  double cost) {
    unsigned first = state * l->list, at = to->count[state];
    if (at == l->list && cost >= to->cost[first + at - 1]) return;
    if (at < l->list) to->count[state]++;
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

/* All that a path may go on to at a weight of `x` steps: none, and the three codes around. */
static void branch(front *to, const front *now, const layer *l, unsigned state, unsigned path,
                   double x, double weight, double error_unit, size_t bits_at, unsigned class) {
    double size = fabs(x), odd = state & 1;
    int coarse = l->trellis ? 2 : 1, sign = x < 0 ? -1 : 1, most = 2 * MOST_CODE / coarse;
    double nearest = (size + odd) / coarse;
    int below = nearest < most ? (int)nearest : most;
    const double *magnitude = l->magnitude + (size_t)class * MAGNITUDES;
    for (int i = 0; i < 4; i++) {
        int code = i == 0 ? 0 : below + 2 - i;
        if (i > 0 && code <= 0) break;
        if (code > most) code -= 2; /* which leads to the same state */
        double off = size - (code ? coarse * code - odd : 0);
        double bits = code ? l->nonzero[bits_at] + magnitude[code] : l->zero[bits_at];
        double cost = now->cost[path] + weight * off * off + l->price * bits;
        unsigned next = l->trellis ? sqz_next_state(state, code) : 0;
        offer(to, l, next, path, sign * code, sign * off * error_unit, cost);
    }
}

/* How many weights from the first on all paths agree on. */
static size_t agreed(const front *f, const past *h, unsigned list, size_t count) {
    const int16_t *first = NULL;
    for (unsigned s = 0; s < STATES; s++)
        for (unsigned i = 0; i < f->count[s]; i++) {
            const int16_t *codes = h->codes[s * list + i];
            if (first == NULL) first = codes;
            size_t same = 0;
            while (same < count && codes[same] == first[same]) same++;
            count = same;
        }
    return count;
}

/* The cheapest path. */
static unsigned best_path(const front *f, unsigned list) {
    unsigned best = 0;
    int found = 0;
    for (unsigned s = 0; s < STATES; s++)
        if (f->count[s] && (!found || f->cost[s * list] < f->cost[best])) {
            best = s * list;
            found = 1;
        }
    return best;
}

/* Drop all paths that differ from the cheapest in the oldest weight. */
static void decide_oldest(front *f, past *h, unsigned list, size_t count) {
    int16_t code = h->codes[best_path(f, list)][0];
    for (unsigned s = 0; s < STATES; s++) {
        unsigned kept = 0;
        for (unsigned i = 0; i < f->count[s]; i++) {
            unsigned a = s * list + i, b = s * list + kept;
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

/* Settle what all paths agree on: write it to `codes`, and take its errors off the weights from
 * `p` on. `start` is the oldest weight that is not settled; returns the new one. */
static size_t settle(const layer *l, workspace *w, front *f, past *h, size_t start, size_t p,
                     int16_t *codes) {
    size_t count = p - start, same = agreed(f, h, l->list, count);
    const float *errors = h->errors[best_path(f, l->list)];
    memcpy(codes + start, h->codes[best_path(f, l->list)], same * sizeof(int16_t));
    for (size_t i = 0; i < same; i++) {
        const double *row = l->upper_PP + (start + i) * l->num_inputs;
        for (size_t j = p; j < l->num_inputs; j++) w->left[j] -= errors[i] * row[j];
    }
    for (unsigned s = 0; s < STATES; s++)
        for (unsigned i = 0; i < f->count[s]; i++) {
            unsigned n = s * l->list + i;
            memmove(h->codes[n], h->codes[n] + same, (count - same) * sizeof(int16_t));
            memmove(h->errors[n], h->errors[n] + same, (count - same) * sizeof(float));
        }
    return start + same;
}

/* Returns what the cheapest path costs, in nats. */
static double round_row(const layer *l, workspace *w, const double *weights, double gain,
                        double step, const uint8_t *classes, int16_t *codes) {
    size_t start = 0;
    unsigned turn = 0, k = 0;
    front *now = &w->fronts[0];
    memset(now->count, 0, sizeof now->count);
    now->count[0] = 1;
    now->cost[0] = 0;
    now->sum[0] = 0;
    memcpy(w->left, weights, l->num_inputs * sizeof(double));
    for (size_t p = 0; p < l->num_inputs; p++, turn ^= 1) {
        front *to = &w->fronts[turn ^ 1];
        past *h = &w->pasts[turn], *next = &w->pasts[turn ^ 1];
        now = &w->fronts[turn];
        if (p - start >= SETTLE && p % SETTLE == 0) {
            start = settle(l, w, now, h, start, p, codes);
            while (p - start > WINDOW - SETTLE) {
                decide_oldest(now, h, l->list, p - start);
                start = settle(l, w, now, h, start, p, codes);
            }
        }
        size_t length = p - start;
        const float *column = l->columns_PP + p * l->num_inputs + start;
        double diagonal = l->upper_PP[p * l->num_inputs + p];
        double weight = gain / 2 * (step / diagonal) * (step / diagonal);
        unsigned place = l->size > 1 ? PLACES * k / l->size : 0;
        memset(to->count, 0, sizeof to->count);
        for (unsigned s = 0; s < STATES; s++)
            for (unsigned i = 0; i < now->count[s]; i++) {
                unsigned n = s * l->list + i;
                if (k == 0) now->sum[n] = 0;
                double left = w->left[p] - sum_of_products(h->errors[n], column, length);
                size_t bits_at = (now->sum[n] * PLACES + place) * CLASSES + classes[p];
                branch(to, now, l, s, n, left / step, weight, step / diagonal, bits_at, classes[p]);
            }
        for (unsigned s = 0; s < STATES; s++)
            for (unsigned i = 0; i < to->count[s]; i++) {
                unsigned n = s * l->list + i, from = to->from[n];
                int code = to->code[n];
                unsigned sum = code == 0 ? 0 : code == 1 || code == -1 ? 1 : 2;
                memcpy(next->codes[n], h->codes[from], length * sizeof(int16_t));
                memcpy(next->errors[n], h->errors[from], length * sizeof(float));
                next->codes[n][length] = to->code[n];
                next->errors[n][length] = to->error[n];
                sum = l->size > 1 ? now->sum[from] + sum : 0;
                to->sum[n] = sum < SUMS ? sum : SUMS - 1;
            }
        if (++k == l->size) k = 0;
    }
    const past *h = &w->pasts[turn];
    unsigned best = best_path(&w->fronts[turn], l->list);
    memcpy(codes + start, h->codes[best], (l->num_inputs - start) * sizeof(int16_t));
    return w->fronts[turn].cost[best];
}

enum { WEIGHTS, UPPER, COLUMNS, ZERO, NONZERO, MAGNITUDE, CLASSES_P, CODES, NUM_BUFFERS };

/* (weight_P, upper_PP, columns_PP, zero, nonzero, magnitude, classes_P, codes_P, gain, step, size,
 * paths, trellis, price): float64 but for float32 columns, which are upper_PP transposed, uint8
 * classes and int16 codes, which are written. Returns what they cost. */
PyObject *sqz_round_output(PyObject *self, PyObject *args) {
    PyObject *objects[NUM_BUFFERS];
    Py_buffer views[NUM_BUFFERS];
    unsigned size, list;
    int trellis;
    double gain, step, price, cost = 0;
    if (!PyArg_ParseTuple(args, "OOOOOOOOddIIpd", &objects[0], &objects[1], &objects[2],
                          &objects[3], &objects[4], &objects[5], &objects[6], &objects[7], &gain,
                          &step, &size, &list, &trellis, &price))
        return NULL;
    int held = 0, good = 1;
    for (; held < NUM_BUFFERS; held++) {
        int flags = PyBUF_C_CONTIGUOUS | (held == CODES ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(objects[held], &views[held], flags) < 0) break;
    }
    size_t bits = SUMS * PLACES * CLASSES * sizeof(double);
    if (held == NUM_BUFFERS) {
        size_t count = (size_t)views[CLASSES_P].len;
        size_t expected[NUM_BUFFERS] = {
            count * sizeof(double), count * count * sizeof(double), count * count * sizeof(float),
            bits, bits, CLASSES * MAGNITUDES * sizeof(double), count, count * sizeof(int16_t)};
        good = count > 0 && size > 0 && list > 0 && list <= MOST_LIST;
        for (int i = 0; i < NUM_BUFFERS; i++) good &= (size_t)views[i].len == expected[i];
        const uint8_t *classes = views[CLASSES_P].buf;
        for (size_t i = 0; good && i < count; i++) good = classes[i] < CLASSES;
        if (!good) {
            PyErr_SetString(PyExc_ValueError, "arrays that are not of one output");
        } else {
            workspace *w = malloc(sizeof *w + count * sizeof(double));
            layer l = {count, size, list, trellis, price, views[UPPER].buf, views[COLUMNS].buf,
                       views[ZERO].buf, views[NONZERO].buf, views[MAGNITUDE].buf};
            good = w != NULL;
            if (!good) {
                PyErr_NoMemory();
            } else {
                Py_BEGIN_ALLOW_THREADS
                cost = round_row(&l, w, views[WEIGHTS].buf, gain, step, classes, views[CODES].buf);
                Py_END_ALLOW_THREADS
            }
            free(w);
        }
    }
    good &= held == NUM_BUFFERS;
    while (held-- > 0) PyBuffer_Release(&views[held]);
    if (!good) return NULL;
    return PyFloat_FromDouble(cost);
}
