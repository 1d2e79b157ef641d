#include "threads.h"

#include <stdlib.h>

#if defined(_WIN32)
sqz_pool *sqz_pool_new(unsigned threads) { return (void)threads, NULL; }
void sqz_pool_free(sqz_pool *pool) { (void)pool; }
void sqz_pool_run(void *pool, void (*task)(void *, unsigned), void *argument, unsigned count) {
    (void)pool;
    for (unsigned i = 0; i < count; i++) task(argument, i);
}
#else
#include <pthread.h>
#include <sched.h>

/* Operations follow one another within microseconds; to sleep and be woken would take longer. */
#define SPINS 4000

struct sqz_pool {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    unsigned num_workers;
    pthread_t *workers;
    void (*task)(void *, unsigned);
    void *argument;
    unsigned count, next, turn, done; /* all but count by __atomic */
    int asleep, ending;
};

static void work(sqz_pool *p) {
    for (;;) {
        unsigned i = __atomic_fetch_add(&p->next, 1, __ATOMIC_ACQ_REL);
        if (i >= p->count) return;
        p->task(p->argument, i);
    }
}

static void *worker(void *argument) {
    sqz_pool *p = argument;
    unsigned seen = 0;
    for (;;) {
        unsigned spins = 0;
        while (__atomic_load_n(&p->turn, __ATOMIC_ACQUIRE) == seen) {
            if (++spins < SPINS) {
#if defined(__x86_64__) || defined(__i386__)
                __builtin_ia32_pause();
#endif
                continue;
            }
            pthread_mutex_lock(&p->mutex);
            p->asleep++;
            while (__atomic_load_n(&p->turn, __ATOMIC_ACQUIRE) == seen && !p->ending)
                pthread_cond_wait(&p->wake, &p->mutex);
            p->asleep--;
            int ending = p->ending;
            pthread_mutex_unlock(&p->mutex);
            if (ending) return NULL;
        }
        seen = __atomic_load_n(&p->turn, __ATOMIC_ACQUIRE);
        work(p);
        __atomic_fetch_add(&p->done, 1, __ATOMIC_ACQ_REL);
    }
}

sqz_pool *sqz_pool_new(unsigned threads) {
    if (threads < 2) return NULL;
    sqz_pool *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->workers = calloc(threads, sizeof *p->workers);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    while (p->workers != NULL && p->num_workers < threads - 1 &&
           pthread_create(&p->workers[p->num_workers], NULL, worker, p) == 0)
        p->num_workers++;
    return p;
}

void sqz_pool_free(sqz_pool *p) {
    if (p == NULL) return;
    pthread_mutex_lock(&p->mutex);
    p->ending = 1;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    for (unsigned i = 0; i < p->num_workers; i++) pthread_join(p->workers[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    free(p->workers);
    free(p);
}

void sqz_pool_run(void *pool, void (*task)(void *, unsigned), void *argument, unsigned count) {
    sqz_pool *p = pool;
    p->task = task;
    p->argument = argument;
    p->count = count;
    __atomic_store_n(&p->done, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&p->next, 0, __ATOMIC_RELEASE);
    pthread_mutex_lock(&p->mutex);
    __atomic_fetch_add(&p->turn, 1, __ATOMIC_ACQ_REL);
    if (p->asleep) pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    work(p);
    for (unsigned spins = 0; __atomic_load_n(&p->done, __ATOMIC_ACQUIRE) < p->num_workers;)
        if (++spins > SPINS) sched_yield();
}
#endif
