#include "threads.h"

#include <stdlib.h>

#include "system.h"

/* Turns that a worker waits before it sleeps. Operations follow one another within microseconds;
 * sleeping and waking takes longer. */
#define SPINS 4000

struct sqz_pool {
    sqz_mutex lock; /* guards asleep and ending */
    sqz_condition wake;
    unsigned num_workers;
    sqz_thread *workers;
    void (*task)(void *, unsigned);
    void *argument;
    /* turn << 16 | count << 8 | next: tasks `next` to `count` - 1 of this turn are not yet taken.
     * One word, so that who takes a task knows that it is one of the present turn, and the caller
     * need not wait for workers that take none: on a busy machine they run late. */
    sqz_atomic tasks;
    sqz_atomic done;
    int asleep, ending;
    long process; /* that the workers belong to */
};

/* Do tasks until all are taken; returns what `tasks` was then. */
static unsigned work(sqz_pool *p) {
    for (;;) {
        unsigned seen = sqz_get(&p->tasks);
        if ((seen & 255) >= (seen >> 8 & 255)) return seen;
        if (!sqz_set_if(&p->tasks, seen, seen + 1)) continue;
        p->task(p->argument, seen & 255);
        sqz_add(&p->done, 1);
    }
}

SQZ_THREAD worker(void *argument) {
    sqz_pool *p = argument;
    for (;;) {
        unsigned seen = work(p), spins = 0;
        while (sqz_get(&p->tasks) == seen) {
            if (++spins < SPINS) {
                sqz_pause();
                continue;
            }
            sqz_lock(&p->lock);
            p->asleep++;
            while (sqz_get(&p->tasks) == seen && !p->ending) sqz_wait(&p->wake, &p->lock);
            p->asleep--;
            int ending = p->ending;
            sqz_unlock(&p->lock);
            if (ending) return 0;
        }
    }
}

sqz_pool *sqz_pool_new(unsigned threads) {
    if (threads < 2) return NULL;
    sqz_pool *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->workers = calloc(threads, sizeof *p->workers);
    sqz_mutex_init(&p->lock, &p->wake);
    p->process = sqz_process_id();
    while (p->workers != NULL && p->num_workers < threads - 1 &&
           sqz_thread_start(&p->workers[p->num_workers], worker, p))
        p->num_workers++;
    return p;
}

void sqz_pool_free(sqz_pool *p) {
    if (p == NULL || p->process != sqz_process_id())
        return; /* a forked child: its copy is leaked */
    sqz_lock(&p->lock);
    p->ending = 1;
    sqz_wake_all(&p->wake);
    sqz_unlock(&p->lock);
    for (unsigned i = 0; i < p->num_workers; i++) sqz_thread_join(p->workers[i]);
    sqz_mutex_destroy(&p->lock, &p->wake);
    free(p->workers);
    free(p);
}

void sqz_pool_run(void *pool, void (*task)(void *, unsigned), void *argument, unsigned count) {
    sqz_pool *p = pool;
    if (p->process != sqz_process_id()) { /* a forked child: it has no workers */
        for (unsigned i = 0; i < count; i++) task(argument, i);
        return;
    }
    p->task = task;
    p->argument = argument;
    sqz_set(&p->done, 0);
    sqz_lock(&p->lock);
    sqz_set(&p->tasks, ((sqz_get(&p->tasks) >> 16) + 1) << 16 | count << 8);
    if (p->asleep) sqz_wake_all(&p->wake);
    sqz_unlock(&p->lock);
    work(p);
    for (unsigned spins = 0; sqz_get(&p->done) < count;)
        if (++spins > SPINS) sqz_yield();
}
