/* EBNF as llama.cpp writes it (GBNF), with four words more: %json, %regex and %text, and tokens. */
#include "grammar/syntax.h"
#include "grammar/vocab.h"

#include "base/json.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { NAMES = 1 << 15, MOST_TIMES = 65535, NAME = 128, WORDS = 16 };

typedef struct reader {
    loami_syntax *d;
    const char *s;
    size_t at, n;
    int depth;
    uint32_t *names; /* [NAMES] hash of names -> rule */
    loam_err *err;
    int rc;
} reader;

static loami_expr *wrong(reader *r, int code, const char *what)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < r->at && i < r->n; i++) {
        column = r->s[i] == '\n' ? 1 : column + 1;
        line += r->s[i] == '\n';
    }
    if (r->rc == 0)
        r->rc = loami_fail(r->err, code, "the grammar, line %zu, column %zu: %s", line, column, what);
    return NULL;
}

static char peek(const reader *r, size_t ahead)
{
    return r->at + ahead < r->n ? r->s[r->at + ahead] : 0;
}

static bool is_name(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && ((c >= '0' && c <= '9') || c == '-' || c == '.'));
}

static void skip_space(reader *r)
{
    for (;; r->at++) {
        if (peek(r, 0) == '#')
            while (r->at < r->n && r->s[r->at] != '\n') r->at++;
        char c = peek(r, 0);
        if (r->at >= r->n || (c != ' ' && c != '\t' && c != '\n' && c != '\r')) return;
    }
}

static size_t name_at(const reader *r, size_t at)
{
    size_t n = 0;
    if (at < r->n && is_name(r->s[at], true))
        while (at + n < r->n && is_name(r->s[at + n], false)) n++;
    return n;
}

/* Whether "name ::=" is at hand. */
static bool at_definition(const reader *r)
{
    size_t at = r->at + name_at(r, r->at);
    if (at == r->at) return false;
    while (at < r->n && (r->s[at] == ' ' || r->s[at] == '\t')) at++;
    return at + 3 <= r->n && memcmp(r->s + at, "::=", 3) == 0;
}

static uint32_t rule_named(reader *r, const char *s, size_t n)
{
    char name[NAME];
    uint32_t h = 2166136261u;
    if (n >= NAME) return wrong(r, LOAM_E_ARG, "a name of more than 127 characters") ? 1 : 0;
    memcpy(name, s, n);
    name[n] = 0;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 16777619u;
    for (h &= NAMES - 1; r->names[h]; h = (h + 1) & (NAMES - 1))
        if (strcmp(r->d->rules[r->names[h]].name, name) == 0) return r->names[h];
    uint32_t rule = loami_rule_new(r->d, name);
    if (rule && !r->d->rules[rule].name) r->d->failed = true;
    if (!rule || r->d->failed) return wrong(r, LOAM_E_UNSUPPORTED, "there are too many rules") ? 1 : 0;
    return r->names[h] = rule;
}

/* ---- literals ---- */

static uint32_t hex(reader *r, int digits)
{
    uint32_t c = 0;
    for (int i = 0; i < digits; i++, r->at++) {
        char x = peek(r, 0);
        int v = x >= '0' && x <= '9'                 ? x - '0'
                : (x | 32) >= 'a' && (x | 32) <= 'f' ? (x | 32) - 'a' + 10
                                                     : -1;
        if (v < 0) {
            wrong(r, LOAM_E_ARG, "a hexadecimal digit is missing");
            return 0;
        }
        c = c << 4 | (uint32_t)v;
    }
    return c;
}

/* One character of a literal or a class, escapes read. */
static uint32_t character(reader *r)
{
    uint32_t c;
    if (peek(r, 0) == '\\' && r->at + 1 < r->n) {
        char x = peek(r, 1);
        r->at += 2;
        switch (x) {
        case 'n': return '\n';
        case 'r': return '\r';
        case 't': return '\t';
        case 'x': c = hex(r, 2); break;
        case 'u': c = hex(r, 4); break;
        case 'U': c = hex(r, 8); break;
        default:
            if (is_name(x, false) && x != '-' && x != '.' && x != '_')
                wrong(r, LOAM_E_ARG, "this escape is not known");
            return (unsigned char)x;
        }
        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) wrong(r, LOAM_E_ARG, "this is no character");
        return c;
    }
    size_t n = loami_utf8_next(r->s + r->at, r->n - r->at, &c);
    if (n == 0) wrong(r, LOAM_E_ARG, "invalid UTF-8");
    r->at += n ? n : 1;
    return c;
}

