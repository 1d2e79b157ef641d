/* Weights and texts: spec/FORMAT.md, "WEIGHTS" and "Text". The Huffman coder is left out. */
#include "sqz_levels.h"
#include "sqz_reader.h"

#define MAX_LEVEL 127
#define MAX_BIAS (1 << 24)
#define MAX_BIAS_SHIFT 30
#define NUM_SCALES 8160  /* exponents below 255, 5 bits of mantissa */
#define MANTISSA_BITS 23 /* of a float32 */
#define INFINITY_BITS 0x7f800000u

/* A representation in version 2 of the format: levels, coded in another way. */
#define TRELLIS 2

/* The slots of numbers. */
enum { FIRST_VALUE, NEXT_VALUE, EXPONENT, SCALE, SHIFT, BIAS };

static int32_t number(sqz_decoder *d, unsigned slot) {
    return sqz_number(&d->coder, 0, SQZ_NUMBERS + slot * SQZ_SLOT_CONTEXTS, 0);
}

/* Return `value` plus a number, or -1 if that is not in 0 .. `max`. */
static int32_t plus_number(sqz_decoder *d, unsigned slot, int32_t value, int32_t max) {
    int64_t next = (int64_t)value + number(d, slot);
    return next < 0 || next > max ? -1 : (int32_t)next;
}

static uint32_t plain(sqz_decoder *d, unsigned count) { return sqz_plain(&d->coder, 0, count, 0); }

/* Make a decoder refuse all calls until sqz_decode_begin. */
static void end_decoder(sqz_decoder *d) {
    d->weights_left = d->channels_left = 0;
    d->coder.in = d->coder.in_end = NULL;
}

static sqz_error end_if_malformed(sqz_decoder *d, sqz_error error) {
    if (error == SQZ_MALFORMED) end_decoder(d);
    return error;
}

sqz_error sqz_decode_begin(sqz_decoder *d, const sqz_file *file) {
    if (d == NULL) return SQZ_WRONG_USE;
    end_decoder(d);
    if (file == NULL || file->weights.bytes == NULL) return SQZ_WRONG_USE;
    if (file->weights.size < 1) return SQZ_MALFORMED;
    if (file->weights.bytes[0] != 1) return SQZ_UNSUPPORTED;
    sqz_coder_read(&d->coder, &d->contexts, file->weights.bytes + 1, file->weights.size - 1);
    d->version = file->version;
    d->weights_left = file->num_weights;
    d->channels_left = 0;
    d->scale = d->shift = d->exponent = 0;
    return SQZ_OK;
}

/* "5 plain bits: m, 0 to 23. 8 plain bits: the number of negative values; 8 plain bits: of
 * positive values; together at most 255. The negative values, then the positive, both in order
 * of growing magnitude. Magnitudes are given by their float32 bits without the last 23 - m. The
 * first value is a number in slot 0. Each other is the one before it plus a number (1 or more)
 * in slot 1. Magnitudes MUST be finite; 0 MUST NOT be among the positive ones. 5 plain bits: the
 * m of the biases." */
static sqz_error read_codebook(sqz_decoder *d, sqz_layer *layer) {
    uint32_t bits = plain(d, 5);
    layer->num_negative = plain(d, 8);
    layer->num_positive = plain(d, 8);
    uint32_t count = layer->num_negative + layer->num_positive;
    if (bits > MANTISSA_BITS || count > 255) return SQZ_MALFORMED;
    uint32_t drop = MANTISSA_BITS - bits;
    int32_t key = 0, max = (int32_t)(INFINITY_BITS >> drop) - 1;
    for (uint32_t i = 0; i < count; i++) {
        int first = i == 0 || i == layer->num_negative;
        uint32_t sign = i < layer->num_negative ? 1u << 31 : 0;
        int32_t min = !first ? key + 1 : sign ? 0 : 1;
        key = plus_number(d, first ? FIRST_VALUE : NEXT_VALUE, first ? 0 : key, max);
        if (key < min) return SQZ_MALFORMED;
        layer->codebook[i] = sign | (uint32_t)key << drop;
    }
    d->mantissa_bits = plain(d, 5);
    return d->mantissa_bits > MANTISSA_BITS ? SQZ_MALFORMED : SQZ_OK;
}

