#include "cmd/asker.h"

#include "base/clock.h"
#include "gateway/sse.h"
#include "net/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ANSWER_BYTES = 64 << 20 };

typedef struct asking {
    loami_loop *loop;
    loami_client *client;
    const loami_ask_how *how;
    loami_ask *asks; /* [n] */
    uint32_t n, next, running;
} asking;

/* One request on its way. */
typedef struct trip {
    asking *all;
    loami_ask *a;
    loami_call *call;
    loami_sse sse;
    loami_buf body, got, text; /* text: escaped */
    double last_s;
    bool events;
} trip;

static void go_on(asking *all);

/* ---- what comes ---------------------------------------------------------------------------------- */

static void keep_word(char *out, size_t n, loami_span s)
{
    char *w = s.at ? loami_span_string(s, n - 1, NULL) : NULL;
    if (w) snprintf(out, n, "%s", w);
    free(w);
}

static void read_usage(loami_ask *a, loami_span object)
{
    loami_span usage = loami_peek_get(object, "usage");
    uint64_t v;
    if (!usage.at || usage.at[0] != '{') return;
    if (loami_span_u64(loami_peek_get(usage, "completion_tokens"), &v)) a->tokens = (uint32_t)v;
    if (loami_span_u64(loami_peek_get(usage, "prompt_tokens"), &v)) a->prompt_tokens = (uint32_t)v;
}

static void read_error(loami_ask *a, loami_span object)
{
    loami_span e = loami_peek_get(object, "error");
    if (!e.at || loami_span_is(e, "null")) return;
    snprintf(a->error, sizeof a->error, "it answered with an error");
    if (e.at[0] == '{') keep_word(a->error, sizeof a->error, loami_peek_get(e, "message"));
}

static void take_text(trip *t, loami_span text)
{
    double now = loami_now_s();
    if (!text.at || text.n < 3 || text.at[0] != '"') return;
    if (!t->a->pieces++) t->a->ttft_s = now - t->a->start_s;
    t->last_s = now;
    loami_buf_put(&t->text, text.at + 1, text.n - 2);
}

static void on_event(void *arg, loami_span whole, loami_span data)
{
    trip *t = arg;
    (void)whole;
    if (loami_span_is(data, "[DONE]")) t->a->done = true;
    loami_span object = data.at ? loami_peek_value(data.at, data.n) : data;
    if (!object.at || object.at[0] != '{') return;
    read_error(t->a, object);
    read_usage(t->a, object);
    loami_span choice = loami_peek_first(loami_peek_get(object, "choices"));
    if (!choice.at || choice.at[0] != '{') return;
    loami_span delta = loami_peek_get(choice, "delta");
    if (delta.at && delta.at[0] == '{') {
        take_text(t, loami_peek_get(delta, "reasoning_content"));
        take_text(t, loami_peek_get(delta, "content"));
    }
    keep_word(t->a->finish, sizeof t->a->finish, loami_peek_get(choice, "finish_reason"));
}

static void read_whole(trip *t)
{
    loami_span object = loami_peek_value(t->got.data ? t->got.data : "", t->got.len);
    if (!object.at || object.at[0] != '{') return;
    read_error(t->a, object);
    read_usage(t->a, object);
    loami_span choice = loami_peek_first(loami_peek_get(object, "choices"));
    if (!choice.at || choice.at[0] != '{') return;
    take_text(t, loami_peek_get(loami_peek_get(choice, "message"), "content"));
    keep_word(t->a->finish, sizeof t->a->finish, loami_peek_get(choice, "finish_reason"));
}

static void on_head(void *arg, int status)
{
    trip *t = arg;
    const char *type = loami_call_header(t->call, "Content-Type"),
               *who = loami_call_header(t->call, "X-Loam-Backend");
    t->a->status = status;
    t->events = type && strncasecmp(type, "text/event-stream", 17) == 0;
    if (who) snprintf(t->a->backend, sizeof t->a->backend, "%s", who);
}

static bool on_data(void *arg, const char *bytes, size_t n)
{
    trip *t = arg;
    if (t->events)
        loami_sse_feed(&t->sse, bytes, n, on_event, t);
    else
        loami_buf_put(&t->got, bytes, n);
    return true;
}

