/* The gateway about itself: what it is up to, which models it has, and which backends are to rest. */
#include "gateway/gw.h"

#include "base/clock.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static void put_string(loami_buf *b, const char *s)
{
    if (s)
        loami_json_put(b, s, strlen(s));
    else
        loami_buf_puts(b, "null");
}

static void send(loami_reply *r, int status, loami_buf *b)
{
    loami_reply_set(r, "Cache-Control", "no-store");
    loami_reply_send(r, status, "application/json", b->data, b->len);
    loami_buf_free(b);
}

/* ---- status -------------------------------------------------------------------------------------- */

static void put_hist(loami_buf *b, const char *name, const loami_hist *h, const double *bounds)
{
    uint64_t sum = 0;
    loami_buf_printf(b, ",\"%s\":{\"count\":%llu,\"sum\":%.6g,\"buckets\":[", name,
                     (unsigned long long)h->count, h->sum);
    for (uint32_t i = 0; bounds[i] > 0; i++) {
        sum += h->n[i];
        loami_buf_printf(b, "%s[%g,%llu]", i ? "," : "", bounds[i], (unsigned long long)sum);
    }
    loami_buf_puts(b, "]}");
}

static void put_models(loami_buf *b, const loami_backend *k)
{
    loami_buf_puts(b, ",\"models\":[");
    uint32_t n = k->conf->n_models ? k->conf->n_models : k->n_models;
    for (uint32_t i = 0; i < n; i++) {
        if (i) loami_buf_putc(b, ',');
        put_string(b, k->conf->n_models ? k->conf->models[i].key : k->models[i]);
    }
    loami_buf_putc(b, ']');
}

static void put_numbers(loami_buf *b, const loami_backend_numbers *n)
{
    loami_buf_printf(b,
                     ",\"requests\":%llu,\"ok\":%llu,\"resumed_from\":%llu,\"resumed_to\":%llu,\"hedges\":%"
                     "llu,\"cancelled\":%llu,"
                     "\"prompt_tokens\":%llu,\"answer_tokens\":%llu,\"failures\":{",
                     (unsigned long long)n->tries, (unsigned long long)n->answers[2],
                     (unsigned long long)n->resumed_from, (unsigned long long)n->resumed_to,
                     (unsigned long long)n->hedges, (unsigned long long)n->cancelled,
                     (unsigned long long)n->prompt_tokens, (unsigned long long)n->answer_tokens);
    for (int i = 0; i < LOAMI_FAILURES; i++)
        loami_buf_printf(b, "%s\"%s\":%llu", i ? "," : "", loami_failure_names[i],
                         (unsigned long long)n->failures[i]);
    loami_buf_putc(b, '}');
    put_hist(b, "ttft", &n->ttft, loami_hist_ttft);
    put_hist(b, "itl", &n->itl, loami_hist_itl);
    put_hist(b, "e2e", &n->e2e, loami_hist_e2e);
}

static void put_backend(loami_buf *b, loami_backend *k)
{
    double now = loami_now_s();
    loami_buf_puts(b, "{\"name\":");
    put_string(b, k->name);
    loami_buf_puts(b, ",\"url\":");
    put_string(b, k->conf->url);
    loami_buf_printf(b, ",\"kind\":\"%s\",\"state\":\"%s\",\"since_s\":%.1f,\"why\":",
                     k->kind ? k->kind->name : "auto", loami_backend_state(k), now - k->changed_s);
    put_string(b, k->why[0] ? k->why : NULL);
    loami_buf_printf(b,
                     ",\"draining\":%s,\"standby\":%s,\"usable\":%s,\"weight\":%u,\"ramp\":%.2f,\"inflight\":%u,\"max_"
                     "inflight\":%u,\"owed_tokens\":%.0f,\"recent_failures\":%.2f",
                     k->draining ? "true" : "false", k->conf->standby ? "true" : "false", loami_backend_usable(k) ? "true" : "false",
                     k->conf->weight, loami_backend_ramp(k, now), k->inflight, k->conf->max_inflight, k->owed,
                     loami_backend_fails(k));
    put_models(b, k);
    loami_buf_puts(b, ",\"labels\":{");
    for (uint32_t i = 0; i < k->conf->n_labels; i++) {
        if (i) loami_buf_putc(b, ',');
        put_string(b, k->conf->labels[i].key);
        loami_buf_putc(b, ':');
        put_string(b, k->conf->labels[i].value);
    }
    loami_buf_putc(b, '}');
    put_numbers(b, &k->numbers);
    loami_buf_putc(b, '}');
}

static void put_pool(loami_buf *b, const loami_pool *p)
{
    loami_buf_puts(b, "{\"name\":");
    put_string(b, p->name);
    loami_buf_printf(b, ",\"policy\":\"%s\",\"queued\":%u,\"queue_limit\":%u,\"members\":[",
                     p->conf->policy->name, p->n_queued, p->conf->queue_limit);
    for (uint32_t i = 0; i < p->n_members; i++) {
        loami_buf_puts(b, i ? ",{\"backend\":" : "{\"backend\":");
        put_string(b, p->members[i].backend->name);
        loami_buf_printf(b, ",\"requests\":%llu}", (unsigned long long)p->members[i].requests);
    }
    loami_buf_puts(b, "]}");
}

