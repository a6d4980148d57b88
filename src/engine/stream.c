#include "base/clock.h"
#include "base/err.h"
#include "engine/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- a request, checked and copied ---------------------------------------------------------------------- */

int loami_stream_check(const loam_engine *e, const loam_request *r, loami_job job, loam_err *err)
{
    uint32_t most = e->info.context_tokens - (job == LOAMI_JOB_GENERATE); /* an answer needs room */
    if (!r->tokens || r->n_tokens == 0) return loami_fail(err, LOAM_E_ARG, "the prompt is empty");
    if (r->n_tokens > most)
        return loami_fail(err, LOAM_E_TOO_LONG, "the prompt has %u tokens, the context takes %u at most", r->n_tokens, most);
    for (uint32_t i = 0; i < r->n_tokens; i++)
        if (r->tokens[i] < 0 || (uint32_t)r->tokens[i] >= e->info.vocab_tokens)
            return loami_fail(err, LOAM_E_ARG, "token %u of the prompt is %d, the vocabulary has %u", i, r->tokens[i], e->info.vocab_tokens);
    if (r->n_stop > LOAM_MAX_STOP) return loami_fail(err, LOAM_E_ARG, "%u stop strings, at most %d", r->n_stop, LOAM_MAX_STOP);
    if (r->n_logprobs > LOAM_MAX_LOGPROBS) return loami_fail(err, LOAM_E_ARG, "%u logprobs, at most %d", r->n_logprobs, LOAM_MAX_LOGPROBS);
    return 0;
}

static const void *copy(loami_arena *a, const void *from, size_t n, size_t size, bool *ok)
{
    if (n == 0) return NULL;
    void *to = loami_arena_array(a, n, size);
    if (to) memcpy(to, from, n * size);
    else *ok = false;
    return to;
}

/* Copies what the request points to, and makes room for the tokens and pages of its worst case. */
static bool take_copies(loam_stream *s, const loam_request *r, uint32_t context, uint32_t page_tokens)
{
    bool ok = true;
    loami_arena *a = &s->arena;
    uint32_t room = context - r->n_tokens;
    uint32_t new = s->job != LOAMI_JOB_GENERATE ? 0 : r->max_new == 0 || r->max_new > room ? room : r->max_new;

    s->request.max_new = new;
    s->n_prompt = s->n_tokens = r->n_tokens;
    s->n_reserved = r->n_tokens + new;
    s->holding = (loami_holding){ .salt = r->cache_salt, .keep = s->job == LOAMI_JOB_GENERATE };
    s->n_pages_most = loami_pages_at_once(s->engine, s->n_reserved);
    s->tokens = loami_arena_array(a, s->n_reserved, sizeof *s->tokens);
    s->holding.pages = loami_arena_array(a, (s->n_reserved + page_tokens - 1) / page_tokens, sizeof *s->holding.pages);
    s->holding.near = loami_arena_array(a, (s->n_reserved + page_tokens - 1) / page_tokens, sizeof *s->holding.near);
    s->ring_top = loami_arena_array(a, (size_t)RING_CAP * r->n_logprobs + 1, sizeof *s->ring_top);
    s->request.how.bias = copy(a, r->how.bias, r->how.n_bias, sizeof *r->how.bias, &ok);
    s->request.stop_tokens = copy(a, r->stop_tokens, r->n_stop_tokens, sizeof *r->stop_tokens, &ok);
    const char **stop = loami_arena_array(a, r->n_stop + 1, sizeof *stop);
    for (uint32_t i = 0; stop && i < r->n_stop; i++)
        if (!(stop[i] = loami_arena_strndup(a, r->stop[i], strlen(r->stop[i])))) ok = false;
    s->request.stop = stop;
    s->request.tokens = s->tokens;
    if (!ok || !s->tokens || !s->holding.pages || !s->holding.near || !s->ring_top || !stop) return false;
    memcpy(s->tokens, r->tokens, r->n_tokens * sizeof *s->tokens);
    return true;
}

static void destroy(loam_stream *s)
{
    loami_detok_close(s->detok);
    loami_sampler_close(&s->sampler);
    loami_results_unref(s->out.results);
    loami_buf_free(&s->text);
    loami_buf_free(&s->handed);
    loami_arena_free(&s->arena);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->ready);
    free(s);
}

