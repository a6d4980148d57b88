/* api/errand.h: a request whose answer is no stream: tokenising, embedding, scoring.
 *
 * A worker reads it. What needs no engine is answered there and then. What does begins a job, and waits on the loop, not on a
 * thread, until the engine says that it is over; then a worker writes the answer. The client's leaving, the
 * time limit and the server's end stop the job, as they stop a run. */
#ifndef LOAMI_ERRAND_H
#define LOAMI_ERRAND_H

#include "api/run.h"

typedef struct loami_errand loami_errand;

/* What an endpoint does. */
typedef struct loami_errand_kind {
    size_t state_size;         /* of errand->state, from zero */

    /* On a worker, m held: appends the answer (JSON) to out, or calls loami_errand_begin. 0, or -1 with f filled. */
    int (*work)(loami_errand *e, const loami_served *m, const json_t *body, loami_buf *out, loami_fault *f);

    /* Of those that begin a job, which is over and well: appends the answer. On a worker. The body is no longer there. */
    void (*put)(loami_errand *e, const loami_served *m, const loam_outcome *r, loami_buf *out);
    void (*clear)(void *state); /* what state holds; NULL: nothing */
    size_t stats_at;           /* of such a kind: offsetof(loami_stats, its loami_job_stats) */
} loami_errand_kind;

struct loami_errand {
    loami_api *api;
    loami_reply *reply;
    const loami_errand_kind *kind;
    void *state;

    /* errand.c's */
    loami_hold hold;
    double deadline_s, header_s; /* 0 = none */
    loam_job *job;
    const char *field;         /* of the request, that the job's texts are in */
    uint32_t n_texts;
    double tokens;             /* of the texts: charged to the key that the request came with, and logged */
    loam_outcome outcome;
    atomic_bool gone;          /* the client left */
    bool live;                 /* its job runs, and the loop owns all of it */
    loami_buf out;
    loami_fault fault;
    bool failed;
    loami_task task;
    loami_post ready;
    LIST_ENTRY(loami_errand) next;
};

void loami_errand_open(loami_api *a, loami_reply *r, const loami_errand_kind *kind);

/* Within work, as the last thing: begins the job. Of request, who asks and how long it may take are filled in here; its texts must
 * live until clear. field: which of the client's fields to blame. */
int loami_errand_begin(loami_errand *e, const loami_served *m, loam_job_request *request, const char *field, loami_fault *f);

/* Ends those that wait for a model, with f, and stops the jobs of the others. */
void loami_errand_cancel_all(loami_api *a, const loami_fault *f);

/* Ends what is left when loop and workers have stopped. */
void loami_errand_abandon_all(loami_api *a);

/* account.c: a request with a job is over: statistics, charge, and its line in the log. */
void loami_errand_account(const loami_errand *e, loami_ending ending, const char *finish);

#endif
