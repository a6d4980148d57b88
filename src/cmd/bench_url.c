#include "cmd/bench_url.h"

#include "base/clock.h"
#include "base/file.h"
#include "cmd/asker.h"
#include "cmd/open.h"
#include "cmd/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP_TOKENS = 10, NAME = 40 };
static const double PATIENCE_S = 600;

typedef struct column {
    const char *name, *unit;
    double *values; /* [n] sorted */
    uint32_t n;
} column;

enum { TTFT, ITL, SPEED, TOTAL, COLUMNS };

typedef struct measured {
    loami_ask *asks; /* [n] */
    uint32_t n, failed;
    uint64_t tokens;
    double wall_s, average; /* tok/s of an answer, mean */
    column c[COLUMNS];
} measured;

static double speed_of(const loami_ask *a)
{
    return a->total_s > 0 ? a->tokens / a->total_s : 0;
}

static bool count(measured *m)
{
    static const char *const names[] = { "TTFT", "between tokens", "tok/s of an answer", "whole answer" },
                             *const units[] = { "ms", "ms", "tok/s", "s" };
    double sum = 0;
    for (int k = 0; k < COLUMNS; k++) {
        m->c[k] = (column){ .name = names[k], .unit = units[k], .values = calloc(m->n + 1, sizeof(double)) };
        if (!m->c[k].values) return false;
    }
    for (uint32_t i = 0; i < m->n; i++) {
        const loami_ask *a = &m->asks[i];
        if (!a->ok || !a->tokens) {
            m->failed++;
            continue;
        }
        const double v[COLUMNS] = { a->ttft_s * 1e3, a->itl_s * 1e3, speed_of(a), a->total_s };
        for (int k = 0; k < COLUMNS; k++)
            if (k != ITL || a->itl_s > 0) m->c[k].values[m->c[k].n++] = v[k];
        m->tokens += a->tokens;
        sum += speed_of(a);
    }
    for (int k = 0; k < COLUMNS; k++) loami_sort(m->c[k].values, m->c[k].n);
    m->average = m->c[SPEED].n ? sum / m->c[SPEED].n : 0;
    return true;
}

/* ---- telling ------------------------------------------------------------------------------------- */

static void print_table(const loami_bench_url *b, const measured *m, const loami_prompt *prompts, uint32_t n_prompts,
                        const char *server, const char *model)
{
    printf("%s on %s, %u at once, at most %u tokens\n\n", model, server, b->concurrency, b->max_tokens);
    printf("  %-*s %8s %9s %10s %9s\n", NAME, "prompt", "tokens", "time", "TTFT", "tok/s");
    for (uint32_t i = 0; i < m->n; i++) {
        const loami_ask *a = &m->asks[i];
        if (m->n > 50 && a->ok) continue;
        if (a->ok)
            printf("  %-*.*s %8u %7.2f s %7.1f ms %9.1f\n", NAME, NAME, prompts[i % n_prompts].name, a->tokens, a->total_s,
                   a->ttft_s * 1e3, speed_of(a));
        else
            printf("  %-*.*s failed: %s\n", NAME, NAME, prompts[i % n_prompts].name, a->error);
    }
    printf("\n  %-20s %9s %9s %9s %9s\n", "", "p50", "p90", "p95", "p99");
    for (int k = 0; k < COLUMNS; k++) {
        const column *c = &m->c[k];
        printf("  %-20s", c->name);
        static const double at[] = { 0.5, 0.9, 0.95, 0.99 };
        for (int q = 0; q < 4; q++) printf(" %9.4g", loami_quantile(c->values, c->n, k == SPEED ? 1 - at[q] : at[q]));
        printf(" %s\n", c->unit);
    }
    printf("\n  Average: %.1f tok/s an answer; together %.1f tok/s; %u of %u answers failed\n", m->average,
           m->wall_s > 0 ? (double)m->tokens / m->wall_s : 0, m->failed, m->n);
    if (b->target > 0)
        printf("  Target: %g tok/s: %s\n", (double)b->target, m->average >= (double)b->target ? "met" : "missed");
}

static json_t *quantiles(const column *c, double scale)
{
    return json_pack("{sf sf sf sf sf}", "p50", scale * loami_quantile(c->values, c->n, 0.5), "p90",
                     scale * loami_quantile(c->values, c->n, 0.9), "p95", scale * loami_quantile(c->values, c->n, 0.95), "p99",
                     scale * loami_quantile(c->values, c->n, 0.99), "max", scale * loami_quantile(c->values, c->n, 1));
}