static void finish(trip *t, loami_call_fate fate, const char *msg)
{
    loami_ask *a = t->a;
    loami_buf quoted = { 0 };
    a->total_s = loami_now_s() - a->start_s;
    if (!t->events) read_whole(t);
    if (fate != LOAMI_CALL_OK) snprintf(a->error, sizeof a->error, "%s", msg);
    if (!a->error[0] && a->status != 200) snprintf(a->error, sizeof a->error, "status %d", a->status);
    if (!a->error[0] && t->events && !a->done)
        snprintf(a->error, sizeof a->error, "its stream ended without [DONE]");
    a->ok = !a->error[0];
    if (!a->tokens) a->tokens = a->pieces;
    if (t->events && a->tokens > 1 && a->pieces > 1)
        a->itl_s = (t->last_s - a->start_s - a->ttft_s) / (a->tokens - 1);
    loami_buf_putc(&quoted, '"');
    if (t->text.data) loami_buf_put(&quoted, t->text.data, t->text.len);
    loami_buf_putc(&quoted, '"');
    if (!quoted.failed)
        a->text = loami_span_string((loami_span){ quoted.data, quoted.len }, ANSWER_BYTES, &a->n_text);
    loami_buf_free(&quoted);
}

static void on_done(void *arg, loami_call_fate fate, int status, const char *msg)
{
    trip *t = arg;
    asking *all = t->all;
    (void)status;
    finish(t, fate, msg);
    if (all->how->answered) all->how->answered(all->how->arg, t->a);
    loami_sse_free(&t->sse);
    loami_buf_free(&t->body);
    loami_buf_free(&t->got);
    loami_buf_free(&t->text);
    free(t);
    all->running--;
    go_on(all);
}

/* ---- what goes ----------------------------------------------------------------------------------- */

