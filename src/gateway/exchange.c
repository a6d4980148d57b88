#include "gateway/shift.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const double GUESS_TURN = 0.05; /* how fast the guess of an answer's length follows */

/* ---- the end ------------------------------------------------------------------------------------- */

static void drop_attempts(loami_exchange *x)
{
    for (int i = 0; i < 2; i++)
        if (x->attempt[i]) loami_attempt_cancel(x->attempt[i]);
}

/* A backend that answered 5xx where another one could do it is at fault; if none could, the request is. */
static void blame(loami_exchange *x, bool answered)
{
    for (uint32_t i = 0; i < x->n_tried; i++) {
        if (answered && x->suspect[i])
            loami_health_failed(x->tried[i], LOAMI_FAIL_STATUS, false,
                                "it answered 5xx where another backend answered");
        loami_backend_unref(x->tried[i]);
    }
    x->n_tried = 0;
}

static void settle_accounts(loami_exchange *x, int status)
{
    loami_gateway *gw = x->gw;
    bool guessed = x->answer_tokens == 0 && x->prompt_tokens == 0;
    uint64_t answer = guessed ? x->n_tokens : x->answer_tokens,
             prompt = guessed && x->speaker ? (uint64_t)x->facts.prompt_cost : x->prompt_tokens;
    double total = loami_now_s() - x->start_s;

    if (x->key) loami_gw_keys_charge(x->key, x->facts.wish.cost, prompt + answer);
    if (status / 100 >= 0 && status / 100 < 6) gw->answers[status / 100]++;
    if (x->speaker && status == 200) {
        loami_backend_numbers *n = &x->speaker->backend->numbers;
        n->prompt_tokens += prompt;
        n->answer_tokens += answer;
        loami_hist_add(&n->e2e, loami_hist_e2e, total);
        if (x->facts.messages.at || x->facts.prompt.at)
            gw->answer_guess += GUESS_TURN * ((double)answer - gw->answer_guess);
    }
    if (!gw->ledger || !x->pool) return;
    loami_ledger_row row = { .at_s = time(NULL),
                             .key = x->key ? x->key->name : "",
                             .backend = x->backend ? x->backend : "",
                             .pool = x->pool ? x->pool->name : "",
                             .status = status,
                             .prompt_tokens = prompt,
                             .answer_tokens = answer,
                             .guessed = guessed,
                             .ttft_s = x->first_s ? x->first_s - x->start_s : 0,
                             .total_s = total };
    snprintf(row.model, sizeof row.model, "%s",
             x->facts.name    ? x->facts.name
             : x->facts.asked ? x->facts.asked
                              : "");
    snprintf(row.request, sizeof row.request, "%s", loami_reply_id(x->reply));
    loami_ledger_add(gw->ledger, &row);
}

static void write_notes(loami_exchange *x)
{
    loami_reply *r = x->reply;
    if (x->pool) loami_reply_note_text(r, "pool", x->pool->name);
    if (x->backend) loami_reply_note_text(r, "backend", x->backend);
    if (x->key) loami_reply_note_text(r, "key", x->key->name);
    loami_reply_note(r, "tries", x->n_tried);
    if (x->resumes) loami_reply_note(r, "resumed", x->resumes);
    if (x->first_s) loami_reply_note(r, "ttft", x->first_s - x->start_s);
    if (x->prompt_tokens) loami_reply_note(r, "prompt_tokens", (double)x->prompt_tokens);
    if (x->answer_tokens || x->n_tokens)
        loami_reply_note(r, "tokens", (double)(x->answer_tokens ? x->answer_tokens : x->n_tokens));
}

static void exchange_free(loami_exchange *x)
{
    drop_attempts(x);
    blame(x, false);
    loami_timer_clear(&x->timer);
    TAILQ_REMOVE(&x->gw->exchanges, x, next);
    x->gw->n_exchanges--;
    loami_facts_free(&x->facts);
    loami_buf_free(&x->failed_body);
    loami_buf_free(&x->text);
    loami_buf_free(&x->ids);
    loami_buf_free(&x->calls);
    free(x->id);
    free(x->created);
    free(x->model);
    free(x->target);
    loami_routes_unref(x->routes);
    free(x);
}

/* Everything but the words to the client, which are out, or about to be. */
static void close_books(loami_exchange *x, int status, bool answered)
{
    x->over = true;
    loami_pool_leave(x);
    loami_shift_leave(x, status);
    settle_accounts(x, status);
    write_notes(x);
    blame(x, answered);
}

void loami_exchange_fail(loami_exchange *x, const loami_fault *f)
{
    loami_reply *r = x->reply;
    char after[24];
    close_books(x, f->status, false);
    if (x->failed_body.len && x->failed_status == f->status) {
        if (x->failed_retry_s > 0) {
            snprintf(after, sizeof after, "%.0f", x->failed_retry_s);
            loami_reply_set(r, "Retry-After", after);
        }
        loami_reply_send(r, x->failed_status, "application/json", x->failed_body.data, x->failed_body.len);
    } else {
        loami_reply_fail(r, f);
    }
    exchange_free(x);
}

void loami_exchange_end(loami_exchange *x)
{
    loami_reply *r = x->reply;
    close_books(x, x->started && !x->broken ? 200 : 502, true);
    loami_reply_end(r);
    exchange_free(x);
}

