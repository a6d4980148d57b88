/* net/workers.h: a few threads for what would hold up the loop: parsing, templates, tokenising.
 *
 * A task goes out through one bounded queue and comes back as a call on the loop's thread. */
#ifndef LOAMI_WORKERS_H
#define LOAMI_WORKERS_H

#include "net/loop.h"

typedef struct loami_workers loami_workers;

typedef struct loami_task {
    void (*work)(void *arg); /* on a worker's thread */
    void (*done)(void *arg); /* on the loop's thread, always, after work */
    void *arg;
    bool again;              /* a part of what was let in before: a full queue does not refuse it */
    struct loami_task *next; /* the pool's */
    loami_post back;
} loami_task;

/* n threads; at most max_queued tasks wait. */
int loami_workers_open(loami_workers **out, loami_loop *loop, uint32_t n, uint32_t max_queued, loam_err *err);

/* Lets running tasks end, then joins the threads. No done is called for tasks that are not back yet. */
void loami_workers_close(loami_workers *w);

/* Queues a task; it stays the caller's and must live until done. False when the queue is full. Loop's thread.
 */
bool loami_workers_run(loami_workers *w, loami_task *task);

#endif
