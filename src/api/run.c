#include "api/run.h"

#include "api/errand.h"
#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    KEEP_ALIVE_S = 15,  /* proxies give up on a silent stream after 30 to 60 */
    TOKENS_A_TURN = 64, /* of one answer; then the loop looks at its other sockets */
};

/* ---- what the endpoints share ------------------------------------------------------------------------- */

loam_err loami_end_err(int code, const char *msg)
{
    loam_err err = { .code = code ? code : LOAM_E_CANCELLED };
    snprintf(err.msg, sizeof err.msg, "%s", err.code == LOAM_E_CANCELLED ? "The server is shutting down." : msg);
    return err;
}

int loami_fault_busy(loami_fault *f, const loami_served *s, const char *msg)
{
    loam_engine_state e = { 0 };
    loami_fault_set(f, 429, "queue_full", "", "%s", msg);
    if (s) loam_engine_stat(s->engine, &e);
    f->retry_s = e.retry_s < 1 ? 1 : e.retry_s > 3600 ? 3600 : (uint32_t)ceil(e.retry_s);
    return -1;
}

int loami_fault_from(loami_fault *f, const loam_err *err, const char *param)
{
    static const struct {
        int code, status;
        const char *name;
        bool blames; /* the client's field */
    } table[] = {
        { LOAM_E_ARG, 400, "invalid_value", true },
        { LOAM_E_FORMAT, 400, "invalid_value", true },
        { LOAM_E_UNSUPPORTED, 400, "unsupported_parameter", true },
        { LOAM_E_NOT_FOUND, 404, "not_found", false },
        { LOAM_E_BUSY, 429, "queue_full", false },
        { LOAM_E_TOO_LONG, 400, "context_length_exceeded", true },
        { LOAM_E_TEMPLATE, 400, "template_error", true },
        { LOAM_E_NOMEM, 503, "out_of_memory", false },
        { LOAM_E_CANCELLED, 503, "shutting_down", false },
        { LOAM_E_TIMEOUT, 408, "timeout", false },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].code == err->code)
            return loami_fault_set(f, table[i].status, table[i].name, table[i].blames ? param : "", "%s",
                                   err->msg);
    return loami_fault_set(f, 500, "engine_failed", "", "%s", err->msg);
}

const char *loami_finish_name(const loami_choice *c)
{
    if (c->result.finish == LOAM_FINISH_LENGTH) return "length";
    return c->n_calls ? "tool_calls" : "stop";
}

void loami_put_usage(loami_buf *out, const loami_run *run)
{
    loami_counts n = loami_run_counts(run);
    loami_buf_printf(out,
                     "{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"total_tokens\":%llu,\"prompt_"
                     "tokens_details\":{\"cached_tokens\":%llu}}",
                     (unsigned long long)n.prompt, (unsigned long long)n.new, (unsigned long long)(n.prompt + n.new),
                     (unsigned long long)n.cached);
}

bool loami_run_prompts(loami_run *run, uint32_t n)
{
    run->prompts = calloc(n, sizeof *run->prompts);
    run->n_prompts = run->prompts ? n : 0;
    return run->prompts;
}

void loami_run_forget_request(loami_run *run)
{
    loam_job_close(run->scoring); /* first: what it reads is freed next */
    free(run->texts);
    for (uint32_t i = 0; i < run->n_prompts; i++) {
        loami_prompt *p = &run->prompts[i];
        free(p->ids);
        free(p->text);
        free(p->echo);
    }
    if (run->request) loami_params_free(run->request);
    free(run->request);
    free(run->prompts);
    free(run->tools);
    loam_grammar_close(run->grammar);
}

/* ---- the end ------------------------------------------------------------------------------------------ */

static void run_free(loami_run *run)
{
    LIST_REMOVE(run, next);
    for (uint32_t i = 0; i < run->n_choices; i++) {
        loami_choice *c = &run->choices[i];
        loam_stream_close(c->stream);
        loam_parser_close(c->parser);
        for (uint32_t k = 0; k < c->n_calls; k++) {
            loami_buf_free(&c->calls[k].name);
            loami_buf_free(&c->calls[k].arguments);
        }
        free(c->calls);
        loami_buf_free(&c->text);
        loami_buf_free(&c->reasoning);
        loami_buf_free(&c->ids);
        for (int k = 0; k < 4; k++) loami_buf_free(&c->logprobs[k]);
    }
    loami_loop_unpost(run->api->loop, &run->ready);
    loami_timer_clear(&run->keep_alive);
    loami_run_forget_request(run);
    free(run->choices);
    loami_buf_free(&run->out);
    loami_hold_drop(&run->hold);
    free(run);
}

