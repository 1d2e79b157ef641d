/* Another network from a file. Dimensions, kernels, strides, paddings, groups and operations are
 * changed, to small numbers or to numbers near the limits. Shapes, header, ACTIVATIONS and, of
 * small networks, WEIGHTS are computed anew, so most of the files are good and reach the arena
 * and the kernels. */
#include <string.h>

#include "network.h"
#include "../src/sqz_reader.h"

/* Mostly small; one in four anywhere up to 2^27, close to a power of two. */
static uint32_t number(network *n) {
    uint32_t kind = below(n, 8);
    if (kind < 4) return 1 + below(n, 5);
    if (kind < 6) return 1 + below(n, 70);
    uint32_t value = (1u << below(n, 28)) + below(n, 3);
    return value < 2 ? 1 : value - 1;
}

static int read_network(const sqz_file *file, network *n) {
    sqz_cursor c = {file->graph.bytes, file->graph.bytes + file->graph.size, 0};
    n->num_tensors = sqz_count(&c);
    if (n->num_tensors < 1 || n->num_tensors > MAX_ITEMS - 2) return 0;
    for (uint32_t t = 0; t < n->num_tensors; t++)
        for (unsigned k = 0; k < 3; k++) n->shapes[t][k] = sqz_count(&c);
    n->num_ops = sqz_count(&c);
    if (n->num_ops < 1 || n->num_ops > MAX_ITEMS - 2) return 0;
    for (uint32_t i = 0; i < n->num_ops; i++) {
        uint32_t *op = n->ops[i];
        memset(op, 0, sizeof n->ops[i]);
        op[KIND] = sqz_count(&c);
        if (op[KIND] < 1 || op[KIND] > 5) return 0;
        for (unsigned k = 1; k <= num_counts[op[KIND]]; k++) op[k] = sqz_count(&c);
        if (op[SOURCE] >= n->num_tensors || op[TARGET_] >= n->num_tensors) return 0;
        if (op[KIND] == SQZ_ADD && op[OTHER] >= n->num_tensors) return 0;
    }
    return !c.failed;
}

/* Insert a max pool of any tensor, whose target the next operation reads, or none. */
static void insert_pool(network *n) {
    uint32_t at = 1 + below(n, n->num_ops - 1), source = n->ops[below(n, at)][TARGET_];
    uint32_t pool[11] = {SQZ_MAX_POOL, source, n->num_tensors, 1 + below(n, 4), 1 + below(n, 3)};
    if (n->num_tensors >= MAX_ITEMS - 2 || n->num_ops >= MAX_ITEMS - 2) return;
    memmove(n->ops[at + 1], n->ops[at], (n->num_ops - at) * sizeof n->ops[0]);
    memcpy(n->ops[at], pool, sizeof pool);
    n->num_ops++;
    n->num_tensors++;
    if (below(n, 2)) n->ops[at + 1][SOURCE] = pool[TARGET_];
}

/* Remove an operation if another one writes its target too. */
static void leave_out(network *n, uint32_t i) {
    for (uint32_t k = 0; k < n->num_ops; k++) {
        if (k == i || n->ops[k][TARGET_] != n->ops[i][TARGET_]) continue;
        n->num_ops--;
        memmove(n->ops[i], n->ops[i + 1], (n->num_ops - i) * sizeof n->ops[0]);
        return;
    }
}

/* A number close to a power of two, from 2^`min` to 2^`max`, more often a large one. */
static uint32_t large(network *n, uint32_t min, uint32_t max) {
    uint32_t a = below(n, max - min + 1), b = below(n, max - min + 1);
    return (1u << (min + (a > b ? a : b))) + below(n, 3) - 1;
}

/* Make something large together with what it needs, or else it would be refused: a wide border
 * needs a stride or a kernel as large, and many groups need a source of as many channels. */
