/* From reset to main on a Cortex-M, by what is part of the architecture alone. */
#include "board.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define SYST_CSR REGISTER(0xe000e010)
#define SYST_RVR REGISTER(0xe000e014)
#define SYST_CVR REGISTER(0xe000e018)
#define ICSR REGISTER(0xe000ed04)
#define CCR REGISTER(0xe000ed14)
#define CFSR REGISTER(0xe000ed28)
#define UNALIGN_TRP (1u << 3)
#define PENDSTSET (1u << 26)
#define SYST_BITS 24
#define SYST_MOST ((1u << SYST_BITS) - 1)

#define PAINT 0xa5a5a5a5u
#define NUM_VECTORS 16

/* From the linker script. */
extern uint32_t stack_bottom[], stack_top[];
extern uint32_t data_start[], data_end[], data_image[], bss_start[], bss_end[];

void reset(void) __attribute__((noreturn));

static void __attribute__((noreturn, used)) report_fault(void) {
    print("fault: CFSR ");
    print_number(CFSR);
    print("\n");
    leave(2);
}

/* On a fresh stack, since the old one may have caused the fault. */
static void __attribute__((naked)) fault(void) {
    __asm__ volatile("ldr r0, =stack_top\n\tmov sp, r0\n\tbl report_fault\n\t.ltorg");
}

/* SysTick counts down in 24 bits; this counts how often it has reached 0. */
static volatile uint32_t wraps;

static void tick(void) { wraps++; }

typedef union {
    uint32_t *stack;
    void (*run)(void);
} vector;

/* The initial stack pointer, reset, NMI, faults and other exceptions that end here, SysTick. */
static const vector vectors[NUM_VECTORS] __attribute__((section(".vectors"), used)) = {
    {.stack = stack_top}, {.run = reset}, {.run = fault}, {.run = fault},
    {.run = fault},       {.run = fault}, {.run = fault}, {.run = fault},
    {.run = fault},       {.run = fault}, {.run = fault}, {.run = fault},
    {.run = fault},       {.run = fault}, {.run = fault}, {.run = tick}};

void reset(void) {
#ifndef __ARM_FEATURE_UNALIGNED
    /* Code for the smallest processors: forbid what they forbid on a larger one, too. */
    CCR |= UNALIGN_TRP;
#endif
    for (uint32_t *to = data_start, *from = data_image; to < data_end;) *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;) *to++ = 0;
    /* Up to here: memory below the stack pointer is free. */
    volatile uint32_t *end = (uint32_t *)__builtin_frame_address(0) - 16;
    for (volatile uint32_t *to = stack_bottom; to < end;) *to++ = PAINT;
    leave(main());
}

uint32_t stack_used(void) {
    const volatile uint32_t *at = stack_bottom;
    while (at < stack_top && *at == PAINT) at++;
    return (uint32_t)(stack_top - at) * 4;
}

void start_ticks(void) {
    wraps = 0;
    SYST_RVR = SYST_MOST;
    SYST_CVR = 0;
    SYST_CSR = 7; /* of the processor's clock, with the exception, on */
}

uint64_t ticks(void) {
    uint32_t before, left;
    do { /* until no wrap came in between, and none has an exception pending */
        before = wraps;
        left = SYST_CVR;
    } while ((ICSR & PENDSTSET) || before != wraps);
    return ((uint64_t)before << SYST_BITS) + ((0 - left) & SYST_MOST);
}
