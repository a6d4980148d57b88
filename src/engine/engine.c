#include "engine/engine.h"
#include "engine/chain.h"
#include "engine/sched.h"
#include "engine/tier.h"
#include "base/clock.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { QUEUED_DEFAULT = 256 }; /* requests: about 30 s of work at 8 requests a second; beyond that "busy" is kinder */

/* ---- ends ----------------------------------------------------------------------------------------------- */

void loami_engine_finish(loam_engine *e, loam_stream *s, loam_finish finish, int code, const char *msg)
{
    loami_meter_finish(&e->meter, finish, code);
    if (s->share) loami_shares_leave(s->share);
    loami_stream_finish(s, finish, code, msg);
}

void loami_engine_timeout(loam_engine *e, loam_stream *s, const char *where)
{
    char msg[128];
    snprintf(msg, sizeof msg, "the request's %u ms were over %s", s->request.timeout_ms, where);
    loami_engine_finish(e, s, LOAM_FINISH_ERROR, LOAM_E_TIMEOUT, msg);
}

/* Takes a sequence out of running, gives its pages back, tells its reader. */
static void release(loam_engine *e, loam_stream *s, loam_finish finish, int code, const char *msg)
{
    loami_sched_leave(e, s);
    loami_engine_finish(e, s, finish, code, msg);
}

/* Lets those go whose reader has left or whose time is over. */
static void drop(loam_engine *e, double now)
{
    for (uint32_t i = e->n_running; i > 0; i--) {
        loam_stream *s = e->running[i - 1];
        if (atomic_load(&s->cancelled)) {
            release(e, s, LOAM_FINISH_CANCELLED, LOAM_E_CANCELLED, "cancelled");
        } else if (loami_stream_late(s, now)) {
            loami_sched_leave(e, s);
            loami_engine_timeout(e, s, s->first_token_s > 0 ? "before the answer was" : "while its prompt was being read");
        }
    }
}

/* ---- one step ------------------------------------------------------------------------------------------- */

static bool ends(const loam_engine *e, const loam_stream *s, int32_t id)
{
    if (!s->request.ignore_eos && e->text && loami_text_is_eos(e->text, id)) return true;
    for (uint32_t i = 0; i < s->request.n_stop_tokens; i++)
        if (s->request.stop_tokens[i] == id) return true;
    return false;
}

bool loami_engine_emit(loam_engine *e, loam_stream *s, loami_ring_item *item, const loam_logprob *top)
{
    uint32_t n_new = s->n_tokens - s->n_prompt;
    double now = loami_now_s();
    if (n_new == 0) {
        s->first_token_s = now;
        e->meter.prompt_tokens_read += s->n_prompt;
    } else {
        item->gap_s = now - s->last_token_s;
    }
    s->last_token_s = now;
    item->silent = ends(e, s, item->id);
    s->tokens[s->n_tokens++] = item->id;
    loami_sampler_accept(&s->sampler, item->id);
    e->meter.new_tokens++;
    loami_stream_push(s, item, top);
    if (item->silent || loami_sampler_over(&s->sampler)) release(e, s, LOAM_FINISH_STOP, LOAM_OK, "");
    else if (n_new + 1 == s->request.max_new) release(e, s, LOAM_FINISH_LENGTH, LOAM_OK, "");
    else return true;
    return false;
}

/* Chooses a token from a row of logits and sends it up. True: the answer goes on, and s is still there. */
static bool sample(loam_engine *e, loam_stream *s, const float *row)
{
    const loam_request *r = &s->request;
    uint32_t vocab = e->info.vocab_tokens, n_new = s->n_tokens - s->n_prompt;
    bool early = (n_new < r->min_new || (r->grammar && r->ignore_eos)) && e->text;
    loam_logprob top[LOAM_MAX_LOGPROBS];
    loami_ring_item item = { .n_top = r->n_logprobs < vocab ? r->n_logprobs : vocab };

    if (n_new == 0) loami_sampler_prompt(&s->sampler, s->tokens, s->n_prompt);
    item.id = loami_sample(&s->sampler, row, e->logits, early ? e->text->eos : NULL, early ? e->text->n_eos : 0, e->scratch);
    if (item.id < 0) {
        release(e, s, LOAM_FINISH_ERROR, LOAM_E_UNSUPPORTED, "no token of the model's vocabulary goes on as the grammar asks");
        return false;
    }
    if (r->want_logprobs || r->n_logprobs) item.logprob = (float)(row[item.id] - loami_log_sum_exp(row, vocab));
    if (item.n_top) loami_top_logprobs(row, vocab, top, item.n_top, e->scratch);
    return loami_engine_emit(e, s, &item, top);
}

