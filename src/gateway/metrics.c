/* GET /metrics, in Prometheus' text form 0.0.4. Names are vLLM's where vLLM has one, with the backend as a
 * label. */
#include "gateway/shift.h"

#include "base/clock.h"

typedef struct series {
    const char *name, *type, *help;
    double (*of)(loami_backend *b, double now);
} series;

static double running(loami_backend *b, double now)
{
    return (void)now, b->inflight;
}
static double owed(loami_backend *b, double now)
{
    return (void)now, b->owed;
}
static double up(loami_backend *b, double now)
{
    return (void)now, b->health == LOAMI_HEALTH_UP;
}
static double usable(loami_backend *b, double now)
{
    return (void)now, loami_backend_usable(b);
}
static double draining(loami_backend *b, double now)
{
    return (void)now, b->draining;
}
static double breaker(loami_backend *b, double now)
{
    return (void)now, b->breaker;
}
static double ramp(loami_backend *b, double now)
{
    return loami_backend_ramp(b, now);
}
static double prompt_tokens(loami_backend *b, double now)
{
    return (void)now, (double)b->numbers.prompt_tokens;
}
static double answer_tokens(loami_backend *b, double now)
{
    return (void)now, (double)b->numbers.answer_tokens;
}
static double tries(loami_backend *b, double now)
{
    return (void)now, (double)b->numbers.tries;
}
static double good(loami_backend *b, double now)
{
    return (void)now, (double)b->numbers.answers[2];
}
static double resumed_from(loami_backend *b, double now)
{
    return (void)now, (double)b->numbers.resumed_from;
}
static double resumed_to(loami_backend *b, double now)
{
    return (void)now, (double)b->numbers.resumed_to;
}
static double hedges(loami_backend *b, double now)
{
    return (void)now, (double)b->numbers.hedges;
}
static double cancelled(loami_backend *b, double now)
{
    return (void)now, (double)b->numbers.cancelled;
}
static double probes(loami_backend *b, double now)
{
    return (void)now, (double)b->numbers.probes;
}
static double probes_failed(loami_backend *b, double now)
{
    return (void)now, (double)b->numbers.probes_failed;
}

static const series table[] = {
    { "vllm:num_requests_running", "gauge", "Requests that are with the backend.", running },
    { "vllm:prompt_tokens_total", "counter", "Tokens of prompts.", prompt_tokens },
    { "vllm:generation_tokens_total", "counter", "Tokens of answers.", answer_tokens },
    { "vllm:request_success_total", "counter", "Answers with a status from 200 to 299.", good },
    { "loam_gateway_backend_requests_total", "counter", "Requests sent to the backend, repeated ones too.",
      tries },
    { "loam_gateway_backend_owed_tokens", "gauge",
      "Tokens that the backend still owes to its requests, guessed.", owed },
    { "loam_gateway_backend_up", "gauge", "1 while probes succeed.", up },
    { "loam_gateway_backend_usable", "gauge", "1 while the backend gets requests.", usable },
    { "loam_gateway_backend_draining", "gauge", "1 while the backend is drained.", draining },
    { "loam_gateway_backend_breaker_state", "gauge", "0 closed, 1 open, 2 half open.", breaker },
    { "loam_gateway_backend_ramp", "gauge", "Its part of its usual share, while it warms up.", ramp },
    { "loam_gateway_backend_streams_resumed_from_total", "counter",
      "Streams that it lost and another one continued.", resumed_from },
    { "loam_gateway_backend_streams_resumed_to_total", "counter", "Streams that it continued.", resumed_to },
    { "loam_gateway_backend_hedges_total", "counter", "Requests sent to it because another one was late.",
      hedges },
    { "loam_gateway_backend_cancelled_total", "counter", "Requests whose clients left.", cancelled },
    { "loam_gateway_backend_probes_total", "counter", "Health probes.", probes },
    { "loam_gateway_backend_probes_failed_total", "counter", "Health probes that failed.", probes_failed },
};