static void grow(network *n, uint32_t i) {
    uint32_t *op = n->ops[i], what = below(n, 3), kernel = large(n, 4, 13);
    if (what == 0) {
        op[PADDING] = large(n, 6, 27);
        op[STRIDE] = op[PADDING] / (1 + below(n, 9)) + 1;
    } else if (what == 1) {
        op[HEIGHT] = kernel;
        op[WIDTH] = below(n, 4) ? kernel : 1 + below(n, 9);
        op[PADDING] = FITTING;
        op[STRIDE] = below(n, 2) ? op[STRIDE] : kernel;
        op[CHANNELS] = below(n, 2) ? op[CHANNELS] : 1 + below(n, 4);
    } else {
        uint32_t weights = 18 + below(n, 10), channels = 1 + below(n, weights);
        op[CHANNELS] = (1u << channels) - below(n, 2);
        for (uint32_t k = i + 1; k < n->num_ops; k++) {
            uint32_t *reader = n->ops[k];
            if (reader[KIND] != SQZ_CONVOLUTION || reader[SOURCE] != op[TARGET_]) continue;
            reader[CHANNELS] = op[CHANNELS] * (1 + below(n, 2));
            reader[GROUPS] = op[CHANNELS];
            reader[HEIGHT] = (1u << (weights - channels) / 2) + below(n, 2);
            reader[WIDTH] = (1u << (weights - channels + 1) / 2) - below(n, 2);
            reader[PADDING] = FITTING;
            reader[STRIDE] = reader[WIDTH];
        }
    }
}

static void change(network *n) {
    uint32_t i = below(n, n->num_ops), what = below(n, 11), *op = n->ops[i];
    if (what == 0) {
        n->shapes[0][1 + below(n, 2)] = number(n) & 0xffff;
    } else if (what == 1 && n->num_ops > 1) {
        insert_pool(n);
    } else if (op[KIND] == SQZ_CONVOLUTION) {
        if (what == 2 && below(n, 2)) op[RELU] ^= 1;
        else if (what == 2) leave_out(n, i);
        else if (what == 3) op[GROUPS] = number(n);
        else if (what == 4) op[PADDING] = number(n) - 1;
        else if (what == 5) op[STRIDE] = number(n);
        else if (what == 6) op[HEIGHT + below(n, 2)] = number(n);
        else if (what == 7) op[CHANNELS] = number(n);
        else grow(n, i);
    } else if (op[KIND] == SQZ_MAX_POOL) {
        op[POOL_KERNEL + what % 2] = what < 4 ? number(n) : 1 + below(n, 4);
    }
}

static uint32_t positions(uint64_t side, uint32_t kernel, uint32_t stride) {
    return side < kernel ? 0 : (uint32_t)((side - kernel) / stride) + 1;
}

/* Write the next channels of a tensor. All slices must have the same height and width. */
static int write_shape(network *n, uint32_t *op, uint32_t channels, uint32_t height,
                       uint32_t width) {
    uint32_t *shape = n->shapes[op[TARGET_]], *written = &n->written[op[TARGET_]];
    if (op[TARGET_] == 0 || (*written && (shape[1] != height || shape[2] != width))) return 0;
    shape[0] = *written += channels;
    shape[1] = height;
    shape[2] = width;
    return channels && height && width && channels < 1 << 28;
}

static uint32_t divisor(uint32_t wanted, uint32_t a, uint32_t b) {
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    while (wanted > a || (wanted > 1 && a % wanted)) wanted = wanted > a ? a : wanted - 1;
    return wanted ? wanted : 1;
}

static int shape_convolution(network *n, uint32_t i) {
    uint32_t *op = n->ops[i], *in = n->shapes[op[SOURCE]];
    for (uint32_t k = 0; k < i; k++) /* as the slice before it, if there is one */
        if (n->ops[k][KIND] == SQZ_CONVOLUTION && n->ops[k][TARGET_] == op[TARGET_] && below(n, 2))
            memcpy(op + HEIGHT, n->ops[k] + HEIGHT, 4 * sizeof *op);
    if (!op[STRIDE] || !op[HEIGHT] || !op[WIDTH] || !op[CHANNELS]) return 0;
    if (op[PADDING] == FITTING) {
        uint32_t high = op[HEIGHT] > in[1] ? op[HEIGHT] - in[1] : 0;
        uint32_t wide = op[WIDTH] > in[2] ? op[WIDTH] - in[2] : 0;
        op[PADDING] = ((high > wide ? high : wide) + 1) / 2 + !below(n, 4);
    }
    if (op[GROUPS] > 1 && op[CHANNELS] >= in[0] && below(n, 2))
        op[CHANNELS] -= op[CHANNELS] % in[0];
    op[GROUPS] = divisor(op[GROUPS] < 64 ? op[GROUPS] : in[0], in[0], op[CHANNELS]);
    op[START] = n->written[op[TARGET_]];
    uint64_t border = 2 * (uint64_t)op[PADDING];
    uint64_t kernel = (uint64_t)op[HEIGHT] * op[WIDTH], channel = kernel * (in[0] / op[GROUPS]);
    n->weights += channel * op[CHANNELS];
    if (channel > n->largest) n->largest = channel;
    return kernel <= SQZ_MAX_WEIGHTS && n->weights <= SQZ_MAX_WEIGHTS &&
           write_shape(n, op, op[CHANNELS], positions(in[1] + border, op[HEIGHT], op[STRIDE]),
                       positions(in[2] + border, op[WIDTH], op[STRIDE]));
}

