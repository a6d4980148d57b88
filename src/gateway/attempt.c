#include "gateway/gw.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEADERS_MAX = 64, STREAM_READ = 4096 };

/* Headers of a client that end here: they belong to its connection, to this gateway, or say who it is. */
static bool stays_here(const char *name)
{
    static const char *const names[] = {
        "Host",         "Connection",        "Keep-Alive",      "TE",
        "Trailer",      "Transfer-Encoding", "Upgrade",         "Content-Length",
        "Expect",       "Accept-Encoding",   "Authorization",   "X-Api-Key",
        "X-Request-Id", "traceparent",       "Origin",          "Referer",
        "Cookie",       "Forwarded",         "X-Forwarded-For", NULL,
    };
    for (const char *const *n = names; *n; n++)
        if (strcasecmp(*n, name) == 0) return true;
    return strncasecmp(name, "Proxy-", 6) == 0 || strncasecmp(name, "Sec-", 4) == 0;
}

typedef struct lines {
    loami_buf text; /* each with a NUL behind it */
    const char *line[HEADERS_MAX];
    uint32_t n;
} lines;

static void put_line(lines *l, const char *name, const char *value)
{
    if (l->n == HEADERS_MAX || !value) return;
    l->n++;
    loami_buf_puts(&l->text, name);
    loami_buf_puts(&l->text, ": ");
    loami_buf_puts(&l->text, value);
    loami_buf_putc(&l->text, 0);
}

static void collect_headers(lines *l, const loami_attempt *a)
{
    const loami_exchange *x = a->x;
    const loami_backend_conf *c = a->backend->conf;
    const char *name, *value;
    char bearer[1100];
    void *at = NULL;

    while (loami_reply_next_header(x->reply, &at, &name, &value))
        if (!stays_here(name)) put_line(l, name, value);
    if (c->api_key) {
        snprintf(bearer, sizeof bearer, "Bearer %s", c->api_key);
        put_line(l, "Authorization", bearer);
    } else if (x->routes->config->n_keys == 0) {
        put_line(l, "Authorization", loami_reply_header(x->reply, "Authorization"));
        put_line(l, "X-Api-Key", loami_reply_header(x->reply, "X-Api-Key"));
    }
    put_line(l, "X-Request-Id", loami_reply_id(x->reply));
    put_line(l, "traceparent", x->trace);
    put_line(l, "X-Forwarded-For", loami_reply_peer(x->reply));
    const char *p = l->text.data;
    for (uint32_t i = 0; i < l->n && !l->text.failed; i++, p += strlen(p) + 1) l->line[i] = p;
}

/* ---- what a backend owes ------------------------------------------------------------------------- */

static void owe(loami_attempt *a)
{
    loami_exchange *x = a->x;
    double left = x->facts.answer_cost - (double)x->n_tokens;
    a->prompt_owed = x->facts.prompt_cost + (double)x->n_tokens;
    a->answer_owed = left > 1 ? left : 1;
    a->backend->owed += a->prompt_owed + a->answer_owed;
    a->backend->inflight++;
}

void loami_attempt_owe_less(loami_attempt *a, double tokens)
{
    double less = a->prompt_owed; /* its prompt has been read once it says something */
    a->prompt_owed = 0;
    if (a->answer_owed > tokens + 1) {
        a->answer_owed -= tokens;
        less += tokens;
    }
    a->backend->owed -= less;
}

static void settle(loami_attempt *a)
{
    loami_backend *b = a->backend;
    b->owed -= a->prompt_owed + a->answer_owed;
    b->inflight--;
    if (b->inflight == 0) b->owed = 0; /* what rounding left */
    if (a->trial) b->trial = false;
    if (b->conf->max_inflight) loami_pool_moved(b->gw);
}

/* ---- its life ------------------------------------------------------------------------------------ */