static loami_expr *literal(reader *r)
{
    char quote = peek(r, 0), utf8[4];
    loami_buf text = { 0 };
    loami_expr *x = NULL;
    size_t begin = r->at++;
    while (r->at < r->n && peek(r, 0) != quote && r->rc == 0) {
        uint32_t c = character(r);
        if (r->rc == 0) loami_buf_put(&text, utf8, loami_utf8_put(utf8, c));
    }
    if (r->rc == 0 && r->at >= r->n) {
        r->at = begin;
        wrong(r, LOAM_E_ARG, "the quotation mark is not closed");
    }
    r->at++;
    if (r->rc == 0 && !text.failed) x = loami_x_bytes(r->d, text.data ? text.data : "", text.len);
    loami_buf_free(&text);
    return x;
}

static loami_expr *class(reader *r)
{
    loami_range *set, *other;
    size_t begin = r->at++, most = r->n - r->at + 2;
    uint32_t n = 0;
    bool inverted = peek(r, 0) == '^';
    const char *end = memchr(r->s + r->at, ']', r->n - r->at);
    if (end)
        most = (size_t)(end - r->s) - r->at + 66; /* escaped brackets may make it longer: checked below */
    set = loami_arena_array(&r->d->arena, most, sizeof *set);
    r->at += inverted;
    while (set && r->at < r->n && peek(r, 0) != ']' && r->rc == 0) {
        uint32_t lo = character(r), hi = lo;
        if (peek(r, 0) == '-' && peek(r, 1) != ']' && r->at + 1 < r->n) {
            r->at++;
            hi = character(r);
        }
        if (hi < lo) wrong(r, LOAM_E_ARG, "a range runs backwards");
        if (n == most)
            wrong(r, LOAM_E_UNSUPPORTED, "a class with too many escaped brackets");
        else
            set[n++] = (loami_range){ lo, hi };
    }
    if (!set || r->rc < 0) return NULL;
    if (r->at >= r->n) {
        r->at = begin;
        return wrong(r, LOAM_E_ARG, "'[' is not closed");
    }
    r->at++;
    if (!inverted) return loami_x_chars(r->d, set, n, false);
    n = loami_chars_normal(set, n);
    if (!(other = loami_arena_array(&r->d->arena, n + 1, sizeof *other))) return NULL;
    n = loami_chars_invert(set, n, other);
    return loami_x_chars(r->d, other, n, false);
}

/* A token that is text is its text: it may be written with other tokens, too. */
static loami_expr *token_numbered(reader *r, int32_t id)
{
    const loami_vocab *v = r->d->vocab;
    if (id < 0 || (uint32_t)id >= v->n_tokens)
        return wrong(r, LOAM_E_ARG, "the model has no token of this number or spelling");
    if (v->at[id + 1] > v->at[id]) return loami_x_bytes(r->d, v->bytes + v->at[id], v->at[id + 1] - v->at[id]);
    return loami_x_token(r->d, id);
}

/* <[123]> by number, <|name|> as it is spelt. */
static loami_expr *token(reader *r)
{
    const char *s = r->s + r->at, *end;
    size_t left = r->n - r->at;
    if (left > 2 && s[1] == '[') {
        int64_t id = s[2] >= '0' && s[2] <= '9' ? 0 : -1;
        size_t i = 2;
        for (; i < left && s[i] >= '0' && s[i] <= '9'; i++)
            if (id < INT32_MAX) id = id * 10 + (s[i] - '0'); /* more is none, however it goes on */
        if (id < 0 || i + 1 >= left || s[i] != ']' || s[i + 1] != '>')
            return wrong(r, LOAM_E_ARG, "a token is written <[123]> or as it is spelt, <|name|>");
        loami_expr *x = token_numbered(r, id < INT32_MAX ? (int32_t)id : -1);
        r->at += i + 2;
        return x;
    }
    end = memchr(s, '>', left < NAME ? left : NAME);
    loami_expr *x = token_numbered(r, end ? loami_vocab_special(r->d->vocab, s, (size_t)(end - s) + 1) : -1);
    if (x) r->at += (size_t)(end - s) + 1;
    return x;
}

/* ---- %words ---- */

