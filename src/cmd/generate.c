#include "base/buf.h"
#include "base/file.h"
#include "base/system.h"
#include "cmd/open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_BYTES_MAX = 64 << 20, GRAMMAR_BYTES_MAX = 1 << 20 };

typedef struct generate {
    loami_model_opts run;
    loam_sampling how;
    loami_opt_list stop;
    const char *prompt, *system;
    const char *schema, *regex, *grammar; /* what the answer has to look like, one of them */
    uint32_t max_tokens;
    bool raw, ignore_eos, verbose, json;
} generate;

/* The prompt's ids: through the chat template, unless raw or the model has none. */
static int prompt_ids(const generate *g, const loam_engine *e, const char *prompt, int32_t **ids, loam_err *err)
{
    if (g->raw) return loam_encode(loam_engine_text(e), prompt, strlen(prompt), 0, ids, err);
    json_t *messages = json_array();
    if (g->system) json_array_append_new(messages, json_pack("{ss ss}", "role", "system", "content", g->system));
    json_array_append_new(messages, json_pack("{ss ss}", "role", "user", "content", prompt));
    int rc = loami_cmd_chat_prompt(e, messages, ids, err);
    json_decref(messages);
    return rc;
}

static void print_numbers(const loam_result *r)
{
    double rate = r->decode_s > 0 && r->new_tokens > 1 ? (r->new_tokens - 1) / r->decode_s : 0;
    printf("==========\n");
    printf("Prompt: %u tokens, %.3f tokens-per-sec\n", r->prompt_tokens, r->prefill_s > 0 ? r->prompt_tokens / r->prefill_s : 0);
    printf("Generation: %u tokens, %.3f tokens-per-sec\n", r->new_tokens, rate);
    printf("Peak memory: %.3f GB\n", (double)loami_peak_memory_bytes() * 1e-9);
}

static int print_json(const loami_buf *text, json_t *ids, const loam_result *r)
{
    double prompt_tps = r->prefill_s > 0 ? r->prompt_tokens / r->prefill_s : 0;
    double tps = r->decode_s > 0 && r->new_tokens > 1 ? (r->new_tokens - 1) / r->decode_s : 0;
    return loami_cmd_print_json(json_pack("{ss% so ss si si sf sf sI}", "text", text->data ? text->data : "", text->len, "tokens", ids,
                                          "finish_reason", loami_cmd_finish_name(r->finish), "prompt_tokens", (int)r->prompt_tokens,
                                          "completion_tokens", (int)r->new_tokens, "prompt_tps", prompt_tps, "generation_tps", tps,
                                          "peak_memory_bytes", (json_int_t)loami_peak_memory_bytes()));
}

/* Reads the answer, printing it as it comes unless it ends up in JSON. */
static int follow(const generate *g, loam_stream *s)
{
    loami_buf text = { 0 };
    json_t *ids = json_array();
    loam_token t;
    loam_result r;
    int rc = LOAMI_EXIT_OK;

    if (g->verbose && !g->json) printf("==========\n");
    while (loam_stream_next(s, &t, UINT32_MAX) > 0) {
        if (t.id >= 0) json_array_append_new(ids, json_integer(t.id));
        loami_buf_put(&text, t.text, t.text_len);
        if (g->json) continue;
        fwrite(t.text, 1, t.text_len, stdout);
        fflush(stdout);
    }
    loam_stream_result(s, &r);
    if (r.code < 0) {
        fprintf(stderr, "loam generate: %s\n", r.msg);
        rc = LOAMI_EXIT_FAIL;
    } else if (g->json) {
        rc = print_json(&text, json_incref(ids), &r);
    } else {
        printf("\n");
        if (g->verbose) print_numbers(&r);
    }
    json_decref(ids);
    loami_buf_free(&text);
    return rc;
}

/* 0 and *out NULL: nothing was asked for. */
static int open_grammar(const generate *g, loam_engine *e, loam_grammar **out, loam_err *err)
{
    const char *path = g->schema ? g->schema : g->grammar;
    char *text = NULL;
    size_t n;
    int rc = 0;
    if (g->regex) return loam_grammar_open(out, e, LOAM_GRAMMAR_REGEX, g->regex, strlen(g->regex), err);
    if (path) rc = loami_file_read(&text, &n, path, GRAMMAR_BYTES_MAX, err);
    if (path && rc == 0) rc = loam_grammar_open(out, e, g->schema ? LOAM_GRAMMAR_JSON_SCHEMA : LOAM_GRAMMAR_EBNF, text, n, err);
    free(text);
    return rc;
}

