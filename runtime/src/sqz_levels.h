/* The model of weights: the probability of a level given those before it. spec/FORMAT.md, "Levels".
 *
 * "A layer's levels are coded output channel by output channel, each I x H x W." A level is
 * coded as "is it zero", its sign, the number of bits of its magnitude, and the bits below the
 * highest. The contexts were chosen by measurement: docs/experiments. */
#ifndef SQZ_LEVELS_H
#define SQZ_LEVELS_H

#include "sqz_coder.h"

#define SQZ_MAX_MAGNITUDE 255

/* The first context of each kind. */
enum {
    SQZ_ZERO_1X1 = 0,                         /* 16 classes */
    SQZ_ZERO_SPATIAL = SQZ_ZERO_1X1 + 16,     /* 16 sums of the kernel x 9 places x 8 classes */
    SQZ_SIGN = SQZ_ZERO_SPATIAL + 16 * 9 * 8, /* 2: 1x1 or larger; x 16 balances x 9 neighbours */
    SQZ_BITS = SQZ_SIGN + 2 * 16 * 9,         /* 2: 1x1 or larger; x 7 bits so far x 16 classes */
    SQZ_TREE = SQZ_BITS + 2 * 7 * 16,         /* 256 nodes; 16 more for 1x1 layers */
    SQZ_NUMBERS = SQZ_TREE + 256 + 16         /* slots of numbers */
};

/* floor(log2(value)) of a value above 0. */
SQZ_INLINE unsigned sqz_log2(unsigned value) {
#if defined(__GNUC__)
    return (unsigned)(8 * sizeof value - 1) - (unsigned)__builtin_clz(value);
#else
    unsigned bits = 0;
    while (value >>= 1) bits++;
    return bits;
#endif
}

/* "class of an activity a: v = a >> 6; v if v < 2; else with b = floor(log2 v) the smaller of 15
 * and 2 * b + ((v >> (b - 1)) mod 2)". Two classes per octave. */
SQZ_INLINE unsigned sqz_activity_class(unsigned value) {
    unsigned bits, class;
    if (value < 2) return value;
    bits = sqz_log2(value);
    class = 2 * bits + (value >> (bits - 1) & 1);
    return class < 15 ? class : 15;
}

/* "x = 0 for a zero and (2 + 4 * floor(log2 magnitude)) * 512 else", the mean of which is the
 * activity. */
SQZ_INLINE int sqz_activity_of(unsigned magnitude) {
    return magnitude ? (int)(2 + 4 * sqz_log2(magnitude)) * 512 : 0;
}

/* Begin a layer. */
SQZ_INLINE void sqz_levels_begin(sqz_levels *s, unsigned inputs, unsigned height, unsigned width) {
    s->inputs = inputs;
    s->height = height;
    s->width = width;
    for (unsigned i = 0; i < SQZ_TRACKED; i++) s->activity[i] = 0, s->balance[i] = 0;
    for (unsigned i = 0; i < SQZ_ACTIVITIES; i++) s->class_of[i] = (uint8_t)sqz_activity_class(i);
}

/* "2. If it is not zero: sign, bits, rest." `spatial` is t, 0 or 1; `around` is n, 0 to 8. */
SQZ_INLINE int sqz_nonzero(sqz_coder *c, int encode, int level, unsigned spatial, unsigned activity,
                           unsigned around, int *balance) {
    unsigned side = (unsigned)((*balance + 2048) >> 8);
    unsigned magnitude = (unsigned)(level < 0 ? -level : level), bits = 0, node = 1;
    int negative = sqz_bit(c, encode, SQZ_SIGN + (spatial * 16 + side) * 9 + around, level < 0);
    *balance += ((negative ? -2047 : 2047) - *balance) >> 4;
    while (bits < 7 && sqz_bit(c, encode, SQZ_BITS + (spatial * 7 + bits) * 16 + activity,
                               (magnitude >> bits) > 1))
        bits++;
    for (unsigned i = bits; i-- > 0;) {
        unsigned place = (1u << bits) - 1 + node - 1;
        if (!spatial && place < 15) place += 256;
        node = node * 2 + (unsigned)sqz_bit(c, encode, SQZ_TREE + place, magnitude >> i & 1);
    }
    return negative ? -(int)node : (int)node;
}

/* Level i of 8 or, if `wide`, 16 bits; `wide` is a constant wherever it is passed. */
SQZ_INLINE int sqz_get_level(const void *v, int wide, size_t i) {
    return wide ? ((const int16_t *)v)[i] : ((const int8_t *)v)[i];
}

SQZ_INLINE void sqz_put_level(void *v, int wide, size_t i, int level) {
    if (wide) ((int16_t *)v)[i] = (int16_t)level;
    else ((int8_t *)v)[i] = (int8_t)level;
}

