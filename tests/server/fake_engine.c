/* A fake engine behind loam.h: no model, one token a byte, and pace and faults on command. The server tests
 * run against the real program linked with this where they need an answer to take exactly so long or to fail
 * there.
 *
 * The last "[fake k=v k=v]" in a prompt says: tokens=N (default 8), delay=MS a token, prefill=MS before the
 * first, fail=N (the machine fails after N tokens), busy=N (queue full, come again after N seconds), hang=MS (the first step
 * takes so long, and nothing else happens meanwhile). The answer is "abcdefghij" over and over, or with echo=1 the
 * prompt, with say=1 what follows the "]", to its end, with try=1 what became of it: "open PATH", "write PATH", "connect PORT", "exec PATH" are
 * attempted here, in the server's own process. Of embeddings and scores, each text takes prefill=MS, one after another; busy and hang
 * are as above, and fail=N is the text at which the machine fails. LOAM_FAKE_LOAD_MS and LOAM_FAKE_LOAD_FAIL concern the loading; so do, of one
 * model, files in its folder: load_ms, fail, and bytes (what it takes in memory). */
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "grammar/grammar.h"
#include "text/chat.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EOS = 256, VOCAB = 257, CONTEXT = 200000, RING = 64, DIMS = 4 };

struct loam_stream {
    loam_engine *engine;
    loam_stream *next;
    void (*on_ready)(void *arg);
    void *arg;
    char *prompt;
    uint32_t n_prompt, n_new, max_new, delay_ms, fail_at, n_logprobs, hang_ms;
    bool echo, says, want_logprobs, hungry, closed, done;
    atomic_bool cancelled;
    double next_s, submitted_s, first_s, last_s, deadline_s;
    double gap_s[64];
    unsigned char ring[RING];
    uint32_t head, tail, n_read;
    loam_result result;
    char text[4];
    loam_logprob top[LOAM_MAX_LOGPROBS];
};

struct loam_job {
    loam_engine *engine;
    loam_job *next;
    loam_job_request request; /* texts are not read once it has begun: it is closed at any time */
    uint32_t n_done, fail_at, hang_ms;
    bool closed, cancelled;
    double began_s, text_s, deadline_s;
    float *floats;
    uint32_t *ranks;
    loam_logprob *top;
    loam_outcome result;
};

struct loam_engine {
    struct loam_text text;
    loam_model_info info;
    loami_vocab *vocab; /* a token a byte */
    pthread_mutex_t lock; /* over everything */
    pthread_cond_t change;
    pthread_t thread;
    loam_stream *streams;
    loam_job *jobs;
    bool closing;
    uint64_t prompt_tokens, new_tokens, steps, timeouts;
    uint32_t requests_max;
    loam_phase phase;
    double phase_since_s, step_since_s, retry_s;
};

static uint32_t option(const char *prompt, const char *key, uint32_t otherwise)
{
    const char *at = NULL, *end;
    char word[32];
    for (const char *p = strstr(prompt, "[fake "); p; p = strstr(p + 1, "[fake ")) at = p;
    if (!at || !(end = strchr(at, ']'))) return otherwise;
    snprintf(word, sizeof word, " %s=", key);
    const char *v = strstr(at, word);
    return v && v < end ? (uint32_t)strtoul(v + strlen(word), NULL, 10) : otherwise;
}

/* ---- text --------------------------------------------------------------------------------------------- */

/* What the real parsers of answers take for this engine's template. */
static char markers[] = "<tool_call> </tool_call> <think> </think>";

int loam_text_open(loam_text **out, const char *path, loam_err *err)
{
    (void)path;
    *out = calloc(1, sizeof **out);
    if (!*out) return loami_fail_nomem(err);
    (*out)->chat.text = markers;
    return 0;
}

void loam_text_close(loam_text *t)
{
    free(t);
}

int loam_encode(const loam_text *t, const char *text, size_t n, unsigned flags, int32_t **ids, loam_err *err)
{
    (void)t, (void)flags;
    *ids = malloc((n + 1) * sizeof **ids);
    if (!*ids) return loami_fail_nomem(err);
    for (size_t i = 0; i < n; i++) (*ids)[i] = (unsigned char)text[i];
    return (int)n;
}

