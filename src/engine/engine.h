/* engine/engine.h: one thread that owns a model and its KV cache, and the requests that travel through it.
 *
 * Requests come down one bounded queue (submit), tokens go up one bounded ring a request (stream.c). Each step of
 * the engine thread: admit, plan, forward, sample, emit. Nothing is allocated in a step. */
#ifndef LOAMI_ENGINE_H
#define LOAMI_ENGINE_H

#include "engine/pages.h"
#include "engine/sample.h"
#include "model/model.h"
#include "text/chat.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    RING_CAP = 64,             /* tokens a reader may lag behind; then its sequence rests. About a second's worth */
    ROWS_MAX = 512,            /* rows of a step: enough to make prefill compute-bound, short enough (< 1 s for a small
                                  model on two cores) that a cancelled one stops soon */
    ROWS_BESIDE_DECODE = 128,  /* prefill rows in a step that others decode in: they wait for them */
    ROWS_SCORED = 64,          /* rows of a step whose every logit is wanted: their logits are vocab floats each */
};

typedef enum loami_job { LOAMI_JOB_GENERATE, LOAMI_JOB_LOGITS, LOAMI_JOB_SCORE, LOAMI_JOB_EMBED } loami_job;

/* Where the results of a job that is no generation go: the caller's memory. */
typedef struct loami_job_out {
    float *floats;             /* logits [vocab], log-probabilities [n_tokens - 1] or the sum of rows [dim] */
    uint32_t *ranks;           /* of score: [n_tokens - 1], or NULL */
    loam_logprob *top;         /* likewise [n_tokens - 1][n_top] */
    uint32_t n_top;
    bool last_only;            /* of embed: the last row instead of the sum */
} loami_job_out;

/* One step's token on its way to the reader. */
typedef struct loami_ring_item {
    int32_t id;
    float logprob;
    bool silent;               /* an end-of-text or stop token: counts, has no text */
    uint32_t n_top;
} loami_ring_item;

/* A request from submit to close: the engine's half, the reader's half, and what they share under the lock. The
 * engine and the reader hold one reference each; the last to let go frees it. */
struct loam_stream {
    loam_engine *engine;
    loam_stream *next;         /* in the waiting queue */

    /* fixed at submit */
    loam_request request;      /* its arrays are copies in `arena` */
    loami_job job;
    loami_arena arena;
    loami_job_out out;

    /* the engine thread's */
    int32_t *tokens;           /* [n_tokens of capacity n_reserved] prompt, then answer */
    uint32_t n_prompt, n_tokens, n_reserved, n_past, n_cached;
    loami_holding holding;     /* its KV pages, from admission to release */
    uint32_t n_rows;           /* in the step being run */
    loami_sampler sampler;
    loam_finish ending;        /* the last token was the last; released when it is in the ring */
    double submitted_s, admitted_s, first_token_s;

    /* shared */
    pthread_mutex_t lock;
    pthread_cond_t ready;
    uint32_t refs;
    loami_ring_item ring[RING_CAP];
    loam_logprob *ring_top;    /* [RING_CAP][request.n_logprobs] */
    uint32_t head, tail;       /* ring[head - 1] newest, ring[tail] oldest; they only grow */
    bool hungry;               /* the reader found nothing and wants on_ready */
    loam_result result;        /* finish != NONE: the engine has let go */
    atomic_bool cancelled;

    /* the reader's */
    loami_detok *detok;
    loami_buf text;            /* decoded, not yet handed out */
    loami_buf handed;          /* the text of the loam_token last returned */
    loam_logprob top[LOAM_MAX_LOGPROBS];
    uint32_t n_read;
    bool flushed;
    const char *stop_met;
};

struct loam_engine {
    loam_options options;      /* strings are copies in `arena` */
    loami_arena arena;
    loami_machine machine;
    loami_model *model;
    loam_pooling pooling;      /* the model's own, or LOAM_POOL_MODEL: it does not say */
    struct loam_text *text;    /* NULL: a folder without a tokenizer, good for ids only */
    loam_model_info info;
    loam_sub_info sub_info;

    pthread_t thread;
    pthread_mutex_t lock;      /* of what follows */
    pthread_cond_t wake;
    loam_stream *waiting, **waiting_end;
    uint32_t n_waiting;
    bool opened, closing, kicked;
    int open_rc;
    loam_err open_err;
    loam_engine_state stat;

    /* the engine thread's */
    loam_stream **running;     /* [max_running], oldest first */
    uint32_t n_running, max_running;
    loami_pages *pages;
    int32_t *row_tokens;       /* [ROWS_MAX] of the step */
    uint32_t *row_wanted;      /* [ROWS_MAX] */
    loam_seq_rows *row_seqs;   /* [max_running] */
    loam_stream **step_seqs;   /* [max_running] whose rows row_seqs[i] are */
    loami_candidate *scratch;  /* [vocab] */
    float *logits;             /* [vocab] of the row being sampled */
    uint64_t n_prompt, n_new;  /* tokens since open; published as stat */
};

/* engine.c: puts a stream into the queue; takes a reference for the engine. */
int loami_engine_enqueue(loam_engine *e, loam_stream *s, loam_err *err);

/* engine.c: wakes the engine thread: something to read, a ring that has room again, a flag that was set. */
void loami_engine_kick(loam_engine *e);

/* sched.c: under the engine's lock: moves waiting requests to running while pages last, drops cancelled ones. */
void loami_sched_admit(loam_engine *e);

/* embed.c: what 1_Pooling/config.json says, if it is there. */
int loami_embed_pooling(loam_pooling *out, const char *dir, loam_err *err);

/* sched.c: the rows of the next step: a row of every sequence that decodes, then prefill with what is left. A step
 * gives hidden states (embeddings) or logits (all else): the kinds take turns; sets model->hidden. */
loam_batch loami_sched_plan(loam_engine *e);

/* stream.c, engine's side */
bool loami_stream_full(loam_stream *s);
void loami_stream_push(loam_stream *s, const loami_ring_item *item, const loam_logprob *top);
void loami_stream_finish(loam_stream *s, loam_finish finish, int code, const char *msg); /* and lets go of it */
void loami_stream_unref(loam_stream *s);

/* stream.c: a request checked and copied. */
int loami_stream_new(loam_stream **out, loam_engine *e, const loam_request *r, loami_job job, const loami_job_out *where, loam_err *err);

#endif
