#include "text/tok/regex.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    MATCH_STEPS = 20 * 1000 * 1000, /* backtracking steps for one match: a second at most */
    PATTERN_BYTES = 1 << 20,
};

struct loami_pattern {
    pcre2_code *code;       /* NULL: a literal */
    char *text;             /* [n] and NUL: the literal, or the expression's source */
    size_t n;
};

typedef struct state {
    pcre2_match_data *data;
    pcre2_match_context *context;
} state;

static loami_pattern *pattern_new(const char *text, size_t n)
{
    loami_pattern *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->text = malloc(n + 1);
    if (!p->text) {
        free(p);
        return NULL;
    }
    if (n) memcpy(p->text, text, n);
    p->text[n] = 0;
    p->n = n;
    return p;
}

int loami_pattern_literal(loami_pattern **out, const char *text, size_t n, loam_err *err)
{
    *out = pattern_new(text, n);
    return *out ? 0 : loami_fail_nomem(err);
}

static int compile(loami_pattern *p, const loami_buf *re, const char *what, loam_err *err)
{
    int code;
    PCRE2_SIZE at;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_UTF_CHECK;
    pcre2_compile_context *c = pcre2_compile_context_create(NULL);
    if (!c) return loami_fail_nomem(err);
    pcre2_set_newline(c, PCRE2_NEWLINE_LF);
    p->code = pcre2_compile((PCRE2_SPTR)(re->data ? re->data : ""), re->len, options, &code, &at, c);
    pcre2_compile_context_free(c);
    if (!p->code) {
        PCRE2_UCHAR words[128];
        pcre2_get_error_message(code, words, sizeof words);
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: regular expression \"%.200s\": %s", what, p->text,
                          (char *)words);
    }
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* without it matching is only slower */
    return 0;
}

int loami_pattern_regex(loami_pattern **out, const char *pattern, size_t n, const char *what, loam_err *err)
{
    if (n > PATTERN_BYTES)
        return loami_fail(err, LOAM_E_FORMAT, "%s: a regular expression of %zu bytes", what, n);
    loami_buf re = { 0 };
    loami_pattern *p = pattern_new(pattern, n);
    int rc = p ? loami_onig_translate(&re, pattern, n, what, err) : loami_fail_nomem(err);
    if (rc == 0) rc = compile(p, &re, what, err);
    loami_buf_free(&re);
    if (rc < 0) loami_pattern_free(p);
    else *out = p;
    return rc;
}

int loami_pattern_json(loami_pattern **out, const json_t *v, const char *what, loam_err *err)
{
    const json_t *s = json_object_get(v, "String"), *re = json_object_get(v, "Regex");
    if (json_is_string(s))
        return loami_pattern_literal(out, json_string_value(s), json_string_length(s), err);
    if (json_is_string(re))
        return loami_pattern_regex(out, json_string_value(re), json_string_length(re), what, err);
    return loami_fail(err, LOAM_E_FORMAT, "%s: \"pattern\" must be {\"String\": ...} or {\"Regex\": ...}",
                      what);
}

void loami_pattern_free(loami_pattern *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    free(p->text);
    free(p);
}

const char *loami_pattern_source(const loami_pattern *p, size_t *n)
{
    *n = p->n;
    return p->code ? p->text : NULL;
}

void *loami_matches_state(void)
{
    state *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->data = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    if (!s->data || !s->context) {
        loami_matches_state_free(s);
        return NULL;
    }
    pcre2_set_match_limit(s->context, MATCH_STEPS);
    return s;
}

void loami_matches_state_free(void *state_)
{
    state *s = state_;
    if (!s) return;
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->context);
    free(s);
}

static bool find_literal(loami_matches *m)
{
    const loami_pattern *p = m->pattern;
    const char *at = m->text + m->from, *end = m->text + m->n;
    if (p->n == 0) {
        m->start = m->end = m->from;
        return true;
    }
    for (; (size_t)(end - at) >= p->n; at++) {
        at = memchr(at, p->text[0], (size_t)(end - at) - p->n + 1);
        if (!at) return false;
        if (memcmp(at, p->text, p->n) == 0) {
            m->start = (size_t)(at - m->text);
            m->end = m->start + p->n;
            return true;
        }
    }
    return false;
}

/* 1 found, 0 not, negative: error. */
static int find_regex(loami_matches *m, loam_err *err)
{
    const state *s = m->state;
    PCRE2_SPTR text = (PCRE2_SPTR)m->text;
    int rc = pcre2_match(m->pattern->code, text, m->n, m->from, PCRE2_NO_UTF_CHECK, s->data, s->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(m->pattern->code, text, m->n, m->from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->data,
                         s->context);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) {
        PCRE2_UCHAR words[128];
        pcre2_get_error_message(rc, words, sizeof words);
        return loami_fail(err, LOAM_E_UNSUPPORTED, "regular expression \"%.200s\" on %zu bytes of text: %s",
                          m->pattern->text, m->n, (char *)words);
    }
    const PCRE2_SIZE *where = pcre2_get_ovector_pointer(s->data);
    m->start = where[0];
    m->end = where[1];
    return m->start <= m->end; /* \K in a look-ahead may cross them */
}

int loami_matches_next(loami_matches *m, loam_err *err)
{
    while (m->from <= m->n) {
        int rc = m->pattern->code ? find_regex(m, err) : find_literal(m);
        if (rc <= 0) {
            m->from = m->n + 1;
            return rc;
        }
        if (m->start == m->end && m->any && m->last == m->end) {
            uint32_t cp;
            size_t len = m->from < m->n ? loami_utf8_next(m->text + m->from, m->n - m->from, &cp) : 1;
            m->from += len ? len : 1;
            continue;
        }
        m->from = m->last = m->end;
        m->any = true;
        return 1;
    }
    return 0;
}
