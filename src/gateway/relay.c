/* From a try's answer to the client's. A whole answer is kept until it is whole, so that a backend that dies
 * before costs nothing; events are passed on as they come; what is neither is passed on byte for byte. */
#include "gateway/shift.h"

#include "base/clock.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { REFUSAL_BYTES = 64 * 1024 };
static const double BUSY_S = 1, BUSY_MOST_S = 5; /* a busy backend is left alone that long */

static void take_floor(loami_attempt *a)
{
    loami_exchange *x = a->x;
    x->speaker = a;
    x->backend = a->backend->name;
    loami_timer_clear(&x->timer);
    for (int i = 0; i < 2; i++)
        if (x->attempt[i] && x->attempt[i] != a) loami_attempt_cancel(x->attempt[i]);
}

/* Headers of a backend that are not its connection's, and not ours to say. */
static void pass_headers(const loami_attempt *a)
{
    static const char *const ours[] = { "Connection",
                                        "Keep-Alive",
                                        "Transfer-Encoding",
                                        "Content-Length",
                                        "Content-Type",
                                        "Trailer",
                                        "Upgrade",
                                        "Date",
                                        "Server",
                                        "X-Request-Id",
                                        "X-Content-Type-Options",
                                        "Vary",
                                        "Set-Cookie",
                                        "Retry-After",
                                        NULL };
    const char *name, *value;
    for (size_t at = 0; loami_call_next_header(a->call, &at, &name, &value);) {
        const char *const *o = ours;
        while (*o && strcasecmp(*o, name) != 0) o++;
        if (!*o && strncasecmp(name, "Access-Control-", 15) != 0) loami_reply_set(a->x->reply, name, value);
    }
    loami_reply_set(a->x->reply, "X-Loam-Backend", a->backend->name);
}

static bool type_is(const char *type, const char *want)
{
    return type && strncasecmp(type, want, strlen(want)) == 0;
}

/* ---- heads --------------------------------------------------------------------------------------- */

/* Somebody else may do better. Not so 408: the time that the client gave its request is over, for all of them. */
static bool is_refusal(int status)
{
    return status >= 500 || status == 429;
}

void loami_relay_head(loami_attempt *a, int status)
{
    loami_exchange *x = a->x;
    const char *type = loami_call_header(a->call, "Content-Type");
    a->status = status;
    a->backend->alive_s = loami_now_s();
    a->backend->numbers.answers[status / 100 < 6 ? status / 100 : 5]++;
    if (is_refusal(status)) {
        a->mode = LOAMI_MODE_REFUSED;
        return;
    }
    if (a->trial) loami_health_good(a->backend, true);
    a->trial = false;
    if (status == 200 && type_is(type, "text/event-stream")) {
        a->mode = LOAMI_MODE_EVENTS;
        take_floor(a);
    } else if (x->started) {
        a->mode = LOAMI_MODE_REFUSED; /* a stream cannot go on with this */
    } else if (status != 200 || type_is(type, "application/json")) {
        a->mode = LOAMI_MODE_WHOLE;
    } else {
        a->mode = LOAMI_MODE_RAW;
        take_floor(a);
    }
}

/* ---- bodies -------------------------------------------------------------------------------------- */

static void start(loami_attempt *a)
{
    loami_exchange *x = a->x;
    if (x->started) return;
    x->started = true;
    x->first_s = x->first_s ? x->first_s : loami_now_s();
    pass_headers(a);
    if (a->mode == LOAMI_MODE_EVENTS) loami_reply_set(x->reply, "Cache-Control", "no-cache");
    if (a->mode == LOAMI_MODE_EVENTS) loami_reply_set(x->reply, "X-Accel-Buffering", "no");
    loami_reply_start(x->reply, a->status, loami_call_header(a->call, "Content-Type"));
}