int loam_decode(const loam_text *t, const int32_t *ids, size_t n, unsigned flags, char **text, size_t *len,
                loam_err *err)
{
    loami_buf b = { 0 };
    (void)t, (void)flags;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= VOCAB) {
            loami_buf_free(&b);
            return loami_fail(err, LOAM_E_ARG, "token %d is outside the vocabulary of %d", ids[i], VOCAB);
        }
        if (ids[i] != EOS) loami_buf_putc(&b, (char)ids[i]);
    }
    *text = loami_buf_take(&b, len);
    return 0;
}

int loam_token_bytes(const loam_text *t, int32_t id, char **bytes, size_t *len, loam_err *err)
{
    return loam_decode(t, &id, 1, 0, bytes, len, err);
}

int loam_chat_render(const loam_text *t, const char *vars_json, char **prompt, loam_err *err)
{
    json_t *vars, *m;
    size_t i;
    loami_buf b = { 0 };
    (void)t;
    int rc = loami_json_parse(&vars, vars_json, strlen(vars_json), "variables", err);
    if (rc < 0) return rc;
    if (json_object_get(vars, "complain")) {
        rc = loami_fail(err, LOAM_E_TEMPLATE, "%s", json_string_value(json_object_get(vars, "complain")));
        goto out;
    }
    json_array_foreach(json_object_get(vars, "messages"), i, m)
        loami_buf_printf(&b, "<%s>%s\n", json_string_value(json_object_get(m, "role")),
                         json_string_value(json_object_get(m, "content")));
    if (json_object_get(vars, "tools")) loami_buf_puts(&b, "<tools>");
    if (json_is_true(json_object_get(vars, "add_generation_prompt"))) loami_buf_puts(&b, "<assistant>");
    *prompt = loami_buf_take(&b, NULL);
out:
    json_decref(vars);
    return rc;
}

/* ---- engine ------------------------------------------------------------------------------------------- */

static void tell(loam_stream *s)
{
    if (!s->hungry || !s->on_ready) return;
    s->hungry = false;
    s->on_ready(s->arg);
}

static void finish(loam_stream *s, loam_finish why, int code, const char *msg)
{
    s->done = true;
    s->result.finish = why;
    s->result.code = code;
    snprintf(s->result.msg, sizeof s->result.msg, "%s", msg);
    tell(s);
}

/* Does what is due; returns when the next thing is. */
static double advance(loam_engine *e, loam_stream *s, double now)
{
    if (s->done) return 1e18;
    if (atomic_load(&s->cancelled)) {
        finish(s, LOAM_FINISH_CANCELLED, LOAM_E_CANCELLED, "cancelled");
        return 1e18;
    }
    if (s->deadline_s > 0 && now >= s->deadline_s) {
        e->timeouts++;
        finish(s, LOAM_FINISH_ERROR, LOAM_E_TIMEOUT, "the time that the request has is over");
        return 1e18;
    }
    double end_s = s->deadline_s > 0 ? s->deadline_s : 1e18;
    if (s->head - s->tail == RING) return end_s; /* the reader is behind: rest */
    if (now < s->next_s) return s->next_s < end_s ? s->next_s : end_s;
    if (s->fail_at && s->n_new == s->fail_at) {
        finish(s, LOAM_FINISH_ERROR, LOAM_E_MACHINE, "the machine failed");
        return 1e18;
    }
    if (s->n_new == s->max_new) {
        finish(s, s->says ? LOAM_FINISH_STOP : LOAM_FINISH_LENGTH, 0, "");
        return 1e18;
    }
    unsigned char c = s->echo ? (unsigned char)s->prompt[s->n_new]
                              : (unsigned char)("abcdefghij"[s->n_new % 10]);
    s->gap_s[s->head % RING] = s->n_new ? now - s->last_s : 0;
    s->last_s = now;
    if (s->n_new++ == 0) s->first_s = now;
    s->ring[s->head++ % RING] = c;
    e->new_tokens++;
    e->steps++;
    s->next_s = now + s->delay_ms * 1e-3;
    tell(s);
    return s->next_s;
}

static void free_stream(loam_stream *s)
{
    free(s->prompt);
    free(s);
}

static void free_job(loam_job *j)
{
    free(j->floats);
    free(j->ranks);
    free(j->top);
    free(j);
}

