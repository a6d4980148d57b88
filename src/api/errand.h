/* api/errand.h: a request that a worker answers alone, that has no stream: tokenising, scoring, embedding. */
#ifndef LOAMI_ERRAND_H
#define LOAMI_ERRAND_H

#include "api/run.h"

typedef struct loami_errand {
    loami_api *api;
    atomic_bool gone; /* the client left: what takes long may stop */
    double tokens;    /* set by the work: what is charged to the key that the request came with, and logged */

    /* errand.c's */
    loami_reply *reply;
    int (*work)(struct loami_errand *e, const loami_served *m, const json_t *body, loami_buf *out, loami_fault *f);
    loami_workers *workers;
    loami_hold hold;
    loami_buf out;
    loami_fault fault;
    bool failed;
    loami_task task;
    LIST_ENTRY(loami_errand) next;
} loami_errand;

/* On a worker's thread: appends the answer (JSON) to out. m: the model that the body names, held. 0, or -1 with f
 * filled. */
typedef int loami_errand_work(loami_errand *e, const loami_served *m, const json_t *body, loami_buf *out, loami_fault *f);

/* workers: a->workers, or a->patient for what waits for the engine. */
void loami_errand_open(loami_api *a, loami_workers *workers, loami_reply *r, loami_errand_work *work);

/* Ends those that wait for a model. */
void loami_errand_fail_waiting(loami_api *a, const loami_fault *f);

/* Ends what is left when loop and workers have stopped. */
void loami_errand_abandon_all(loami_api *a);

#endif