/* The backend after b, with its label; NULL begins, and ends. */
static loami_backend *next(loami_gateway *gw, loami_backend *b, loami_buf *labels)
{
    b = b ? TAILQ_NEXT(b, next) : TAILQ_FIRST(&gw->backends);
    while (b && b->removed) b = TAILQ_NEXT(b, next);
    loami_buf_clear(labels);
    if (b) loami_prom_label(labels, "backend", b->name);
    return b;
}

/* A sample of each backend. */
static void each(loami_buf *o, loami_gateway *gw, const series *s, double now)
{
    loami_buf labels = { 0 };
    loami_prom_head(o, s->name, s->type, s->help);
    for (loami_backend *b = NULL; (b = next(gw, b, &labels));) loami_prom_put(o, s->name, &labels, s->of(b, now));
    loami_buf_free(&labels);
}

static const loami_prom_hist hists[] = { /* in loami_backend_numbers */
    { "vllm:time_to_first_token_seconds", "From a request's start at the backend to its first token.",
      offsetof(loami_backend_numbers, ttft), loami_hist_ttft },
    { "vllm:inter_token_latency_seconds", "Between two events of a stream.", offsetof(loami_backend_numbers, itl),
      loami_hist_itl },
    { "vllm:e2e_request_latency_seconds", "Of requests answered well, from the client's request on.",
      offsetof(loami_backend_numbers, e2e), loami_hist_e2e },
};

static void put_backends(loami_buf *o, loami_gateway *gw)
{
    static const char failures[] = "loam_gateway_backend_failures_total";
    double now = loami_now_s();
    loami_buf labels = { 0 };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) each(o, gw, &table[i], now);
    loami_prom_head(o, failures, "counter", "Tries that failed, by kind.");
    for (loami_backend *b = NULL; (b = next(gw, b, &labels));)
        for (int i = 0; i < LOAMI_FAILURES; i++)
            loami_prom_put_by(o, failures, &labels, "kind", loami_failure_names[i], (double)b->numbers.failures[i]);
    for (size_t i = 0; i < sizeof hists / sizeof hists[0]; i++) {
        loami_prom_head(o, hists[i].name, "histogram", hists[i].help);
        for (loami_backend *b = NULL; (b = next(gw, b, &labels));) loami_prom_put_hist(o, &hists[i], &labels, &b->numbers);
    }
    loami_buf_free(&labels);
}

static double waiting(const loami_pool *p)
{
    return p->n_queued;
}
static double refused(const loami_pool *p)
{
    return (double)p->refused;
}
static double nobody(const loami_pool *p)
{
    return (double)p->nobody;
}

static const struct {
    const char *name, *type, *help;
    double (*of)(const loami_pool *p);
} pool_table[] = {
    { "vllm:num_requests_waiting", "gauge", "Requests that wait for a place.", waiting },
    { "loam_gateway_pool_refused_total", "counter", "Requests refused because nothing became free.", refused },
    { "loam_gateway_pool_no_backend_total", "counter", "Requests for which no backend was left.", nobody },
};

static void put_pools(loami_buf *o, const loami_routes *r)
{
    for (size_t k = 0; k < sizeof pool_table / sizeof pool_table[0]; k++) {
        loami_prom_head(o, pool_table[k].name, pool_table[k].type, pool_table[k].help);
        for (uint32_t i = 0; i < r->n_pools; i++)
            loami_prom_put_by(o, pool_table[k].name, NULL, "pool", r->pools[i].name, pool_table[k].of(&r->pools[i]));
    }
}

static void put_evidence(loami_buf *o, const loami_pool *p, const loami_buf *labels)
{
    const loami_judge *j = &p->shift->judge;
    if (!loami_rollout_open(&p->shift->r)) return;
    for (int m = 0; m < LOAMI_METRICS; m++)
        if (!j->gate.of[m].off)
            loami_prom_put_by(o, "loam_gateway_rollout_evidence", labels, "gate", loami_gate_metrics[m].name,
                              loami_bet_wealth(&j->of[m].worse) / loami_judge_closes_at(&j->gate, m));
}