static void end_gone(loami_run *run)
{
    for (uint32_t i = 0; i < run->n_choices; i++) {
        loami_choice *c = &run->choices[i];
        if (c->stream && !c->done) loam_stream_result(c->stream, &c->result);
    }
    loami_run_account(run, LOAMI_ENDED_ABORT, "gone");
    loami_reply_end(run->reply);
    run_free(run);
}

/* Says what went wrong, in the way that is still open. */
static void end_failed(loami_run *run)
{
    loami_run_account(run, LOAMI_ENDED_ERROR, "error");
    if (run->started) {
        loami_buf_clear(&run->out);
        loami_buf_puts(&run->out, "data: ");
        loami_fault_json(&run->out, &run->fault);
        loami_buf_puts(&run->out, "\n\ndata: [DONE]\n\n");
        loami_reply_write(run->reply, run->out.data, run->out.len);
        loami_reply_end(run->reply);
    } else {
        loami_reply_fail(run->reply, &run->fault);
    }
    run_free(run);
}

static void end_well(loami_run *run)
{
    const char *finish = loami_finish_name(&run->choices[0]);
    bool length = run->choices[0].result.finish == LOAM_FINISH_LENGTH;
    loami_run_account(run, length ? LOAMI_ENDED_LENGTH : LOAMI_ENDED_STOP, finish);
    if (run->started) {
        run->shape->end(run);
        loami_buf_puts(&run->out, "data: [DONE]\n\n");
        loami_reply_write(run->reply, run->out.data, run->out.len);
        loami_reply_end(run->reply);
    } else {
        run->shape->whole(run);
        loami_reply_send(run->reply, 200, "application/json", run->out.data, run->out.len);
    }
    run_free(run);
}

void loami_run_abandon_all(loami_api *a)
{
    while (!LIST_EMPTY(&a->runs)) {
        loami_run *run = LIST_FIRST(&a->runs);
        loami_reply_end(run->reply);
        run_free(run);
    }
}

static void fail_waiting(void *arg, const loami_fault *f)
{
    loami_run *run = arg;
    run->fault = *f;
    end_failed(run);
}

static void cancel(loami_run *run)
{
    if (run->scoring) loam_job_cancel(run->scoring);
    for (uint32_t i = 0; i < run->n_choices; i++)
        if (run->choices[i].stream) loam_stream_cancel(run->choices[i].stream);
}

void loami_api_cancel_all(loami_api *a)
{
    loami_run *next;
    loami_fault f;
    loami_fault_set(&f, 503, "shutting_down", "", "The server is shutting down.");
    a->ending = true;
    loami_errand_cancel_all(a, &f);
    for (loami_run *run = LIST_FIRST(&a->runs); run; run = next) {
        next = LIST_NEXT(run, next);
        if (loami_hold_waits(&run->hold)) {
            fail_waiting(run, &f);
            continue;
        }
        if (run->live) cancel(run); /* otherwise when it is back from its worker */
    }
}

/* ---- tokens ------------------------------------------------------------------------------------------- */

/* Nine letters and digits: some templates take no other ids. */
static void make_id(loami_run *run, char *id)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
    uint64_t x = (run->api->id_salt ^ ++run->api->n_calls) * 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    for (int i = 0; i < 9; i++, x >>= 5) id[i] = letters[x >> 7 & 31];
    id[9] = 0;
}

static bool add_call(loami_choice *c, const loam_part *p)
{
    loami_call *calls = realloc(c->calls, (c->n_calls + 1) * sizeof *calls);
    if (!calls) return false;
    c->calls = calls;
    loami_call *call = &calls[c->n_calls++];
    *call = (loami_call){ 0 };
    if (p->id && p->id[0] && strlen(p->id) < sizeof call->id)
        snprintf(call->id, sizeof call->id, "%s", p->id);
    else
        make_id(c->run, call->id);
    return true;
}

static void fail_nomem(loami_run *run)
{
    run->failed = true;
    loami_fault_set(&run->fault, 503, "out_of_memory", "", "Out of memory.");
}

