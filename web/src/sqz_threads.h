/* Threads of the builds that have them: instances of the module that share one memory. */
#ifndef SQZ_WEB_THREADS_H
#define SQZ_WEB_THREADS_H

#define MAX_THREADS 8 /* the caller's included */

/* An sqz_parallel. The caller computes too, and takes all tasks that no thread takes, so it never
 * waits for a thread that has not begun or has ended. */
void sqz_threads_run(void *user, void (*task)(void *, unsigned), void *argument, unsigned count);
/* Whether a thread has ended within a task. What was computed then is wrong, and the memory must
 * not be used any more: the thread may go on after all. */
int sqz_threads_lost(void);

#endif
