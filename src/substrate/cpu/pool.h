/* substrate/cpu/pool.h: the compute threads.
 *
 * A job is a function that every thread may run at once, the caller included; it shares its work out by itself
 * (see phase.h). The caller never waits for a thread that has not come: a thread that is late because its core
 * is busy elsewhere finds the job closed and goes back to sleep. Between jobs threads spin for a moment, because
 * the next step of decoding comes soon, and then sleep. */
#ifndef LOAMI_POOL_H
#define LOAMI_POOL_H

#include "base/err.h"

typedef struct loami_pool loami_pool;

typedef void loami_pool_fn(void *arg, uint32_t thread); /* thread < n_threads; 0 is the caller */

/* n_threads counts the caller: 1 starts none. */
int loami_pool_open(loami_pool **out, uint32_t n_threads, loam_err *err);
void loami_pool_close(loami_pool *p); /* joins; NULL is fine */

/* Runs fn on this thread and on those that come in time; returns when all that came have left. One caller. */
void loami_pool_run(loami_pool *p, loami_pool_fn *fn, void *arg);

/* One turn of a wait inside a job: count up from 0. Kind to the other hyperthread, and after a while to others
 * who want the core. */
void loami_pool_pause(uint32_t *turns);

/* Physical cores that this process may use, at least 1. */
uint32_t loami_physical_cores(void);

#endif
