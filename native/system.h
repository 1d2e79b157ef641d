/* What a pool of threads needs from the system, POSIX or Windows: atomic counters, threads, a mutex
 * with a condition variable, and two ways to wait for a moment. And the permission to use AMX. */
#ifndef SQZ_SYSTEM_H
#define SQZ_SYSTEM_H

/* Atomic counters. `get` acquires, `set` releases; `add` does both and returns the old value, and
 * so does `set_if`, which sets a counter that is `expected` and returns whether it was. */
#if defined(__GNUC__) || defined(__clang__)
typedef unsigned sqz_atomic;

static inline unsigned sqz_get(sqz_atomic *number) {
    return __atomic_load_n(number, __ATOMIC_ACQUIRE);
}

static inline void sqz_set(sqz_atomic *number, unsigned value) {
    __atomic_store_n(number, value, __ATOMIC_RELEASE);
}

static inline unsigned sqz_add(sqz_atomic *number, unsigned more) {
    return __atomic_fetch_add(number, more, __ATOMIC_ACQ_REL);
}

static inline int sqz_set_if(sqz_atomic *number, unsigned expected, unsigned value) {
    return __atomic_compare_exchange_n(number, &expected, value, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}
#else /* Microsoft's compiler */
#include <intrin.h>

typedef volatile long sqz_atomic;

static inline unsigned sqz_get(sqz_atomic *number) { return (unsigned)_InterlockedOr(number, 0); }

static inline void sqz_set(sqz_atomic *number, unsigned value) {
    _InterlockedExchange(number, (long)value);
}

static inline unsigned sqz_add(sqz_atomic *number, unsigned more) {
    return (unsigned)_InterlockedExchangeAdd(number, (long)more);
}

static inline int sqz_set_if(sqz_atomic *number, unsigned expected, unsigned value) {
    return _InterlockedCompareExchange(number, (long)value, (long)expected) == (long)expected;
}
#endif

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <process.h>

typedef HANDLE sqz_thread;
typedef SRWLOCK sqz_mutex;
typedef CONDITION_VARIABLE sqz_condition;
/* SQZ_THREAD begins the definition of a thread's function, which takes a void * and returns 0. */
#define SQZ_THREAD static unsigned __stdcall

static inline int sqz_thread_start(sqz_thread *thread, unsigned(__stdcall *begin)(void *),
                                   void *argument) {
    *thread = (HANDLE)_beginthreadex(NULL, 0, begin, argument, 0, NULL);
    return *thread != NULL;
}

static inline void sqz_thread_join(sqz_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

static inline void sqz_mutex_init(sqz_mutex *mutex, sqz_condition *condition) {
    InitializeSRWLock(mutex);
    InitializeConditionVariable(condition);
}

static inline void sqz_mutex_destroy(sqz_mutex *mutex, sqz_condition *condition) {
    (void)mutex, (void)condition;
}

static inline void sqz_lock(sqz_mutex *mutex) { AcquireSRWLockExclusive(mutex); }

static inline void sqz_unlock(sqz_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }

static inline void sqz_wait(sqz_condition *condition, sqz_mutex *held) {
    SleepConditionVariableSRW(condition, held, INFINITE, 0);
}

static inline void sqz_wake_all(sqz_condition *condition) { WakeAllConditionVariable(condition); }

static inline void sqz_pause(void) { YieldProcessor(); }

static inline void sqz_yield(void) { SwitchToThread(); }

static inline long sqz_process_id(void) { return 0; }
#else
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

typedef pthread_t sqz_thread;
typedef pthread_mutex_t sqz_mutex;
typedef pthread_cond_t sqz_condition;
#define SQZ_THREAD static void *

static inline int sqz_thread_start(sqz_thread *thread, void *(*begin)(void *), void *argument) {
    return pthread_create(thread, NULL, begin, argument) == 0;
}

static inline void sqz_thread_join(sqz_thread thread) { pthread_join(thread, NULL); }

static inline void sqz_mutex_init(sqz_mutex *mutex, sqz_condition *condition) {
    pthread_mutex_init(mutex, NULL);
    pthread_cond_init(condition, NULL);
}

static inline void sqz_mutex_destroy(sqz_mutex *mutex, sqz_condition *condition) {
    pthread_cond_destroy(condition);
    pthread_mutex_destroy(mutex);
}

static inline void sqz_lock(sqz_mutex *mutex) { pthread_mutex_lock(mutex); }

static inline void sqz_unlock(sqz_mutex *mutex) { pthread_mutex_unlock(mutex); }

static inline void sqz_wait(sqz_condition *condition, sqz_mutex *held) {
    pthread_cond_wait(condition, held);
}

static inline void sqz_wake_all(sqz_condition *condition) { pthread_cond_broadcast(condition); }

/* Tell the processor that this is a spin loop. */
static inline void sqz_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void sqz_yield(void) { sched_yield(); }

/* An id of the process: it differs in a forked child, which has only the thread that forked. */
static inline long sqz_process_id(void) { return (long)getpid(); }
#endif

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>

/* Ask the system whether this process may use AMX, and return whether it may. Linux 5.16 or newer
 * says yes, unless a signal stack is too small for the registers of AMX. */
static inline int sqz_may_use_amx(void) {
    const long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}
#else
static inline int sqz_may_use_amx(void) { return 0; }
#endif

#endif