static bool start(asking *all, loami_ask *a)
{
    const loami_ask_how *how = all->how;
    loami_buf url = { 0 }, key = { 0 };
    trip *t = calloc(1, sizeof *t);
    if (!t) return false;
    t->all = all;
    t->a = a;
    t->got.limit = t->text.limit = ANSWER_BYTES;
    loami_buf_printf(&url, "%s/v1/chat/completions", a->server ? a->server : how->server);
    loami_buf_printf(&key, "Authorization: Bearer %s", how->key ? how->key : "");
    loami_buf_puts(&t->body, "{\"model\":");
    loami_json_put(&t->body, how->model, strlen(how->model));
    loami_buf_printf(&t->body, ",\"messages\":%s,\"max_tokens\":%u,\"temperature\":0", a->messages,
                     a->max_tokens);
    loami_buf_puts(&t->body,
                   a->whole ? "}" : ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    const char *headers[] = { "Content-Type: application/json", key.data };
    loami_call_request q = { .method = "POST",
                             .url = url.data,
                             .headers = headers,
                             .n_headers = how->key ? 2 : 1,
                             .body = t->body.data,
                             .n_body = t->body.len,
                             .total_s = how->timeout_s,
                             .head = on_head,
                             .data = on_data,
                             .done = on_done,
                             .arg = t };
    a->start_s = loami_now_s();
    if (!url.failed && !key.failed && !t->body.failed) t->call = loami_call_start(all->client, &q);
    loami_buf_free(&url);
    loami_buf_free(&key);
    if (t->call) return true;
    loami_buf_free(&t->body);
    free(t);
    return false;
}

static void go_on(asking *all)
{
    while (all->running < all->how->concurrency && all->next < all->n) {
        loami_ask *a = &all->asks[all->next++];
        if (start(all, a))
            all->running++;
        else
            snprintf(a->error, sizeof a->error, "out of memory");
    }
    if (!all->running) loami_loop_stop(all->loop);
}

static void begin(void *arg)
{
    go_on(arg);
}

int loami_ask_all(loami_ask *asks, uint32_t n, const loami_ask_how *how, loam_err *err)
{
    asking all = { .how = how, .asks = asks, .n = n };
    loami_timer timer = { 0 };
    int rc = loami_loop_open(&all.loop, err);
    if (rc == 0) rc = loami_client_open(&all.client, all.loop, how->concurrency + 8, err);
    if (rc == 0 && !loami_timer_set(all.loop, &timer, 0, begin, &all)) rc = loami_fail_nomem(err);
    if (rc == 0 && n) loami_loop_run(all.loop);
    loami_timer_clear(&timer);
    loami_client_close(all.client);
    loami_loop_close(all.loop);
    return rc;
}

void loami_asks_free(loami_ask *asks, uint32_t n)
{
    for (uint32_t i = 0; asks && i < n; i++) free(asks[i].text);
    free(asks);
}

/* ---- something else ------------------------------------------------------------------------------ */

typedef struct fetching {
    loami_loop *loop;
    loami_buf *out;
    int status;
    bool reached;
    char msg[200];
} fetching;

static bool fetch_data(void *arg, const char *bytes, size_t n)
{
    loami_buf_put(((fetching *)arg)->out, bytes, n);
    return true;
}

static void fetch_done(void *arg, loami_call_fate fate, int status, const char *msg)
{
    fetching *f = arg;
    f->status = status;
    f->reached = fate == LOAMI_CALL_OK;
    snprintf(f->msg, sizeof f->msg, "%s", msg);
    loami_loop_stop(f->loop);
}

int loami_ask_once(const char *url, const char *method, const char *body, const char *key, double timeout_s,
                   loami_buf *out, int *status, loam_err *err)
{
    fetching f = { .out = out };
    loami_client *client = NULL;
    loami_buf bearer = { 0 };
    int rc = loami_loop_open(&f.loop, err);
    if (!out->limit) out->limit = ANSWER_BYTES;
    if (rc == 0) rc = loami_client_open(&client, f.loop, 4, err);
    loami_buf_printf(&bearer, "Authorization: Bearer %s", key ? key : "");
    const char *headers[] = { "Content-Type: application/json", bearer.data };
    loami_call_request q = { .method = method,
                             .url = url,
                             .headers = headers,
                             .n_headers = key ? 2 : 1,
                             .body = body,
                             .n_body = body ? strlen(body) : 0,
                             .total_s = timeout_s,
                             .data = fetch_data,
                             .done = fetch_done,
                             .arg = &f };
    if (rc == 0 && (bearer.failed || !loami_call_start(client, &q))) rc = loami_fail_nomem(err);
    if (rc == 0) loami_loop_run(f.loop);
    if (rc == 0 && !f.reached) rc = loami_fail(err, LOAM_E_IO, "no answer from %s: %s", url, f.msg);
    *status = f.status;
    loami_client_close(client);
    loami_loop_close(f.loop);
    loami_buf_free(&bearer);
    return rc;
}

int loami_server_of(char **out, const char *url, loam_err *err)
{
    size_t n = strlen(url);
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
        return loami_fail(err, LOAM_E_ARG, "%s: must begin with http:// or https://", url);
    while (n && url[n - 1] == '/') n--;
    if (n > 3 && strncmp(url + n - 3, "/v1", 3) == 0) n -= 3;
    while (n && url[n - 1] == '/') n--;
    *out = strndup(url, n);
    return *out ? 0 : loami_fail_nomem(err);
}

int loami_model_of(char **out, const char *server, const char *wanted, const char *key, loam_err *err)
{
    loami_buf url = { 0 }, answer = { 0 };
    json_t *v = NULL;
    int status = 0, rc = 0;
    *out = wanted ? strdup(wanted) : NULL;
    if (wanted) return *out ? 0 : loami_fail_nomem(err);
    loami_buf_printf(&url, "%s/v1/models", server);
    rc = url.failed ? loami_fail_nomem(err)
                    : loami_ask_once(url.data, "GET", NULL, key, 30, &answer, &status, err);
    if (rc == 0 && status != 200)
        rc = loami_fail(err, LOAM_E_IO, "%s answers with status %d", url.data, status);
    if (rc == 0) rc = loami_json_parse(&v, answer.data ? answer.data : "", answer.len, url.data, err);
    const char *id = json_string_value(json_object_get(json_array_get(json_object_get(v, "data"), 0), "id"));
    if (rc == 0 && !id) rc = loami_fail(err, LOAM_E_NOT_FOUND, "%s lists no model", url.data);
    if (rc == 0 && !(*out = strdup(id))) rc = loami_fail_nomem(err);
    json_decref(v);
    loami_buf_free(&url);
    loami_buf_free(&answer);
    return rc;
}
