/* What main.c needs from the board: text output, the exit, time, and the depth of the stack. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

void print(const char *text);
void print_number(int64_t number);
/* End the program, and the emulator with this exit code. */
void leave(int code) __attribute__((noreturn));

/* Processor cycles since start_ticks, CLOCK_HZ per second. */
void start_ticks(void);
uint64_t ticks(void);

/* Bytes of the stack that have been used since the start. */
uint32_t stack_used(void);

int main(void);

#endif
