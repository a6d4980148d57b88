/* GET /metrics, in Prometheus' text form 0.0.4. Names are vLLM's where vLLM has one, with the model as a
 * label; what only loam has begins with loam_. Counters of a model that was unloaded go on when it is loaded
 * again. */
#include "api/endpoints.h"

#include "base/system.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct sample {
    const loami_served *s;
    loam_engine_state e; /* its engine's, or zero */
    bool loaded;
    loami_buf labels;
} sample;

typedef struct series {
    const char *name, *type, *help;
    double (*of)(const sample *m);
} series;

#define SERIES(function_, value_)                                                                            \
    static double function_(const sample *m)                                                                 \
    {                                                                                                        \
        return (double)(value_);                                                                             \
    }
SERIES(running, m->e.running)
SERIES(waiting, m->e.waiting)
/* Of the kind of pages that is nearest to its end. */
static double usage(const loam_engine_state *e)
{
    double all = e->pages ? (double)e->pages_used / e->pages : 0, near = e->near_pages ? (double)e->near_pages_used / e->near_pages : 0;
    return near > all ? near : all;
}

SERIES(kv_usage, usage(&m->e))
SERIES(kv_kept, m->e.pages_kept)
SERIES(prompt_tokens, m->e.prompt_tokens + m->s->gone.prompt_tokens)
SERIES(prompt_tokens_read, m->e.prompt_tokens_read + m->s->gone.prompt_tokens_read)
SERIES(new_tokens, m->e.new_tokens + m->s->gone.new_tokens)
SERIES(prefix_queries, m->e.prefix_queries + m->s->gone.prefix_queries)
SERIES(prefix_hits, m->e.prefix_hits + m->s->gone.prefix_hits)
SERIES(disk_hits, m->e.disk_hits + m->s->gone.disk_hits)
SERIES(preemptions, m->e.preemptions + m->s->gone.preemptions)
SERIES(speculated, m->e.speculated + m->s->gone.speculated)
SERIES(speculated_right, m->e.speculated_right + m->s->gone.speculated_right)
SERIES(steps, m->e.steps + m->s->gone.steps)
SERIES(steps_ahead, m->e.steps_ahead + m->s->gone.steps_ahead)
SERIES(step_s, m->e.step_s)
SERIES(step_max_s, m->e.step_max_s)
SERIES(tokens_per_s, m->e.tokens_per_s)
SERIES(timeouts, m->s->stats.timeouts)
SERIES(refused, m->s->stats.refused)
SERIES(loaded, m->loaded)
SERIES(memory, m->e.weight_bytes + m->e.kv_bytes + m->e.scratch_bytes)
SERIES(model_waits, m->s->n_waits)

static const series table[] = {
    { "vllm:num_requests_running", "gauge", "Requests in the batch.", running },
    { "vllm:num_requests_waiting", "gauge", "Requests in the engine's queue.", waiting },
    { "vllm:kv_cache_usage_perc", "gauge", "Pages of the KV cache that requests hold, 1 is all of them.",
      kv_usage },
    { "vllm:prefix_cache_queries_total", "counter", "Tokens of prompts looked up in the prefix cache.",
      prefix_queries },
    { "vllm:prefix_cache_hits_total", "counter", "Of them, found.", prefix_hits },
    { "vllm:num_preemptions_total", "counter", "Times a request gave its pages back to start over.",
      preemptions },
    { "vllm:spec_decode_num_draft_tokens_total", "counter", "Tokens guessed ahead.", speculated },
    { "vllm:spec_decode_num_accepted_tokens_total", "counter", "Of them, what the model chose.",
      speculated_right },
    { "vllm:prompt_tokens_total", "counter", "Tokens of prompts read to their end, those found in the cache too.",
      prompt_tokens_read },
    { "vllm:generation_tokens_total", "counter", "Tokens of answers.", new_tokens },
    { "loam_prompt_tokens_computed_total", "counter", "Tokens of prompts that were computed: not found in the cache.",
      prompt_tokens },
    { "loam_kv_pages_kept", "gauge", "Pages that nobody holds, kept for prompts that begin alike.", kv_kept },
    { "loam_prefix_disk_hits_total", "counter", "Tokens of prompts found on disk.", disk_hits },
    { "loam_engine_steps_total", "counter", "Steps of the engine.", steps },
    { "loam_engine_steps_ahead_total", "counter", "Of them, begun before the one before them was done.", steps_ahead },
    { "loam_engine_step_seconds", "gauge",
      "Age of the step that runs now, or of what the engine is at between steps; one that grows without end is stalled.", step_s },
    { "loam_engine_step_max_seconds", "gauge", "The longest step since the model was loaded.", step_max_s },
    { "loam_engine_tokens_per_second", "gauge", "Of prompts and answers, in the last seconds of work.",
      tokens_per_s },
    { "loam_request_timeouts_total", "counter", "Requests whose own time limit ended them.", timeouts },
    { "loam_requests_refused_total", "counter", "Requests answered 429, because the queue was full.",
      refused },
    { "loam_model_loaded", "gauge", "1 while the model is loaded.", loaded },
    { "loam_model_memory_bytes", "gauge", "Weights, KV cache and what steps need.", memory },
    { "loam_model_requests_waiting", "gauge", "Requests that wait for the model to be loaded.", model_waits },
};

