/* Health is learnt in two ways. Probes ask at intervals whether a server is there at all; the requests
 * themselves say whether it does its work. A server that is busy answers probes late or not at all: while
 * bytes of its answers come, and for busy_s after them if requests are still with it, silence is not held
 * against it. */
#include "gateway/gw.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double HURRY_S = 1;   /* between probes while it is being found out */
static const double MODELS_S = 60; /* how long a list of models is good */
enum { PROBE_BODY_MAX = 4 << 20 };

static void probe(void *arg);

static void schedule(loami_backend *b, double in_s)
{
    if (b->removed) return;
    double jitter = b->config->health.jitter * (2 * loami_gw_uniform(b->gw) - 1);
    loami_timer_set(b->gw->loop, &b->probe_timer, in_s * (1 + jitter), probe, b);
}

static void set_health(loami_backend *b, loami_health to)
{
    double now = loami_now_s();
    if (b->health == to) return;
    if (to == LOAMI_HEALTH_UP && b->health == LOAMI_HEALTH_DOWN) b->ramp_from_s = now;
    b->health = to;
    b->changed_s = now;
    if (to == LOAMI_HEALTH_UP) b->why[0] = 0;
    loami_pool_moved(b->gw);
}

static void probe_good(loami_backend *b)
{
    b->bad = 0;
    if (b->good < b->config->health.rise) b->good++;
    if (b->health == LOAMI_HEALTH_UNKNOWN || b->good >= b->config->health.rise)
        set_health(b, LOAMI_HEALTH_UP);
    if (b->breaker == LOAMI_BREAKER_OPEN && b->unreached && b->health == LOAMI_HEALTH_UP)
        b->open_until_s = loami_now_s();
}

static void probe_bad(loami_backend *b, bool says_so, const char *why)
{
    b->good = 0;
    b->numbers.probes_failed++;
    if (b->bad < b->config->health.fall) b->bad++;
    snprintf(b->why, sizeof b->why, "%s", why);
    if (says_so || b->bad >= b->config->health.fall) set_health(b, LOAMI_HEALTH_DOWN);
}

/* ---- probes -------------------------------------------------------------------------------------- */

static bool is_busy(const loami_backend *b)
{
    double now = loami_now_s();
    if (b->alive_s > b->probe_s) return true;
    return b->inflight && now - b->alive_s < b->config->health.busy_s;
}

static void judge(loami_backend *b, loami_call_fate fate, int status, const char *msg)
{
    char why[160];
    if (fate == LOAMI_CALL_OK && status < 500) {
        if (b->probe_by_models)
            loami_discover(b, status == 200 ? b->probe_body.data : NULL, b->probe_body.len);
        probe_good(b);
    } else if (fate == LOAMI_CALL_OK) {
        snprintf(why, sizeof why, "it answers a probe with status %d", status);
        probe_bad(b, status == 503, why);
    } else if (fate == LOAMI_CALL_LATE && is_busy(b)) {
        b->bad = 0;
    } else {
        probe_bad(b, false, msg);
    }
}

static void on_probed(void *arg, loami_call_fate fate, int status, const char *msg)
{
    loami_backend *b = arg;
    double interval = b->config->health.interval_s;
    b->probe = NULL;
    judge(b, fate, status, msg);
    loami_buf_free(&b->probe_body);
    bool unsure = (b->health == LOAMI_HEALTH_DOWN ? b->good > 0 : b->bad > 0) ||
                  (b->health == LOAMI_HEALTH_UP && b->models_s == 0 && !b->conf->n_models);
    schedule(b, unsure && interval > HURRY_S ? HURRY_S : interval);
}

static bool on_probe_data(void *arg, const char *bytes, size_t n)
{
    loami_backend *b = arg;
    if (b->probe_by_models && b->probe_body.len + n <= PROBE_BODY_MAX)
        loami_buf_put(&b->probe_body, bytes, n);
    return true;
}

