/* api/errand.h: a request that a worker answers alone, that has no stream: tokenising, scoring. */
#ifndef LOAMI_ERRAND_H
#define LOAMI_ERRAND_H

#include "api/run.h"

/* On a worker's thread: appends the answer (JSON) to out. m: the model that the body names, held. 0, or -1 with f
 * filled. */
typedef int loami_errand_work(const loami_api *a, const loami_served *m, const json_t *body, loami_buf *out,
                              loami_fault *f);

/* workers: a->workers, or a->patient for what waits for the engine. */
void loami_errand_open(loami_api *a, loami_workers *workers, loami_reply *r, loami_errand_work *work);

/* Ends those that wait for a model. */
void loami_errand_fail_waiting(loami_api *a, const loami_fault *f);

/* Ends what is left when loop and workers have stopped. */
void loami_errand_abandon_all(loami_api *a);

#endif