void loami_exchange_answer(loami_exchange *x, int status, const char *type, const loami_buf *body)
{
    loami_reply *r = x->reply;
    close_books(x, status, true);
    loami_reply_send(r, status, type, body->data, body->len);
    exchange_free(x);
}

void loami_exchange_abort(loami_exchange *x, const char *why)
{
    loami_fault f;
    drop_attempts(x);
    if (x->started) {
        loami_relay_error(x, why);
        return;
    }
    loami_fault_set(&f, 503, "shutting_down", "", "The request was ended: %s.", why);
    loami_exchange_fail(x, &f);
}

void loami_exchange_cut(loami_exchange *x)
{
    loami_reply *r = x->reply;
    close_books(x, 502, false);
    loami_reply_drop(r);
    exchange_free(x);
}

/* ---- the client ---------------------------------------------------------------------------------- */

static void on_gone(void *arg)
{
    loami_exchange *x = arg;
    loami_reply *r = x->reply;
    for (int i = 0; i < 2; i++)
        if (x->attempt[i]) x->attempt[i]->backend->numbers.cancelled++;
    close_books(x, 499, false);
    loami_reply_end(r);
    exchange_free(x);
}

static void on_drained(void *arg)
{
    loami_exchange *x = arg;
    x->full = false;
    if (x->speaker && x->speaker->call) loami_call_resume(x->speaker->call);
}

/* ---- the beginning ------------------------------------------------------------------------------- */

static bool is_hex(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr("0123456789abcdef", s[i]) || !s[i]) return false;
    return true;
}

/* W3C Trace Context: the trace goes on, with us as the new parent. */
static void set_trace(loami_exchange *x)
{
    const char *given = loami_reply_header(x->reply, "traceparent");
    unsigned long long me = loami_gw_random(x->gw);
    if (given && strlen(given) >= 55 && given[2] == '-' && is_hex(given + 3, 32) && given[35] == '-' &&
        is_hex(given + 53, 2))
        snprintf(x->trace, sizeof x->trace, "00-%.32s-%016llx-%.2s", given + 3, me | 1, given + 53);
    else
        snprintf(x->trace, sizeof x->trace, "00-%016llx%016llx-%016llx-01",
                 (unsigned long long)loami_gw_random(x->gw) | 1, (unsigned long long)loami_gw_random(x->gw),
                 me | 1);
}

static void set_id(loami_exchange *x)
{
    const char *given = loami_reply_header(x->reply, "X-Request-Id");
    size_t n = given ? strspn(given, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-")
                     : 0;
    if (n && n < 65 && !given[n]) loami_reply_set_id(x->reply, given);
}

static char *target_of(const loami_reply *r)
{
    loami_buf b = { 0 };
    const char *query = loami_reply_query(r);
    loami_buf_puts(&b, loami_reply_raw_path(r));
    if (query) loami_buf_printf(&b, "?%s", query);
    return loami_buf_take(&b, NULL);
}

static loami_exchange *exchange_new(loami_gateway *gw, loami_reply *r)
{
    loami_exchange *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    x->target = target_of(r);
    if (!x->target) {
        free(x);
        return NULL;
    }
    x->gw = gw;
    x->reply = r;
    x->routes = gw->routes;
    x->routes->refs++;
    x->method = loami_reply_method(r);
    x->endpoint = loami_gw_endpoint_find(loami_reply_path(r));
    x->start_s = loami_now_s();
    x->body = loami_reply_body(r, &x->n_body);
    x->text.limit = x->ids.limit = x->calls.limit = LOAMI_GW_KEPT;
    TAILQ_INSERT_TAIL(&gw->exchanges, x, next);
    gw->n_exchanges++;
    return x;
}

static int route(loami_exchange *x, loami_fault *f)
{
    x->pool = x->first_pool = loami_routes_pool(x->routes, x->facts.name);
    if (x->pool) return 0;
    return loami_fault_set(f, 404, "model_not_found", "model",
                           "No backend has the model \"%.200s\"; GET /v1/models lists what there is.",
                           x->facts.asked);
}

void loami_exchange_open(loami_reply *r, loami_gateway *gw)
{
    loami_fault f;
    loami_exchange *x = exchange_new(gw, r);
    if (!x) {
        loami_fault_set(&f, 503, "out_of_memory", "", "Out of memory.");
        loami_reply_fail(r, &f);
        return;
    }
    set_id(x);
    set_trace(x);
    if (loami_gw_keys_check(gw, r, &x->key, &f) < 0 || loami_facts_read(&x->facts, x, &f) < 0 ||
        route(x, &f) < 0 || (x->key && loami_gw_keys_admit(x->key, r, &x->facts, &f) < 0)) {
        if (f.status == 429) gw->limited++;
        x->key = NULL; /* nothing was taken from it */
        loami_exchange_fail(x, &f);
        return;
    }
    if (!x->facts.has_seed) x->seed = loami_gw_random(gw) >> 12; /* JSON numbers are exact to 2^53 */
    loami_shift_enter(x);
    loami_reply_watch(r, on_gone, on_drained, x);
    loami_pool_dispatch(x);
}

bool loami_exchange_tried(const loami_exchange *x, const loami_backend *b)
{
    for (uint32_t i = 0; i < x->n_tried; i++)
        if (x->tried[i] == b) return true;
    return false;
}

void loami_exchange_next(loami_exchange *x)
{
    if (x->attempt[0] || x->attempt[1]) return; /* the other one is still at it */
    loami_pool_dispatch(x);
}
