/* Texts that are only read: each is a stream without tokens, whose results the engine writes into memory that they share. */
#include "base/clock.h"
#include "base/err.h"
#include "engine/engine.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    AHEAD = 16,      /* texts in the engine at once, so that short ones share steps; */
    STEPS_AHEAD = 4, /* and no more than these steps' worth: long ones fill a step alone, and would only hold pages */
};

typedef struct ahead {
    loam_stream *stream;       /* NULL: free */
    uint32_t text;
    float *floats;             /* its results */
} ahead;

struct loam_job {
    loam_engine *engine;
    loam_job_request request;
    loami_results *results;
    double began_s, started_s; /* started_s: the first text's turn came; 0 = not yet */
    double deadline_s;
    pthread_mutex_t lock;      /* of what follows */
    ahead ahead[AHEAD];
    uint32_t n_begun, n_ahead;
    uint64_t tokens_ahead;
    size_t place;              /* of results, where the next text's go */
    bool let_in, cancelled;
    loam_outcome result;
};

/* ---- memory --------------------------------------------------------------------------------------------- */

void loami_results_unref(loami_results *r)
{
    if (!r || atomic_fetch_sub(&r->refs, 1) > 1) return;
    free(r->floats);
    free(r->ranks);
    free(r->top);
    free(r);
}

/* Rows of results that a text has. */
static uint32_t places_of(const loam_job_request *r, uint32_t text)
{
    return r->kind == LOAM_JOB_EMBED ? 1 : r->texts[text].n - 1;
}

static uint32_t floats_of_place(const loam_job *j)
{
    return j->request.kind == LOAM_JOB_EMBED ? j->engine->info.embed_dims : 1;
}

static bool make_results(loam_job *j)
{
    const loam_job_request *r = &j->request;
    size_t n = 0;
    loami_results *to = j->results = calloc(1, sizeof *to);
    if (!to) return false;
    atomic_init(&to->refs, 1);
    for (uint32_t i = 0; i < r->n_texts; i++) n += places_of(r, i);
    to->floats = calloc(n * floats_of_place(j) + 1, sizeof *to->floats);
    if (r->want_ranks) to->ranks = calloc(n + 1, sizeof *to->ranks);
    if (r->n_top) to->top = calloc(n * r->n_top + 1, sizeof *to->top);
    return to->floats && (to->ranks || !r->want_ranks) && (to->top || !r->n_top);
}

/* ---- texts in and out ----------------------------------------------------------------------------------- */

static void let_go(loam_job *j, ahead *a)
{
    loam_stream_close(a->stream);
    a->stream = NULL;
    j->n_ahead--;
    j->tokens_ahead -= j->request.texts[a->text].n;
}

static void end(loam_job *j, loam_finish finish, int code, const char *msg)
{
    double now = loami_now_s(), started = j->started_s > 0 ? j->started_s : now;
    for (int i = 0; i < AHEAD; i++)
        if (j->ahead[i].stream) let_go(j, &j->ahead[i]);
    j->result.code = code;
    snprintf(j->result.msg, sizeof j->result.msg, "%.255s", msg);
    j->result.queue_s = started - j->began_s;
    j->result.run_s = now - started;
    j->result.finish = finish;
}

static void end_failed(loam_job *j, uint32_t text, int code, const char *msg)
{
    j->result.failed = text;
    end(j, code == LOAM_E_CANCELLED ? LOAM_FINISH_CANCELLED : LOAM_FINISH_ERROR, code, msg);
}

static loami_job_out out_of(const loam_job *j)
{
    const loam_job_request *r = &j->request;
    loami_results *to = j->results;
    loam_pooling pooling = r->pooling ? r->pooling : j->engine->pooling;
    return (loami_job_out){
        .results = to,
        .floats = to->floats + j->place * floats_of_place(j),
        .ranks = to->ranks ? to->ranks + j->place : NULL,
        .top = to->top ? to->top + j->place * r->n_top : NULL,
        .n_top = r->n_top,
        .last_only = pooling == LOAM_POOL_LAST,
    };
}

/* The next text into the queue. */
static int begin_text(loam_job *j, ahead *a, loam_err *err)
{
    const loam_job_request *r = &j->request;
    const loam_tokens *t = &r->texts[j->n_begun];
    loami_job_out out = out_of(j);
    loam_request one = { .tokens = t->ids, .n_tokens = t->n, .priority = r->priority, .client = r->client, .timeout_ms = r->timeout_ms,
                         .more = true, .on_ready = r->on_ready, .on_ready_arg = r->on_ready_arg };
    loam_stream *s;
    int rc = loami_stream_new(&s, j->engine, &one, r->kind == LOAM_JOB_EMBED ? LOAMI_JOB_EMBED : LOAMI_JOB_SCORE, &out, err);
    if (rc < 0) return rc;
    s->deadline_s = j->deadline_s;
    s->let_in = j->let_in;
    rc = loami_engine_enqueue(j->engine, s, err);
    if (rc < 0) {
        loami_stream_unref(s);
        return rc;
    }
    j->let_in = true;
    *a = (ahead){ s, j->n_begun, out.floats };
    j->n_ahead++;
    j->tokens_ahead += t->n;
    return 0;
}

