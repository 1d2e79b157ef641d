/* A pool of threads for sqz_context.parallel: sqz_pool_run is an sqz_parallel, its user a pool. */
#ifndef SQZ_THREADS_H
#define SQZ_THREADS_H

typedef struct sqz_pool sqz_pool;

/* A pool of `threads` - 1 workers: the caller of sqz_pool_run is the other thread. Returns NULL if
 * threads is below 2 or memory is short; then set no `parallel`. It may have fewer workers, where
 * the system grants no more. */
sqz_pool *sqz_pool_new(unsigned threads);
/* End the workers and free the pool; NULL is allowed. No sqz_pool_run may be running. */
void sqz_pool_free(sqz_pool *pool);
/* Call task(argument, 0 .. count - 1) and return when all calls have returned. One caller at a
 * time. In a forked child, which has no workers, the caller does all the tasks. */
void sqz_pool_run(void *pool, void (*task)(void *, unsigned), void *argument, unsigned count);

#endif
