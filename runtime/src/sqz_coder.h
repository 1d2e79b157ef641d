/* Adaptive binary range coder: spec/FORMAT.md, "The coder". Bits and numbers to bytes, and back.
 *
 * Encoder and decoder share one code path. Each function takes the value to code, which a decoder
 * ignores, and returns the value coded. `encode` is a constant wherever it is passed, so a client
 * that only decodes contains no encoder. */
#ifndef SQZ_CODER_H
#define SQZ_CODER_H

#include "../sqz.h"

#if defined(__GNUC__)
#define SQZ_INLINE static inline __attribute__((always_inline, unused))
#else
#define SQZ_INLINE static inline
#endif

#define SQZ_TOP (1u << 24)

/* "4,096 contexts, each with a probability p of a 1 (in 1/65536, initially 32768) and a number seen
 * (initially 0); range, initially 2^32 - 1" */
SQZ_INLINE void sqz_coder_reset(sqz_coder *c, sqz_contexts *contexts) {
    for (unsigned i = 0; i < SQZ_NUM_CONTEXTS; i++) {
        contexts->p[i] = 1u << 15;
        contexts->seen[i] = 0;
    }
    /* "r = floor(655360 / (10 * seen + 16))": a new context adapts fast. */
    for (unsigned i = 0; i <= SQZ_SETTLED; i++)
        contexts->rate[i] = (uint16_t)(655360u / (10 * i + 16));
    c->contexts = contexts;
    c->range = 0xffffffffu;
}

/* "After the end of the stream a decoder reads zeros." */
SQZ_INLINE uint8_t sqz_coder_next(sqz_coder *c) {
    if (c->in < c->in_end) return *c->in++;
    c->overrun++;
    return 0;
}

SQZ_INLINE void sqz_coder_put(sqz_coder *c, uint8_t byte) {
    if (c->out < c->out_end) *c->out++ = byte;
    else c->overflow = 1;
}

/* Move the top byte of `low` out. Bytes of 0xff wait, since a carry may pass through them. */
SQZ_INLINE void sqz_coder_shift(sqz_coder *c) {
    if (c->pending == 0 || c->low < 0xff000000u || c->low > 0xffffffffu) {
        uint8_t carry = (uint8_t)(c->low >> 32);
        while (c->pending > 0) {
            sqz_coder_put(c, (uint8_t)(c->held + carry));
            c->held = 0xff;
            c->pending--;
        }
        c->held = (uint8_t)(c->low >> 24);
    }
    c->pending++;
    c->low = (c->low & 0x00ffffffu) << 8;
}

/* "While range < 2^24: range = range * 256, code = code * 256 + the next byte." */
SQZ_INLINE void sqz_coder_renormalise(sqz_coder *c, int encode) {
    while (c->range < SQZ_TOP) {
        c->range <<= 8;
        if (encode) sqz_coder_shift(c);
        else c->code = c->code << 8 | sqz_coder_next(c);
    }
}

/* "bound = (range >> 12) * (p >> 4)
 * if code < bound: the bit is 1; range = bound;                  p = p + ((65535 - p) * r >> 16)
 * else:            the bit is 0; code -= bound; range -= bound;  p = p - (p * r >> 16)
 * seen = min(seen + 1, 160); renormalise" */
SQZ_INLINE int sqz_bit(sqz_coder *c, int encode, unsigned i, int bit) {
    sqz_contexts *m = c->contexts;
    uint32_t p = m->p[i], rate = m->rate[m->seen[i]];
    uint32_t bound = (c->range >> 12) * (p >> 4);
    if (!encode) bit = c->code < bound;
    if (bit) {
        c->range = bound;
        m->p[i] = (uint16_t)(p + ((65535u - p) * rate >> 16));
    } else {
        if (encode) c->low += bound;
        else c->code -= bound;
        c->range -= bound;
        m->p[i] = (uint16_t)(p - (p * rate >> 16));
    }
    m->seen[i] = (uint8_t)(m->seen[i] + (m->seen[i] < SQZ_SETTLED));
    sqz_coder_renormalise(c, encode);
    return bit;
}

/* "A plain bit. range = range >> 1; if code < range the bit is 0, else it is 1 and code -= range;
 * renormalise. Plain numbers of n bits have their highest bit first." */