static bool pass(loami_attempt *a, const void *bytes, size_t n)
{
    loami_exchange *x = a->x;
    start(a);
    x->line_open = n && ((const char *)bytes)[n - 1] != '\n';
    x->full = !loami_reply_write(x->reply, bytes, n);
    return !x->full;
}

static void lost(loami_attempt *a, loami_failure why, const char *words);

static bool on_events(loami_attempt *a, const char *bytes, size_t n)
{
    loami_exchange *x = a->x;
    loami_buf *out = &x->gw->scratch;
    loami_buf_clear(out);
    int rc = loami_sse_feed(&a->sse, bytes, n, loami_event, a);
    x->streaming = true;
    bool room = out->len ? pass(a, out->data, out->len) : !x->full;
    if (rc == 0 && !a->failed && !out->failed) return room;
    loami_call_cancel(a->call);
    a->call = NULL;
    lost(a, rc < 0 ? LOAMI_FAIL_GARBLED : LOAMI_FAIL_STATUS,
         a->failed ? a->words : "it sent an event that is too large");
    return true;
}

bool loami_relay_data(loami_attempt *a, const char *bytes, size_t n)
{
    a->backend->alive_s = loami_now_s();
    switch (a->mode) {
    case LOAMI_MODE_EVENTS: return on_events(a, bytes, n);
    case LOAMI_MODE_RAW: return pass(a, bytes, n);
    case LOAMI_MODE_REFUSED:
        if (a->got.len + n <= REFUSAL_BYTES) loami_buf_put(&a->got, bytes, n);
        return true;
    default: break;
    }
    if (a->got.len + n <= LOAMI_GW_WHOLE) {
        loami_buf_put(&a->got, bytes, n);
        return true;
    }
    a->mode = LOAMI_MODE_RAW;
    take_floor(a);
    pass(a, a->got.data, a->got.len);
    loami_buf_free(&a->got);
    return pass(a, bytes, n);
}

/* ---- failures ------------------------------------------------------------------------------------ */

static void put_done(loami_exchange *x)
{
    loami_buf out = { 0 };
    if (x->facts.wants_usage && !x->usage_told && x->id) {
        loami_buf_printf(&out,
                         "data: "
                         "{\"id\":%s,\"object\":\"%s\",\"created\":%s,\"model\":%s,\"choices\":[],\"usage\":{"
                         "\"prompt_tokens\":%.0f,"
                         "\"completion_tokens\":%llu,\"total_tokens\":%.0f}}\n\n",
                         x->id,
                         x->endpoint->shape == LOAMI_SHAPE_CHAT ? "chat.completion.chunk" : "text_completion",
                         x->created ? x->created : "0", x->model ? x->model : "null", x->facts.prompt_cost,
                         (unsigned long long)x->n_tokens, x->facts.prompt_cost + (double)x->n_tokens);
    }
    loami_buf_puts(&out, "data: [DONE]\n\n");
    loami_reply_write(x->reply, out.data, out.len);
    loami_buf_free(&out);
}

void loami_relay_error(loami_exchange *x, const char *words)
{
    loami_buf out = { 0 };
    loami_fault f;
    if (!x->streaming && x->endpoint->shape != LOAMI_SHAPE_OLLAMA) {
        loami_exchange_cut(x);
        return;
    }
    loami_fault_set(&f, 502, "backend_lost", "", "%s", words);
    switch (x->endpoint->shape) {
    case LOAMI_SHAPE_MESSAGES:
        loami_buf_puts(
            &out, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":");
        loami_json_put(&out, words, strlen(words));
        loami_buf_puts(&out, "}}\n\n");
        break;
    case LOAMI_SHAPE_RESPONSES:
        loami_buf_puts(
            &out,
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"param\":null,\"message\":");
        loami_json_put(&out, words, strlen(words));
        loami_buf_puts(&out, "}\n\n");
        break;
    case LOAMI_SHAPE_OLLAMA:
        loami_buf_puts(&out, x->line_open ? "\n{\"error\":" : "{\"error\":");
        loami_json_put(&out, words, strlen(words));
        loami_buf_puts(&out, "}\n");
        break;
    default:
        loami_buf_puts(&out, "data: ");
        loami_fault_json(&out, &f);
        loami_buf_puts(&out, "\n\ndata: [DONE]\n\n");
    }
    loami_reply_write(x->reply, out.data, out.len);
    loami_buf_free(&out);
    x->broken = true;
    loami_exchange_end(x);
}

