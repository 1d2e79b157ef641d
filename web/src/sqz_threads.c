/* A pool of threads in WebAssembly: atomic instructions alone, nothing of the host. */
#include "sqz_threads.h"

#if defined(__wasm_atomics__)
#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name)))
/* Looks at the tasks before a thread sleeps. Convolutions follow one another within microseconds,
 * and waking takes longer. */
#define SPINS 20000
#define STACK_BYTES 16384 /* a task needs less than SQZ_STACK */
#define WAIT_NANOSECONDS 1000000000
#define MAX_WAITS 10 /* of a second each: the longest task takes milliseconds */

/* turn << 16 | count << 8 | next: tasks `next` to `count` - 1 of this turn are not yet taken. One
 * word, so that who takes a task knows that it is one of the present turn. */
static uint32_t tasks;
static uint32_t num_done;
static void (*the_task)(void *, unsigned);
static void *the_argument;
static int is_lost;
static _Alignas(16) uint8_t stacks[MAX_THREADS - 1][STACK_BYTES];

static uint32_t get(uint32_t *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }

/* Take one task and run it; returns 0 if there is none. */
static int run_one(void) {
    uint32_t seen = get(&tasks);
    do
        if ((seen & 255) >= (seen >> 8 & 255)) return 0;
    while (!__atomic_compare_exchange_n(&tasks, &seen, seen + 1, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST));
    the_task(the_argument, seen & 255);
    if (__atomic_add_fetch(&num_done, 1, __ATOMIC_SEQ_CST) == (seen >> 8 & 255))
        __builtin_wasm_memory_atomic_notify((int *)&num_done, 1);
    return 1;
}

/* Return where the stack of thread `i` begins, 1 to MAX_THREADS - 1. */
EXPORT(stack) uint8_t *stack(unsigned i) { return stacks[i - 1] + STACK_BYTES; }

/* Be a thread, for ever. */
EXPORT(work) void work(void) {
    for (;;) {
        uint32_t seen = get(&tasks);
        if (run_one()) continue;
        for (unsigned spins = 0; spins < SPINS && get(&tasks) == seen; spins++) {}
        while (get(&tasks) == seen)
            __builtin_wasm_memory_atomic_wait32((int *)&tasks, (int)seen, -1);
    }
}

/* Sleep while `done` tasks have been done; returns whether it was for WAIT_NANOSECONDS. Not inlined:
 * compiled by V8's first compiler (Node 20, --liftoff-only), the caller's count would never rise. */
__attribute__((noinline)) static int wait_once(uint32_t done) {
    return __builtin_wasm_memory_atomic_wait32((int *)&num_done, (int)done, WAIT_NANOSECONDS) == 2;
}

/* Wait until `count` tasks have been done; returns 0 if they will never be. */
static int wait_for(uint32_t count) {
    for (unsigned spins = 0, waits = 0; waits < MAX_WAITS;) {
        uint32_t done = get(&num_done);
        if (done == count) return 1;
        if (++spins < SPINS) continue;
        waits += (unsigned)wait_once(done);
    }
    return 0;
}

void sqz_threads_run(void *user, void (*task)(void *, unsigned), void *argument, unsigned count) {
    (void)user;
    if (is_lost) return;
    the_task = task;
    the_argument = argument;
    __atomic_store_n(&num_done, 0, __ATOMIC_SEQ_CST);
    uint32_t turn = (get(&tasks) >> 16) + 1;
    __atomic_store_n(&tasks, turn << 16 | count << 8, __ATOMIC_SEQ_CST);
    __builtin_wasm_memory_atomic_notify((int *)&tasks, MAX_THREADS);
    while (run_one()) {}
    is_lost = !wait_for(count);
}

int sqz_threads_lost(void) { return is_lost; }
#endif