static double finish_job(loam_job *j, loam_finish why, int code, const char *msg)
{
    j->result.finish = why;
    j->result.code = code;
    j->result.failed = j->n_done;
    j->result.run_s = loami_now_s() - j->began_s;
    snprintf(j->result.msg, sizeof j->result.msg, "%s", msg);
    if (!j->closed && j->request.on_ready) j->request.on_ready(j->request.on_ready_arg);
    return 1e18;
}

/* The same for a job. */
static double advance_job(loam_engine *e, loam_job *j, double now)
{
    double next_s = j->began_s + (j->n_done + 1) * j->text_s;
    if (j->result.finish) return 1e18;
    if (j->cancelled || j->closed) return finish_job(j, LOAM_FINISH_CANCELLED, LOAM_E_CANCELLED, "cancelled");
    if (j->deadline_s > 0 && now >= j->deadline_s) {
        e->timeouts++;
        return finish_job(j, LOAM_FINISH_ERROR, LOAM_E_TIMEOUT, "the time that the request has is over");
    }
    for (; now >= next_s; next_s += j->text_s) {
        if (j->fail_at && j->n_done + 1 == j->fail_at) return finish_job(j, LOAM_FINISH_ERROR, LOAM_E_MACHINE, "the machine failed");
        e->steps++;
        if (++j->n_done == j->request.n_texts) {
            j->result.floats = j->floats;
            j->result.ranks = j->ranks;
            j->result.top = j->top;
            return finish_job(j, LOAM_FINISH_STOP, 0, "");
        }
    }
    return j->deadline_s > 0 && j->deadline_s < next_s ? j->deadline_s : next_s;
}

static void sleep_ms(long ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&t, NULL);
}

/* What a step that does not come back looks like: without the lock, and no heartbeat. */
static void hang(loam_engine *e)
{
    uint32_t ms = 0;
    for (loam_stream *s = e->streams; s && !ms; s = s->next) {
        ms = s->hang_ms;
        s->hang_ms = 0;
    }
    for (loam_job *j = e->jobs; j && !ms; j = j->next) {
        ms = j->hang_ms;
        j->hang_ms = 0;
    }
    if (!ms) return;
    e->step_since_s = loami_now_s();
    pthread_mutex_unlock(&e->lock);
    sleep_ms(ms);
    pthread_mutex_lock(&e->lock);
    e->step_since_s = 0;
}

static void beat(loam_engine *e, double now)
{
    loam_phase phase = LOAM_PHASE_IDLE;
    for (loam_stream *s = e->streams; s; s = s->next)
        if (!s->done && phase != LOAM_PHASE_PREFILL) phase = s->n_new ? LOAM_PHASE_DECODE : LOAM_PHASE_PREFILL;
    for (loam_job *j = e->jobs; j; j = j->next)
        if (!j->result.finish) phase = LOAM_PHASE_PREFILL;
    if (phase == e->phase && e->phase_since_s > 0) return;
    e->phase = phase;
    e->phase_since_s = now;
}