static void keep(loami_choice *c, const loam_part *p)
{
    loami_call *call = c->n_calls ? &c->calls[c->n_calls - 1] : NULL;
    switch (p->kind) {
    case LOAM_PART_TEXT: loami_buf_put(&c->text, p->text, p->text_len); break;
    case LOAM_PART_REASONING: loami_buf_put(&c->reasoning, p->text, p->text_len); break;
    case LOAM_PART_CALL: loami_buf_put(&call->name, p->text, p->text_len); break;
    case LOAM_PART_ARGUMENTS: loami_buf_put(&call->arguments, p->text, p->text_len); break;
    case LOAM_PART_CALL_END: break;
    }
}

/* One part of an answer, from its parser. */
static void on_part(void *arg, const loam_part *p)
{
    loami_choice *c = arg;
    loami_run *run = c->run;
    if (c->cut || run->failed || (p->kind == LOAM_PART_REASONING && run->hide_reasoning)) return;
    if (p->kind == LOAM_PART_CALL) {
        if (run->one_call && c->n_calls) {
            c->cut = true;
            if (c->stream) loam_stream_cancel(c->stream);
            return;
        }
        if (!add_call(c, p)) {
            fail_nomem(run);
            return;
        }
    }
    if (p->kind == LOAM_PART_TEXT)
        for (size_t i = 0; i < p->text_len; i++) c->n_chars += ((unsigned char)p->text[i] & 0xc0) != 0x80;
    if (!run->started) {
        keep(c, p);
        return;
    }
    if (p->kind == LOAM_PART_CALL_END) return;
    run->shape->part(run, c, p);
    loami_buf_clear(&c->ids);
    for (int k = 0; k < 4; k++) loami_buf_clear(&c->logprobs[k]);
}

static void take(loami_run *run, loami_choice *c, const loam_token *t)
{
    if (c->cut) return;
    if (t->id >= 0) {
        loami_run_account_token(c, t);
        c->n_tokens++;
        if (run->request->want_logprobs) run->shape->logprob(run, c, t);
        if (run->request->return_token_ids)
            loami_buf_printf(&c->ids, "%s%d", c->ids.len ? "," : "", (int)t->id);
    }
    if (!t->text_len) return;
    if (!c->parser)
        on_part(c, &(loam_part){ .kind = LOAM_PART_TEXT, .text = t->text, .text_len = t->text_len });
    else if (loam_parser_put(c->parser, t->text, t->text_len, NULL) < 0)
        fail_nomem(run);
}

static void fail_by(loami_run *run, int code, const char *msg)
{
    loam_err err = loami_end_err(code, msg);
    run->failed = true;
    loami_fault_from(&run->fault, &err, run->shape->prompt_field);
}

static void take_end(loami_run *run, loami_choice *c)
{
    loam_stream_result(c->stream, &c->result);
    loam_stream_close(c->stream);
    c->stream = NULL;
    if (c->parser && loam_parser_end(c->parser, NULL) < 0) fail_nomem(run);
    if (c->cut) c->result.finish = LOAM_FINISH_STOP;
    c->done = true;
    run->n_done++;
    if (c->result.finish == LOAM_FINISH_ERROR || c->result.finish == LOAM_FINISH_CANCELLED) {
        fail_by(run, c->result.code, c->result.msg);
    } else if (run->started) {
        run->shape->finish(run, c);
    }
}

static void flush(loami_run *run)
{
    if (!run->out.len || !run->started) return;
    run->paused = !loami_reply_write(run->reply, run->out.data, run->out.len);
    run->written_s = loami_now_s();
    loami_buf_clear(&run->out);
}

static void submit_scored(void *arg);

/* The prompts' log-probabilities are there, or will never be; answers come next, by way of a worker. */
static void take_scores(loami_run *run)
{
    loam_outcome r;
    if (loam_job_poll(run->scoring, 0) < 0) return;
    loam_job_result(run->scoring, &r);
    run->unscored = false;
    if (r.finish != LOAM_FINISH_STOP) {
        fail_by(run, r.code, r.msg);
        end_failed(run);
        return;
    }
    loami_score_take(run, &r);
    run->live = false;
    run->task.work = submit_scored;
    run->task.again = true;
    loami_workers_run(run->api->workers, &run->task);
}