static void put_rollouts(loami_buf *o, const loami_routes *r)
{
    loami_buf labels = { 0 };
    loami_prom_head(o, "loam_gateway_rollout_share", "gauge",
                    "Part of a pool's requests that its rollout gives the new side.");
    for (uint32_t i = 0; i < r->n_pools; i++, loami_buf_clear(&labels)) {
        loami_prom_label(&labels, "pool", r->pools[i].name);
        loami_prom_put_by(o, "loam_gateway_rollout_share", &labels, "state",
                          loami_rollout_states[r->pools[i].shift->r.state], loami_rollout_part(&r->pools[i].shift->r));
    }
    loami_prom_head(o, "loam_gateway_rollout_evidence", "gauge",
                    "Of a gate: wealth of the bets that the new side is worse, by what it closes at; it rolls back at 1.");
    for (uint32_t i = 0; i < r->n_pools; i++, loami_buf_clear(&labels)) {
        loami_prom_label(&labels, "pool", r->pools[i].name);
        put_evidence(o, &r->pools[i], &labels);
    }
    loami_buf_free(&labels);
}

static void put_own(loami_buf *o, const loami_gateway *gw)
{
    static const char *const classes[] = { "other", "1xx", "2xx", "3xx", "4xx", "5xx" };
    loami_server_state s;
    loami_server_stat(gw->server, &s);
    loami_prom_head(o, "loam_gateway_answers_total", "counter", "Answers to clients, by class of status.");
    for (int i = 1; i < 6; i++)
        loami_prom_put_by(o, "loam_gateway_answers_total", NULL, "class", classes[i], (double)gw->answers[i]);
    loami_prom_one(o, "loam_gateway_rate_limited_total", "counter", "Requests beyond a key's rate.",
                   (double)gw->limited);
    loami_prom_head(o, "loam_gateway_refused_total", "counter", "Requests and connections that the gateway itself answered 429 or 503.");
    loami_prom_put_by(o, "loam_gateway_refused_total", NULL, "code", "429", (double)s.refused_429);
    loami_prom_put_by(o, "loam_gateway_refused_total", NULL, "code", "503", (double)s.refused_503);
    loami_prom_one(o, "loam_gateway_requests_inflight", "gauge", "Requests of clients.", gw->n_exchanges);
    loami_prom_one(o, "loam_gateway_connections", "gauge", "Connections of clients.", s.connections);
    loami_prom_one(o, "loam_gateway_held_bytes", "gauge", "Bytes of requests that are here, which limits.all_bodies_bytes limits.",
                   (double)s.held_bytes);
    loami_prom_one(o, "loam_gateway_log_lines_lost_total", "counter", "Lines of the log that nobody read in time.",
                   (double)s.log_lost);
    loami_prom_head(o, "loam_gateway_reloads_total", "counter", "Configurations read again.");
    loami_prom_put_by(o, "loam_gateway_reloads_total", NULL, "ok", "true", (double)gw->reloads);
    loami_prom_put_by(o, "loam_gateway_reloads_total", NULL, "ok", "false", (double)gw->reloads_failed);
    loami_prom_one(o, "loam_gateway_usage_rows_dropped_total", "counter",
                   "Rows of the usage ledger that could not be written.",
                   (double)(gw->ledger ? loami_ledger_dropped(gw->ledger) : 0));
}

void loami_metrics(loami_reply *r, void *arg)
{
    loami_gateway *gw = arg;
    loami_buf o = { 0 };
    put_backends(&o, gw);
    put_pools(&o, gw->routes);
    put_rollouts(&o, gw->routes);
    put_own(&o, gw);
    loami_reply_send(r, 200, LOAMI_PROM_TYPE, o.data, o.len);
    loami_buf_free(&o);
}