static void put_keys(loami_buf *b, const loami_gateway *gw)
{
    const loami_gw_key *k;
    bool first = true;
    loami_buf_puts(b, "],\"keys\":[");
    LIST_FOREACH(k, &gw->keys, next)
    {
        loami_buf_puts(b, first ? "{\"name\":" : ",{\"name\":");
        put_string(b, k->name);
        loami_buf_printf(b, ",\"requests\":%llu,\"refused\":%llu,\"tokens\":%llu}",
                         (unsigned long long)k->n_requests, (unsigned long long)k->n_refused,
                         (unsigned long long)k->n_tokens);
        first = false;
    }
}

void loami_admin_status(loami_reply *r, void *arg)
{
    loami_gateway *gw = arg;
    loami_backend *k;
    loami_server_state s;
    loami_fault f;
    loami_buf b = { 0 };
    bool first = true;

    if (!loami_admin_allowed(gw, r, &f)) {
        loami_reply_fail(r, &f);
        return;
    }
    loami_server_stat(gw->server, &s);
    loami_buf_printf(&b,
                     "{\"version\":\"%s\",\"uptime_s\":%.1f,\"draining\":%s,\"connections\":%u,\"inflight\":%"
                     "u,\"requests\":%llu,\"reloads\":%llu,\"answers\":[",
                     loam_version(), loami_now_s() - gw->opened_s,
                     loami_server_draining(gw->server) ? "true" : "false", s.connections, gw->n_exchanges,
                     (unsigned long long)s.requests, (unsigned long long)gw->reloads);
    for (int i = 0; i < 6; i++)
        loami_buf_printf(&b, "%s%llu", i ? "," : "", (unsigned long long)gw->answers[i]);
    loami_buf_puts(&b, "],\"backends\":[");
    TAILQ_FOREACH(k, &gw->backends, next)
    {
        if (k->removed) continue;
        if (!first) loami_buf_putc(&b, ',');
        put_backend(&b, k);
        first = false;
    }
    loami_buf_puts(&b, "],\"pools\":[");
    for (uint32_t i = 0; i < gw->routes->n_pools; i++) {
        if (i) loami_buf_putc(&b, ',');
        put_pool(&b, &gw->routes->pools[i]);
    }
    put_keys(&b, gw);
    loami_buf_puts(&b, "]}");
    send(r, 200, &b);
}

/* ---- rest ---------------------------------------------------------------------------------------- */

static loami_backend *named(loami_gateway *gw, loami_reply *r, loami_fault *f)
{
    size_t n;
    const char *body = loami_reply_body(r, &n);
    char *name = loami_span_string(loami_peek_get(loami_peek_value(body, n), "backend"), 64, NULL);
    loami_backend *b = name ? loami_backend_find(gw, name) : NULL;
    if (!name)
        loami_fault_set(f, 400, "invalid_value", "backend", "Say which: {\"backend\": \"NAME\"}.");
    else if (!b)
        loami_fault_set(f, 404, "backend_not_found", "backend", "There is no backend named \"%s\".", name);
    free(name);
    return b;
}

static void set_draining(loami_reply *r, loami_gateway *gw, bool on)
{
    loami_fault f;
    loami_buf b = { 0 };
    loami_backend *k = loami_admin_allowed(gw, r, &f) ? named(gw, r, &f) : NULL;
    if (!k) {
        loami_reply_fail(r, &f);
        return;
    }
    if (k->draining && !on) k->ramp_from_s = loami_now_s();
    k->draining = on;
    if (!on) {
        loami_health_probe_soon(k);
        loami_pool_moved(gw);
    }
    loami_buf_puts(&b, "{\"backend\":");
    put_string(&b, k->name);
    loami_buf_printf(&b, ",\"state\":\"%s\",\"inflight\":%u}", loami_backend_state(k), k->inflight);
    send(r, 200, &b);
}

void loami_admin_drain(loami_reply *r, void *gw)
{
    set_draining(r, gw, true);
}

void loami_admin_undrain(loami_reply *r, void *gw)
{
    set_draining(r, gw, false);
}

void loami_admin_reload(loami_reply *r, void *arg)
{
    loami_gateway *gw = arg;
    loami_buf b = { 0 };
    loami_fault f;
    loam_err err;
    if (!loami_admin_allowed(gw, r, &f)) {
        loami_reply_fail(r, &f);
    } else if (loami_gateway_reload(gw, &err) < 0) {
        loami_fault_set(&f, 400, "invalid_configuration", "", "%s", err.msg);
        loami_reply_fail(r, &f);
    } else {
        loami_buf_printf(&b, "{\"reloaded\":true,\"backends\":%u,\"pools\":%u}",
                         gw->routes->config->n_backends, gw->routes->n_pools);
        send(r, 200, &b);
    }
}