static bool may_begin(const loam_job *j, const loam_tokens *t)
{
    if (j->n_ahead == 0) return true; /* a job that was let in always has one text in the queue, however full that is */
    return j->n_ahead < AHEAD && j->tokens_ahead + t->n <= (uint64_t)STEPS_AHEAD * j->engine->sub_info.rows && !loami_engine_full(j->engine);
}

/* As many as may be ahead. */
static int fill(loam_job *j, loam_err *err)
{
    const loam_job_request *r = &j->request;
    int rc = 0;
    uint32_t before = j->n_begun;
    for (; j->n_begun < r->n_texts && may_begin(j, &r->texts[j->n_begun]); j->n_begun++) {
        ahead *a = j->ahead;
        while (a->stream) a++;
        if (places_of(r, j->n_begun) && (rc = begin_text(j, a, err)) < 0) break;
        j->place += places_of(r, j->n_begun);
    }
    if (j->n_begun > before) loami_engine_kick(j->engine);
    return rc;
}

/* A text's stream has ended: what came of it. False: the job has, too. */
static bool take(loam_job *j, ahead *a)
{
    loam_result r;
    loam_stream_result(a->stream, &r);
    double started = a->stream->admitted_s;
    if (started > 0 && (j->started_s == 0 || started < j->started_s)) j->started_s = started;
    if (r.code < 0) {
        end_failed(j, a->text, r.code, r.msg);
        return false;
    }
    if (j->request.kind == LOAM_JOB_EMBED) loami_embed_normalise(a->floats, j->engine->info.embed_dims);
    let_go(j, a);
    return true;
}

/* With the lock held. */
static void go_on(loam_job *j)
{
    loam_token t;
    loam_err err;
    if (j->result.finish != LOAM_FINISH_NONE) return;
    for (int i = 0; i < AHEAD; i++) {
        ahead *a = &j->ahead[i];
        if (a->stream && loam_stream_next(a->stream, &t, 0) == 0 && !take(j, a)) return;
    }
    if (j->n_ahead == 0 && j->n_begun == j->request.n_texts) {
        j->result.floats = j->results->floats;
        j->result.ranks = j->results->ranks;
        j->result.top = j->results->top;
        end(j, LOAM_FINISH_STOP, LOAM_OK, "");
    } else if (j->cancelled) {
        if (j->n_ahead == 0) end_failed(j, j->n_begun, LOAM_E_CANCELLED, "cancelled");
    } else {
        int rc = fill(j, &err);
        if (rc < 0) end_failed(j, j->n_begun, rc, err.msg);
    }
}

/* ---- what others call ------------------------------------------------------------------------------------ */

static int check(const loam_engine *e, const loam_job_request *r, uint32_t *failed, loam_err *err)
{
    loami_job job = r->kind == LOAM_JOB_EMBED ? LOAMI_JOB_EMBED : LOAMI_JOB_SCORE;
    uint32_t most = e->info.vocab_tokens < LOAM_MAX_LOGPROBS ? e->info.vocab_tokens : LOAM_MAX_LOGPROBS;
    int rc = 0;
    if (r->n_texts == 0) return loami_fail(err, LOAM_E_ARG, "there is no text");
    if (r->n_top > most) return loami_fail(err, LOAM_E_ARG, "%u logprobs of each token, at most %u", r->n_top, most);
    for (uint32_t i = 0; i < r->n_texts && rc == 0; i++) {
        rc = loami_stream_check(e, &(loam_request){ .tokens = r->texts[i].ids, .n_tokens = r->texts[i].n }, job, err);
        if (rc < 0 && failed) *failed = i;
    }
    return rc;
}

int loam_job_begin(loam_engine *e, loam_job **out, const loam_job_request *request, uint32_t *failed, loam_err *err)
{
    int rc = check(e, request, failed, err);
    if (rc < 0) return rc;
    loam_job *j = calloc(1, sizeof *j);
    if (!j) return loami_fail_nomem(err);
    pthread_mutex_init(&j->lock, NULL);
    j->engine = e;
    j->request = *request;
    if (request->kind == LOAM_JOB_EMBED) j->request.n_top = j->request.want_ranks = 0;
    j->began_s = loami_now_s();
    if (request->timeout_ms) j->deadline_s = j->began_s + request->timeout_ms * 1e-3;
    rc = make_results(j) ? fill(j, err) : loami_fail_nomem(err);
    if (rc < 0 && failed) *failed = j->n_begun;
    if (rc < 0) loam_job_close(j);
    else *out = j;
    return rc;
}