static int run(const generate *g, loam_engine *e, const char *prompt)
{
    loam_err err;
    loam_grammar *grammar = NULL;
    int32_t *ids = NULL;
    loam_stream *s;
    if (open_grammar(g, e, &grammar, &err) < 0) return loami_cmd_fail("generate", &err);
    int n = prompt_ids(g, e, prompt, &ids, &err);
    if (n < 0) loam_grammar_close(grammar);
    if (n < 0) return loami_cmd_fail("generate", &err);
    loam_request r = { .tokens = ids, .n_tokens = (uint32_t)n, .max_new = g->max_tokens, .how = g->how, .stop = g->stop.item,
                       .n_stop = g->stop.n, .ignore_eos = g->ignore_eos, .grammar = grammar };
    int rc = loam_submit(e, &s, &r, &err);
    loam_grammar_close(grammar);
    free(ids);
    if (rc < 0) return loami_cmd_fail("generate", &err);
    rc = follow(g, s);
    loam_stream_close(s);
    return rc;
}

int loami_cmd_generate(int argc, char **argv)
{
    generate g = { .max_tokens = 256 };
    const loami_opt table[] = {
        LOAMI_MODEL_OPTS(g.run),
        { "--prompt", 'p', "P", "what to answer; - reads standard input", LOAMI_OPT_STRING, &g.prompt, NULL, 0, 0 },
        { "--system", 0, "TEXT", "a system message", LOAMI_OPT_STRING, &g.system, NULL, 0, 0 },
        { "--raw", 0, NULL, "continue the prompt as it is, without the chat template", LOAMI_OPT_FLAG, &g.raw, NULL, 0, 0 },
        { "--max-tokens", 'n', "N", "tokens to generate at most (default 256)", LOAMI_OPT_U32, &g.max_tokens, NULL, 1, 1 << 20 },
        LOAMI_SAMPLING_OPTS(g.how),
        { "--stop", 0, "TEXT", "end before this text (may be given 16 times)", LOAMI_OPT_LIST, &g.stop, NULL, 0, 0 },
        { "--json-schema", 0, "FILE", "the answer is JSON of this schema", LOAMI_OPT_STRING, &g.schema, NULL, 0, 0 },
        { "--regex", 0, "RE", "the whole answer matches this regular expression", LOAMI_OPT_STRING, &g.regex, NULL, 0, 0 },
        { "--grammar", 0, "FILE", "the answer is a text of this grammar (GBNF)", LOAMI_OPT_STRING, &g.grammar, NULL, 0, 0 },
        { "--ignore-eos", 0, NULL, "go on after the model's end of text", LOAMI_OPT_FLAG, &g.ignore_eos, NULL, 0, 0 },
        { "--verbose", 'v', NULL, "print tokens per second and peak memory", LOAMI_OPT_FLAG, &g.verbose, NULL, 0, 0 },
        { "--json", 0, NULL, "print one JSON object: text, tokens, finish_reason, prompt_tps, ...", LOAMI_OPT_FLAG, &g.json, NULL, 0, 0 },
        { 0 },
    };
    int rc = loami_opt_parse(argc, argv, table, "answer one prompt");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!g.prompt) {
        fprintf(stderr, "loam generate: --prompt is missing (see loam generate --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    if (!!g.schema + !!g.regex + !!g.grammar > 1) {
        fprintf(stderr, "loam generate: only one of --json-schema, --regex and --grammar can hold\n");
        return LOAMI_EXIT_USAGE;
    }
    char *in = NULL;
    size_t n;
    loam_err err;
    bool from_stdin = strcmp(g.prompt, "-") == 0;
    if (from_stdin && loami_file_read(&in, &n, "-", PROMPT_BYTES_MAX, &err) < 0) return loami_cmd_fail("generate", &err);

    loam_engine *e;
    rc = loami_cmd_open(&e, "generate", &g.run);
    if (rc == 0) {
        rc = run(&g, e, in ? in : g.prompt);
        loam_engine_close(e);
    }
    free(in);
    return rc;
}
