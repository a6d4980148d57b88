/* api/errand.h: a request that a worker answers alone, without the engine: tokenising and the like. */
#ifndef LOAMI_ERRAND_H
#define LOAMI_ERRAND_H

#include "api/run.h"

/* On a worker: appends the answer (JSON) to out. 0, or -1 with f filled. */
typedef int loami_errand_work(const loami_api *a, const json_t *body, loami_buf *out, loami_fault *f);

void loami_errand_open(loami_api *a, loami_reply *r, loami_errand_work *work);

/* Ends what is left when loop and workers have stopped. */
void loami_errand_abandon_all(loami_api *a);

#endif