static const loami_prom_hist hists[] = { /* in loami_stats */
    { "vllm:time_to_first_token_seconds", "From a request's arrival to its first token.",
      offsetof(loami_stats, ttft), loami_bounds_ttft },
    { "vllm:inter_token_latency_seconds", "Between two tokens of an answer, as the engine made them.",
      offsetof(loami_stats, gap), loami_bounds_gap },
    { "vllm:request_time_per_output_token_seconds",
      "Decoding time of a request over its tokens but the first.", offsetof(loami_stats, tpot),
      loami_bounds_gap },
    { "vllm:e2e_request_latency_seconds", "Of requests answered well, from arrival to the last token.",
      offsetof(loami_stats, e2e), loami_bounds_request },
    { "vllm:request_queue_time_seconds", "In the engine's queue.", offsetof(loami_stats, queue),
      loami_bounds_request },
    { "vllm:request_prefill_time_seconds", "From the queue to the first token.",
      offsetof(loami_stats, prefill), loami_bounds_request },
    { "vllm:request_decode_time_seconds", "From the first token to the last.", offsetof(loami_stats, decode),
      loami_bounds_request },
    { "vllm:request_inference_time_seconds", "From the queue to the last token.",
      offsetof(loami_stats, inference), loami_bounds_request },
    { "vllm:request_prompt_tokens", "Tokens of a prompt.", offsetof(loami_stats, prompt_tokens),
      loami_bounds_tokens },
    { "vllm:request_generation_tokens", "Tokens of an answer.", offsetof(loami_stats, answer_tokens),
      loami_bounds_tokens },
    { "vllm:request_params_n", "The parameter n of requests.", offsetof(loami_stats, n), loami_bounds_n },
    { "loam_embedding_latency_seconds", "Of requests for embeddings answered well, from arrival to the answer.",
      offsetof(loami_stats, embeddings.e2e), loami_bounds_request },
    { "loam_score_latency_seconds", "Likewise, for scores.", offsetof(loami_stats, scores.e2e), loami_bounds_request },
    { "vllm:request_params_max_tokens", "The parameter max_tokens of requests that have it.",
      offsetof(loami_stats, max_tokens), loami_bounds_tokens },
};

static void put_ended(loami_buf *o, const sample *m, uint32_t n, const char *name, const char *help, size_t at)
{
    loami_prom_head(o, name, "counter", help);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t *ended = (const uint64_t *)((const char *)&m[i].s->stats + at);
        for (int k = 0; k < LOAMI_ENDINGS; k++)
            loami_prom_put_by(o, name, &m[i].labels, "finished_reason", loami_ending_names[k], (double)ended[k]);
    }
}

/* The engine's state as a series each, of which one is 1. */
static void put_states(loami_buf *o, const loami_api *a, const sample *m, uint32_t n)
{
    static const char *const names[] = { "idle", "prefill", "decode", "stalled" };
    loami_prom_head(o, "loam_engine_state", "gauge", "1 for what the engine does now.");
    for (uint32_t i = 0; i < n; i++)
        for (int k = 0; m[i].loaded && k < 4; k++)
            loami_prom_put_by(o, "loam_engine_state", &m[i].labels, "state", names[k],
                              strcmp(names[k], loami_api_pulse(a, m[i].s)) == 0);
}

/* The engine counts its steps itself. */
static void put_steps(loami_buf *o, const sample *m, uint32_t n)
{
    static const loami_prom_hist series = { "vllm:iteration_tokens_total", "Tokens of prompts and answers that a step ran.", 0,
                                            loami_bounds_step };
    loami_prom_head(o, series.name, "histogram", series.help);
    for (uint32_t i = 0; i < n; i++) {
        const loam_engine_state *e = &m[i].e, *gone = &m[i].s->gone;
        loami_hist h = { .count = e->steps + gone->steps, .sum = (double)(e->tokens_run + gone->tokens_run) };
        for (int k = 0; k < LOAM_STEP_SIZES - 1; k++) h.n[k] = e->step_tokens[k] + gone->step_tokens[k];
        loami_prom_put_hist(o, &series, &m[i].labels, &h);
    }
}