/* Takes what the engine has, and no more than the client reads. */
static void pump(void *arg)
{
    loami_run *run = arg;
    loam_token t;
    if (!run->live) return;
    if (run->unscored) {
        take_scores(run);
        return;
    }
    for (uint32_t i = 0; i < run->n_choices && !run->failed; i++) {
        loami_choice *c = &run->choices[i];
        for (int taken = 0; !c->done && !run->paused && !run->failed; taken++) {
            if (taken == TOKENS_A_TURN) { /* the others first */
                loami_loop_post(run->api->loop, &run->ready);
                break;
            }
            int rc = loam_stream_next(c->stream, &t, 0);
            if (rc < 0) break;
            if (rc > 0)
                take(run, c, &t);
            else
                take_end(run, c);
        }
        flush(run);
    }
    if (run->failed)
        end_failed(run);
    else if (run->n_done == run->n_choices)
        end_well(run);
}

static void on_ready(void *arg) /* on the engine's thread */
{
    loami_run *run = arg;
    loami_loop_post(run->api->loop, &run->ready);
}

static void on_drained(void *arg)
{
    loami_run *run = arg;
    run->paused = false;
    pump(run);
}

static void on_gone(void *arg)
{
    loami_run *run = arg;
    atomic_store(&run->gone, true);
    if (run->live || loami_hold_waits(&run->hold)) end_gone(run); /* otherwise a worker still has it */
}

static void on_keep_alive(void *arg);

static uint32_t keep_alive_s(const loami_run *run)
{
    uint32_t s = run->api->config.keep_alive_s;
    return s ? s : KEEP_ALIVE_S;
}

/* Sleeps until the stream will have been silent for long enough. */
static void set_keep_alive(loami_run *run)
{
    double left = run->written_s + keep_alive_s(run) - loami_now_s();
    loami_timer_set(run->api->loop, &run->keep_alive, left > 0 ? left : 0, on_keep_alive, run);
}

static void on_keep_alive(void *arg)
{
    static const char comment[] = ": keep-alive\n\n";
    loami_run *run = arg;
    if (loami_now_s() - run->written_s >= keep_alive_s(run) - 0.01) {
        if (!run->paused) run->paused = !loami_reply_write(run->reply, comment, sizeof comment - 1);
        run->written_s = loami_now_s();
    }
    set_keep_alive(run);
}

/* ---- the beginning ------------------------------------------------------------------------------------ */

/* More at once than the engine ever has places for would be told to come again for ever. */
static int check_places(const loami_run *run, loami_fault *f)
{
    loam_engine_state e;
    uint32_t n = run->n_prompts * run->request->n;
    if (n == 1) return 0;
    loam_engine_stat(run->hold.served->engine, &e);
    if (n <= e.requests_max) return 0;
    return loami_fault_set(f, 400, "too_many_choices", run->request->n > 1 ? "n" : run->shape->prompt_field,
                           "The request asks for %u answers at once, and there are places for %u (--max-running and --max-queued "
                           "together): ask for fewer, or in several requests.", n, e.requests_max);
}

static int submit(loami_run *run, loami_fault *f)
{
    loam_request request;
    loam_err err;
    uint32_t n = run->request->n;

    loami_params_request(run->request, run->api->config.max_tokens, &request);
    if (run->parsed && loam_parser_wants_special(run->hold.served->text, run->tools)) request.keep_special = true;
    request.grammar = run->grammar;
    request.on_ready = on_ready;
    request.on_ready_arg = run;
    request.client = run->client;
    request.cache_salt ^= run->salt;
    request.timeout_ms = loami_deadline_ms(run->deadline_s);
    run->choices = calloc((size_t)run->n_prompts * n, sizeof *run->choices);
    if (!run->choices) return loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
    for (uint32_t i = 0; i < run->n_prompts * n; i++) {
        loami_choice *c = &run->choices[i];
        c->run = run;
        c->index = i;
        c->prompt = &run->prompts[i / n];
        request.tokens = c->prompt->ids;
        request.n_tokens = c->prompt->n;
        request.more = i + 1 < run->n_prompts * n; /* begun together, the same request with the same seed gives the same answers */
        run->n_choices++;
        if (run->parsed &&
            loam_parser_open(&c->parser, run->hold.served->text, c->prompt->text, run->tools, on_part, c, &err) < 0)
            return loami_fault_from(f, &err, "tools");
        if (loam_submit(run->hold.served->engine, &c->stream, &request, &err) < 0)
            return err.code == LOAM_E_BUSY ? loami_fault_busy(f, run->hold.served, err.msg)
                                           : loami_fault_from(f, &err, run->shape->prompt_field);
        request.how.seed++; /* the answers to one request differ, and the same request gives the same ones */
    }
    json_decref(run->hold.body); /* the engine has copies */
    run->hold.body = NULL;
    loami_reply_body_done(run->reply);
    return 0;
}