static loami_expr *json_word(reader *r)
{
    skip_space(r);
    json_error_t e;
    loami_expr *x = NULL;
    char *text = NULL;
    json_t *schema = json_loadb(r->s + r->at, r->n - r->at,
                                JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
    if (!schema) return wrong(r, LOAM_E_ARG, "%json has a JSON Schema after it");
    text = loami_json_text(schema);
    json_decref(schema);
    if (!text) return NULL;
    r->at += (size_t)e.position;
    r->rc = loami_schema_read(r->d, &x, text, strlen(text), r->err);
    free(text);
    return x;
}

static loami_expr *regex_word(reader *r)
{
    skip_space(r);
    size_t from = r->at + 1, to = from;
    loami_expr *x = NULL;
    if (peek(r, 0) != '/')
        return wrong(r, LOAM_E_ARG, "%regex has a regular expression between slashes after it");
    while (to < r->n && r->s[to] != '/') to += r->s[to] == '\\' ? 2 : 1;
    if (to >= r->n) return wrong(r, LOAM_E_ARG, "the slash is not closed");
    r->rc = loami_regex_read(r->d, &x, r->s + from, to - from, false, "", r->err);
    r->at = to + 1;
    return x;
}

static loami_expr *text_word(reader *r)
{
    loami_expr *words[WORDS];
    uint32_t n = 0;
    skip_space(r);
    if (peek(r, 0) != '(') return wrong(r, LOAM_E_ARG, "%text has words in parentheses after it");
    r->at++;
    for (;;) {
        skip_space(r);
        if (peek(r, 0) == ')') break;
        if (peek(r, 0) != '"' || n == WORDS)
            return wrong(r, LOAM_E_ARG, "%text takes up to 16 words in quotation marks");
        if (!(words[n] = literal(r))) return NULL;
        if (words[n]->kind != LOAMI_X_BYTES || words[n]->n >= 128)
            return wrong(r, LOAM_E_ARG, "a word of %text has 1 to 127 bytes");
        n++;
        skip_space(r);
        if (peek(r, 0) == ',') r->at++;
    }
    r->at++;
    return loami_x_until(r->d, words, n);
}

static loami_expr *word(reader *r)
{
    static const struct {
        const char *name;
        loami_expr *(*read)(reader *);
    } words[] = { { "json", json_word }, { "regex", regex_word }, { "text", text_word } };
    size_t n = name_at(r, r->at + 1);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (n == strlen(words[i].name) && memcmp(r->s + r->at + 1, words[i].name, n) == 0) {
            r->at += 1 + n;
            return words[i].read(r);
        }
    return wrong(r, LOAM_E_ARG, "after % comes json, regex or text");
}

/* ---- expressions ---- */

static loami_expr *alternatives(reader *r);

static loami_expr *parentheses(reader *r)
{
    size_t begin = r->at++;
    if (++r->depth > LOAMI_SYNTAX_DEPTH)
        return wrong(r, LOAM_E_UNSUPPORTED, "parentheses are nested more than 128 deep");
    loami_expr *x = alternatives(r);
    r->depth--;
    if (r->rc < 0) return NULL;
    if (peek(r, 0) != ')') {
        r->at = begin;
        return wrong(r, LOAM_E_ARG, "'(' is not closed");
    }
    r->at++;
    return x;
}

static loami_expr *atom(reader *r)
{
    size_t n = name_at(r, r->at);
    if (n) {
        uint32_t rule = rule_named(r, r->s + r->at, n);
        r->at += n;
        return rule ? loami_x_rule(r->d, rule) : NULL;
    }
    switch (peek(r, 0)) {
    case '"':
    case '\'': return literal(r);
    case '[': return class(r);
    case '(': return parentheses(r);
    case '<': return token(r);
    case '%': return word(r);
    case '.': r->at++; return loami_x_chars(r->d, &(loami_range){ 0, 0x10ffff }, 1, false);
    default: return wrong(r, LOAM_E_ARG, "here should be a name, a literal, a class or a group");
    }
}

static uint32_t number(reader *r, bool *some)
{
    uint64_t v = 0;
    *some = false;
    for (; peek(r, 0) >= '0' && peek(r, 0) <= '9' && v <= MOST_TIMES; r->at++, *some = true)
        v = v * 10 + (uint64_t)(peek(r, 0) - '0');
    if (v > MOST_TIMES) wrong(r, LOAM_E_UNSUPPORTED, "more than 65535 repetitions");
    return (uint32_t)v;
}

static void braces(reader *r, uint32_t *lo, uint32_t *hi)
{
    bool some;
    r->at++;
    skip_space(r);
    *lo = number(r, &some);
    skip_space(r);
    if (!some && peek(r, 0) != ',') wrong(r, LOAM_E_ARG, "a number is missing");
    *hi = *lo;
    if (peek(r, 0) == ',') {
        r->at++;
        skip_space(r);
        *hi = number(r, &some);
        if (!some) *hi = LOAMI_NO_LIMIT;
        skip_space(r);
    }
    if (peek(r, 0) != '}')
        wrong(r, LOAM_E_ARG, "'{' is not closed");
    else if (*hi < *lo)
        wrong(r, LOAM_E_ARG, "the limits of a repetition run backwards");
    r->at++;
}

static loami_expr *repeated(reader *r)
{
    loami_expr *x = atom(r);
    for (skip_space(r); x && r->rc == 0; skip_space(r)) {
        uint32_t lo = 0, hi = LOAMI_NO_LIMIT;
        char c = peek(r, 0);
        if (c == '{') {
            braces(r, &lo, &hi);
        } else if (c == '*' || c == '+' || c == '?') {
            r->at++;
            lo = c == '+';
            hi = c == '?' ? 1 : LOAMI_NO_LIMIT;
        } else {
            break;
        }
        if (r->rc == 0) x = loami_x_repeat(r->d, x, NULL, lo, hi);
    }
    return r->rc < 0 ? NULL : x;
}

static loami_expr *sequence(reader *r)
{
    loami_exprs items = { 0 };
    for (skip_space(r); r->at < r->n && r->rc == 0; skip_space(r)) {
        char c = peek(r, 0);
        if (c == '|' || c == ')' || at_definition(r)) break;
        loami_exprs_put(r->d, &items, repeated(r));
    }
    return r->rc < 0 ? NULL : loami_x_seq(r->d, items.items, items.n);
}

static loami_expr *alternatives(reader *r)
{
    loami_exprs items = { 0 };
    loami_exprs_put(r->d, &items, sequence(r));
    while (r->rc == 0 && peek(r, 0) == '|') {
        r->at++;
        loami_exprs_put(r->d, &items, sequence(r));
    }
    return r->rc < 0 ? NULL : loami_x_alt(r->d, items.items, items.n);
}

static void definition(reader *r)
{
    size_t n = name_at(r, r->at);
    if (!at_definition(r)) {
        wrong(r, LOAM_E_ARG, "here should be a rule: name ::= ...");
        return;
    }
    uint32_t rule = rule_named(r, r->s + r->at, n);
    if (!rule) return;
    if (r->d->rules[rule].expr) {
        wrong(r, LOAM_E_ARG, "this rule is defined already");
        return;
    }
    r->at += n;
    while (peek(r, 0) != ':') r->at++;
    r->at += 3;
    loami_expr *x = alternatives(r);
    if (r->rc == 0 && !x) r->d->failed = true;
    if (r->rc == 0 && peek(r, 0) == ')') wrong(r, LOAM_E_ARG, "')' without '('");
    r->d->rules[rule].expr = x;
}

int loami_ebnf_read(loami_syntax *d, const char *s, size_t n, loam_err *err)
{
    reader r = { .d = d, .s = s, .n = n, .err = err };
    if (!(r.names = calloc(NAMES, sizeof *r.names))) return loami_fail_nomem(err);
    const char *start = "root";
    size_t start_n = 4;
    skip_space(&r);
    if (n - r.at > 7 &&
        memcmp(s + r.at, "%start ", 7) == 0) { /* how loam's own grammars leave "root" to others' */
        start = s + r.at + 7;
        start_n = name_at(&r, r.at + 7);
        r.at += 7 + start_n;
    }
    for (skip_space(&r); r.at < n && r.rc == 0 && !d->failed; skip_space(&r)) definition(&r);
    uint32_t root = r.rc == 0 && !d->failed ? rule_named(&r, start, start_n) : 0;
    if (root && !d->rules[root].expr && !d->failed)
        r.rc = loami_fail(err, LOAM_E_ARG, "the grammar has no rule %.*s to start with", (int)start_n, start);
    for (uint32_t i = 1; i < d->n_rules && r.rc == 0 && !d->failed; i++)
        if (!d->rules[i].expr && d->rules[i].name)
            r.rc = loami_fail(err, LOAM_E_ARG, "the grammar uses the rule %s, which it does not define",
                              d->rules[i].name);
    d->root = root;
    free(r.names);
    return r.rc;
}