int loami_stream_new(loam_stream **out, loam_engine *e, const loam_request *r, loami_job job, const loami_job_out *where, loam_err *err)
{
    int rc = loami_stream_check(e, r, job, err);
    if (rc < 0) return rc;
    loam_stream *s = calloc(1, sizeof *s);
    if (!s) return loami_fail_nomem(err);
    s->engine = e;
    s->request = *r;
    s->job = job;
    if (where) s->out = *where;
    if (s->out.results) atomic_fetch_add(&s->out.results->refs, 1);
    s->refs = 1;
    s->hungry = true;
    s->submitted_s = loami_now_s();
    if (r->timeout_ms) s->deadline_s = s->submitted_s + r->timeout_ms * 1e-3;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->ready, NULL);
    if (!take_copies(s, r, e->info.context_tokens, e->sub_info.page_tokens)) rc = loami_fail_nomem(err);
    if (rc == 0) rc = loami_sampler_open(&s->sampler, &s->request.how, e->info.vocab_tokens, err);
    if (rc == 0 && r->grammar && job == LOAMI_JOB_GENERATE) rc = loami_sampler_keep_to(&s->sampler, r->grammar, err);
    if (rc == 0 && s->n_pages_most > loami_pages_counted(e->pages).all)
        rc = loami_fail(err, LOAM_E_TOO_LONG, "prompt and answer of %u tokens do not fit into the KV cache of %u", s->n_reserved,
                        loami_pages_counted(e->pages).all * e->sub_info.page_tokens);
    if (rc == 0 && e->text && job == LOAMI_JOB_GENERATE)
        rc = loami_detok_open(&s->detok, e->text->tokenizer, !r->keep_special, err);
    if (rc < 0) destroy(s);
    else *out = s;
    return rc;
}

void loami_stream_unref(loam_stream *s)
{
    pthread_mutex_lock(&s->lock);
    uint32_t left = --s->refs;
    pthread_mutex_unlock(&s->lock);
    if (left == 0) destroy(s);
}

/* ---- the engine's side ---------------------------------------------------------------------------------- */

uint32_t loami_stream_room(loam_stream *s)
{
    pthread_mutex_lock(&s->lock);
    uint32_t room = RING_CAP - (s->head - s->tail);
    pthread_mutex_unlock(&s->lock);
    return room;
}

/* With the lock held. on_ready runs under it, so that close can't free what it is called with. */
static void tell(loam_stream *s)
{
    pthread_cond_broadcast(&s->ready);
    if (!s->hungry || !s->request.on_ready) return;
    s->hungry = false;
    s->request.on_ready(s->request.on_ready_arg);
}

void loami_stream_push(loam_stream *s, const loami_ring_item *item, const loam_logprob *top)
{
    pthread_mutex_lock(&s->lock);
    uint32_t at = s->head++ % RING_CAP;
    s->ring[at] = *item;
    if (item->n_top) memcpy(s->ring_top + (size_t)at * s->request.n_logprobs, top, item->n_top * sizeof *top);
    pthread_mutex_unlock(&s->lock);
    s->untold = true;
}

void loami_stream_tell(loam_stream *s)
{
    if (!s->untold) return;
    s->untold = false;
    pthread_mutex_lock(&s->lock);
    tell(s);
    pthread_mutex_unlock(&s->lock);
}

void loami_stream_finish(loam_stream *s, loam_finish finish, int code, const char *msg)
{
    double now = loami_now_s();
    pthread_mutex_lock(&s->lock);
    loam_result *r = &s->result;
    r->code = code;
    r->prompt_tokens = s->n_prompt;
    r->cached_tokens = s->n_cached;
    r->preemptions = s->n_preempted;
    r->queue_s = (s->admitted_s ? s->admitted_s : now) - s->submitted_s;
    if (s->admitted_s) r->prefill_s = (s->first_token_s ? s->first_token_s : now) - s->admitted_s;
    if (s->first_token_s) r->decode_s = now - s->first_token_s;
    strncpy(r->msg, msg, sizeof r->msg - 1);
    r->finish = finish;
    tell(s);
    pthread_mutex_unlock(&s->lock);
    loami_stream_unref(s);
}

/* ---- the reader's side ---------------------------------------------------------------------------------- */

static bool wait_until(loam_stream *s, const struct timespec *until)
{
    return pthread_cond_timedwait(&s->ready, &s->lock, until) != ETIMEDOUT;
}

struct timespec loami_time_in(uint32_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t); /* what pthread_cond_timedwait measures by */
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