static void probe(void *arg)
{
    loami_backend *b = arg;
    const loami_backend_conf *c = b->conf;
    loami_buf url = { 0 }, key = { 0 };
    double now = loami_now_s();
    bool wants_models = !b->kind || (!c->n_models && (b->models_s == 0 || now - b->models_s > MODELS_S));

    if (b->probe || b->removed) return;
    b->probe_by_models = wants_models && (b->health != LOAMI_HEALTH_DOWN || !b->kind);
    b->probe_s = now;
    b->numbers.probes++;
    loami_buf_printf(&url, "%s%s", c->url, b->probe_by_models || !b->kind ? "/v1/models" : b->kind->health);
    loami_buf_printf(&key, "Authorization: Bearer %s", c->api_key ? c->api_key : "");
    const char *headers[] = { "User-Agent: loam-gateway", key.data };
    loami_call_request q = {
        .url = url.data,
        .headers = headers,
        .n_headers = c->api_key ? 2 : 1,
        .connect_s = b->config->health.timeout_s,
        .total_s = b->config->health.timeout_s,
        .insecure = c->insecure,
        .ca_file = c->ca_file,
        .data = on_probe_data,
        .done = on_probed,
        .arg = b,
    };
    if (!url.failed && !key.failed) b->probe = loami_call_start(b->gw->client, &q);
    if (!b->probe) schedule(b, b->config->health.interval_s);
    loami_buf_free(&url);
    loami_buf_free(&key);
}

void loami_health_start(loami_backend *b)
{
    loami_timer_set(b->gw->loop, &b->probe_timer, 0, probe, b);
}

void loami_health_stop(loami_backend *b)
{
    if (b->probe) loami_call_cancel(b->probe);
    b->probe = NULL;
    loami_buf_free(&b->probe_body);
    loami_timer_clear(&b->probe_timer);
}

void loami_health_probe_soon(loami_backend *b)
{
    if (!b->removed && !b->probe) loami_timer_set(b->gw->loop, &b->probe_timer, 0, probe, b);
}

/* ---- what requests tell -------------------------------------------------------------------------- */

void loami_health_good(loami_backend *b, bool trial)
{
    b->failures = 0;
    if (trial) b->trial = false;
    if (b->breaker != LOAMI_BREAKER_HALF) return;
    b->breaker = LOAMI_BREAKER_CLOSED;
    b->open_for_s = b->config->breaker.open_s;
    b->ramp_from_s = loami_now_s();
    b->why[0] = 0;
    loami_pool_moved(b->gw);
}

static void open_breaker(loami_backend *b, bool unreached)
{
    double most = b->config->breaker.open_max_s;
    bool again = b->breaker == LOAMI_BREAKER_HALF;
    b->open_for_s = again ? b->open_for_s * 2 : b->config->breaker.open_s;
    if (b->open_for_s > most) b->open_for_s = most;
    b->breaker = LOAMI_BREAKER_OPEN;
    b->unreached = unreached;
    b->open_until_s = loami_now_s() + b->open_for_s;
    loami_health_probe_soon(b);
}

void loami_health_failed(loami_backend *b, loami_failure why, bool trial, const char *words)
{
    loami_backend_fails(b);
    b->fails += 1;
    b->failures++;
    if (trial) b->trial = false;
    snprintf(b->why, sizeof b->why, "%s", words);
    if (b->breaker == LOAMI_BREAKER_OPEN) return;
    if (why == LOAMI_FAIL_UNREACHED || b->breaker == LOAMI_BREAKER_HALF ||
        b->failures >= b->config->breaker.failures)
        open_breaker(b, why == LOAMI_FAIL_UNREACHED);
    else if (why == LOAMI_FAIL_LOST)
        loami_health_probe_soon(b);
}

void loami_health_busy(loami_backend *b, double seconds)
{
    b->busy_until_s = loami_now_s() + seconds;
    b->alive_s = loami_now_s();
}
