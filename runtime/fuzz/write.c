/* A network as a file without checksums. Small ones get weights that can be decoded. */
#include <string.h>

#include "network.h"
#include "../src/sqz_levels.h"
#include "../src/sqz_reader.h"

enum { MAX_CODED = 1 << 13, MAX_CHANNEL = 1 << 12, MAX_STREAM = 1 << 16 };

static uint8_t *put_count(uint8_t *out, uint32_t value) {
    for (; value >= 128; value >>= 7) *out++ = (uint8_t)(value | 128);
    *out++ = (uint8_t)value;
    return out;
}

static void put_u32(uint8_t *out, uint32_t value) {
    for (unsigned k = 0; k < 4; k++) out[k] = (uint8_t)(value >> 8 * k);
}

static uint8_t *put_graph(const network *n, uint8_t *out) {
    out = put_count(out, n->num_tensors);
    for (uint32_t t = 0; t < n->num_tensors; t++)
        for (unsigned k = 0; k < 3; k++) out = put_count(out, n->shapes[t][k]);
    out = put_count(out, n->num_ops);
    for (uint32_t i = 0; i < n->num_ops; i++)
        for (unsigned k = 0; k <= num_counts[n->ops[i][KIND]]; k++)
            out = put_count(out, n->ops[i][k]);
    return out;
}

/* Random levels, scales and biases, mostly within the bounds of accumulators. */
static uint8_t *put_weights(network *n, uint8_t *out) {
    static sqz_coder coder;
    static sqz_contexts contexts;
    static sqz_levels levels;
    int16_t row[MAX_CHANNEL];
    int32_t scale = 0, max_level = below(n, 8) ? 3 : 127, unit = below(n, 8) ? 3700 : 4000;
    *out++ = 1;
    sqz_coder_write(&coder, &contexts, out, MAX_STREAM);
    for (uint32_t i = 0, layers = 0; i < n->num_ops; i++) {
        const uint32_t *op = n->ops[i];
        if (op[KIND] != SQZ_CONVOLUTION) continue;
        uint32_t inputs = n->shapes[op[SOURCE]][0] / op[GROUPS];
        /* If a mutation has broken the shapes, this may be more than was counted. */
        uint64_t kernel = (uint64_t)op[HEIGHT] * op[WIDTH];
        if (kernel > MAX_CHANNEL || kernel * inputs > MAX_CHANNEL) break;
        /* Any codes are valid on a trellis; their levels are twice as large. */
        uint32_t trellis = below(n, 2);
        int32_t largest = trellis && max_level > 63 ? 63 : max_level;
        sqz_plain(&coder, 1, 2, trellis ? 2 : SQZ_LEVELS);
        sqz_plain(&coder, 1, 1, 0);
        sqz_levels_begin(&levels, inputs, op[HEIGHT], op[WIDTH]);
        sqz_number(&coder, 1, SQZ_NUMBERS + 4 * SQZ_SLOT_CONTEXTS, layers++ ? 0 : 20);
        for (uint32_t o = 0; o < op[CHANNELS]; o++) {
            int32_t next = unit + (int32_t)below(n, 90);
            sqz_number(&coder, 1, SQZ_NUMBERS + 3 * SQZ_SLOT_CONTEXTS, next - scale);
            sqz_number(&coder, 1, SQZ_NUMBERS + 5 * SQZ_SLOT_CONTEXTS, (int32_t)below(n, 99) - 50);
            scale = next;
            for (uint32_t k = 0; k < inputs * kernel; k++)
                row[k] = (int16_t)((int32_t)below(n, 2 * (uint32_t)largest + 1) - largest);
            sqz_channel(&coder, &levels, 1, row, 1);
        }
    }
    return sqz_coder_finish(&coder);
}

/* Similar scales, so that most multipliers are within their bounds. */
static uint8_t *put_activations(network *n, uint8_t *out) {
    uint32_t head = n->ops[n->num_ops - 1][SOURCE];
    for (uint32_t t = 1; t < n->num_tensors; t++)
        for (uint32_t i = 0; i < n->num_ops; i++) {
            uint32_t kind = n->ops[i][KIND];
            if (n->ops[i][TARGET_] != t || t == head ||
                (kind != SQZ_CONVOLUTION && kind != SQZ_ADD))
                continue;
            *out++ = (uint8_t)below(n, 256);
            *out++ = 0x3d + (uint8_t)below(n, 2);
            *out++ = below(n, 2) ? 0 : (uint8_t)below(n, 256);
            break;
        }
    return out;
}

/* INPUT as it was, but for the crop. */
static uint32_t put_input(const network *n, const sqz_input *input, uint8_t *out) {
    uint32_t channels = input->channels ? 3 : 1, height = n->shapes[0][1], width = n->shapes[0][2];
    uint32_t side = height > width ? height : width;
    if (side < input->resize) side = input->resize;
    out[0] = (uint8_t)input->channels;
    for (unsigned k = 0; k < 2; k++) {
        out[1 + k] = (uint8_t)(side >> 8 * k);
        out[3 + k] = (uint8_t)(height >> 8 * k);
        out[5 + k] = (uint8_t)(width >> 8 * k);
    }
    for (uint32_t c = 0; c < channels; c++) {
        put_u32(out + 7 + 8 * c, (uint32_t)input->mean[c]);
        put_u32(out + 11 + 8 * c, (uint32_t)input->deviation[c]);
    }
    return 7 + 8 * channels;
}

size_t put_file(network *n, const uint8_t *head, int scaled, const sqz_input *input, uint8_t *out,
                size_t room) {
    static uint8_t made[4][MAX_STREAM + 4096]; /* GRAPH, WEIGHTS, INPUT, ACTIVATIONS */
    static const uint8_t none[4];              /* LABELS and RECORD are not read */
    unsigned num_sections = scaled ? 6 : 5;
    uint8_t *end = put_graph(n, made[0]), *sections = out + 28 + 12 * num_sections + 4;
    const uint8_t *bodies[6] = {made[0], made[2], made[1], none, none, made[3]};
    uint32_t sizes[6] = {(uint32_t)(end - made[0]), put_input(n, input, made[2]), 0, 4, 4, 0};
    if (n->weights <= MAX_CODED && n->largest <= MAX_CHANNEL) {
        sizes[2] = (uint32_t)(put_weights(n, made[1]) - made[1]);
    } else { /* zeros, as many as the format requires */
        memset(made[1], 0, sizeof made[1]);
        made[1][0] = 1;
        sizes[2] = (uint32_t)(n->weights / SQZ_WEIGHTS_PER_BYTE) + 2;
    }
    sizes[5] = (uint32_t)(put_activations(n, made[3]) - made[3]);
    size_t size = (size_t)(sections - out) + 4;
    for (unsigned k = 0; k < num_sections; k++) size += sizes[k];
    if (size > room) return 0;
    memset(out, 0, size);
    memcpy(out, head, 8); /* magic */
    out[8] = 2;
    out[9] = (uint8_t)num_sections;
    put_u32(out + 12, (uint32_t)size);
    put_u32(out + 16, (uint32_t)n->weights);
    put_u32(out + 20, (uint32_t)n->largest);
    put_u32(out + 24, (uint32_t)n->peak);
    for (unsigned k = 0; k < num_sections; k++) {
        uint8_t *entry = out + 28 + 12 * k;
        entry[0] = (uint8_t)(k + 1);
        entry[1] = k < 3;
        put_u32(entry + 4, sizes[k]);
        memcpy(sections, bodies[k], sizes[k]);
        sections += sizes[k];
    }
    return size;
}