/* 1: *item taken; 0: no more will come; LOAM_E_TIMEOUT. */
static int take(loam_stream *s, loami_ring_item *item, uint32_t wait_ms)
{
    int rc = LOAM_E_TIMEOUT;
    bool wakes = false;
    struct timespec until = loami_time_in(wait_ms);
    pthread_mutex_lock(&s->lock);
    while (s->head == s->tail && s->result.finish == LOAM_FINISH_NONE && wait_ms) {
        if (wait_ms == UINT32_MAX) pthread_cond_wait(&s->ready, &s->lock);
        else if (!wait_until(s, &until)) break;
    }
    if (s->head != s->tail) {
        uint32_t at = s->tail % RING_CAP;
        wakes = s->head - s->tail == RING_CAP;
        s->tail++;
        wakes |= atomic_load(&s->rests) && RING_CAP - (s->head - s->tail) == RING_FREE;
        *item = s->ring[at];
        memcpy(s->top, s->ring_top + (size_t)at * s->request.n_logprobs, item->n_top * sizeof *s->top);
        rc = 1;
    } else if (s->result.finish != LOAM_FINISH_NONE) {
        rc = 0;
    } else {
        s->hungry = true;
    }
    pthread_mutex_unlock(&s->lock);
    if (wakes) loami_engine_kick(s->engine);
    return rc;
}

/* Where in s->text[from..] a stop string begins, the earliest; SIZE_MAX if none does. */
static size_t find_stop(loam_stream *s, size_t from)
{
    size_t best = SIZE_MAX;
    for (uint32_t i = 0; i < s->request.n_stop; i++) {
        size_t n = strlen(s->request.stop[i]);
        for (size_t at = from; n && at + n <= s->text.len && at < best; at++) {
            if (memcmp(s->text.data + at, s->request.stop[i], n) != 0) continue;
            best = at;
            s->stop_met = s->request.stop[i];
        }
    }
    return best;
}

/* How many bytes at the end of s->text might be the beginning of a stop string. */
static size_t held_back(const loam_stream *s)
{
    size_t most = 0;
    for (uint32_t i = 0; i < s->request.n_stop; i++) {
        const char *stop = s->request.stop[i];
        size_t n = strlen(stop);
        for (size_t k = n ? n - 1 : 0; k > most; k--)
            if (k <= s->text.len && memcmp(s->text.data + s->text.len - k, stop, k) == 0) most = k;
    }
    return most;
}

/* Moves what can be handed out from text to handed. */
static void hand_out(loam_stream *s, bool last)
{
    loami_buf_clear(&s->handed);
    if (s->text.len == 0) return;
    size_t stop = find_stop(s, 0);
    size_t n = stop != SIZE_MAX ? stop : last ? s->text.len : s->text.len - held_back(s);
    loami_buf_put(&s->handed, s->text.data, n);
    memmove(s->text.data, s->text.data + n, s->text.len - n);
    s->text.len -= n;
    if (s->stop_met) loam_stream_cancel(s);
}

static void fill(loam_stream *s, loam_token *out, int32_t id)
{
    *out = (loam_token){ .id = id, .text = s->handed.data ? s->handed.data : "", .text_len = s->handed.len };
}

int loam_stream_next(loam_stream *s, loam_token *out, uint32_t wait_ms)
{
    loami_ring_item item;
    for (;;) {
        int rc = take(s, &item, wait_ms);
        if (rc < 0) return rc;
        if (rc == 0) break;
        if (s->stop_met) continue; /* what came after the stop string is not part of the answer */
        s->n_read++;
        if (item.silent) continue;
        if (s->detok) loami_detok_put(s->detok, &s->text, item.id, NULL);
        hand_out(s, false);
        fill(s, out, item.id);
        out->logprob = item.logprob;
        out->top = s->top;
        out->n_top = item.n_top;
        out->gap_s = item.gap_s;
        return 1;
    }
    if (s->flushed || s->stop_met) return 0;
    s->flushed = true;
    if (s->detok) loami_detok_flush(s->detok, &s->text, NULL);
    hand_out(s, true);
    if (s->handed.len == 0) return 0;
    fill(s, out, -1);
    return 1;
}

void loam_stream_cancel(loam_stream *s)
{
    if (!atomic_exchange(&s->cancelled, true)) loami_engine_kick(s->engine);
}

void loam_stream_result(const loam_stream *s, loam_result *out)
{
    loam_stream *shared = (loam_stream *)s; /* its lock */
    pthread_mutex_lock(&shared->lock);
    *out = s->result;
    pthread_mutex_unlock(&shared->lock);
    out->new_tokens = s->n_read;
    out->stop = s->stop_met;
    if (s->stop_met && out->finish != LOAM_FINISH_NONE) {
        out->finish = LOAM_FINISH_STOP;
        out->code = LOAM_OK;
        out->msg[0] = 0;
    }
}

void loam_stream_close(loam_stream *s)
{
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->request.on_ready = NULL;
    bool running = s->result.finish == LOAM_FINISH_NONE;
    pthread_mutex_unlock(&s->lock);
    if (running) loam_stream_cancel(s);
    loami_stream_unref(s);
}
