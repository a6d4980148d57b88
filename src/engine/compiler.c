#include "engine/compiler.h"

#include "base/err.h"
#include "text/format/rules.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct loami_compiler {
    pthread_mutex_t lock; /* of vocab being made */
    const struct loam_text *text;
    uint32_t n_tokens;
    loami_vocab *vocab; /* made when the first grammar wants it: a quarter of a second for 150000 tokens */
    loami_grammar_cache *cache;
};

int loami_compiler_open(loami_compiler **out, const struct loam_text *text, uint32_t n_tokens, loam_err *err)
{
    loami_compiler *c = calloc(1, sizeof *c);
    if (!c) return loami_fail_nomem(err);
    int rc = loami_grammar_cache_open(&c->cache, err);
    if (rc < 0) {
        free(c);
        return rc;
    }
    pthread_mutex_init(&c->lock, NULL);
    c->text = text;
    c->n_tokens = n_tokens;
    *out = c;
    return 0;
}

void loami_compiler_close(loami_compiler *c)
{
    if (!c) return;
    loami_grammar_cache_close(c->cache);
    loami_vocab_close(c->vocab);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static int token(const void *arg, int32_t id, char **bytes, size_t *n, bool *special)
{
    const struct loam_text *text = arg;
    loam_err err;
    *special = loami_tokenizer_is_special(text->tokenizer, id) || loami_text_is_eos(text, id);
    if (loami_tokenizer_token(text->tokenizer, id, n) == NULL) {
        *n = 0;
        return 0;
    }
    return loam_token_bytes(text, id, bytes, n, &err) < 0 && err.code == LOAM_E_NOMEM ? -1 : 0;
}

static int make_vocab(loami_compiler *c, loam_err *err)
{
    loami_vocab_source source = { .n_tokens = c->n_tokens,
                                  .token = token,
                                  .arg = c->text,
                                  .ends = c->text->eos,
                                  .n_ends = c->text->n_eos };
    pthread_mutex_lock(&c->lock);
    int rc = c->vocab ? 0 : loami_vocab_open(&c->vocab, &source, err);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

int loami_compiler_grammar(loami_compiler *c, loam_grammar **out, loam_grammar_kind kind, const char *source,
                           size_t n, loam_err *err)
{
    int rc = make_vocab(c, err);
    return rc < 0 ? rc
                  : loami_grammar_cache_get(c->cache, out, c->vocab, kind, source ? source : "",
                                            source ? n : 0, err);
}

/* ---- answers ---- */

/* A slash would end the expression. */
static void put_regex(loami_buf *out, const char *s, size_t n)
{
    loami_buf_puts(out, "%regex /");
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\\' && i + 1 < n)
            loami_buf_putc(out, s[i++]);
        else if (s[i] == '/')
            loami_buf_putc(out, '\\');
        loami_buf_putc(out, s[i]);
    }
    loami_buf_puts(out, "/");
}

static int put_choices(loami_buf *out, const char *s, size_t n, loam_err *err)
{
    json_t *list, *one;
    size_t i;
    int rc = loami_json_parse(&list, s, n, "the choices", err);
    if (rc < 0) return rc;
    bool ok = json_is_array(list) && json_array_size(list) > 0;
    json_array_foreach(list, i, one) {
        const char *text = json_string_value(one);
        ok &= json_is_string(one);
        loami_buf_puts(out, i ? " | \"" : "\"");
        for (size_t k = 0; text && k < json_string_length(one); k++) {
            unsigned char c = (unsigned char)text[k];
            if (c < ' ')
                loami_buf_printf(out, "\\x%02x", c);
            else if (c == '"' || c == '\\')
                loami_buf_printf(out, "\\%c", c);
            else
                loami_buf_putc(out, (char)c);
        }
        loami_buf_puts(out, "\"");
    }
    json_decref(list);
    return ok ? 0
              : loami_fail(err, LOAM_E_ARG,
                           "the choices must be an array of at least one string, and nothing else");
}

/* The form of the text as an EBNF expression. */
static int put_content(loami_buf *out, const loam_answer_form *f, loam_err *err)
{
    switch (f->kind) {
    case LOAM_GRAMMAR_JSON_OBJECT: loami_buf_puts(out, "%json {\"type\":\"object\"}"); return 0;
    case LOAM_GRAMMAR_JSON_SCHEMA:
        loami_buf_printf(out, "%%json %.*s", (int)f->source_len, f->source);
        return 0;
    case LOAM_GRAMMAR_REGEX: put_regex(out, f->source, f->source_len); return 0;
    case LOAM_GRAMMAR_CHOICE: return put_choices(out, f->source, f->source_len, err);
    case LOAM_GRAMMAR_EBNF: loami_buf_puts(out, "root"); return 0;
    }
    return loami_fail(err, LOAM_E_ARG, "there is no kind of grammar %d", (int)f->kind);
}

/* *known: the format is one whose calls can be told. */
static int open_answer(loam_grammar **out, loami_compiler *c, const loami_format *f,
                       const loami_answer_wish *w, bool *known, loam_err *err)
{
    loami_buf rules = { .limit = LOAMI_GRAMMAR_SOURCE };
    int rc = loami_answer_rules(&rules, f, c->text->tokenizer, w, err);
    *known = rc >= 0;
    if (rc > 0) rc = loami_compiler_grammar(c, out, LOAM_GRAMMAR_EBNF, rules.data, rules.len, err);
    loami_buf_free(&rules);
    return rc;
}

/* Calls that need not come need not be refused, either: first any object for arguments, then no grammar. */
static int open_form(loam_grammar **out, loami_compiler *c, const loami_format *f, loami_answer_wish *w,
                     loam_err *err)
{
    loam_err first;
    bool known;
    int rc = open_answer(out, c, f, w, &known, &first);
    bool may_be_loose = w->tools && !w->must_call && rc != LOAM_E_NOMEM;
    if (rc < 0 && may_be_loose) {
        w->loose = true;
        rc = open_answer(out, c, f, w, &known, &first);
        if (!known && !w->content) rc = 0;
    }
    if (rc < 0 && err) *err = first;
    return rc;
}

/* Whether a form is no more than its kind says: the simplest case keeps the simplest messages. */
static bool is_text_alone(const loami_format *f, const loam_answer_form *form)
{
    bool headers = strcmp(f->name, "harmony") == 0 || strcmp(f->name, "muse") == 0;
    return form->kind && !form->tools_json && !f->think && !headers;
}

int loami_compiler_answer(loami_compiler *c, loam_grammar **out, const loam_answer_form *form, loam_err *err)
{
    loami_buf content = { .limit = LOAMI_GRAMMAR_SOURCE };
    loami_answer_wish w = {
        .prompt = form->prompt, .tool = form->tool, .must_call = form->must_call, .one_call = form->one_call
    };
    json_t *tools = NULL;
    *out = NULL;
    loami_format f = loami_text_format(c->text, form->tools_json != NULL);
    if (form->source_len > LOAMI_GRAMMAR_SOURCE)
        return loami_fail(err, LOAM_E_ARG, "the grammar has %zu bytes, at most %d are taken",
                          form->source_len, LOAMI_GRAMMAR_SOURCE);
    if (is_text_alone(&f, form))
        return loami_compiler_grammar(c, out, form->kind, form->source, form->source_len, err);
    int rc = form->tools_json
                 ? loami_json_parse(&tools, form->tools_json, strlen(form->tools_json), "tools", err)
                 : 0;
    if (rc == 0 && form->kind) rc = put_content(&content, form, err);
    if (rc == 0 && content.failed) rc = loami_fail_nomem(err);
    w.tools = tools;
    w.content = content.data;
    if (form->kind == LOAM_GRAMMAR_EBNF) w.rules = form->source;
    if (rc == 0) rc = open_form(out, c, &f, &w, err);
    json_decref(tools);
    loami_buf_free(&content);
    return rc < 0 ? rc : 0;
}
