/* Integers from the bytes of a file, and the limits of the format. */
#ifndef SQZ_READER_H
#define SQZ_READER_H

#include "../sqz.h"

/* spec/FORMAT.md, "Limits". */
#define SQZ_MAX_WEIGHTS (1u << 27)     /* also elements of a tensor */
#define SQZ_MAX_ACTIVATIONS (1u << 28) /* elements of all tensors; of a convolution's windows */
#define SQZ_MAX_MACS ((uint64_t)1 << 35)
#define SQZ_MAX_TEXT (1u << 22)
#define SQZ_MAX_FILE (1u << 28)
#define SQZ_MAX_TENSORS 4096u
#define SQZ_MAX_OPERATIONS 4096u
#define SQZ_WEIGHTS_PER_BYTE 4096u

static inline uint32_t sqz_u16(const uint8_t *b) { return (uint32_t)b[0] | (uint32_t)b[1] << 8; }

static inline uint32_t sqz_u32(const uint8_t *b) { return sqz_u16(b) | sqz_u16(b + 2) << 16; }

/* A position in bytes; `failed` once something could not be read. */
typedef struct {
    const uint8_t *at, *end;
    int failed;
} sqz_cursor;

/* "A count is an unsigned number below 2^28 with seven bits per byte, the lowest first. The high
 * bit is set in all bytes but the last. It takes as few bytes as possible." Returns 0 if it
 * fails. */
static inline uint32_t sqz_count(sqz_cursor *c) {
    uint32_t value = 0;
    for (unsigned shift = 0; shift < 28 && c->at < c->end; shift += 7) {
        uint8_t byte = *c->at++;
        value |= (uint32_t)(byte & 127) << shift;
        if (byte < 128) {
            if (shift && !byte) break; /* a byte more than it needs */
            return value;
        }
    }
    c->failed = 1;
    c->at = c->end;
    return 0;
}

#endif
