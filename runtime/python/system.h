/* What a pool of threads needs of the system, which is POSIX or Windows: numbers that threads
 * share, threads, a lock with a bell for those who sleep, and two ways to wait a moment. */
#ifndef SQZ_SYSTEM_H
#define SQZ_SYSTEM_H

/* Numbers that threads share. What was written before a `set` or `add` is seen behind a `get` or
 * `add` that finds it. `add` returns the number before. */
#if defined(__GNUC__) || defined(__clang__)
typedef unsigned sqz_shared;

static inline unsigned sqz_get(sqz_shared *number) {
    return __atomic_load_n(number, __ATOMIC_ACQUIRE);
}

static inline void sqz_set(sqz_shared *number, unsigned value) {
    __atomic_store_n(number, value, __ATOMIC_RELEASE);
}

static inline unsigned sqz_add(sqz_shared *number, unsigned more) {
    return __atomic_fetch_add(number, more, __ATOMIC_ACQ_REL);
}
#else /* Microsoft's compiler */
#include <intrin.h>

typedef volatile long sqz_shared;

static inline unsigned sqz_get(sqz_shared *number) { return (unsigned)_InterlockedOr(number, 0); }

static inline void sqz_set(sqz_shared *number, unsigned value) {
    _InterlockedExchange(number, (long)value);
}

static inline unsigned sqz_add(sqz_shared *number, unsigned more) {
    return (unsigned)_InterlockedExchangeAdd(number, (long)more);
}
#endif

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <process.h>

typedef HANDLE sqz_thread;
typedef SRWLOCK sqz_lock;
typedef CONDITION_VARIABLE sqz_bell;
/* The function of a thread begins with SQZ_THREAD, takes a void * and returns 0. */
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

static inline void sqz_make(sqz_lock *lock, sqz_bell *bell) {
    InitializeSRWLock(lock);
    InitializeConditionVariable(bell);
}

static inline void sqz_unmake(sqz_lock *lock, sqz_bell *bell) { (void)lock, (void)bell; }

static inline void sqz_hold(sqz_lock *lock) { AcquireSRWLockExclusive(lock); }

static inline void sqz_release(sqz_lock *lock) { ReleaseSRWLockExclusive(lock); }

static inline void sqz_sleep(sqz_bell *bell, sqz_lock *held) {
    SleepConditionVariableSRW(bell, held, INFINITE, 0);
}

static inline void sqz_ring(sqz_bell *bell) { WakeAllConditionVariable(bell); }

static inline void sqz_pause(void) { YieldProcessor(); }

static inline void sqz_yield(void) { SwitchToThread(); }

static inline long sqz_process(void) { return 0; }
#else
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

typedef pthread_t sqz_thread;
typedef pthread_mutex_t sqz_lock;
typedef pthread_cond_t sqz_bell;
#define SQZ_THREAD static void *

static inline int sqz_thread_start(sqz_thread *thread, void *(*begin)(void *), void *argument) {
    return pthread_create(thread, NULL, begin, argument) == 0;
}

static inline void sqz_thread_join(sqz_thread thread) { pthread_join(thread, NULL); }

static inline void sqz_make(sqz_lock *lock, sqz_bell *bell) {
    pthread_mutex_init(lock, NULL);
    pthread_cond_init(bell, NULL);
}

static inline void sqz_unmake(sqz_lock *lock, sqz_bell *bell) {
    pthread_cond_destroy(bell);
    pthread_mutex_destroy(lock);
}

static inline void sqz_hold(sqz_lock *lock) { pthread_mutex_lock(lock); }

static inline void sqz_release(sqz_lock *lock) { pthread_mutex_unlock(lock); }

static inline void sqz_sleep(sqz_bell *bell, sqz_lock *held) { pthread_cond_wait(bell, held); }

static inline void sqz_ring(sqz_bell *bell) { pthread_cond_broadcast(bell); }

/* Tells the processor that this is a loop which waits. */
static inline void sqz_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void sqz_yield(void) { sched_yield(); }

/* A number that a forked child does not share: it has no threads but the one that forked. */
static inline long sqz_process(void) { return (long)getpid(); }
#endif

#endif