static void put_models(loami_buf *o, const loami_api *a, const sample *m, uint32_t n)
{
    for (size_t k = 0; k < sizeof table / sizeof table[0]; k++) {
        loami_prom_head(o, table[k].name, table[k].type, table[k].help);
        for (uint32_t i = 0; i < n; i++) loami_prom_put(o, table[k].name, &m[i].labels, table[k].of(&m[i]));
    }
    put_ended(o, m, n, "vllm:request_success_total", "Requests that ended, by how.", offsetof(loami_stats, ended));
    put_ended(o, m, n, "loam_embedding_requests_total", "Those for embeddings.", offsetof(loami_stats, embeddings.ended));
    put_ended(o, m, n, "loam_score_requests_total", "Those for scores.", offsetof(loami_stats, scores.ended));
    put_states(o, a, m, n);
    put_steps(o, m, n);
    for (size_t k = 0; k < sizeof hists / sizeof hists[0]; k++) {
        loami_prom_head(o, hists[k].name, "histogram", hists[k].help);
        for (uint32_t i = 0; i < n; i++) loami_prom_put_hist(o, &hists[k], &m[i].labels, &m[i].s->stats);
    }
}

static void put_server(loami_buf *o, const loami_api *a, const loami_reply *r)
{
    loami_server_state s;
    struct timespec cpu;
    loami_reply_server_stat(r, &s);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    loami_prom_one(o, "loam_ready", "gauge", "1 once requests are answered.", a->models.ready && !a->draining);
    loami_prom_one(o, "loam_model_loads_total", "counter", "Models loaded.", (double)a->models.loads);
    loami_prom_one(o, "loam_model_unloads_total", "counter", "Models unloaded.", (double)a->models.unloads);
    loami_prom_one(o, "loam_model_load_failures_total", "counter", "Models that could not be loaded.",
            (double)a->models.load_failures);
    loami_prom_one(o, "loam_memory_limit_bytes", "gauge", "Of all models together; 0 = none.",
            (double)a->models.config.memory_bytes);
    loami_prom_one(o, "loam_http_connections", "gauge", "Open connections.", s.connections);
    loami_prom_one(o, "loam_http_held_bytes", "gauge", "Bytes of requests that are here, which --body-memory limits.",
                   (double)s.held_bytes);
    loami_prom_one(o, "loam_http_requests_inflight", "gauge", "Requests being answered, this one too.", s.replies);
    loami_prom_one(o, "loam_http_requests_total", "counter", "Requests received.", (double)s.requests);
    loami_prom_head(o, "loam_http_refused_total", "counter", "Requests and connections answered 429 or 503.");
    loami_prom_put_by(o, "loam_http_refused_total", NULL, "code", "429", (double)s.refused_429);
    loami_prom_put_by(o, "loam_http_refused_total", NULL, "code", "503", (double)s.refused_503);
    loami_prom_one(o, "loam_http_sent_bytes_total", "counter", "Bytes of bodies of answers.", (double)s.bytes_sent);
    loami_prom_one(o, "loam_http_clients_gone_total", "counter", "Clients that left before their answer was out.",
            (double)s.gone);
    loami_prom_one(o, "loam_log_lines_lost_total", "counter", "Lines of the log that nobody read in time.",
                   (double)s.log_lost);
    loami_prom_one(o, "process_cpu_seconds_total", "counter", "User and system CPU time spent in seconds.",
            (double)cpu.tv_sec + (double)cpu.tv_nsec * 1e-9);
    loami_prom_one(o, "process_start_time_seconds", "gauge",
            "Start time of the process since unix epoch in seconds.", (double)a->opened_s);
    loami_prom_one(o, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
            (double)loami_resident_memory_bytes());
}

void loami_api_metrics(loami_reply *r, void *api)
{
    const loami_api *a = api;
    uint32_t n = a->models.list ? a->models.config.n_models : 0;
    sample *m = calloc(n + 1, sizeof *m);
    loami_buf o = { 0 };
    for (uint32_t i = 0; m && i < n; i++) {
        m[i].s = &a->models.list[i];
        m[i].loaded = m[i].s->info;
        if (m[i].loaded) loam_engine_stat(m[i].s->engine, &m[i].e);
        loami_prom_label(&m[i].labels, "model_name", m[i].s->config->names[0]);
    }
    if (m) put_models(&o, a, m, n);
    put_server(&o, a, r);
    for (uint32_t i = 0; m && i < n; i++) loami_buf_free(&m[i].labels);
    free(m);
    loami_reply_send(r, 200, LOAMI_PROM_TYPE, o.data, o.len);
    loami_buf_free(&o);
}