/* The same for a row and the guesses behind it, up to the first that is not what the sampler chose. */
static void sample_drafted(loam_engine *e, loam_stream *s, const float *logits)
{
    uint32_t n = s->n_drafted, right = 0;
    bool more = true;
    e->meter.drafted += n;
    while (more && right < n) {
        uint32_t at = s->n_tokens;
        int32_t guess = s->tokens[at];
        if (!sample(e, s, logits + (size_t)right * e->info.vocab_tokens)) return;
        more = s->tokens[at] == guess;
        if (!more) break;
        s->n_past++;
        e->meter.drafted_right++;
        right++;
    }
    loami_draft_learn(&s->draft, n, right);
    if (more) sample(e, s, logits + (size_t)right * e->info.vocab_tokens);
}

/* Log-probabilities of the tokens that follow the rows just run. */
static void score(loam_engine *e, loam_stream *s, const float *logits)
{
    uint32_t vocab = e->info.vocab_tokens;
    const loami_job_out *out = &s->out;
    for (uint32_t i = 0; i < s->n_rows; i++) {
        uint32_t next = s->n_past + i + 1, at = next - 1;
        const float *row = logits + (size_t)i * vocab;
        if (next == s->n_tokens) break;
        out->floats[at] = (float)(row[s->tokens[next]] - loami_log_sum_exp(row, vocab));
        if (out->ranks) out->ranks[at] = loami_rank(row, vocab, s->tokens[next]);
        if (out->n_top) loami_top_logprobs(row, vocab, out->top + (size_t)at * out->n_top, out->n_top, e->scratch);
    }
}

/* Adds up the final norm's rows. From the start again, if the sequence had to start again. */
static void pool_rows(loam_engine *e, loam_stream *s, const float *rows, uint32_t n_rows)
{
    uint32_t dims = e->info.embed_dims;
    if (s->n_past == 0 || s->out.last_only) memset(s->out.floats, 0, dims * sizeof *s->out.floats);
    for (uint32_t i = 0; i < n_rows; i++)
        for (uint32_t k = 0; k < dims; k++) s->out.floats[k] += rows[(size_t)i * dims + k];
}

static uint32_t rows_wanted(const loam_stream *s)
{
    bool every = s->job == LOAMI_JOB_SCORE || (s->job == LOAMI_JOB_EMBED && !s->out.last_only);
    if (every) return s->n_rows;
    return s->n_past + s->n_rows >= s->n_tokens ? 1 + s->n_drafted : 0;
}

void loami_engine_ran(loam_engine *e, loam_stream *s, uint32_t n_rows)
{
    enum { ANSWER_COSTS = 2 }; /* a row of an answer, in rows of a prompt: what Sheng et al. take */
    s->share->got += s->n_rows * (double)(s->n_past < s->n_prompt ? 1 : ANSWER_COSTS);
    s->n_past += n_rows;
    loami_sched_passed(e, s);
}

static void end_job(loam_engine *e, loam_stream *s)
{
    e->meter.prompt_tokens_read += s->n_prompt;
    release(e, s, LOAM_FINISH_STOP, LOAM_OK, "");
}

