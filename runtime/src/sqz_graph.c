/* Tensors and operations: spec/FORMAT.md, "GRAPH" and "Limits". */
#include "sqz_reader.h"

typedef struct {
    const sqz_file *file;
    sqz_tensor *tensors;
    uint64_t num_weights, num_macs, largest_channel;
    uint32_t index; /* of the operation being read */
} graph_reader;

/* "At most 2^27 elements in a tensor, and 2^28 in all tensors together." */
static sqz_error read_tensors(sqz_cursor *cursor, sqz_tensor *tensors, uint32_t num_tensors) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < num_tensors; i++) {
        sqz_tensor *t = &tensors[i];
        t->channels = sqz_count(cursor);
        t->height = sqz_count(cursor);
        t->width = sqz_count(cursor);
        t->first = t->last = t->written = 0;
        if (!t->channels || !t->height || !t->width) return SQZ_MALFORMED;
        uint64_t plane = (uint64_t)t->height * t->width; /* each below 2^28 */
        if (plane > SQZ_MAX_WEIGHTS || plane * t->channels > SQZ_MAX_WEIGHTS) return SQZ_LIMIT;
        total += plane * t->channels;
    }
    return total > SQZ_MAX_ACTIVATIONS ? SQZ_LIMIT : SQZ_OK;
}

/* Note that the current operation reads a tensor. Returns whether it is complete, as it MUST be. */
static int reads(graph_reader *g, uint32_t tensor) {
    sqz_tensor *t = &g->tensors[tensor];
    t->last = g->index;
    return t->written == t->channels;
}

/* Note that the current operation writes channels. Returns whether they are the next of their
 * tensor: "written in order, without gap or overlap". */
static int writes(graph_reader *g, uint32_t tensor, uint32_t start, uint32_t channels) {
    sqz_tensor *t = &g->tensors[tensor];
    if (start != t->written || channels > t->channels - t->written) return 0;
    if (!t->written) t->first = g->index;
    t->last = g->index;
    t->written += channels;
    return 1;
}

/* floor((side - kernel) / stride) + 1, or 0 if the kernel is larger than the side. */
static uint32_t positions(uint64_t side, uint32_t kernel, uint32_t stride) {
    return side < kernel ? 0 : (uint32_t)((side - kernel) / stride) + 1;
}

/* "Input and output channels MUST be multiples of the groups. A side of a convolution's target is
 * floor((side + 2 * padding - kernel) / stride) + 1." And the limits. */
static sqz_error read_convolution(graph_reader *g, sqz_operation *op) {
    const sqz_tensor *in = &g->tensors[op->source], *out = &g->tensors[op->target];
    uint64_t padding = 2 * (uint64_t)op->padding;
    if (!op->out_channels || !op->kernel_height || !op->kernel_width || !op->stride ||
        !op->groups || op->relu > 1 || in->channels % op->groups || op->out_channels % op->groups)
        return SQZ_MALFORMED;
    if (positions(in->height + padding, op->kernel_height, op->stride) != out->height ||
        positions(in->width + padding, op->kernel_width, op->stride) != out->width ||
        !writes(g, op->target, op->target_start, op->out_channels))
        return SQZ_MALFORMED;
    op->inputs = in->channels / op->groups;
    uint64_t kernel = (uint64_t)op->kernel_height * op->kernel_width;
    if (kernel > SQZ_MAX_WEIGHTS || kernel * op->inputs > SQZ_MAX_WEIGHTS) return SQZ_LIMIT;
    uint64_t channel = kernel * op->inputs, plane = (uint64_t)out->height * out->width;
    if (channel > g->largest_channel) g->largest_channel = channel;
    if (kernel * in->channels > SQZ_MAX_ACTIVATIONS / plane) return SQZ_LIMIT;
    g->num_weights += channel * op->out_channels; /* below 2^55, and checked now */
    if (g->num_weights > SQZ_MAX_WEIGHTS) return SQZ_LIMIT;
    g->num_macs += channel * op->out_channels * plane;
    return g->num_macs > SQZ_MAX_MACS ? SQZ_LIMIT : SQZ_OK;
}

static int same_shape(const sqz_tensor *a, const sqz_tensor *b) {
    return a->channels == b->channels && a->height == b->height && a->width == b->width;
}

/* A side of a max pool's target: as a convolution's without padding, "or one more if a last window
 * begins inside and hangs over". */
static int pooled(uint32_t side, uint32_t out, uint32_t kernel, uint32_t stride) {
    uint32_t inside = positions(side, kernel, stride);
    return inside && (out == inside || (out == inside + 1 && (uint64_t)inside * stride < side &&
                                        (uint64_t)(side - kernel) % stride));
}