static void *engine(void *arg)
{
    loam_engine *e = arg;
    pthread_mutex_lock(&e->lock);
    while (!e->closing) {
        double now = loami_now_s(), next = 1e18;
        beat(e, now);              /* first: one that hangs says what it was about to do */
        hang(e);
        for (loam_stream **at = &e->streams; *at;) {
            loam_stream *s = *at;
            double due = advance(e, s, now);
            if (due < next) next = due;
            if (s->done && s->closed) {
                *at = s->next;
                free_stream(s);
            } else {
                at = &s->next;
            }
        }
        for (loam_job **at = &e->jobs; *at;) {
            loam_job *j = *at;
            double due = advance_job(e, j, now);
            if (due < next) next = due;
            if (j->result.finish && j->closed) {
                *at = j->next;
                free_job(j);
            } else {
                at = &j->next;
            }
        }
        beat(e, now);
        if (next == 1e18) {
            pthread_cond_wait(&e->change, &e->lock);
        } else if (next > now) {
            struct timespec t;
            clock_gettime(CLOCK_REALTIME, &t);
            double until = (double)t.tv_sec + (double)t.tv_nsec * 1e-9 + (next - now);
            t.tv_sec = (time_t)until;
            t.tv_nsec = (long)((until - (double)t.tv_sec) * 1e9);
            pthread_cond_timedwait(&e->change, &e->lock, &t);
        }
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* The number in a file of the model's folder; -1 without the file. */
static long long told(const char *folder, const char *name)
{
    char path[4200];
    long long n = -1;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    if (fscanf(f, "%lld", &n) != 1) n = 0;
    fclose(f);
    return n;
}

static int byte_token(const void *arg, int32_t id, char **bytes, size_t *n, bool *special)
{
    (void)arg, (void)special;
    *n = id < EOS;
    if (!(*bytes = calloc(1, 2))) return -1;
    (*bytes)[0] = (char)id;
    return 0;
}

int loam_engine_open(loam_engine **out, const loam_options *options, loam_err *err)
{
    const char *ms = getenv("LOAM_FAKE_LOAD_MS");
    long long own_ms = told(options->model, "load_ms"), bytes = told(options->model, "bytes");
    if (ms) sleep_ms(atol(ms));
    if (own_ms > 0) sleep_ms((long)own_ms);
    if (bytes > 0 && options->memory_bytes && (uint64_t)bytes > options->memory_bytes)
        return loami_fail(err, LOAM_E_NOMEM, "%s takes %lld bytes, %llu are left", options->model, bytes,
                          (unsigned long long)options->memory_bytes);
    if (getenv("LOAM_FAKE_LOAD_FAIL") || told(options->model, "fail") >= 0)
        return loami_fail(err, LOAM_E_FORMAT, "%s: not a model", options->model);
    loam_engine *e = calloc(1, sizeof *e);
    if (!e) return loami_fail_nomem(err);
    e->requests_max = (options->max_queued ? options->max_queued : 256) + (options->max_running ? options->max_running : 32);
    e->info = (loam_model_info){ .name = options->name,
                                 .path = options->model,
                                 .family = "fake",
                                 .substrate = "fake",
                                 .device = "fake",
                                 .vocab_tokens = VOCAB,
                                 .embed_dims = DIMS,
                                 .weight_bytes = bytes > 0 ? (uint64_t)bytes : 0,
                                 .parameters = 1000,
                                 .quant_mode = "affine",
                                 .quant_bits = 4,
                                 .quant_group = 64,
                                 .context_tokens = options->context_tokens ? options->context_tokens
                                                                           : CONTEXT };
    e->text.chat.text = markers;
    if (loami_vocab_open(&e->vocab, &(loami_vocab_source){ .n_tokens = VOCAB, .token = byte_token }, err) < 0) {
        free(e);
        return LOAM_E_NOMEM;
    }
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->change, NULL);
    pthread_create(&e->thread, NULL, engine, e);
    *out = e;
    return 0;
}

void loam_engine_close(loam_engine *e)
{
    if (!e) return;
    pthread_mutex_lock(&e->lock);
    e->closing = true;
    pthread_cond_broadcast(&e->change);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    while (e->streams) {
        loam_stream *s = e->streams;
        e->streams = s->next;
        free_stream(s);
    }
    while (e->jobs) {
        loam_job *j = e->jobs;
        e->jobs = j->next;
        free_job(j);
    }
    loami_vocab_close(e->vocab);
    free(e);
}

/* Grammars are compiled, so that what is wrong with them is said; what the fake answers does not keep to them. */
int loam_grammar_open(loam_grammar **out, loam_engine *e, loam_grammar_kind kind, const char *source, size_t n, loam_err *err)
{
    return loami_grammar_open(out, e->vocab, kind, source, n, err);
}

int loam_answer_grammar(loam_grammar **out, loam_engine *e, const loam_answer_form *form, loam_err *err)
{
    *out = NULL;
    return form->kind ? loam_grammar_open(out, e, form->kind, form->source, form->source_len, err) : 0;
}

void loam_grammar_close(loam_grammar *g)
{
    loami_grammar_unref(g);
}

const loam_text *loam_engine_text(const loam_engine *e)
{
    return &e->text;
}

const loam_model_info *loam_engine_info(const loam_engine *e)
{
    return &e->info;
}

void loam_engine_stat(const loam_engine *e, loam_engine_state *out)
{
    loam_engine *shared = (loam_engine *)e;
    pthread_mutex_lock(&shared->lock);
    double now = loami_now_s();
    *out = (loam_engine_state){ .prompt_tokens = e->prompt_tokens,
                                .prompt_tokens_read = e->prompt_tokens,
                                .new_tokens = e->new_tokens,
                                .weight_bytes = e->info.weight_bytes,
                                .phase = e->phase,
                                .phase_s = e->phase_since_s > 0 ? now - e->phase_since_s : 0,
                                .step_s = e->step_since_s > 0 ? now - e->step_since_s : 0,
                                .steps = e->steps,
                                .timeouts = e->timeouts,
                                .requests_max = e->requests_max,
                                .retry_s = e->retry_s };
    for (loam_stream *s = e->streams; s; s = s->next) out->running += !s->done;
    for (loam_job *j = e->jobs; j; j = j->next) out->running += !j->result.finish;
    pthread_mutex_unlock(&shared->lock);
}

int loam_logits(loam_engine *e, const int32_t *tokens, uint32_t n, float *logits, loam_err *err)
{
    (void)e, (void)tokens, (void)n, (void)logits;
    return loami_fail(err, LOAM_E_UNSUPPORTED, "the fake engine has no logits");
}

int loam_score(loam_engine *e, const int32_t *tokens, uint32_t n, float *logprobs, loam_err *err)
{
    return loam_logits(e, tokens, n, logprobs, err);
}

/* ---- jobs --------------------------------------------------------------------------------------------- */

/* How many of its tokens leave each remainder, scaled; of the last one alone for LAST. */
static void embed(float *out, const loam_tokens *t, loam_pooling pooling)
{
    float sum = 0;
    for (uint32_t k = pooling == LOAM_POOL_LAST ? t->n - 1 : 0; k < t->n; k++) out[t->ids[k] % DIMS] += 1;
    for (int k = 0; k < DIMS; k++) sum += out[k] * out[k];
    for (int k = 0; k < DIMS; k++) out[k] /= sqrtf(sum);
}

/* Every token is the second likeliest; 'a', 'b', ... are the likeliest. */
static bool make_results(loam_job *j)
{
    const loam_job_request *r = &j->request;
    size_t n = 0;
    for (uint32_t i = 0; i < r->n_texts; i++) n += r->texts[i].n;
    j->floats = calloc(n + (size_t)r->n_texts * DIMS, sizeof *j->floats);
    j->ranks = r->want_ranks ? calloc(n, sizeof *j->ranks) : NULL;
    j->top = r->n_top ? calloc(n * r->n_top, sizeof *j->top) : NULL;
    if (!j->floats || (r->want_ranks && !j->ranks) || (r->n_top && !j->top)) return false;
    for (uint32_t i = 0; r->kind == LOAM_JOB_EMBED && i < r->n_texts; i++) embed(j->floats + (size_t)i * DIMS, &r->texts[i], r->pooling);
    for (size_t i = 0; r->kind == LOAM_JOB_SCORE && i < n; i++) {
        j->floats[i] = -1;
        if (j->ranks) j->ranks[i] = 2;
        for (uint32_t k = 0; k < r->n_top; k++) j->top[i * r->n_top + k] = (loam_logprob){ 'a' + (int32_t)k, -0.5f - (float)k };
    }
    return true;
}

/* The options are those of the first text. */
static void command(loam_job *j, uint32_t *busy)
{
    const loam_tokens *t = &j->request.texts[0];
    char *text = malloc(t->n + 1);
    for (uint32_t i = 0; text && i < t->n; i++) text[i] = (char)t->ids[i];
    if (!text) return;
    text[t->n] = 0;
    *busy = option(text, "busy", 0);
    j->text_s = option(text, "prefill", 0) * 1e-3 + 1e-9;
    j->fail_at = option(text, "fail", 0);
    j->hang_ms = option(text, "hang", 0);
    free(text);
}

int loam_job_begin(loam_engine *e, loam_job **out, const loam_job_request *r, uint32_t *failed, loam_err *err)
{
    uint32_t busy = 0;
    for (uint32_t i = 0; i < r->n_texts; i++) {
        if (r->texts[i].n <= e->info.context_tokens) continue;
        if (failed) *failed = i;
        return loami_fail(err, LOAM_E_TOO_LONG, "%u tokens, the context takes %u", r->texts[i].n, e->info.context_tokens);
    }
    loam_job *j = calloc(1, sizeof *j);
    if (!j) return loami_fail_nomem(err);
    j->engine = e;
    j->request = *r;
    j->began_s = loami_now_s();
    if (r->timeout_ms) j->deadline_s = j->began_s + r->timeout_ms * 1e-3;
    command(j, &busy);
    bool made = make_results(j);
    pthread_mutex_lock(&e->lock);
    if (busy) e->retry_s = busy;
    if (made && !busy) {
        for (uint32_t i = 0; i < r->n_texts; i++) e->prompt_tokens += r->texts[i].n;
        j->next = e->jobs;
        e->jobs = *out = j;
        pthread_cond_broadcast(&e->change);
    }
    pthread_mutex_unlock(&e->lock);
    if (made && !busy) return 0;
    free_job(j);
    return busy ? loami_fail(err, LOAM_E_BUSY, "the queue is full") : loami_fail_nomem(err);
}

int loam_job_poll(loam_job *j, uint32_t wait_ms)
{
    (void)wait_ms; /* the server never waits */
    pthread_mutex_lock(&j->engine->lock);
    int rc = j->result.finish ? 0 : LOAM_E_TIMEOUT;
    pthread_mutex_unlock(&j->engine->lock);
    return rc;
}

static void mark(loam_job *j, bool *flag)
{
    loam_engine *e = j->engine;
    pthread_mutex_lock(&e->lock);
    *flag = true;
    pthread_cond_broadcast(&e->change);
    pthread_mutex_unlock(&e->lock);
}

void loam_job_cancel(loam_job *j)
{
    mark(j, &j->cancelled);
}

void loam_job_result(const loam_job *j, loam_outcome *out)
{
    pthread_mutex_lock(&j->engine->lock);
    *out = j->result;
    pthread_mutex_unlock(&j->engine->lock);
}

void loam_job_close(loam_job *j)
{
    if (j) mark(j, &j->closed);
}

/* ---- streams ------------------------------------------------------------------------------------------ */

/* Leaves of the prompt's text what the answer shall be: from the last command to the end of its message. */
static bool say(loam_stream *s)
{
    char *from = s->prompt, *end;
    if (!option(s->prompt, "say", 0)) return false;
    for (char *p = strstr(from, "[fake "); p; p = strstr(p + 1, "[fake ")) from = p;
    from = strchr(from, ']') + 1;
    end = strstr(from, "\n<");
    if (end) *end = 0;
    memmove(s->prompt, from, strlen(from) + 1);
    return true;
}

static int try_connect(const char *port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_STREAM, 0), why;
    if (fd < 0) return errno;
    why = connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ? errno : 0;
    close(fd);
    return why;
}

