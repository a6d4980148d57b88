/* Walks grammars without a model. First argument: a model folder or tokenizer.json. Each line {"kind",
 * "source", "seed", "most", "text"} gives {"error", "code"} or, with "text", whether the grammar takes it:
 * {"takes", "prefix"}; else a text made by random choices among what the masks allow: {"text", "tokens",
 * "ended", "mask_us", "compile_us"}. "ascii": of tokens of ASCII alone; "hint": what ends free text, written
 * when it has been long enough. Instead of kind and source, {"template", "prompt", "tools", "tool",
 * "content", "must_call", "one_call"} ask for the grammar of an answer. On the way each mask is held against
 * asking for tokens one by one. */
#include "base/json.h"
#include "grammar/grammar.h"
#include "text/chat.h"
#include "text/format/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COMPARED = 64 };

static uint64_t random_state;

static uint32_t draw(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

static void fail(const char *what)
{
    fprintf(stderr, "grammar: %s\n", what);
    exit(1);
}

/* This thread's own time: what else the machine does is left out. */
static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int token(const void *arg, int32_t id, char **bytes, size_t *n, bool *special)
{
    const struct loam_text *text = arg;
    *special = loami_tokenizer_is_special(text->tokenizer, id) || loami_text_is_eos(text, id);
    *n = 0;
    if (loami_tokenizer_token(text->tokenizer, id, n)) loam_token_bytes(text, id, bytes, n, NULL);
    return 0;
}

static bool bit(const uint64_t *mask, uint32_t id)
{
    return mask[id / 64] >> (id % 64) & 1;
}

/* The slow twin: each token asked for. */
static void compare(loami_matcher *m, const loami_vocab *v, const uint64_t *mask)
{
    for (int i = 0; i < COMPARED; i++) {
        uint32_t id = draw(v->n_tokens);
        if (bit(mask, id) != loami_matcher_allows(m, (int32_t)id)) {
            fprintf(stderr, "token %u: the mask says %d\n", id, bit(mask, id));
            fail("a mask is not what asking for its tokens gives");
        }
    }
}

static int32_t of_bytes(const loami_vocab *v, const uint64_t *mask, const char *s)
{
    for (uint32_t i = 0; i < v->n_nodes; i += v->nodes[i].skip)
        if (v->nodes[i].byte == (uint8_t)*s && v->nodes[i].token >= 0 &&
            bit(mask, (uint32_t)v->nodes[i].token))
            return v->nodes[i].token;
    return -1;
}

/* A token that leads to the end, as far as one can tell from its look. */
static int32_t closing(const loami_vocab *v, const uint64_t *mask)
{
    static const char *const order[] = { "\"", "}", "]", ">", "1", "n", "t" };
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        int32_t id = of_bytes(v, mask, order[i]);
        if (id >= 0) return id;
    }
    return -1;
}

static bool is_ascii(const loami_vocab *v, uint32_t id)
{
    for (uint32_t i = v->at[id]; i < v->at[id + 1]; i++)
        if (v->bytes[i] & 0x80) return false;
    return true;
}