/* The client has a part of the answer; where does the rest come from? */
static void go_on(loami_exchange *x, loami_backend *from)
{
    char words[600];
    if (x->finished) {
        put_done(x);
        loami_exchange_end(x);
        return;
    }
    const char *why = loami_resume_obstacle(x);
    loami_member *m = why ? NULL : loami_pool_choose(x->pool, x, loami_resume_fits, NULL);
    if (m && loami_attempt_start(x, m, false)) {
        x->resumes++;
        from->numbers.resumed_from++;
        m->backend->numbers.resumed_to++;
        return;
    }
    snprintf(words, sizeof words, "The backend was lost in the middle of the answer (%s), and %s.",
             x->failed_words, why ? why : "no other one in its pool can continue it");
    loami_relay_error(x, words);
}

bool loami_relay_move(loami_exchange *x)
{
    bool whole = !x->started, repeatable = x->endpoint->repeatable || strcmp(x->method, "GET") == 0;
    loami_member *m = NULL;
    if (whole ? !repeatable : !x->streaming || x->finished || loami_resume_obstacle(x)) return false;
    if (!whole) m = loami_pool_choose(x->pool, x, loami_resume_fits, NULL);
    if (!whole && !m) return false;
    for (int i = 0; i < 2; i++)
        if (x->attempt[i]) {
            x->attempt[i]->backend->numbers.resumed_from += !whole;
            loami_attempt_cancel(x->attempt[i]);
        }
    if (whole) {
        loami_pool_dispatch(x);
        return true;
    }
    x->resumes++;
    m->backend->numbers.resumed_to++;
    if (!loami_attempt_start(x, m, false))
        loami_relay_error(x, "The answer was to be moved to another backend, and memory ran out.");
    return true;
}

static void give_up(loami_exchange *x, loami_failure why)
{
    loami_fault f;
    int status = why == LOAMI_FAIL_LATE ? 504 : 502;
    loami_fault_set(
        &f, status, "backend_failed", "",
        "The backend failed (%s). The request may have had an effect, so it was not sent to another one.",
        x->failed_words);
    loami_exchange_fail(x, &f);
}

static void lost(loami_attempt *a, loami_failure why, const char *words)
{
    loami_exchange *x = a->x;
    loami_backend *b = a->backend;
    bool again = x->endpoint->repeatable || why == LOAMI_FAIL_UNREACHED || why == LOAMI_FAIL_BUSY ||
                 strcmp(x->method, "GET") == 0;

    b->numbers.failures[why]++;
    x->side_failed = true;
    snprintf(x->failed_words, sizeof x->failed_words, "%s: %s", b->name, words);
    if (why == LOAMI_FAIL_STATUS && !x->started) {
        for (uint32_t i = 0; i < x->n_tried; i++) x->suspect[i] |= x->tried[i] == b;
        if (a->trial) loami_health_failed(b, why, true, words);
    } else if (why != LOAMI_FAIL_BUSY) {
        loami_health_failed(b, why, a->trial, words);
    }
    a->trial = false;
    loami_backend_ref(b);
    loami_attempt_free(a);
    bool other = x->attempt[0] || x->attempt[1]; /* a hedge, or what was hedged, may still answer */
    if (!other && x->started && x->streaming && x->endpoint->shape != LOAMI_SHAPE_OTHER)
        go_on(x, b);
    else if (!other && x->started && x->endpoint->shape == LOAMI_SHAPE_OLLAMA)
        loami_relay_error(x, x->failed_words);
    else if (!other && x->started)
        loami_exchange_cut(x);
    else if (!other && again)
        loami_exchange_next(x);
    else if (!other)
        give_up(x, why);
    loami_backend_unref(b);
}

