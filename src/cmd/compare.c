/* loam compare: the same prompts to two servers, one after the other and in turn, and whether the second is no worse. */
#include "base/file.h"
#include "base/json.h"
#include "cmd/asker.h"
#include "cmd/compare_page.h"
#include "cmd/open.h"
#include "cmd/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double PATIENCE_S = 600;
enum { WARM_UP_TOKENS = 10, NAME = 36 };

typedef struct wish {
    const char *url[2], *model[2], *prompts, *html, *key[2];
    uint32_t repeats, max_tokens;
    float ttft, speed, errors;
    bool json;
} wish;

/* ---- the verdict --------------------------------------------------------------------------------- */

/* Student's t that 95 % of the values stay below (Student 1908; any table). */
static double t95(uint32_t df)
{
    static const double table[] = { 6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753,
                                    1.746, 1.740, 1.734, 1.729, 1.725, 1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697 };
    if (df == 0) return HUGE_VAL;
    return df <= 30 ? table[df - 1] : 1.645 + 1.7 / df;
}

/* B's value as a factor of A's for the same prompt at the same time: geometric mean, and what it is below with 95 %
 * confidence. */
static void judge_ratio(loami_ratio *r, const loami_compared *c, double (*of)(const loami_ask *a))
{
    double sum = 0, squares = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        double a = of(&c->asks[2 * i]), b = of(&c->asks[2 * i + 1]);
        if (!c->asks[2 * i].ok || !c->asks[2 * i + 1].ok || !(a > 0) || !(b > 0)) continue;
        double x = log(b / a);
        sum += x;
        squares += x * x;
        n++;
    }
    r->n = n;
    r->mean = r->lowest = r->highest = NAN;
    if (n) r->mean = exp(sum / n);
    if (n < 2) return;
    double variance = (squares - sum * sum / n) / (n - 1), reach = t95(n - 1) * sqrt((variance > 0 ? variance : 0) / n);
    r->lowest = exp(sum / n - reach);
    r->highest = exp(sum / n + reach);
}

static double ttft_of(const loami_ask *a)
{
    return a->ttft_s;
}

static double token_of(const loami_ask *a)
{
    return a->tokens ? a->total_s / a->tokens : 0;
}

static void judge(loami_compared *c, const wish *w)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const loami_ask *a = &c->asks[2 * i], *b = a + 1;
        c->failed[0] += !a->ok;
        c->failed[1] += !b->ok;
        if (a->ok && b->ok) c->both++;
        if (a->ok && b->ok && a->n_text == b->n_text && memcmp(a->text, b->text, a->n_text) == 0) c->same++;
    }
    c->ttft.limit = (double)w->ttft;
    c->token.limit = (double)w->speed;
    judge_ratio(&c->ttft, c, ttft_of);
    judge_ratio(&c->token, c, token_of);
    c->errors_fine = c->failed[1] <= c->failed[0] + (double)w->errors * c->n;
    c->ttft.fine = c->ttft.highest <= c->ttft.limit;
    c->token.fine = c->token.highest <= c->token.limit;
    c->no_worse = c->errors_fine && c->ttft.fine && c->token.fine;
}

/* ---- telling ------------------------------------------------------------------------------------- */

static double middle(const loami_compared *c, uint32_t side, double (*of)(const loami_ask *a), bool invert)
{
    double *v = calloc(c->n + 1, sizeof *v), out;
    uint32_t n = 0;
    for (uint32_t i = 0; v && i < c->n; i++) {
        double x = of(&c->asks[2 * i + side]);
        if (c->asks[2 * i + side].ok && x > 0) v[n++] = invert ? 1 / x : x;
    }
    if (v) loami_sort(v, n);
    out = v ? loami_quantile(v, n, 0.5) : 0;
    free(v);
    return out;
}

static void print_ratio(const char *name, const loami_ratio *r)
{
    printf("  %-16s B is %.3f times A, below %.3f with 95 %% confidence, %.3g allowed: %s\n", name, r->mean, r->highest, r->limit,
           loami_ratio_words(r));
}