static int try_exec(const char *path)
{
    char *argv[] = { (char *)path, NULL };
    pid_t child;
    int why = posix_spawn(&child, path, NULL, NULL, argv, argv + 1);
    if (!why) waitpid(child, NULL, 0);
    return why;
}

static int try_open(const char *path, int how)
{
    int fd = open(path, how, 0600);
    if (fd < 0) return errno;
    close(fd);
    return 0;
}

/* The prompt becomes the outcome: an error's words, or "done". */
static bool attempt(loam_stream *s)
{
    char word[16] = "", arg[400] = "", *to = s->prompt;
    if (!option(s->prompt, "try", 0)) return false;
    for (char *p = strstr(to, "[fake "); p; p = strstr(p + 1, "[fake ")) to = p;
    if (sscanf(strchr(to, ']') + 1, "%15s %399s", word, arg) != 2) return false;
    int why = strcmp(word, "open") == 0      ? try_open(arg, O_RDONLY)
              : strcmp(word, "write") == 0   ? try_open(arg, O_WRONLY | O_CREAT)
              : strcmp(word, "connect") == 0 ? try_connect(arg)
              : strcmp(word, "exec") == 0    ? try_exec(arg)
                                             : EINVAL;
    free(s->prompt);
    s->prompt = strdup(why ? strerror(why) : "done");
    return s->prompt != NULL;
}

