/* What main.c needs of the board: text out, the end, time, and how deep the stack has been. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

void print(const char *text);
void print_number(int64_t number);
/* Ends the program, and the emulator with this exit code. */
void leave(int code) __attribute__((noreturn));

/* Processor cycles since start_ticks, CLOCK_HZ a second. */
void start_ticks(void);
uint64_t ticks(void);

/* Bytes of the stack that were written since the start. */
uint32_t stack_used(void);

int main(void);

#endif
