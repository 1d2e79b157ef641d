/* A few threads that wait for work: what sqz_parallel needs, for CPython. */
#ifndef SQZ_THREADS_H
#define SQZ_THREADS_H

typedef struct sqz_pool sqz_pool;

/* `threads` counts the caller. NULL: one thread, or no memory. */
sqz_pool *sqz_pool_new(unsigned threads);
void sqz_pool_free(sqz_pool *pool);
void sqz_pool_run(void *pool, void (*task)(void *, unsigned), void *argument, unsigned count);

#endif