/* Of those ahead, the one that came first; only poll and close let go of it. */
static loam_stream *first_ahead(const loam_job *j)
{
    const ahead *first = NULL;
    for (const ahead *a = j->ahead; a < j->ahead + AHEAD; a++)
        if (a->stream && (!first || a->text < first->text)) first = a;
    assert(first);
    return first->stream;
}

int loam_job_poll(loam_job *j, uint32_t wait_ms)
{
    double until = loami_now_s() + wait_ms * 1e-3;
    for (;;) {
        loam_token t;
        pthread_mutex_lock(&j->lock);
        go_on(j);
        bool over = j->result.finish != LOAM_FINISH_NONE;
        loam_stream *first = over || !wait_ms ? NULL : first_ahead(j);
        pthread_mutex_unlock(&j->lock);
        double left_s = until - loami_now_s();
        if (over) return 0;
        if (wait_ms != UINT32_MAX && left_s <= 0) return LOAM_E_TIMEOUT;
        loam_stream_next(first, &t, wait_ms == UINT32_MAX ? wait_ms : (uint32_t)(left_s * 1e3) + 1);
    }
}

void loam_job_cancel(loam_job *j)
{
    pthread_mutex_lock(&j->lock);
    j->cancelled = true;
    for (int i = 0; i < AHEAD; i++)
        if (j->ahead[i].stream) loam_stream_cancel(j->ahead[i].stream);
    pthread_mutex_unlock(&j->lock);
}

void loam_job_result(const loam_job *j, loam_outcome *out)
{
    loam_job *shared = (loam_job *)j; /* its lock */
    pthread_mutex_lock(&shared->lock);
    *out = j->result;
    pthread_mutex_unlock(&shared->lock);
}

void loam_job_close(loam_job *j)
{
    if (!j) return;
    for (int i = 0; i < AHEAD; i++)
        if (j->ahead[i].stream) let_go(j, &j->ahead[i]);
    loami_results_unref(j->results);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

/* ---- waiting for it -------------------------------------------------------------------------------------- */

/* Begins and waits. On success *out is there, and the caller closes it. */
static int run(loam_engine *e, loam_job **out, const loam_job_request *request, loam_outcome *r, uint32_t *failed, loam_err *err)
{
    int rc = loam_job_begin(e, out, request, failed, err);
    if (rc < 0) return rc;
    loam_job_poll(*out, UINT32_MAX);
    loam_job_result(*out, r);
    if (r->code == LOAM_OK) return 0;
    if (failed) *failed = r->failed;
    loam_job_close(*out);
    return loami_fail(err, r->code, "%s", r->msg);
}

int loam_embed(loam_engine *e, const loam_tokens *texts, uint32_t n_texts, loam_pooling pooling, float *out,
               uint32_t *failed, loam_err *err)
{
    loam_job *j;
    loam_outcome r;
    loam_job_request request = { .kind = LOAM_JOB_EMBED, .texts = texts, .n_texts = n_texts, .pooling = pooling };
    if (n_texts == 0) return 0;
    int rc = run(e, &j, &request, &r, failed, err);
    if (rc < 0) return rc;
    memcpy(out, r.floats, (size_t)n_texts * e->info.embed_dims * sizeof *out);
    loam_job_close(j);
    return 0;
}

int loam_score(loam_engine *e, const int32_t *tokens, uint32_t n, float *logprobs, loam_err *err)
{
    return loam_score_top(e, tokens, n, 0, logprobs, NULL, NULL, err);
}

int loam_score_top(loam_engine *e, const int32_t *tokens, uint32_t n, uint32_t n_top, float *logprobs, uint32_t *ranks,
                   loam_logprob *top, loam_err *err)
{
    loam_job *j;
    loam_outcome r;
    loam_tokens text = { tokens, n };
    loam_job_request request = { .kind = LOAM_JOB_SCORE, .texts = &text, .n_texts = 1, .want_ranks = ranks, .n_top = top ? n_top : 0 };
    if (n < 2) return loami_fail(err, LOAM_E_ARG, "to score takes at least two tokens");
    int rc = run(e, &j, &request, &r, NULL, err);
    if (rc < 0) return rc;
    memcpy(logprobs, r.floats, (n - 1) * sizeof *logprobs);
    if (ranks) memcpy(ranks, r.ranks, (n - 1) * sizeof *ranks);
    if (request.n_top) memcpy(top, r.top, (size_t)(n - 1) * n_top * sizeof *top);
    loam_job_close(j);
    return 0;
}