/* "A layer: 2 plain bits of representation (0 codebook, 1 levels, 2 levels on a trellis), 1
 * plain bit raw, which MUST be 0 in representation 2." For levels: "shift += a number in slot 4;
 * 0 to 30." */
static sqz_error read_layer(sqz_decoder *d, const sqz_operation *op, sqz_layer *layer) {
    if (op->kind != SQZ_CONVOLUTION || d->channels_left) return SQZ_WRONG_USE;
    /* No product may overflow, whatever the operation contains. */
    uint64_t kernel = (uint64_t)op->kernel_height * op->kernel_width;
    if (kernel > SQZ_MAX_WEIGHTS) return SQZ_WRONG_USE;
    uint64_t channel = kernel * op->inputs;
    if (!channel || !op->out_channels || channel > SQZ_MAX_WEIGHTS ||
        channel * op->out_channels > d->weights_left)
        return SQZ_WRONG_USE;
    d->weights_left -= (uint32_t)channel * op->out_channels;
    d->channels_left = op->out_channels;
    d->representation = plain(d, 2);
    d->raw = plain(d, 1);
    sqz_levels_begin(&d->levels, op->inputs, op->kernel_height, op->kernel_width);
    layer->out_channels = op->out_channels;
    layer->inputs = op->inputs;
    layer->kernel_height = op->kernel_height;
    layer->kernel_width = op->kernel_width;
    layer->num_negative = layer->num_positive = layer->bias_shift = 0;
    d->trellis = d->representation == TRELLIS && d->version >= 2 && !d->raw;
    if (d->trellis) d->representation = SQZ_LEVELS;
    if (d->representation > SQZ_LEVELS) return SQZ_MALFORMED;
    layer->representation = (sqz_representation)d->representation;
    if (d->representation == SQZ_CODEBOOK) {
        sqz_error error = read_codebook(d, layer);
        d->most_negative = layer->num_negative;
        d->most_positive = layer->num_positive;
        return error;
    }
    d->shift = plus_number(d, SHIFT, d->shift, MAX_BIAS_SHIFT);
    if (d->shift < 0) return SQZ_MALFORMED;
    layer->bias_shift = (uint32_t)d->shift;
    d->most_negative = d->most_positive = MAX_LEVEL;
    return SQZ_OK;
}

sqz_error sqz_decode_layer(sqz_decoder *d, const sqz_operation *op, sqz_layer *layer) {
    if (d == NULL || op == NULL || layer == NULL) return SQZ_WRONG_USE;
    return end_if_malformed(d, read_layer(d, op, layer));
}

/* What stands before the levels of an output channel. Levels: "scale += a number in slot 3, from
 * 1 to 8,159. A number q in slot 5, |q| <= 2^24: the bias is q * 2^-shift." Codebook: "exponent
 * += a number in slot 2, 0 to 254; a plain bit, the sign; m plain bits, the highest of the
 * mantissa: together the float32 bias." */
static sqz_error read_scale_and_bias(sqz_decoder *d, sqz_channel_info *channel) {
    channel->scale = channel->float_bias = 0;
    channel->bias = 0;
    if (d->representation == SQZ_LEVELS) {
        d->scale = plus_number(d, SCALE, d->scale, NUM_SCALES - 1);
        if (d->scale < 1) return SQZ_MALFORMED;
        channel->scale = (uint32_t)d->scale;
        channel->bias = number(d, BIAS);
        return channel->bias > MAX_BIAS || channel->bias < -MAX_BIAS ? SQZ_MALFORMED : SQZ_OK;
    }
    d->exponent = plus_number(d, EXPONENT, d->exponent, 254);
    if (d->exponent < 0) return SQZ_MALFORMED;
    uint32_t sign = plain(d, 1);
    uint32_t mantissa = plain(d, d->mantissa_bits) << (MANTISSA_BITS - d->mantissa_bits);
    channel->float_bias = sign << 31 | (uint32_t)d->exponent << MANTISSA_BITS | mantissa;
    return SQZ_OK;
}