/* Hands each sequence of the step its rows of logits or hidden states. */
static void take_results(loam_engine *e, const loam_batch *b, const float *logits)
{
    uint32_t width = e->model->hidden ? e->info.embed_dims : e->info.vocab_tokens;
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        loam_stream *s = e->step_seqs[i];
        bool prompt = s->n_past < s->n_prompt, whole = s->n_past + s->n_rows >= s->n_tokens;
        uint32_t n_wanted = rows_wanted(s);
        if (i >= e->n_decode_seqs) e->prompts_run += s->n_rows;
        if (prompt) e->meter.prompt_tokens += s->n_rows;
        if (s->job == LOAMI_JOB_SCORE) score(e, s, logits);
        if (s->job == LOAMI_JOB_EMBED) pool_rows(e, s, logits, n_wanted);
        if (s->job == LOAMI_JOB_LOGITS && whole) memcpy(s->out.floats, logits, width * sizeof *logits);
        loami_engine_ran(e, s, s->n_rows - s->n_drafted);
        if (prompt && whole) loami_sched_twins(e, s, sample, logits);
        if (whole && s->job == LOAMI_JOB_GENERATE) sample_drafted(e, s, logits);
        else if (whole) end_job(e, s);
        logits += (size_t)n_wanted * width;
    }
    /* All rows first: a reader of several streams that wakes takes a processor from who samples, once a step and not once a row. */
    for (uint32_t i = 0; i < e->n_running; i++) loami_stream_tell(e->running[i]);
}

void loami_engine_lose(loam_engine *e, uint32_t n_seqs, const loam_err *err)
{
    for (uint32_t i = 0; i < n_seqs; i++) {
        if (e->step_seqs[i]) release(e, e->step_seqs[i], LOAM_FINISH_ERROR, LOAM_E_MACHINE, err->msg);
        e->step_seqs[i] = NULL;
    }
}

void loami_engine_took(loam_engine *e)
{
    double from = e->meter.step_at, now = loami_now_s();
    loami_meter_end(&e->meter, now, e->work.n_decode + e->work.n_prompt);
    loami_pace_learn(&e->pace, &e->work, now - from);
}

/* Every runnable sequence advances by one token or one slice of its prompt. */
static void step(loam_engine *e, const loam_batch *b)
{
    const loami_machine *m = &e->machine;
    loam_err err = { 0 };

    m->api->begin(m->sub, b);
    loam_tensor logits = e->model->family->forward(e->model);
    if (m->api->end(m->sub, &err) < 0) {
        loami_engine_lose(e, b->n_seqs, &err);
        return;
    }
    take_results(e, b, b->n_wanted ? m->api->read(m->sub, logits, NULL, NULL) : NULL);
}

static void publish(loam_engine *e)
{
    e->seen = e->meter;
    e->stat.running = e->n_running;
    if (!e->pages) return;
    e->stat.page_tokens = e->sub_info.page_tokens;
    e->stat.weight_bytes = e->info.weight_bytes;
    e->stat.kv_bytes = e->info.kv_bytes;
    e->stat.scratch_bytes = e->sub_info.scratch_bytes + (e->disk ? loami_disk_memory(e->disk) : 0);
    loami_pages_count all = loami_pages_counted(e->pages), near = loami_pages_near(e->pages);
    e->stat.pages = all.all;
    e->stat.pages_used = all.used;
    e->stat.pages_kept = all.kept;
    e->stat.near_pages = near.all;
    e->stat.near_pages_used = near.used;
    e->stat.near_pages_kept = near.kept;
}

bool loami_engine_glance(loam_engine *e)
{
    pthread_mutex_lock(&e->lock);
    publish(e);
    bool quiet = !e->kicked && !e->closing;
    pthread_mutex_unlock(&e->lock);
    return quiet;
}

static void fail_all(loam_engine *e)
{
    while (e->n_running) release(e, e->running[0], LOAM_FINISH_CANCELLED, LOAM_E_CANCELLED, "the engine is closing");
    while (e->waiting) {
        loam_stream *s = e->waiting;
        e->waiting = s->next;
        loami_engine_finish(e, s, LOAM_FINISH_CANCELLED, LOAM_E_CANCELLED, "the engine is closing");
    }
}

static void earlier(double *first, double t)
{
    if (t > 0 && (*first == 0 || t < *first)) *first = t;
}