/* spec/FORMAT.md, "Trellis": "A code k stands for the level 2 * k in even states, and for
 * 2 * k - sign(k) in odd states. With b the lowest bit of k, the next state is" next[state][b]. */
SQZ_INLINE unsigned sqz_next_state(unsigned state, int code) {
    static const uint8_t next[8][2] = {{0, 2}, {5, 7}, {1, 3}, {6, 4},
                                       {2, 0}, {4, 6}, {3, 1}, {7, 5}};
    return next[state][code & 1];
}

/* Turn the codes of an output channel into levels; returns the largest magnitude. Levels of 8 bits
 * beyond 127 are stored modulo 256, and the caller must refuse them. */
SQZ_INLINE unsigned sqz_trellis_levels(void *v, int wide, size_t count) {
    unsigned state = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        int code = sqz_get_level(v, wide, i), odd = (int)(state & 1);
        int level = 2 * code - (code > 0 ? odd : code < 0 ? -odd : 0);
        unsigned magnitude = (unsigned)(level < 0 ? -level : level);
        if (magnitude > largest) largest = magnitude;
        sqz_put_level(v, wide, i, level);
        state = sqz_next_state(state, code);
    }
    return largest;
}

/* Turn the levels of an output channel into codes. Returns 0 if they are not on the trellis; the
 * first of them have become codes by then. */
SQZ_INLINE int sqz_trellis_codes(int16_t *v, size_t count) {
    unsigned state = 0;
    for (size_t i = 0; i < count; i++) {
        int odd = (int)(state & 1), twice = v[i] + (v[i] > 0 ? odd : v[i] < 0 ? -odd : 0);
        if (twice & 1) return 0;
        v[i] = (int16_t)(twice / 2);
        state = sqz_next_state(state, v[i]);
    }
    return 1;
}

/* Code one output channel: I x H x W levels at `v`. Returns the largest magnitude. Levels of 8 bits
 * beyond 127 are stored modulo 256, and the caller must refuse them. */
SQZ_INLINE unsigned sqz_channel(sqz_coder *coder, sqz_levels *s, int encode, void *v, int wide) {
    size_t at = 0;
    unsigned largest = 0;
    sqz_coder here = *coder, *c = &here; /* a copy, which compilers keep in registers */
    unsigned size = s->height * s->width;
    if (size == 1) {
        for (unsigned i = 0; i < s->inputs; i++, at++) {
            unsigned t = i % SQZ_TRACKED, activity = s->class_of[s->activity[t] >> 6];
            int level = encode ? sqz_get_level(v, wide, at) : 0;
            if (sqz_bit(c, encode, SQZ_ZERO_1X1 + activity, level != 0)) {
                int balance = s->balance[t];
                level = sqz_nonzero(c, encode, level, 0, activity, 0, &balance);
                s->balance[t] = (int16_t)balance;
            }
            if (!encode) sqz_put_level(v, wide, at, level);
            unsigned magnitude = (unsigned)(level < 0 ? -level : level);
            if (magnitude > largest) largest = magnitude;
            int step = sqz_activity_of(magnitude) - (int)s->activity[t];
            s->activity[t] = (uint16_t)(s->activity[t] + (step >> 4));
        }
        *coder = here;
        return largest;
    }
    for (unsigned i = 0; i < s->inputs; i++, at += size) {
        unsigned t = i % SQZ_TRACKED, weight = 0, column = 0, past = 0, place = 0;
        int activity = s->activity[t], balance = s->balance[t];
        for (unsigned k = 0; k < size; k++) {
            unsigned class = s->class_of[activity >> 6];
            unsigned context = (weight * 9 + place) * 8 + (class >> 1), magnitude = 0;
            int level = encode ? sqz_get_level(v, wide, at + k) : 0;
            if (sqz_bit(c, encode, SQZ_ZERO_SPATIAL + context, level != 0)) {
                int left = column > 0 ? sqz_get_level(v, wide, at + k - 1) : 0;
                int up = k >= s->width ? sqz_get_level(v, wide, at + k - s->width) : 0;
                unsigned around = (unsigned)((left > 0) * 2 + (left < 0)) * 3 +
                                  (unsigned)((up > 0) * 2 + (up < 0));
                level = sqz_nonzero(c, encode, level, 1, class, around, &balance);
                magnitude = (unsigned)(level < 0 ? -level : level);
                if (magnitude > largest) largest = magnitude;
                weight += magnitude > 1 ? 2 : 1;
                if (weight > 15) weight = 15;
            }
            if (!encode) sqz_put_level(v, wide, at + k, level);
            activity += (sqz_activity_of(magnitude) - activity) >> 5;
            if (++column == s->width) column = 0;
            /* q = floor(9 * k / (H * W)), without a division */
            for (past += 9; past >= size; past -= size) place++;
        }
        s->activity[t] = (uint16_t)activity;
        s->balance[t] = (int16_t)balance;
    }
    *coder = here;
    return largest;
}

#endif