void loami_attempt_free(loami_attempt *a)
{
    loami_exchange *x = a->x;
    for (int i = 0; i < 2; i++)
        if (x->attempt[i] == a) x->attempt[i] = NULL;
    if (x->speaker == a) x->speaker = NULL;
    settle(a);
    loami_backend_unref(a->backend);
    loami_buf_free(&a->body);
    loami_buf_free(&a->got);
    loami_sse_free(&a->sse);
    free(a);
}

void loami_attempt_cancel(loami_attempt *a)
{
    if (a->call) loami_call_cancel(a->call);
    loami_attempt_free(a);
}

static void on_head(void *arg, int status)
{
    loami_relay_head(arg, status);
}

static bool on_data(void *arg, const char *bytes, size_t n)
{
    return loami_relay_data(arg, bytes, n);
}

static void on_done(void *arg, loami_call_fate fate, int status, const char *msg)
{
    (void)status;
    loami_attempt *a = arg;
    loami_relay_done(a, fate, msg);
}

static bool call(loami_attempt *a)
{
    loami_exchange *x = a->x;
    loami_backend *b = a->backend;
    const loami_gw_config *c = x->routes->config;
    lines headers = { 0 };
    loami_buf url = { 0 };

    loami_buf_printf(&url, "%s%s", b->conf->url, x->target);
    collect_headers(&headers, a);
    loami_call_request q = {
        .method = x->method,
        .url = url.data,
        .headers = headers.line,
        .n_headers = headers.n,
        .body = a->body.len ? a->body.data
                : x->n_body ? x->body
                            : NULL,
        .n_body = a->body.len ? a->body.len : x->n_body,
        .connect_s = c->timeouts.connect_s,
        .first_byte_s = c->timeouts.first_byte_s,
        .idle_s = c->timeouts.idle_s,
        .total_s = c->timeouts.request_s,
        .fresh = !x->endpoint->repeatable && strcmp(x->method, "GET") != 0,
        .insecure = b->conf->insecure,
        .ca_file = b->conf->ca_file,
        .read_bytes = x->facts.stream ? STREAM_READ : 0,
        .head = on_head,
        .data = on_data,
        .done = on_done,
        .arg = a,
    };
    if (!url.failed && !headers.text.failed) a->call = loami_call_start(x->gw->client, &q);
    loami_buf_free(&url);
    loami_buf_free(&headers.text);
    return a->call;
}

static void on_hedge(void *arg)
{
    loami_exchange *x = arg;
    bool full;
    loami_member *m = loami_pool_choose(x->pool, x, NULL, &full);
    if (!m || x->hedged || x->started) return;
    x->hedged = true;
    if (loami_attempt_start(x, m, true)) m->backend->numbers.hedges++;
}

static void plan_hedge(loami_exchange *x)
{
    const loami_gw_config *c = x->routes->config;
    const loami_facts *f = &x->facts;
    if (c->hedge.after_s <= 0 || x->hedged || f->stream || !x->endpoint->repeatable || !f->n_max ||
        f->n_max > c->hedge.max_tokens)
        return;
    loami_timer_set(x->gw->loop, &x->timer, c->hedge.after_s, on_hedge, x);
}

bool loami_attempt_start(loami_exchange *x, loami_member *m, bool hedge)
{
    loami_backend *b = m->backend;
    loami_attempt *a = calloc(1, sizeof *a);
    if (x->n_tried < LOAMI_GW_TRIES) {
        loami_backend_ref(b);
        x->suspect[x->n_tried] = false;
        x->tried[x->n_tried++] = b;
    }
    if (!a) return false;
    a->x = x;
    a->backend = b;
    a->hedge = hedge;
    a->start_s = loami_now_s();
    loami_backend_ref(b);
    owe(a);
    a->trial = b->breaker == LOAMI_BREAKER_HALF;
    if (a->trial) b->trial = true;
    b->numbers.tries++;
    a->got.limit = LOAMI_GW_WHOLE;
    a->resumes = x->started;
    x->attempt[x->attempt[0] ? 1 : 0] = a;
    if (!loami_body_for(a) || !call(a)) {
        loami_attempt_free(a);
        return false;
    }
    if (!hedge) plan_hedge(x);
    return true;
}