SQZ_INLINE uint32_t sqz_plain(sqz_coder *c, int encode, unsigned count, uint32_t value) {
    uint32_t result = 0;
    while (count-- > 0) {
        uint32_t bit = value >> count & 1;
        c->range >>= 1;
        if (!encode) bit = c->code >= c->range;
        if (bit) {
            if (encode) c->low += c->range;
            else c->code -= c->range;
        }
        sqz_coder_renormalise(c, encode);
        result = result << 1 | bit;
    }
    return result;
}

#define SQZ_SLOT_CONTEXTS 34 /* zero, sign, and 32 for the number of bits */

/* "A number in the 34 contexts from s on. A bit in s: 0 means that the number is 0. A bit in s + 1:
 * 1 means negative. Then bits in s + 2, s + 3, ... until one is 0, at most 30: e of them are 1.
 * Then e plain bits m: the magnitude is 2^e + m." */
SQZ_INLINE int32_t sqz_number(sqz_coder *c, int encode, unsigned slot, int32_t value) {
    if (!sqz_bit(c, encode, slot, value != 0)) return 0;
    int negative = sqz_bit(c, encode, slot + 1, value < 0);
    uint32_t magnitude = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    unsigned bits = 0;
    while (bits < 30 && sqz_bit(c, encode, slot + 2 + bits, (magnitude >> bits) > 1)) bits++;
    magnitude = 1u << bits | sqz_plain(c, encode, bits, magnitude);
    return negative ? -(int32_t)magnitude : (int32_t)magnitude;
}

/* "A byte that follows the byte b, as a path through a binary tree. node = 1; eight times: a bit in
 * context ((b * 256 + node) * 40503 mod 65536) >> 4, node = 2 * node + bit. The byte is
 * node - 256." */
SQZ_INLINE uint8_t sqz_byte(sqz_coder *c, int encode, uint8_t before, uint8_t byte) {
    uint32_t node = 1;
    for (int i = 7; i >= 0; i--) {
        unsigned context = ((((uint32_t)before << 8 | node) * 40503u) & 0xffffu) >> 4;
        node = node << 1 | (uint32_t)sqz_bit(c, encode, context, byte >> i & 1);
    }
    return (uint8_t)node;
}

/* Begin to decode. "code, initially the first four bytes of the stream, the highest first" */
SQZ_INLINE void sqz_coder_read(sqz_coder *c, sqz_contexts *contexts, const uint8_t *bytes,
                               size_t count) {
    sqz_coder_reset(c, contexts);
    c->in = bytes;
    c->in_end = bytes + count;
    c->overrun = 0;
    c->code = 0;
    for (int i = 0; i < 4; i++) c->code = c->code << 8 | sqz_coder_next(c);
}

/* Begin to encode. */
SQZ_INLINE void sqz_coder_write(sqz_coder *c, sqz_contexts *contexts, uint8_t *bytes, size_t room) {
    sqz_coder_reset(c, contexts);
    c->out = bytes;
    c->out_end = bytes + room;
    c->overflow = 0;
    c->low = 0;
    c->held = 0;
    c->pending = 0;
}

/* End the stream with the number in the interval that has the most zero bytes at its end, and omit
 * those: a decoder reads zeros after the end. Returns where the bytes end. */
SQZ_INLINE uint8_t *sqz_coder_finish(sqz_coder *c) {
    unsigned zeros = 32;
    uint64_t last = c->low + c->range - 1;
    while (zeros > 0 && (last >> zeros << zeros) < c->low) zeros -= 8;
    c->low = last >> zeros << zeros;
    for (int i = 0; i < 5; i++) sqz_coder_shift(c);
    c->out -= zeros / 8;
    return c->out;
}

/* Whether a decoder "has read more than four bytes after the end". */
SQZ_INLINE int sqz_coder_overran(const sqz_coder *c) { return c->overrun > 4; }

/* Whether a decoder has read all bytes, and not too many zeros after them. */
SQZ_INLINE int sqz_coder_at_end(const sqz_coder *c) {
    return c->in == c->in_end && !sqz_coder_overran(c);
}

#endif
