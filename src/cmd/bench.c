#include "base/bandwidth.h"
#include "base/clock.h"
#include "base/system.h"
#include "cmd/bench_url.h"
#include "cmd/open.h"

#include <stdio.h>
#include <stdlib.h>

enum { RUNS_MAX = 100, STREAMS_MAX = 256 };
static const double PASS_S = 0.3; /* of reading memory, between two runs */

typedef struct bench {
    loami_model_opts run;
    uint32_t n_prompt, n_new, runs, streams;
    bool json, bandwidth;
} bench;

typedef struct figures {
    double prompt_tps[RUNS_MAX], generation_tps[RUNS_MAX], read_gbs[RUNS_MAX];
    double open_s;
    uint64_t salt;             /* each run's its own: a prompt that the last one left in the cache costs nothing */
    uint32_t cached_tokens;    /* found there all the same */
} figures;

/* The same pseudo-random ids every time: content does not matter to speed, except to experts. */
static void fill_prompt(int32_t *ids, uint32_t n, uint32_t vocab, uint32_t salt)
{
    uint32_t x = 12345 + salt;
    for (uint32_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        ids[i] = (int32_t)((x >> 8) % (vocab < 1000 ? vocab : 1000));
    }
}

static uint64_t tokens_made(const loam_engine *e)
{
    loam_engine_state st;
    loam_engine_stat(e, &st);
    return st.new_tokens;
}

/* Reads all streams until the first ends, then the rest. Tokens that were made while all ran, and the seconds that took: by the
 * engine's count, since some wait in their rings since before. */
static double read_together(const bench *b, loam_engine *e, loam_stream **s)
{
    loam_token t;
    double start = loami_now_s(), end = 0;
    uint64_t first = tokens_made(e), last = first;
    for (uint32_t left = b->streams; left;) {
        left = 0;
        for (uint32_t i = 0; i < b->streams; i++) left += loam_stream_next(s[i], &t, UINT32_MAX) > 0;
        if (left < b->streams && end == 0) {
            end = loami_now_s();
            last = tokens_made(e);
        }
    }
    return (double)(last - first) / (end - start);
}

/* Submits `streams` requests together and reads them all. Decode speed is counted from the last first token to the first last
 * one, while all of them run. */