int loam_submit(loam_engine *e, loam_stream **out, const loam_request *r, loam_err *err)
{
    if (r->n_tokens >= e->info.context_tokens)
        return loami_fail(err, LOAM_E_TOO_LONG, "the prompt has %u tokens, the context takes %u at most",
                          r->n_tokens, e->info.context_tokens - 1);
    loam_stream *s = calloc(1, sizeof *s);
    if (!s || !(s->prompt = malloc(r->n_tokens + 1))) {
        free(s);
        return loami_fail_nomem(err);
    }
    for (uint32_t i = 0; i < r->n_tokens; i++) s->prompt[i] = (char)r->tokens[i];
    s->prompt[r->n_tokens] = 0;
    uint32_t busy = option(s->prompt, "busy", 0);
    if (busy) {
        pthread_mutex_lock(&e->lock);
        e->retry_s = busy;
        pthread_mutex_unlock(&e->lock);
        free_stream(s);
        return loami_fail(err, LOAM_E_BUSY, "the queue is full");
    }
    s->engine = e;
    s->on_ready = r->on_ready;
    s->arg = r->on_ready_arg;
    s->hungry = true;
    s->n_prompt = r->n_tokens;
    s->delay_ms = option(s->prompt, "delay", 0);
    s->fail_at = option(s->prompt, "fail", 0);
    s->max_new = option(s->prompt, "tokens", 8);
    double prefill_s = option(s->prompt, "prefill", 0) * 1e-3;
    s->says = say(s);
    s->echo = s->says || option(s->prompt, "echo", 0) || attempt(s);
    if (s->echo) s->max_new = (uint32_t)strlen(s->prompt);
    if (r->max_new && r->max_new < s->max_new) {
        s->max_new = r->max_new;
        s->says = false;
    }
    s->want_logprobs = r->want_logprobs;
    s->n_logprobs = r->n_logprobs;
    s->hang_ms = option(s->prompt, "hang", 0);
    s->submitted_s = loami_now_s();
    if (r->timeout_ms) s->deadline_s = s->submitted_s + r->timeout_ms * 1e-3;
    s->next_s = s->submitted_s + prefill_s;
    pthread_mutex_lock(&e->lock);
    e->prompt_tokens += s->n_prompt;
    s->next = e->streams;
    e->streams = s;
    pthread_cond_broadcast(&e->change);
    pthread_mutex_unlock(&e->lock);
    *out = s;
    return 0;
}