/* Until somebody kicks, or until somebody's time is over. With the lock held. */
static void sleep_until_kicked(loam_engine *e)
{
    double first = 0;
    for (uint32_t i = 0; i < e->n_running; i++) earlier(&first, e->running[i]->deadline_s);
    for (const loam_stream *s = e->waiting; s; s = s->next) earlier(&first, s->deadline_s);
    if (first == 0) {
        pthread_cond_wait(&e->wake, &e->lock);
        return;
    }
    double s = first - loami_now_s();
    struct timespec until = loami_time_in(s > 0 ? (uint32_t)(s * 1000) + 1 : 0);
    pthread_cond_timedwait(&e->wake, &e->lock, &until);
}

/* Sleeps only when a whole round found nothing to do and nobody kicked since. */
static void serve(loam_engine *e)
{
    bool idle = false;
    pthread_mutex_lock(&e->lock);
    while (!e->closing) {
        if (idle && !e->kicked) sleep_until_kicked(e);
        e->kicked = false;
        double now = loami_now_s();
        loami_meter_turn(&e->meter, now);
        drop(e, now);
        loami_sched_admit(e, now);
        publish(e);
        pthread_mutex_unlock(&e->lock);
        loam_batch b = loami_sched_plan(e);
        loami_tier_save(e);
        idle = b.n_rows == 0 && !e->loading;
        if (idle) loami_meter_idle(&e->meter, loami_now_s());
        else if (b.n_rows) loami_meter_begin(&e->meter, loami_now_s(), e->work.n_prompt);
        pthread_mutex_lock(&e->lock);
        publish(e);
        if (idle) continue;
        pthread_mutex_unlock(&e->lock);
        if (loami_chain_fits(e, &b)) {
            loami_chain_run(e, &b);
        } else if (b.n_rows) {
            step(e, &b);
            loami_engine_took(e);
        }
        loami_tier_save(e);
        pthread_mutex_lock(&e->lock);
    }
    fail_all(e);
    publish(e);
    pthread_mutex_unlock(&e->lock);
}

void loami_engine_kick(loam_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->kicked = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

/* ---- open and close ------------------------------------------------------------------------------------- */

/* Everything of the substrate happens on this thread, from open to close. */
static void *engine_thread(void *arg)
{
    loam_engine *e = arg;
    int rc = loami_engine_load(e, &e->open_err);

    pthread_mutex_lock(&e->lock);
    e->open_rc = rc;
    e->opened = true;
    publish(e);
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    if (rc == 0) serve(e);
    loami_tier_close(e);
    loami_model_close(e->model);
    if (e->machine.sub) e->machine.api->close(e->machine.sub);
    return NULL;
}

static int copy_options(loam_engine *e, const loam_options *o, loam_err *err)
{
    const char **strings[] = { &e->options.model, &e->options.name, &e->options.substrate, &e->options.kv_type,
                              &e->options.kv_dir };
    e->options = *o;
    e->max_queued = o->max_queued ? o->max_queued : QUEUED_DEFAULT;
    if (!o->model || !*o->model) return loami_fail(err, LOAM_E_ARG, "no model folder was named");
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        const char **s = strings[i];
        if (*s && !(*s = loami_arena_strndup(&e->arena, *s, strlen(*s)))) return loami_fail_nomem(err);
    }
    return 0;
}

static void destroy(loam_engine *e)
{
    loami_compiler_close(e->compiler);
    loam_text_close(e->text);
    loami_pages_close(e->pages);
    loami_shares_close(&e->shares);
    loami_arena_free(&e->arena);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->wake);
    free(e);
}

int loam_engine_open(loam_engine **out, const loam_options *options, loam_err *err)
{
    loam_engine *e = calloc(1, sizeof *e);
    if (!e) return loami_fail_nomem(err);
    e->waiting_end = &e->waiting;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, NULL);
    int rc = copy_options(e, options, err);
    if (rc == 0 && pthread_create(&e->thread, NULL, engine_thread, e) != 0)
        rc = loami_fail(err, LOAM_E_NOMEM, "the engine thread can't be started");
    if (rc < 0) goto out;

    pthread_mutex_lock(&e->lock);
    while (!e->opened) pthread_cond_wait(&e->wake, &e->lock);
    rc = e->open_rc;
    pthread_mutex_unlock(&e->lock);
    if (rc < 0) {
        pthread_join(e->thread, NULL);
        if (err) *err = e->open_err;
    }
