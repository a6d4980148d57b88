/* GET /metrics, in Prometheus' text form 0.0.4. Names are vLLM's where vLLM has one, with the backend as a
 * label. */
#include "gateway/shift.h"

#include "base/clock.h"

#include <string.h>

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

static void put_head(loami_buf *o, const char *name, const char *type, const char *help)
{
    loami_buf_printf(o, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static loami_backend *next(loami_gateway *gw, loami_backend *b)
{
    b = b ? TAILQ_NEXT(b, next) : TAILQ_FIRST(&gw->backends);
    while (b && b->removed) b = TAILQ_NEXT(b, next);
    return b;
}

static void put_hists(loami_buf *o, loami_gateway *gw, const char *name, const char *help, size_t at,
                      const double *bounds)
{
    put_head(o, name, "histogram", help);
    for (loami_backend *b = NULL; (b = next(gw, b));) {
        const loami_hist *h = (const loami_hist *)((const char *)&b->numbers + at);
        uint64_t sum = 0;
        for (uint32_t i = 0; bounds[i] > 0; i++) {
            sum += h->n[i];
            loami_buf_printf(o, "%s_bucket{backend=\"%s\",le=\"%g\"} %llu\n", name, b->name, bounds[i],
                             (unsigned long long)sum);
        }
        loami_buf_printf(o,
                         "%s_bucket{backend=\"%s\",le=\"+Inf\"} %llu\n%s_sum{backend=\"%s\"} "
                         "%.9g\n%s_count{backend=\"%s\"} %llu\n",
                         name, b->name, (unsigned long long)h->count, name, b->name, h->sum, name, b->name,
                         (unsigned long long)h->count);
    }
}

static void put_backends(loami_buf *o, loami_gateway *gw)
{
    double now = loami_now_s();
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        put_head(o, table[i].name, table[i].type, table[i].help);
        for (loami_backend *b = NULL; (b = next(gw, b));)
            loami_buf_printf(o, "%s{backend=\"%s\"} %.15g\n", table[i].name, b->name, table[i].of(b, now));
    }
    put_head(o, "loam_gateway_backend_failures_total", "counter", "Tries that failed, by kind.");
    for (loami_backend *b = NULL; (b = next(gw, b));)
        for (int i = 0; i < LOAMI_FAILURES; i++)
            loami_buf_printf(o, "loam_gateway_backend_failures_total{backend=\"%s\",kind=\"%s\"} %llu\n",
                             b->name, loami_failure_names[i], (unsigned long long)b->numbers.failures[i]);
    put_hists(o, gw, "vllm:time_to_first_token_seconds",
              "From a request's start at the backend to its first token.",
              offsetof(loami_backend_numbers, ttft), loami_hist_ttft);
    put_hists(o, gw, "vllm:inter_token_latency_seconds", "Between two events of a stream.",
              offsetof(loami_backend_numbers, itl), loami_hist_itl);
    put_hists(o, gw, "vllm:e2e_request_latency_seconds",
              "Of requests answered well, from the client's request on.",
              offsetof(loami_backend_numbers, e2e), loami_hist_e2e);
}

static void put_pools(loami_buf *o, const loami_routes *r)
{
    put_head(o, "vllm:num_requests_waiting", "gauge", "Requests that wait for a place.");
    for (uint32_t i = 0; i < r->n_pools; i++)
        loami_buf_printf(o, "vllm:num_requests_waiting{pool=\"%s\"} %u\n", r->pools[i].name,
                         r->pools[i].n_queued);
    put_head(o, "loam_gateway_pool_refused_total", "counter",
             "Requests refused because nothing became free.");
    for (uint32_t i = 0; i < r->n_pools; i++)
        loami_buf_printf(o, "loam_gateway_pool_refused_total{pool=\"%s\"} %llu\n", r->pools[i].name,
                         (unsigned long long)r->pools[i].refused);
    put_head(o, "loam_gateway_pool_no_backend_total", "counter", "Requests for which no backend was left.");
    for (uint32_t i = 0; i < r->n_pools; i++)
        loami_buf_printf(o, "loam_gateway_pool_no_backend_total{pool=\"%s\"} %llu\n", r->pools[i].name,
                         (unsigned long long)r->pools[i].nobody);
}

static void put_rollouts(loami_buf *o, const loami_routes *r)
{
    put_head(o, "loam_gateway_rollout_share", "gauge", "Part of a pool's requests that its rollout gives the new side.");
    for (uint32_t i = 0; i < r->n_pools; i++)
        loami_buf_printf(o, "loam_gateway_rollout_share{pool=\"%s\",state=\"%s\"} %g\n", r->pools[i].name,
                         loami_rollout_states[r->pools[i].shift->r.state], loami_rollout_part(&r->pools[i].shift->r));
    put_head(o, "loam_gateway_rollout_evidence", "gauge",
             "Of a gate: wealth of the bets that the new side is worse, by what it closes at; it rolls back at 1.");
    for (uint32_t i = 0; i < r->n_pools; i++)
        for (int m = 0; m < LOAMI_METRICS; m++) {
            const loami_judge *j = &r->pools[i].shift->judge;
            if (!loami_rollout_open(&r->pools[i].shift->r) || j->gate.of[m].off) continue;
            loami_buf_printf(o, "loam_gateway_rollout_evidence{pool=\"%s\",gate=\"%s\"} %.6g\n", r->pools[i].name,
                             loami_gate_metrics[m].name,
                             loami_bet_wealth(&j->of[m].worse) / loami_judge_closes_at(&j->gate, m));
        }
}

void loami_metrics(loami_reply *r, void *arg)
{
    static const char *const classes[] = { "other", "1xx", "2xx", "3xx", "4xx", "5xx" };
    loami_gateway *gw = arg;
    loami_server_state s;
    loami_buf o = { 0 };
    loami_server_stat(gw->server, &s);
    put_backends(&o, gw);
    put_pools(&o, gw->routes);
    put_rollouts(&o, gw->routes);
    put_head(&o, "loam_gateway_answers_total", "counter", "Answers to clients, by class of status.");
    for (int i = 1; i < 6; i++)
        loami_buf_printf(&o, "loam_gateway_answers_total{class=\"%s\"} %llu\n", classes[i],
                         (unsigned long long)gw->answers[i]);
    put_head(&o, "loam_gateway_rate_limited_total", "counter", "Requests beyond a key's rate.");
    loami_buf_printf(&o, "loam_gateway_rate_limited_total %llu\n", (unsigned long long)gw->limited);
    put_head(&o, "loam_gateway_requests_inflight", "gauge", "Requests of clients.");
    loami_buf_printf(&o, "loam_gateway_requests_inflight %u\n", gw->n_exchanges);
    put_head(&o, "loam_gateway_connections", "gauge", "Connections of clients.");
    loami_buf_printf(&o, "loam_gateway_connections %u\n", s.connections);
    put_head(&o, "loam_gateway_reloads_total", "counter", "Configurations read again.");
    loami_buf_printf(
        &o, "loam_gateway_reloads_total{ok=\"true\"} %llu\nloam_gateway_reloads_total{ok=\"false\"} %llu\n",
        (unsigned long long)gw->reloads, (unsigned long long)gw->reloads_failed);
    put_head(&o, "loam_gateway_usage_rows_dropped_total", "counter",
             "Rows of the usage ledger that could not be written.");
    loami_buf_printf(&o, "loam_gateway_usage_rows_dropped_total %llu\n",
                     (unsigned long long)(gw->ledger ? loami_ledger_dropped(gw->ledger) : 0));
    loami_reply_send(r, 200, "text/plain; version=0.0.4; charset=utf-8", o.data, o.len);
    loami_buf_free(&o);
}
