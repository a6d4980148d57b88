#include "base/clock.h"
#include "base/file.h"
#include "cmd/open.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 256 << 20 };

typedef struct perplexity {
    loami_model_opts run;
    const char *file;
    uint32_t window, most;
    bool json;
    double full;               /* perplexity with the full cache, when another was asked for; else 0 */
} perplexity;

/* Scores consecutive windows of the text, each on its own; the first token of a window is given, not scored. */
static int score(const perplexity *p, loam_engine *e, const int32_t *ids, uint32_t n, double *sum, uint32_t *scored, loam_err *err)
{
    float *logprobs = malloc(p->window * sizeof *logprobs);
    int rc = logprobs ? 0 : LOAM_E_NOMEM;
    *sum = 0;
    *scored = 0;
    for (uint32_t at = 0; rc == 0 && at + 1 < n; at += p->window) {
        uint32_t k = n - at < p->window ? n - at : p->window;
        if (k < 2) break;
        rc = loam_score(e, ids + at, k, logprobs, err);
        for (uint32_t i = 0; rc == 0 && i + 1 < k; i++) *sum -= logprobs[i];
        *scored += k - 1;
    }
    free(logprobs);
    return rc;
}

static int report(const perplexity *p, double sum, uint32_t scored, double seconds)
{
    double ppl = exp(sum / scored);
    if (p->json) {
        json_t *o = json_pack("{sf sf si si sf}", "perplexity", ppl, "nll", sum / scored, "tokens", (int)scored, "window", (int)p->window,
                              "seconds", seconds);
        if (o && p->full > 0) json_object_set_new(o, "perplexity_f16_kv", json_real(p->full));
        return loami_cmd_print_json(o);
    }
    printf("perplexity %.4f over %u tokens in windows of %u (%.1f s)\n", ppl, scored, p->window, seconds);
    if (p->full > 0) printf("with an f16 KV cache %.4f: %s costs %+.2f %%\n", p->full, p->run.engine.kv_type, 100 * (ppl / p->full - 1));
    return LOAMI_EXIT_OK;
}

/* Scores the text and either says so or, for comparing, only keeps the perplexity. */
static int run(perplexity *p, loam_engine *e, const char *text, size_t len, bool compare)
{
    loam_err err = { .msg = "out of memory" };
    int32_t *ids = NULL;
    double sum, start = loami_now_s();
    uint32_t scored;
    if (!loam_engine_text(e)) {
        fprintf(stderr, "loam perplexity: the model has no tokenizer.json\n");
        return LOAMI_EXIT_FAIL;
    }
    int n = loam_encode(loam_engine_text(e), text, len, 0, &ids, &err);
    if (n < 0) return loami_cmd_fail("perplexity", &err);
    uint32_t use = p->most && (uint32_t)n > p->most ? p->most : (uint32_t)n;
    if (p->window > loam_engine_info(e)->context_tokens) p->window = loam_engine_info(e)->context_tokens;
    int rc = LOAMI_EXIT_FAIL;
    if (use < 2) fprintf(stderr, "loam perplexity: %s has fewer than two tokens\n", p->file);
    else if (score(p, e, ids, use, &sum, &scored, &err) < 0) rc = loami_cmd_fail("perplexity", &err);
    else if (compare) p->full = exp(sum / scored), rc = LOAMI_EXIT_OK;
    else rc = report(p, sum, scored, loami_now_s() - start);
    free(ids);
    return rc;
}

static int open_and_run(perplexity *p, const char *text, size_t len, bool compare)
{
    loam_engine *e;
    loami_model_opts o = p->run;
    if (compare) o.engine.kv_type = NULL;
    int rc = loami_cmd_open(&e, "perplexity", &o);
    if (rc != 0) return rc;
    rc = run(p, e, text, len, compare);
    loam_engine_close(e);
    return rc;
}

int loami_cmd_perplexity(int argc, char **argv)
{
    perplexity p = { .window = 512 };
    const loami_opt table[] = {
        LOAMI_MODEL_OPTS(p.run),
        { "--file", 'f', "F", "the text; - reads standard input", LOAMI_OPT_STRING, &p.file, NULL, 0, 0 },
        { "--window", 0, "N", "tokens scored together (default 512)", LOAMI_OPT_U32, &p.window, NULL, 2, 1 << 20 },
        { "--max-tokens", 'n', "N", "use the first N tokens only", LOAMI_OPT_U32, &p.most, NULL, 2, 1 << 30 },
        { "--json", 0, NULL, "print one JSON object", LOAMI_OPT_FLAG, &p.json, NULL, 0, 0 },
        { 0 },
    };
    int rc = loami_opt_parse(argc, argv, table, "how well a model predicts a text");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!p.file) {
        fprintf(stderr, "loam perplexity: --file is missing (see loam perplexity --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    char *text;
    size_t len;
    loam_err err;
    if (loami_file_read(&text, &len, p.file, FILE_BYTES_MAX, &err) < 0) return loami_cmd_fail("perplexity", &err);
    p.run.engine.max_running = 1;
    const char *kv = p.run.engine.kv_type;
    rc = kv && strcmp(kv, "f16") != 0 ? open_and_run(&p, text, len, true) : 0; /* what the smaller cache costs */
    if (rc == 0) rc = open_and_run(&p, text, len, false);
    free(text);
    return rc;
}