static int32_t choose(const loami_vocab *v, const uint64_t *mask, bool late, bool ascii)
{
    uint32_t n = 0, kind = draw(4);
    int32_t found = -1;
    if ((late || kind == 0) && (found = closing(v, mask)) >= 0) return found;
    for (uint32_t id = 0; id < v->n_tokens; id++) {
        if (!bit(mask, id) || loami_vocab_is_end(v, (int32_t)id)) continue;
        if (ascii && !is_ascii(v, id) && n) continue;
        if (kind == 1 && v->at[id + 1] - v->at[id] > 1 && n) continue; /* rather short ones */
        if (draw(++n) == 0) found = (int32_t)id;
    }
    return found;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static json_t *walk(loam_grammar *g, const loami_vocab *v, uint32_t most, const char *hint, bool ascii)
{
    size_t hinted = 0;
    loami_matcher *m;
    loami_buf text = { 0 };
    uint64_t *mask = malloc(v->n_words * sizeof *mask), *again = malloc(v->n_words * sizeof *mask);
    double *us = malloc((most * 4 + 1) * sizeof *us);
    uint32_t n = 0;
    bool ended = false, stuck = false;
    if (loami_matcher_open(&m, g, NULL) < 0) fail("out of memory");
    while (n < most * 4 && !ended && !stuck) {
        double before = now_us();
        stuck = loami_matcher_mask(m, mask) == 0;
        us[n] = now_us() - before;
        compare(m, v, mask);
        if (loami_matcher_may_end(m) && (n >= most || draw(3) == 0 || loami_matcher_must_end(m))) {
            ended = true;
            break;
        }
        int32_t id = hint && n >= most ? of_bytes(v, mask, hint + hinted) : -1;
        hinted = id >= 0 && hint[hinted + 1] ? hinted + 1 : 0;
        if (id < 0) id = choose(v, mask, n >= most, ascii);
        if (id < 0) stuck = true;
        if (stuck) break;
        if (!loami_matcher_accept(m, id)) fail("a token that is allowed is not accepted");
        if (draw(8) == 0) { /* taking it back and giving it again changes nothing */
            if (!loami_matcher_rollback(m, 1)) fail("a token can't be taken back");
            loami_matcher_mask(m, again);
            if (memcmp(mask, again, v->n_words * sizeof *mask) != 0)
                fail("after taking back a token the mask is another one");
            loami_matcher_accept(m, id);
        }
        loami_buf_put(&text, v->bytes + v->at[id], v->at[id + 1] - v->at[id]);
        n++;
    }
    loami_matcher_close(m);
    if (n) qsort(us, n, sizeof *us, by_value);
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += us[i];
    json_t *out = json_pack("{s:o?, s:i, s:b, s:b, s:f, s:f, s:f, s:f}", "text",
                            json_stringn(text.data ? text.data : "", text.len), "tokens", (int)n, "ended",
                            ended, "stuck", stuck, "mask_us", n ? us[n / 2] : 0.0, "mask_us_most",
                            n ? us[n - 1] : 0.0, "mask_us_mean", n ? sum / n : 0.0, "mask_us_p99",
                            n ? us[n - 1 - n / 100] : 0.0);
    free(us);
    free(mask);
    free(again);
    loami_buf_free(&text);
    return out;
}

/* Byte by byte, as far as it goes. */
static json_t *take(loam_grammar *g, const loami_vocab *v, const char *s, size_t n)
{
    loami_matcher *m;
    size_t at = 0;
    uint64_t *mask = malloc(v->n_words * sizeof *mask);
    if (loami_matcher_open(&m, g, NULL) < 0) fail("out of memory");
    for (; at < n; at++) {
        int32_t id = -1;
        for (uint32_t i = 0; i < v->n_nodes && id < 0; i += v->nodes[i].skip)
            if (v->nodes[i].byte == (uint8_t)s[at]) id = v->nodes[i].token;
        loami_matcher_mask(m, mask);
        if (id >= 0 && bit(mask, (uint32_t)id) != loami_matcher_allows(m, id))
            fail("mask and look-up differ");
        if (id < 0 || !loami_matcher_accept(m, id)) break;
    }
    json_t *out = json_pack("{s:b, s:I}", "takes", at == n && loami_matcher_may_end(m), "prefix",
                            (json_int_t)at);
    loami_matcher_close(m);
    free(mask);
    return out;
}

static loam_grammar_kind kind_of(const char *name)
{
    static const char *const names[] = { "json_object", "json_schema", "regex", "choice", "ebnf" };
    for (int i = 0; i < 5; i++)
        if (name && strcmp(names[i], name) == 0) return (loam_grammar_kind)(i + 1);
    fail("no such kind");
    return 0;
}

/* The grammar of an answer to a template that has these words. */
static int open_rules(loam_grammar **g, const json_t *in, const loami_vocab *v, const loami_tokenizer *t,
                      loam_err *err)
{
    const char *template = json_string_value(json_object_get(in, "template"));
    loami_format f = loami_format_detect(template, strlen(template));
    loami_answer_wish w = { .prompt = json_string_value(json_object_get(in, "prompt")),
                            .tools = json_object_get(in, "tools"),
                            .tool = json_string_value(json_object_get(in, "tool")),
                            .content = json_string_value(json_object_get(in, "content")),
                            .must_call = json_is_true(json_object_get(in, "must_call")),
                            .one_call = json_is_true(json_object_get(in, "one_call")) };
    loami_buf rules = { 0 };
    int rc = loami_answer_rules(&rules, &f, t, &w, err);
    if (rc == 0) rc = loami_fail(err, LOAM_E_ARG, "nothing is asked of this answer");
    if (rc > 0) rc = loami_grammar_open(g, v, LOAM_GRAMMAR_EBNF, rules.data, rules.len, err);
    if (rc < 0 && rules.data) fprintf(stderr, "%s", rules.data);
    loami_buf_free(&rules);
    return rc;
}

static int open_source(loam_grammar **g, const json_t *in, const loami_vocab *v, loam_err *err)
{
    const json_t *source = json_object_get(in, "source");
    char *schema = json_is_string(source) ? NULL : loami_json_text(source);
    int rc = loami_grammar_open(g, v, kind_of(json_string_value(json_object_get(in, "kind"))),
                                schema ? schema : json_string_value(source),
                                schema ? strlen(schema) : json_string_length(source), err);
    free(schema);
    return rc;
}

static json_t *answer(const json_t *in, const loami_vocab *v, const loami_tokenizer *t)
{
    const json_t *text = json_object_get(in, "text");
    loam_grammar *g;
    loam_err err;
    double before = now_us();
    int rc = json_object_get(in, "template") ? open_rules(&g, in, v, t, &err) : open_source(&g, in, v, &err);
    double compile_us = now_us() - before;
    if (rc < 0) return json_pack("{s:s, s:i, s:f}", "error", err.msg, "code", rc, "compile_us", compile_us);
    random_state = (uint64_t)json_integer_value(json_object_get(in, "seed")) * 2654435761u + 1;
    json_int_t most = json_integer_value(json_object_get(in, "most"));
    json_t *out = json_is_string(text)
                      ? take(g, v, json_string_value(text), json_string_length(text))
                      : walk(g, v, most ? (uint32_t)most : 64, json_string_value(json_object_get(in, "hint")),
                             json_is_true(json_object_get(in, "ascii")));
    json_object_set_new(out, "compile_us", json_real(compile_us));
    json_object_set_new(out, "bytes", json_integer((json_int_t)loami_grammar_bytes(g)));
    loami_grammar_unref(g);
    return out;
}

int main(int argc, char **argv)
{
    struct loam_text *text;
    loami_vocab *v;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    loam_err err;
    if (argc != 2) fail("one argument: a model folder or tokenizer.json");
    if (loami_text_open_path(&text, argv[1], &err) < 0) fail(err.msg);
    loami_vocab_source source = { loami_tokenizer_size(text->tokenizer), token, text, text->eos,
                                  text->n_eos };
    double before = now_us();
    if (loami_vocab_open(&v, &source, &err) < 0) fail(err.msg);
    fprintf(stderr, "vocabulary: %u tokens, %u nodes, %.0f ms\n", v->n_tokens, v->n_nodes,
            (now_us() - before) * 1e-3);
    while ((n = getline(&line, &cap, stdin)) >= 0) {
        json_t *in, *out;
        if (loami_json_parse(&in, line, (size_t)n, "line", &err) < 0) fail(err.msg);
        out = answer(in, v, text->tokenizer);
        char *words = json_dumps(out, JSON_COMPACT);
        puts(words);
        fflush(stdout);
        free(words);
        json_decref(out);
        json_decref(in);
    }
    free(line);
    loami_vocab_close(v);
    loam_text_close(text);
    return 0;
}