/* A side of a pool's target, with a last window that hangs over if possible. */
static uint32_t pooled(uint32_t side, const uint32_t *op) {
    uint32_t inside = positions(side, op[POOL_KERNEL], op[POOL_STRIDE]);
    int hangs = inside && (uint64_t)inside * op[POOL_STRIDE] < side &&
                (side - op[POOL_KERNEL]) % op[POOL_STRIDE];
    return inside + (uint32_t)hangs;
}

/* Compute all shapes, from the input on, and the numbers of the header. */
static int shape_all(network *n) {
    uint32_t first[MAX_ITEMS] = {0}, last[MAX_ITEMS] = {0};
    memset(n->written, 0, sizeof n->written);
    n->weights = n->largest = n->peak = 0;
    n->written[0] = n->shapes[0][0];
    for (uint32_t i = 0; i < n->num_ops; i++) {
        uint32_t *op = n->ops[i], *in = n->shapes[op[SOURCE]];
        uint32_t target = op[TARGET_];
        if (!n->written[op[SOURCE]]) return 0;
        if (op[KIND] == SQZ_ADD && memcmp(in, n->shapes[op[OTHER]], sizeof n->shapes[0])) {
            uint32_t none[11] = {SQZ_MAX_POOL, op[SOURCE], target, 1, 1};
            memcpy(op, none, sizeof none);
        }
        if (!n->written[target]) first[target] = i;
        last[op[SOURCE]] = last[target] = i;
        if (op[KIND] == SQZ_ADD) last[op[OTHER]] = i;
        int good = 0;
        if (op[KIND] == SQZ_CONVOLUTION) good = shape_convolution(n, i);
        else if (op[KIND] == SQZ_AVERAGE_POOL) good = write_shape(n, op, in[0], 1, 1);
        else if (op[KIND] != SQZ_MAX_POOL) good = write_shape(n, op, in[0], in[1], in[2]);
        else if (op[POOL_STRIDE])
            good = write_shape(n, op, in[0], pooled(in[1], op), pooled(in[2], op));
        if (!good) return 0;
    }
    for (uint32_t i = 0; i < n->num_ops; i++) {
        uint64_t alive = 0;
        for (uint32_t t = 0; t < n->num_tensors; t++) {
            uint64_t plane = (uint64_t)n->shapes[t][1] * n->shapes[t][2];
            if (plane > SQZ_MAX_WEIGHTS || plane * n->shapes[t][0] > SQZ_MAX_WEIGHTS) return 0;
            if (first[t] <= i && i <= last[t]) alive += plane * n->shapes[t][0];
        }
        if (alive > n->peak) n->peak = alive;
    }
    return n->peak <= SQZ_MAX_ACTIVATIONS;
}

size_t other_network(uint8_t *data, size_t size, size_t room, unsigned seed) {
    static network old, n;
    static uint8_t made[1 << 17];
    sqz_file file;
    if (sqz_open(&file, data, size) || !read_network(&file, &old)) return 0;
    for (unsigned attempt = 0; attempt < 12; attempt++) {
        n = old;
        n.random = (seed ^ attempt * 0x9e3779b9u) | 1;
        for (uint32_t changes = 1 + below(&n, 3); changes > 0; changes--) change(&n);
        if (!n.shapes[0][1] || !n.shapes[0][2] || !shape_all(&n)) continue;
        size_t found = put_file(&n, data, file.activations.bytes != NULL, &file.input, made,
                                room < sizeof made ? room : sizeof made);
        if (found) memcpy(data, made, found);
        return found;
    }
    return 0;
}