static int run_once(const bench *b, loam_engine *e, int32_t *ids, figures *f, double *prompt_tps, double *tps, loam_err *err)
{
    loam_stream *s[STREAMS_MAX] = { 0 };
    double start = loami_now_s(), prefill_end = start, together = 0;
    int rc = 0;
    f->salt++;
    for (uint32_t i = 0; rc == 0 && i < b->streams; i++) {
        fill_prompt(ids, b->n_prompt, loam_engine_info(e)->vocab_tokens, i);
        loam_request r = { .tokens = ids, .n_tokens = b->n_prompt, .max_new = b->n_new, .ignore_eos = true, .cache_salt = f->salt };
        rc = loam_submit(e, &s[i], &r, err);
    }
    loam_token t;
    for (uint32_t i = 0; rc == 0 && i < b->streams; i++)
        if (loam_stream_next(s[i], &t, UINT32_MAX) <= 0) rc = -1;
    prefill_end = loami_now_s();
    if (rc == 0) together = read_together(b, e, s);
    loam_result r = { 0 };
    if (s[0]) loam_stream_result(s[0], &r);
    f->cached_tokens += r.cached_tokens;
    if (rc == 0) *prompt_tps = b->streams == 1 ? b->n_prompt / r.prefill_s : b->streams * b->n_prompt / (prefill_end - start);
    if (rc == 0) *tps = b->streams == 1 ? (b->n_new - 1) / r.decode_s : together;
    if (rc < 0 && s[0] && r.code < 0 && err) *err = (loam_err){ .code = r.code };
    for (uint32_t i = 0; i < b->streams; i++) loam_stream_close(s[i]);
    return rc;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, uint32_t n)
{
    qsort(x, n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static int report(const bench *b, const loam_engine *e, figures *f)
{
    const loam_model_info *i = loam_engine_info(e);
    double prompt = median(f->prompt_tps, b->runs), gen = median(f->generation_tps, b->runs);
    double gbs = gen * (double)i->active_bytes * 1e-9, read = b->bandwidth ? median(f->read_gbs, b->runs) : 0;
    if (b->json)
        return loami_cmd_print_json(json_pack(
            "{ss ss si si si si si sf sf sI sI sf sf sf sI sI si}", "model", i->name, "device", i->device, "threads", (int)i->threads, "prompt_tokens",
            (int)b->n_prompt, "new_tokens", (int)b->n_new, "streams", (int)b->streams, "runs", (int)b->runs, "prompt_tps", prompt,
            "generation_tps", gen, "weight_bytes", (json_int_t)i->weight_bytes, "active_bytes", (json_int_t)i->active_bytes,
            "weight_gb_per_s", b->streams == 1 ? gbs : 0, "read_gb_per_s", read, "open_s", f->open_s, "kv_bytes", (json_int_t)i->kv_bytes, "peak_memory_bytes", (json_int_t)loami_peak_memory_bytes(),
            "cached_tokens", (int)f->cached_tokens));
    printf("%s on %s, %u threads, median of %u\n", i->name, i->device, i->threads, b->runs);
    printf("  prompt      %5u tokens x %u  %9.1f tok/s\n", b->n_prompt, b->streams, prompt);
    printf("  generation  %5u tokens x %u  %9.1f tok/s", b->n_new, b->streams, gen);
    if (b->streams == 1) printf("  (%.1f GB/s of weights)", gbs);
    if (read > 0 && b->streams == 1)
        printf("\n  memory is read at %.1f GB/s, measured in turns with the runs: %.0f %% of it", read, 100 * gbs / read);
    printf("\n  open %.3f s, weights %.3f GB, peak memory %.3f GB\n", f->open_s, (double)i->weight_bytes * 1e-9,
           (double)loami_peak_memory_bytes() * 1e-9);
    return LOAMI_EXIT_OK;
}

static int run(const bench *b, loam_engine *e, figures *f)
{
    loam_err err = { .msg = "a request failed" };
    double warm_up[2];
    int32_t *ids = malloc(b->n_prompt * sizeof *ids);
    int rc = ids ? run_once(b, e, ids, f, &warm_up[0], &warm_up[1], &err) : -1;
    for (uint32_t i = 0; rc == 0 && i < b->runs; i++) {
        rc = run_once(b, e, ids, f, &f->prompt_tps[i], &f->generation_tps[i], &err);
        if (rc == 0 && b->bandwidth) rc = loami_read_bandwidth(&f->read_gbs[i], loam_engine_info(e)->threads, PASS_S, &err);
        f->read_gbs[i] *= 1e-9;
    }
    free(ids);
    return rc < 0 ? loami_cmd_fail("bench", &err) : report(b, e, f);
}

static int bandwidth(const bench *b)
{
    double bytes_per_s;
    loam_err err;
    if (loami_read_bandwidth(&bytes_per_s, b->run.engine.threads, 1, &err) < 0) return loami_cmd_fail("bench", &err);
    if (b->json) return loami_cmd_print_json(json_pack("{sf}", "read_gb_per_s", bytes_per_s * 1e-9));
    printf("memory is read at %.1f GB/s by the processor: the limit of generation is that / the bytes a token reads\n", bytes_per_s * 1e-9);
    return LOAMI_EXIT_OK;
}

int loami_cmd_bench(int argc, char **argv)
{
    bench b = { .n_prompt = 512, .n_new = 128, .runs = 3, .streams = 1 };
    loami_bench_url u = { .max_tokens = 200, .concurrency = 1, .key = getenv("LOAM_API_KEY") };
    const loami_opt table[] = {
        LOAMI_MODEL_OPTS(b.run),
        { "--prompt-tokens", 'p', "N", "tokens of the prompt (default 512)", LOAMI_OPT_U32, &b.n_prompt, NULL, 1, 1 << 20 },
        { "--new-tokens", 'n', "N", "tokens to generate (default 128)", LOAMI_OPT_U32, &b.n_new, NULL, 2, 1 << 20 },
        { "--streams", 's', "N", "requests at the same time (default 1)", LOAMI_OPT_U32, &b.streams, NULL, 1, STREAMS_MAX },
        { "--runs", 'r', "N", "runs, of which the median counts (default 3)", LOAMI_OPT_U32, &b.runs, NULL, 1, RUNS_MAX },
        { "--bandwidth", 0, NULL, "measure how fast memory is read, with --threads threads: alone, or with -m in turns with the runs", LOAMI_OPT_FLAG, &b.bandwidth, NULL, 0, 0 },
        { "--json", 0, NULL, "print one JSON object", LOAMI_OPT_FLAG, &b.json, NULL, 0, 0 },
        { "--url", 0, "URL", "measure a running server instead: five prompts, 200 tokens each; -m is its word for the model",
          LOAMI_OPT_STRING, &u.url, NULL, 0, 0 },
        { "--prompts", 0, "FILE", "with --url: a prompt a line, or JSON lines with prompt or messages", LOAMI_OPT_STRING, &u.prompts, NULL, 0, 0 },
        { "--max-tokens", 0, "N", "with --url: tokens of an answer (default 200)", LOAMI_OPT_U32, &u.max_tokens, NULL, 1, 1 << 20 },
        { "--concurrency", 0, "N", "with --url: requests at once (default 1)", LOAMI_OPT_U32, &u.concurrency, NULL, 1, 4096 },
        { "--requests", 0, "N", "with --url: requests in all (default: every prompt once, times the concurrency)", LOAMI_OPT_U32, &u.requests, NULL, 1,
          1000000 },
        { "--target", 0, "TPS", "with --url: exit 1 when the average is below so many tok/s", LOAMI_OPT_FLOAT, &u.target, NULL, 0, 1e6 },
        { "--svg", 0, "FILE", "with --url: write a plot", LOAMI_OPT_STRING, &u.svg, NULL, 0, 0 },
        { "--api-key", 0, "KEY", "with --url: sent to the server (default: LOAM_API_KEY)", LOAMI_OPT_STRING, &u.key, NULL, 0, 0 },
        { 0 },
    };
    int rc = loami_opt_parse(argc, argv, table, "measure prompt and generation speed, of a model here or of a running server");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (b.bandwidth && !b.run.model) return bandwidth(&b);
    u.model = b.run.model;
    u.json = b.json;
    if (u.url) return loami_bench_url_run(&u);
    figures f = { 0 };
    loam_engine *e;
    double start = loami_now_s();
    b.run.engine.max_running = b.streams;
    uint32_t eighths = (b.streams + 7) / 8; /* the KV cache has eight contexts: all streams must fit, or some wait for others' ends */
    if (!b.run.engine.context_tokens) b.run.engine.context_tokens = (b.n_prompt + b.n_new) * eighths;
    rc = loami_cmd_open(&e, "bench", &b.run);
    if (rc != 0) return rc;
    f.open_s = loami_now_s() - start;
    rc = run(&b, e, &f);
    loam_engine_close(e);
    return rc;
}
