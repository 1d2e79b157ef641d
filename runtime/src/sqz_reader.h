/* The one place where bytes of a file are taken, and the limits of the format. */
#ifndef SQZ_READER_H
#define SQZ_READER_H

#include "../sqz.h"

#define SQZ_MAX_WEIGHTS (1u << 27) /* and elements of a tensor */
#define SQZ_MAX_ACTIVATIONS (1u << 28)
#define SQZ_MAX_MACS ((uint64_t)1 << 35)
#define SQZ_MAX_TEXT (1u << 22)
#define SQZ_MAX_FILE (1u << 28)
#define SQZ_MAX_TENSORS 4096u
#define SQZ_MAX_OPERATIONS 4096u
#define SQZ_WEIGHTS_A_BYTE 4096u

static inline uint32_t sqz_u16(const uint8_t *b) { return (uint32_t)b[0] | (uint32_t)b[1] << 8; }

static inline uint32_t sqz_u32(const uint8_t *b) { return sqz_u16(b) | sqz_u16(b + 2) << 16; }

typedef struct {
    const uint8_t *at, *end;
    int failed;
} sqz_cursor;

/* A count; 0 and `failed` where there is none. */
static inline uint32_t sqz_count(sqz_cursor *c) {
    uint32_t value = 0;
    for (unsigned shift = 0; shift < 28 && c->at < c->end; shift += 7) {
        uint8_t byte = *c->at++;
        value |= (uint32_t)(byte & 127) << shift;
        if (byte < 128) {
            if (shift && !byte) break; /* not in as few bytes as possible */
            return value;
        }
    }
    c->failed = 1;
    c->at = c->end;
    return 0;
}

#endif