static void print_table(const loami_compared *c)
{
    printf("A: %s on %s\nB: %s on %s\n\n", c->model[0], c->server[0], c->model[1], c->server[1]);
    printf("  %-*s %9s %9s %9s %9s  %s\n", NAME, "prompt", "A TTFT", "B TTFT", "A tok/s", "B tok/s", "text");
    for (uint32_t i = 0; i < c->n; i++) {
        const loami_ask *a = &c->asks[2 * i], *b = a + 1;
        const char *name = c->prompts[i % c->n_prompts].name;
        if (!a->ok || !b->ok) {
            printf("  %-*.*s %s failed: %s\n", NAME, NAME, name, a->ok ? "B" : "A", a->ok ? b->error : a->error);
            continue;
        }
        printf("  %-*.*s %6.1f ms %6.1f ms %9.1f %9.1f  %s\n", NAME, NAME, name, a->ttft_s * 1e3, b->ttft_s * 1e3, 1 / token_of(a),
               1 / token_of(b), a->n_text == b->n_text && memcmp(a->text, b->text, a->n_text) == 0 ? "same" : "differs");
    }
    printf("\n  %-*s %6.1f ms %6.1f ms %9.1f %9.1f  %u of %u the same\n\n", NAME, "median", middle(c, 0, ttft_of, false) * 1e3,
           middle(c, 1, ttft_of, false) * 1e3, middle(c, 0, token_of, true), middle(c, 1, token_of, true), c->same, c->both);
    print_ratio("TTFT", &c->ttft);
    print_ratio("seconds a token", &c->token);
    printf("  %-16s A %u, B %u of %u: %s\n\n", "failed", c->failed[0], c->failed[1], c->n, c->errors_fine ? "no worse" : "WORSE");
    printf("%s\n", c->no_worse ? "B is no worse than A." : "B is not shown to be no worse than A (more -n decides what is undecided).");
}

static json_t *ratio_json(const loami_ratio *r)
{
    return json_pack("{sf sf sf si sb}", "mean", isfinite(r->mean) ? r->mean : 0, "highest", isfinite(r->highest) ? r->highest : 0,
                     "limit", r->limit, "pairs", (int)r->n, "fine", r->fine);
}

static json_t *answer_json(const loami_ask *a)
{
    return json_pack("{sb sf sf si ss ss ss%}", "ok", a->ok, "ttft_s", a->ttft_s, "total_s", a->total_s, "tokens", (int)a->tokens, "finish_reason",
                     a->finish, "error", a->error, "text", a->text ? a->text : "", a->text ? a->n_text : 0);
}

static json_t *as_json(const loami_compared *c)
{
    json_t *pairs = json_array();
    for (uint32_t i = 0; i < c->n; i++)
        json_array_append_new(pairs, json_pack("{ss so so}", "prompt", c->prompts[i % c->n_prompts].name, "a",
                                               answer_json(&c->asks[2 * i]), "b", answer_json(&c->asks[2 * i + 1])));
    return json_pack("{s[ss] s[ss] si si si s[ii] so so sb so}", "servers", c->server[0], c->server[1], "models", c->model[0],
                     c->model[1], "pairs", (int)c->n, "both", (int)c->both, "same_text", (int)c->same, "failed", (int)c->failed[0],
                     (int)c->failed[1], "ttft", ratio_json(&c->ttft), "token", ratio_json(&c->token), "no_worse", c->no_worse,
                     "answers", pairs);
}

/* ---- asking -------------------------------------------------------------------------------------- */

/* Each pair right after the other, the one that begins in turn: what else the machines do meets both. */
static int ask(loami_compared *c, const wish *w, loam_err *err)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i <= c->n; i++)
        for (uint32_t k = 0; rc == 0 && k < 2; k++) {
            uint32_t side = (i + k) % 2;
            loami_ask warm_up = { .messages = "[{\"role\":\"user\",\"content\":\"Hello\"}]", .max_tokens = WARM_UP_TOKENS };
            loami_ask *a = i ? &c->asks[2 * (i - 1) + side] : &warm_up;
            loami_ask_how how = {
                .server = c->server[side], .model = c->model[side], .key = w->key[side], .concurrency = 1, .timeout_s = PATIENCE_S
            };
            if (i) *a = (loami_ask){ .messages = c->prompts[(i - 1) % c->n_prompts].messages, .max_tokens = w->max_tokens };
            rc = loami_ask_all(a, 1, &how, err);
            if (rc == 0 && !i && !warm_up.ok)
                rc = loami_fail(err, LOAM_E_IO, "%s: the warm-up failed: %s", c->server[side], warm_up.error);
            if (!i) free(warm_up.text);
        }
    return rc;
}

