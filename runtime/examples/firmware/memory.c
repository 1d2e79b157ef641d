/* Small and simple. Compiled with -fno-tree-loop-distribute-patterns, since GCC would otherwise
 * turn the loop of memcpy into a call of memcpy. */
#include <stdint.h>
#include <string.h>

typedef uint32_t __attribute__((may_alias)) word;

static int aligned(const void *a, const void *b) { return !(((uintptr_t)a | (uintptr_t)b) & 3); }

void *memcpy(void *to, const void *from, size_t count) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (aligned(to, from))
        for (; count >= 4; count -= 4, out += 4, in += 4)
            *(word *)(void *)out = *(const word *)(const void *)in;
    while (count-- > 0) *out++ = *in++;
    return to;
}

void *memmove(void *to, const void *from, size_t count) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (out <= in) return memcpy(to, from, count);
    while (count-- > 0) out[count] = in[count];
    return to;
}

void *memset(void *to, int byte, size_t count) {
    uint8_t *out = to;
    if (aligned(to, to))
        for (; count >= 4; count -= 4, out += 4) *(word *)(void *)out = (uint8_t)byte * 0x01010101u;
    while (count-- > 0) *out++ = (uint8_t)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t count) {
    const uint8_t *p = a, *q = b;
    for (; count > 0; count--, p++, q++)
        if (*p != *q) return *p < *q ? -1 : 1;
    return 0;
}
