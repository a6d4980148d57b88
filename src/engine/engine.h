/* engine/engine.h: one thread that owns a model and its KV cache, and the requests that travel through it.
 *
 * Requests come down one bounded queue (submit), tokens go up one bounded ring a request (stream.c). Each step of
 * the engine thread: admit, plan, forward, sample, emit. Nothing is allocated in a step,
 * but for what grammars remember. */
#ifndef LOAMI_ENGINE_H
#define LOAMI_ENGINE_H

#include "engine/compiler.h"
#include "engine/disk.h"
#include "engine/meter.h"
#include "engine/draft.h"
#include "engine/pace.h"
#include "engine/pages.h"
#include "engine/sample.h"
#include "engine/shares.h"
#include "model/model.h"
#include "text/chat.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    RING_CAP = 64,             /* tokens a reader may lag behind; then its sequence rests. About a second's worth */
    RING_FREE = RING_CAP / 2,  /* to be free before a sequence that gave up its place wants one again */
    RUNNING_DEFAULT = 32,      /* requests at once */
    CONTEXT_DEFAULT = 8192,    /* tokens: a longer context is the user's wish, since its memory is reserved */
    ROWS_SCORED = 64,          /* rows of a step whose every logit is wanted: their logits are vocab floats each */
    ROWS_DRAFTED = 32,         /* rows of a step with guesses among them: with so many, arithmetic is what takes time, not weights */
};

typedef enum loami_job { LOAMI_JOB_GENERATE, LOAMI_JOB_LOGITS, LOAMI_JOB_SCORE, LOAMI_JOB_EMBED } loami_job;

/* Memory that several streams write results to: goes with the last of them, and of those who read it. */
typedef struct loami_results {
    atomic_uint refs;
    float *floats;
    uint32_t *ranks;
    loam_logprob *top;
} loami_results;

/* Where the results of a job that is no generation go: into `results`, or if that is NULL, into memory of a caller who waits. */
typedef struct loami_job_out {
    loami_results *results;
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
    double gap_s;              /* see loam_token */
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
    bool let_in;               /* goes on with a loam_job: a full queue does not stop it */

    /* the engine thread's */
    int32_t *tokens;           /* [n_tokens of capacity n_reserved] prompt, then answer */
    uint32_t n_prompt, n_tokens, n_reserved, n_past, n_cached;
    loami_holding holding;     /* its KV pages, from admission to release */
    uint32_t n_pages_most;     /* at once, for its longest answer */
    uint32_t n_rows;           /* in the step being run */
    uint32_t n_drafted;        /* of them, guesses: tokens[n_tokens ...] */
    loami_draft draft;
    uint32_t n_preempted;
    uint64_t arrival;
    loami_share *share;        /* its client's, from when the engine thread has seen it */
    double due;                /* see sched.h */
    loam_stream *leader;       /* runs what this one needs too: wait for it, NULL = don't */
    uint32_t n_follow;         /* so many pages */
    bool twin;                 /* the leader's prompt is the same */
    loami_sampler sampler;
    loam_finish ending;        /* the last token was the last; released when it is in the ring */
    double submitted_s, admitted_s, first_token_s, last_token_s;
    double deadline_s;         /* 0 = none */

    /* shared */
    pthread_mutex_t lock;
    pthread_cond_t ready;
    uint32_t refs;
    loami_ring_item ring[RING_CAP];
    loam_logprob *ring_top;    /* [RING_CAP][request.n_logprobs] */
    uint32_t head, tail;       /* ring[head - 1] newest, ring[tail] oldest; they only grow */
    bool hungry;               /* the reader found nothing and wants on_ready */
    bool untold;               /* engine's side: pushed since it was told */
    loam_result result;        /* finish != NONE: the engine has let go */
    atomic_bool cancelled;
    atomic_bool rests;         /* it gave up its place because its reader lags; until it is started again */

    /* the reader's */
    loami_detok *detok;
    loami_buf text;            /* decoded, not yet handed out */
    loami_buf handed;          /* the text of the loam_token last returned */
    loam_logprob top[LOAM_MAX_LOGPROBS];
    uint32_t n_read;
    bool flushed;
    const char *stop_met;
};

static inline bool loami_stream_late(const loam_stream *s, double now)
{
    return s->deadline_s > 0 && now >= s->deadline_s;
}

struct loam_engine {
    loam_options options;      /* strings are copies in `arena` */
    loami_arena arena;
    loami_machine machine;
    loami_model *model;
    loam_pooling pooling;      /* the model's own, or LOAM_POOL_MODEL: it does not say */
    struct loam_text *text;    /* NULL: a folder without a tokenizer, good for ids only */
    loami_compiler *compiler;  /* NULL likewise */
    loam_model_info info;
    loam_sub_info sub_info;

    pthread_t thread;
    pthread_mutex_t lock;      /* of what follows */
    pthread_cond_t wake;
    loam_stream *waiting, **waiting_end;
    uint32_t n_waiting, max_queued;
    uint64_t n_arrived, n_refused;
    bool opened, closing, kicked;
    int open_rc;
    loam_err open_err;
    loam_engine_state stat;    /* what of it the scheduler knows */
    loami_meter seen;          /* the engine thread's as it last was */