static json_t *as_json(const loami_bench_url *b, const measured *m, const loami_prompt *prompts, uint32_t n_prompts,
                       const char *server, const char *model)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < m->n; i++) {
        const loami_ask *a = &m->asks[i];
        json_array_append_new(list, json_pack("{ss sb si sf sf sf ss ss}", "prompt", prompts[i % n_prompts].name, "ok", a->ok,
                                              "tokens", (int)a->tokens, "total_s", a->total_s, "ttft_s", a->ttft_s, "tok_s",
                                              speed_of(a), "finish_reason", a->finish, "error", a->error));
    }
    return json_pack("{ss ss si si si si sf sf so so so so so sf sb}", "model", model, "url", server, "concurrency",
                     (int)b->concurrency, "max_tokens", (int)b->max_tokens, "requests", (int)m->n, "failed", (int)m->failed,
                     "average_tok_s", m->average, "total_tok_s", m->wall_s > 0 ? (double)m->tokens / m->wall_s : 0, "ttft_s",
                     quantiles(&m->c[TTFT], 1e-3), "itl_s", quantiles(&m->c[ITL], 1e-3), "tok_s", quantiles(&m->c[SPEED], 1), "total_s",
                     quantiles(&m->c[TOTAL], 1), "answers", list, "target", (double)b->target, "met",
                     m->failed == 0 && m->average >= (double)b->target);
}

static int write_svg(const loami_bench_url *b, const measured *m, const loami_prompt *prompts, uint32_t n_prompts, loam_err *err)
{
    loami_buf svg = { 0 }, alone = { 0 };
    loami_bar bars[16];
    uint32_t n = n_prompts < 16 ? n_prompts : 16;
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        uint32_t k = 0;
        for (uint32_t j = i; j < m->n; j += n_prompts)
            if (m->asks[j].ok) sum += speed_of(&m->asks[j]), k++;
        bars[i] = (loami_bar){ prompts[i].name, k ? sum / k : 0 };
    }
    loami_plot_bars(&svg, "Generation speed of an answer", "tok/s", bars, n, b->target > 0 ? (double)b->target : NAN, "target");
    loami_svg_alone(&alone, &svg);
    int rc = alone.failed || svg.failed ? loami_fail_nomem(err) : loami_file_write(b->svg, alone.data, alone.len, err);
    loami_buf_free(&svg);
    loami_buf_free(&alone);
    return rc;
}

/* ---- measuring ----------------------------------------------------------------------------------- */

static int measure(const loami_bench_url *b, measured *m, const loami_prompt *prompts, uint32_t n_prompts, const char *server,
                   const char *model, loam_err *err)
{
    loami_ask *warm_up = calloc(1, sizeof *warm_up);
    loami_ask_how how = {
        .server = server, .model = model, .key = b->key, .concurrency = b->concurrency, .timeout_s = PATIENCE_S
    };
    m->n = b->requests ? b->requests : n_prompts * (b->concurrency > 1 ? b->concurrency : 1);
    m->asks = calloc(m->n, sizeof *m->asks);
    if (!warm_up || !m->asks) {
        free(warm_up);
        return loami_fail_nomem(err);
    }
    *warm_up = (loami_ask){ .messages = "[{\"role\":\"user\",\"content\":\"Hello\"}]", .max_tokens = WARM_UP_TOKENS };
    for (uint32_t i = 0; i < m->n; i++)
        m->asks[i] = (loami_ask){ .messages = prompts[i % n_prompts].messages, .max_tokens = b->max_tokens };
    int rc = loami_ask_all(warm_up, 1, &how, err);
    if (rc == 0 && !warm_up->ok) rc = loami_fail(err, LOAM_E_IO, "%s: the warm-up failed: %s", server, warm_up->error);
    double start = loami_now_s();
    if (rc == 0) rc = loami_ask_all(m->asks, m->n, &how, err);
    m->wall_s = loami_now_s() - start;
    loami_asks_free(warm_up, 1);
    if (rc == 0 && !count(m)) rc = loami_fail_nomem(err);
    return rc;
}

int loami_bench_url_run(const loami_bench_url *b)
{
    char *server = NULL, *model = NULL;
    loami_prompt *prompts = NULL;
    uint32_t n_prompts = 0;
    measured m = { 0 };
    loam_err err;
    int rc = loami_server_of(&server, b->url, &err);
    if (rc == 0) rc = loami_model_of(&model, server, b->model, b->key, &err);
    if (rc == 0) rc = loami_prompts_read(&prompts, &n_prompts, b->prompts, &err);
    if (rc == 0) rc = measure(b, &m, prompts, n_prompts, server, model, &err);
    if (rc == 0 && b->json)
        loami_cmd_print_json(as_json(b, &m, prompts, n_prompts, server, model));
    else if (rc == 0)
        print_table(b, &m, prompts, n_prompts, server, model);
    if (rc == 0 && b->svg) rc = write_svg(b, &m, prompts, n_prompts, &err);
    bool met = m.failed == 0 && m.average >= (double)b->target;
    for (int k = 0; k < COLUMNS; k++) free(m.c[k].values);
    loami_asks_free(m.asks, m.n);
    loami_prompts_free(prompts, n_prompts);
    free(server);
    free(model);
    return rc < 0 ? loami_cmd_fail("bench", &err) : met ? LOAMI_EXIT_OK : LOAMI_EXIT_FAIL;
}