static void prepare(void *arg) /* on a worker */
{
    loami_run *run = arg;
    run->failed = true;
    if (atomic_load(&run->gone)) return;
    int rc = loami_hold_take(&run->hold, &run->api->models, run->reply, &run->fault);
    if (rc >= 0) run->deadline_s = loami_deadline(run->api, run->hold.body, run->header_s, run->arrived_s);
    if (rc == 0) rc = run->shape->parse(run, run->hold.body, &run->fault);
    if (rc == 0) rc = check_places(run, &run->fault);
    if (rc == 0 && atomic_load(&run->gone)) rc = -1;
    run->unscored = rc == 0 && run->request->score_prompt;
    if (rc == 0) rc = run->unscored ? loami_score_begin(run, on_ready, &run->fault) : submit(run, &run->fault);
    run->failed = rc < 0;
}

static void submit_scored(void *arg) /* on a worker */
{
    loami_run *run = arg;
    run->failed = atomic_load(&run->gone) || submit(run, &run->fault) < 0;
}

static void begin_stream(loami_run *run)
{
    loami_reply_set(run->reply, "Cache-Control", "no-cache");
    loami_reply_set(run->reply, "X-Accel-Buffering", "no");
    loami_reply_start(run->reply, 200, "text/event-stream; charset=utf-8");
    run->started = true;
    run->shape->begin(run);
    flush(run);
    set_keep_alive(run);
}

static void prepared(void *arg)
{
    loami_run *run = arg;
    run->live = true;
    if (atomic_load(&run->gone)) {
        end_gone(run);
        return;
    }
    if (!run->failed && run->hold.wanted) {
        run->live = false; /* a worker gets it again, when the model is loaded; perhaps others have to go before */
        if (loami_hold_wait(&run->hold, run->api->workers, &run->task, run->deadline_s, fail_waiting, run, &run->fault) < 0) end_failed(run);
        return;
    }
    if (run->failed) {
        end_failed(run);
        return;
    }
    if (run->api->ending) cancel(run);
    if (run->request->stream && !run->unscored) begin_stream(run);
    pump(run);
}

void loami_run_open(loami_api *a, loami_reply *r, const loami_shape *shape)
{
    loami_fault f;
    loami_run *run = NULL;

    double header_s;
    if (loami_api_check_ready(a, &f) < 0 || loami_header_timeout(r, &header_s, &f) < 0) goto fail;
    run = calloc(1, sizeof *run);
    if (run) run->request = calloc(1, shape->request_size);
    if (!run || !run->request) {
        free(run);
        run = NULL;
        loami_fault_set(&f, 503, "out_of_memory", "", "Out of memory.");
        goto fail;
    }
    run->api = a;
    run->reply = r;
    run->shape = shape;
    run->created_s = (int64_t)time(NULL);
    run->arrived_s = loami_reply_start_s(r);
    run->header_s = header_s;
    run->client = loami_reply_client(r);
    run->salt = loami_reply_key_number(r);
    snprintf(run->id, sizeof run->id, "%s%016llx", shape->id_prefix,
             (unsigned long long)(a->id_salt + ++a->n_runs * 0x9e3779b97f4a7c15u));
    run->request->n = 1;
    run->request->how = a->config.sampling;
    run->ready = (loami_post){ .run = pump, .arg = run };
    run->task = (loami_task){ .work = prepare, .done = prepared, .arg = run };
    atomic_init(&run->gone, false);
    LIST_INSERT_HEAD(&a->runs, run, next);
    loami_api_watch(a);
    loami_reply_watch(r, on_gone, on_drained, run);
    if (loami_workers_run(a->workers, &run->task)) return;
    loami_fault_busy(&f, NULL, "The server has too many requests waiting. Try again later.");
fail:
    loami_reply_fail(r, &f);
    if (run) run_free(run);
}