out:
    if (rc < 0) destroy(e);
    else *out = e;
    return rc;
}

void loam_engine_close(loam_engine *e)
{
    if (!e) return;
    pthread_mutex_lock(&e->lock);
    e->closing = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    destroy(e);
}

/* ---- what others ask ------------------------------------------------------------------------------------ */

const loam_text *loam_engine_text(const loam_engine *e)
{
    return e->text;
}

const loam_model_info *loam_engine_info(const loam_engine *e)
{
    return &e->info;
}

void loam_engine_stat(const loam_engine *e, loam_engine_state *out)
{
    loam_engine *shared = (loam_engine *)e; /* its lock */
    pthread_mutex_lock(&shared->lock);
    *out = e->stat;
    out->waiting = e->n_waiting;
    loami_meter_read(&e->seen, loami_now_s(), out);
    out->refused = e->n_refused;
    out->requests_max = e->max_queued + e->max_running;
    pthread_mutex_unlock(&shared->lock);
}

static uint64_t random_seed(const loam_stream *s)
{
    static atomic_uint_fast64_t count;
    uint64_t z = (uint64_t)loami_now_ns() + (uint64_t)time(NULL) * 1000003u + (uintptr_t)s;
    return z + 0x9e3779b97f4a7c15u * (atomic_fetch_add(&count, 1) + 1);
}

/* With the lock held. Who will start at once does not wait. */
static bool full(const loam_engine *e)
{
    return e->n_waiting >= e->max_queued + (e->max_running - e->stat.running);
}

bool loami_engine_full(loam_engine *e)
{
    pthread_mutex_lock(&e->lock);
    bool is = full(e);
    pthread_mutex_unlock(&e->lock);
    return is;
}

int loami_engine_enqueue(loam_engine *e, loam_stream *s, loam_err *err)
{
    int rc = 0;
    if (!s->request.how.has_seed) s->sampler.seed = random_seed(s);
    pthread_mutex_lock(&e->lock);
    if (full(e) && !s->let_in) {
        e->n_refused++;
        rc = loami_fail(err, LOAM_E_BUSY, "%u requests are waiting already: try again later", e->n_waiting);
    } else {
        s->refs++;
        s->next = NULL;
        s->arrival = e->n_arrived++;
        *e->waiting_end = s;
        e->waiting_end = &s->next;
        e->n_waiting++;
        e->kicked |= !s->request.more;
        if (e->kicked) pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    return rc;
}

int loam_submit(loam_engine *e, loam_stream **out, const loam_request *request, loam_err *err)
{
    loam_stream *s;
    int rc = loami_stream_new(&s, e, request, LOAMI_JOB_GENERATE, NULL, err);
    if (rc < 0) return rc;
    rc = loami_engine_enqueue(e, s, err);
    if (rc < 0) loami_stream_unref(s);
    else *out = s;
    return rc;
}

int loam_logits(loam_engine *e, const int32_t *tokens, uint32_t n, float *logits, loam_err *err)
{
    loam_stream *s;
    loam_token t;
    loam_result r;
    loami_job_out out = { .floats = logits };
    int rc = loami_stream_new(&s, e, &(loam_request){ .tokens = tokens, .n_tokens = n }, LOAMI_JOB_LOGITS, &out, err);
    if (rc < 0) return rc;
    rc = loami_engine_enqueue(e, s, err);
    if (rc == 0) {
        while (loam_stream_next(s, &t, UINT32_MAX) > 0) continue;
        loam_stream_result(s, &r);
        if (r.code < 0) rc = loami_fail(err, r.code, "%s", r.msg);
    }
    loam_stream_close(s);
    return rc;
}