/* An operation: its code, source and target, and the further counts of its kind. */
static sqz_error read_operation(graph_reader *g, sqz_cursor *cursor, sqz_operation *op) {
    static const sqz_operation none;
    uint32_t num_tensors = g->file->num_tensors;
    *op = none;
    uint32_t code = sqz_count(cursor);
    op->source = sqz_count(cursor);
    op->target = sqz_count(cursor);
    if (cursor->failed || op->source >= num_tensors || op->target >= num_tensors)
        return SQZ_MALFORMED;
    if (code < SQZ_CONVOLUTION || code > SQZ_RESPONSE_NORM) return SQZ_MALFORMED;
    op->kind = (sqz_kind)code;
    const sqz_tensor *in = &g->tensors[op->source], *out = &g->tensors[op->target];
    if (!reads(g, op->source)) return SQZ_MALFORMED;
    int fits = 0;
    switch (op->kind) {
    case SQZ_CONVOLUTION:
        op->target_start = sqz_count(cursor);
        op->out_channels = sqz_count(cursor);
        op->kernel_height = sqz_count(cursor);
        op->kernel_width = sqz_count(cursor);
        op->stride = sqz_count(cursor);
        op->padding = sqz_count(cursor);
        op->groups = sqz_count(cursor);
        op->relu = sqz_count(cursor);
        return cursor->failed ? SQZ_MALFORMED : read_convolution(g, op);
    case SQZ_MAX_POOL:
        op->kernel_height = op->kernel_width = sqz_count(cursor);
        op->stride = sqz_count(cursor);
        fits = op->kernel_height && op->stride && in->channels == out->channels &&
               pooled(in->height, out->height, op->kernel_height, op->stride) &&
               pooled(in->width, out->width, op->kernel_width, op->stride);
        break;
    case SQZ_ADD:
        op->other = sqz_count(cursor);
        fits = op->other < num_tensors && reads(g, op->other) && same_shape(in, out) &&
               same_shape(&g->tensors[op->other], out);
        break;
    case SQZ_AVERAGE_POOL:
        fits = in->channels == out->channels && out->height == 1 && out->width == 1;
        break;
    case SQZ_RESPONSE_NORM:
        op->kernel_height = op->kernel_width = sqz_count(cursor);
        fits = op->kernel_height % 2 == 1 && same_shape(in, out);
        break;
    }
    if (cursor->failed || !fits || !writes(g, op->target, 0, out->channels)) return SQZ_MALFORMED;
    return SQZ_OK;
}

/* "Peak activations: the largest number of tensor elements that are alive during one operation." */
static uint32_t peak_activations(const sqz_file *file, const sqz_tensor *tensors) {
    uint32_t peak = 0;
    for (uint32_t i = 0; i < file->num_operations; i++) {
        uint32_t alive = 0; /* at most SQZ_MAX_ACTIVATIONS */
        for (uint32_t t = 0; t < file->num_tensors; t++)
            if (tensors[t].first <= i && i <= tensors[t].last)
                alive += tensors[t].channels * tensors[t].height * tensors[t].width;
        if (alive > peak) peak = alive;
    }
    return peak;
}

sqz_error sqz_read_graph(const sqz_file *file, sqz_tensor *tensors, size_t num_tensors,
                         sqz_operation *operations, size_t num_operations) {
    if (file == NULL || tensors == NULL || operations == NULL || file->graph.bytes == NULL ||
        num_tensors < file->num_tensors || num_operations < file->num_operations)
        return SQZ_WRONG_USE;
    sqz_cursor cursor = {file->graph.bytes, file->graph.bytes + file->graph.size, 0};
    graph_reader g = {file, tensors, 0, 0, 0, 0};
    sqz_count(&cursor);
    sqz_error error = read_tensors(&cursor, tensors, file->num_tensors);
    if (error) return error;
    const sqz_input *input = &file->input;
    if (tensors[0].channels != (input->channels ? 3u : 1u) ||
        tensors[0].height != input->crop_height || tensors[0].width != input->crop_width)
        return SQZ_MALFORMED;
    tensors[0].written = tensors[0].channels;
    sqz_count(&cursor);
    for (g.index = 0; g.index < file->num_operations; g.index++) {
        error = read_operation(&g, &cursor, &operations[g.index]);
        if (error) return error;
    }
    if (cursor.failed || cursor.at != cursor.end) return SQZ_MALFORMED;
    for (uint32_t t = 0; t < file->num_tensors; t++)
        if (tensors[t].written != tensors[t].channels) return SQZ_MALFORMED;
    if (g.num_weights != file->num_weights || g.largest_channel != file->largest_channel ||
        peak_activations(file, tensors) != file->peak_activations)
        return SQZ_MALFORMED;
    return SQZ_OK;
}