static int compare(loami_compared *c, const wish *w, loam_err *err)
{
    int rc = 0;
    for (int k = 0; rc == 0 && k < 2; k++) {
        rc = loami_server_of(&c->server[k], w->url[k], err);
        if (rc == 0) rc = loami_model_of(&c->model[k], c->server[k], w->model[k], w->key[k], err);
    }
    if (rc == 0) rc = loami_prompts_read(&c->prompts, &c->n_prompts, w->prompts, err);
    if (rc < 0) return rc;
    c->n = c->n_prompts * w->repeats;
    c->asks = calloc(2 * (size_t)c->n + 1, sizeof *c->asks);
    if (!c->asks) return loami_fail_nomem(err);
    rc = ask(c, w, err);
    if (rc == 0) judge(c, w);
    return rc;
}

static int write_page(const loami_compared *c, const char *path, loam_err *err)
{
    loami_buf page = { 0 };
    loami_compare_page(&page, c);
    int rc = page.failed ? loami_fail_nomem(err) : loami_file_write(path, page.data, page.len, err);
    loami_buf_free(&page);
    return rc;
}

int loami_cmd_compare(int argc, char **argv)
{
    const char *key = getenv("LOAM_API_KEY");
    wish w = { .repeats = 3, .max_tokens = 200, .ttft = 1.25F, .speed = 1.25F, .key = { key, key } };
    const loami_opt table[] = {
        { NULL, 0, "URL_A", "the one in use", LOAMI_OPT_STRING, &w.url[0], NULL, 0, 0 },
        { NULL, 0, "URL_B", "the one to be compared with it", LOAMI_OPT_STRING, &w.url[1], NULL, 0, 0 },
        { "--prompts", 0, "FILE", "a prompt a line, or JSON lines with prompt or messages (default: five prompts)", LOAMI_OPT_STRING, &w.prompts, NULL, 0, 0 },
        { "--repeats", 'n', "N", "times that each prompt is asked (default 3)", LOAMI_OPT_U32, &w.repeats, NULL, 1, 1000 },
        { "--max-tokens", 0, "N", "tokens of an answer (default 200)", LOAMI_OPT_U32, &w.max_tokens, NULL, 1, 1 << 20 },
        { "--model-a", 0, "M", "A's word for the model (default: the first it lists)", LOAMI_OPT_STRING, &w.model[0], NULL, 0, 0 },
        { "--model-b", 0, "M", "B's word for the model", LOAMI_OPT_STRING, &w.model[1], NULL, 0, 0 },
        { "--key-a", 0, "KEY", "A's API key (default: LOAM_API_KEY)", LOAMI_OPT_STRING, &w.key[0], NULL, 0, 0 },
        { "--key-b", 0, "KEY", "B's API key", LOAMI_OPT_STRING, &w.key[1], NULL, 0, 0 },
        { "--ttft-factor", 0, "X", "B's time to first token may be X times A's (default 1.25)", LOAMI_OPT_FLOAT, &w.ttft, NULL, 0.01, 1000 },
        { "--speed-factor", 0, "X", "B's seconds a token may be X times A's (default 1.25)", LOAMI_OPT_FLOAT, &w.speed, NULL, 0.01, 1000 },
        { "--errors", 0, "PART", "so large a part of B's answers may fail beyond A's (default 0)", LOAMI_OPT_FLOAT, &w.errors, NULL, 0, 1 },
        { "--html", 0, "FILE", "write a report with plots, and the texts side by side", LOAMI_OPT_STRING, &w.html, NULL, 0, 0 },
        { "--json", 0, NULL, "print one JSON object", LOAMI_OPT_FLAG, &w.json, NULL, 0, 0 },
        { 0 },
    };
    loami_compared c = { .n = 0 };
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table, "the same prompts to two servers; exit 0 when B is no worse than A");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!w.url[1]) {
        fprintf(stderr, "loam compare: two URLs are needed (see loam compare --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    rc = compare(&c, &w, &err);
    if (rc == 0 && w.json)
        loami_cmd_print_json(as_json(&c));
    else if (rc == 0)
        print_table(&c);
    if (rc == 0 && w.html) rc = write_page(&c, w.html, &err);
    bool fine = c.no_worse;
    loami_asks_free(c.asks, 2 * c.n);
    loami_prompts_free(c.prompts, c.n_prompts);
    for (int k = 0; k < 2; k++) {
        free(c.server[k]);
        free(c.model[k]);
    }
    return rc < 0 ? loami_cmd_fail("compare", &err) : fine ? LOAMI_EXIT_OK : LOAMI_EXIT_FAIL;
}