void loami_admin_restart(loami_reply *r, void *arg)
{
    loami_gateway *gw = arg;
    loami_buf b = { 0 };
    loami_fault f;
    if (!loami_admin_allowed(gw, r, &f)) {
        loami_reply_fail(r, &f);
        return;
    }
    if (!gw->on_restart) {
        loami_fault_set(&f, 409, "no_successor", NULL,
                        "this gateway may not start a successor (--sandbox): its service manager restarts it");
        loami_reply_fail(r, &f);
        return;
    }
    loami_buf_puts(&b, "{\"restarting\":true}");
    send(r, 200, &b);
    loami_timer_set(gw->loop, &gw->restart, 0, gw->on_restart, gw->options_arg);
}

/* ---- models -------------------------------------------------------------------------------------- */

typedef struct listing {
    loami_buf *out;
    const char *only;  /* NULL = all */
    const char **seen; /* [n] */
    uint32_t n, cap;
    int64_t created;
} listing;

static void list_model(listing *l, const char *id, const char *owner)
{
    if (l->only && strcmp(l->only, id) != 0) return;
    for (uint32_t i = 0; i < l->n; i++)
        if (strcmp(l->seen[i], id) == 0) return;
    if (l->n == l->cap) {
        const char **more = realloc(l->seen, (l->cap * 2 + 64) * sizeof *more);
        if (!more) return;
        l->seen = more;
        l->cap = l->cap * 2 + 64;
    }
    l->seen[l->n++] = id;
    if (!l->only && l->n > 1) loami_buf_putc(l->out, ',');
    loami_buf_puts(l->out, "{\"id\":");
    put_string(l->out, id);
    loami_buf_printf(l->out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"%s\"}",
                     (long long)l->created, owner);
}

void loami_admin_models(loami_reply *r, void *arg)
{
    loami_gateway *gw = arg;
    const loami_gw_config *c = gw->routes->config;
    loami_buf b = { 0 };
    listing l = { .out = &b, .only = loami_reply_tail(r), .created = gw->opened_unix };
    loami_gw_key *key;
    loami_fault f;
    loami_backend *k;

    if (loami_gw_keys_check(gw, r, &key, &f) < 0) {
        loami_reply_fail(r, &f);
        return;
    }
    if (!l.only) loami_buf_puts(&b, "{\"object\":\"list\",\"data\":[");
    TAILQ_FOREACH(k, &gw->backends, next)
    {
        const char *owner = k->kind ? k->kind->name : "unknown";
        if (k->removed) continue;
        for (uint32_t i = 0; i < k->conf->n_models; i++) list_model(&l, k->conf->models[i].key, owner);
        for (uint32_t i = 0; !k->conf->n_models && i < k->n_models; i++) list_model(&l, k->models[i], owner);
    }
    for (uint32_t i = 0; i < c->n_aliases; i++) list_model(&l, c->aliases[i].key, "alias");
    if (!l.only) loami_buf_puts(&b, "]}");
    if (l.only && l.n == 0) {
        loami_fault_set(&f, 404, "model_not_found", "model", "No backend has the model \"%.200s\".", l.only);
        loami_reply_fail(r, &f);
        loami_buf_free(&b);
    } else {
        send(r, 200, &b);
    }
    free(l.seen);
}

/* ---- health -------------------------------------------------------------------------------------- */

static uint32_t count_usable(loami_gateway *gw, uint32_t *all)
{
    loami_backend *k;
    uint32_t n = 0;
    *all = 0;
    TAILQ_FOREACH(k, &gw->backends, next)
    {
        if (k->removed) continue;
        (*all)++;
        n += loami_backend_usable(k);
    }
    return n;
}

static void put_health(loami_buf *b, loami_gateway *gw, const char *status)
{
    uint32_t all, n = count_usable(gw, &all);
    loami_buf_printf(b,
                     "{\"status\":\"%s\",\"framework\":\"loam-gateway\",\"version\":\"%s\",\"backends\":%u,"
                     "\"usable\":%u,\"inflight\":%u}",
                     status, loam_version(), all, n, gw->n_exchanges);
}

/* It runs. */
void loami_admin_health(loami_reply *r, void *arg)
{
    loami_gateway *gw = arg;
    loami_buf b = { 0 };
    put_health(&b, gw, loami_server_draining(gw->server) ? "draining" : "ok");
    send(r, 200, &b);
}

/* It can answer. */
void loami_admin_ready(loami_reply *r, void *arg)
{
    loami_gateway *gw = arg;
    loami_buf b = { 0 };
    uint32_t all;
    bool draining = loami_server_draining(gw->server), ready = !draining && count_usable(gw, &all) > 0;
    put_health(&b, gw, draining ? "draining" : ready ? "ready" : "no healthy backends");
    if (!ready) loami_reply_set(r, "Retry-After", "1");
    send(r, ready ? 200 : 503, &b);
}