int loam_stream_next(loam_stream *s, loam_token *out, uint32_t wait_ms)
{
    loam_engine *e = s->engine;
    int rc = LOAM_E_TIMEOUT;
    (void)wait_ms; /* the server never waits */
    pthread_mutex_lock(&e->lock);
    if (s->head != s->tail) {
        if (s->head - s->tail == RING) pthread_cond_broadcast(&e->change);
        double gap_s = s->gap_s[s->tail % RING];
        s->text[0] = (char)s->ring[s->tail++ % RING];
        s->n_read++;
        for (uint32_t i = 0; i < s->n_logprobs; i++)
            s->top[i] = (loam_logprob){ 'a' + (int32_t)i, -0.5f - (float)i };
        *out = (loam_token){ .id = (unsigned char)s->text[0],
                             .text = s->text,
                             .text_len = 1,
                             .logprob = -0.5f,
                             .gap_s = gap_s,
                             .top = s->top,
                             .n_top = s->n_logprobs };
        rc = 1;
    } else if (s->done) {
        rc = 0;
    } else {
        s->hungry = true;
    }
    pthread_mutex_unlock(&e->lock);
    return rc;
}

void loam_stream_cancel(loam_stream *s)
{
    atomic_store(&s->cancelled, true);
    pthread_mutex_lock(&s->engine->lock);
    pthread_cond_broadcast(&s->engine->change);
    pthread_mutex_unlock(&s->engine->lock);
}

void loam_stream_result(const loam_stream *s, loam_result *out)
{
    pthread_mutex_lock(&s->engine->lock);
    *out = s->result;
    out->prompt_tokens = s->n_prompt;
    out->new_tokens = s->n_read;
    if (s->first_s > 0) {
        out->prefill_s = s->first_s - s->submitted_s;
        out->decode_s = s->last_s - s->first_s;
    }
    pthread_mutex_unlock(&s->engine->lock);
}

void loam_stream_close(loam_stream *s)
{
    if (!s) return;
    loam_engine *e = s->engine;
    pthread_mutex_lock(&e->lock);
    s->on_ready = NULL;
    s->closed = true;
    atomic_store(&s->cancelled, true);
    pthread_cond_broadcast(&e->change);
    pthread_mutex_unlock(&e->lock);
}