/* Decode one output channel into levels of 8 or, if `wide`, codes of 16 bits. `wide` is a constant
 * wherever it is passed. "If raw is 1, a level is coded as level + 256 in 9 plain bits." */
SQZ_INLINE sqz_error decode_row(sqz_decoder *d, void *row, int wide, sqz_channel_info *channel) {
    if (d == NULL || row == NULL || channel == NULL || !d->channels_left) return SQZ_WRONG_USE;
    if (!wide && d->representation != SQZ_LEVELS) return SQZ_UNSUPPORTED;
    /* sqz_decode_end would refuse it too, after more time. */
    if (sqz_coder_overran(&d->coder)) return SQZ_MALFORMED;
    d->channels_left--;
    sqz_error error = read_scale_and_bias(d, channel);
    if (error) return error;
    size_t count = (size_t)d->levels.inputs * d->levels.height * d->levels.width;
    if (!d->raw) {
        unsigned largest = sqz_channel(&d->coder, &d->levels, 0, row, wide);
        /* Codes that are too large make levels that are too large. */
        if (d->trellis && largest <= MAX_LEVEL) largest = sqz_trellis_levels(row, wide, count);
        unsigned min = d->most_negative < d->most_positive ? d->most_negative : d->most_positive;
        if (largest <= min) return SQZ_OK;
        if (!wide) return SQZ_MALFORMED;
    } else {
        for (size_t i = 0; i < count; i++) {
            int level = (int)plain(d, 9) - 256;
            if (!wide && (level > MAX_LEVEL || level < -MAX_LEVEL)) return SQZ_MALFORMED;
            sqz_put_level(row, wide, i, level);
        }
    }
    for (size_t i = 0; i < count; i++) {
        int level = sqz_get_level(row, wide, i);
        if (level > (int)d->most_positive || level < -(int)d->most_negative) return SQZ_MALFORMED;
    }
    return SQZ_OK;
}

sqz_error sqz_decode_channel(sqz_decoder *d, int8_t *levels, sqz_channel_info *channel) {
    return end_if_malformed(d, decode_row(d, levels, 0, channel));
}

sqz_error sqz_decode_codes(sqz_decoder *d, int16_t *codes, sqz_channel_info *channel) {
    return end_if_malformed(d, decode_row(d, codes, 1, channel));
}

sqz_error sqz_decode_end(sqz_decoder *d) {
    if (d == NULL || d->coder.in == NULL || d->channels_left || d->weights_left)
        return SQZ_WRONG_USE;
    return sqz_coder_at_end(&d->coder) ? SQZ_OK : SQZ_MALFORMED;
}

/* "u32 number of bytes, then a stream of the coder: each byte follows the one before it, the first
 * follows 0." */
sqz_error sqz_decode_text(sqz_decoder *d, sqz_bytes text, char *out, size_t room, size_t *length) {
    if (d == NULL || text.bytes == NULL || length == NULL || (out == NULL && room))
        return SQZ_WRONG_USE;
    if (text.size < 4) return SQZ_MALFORMED;
    *length = sqz_u32(text.bytes);
    if (*length > SQZ_MAX_TEXT) return SQZ_LIMIT;
    sqz_coder_read(&d->coder, &d->contexts, text.bytes + 4, text.size - 4);
    d->channels_left = d->weights_left = 0;
    uint8_t byte = 0;
    for (size_t i = 0; i < *length && !sqz_coder_overran(&d->coder); i++) {
        byte = sqz_byte(&d->coder, 0, byte, 0);
        if (i < room) out[i] = (char)byte;
    }
    return sqz_coder_at_end(&d->coder) ? SQZ_OK : SQZ_MALFORMED;
}
