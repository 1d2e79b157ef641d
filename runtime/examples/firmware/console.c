/* Text output and the end of the program by semihosting: the emulator or debugger does them. On a
 * board of your own, use a serial port here. */
#include <stddef.h>

#include "board.h"

#define SYS_WRITE0 0x04
#define SYS_EXIT_EXTENDED 0x20
#define APPLICATION_EXIT 0x20026u

static void semihosting(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void print(const char *text) { semihosting(SYS_WRITE0, text); }

void print_number(int64_t number) {
    char text[24], *at = text + sizeof text;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    *--at = '\0';
    do *--at = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (number < 0) *--at = '-';
    print(at);
}

void leave(int code) {
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
    for (;;) semihosting(SYS_EXIT_EXTENDED, block);
}