    /* the engine thread's */
    loam_stream **running;     /* [max_running] in order of priority, then of starting */
    loam_stream **by_due;      /* [max_running] see sched.c */
    uint32_t n_running, max_running;
    uint32_t window;           /* tokens that the layer looking back furthest sees; 0: all */
    uint32_t near_window;      /* where some see all: of the others, the furthest; 0: there are none. See pages.h */
    uint8_t *group_of;         /* [layers] 1: it is one of those others */
    uint32_t n_decode_seqs;    /* of the step: the sequences that decode come first */
    double prompts_run;        /* tokens of prompts, so far */
    uint32_t n_passed;         /* starts in a row that passed over somebody less urgent who had come before */
    uint32_t n_urgent_steps;   /* steps with prompts in a row in which the urgent ones went first */
    loami_pages *pages;
    loami_disk *disk;          /* or NULL; see tier.h */
    uint64_t page_bytes;       /* of group 0 */
    int32_t *spelled;          /* [context] */
    double load_until_s;       /* pages may be read until then */
    bool loading;              /* there are more to read, at once */
    loami_shares shares;
    loami_pace pace;
    loami_work work;           /* of the step */
    loami_meter meter;
    int32_t *row_tokens;       /* [sub_info.rows] of the step */
    uint32_t *row_wanted;      /* likewise */
    loam_seq_rows *row_seqs;   /* [max_running] */
    loam_stream **step_seqs;   /* [max_running] whose rows row_seqs[i] are */
    loam_pick *picks;          /* [max_running] */
    int32_t *picked;           /* [max_running] */
    loami_candidate *scratch;  /* [vocab] */
    float *logits;             /* [vocab] of the row being sampled */
};

/* engine.c: puts a stream into the queue; takes a reference for the engine. */
int loami_engine_enqueue(loam_engine *e, loam_stream *s, loam_err *err);

/* engine.c: nothing more is let in. */
bool loami_engine_full(loam_engine *e);

/* engine.c: wakes the engine thread: something to read, a ring that has room again, a flag that was set. */
void loami_engine_kick(loam_engine *e);

/* engine.c: tells the reader that it is over, and everybody else who counts. For a stream that is in no list. */
void loami_engine_finish(loam_engine *e, loam_stream *s, loam_finish finish, int code, const char *msg);
void loami_engine_timeout(loam_engine *e, loam_stream *s, const char *where);

/* engine.c: s has run n rows. */
void loami_engine_ran(loam_engine *e, loam_stream *s, uint32_t n_rows);

/* engine.c: a token of s's answer goes up; of item its end and its time are filled in. True: the answer goes on, and s is
 * still there. */
bool loami_engine_emit(loam_engine *e, loam_stream *s, loami_ring_item *item, const loam_logprob *top);

/* engine.c: the step is lost, and with it the answers it was for: of step_seqs nobody is left. NULL among them is passed over. */
void loami_engine_lose(loam_engine *e, uint32_t n_seqs, const loam_err *err);

/* engine.c: the step running since meter.step_at is over, and with it e->work done. */
void loami_engine_took(loam_engine *e);

/* engine.c: between two steps of one turn: others see how it stands. False: somebody wants something. */
bool loami_engine_glance(loam_engine *e);

/* job.c */
void loami_results_unref(loami_results *r); /* NULL is fine */

/* embed.c: what 1_Pooling/config.json says, if it is there. */
int loami_embed_pooling(loam_pooling *out, const char *dir, loam_err *err);

/* embed.c: v[n] of length 1, unless it is nothing. */
void loami_embed_normalise(float *v, uint32_t n);

/* open.c: on the engine thread: substrate, model, text, KV cache, and what steps need. */
int loami_engine_load(loam_engine *e, loam_err *err);

/* sched.c: the pages that a sequence of n_tokens holds at once, at most. */
uint32_t loami_pages_at_once(const loam_engine *e, uint32_t n_tokens);
uint32_t loami_near_at_once(const loam_engine *e, uint32_t n_tokens); /* near ones, but for a step's rows */

/* stream.c, engine's side */
uint32_t loami_stream_room(loam_stream *s); /* tokens that its reader can still be sent */
void loami_stream_push(loam_stream *s, const loami_ring_item *item, const loam_logprob *top);
void loami_stream_tell(loam_stream *s); /* the reader of what was pushed, which push does not; finish does too */
void loami_stream_finish(loam_stream *s, loam_finish finish, int code, const char *msg); /* and lets go of it */
void loami_stream_unref(loam_stream *s);
struct timespec loami_time_in(uint32_t ms); /* for pthread_cond_timedwait */

/* stream.c: whether a request makes sense here. */
int loami_stream_check(const loam_engine *e, const loam_request *r, loami_job job, loam_err *err);

/* stream.c: a request checked and copied. */
int loami_stream_new(loam_stream **out, loam_engine *e, const loam_request *r, loami_job job, const loami_job_out *where, loam_err *err);

#endif