/* Nothing of the answer is with the client, or it is a stream: somebody else may do better. */
static void refused(loami_attempt *a)
{
    loami_exchange *x = a->x;
    const char *after = loami_call_header(a->call, "Retry-After"),
               *type = loami_call_header(a->call, "Content-Type");
    bool busy = a->status == 429 || (a->status == 503 && after);
    double wait = after ? strtod(after, NULL) : BUSY_S;
    char words[64];

    wait = wait > 0 ? wait : BUSY_S;
    a->call = NULL;
    snprintf(words, sizeof words, "status %d", a->status);
    if (busy) loami_health_busy(a->backend, wait < BUSY_MOST_S ? wait : BUSY_MOST_S);
    if (a->status == 503) loami_health_probe_soon(a->backend);
    if (!x->started) {
        x->failed_status = a->status;
        x->failed_retry_s = busy ? wait : 0;
        loami_buf_clear(&x->failed_body);
        if (type_is(type, "application/json")) loami_buf_put(&x->failed_body, a->got.data, a->got.len);
    }
    lost(a, busy ? LOAMI_FAIL_BUSY : LOAMI_FAIL_STATUS,
         a->status < 400 ? "it did not answer with a stream" : words);
}

/* ---- ends ---------------------------------------------------------------------------------------- */

static void whole(loami_attempt *a)
{
    loami_exchange *x = a->x;
    char type[128];
    const char *given = loami_call_header(a->call, "Content-Type");
    take_floor(a);
    x->first_s = loami_now_s();
    loami_hist_add(&a->backend->numbers.ttft, loami_hist_ttft, x->first_s - a->start_s);
    loami_span object = loami_peek_value(a->got.data ? a->got.data : "", a->got.len);
    loami_usage_read(a, object);
    if (a->status == 200 && object.at && object.at[0] == '{' && x->first_pool->shift->r.state != LOAMI_R_NONE)
        loami_shift_keep_whole(x, object);
    pass_headers(a);
    snprintf(type, sizeof type, "%s", given ? given : "application/json");
    a->call = NULL;
    if (a->status == 200) loami_health_good(a->backend, false);
    loami_exchange_answer(x, a->status, type, &a->got);
}

static void ended_well(loami_attempt *a)
{
    loami_exchange *x = a->x;
    bool openai = x->endpoint->shape == LOAMI_SHAPE_CHAT || x->endpoint->shape == LOAMI_SHAPE_TEXT;
    switch (a->mode) {
    case LOAMI_MODE_REFUSED: refused(a); return;
    case LOAMI_MODE_WHOLE: whole(a); return;
    case LOAMI_MODE_RAW: start(a); break;
    case LOAMI_MODE_EVENTS:
        if (openai && !x->done) {
            a->call = NULL;
            lost(a, LOAMI_FAIL_LOST, "its stream ended too early");
            return;
        }
        break;
    case LOAMI_MODE_HEAD: break;
    }
    a->call = NULL;
    loami_health_good(a->backend, false);
    loami_exchange_end(x);
}

void loami_relay_done(loami_attempt *a, loami_call_fate fate, const char *msg)
{
    static const loami_failure failures[] = { [LOAMI_CALL_UNREACHED] = LOAMI_FAIL_UNREACHED,
                                              [LOAMI_CALL_LOST] = LOAMI_FAIL_LOST,
                                              [LOAMI_CALL_LATE] = LOAMI_FAIL_LATE };
    if (fate == LOAMI_CALL_OK) {
        ended_well(a);
    } else if (a->x->done) {
        a->call = NULL; /* all of it came */
        loami_exchange_end(a->x);
    } else {
        a->call = NULL;
        lost(a, failures[fate], msg);
    }
}
