#include "base/utf8.h"
#include "text/tok/tok.h"
#include "text/tok/words.h"

#include <stdlib.h>
#include <string.h>

typedef struct loami_pretokenizer loami_pretokenizer;

typedef enum behavior { REMOVED, ISOLATED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS } behavior;
typedef enum scheme { ALWAYS, FIRST, NEVER } scheme;

typedef struct type {
    const char *name;
    int (*parse)(loami_pretokenizer *t, const json_t *json, loam_err *err); /* NULL: no fields */
    /* Cuts the spans of c further; raw: see loami_pretokenizers. */
    int (*run)(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err);
} type;

struct loami_pretokenizer {
    const type *type;
    behavior behavior;
    loami_pattern *pattern;
    loami_words words;      /* the scanner that does what pattern, isolated, would */
    bool invert, flag;      /* flag: add_prefix_space, individual_digits, split */
    bool use_regex;
    scheme scheme;
    uint32_t character;     /* replacement, delimiter */
    uint32_t length;
};

static int failed(const loami_cut *c, loam_err *err)
{
    bool any = c->next.failed || c->found.failed || c->bufs[0].failed || c->bufs[1].failed;
    return any ? loami_fail_nomem(err) : 0;
}

/* ---- from matches to spans ---- */

static void put_found(loami_cut *c, size_t start, size_t end, bool match)
{
    loami_spans *f = &c->found;
    if (f->failed) return;
    if (f->len == c->cap_match) {
        size_t cap = c->cap_match ? c->cap_match * 2 : 64;
        bool *p = realloc(c->is_match, cap * sizeof *p);
        if (!p) {
            f->failed = true;
            return;
        }
        c->is_match = p;
        c->cap_match = cap;
    }
    if (start == end) return; /* an empty match cuts, and is no word */
    loami_spans_put(f, start, end);
    if (!f->failed) c->is_match[f->len - 1] = match;
}

static void merge_with_next(loami_cut *c)
{
    const loami_spans *f = &c->found;
    for (size_t i = 0; i < f->len; i++) {
        size_t start = f->data[i].start;
        if (c->is_match[i] && i + 1 < f->len && !c->is_match[i + 1]) i++;
        loami_spans_put(&c->next, start, f->data[i].end);
    }
}

static void merge_with_previous(loami_cut *c)
{
    const loami_spans *f = &c->found;
    for (size_t i = 0; i < f->len; i++) {
        size_t start = f->data[i].start;
        if (!c->is_match[i] && i + 1 < f->len && c->is_match[i + 1]) i++;
        loami_spans_put(&c->next, start, f->data[i].end);
    }
}

static void merge_equal(loami_cut *c)
{
    const loami_spans *f = &c->found;
    for (size_t i = 0; i < f->len; i++) {
        size_t start = f->data[i].start;
        while (i + 1 < f->len && c->is_match[i + 1] == c->is_match[i]) i++;
        loami_spans_put(&c->next, start, f->data[i].end);
    }
}

/* c->found, which covers one span, to c->next. */
static void cut_found(loami_cut *c, behavior how)
{
    switch (how) {
    case MERGED_WITH_NEXT: merge_with_next(c); break;
    case MERGED_WITH_PREVIOUS: merge_with_previous(c); break;
    case CONTIGUOUS: merge_equal(c); break;
    case ISOLATED: case REMOVED:
        for (size_t i = 0; i < c->found.len; i++)
            if (how == ISOLATED || !c->is_match[i])
                loami_spans_put(&c->next, c->found.data[i].start, c->found.data[i].end);
    }
}

static void take_next(loami_cut *c)
{
    loami_spans old = c->spans;
    c->spans = c->next;
    c->next = old;
    c->next.len = 0;
}

/* ---- patterns that look at one character ---- */

typedef bool char_test(uint32_t cp, uint32_t arg);

static int cut_chars(loami_cut *c, char_test *test, uint32_t arg, behavior how, loam_err *err)
{
    for (size_t k = 0; k < c->spans.len; k++) {
        size_t end = c->spans.data[k].end, from = c->spans.data[k].start;
        c->found.len = 0;
        for (size_t i = from; i < end;) {
            uint32_t cp;
            size_t len = loami_utf8_next(c->text + i, end - i, &cp);
            if (!len) len = 1;
            if (test(cp, arg)) {
                put_found(c, from, i, false);
                put_found(c, i, i + len, true);
                from = i + len;
            }
            i += len;
        }
        put_found(c, from, end, false);
        cut_found(c, how);
    }
    take_next(c);
    return failed(c, err);
}

static bool test_space(uint32_t cp, uint32_t arg)
{
    (void)arg;
    return loami_uni_is_space(cp);
}

static bool test_number(uint32_t cp, uint32_t arg)
{
    (void)arg;
    return cp < 0x80 ? cp >= '0' && cp <= '9' : loami_uni_major(cp) == 'N';
}

static bool test_punctuation(uint32_t cp, uint32_t arg)
{
    (void)arg;
    return loami_uni_is_punctuation(cp);
}

static bool test_equal(uint32_t cp, uint32_t arg)
{
    return cp == arg;
}

static int run_digits(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err)
{
    (void)raw;
    return cut_chars(c, test_number, 0, t->flag ? ISOLATED : CONTIGUOUS, err);
}

static int run_punctuation(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err)
{
    (void)raw;
    return cut_chars(c, test_punctuation, 0, t->behavior, err);
}

static int run_whitespace_split(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err)
{
    (void)t, (void)raw;
    return cut_chars(c, test_space, 0, REMOVED, err);
}

static int run_bert(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err)
{
    (void)t, (void)raw;
    int rc = cut_chars(c, test_space, 0, REMOVED, err);
    return rc < 0 ? rc : cut_chars(c, test_punctuation, 0, ISOLATED, err);
}

static int run_delimiter(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err)
{
    (void)raw;
    return cut_chars(c, test_equal, t->character, REMOVED, err);
}

/* \w+|[^\w\s]+, the rest removed. */
static int run_whitespace(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err)
{
    (void)t, (void)raw;
    for (size_t k = 0; k < c->spans.len; k++) {
        size_t end = c->spans.data[k].end, from = c->spans.data[k].start;
        int last = -1;
        for (size_t i = from; i < end;) {
            uint32_t cp;
            size_t len = loami_utf8_next(c->text + i, end - i, &cp);
            int class = loami_uni_is_space(cp) ? 0 : loami_uni_is_word(cp) ? 1 : 2;
            if (class != last) {
                if (last > 0) loami_spans_put(&c->next, from, i);
                from = i;
                last = class;
            }
            i += len ? len : 1;
        }
        if (last > 0) loami_spans_put(&c->next, from, end);
    }
    take_next(c);
    return failed(c, err);
}

static int run_fixed_length(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err)
{
    (void)raw;
    for (size_t k = 0; k < c->spans.len; k++) {
        size_t end = c->spans.data[k].end, from = c->spans.data[k].start;
        uint32_t chars = 0;
        for (size_t i = from; i < end; i++) {
            if (((unsigned char)c->text[i] & 0xc0) == 0x80 || chars++ < t->length) continue;
            loami_spans_put(&c->next, from, i);
            from = i;
            chars = 1;
        }
        loami_spans_put(&c->next, from, end);
    }
    take_next(c);
    return failed(c, err);
}

/* ---- regular expressions ---- */

static int cut_words(loami_cut *c, loami_words words, loam_err *err)
{
    for (size_t k = 0; k < c->spans.len; k++) {
        const char *s = c->text + c->spans.data[k].start;
        size_t base = c->spans.data[k].start, n = c->spans.data[k].end - base;
        for (size_t i = 0; i < n;) {
            size_t end = loami_words_end(words, s, n, i);
            loami_spans_put(&c->next, base + i, base + end);
            i = end;
        }
    }
    take_next(c);
    return failed(c, err);
}

static int cut_pattern(loami_cut *c, const loami_pretokenizer *t, loam_err *err)
{
    for (size_t k = 0; k < c->spans.len; k++) {
        size_t base = c->spans.data[k].start, n = c->spans.data[k].end - base, from = 0;
        loami_matches m = { .pattern = t->pattern, .text = c->text + base, .n = n, .state = c->matches };
        int rc;
        c->found.len = 0;
        while ((rc = loami_matches_next(&m, err)) > 0) {
            put_found(c, base + from, base + m.start, t->invert);
            put_found(c, base + m.start, base + m.end, !t->invert);
            from = m.end;
        }
        if (rc < 0) return rc;
        put_found(c, base + from, base + n, t->invert);
        cut_found(c, t->behavior);
    }
    take_next(c);
    return failed(c, err);
}

static int run_split(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err)
{
    (void)raw;
    return t->words ? cut_words(c, t->words, err) : cut_pattern(c, t, err);
}

/* ---- components that change the text ---- */

/* The buffer for a rewritten text, empty. */
static loami_buf *rewrite(loami_cut *c, size_t times)
{
    loami_buf *b = &c->bufs[!c->current];
    size_t n = c->spans.len ? c->spans.data[c->spans.len - 1].end : 0;
    loami_buf_clear(b);
    loami_buf_reserve(b, n * times + 16);
    if (c->spans.len && c->spans.data[0].start > 0) c->at_start = false;
    return b;
}

static int rewritten(loami_cut *c, loam_err *err)
{
    c->current = !c->current;
    c->text = c->bufs[c->current].data;
    take_next(c);
    if (c->bufs[c->current].len > UINT32_MAX)
        return loami_fail(err, LOAM_E_ARG, "the text is too long to tokenize");
    return failed(c, err);
}

static int add_prefix_spaces(loami_cut *c, loam_err *err)
{
    loami_buf *b = rewrite(c, 2);
    for (size_t k = 0; k < c->spans.len; k++) {
        loami_span s = c->spans.data[k];
        size_t from = b->len;
        if (c->text[s.start] != ' ') loami_buf_putc(b, ' ');
        loami_buf_put(b, c->text + s.start, s.end - s.start);
        loami_spans_put(&c->next, from, b->len);
    }
    return rewritten(c, err);
}

static int bytes_to_chars(loami_cut *c, loam_err *err)
{
    loami_buf *b = rewrite(c, 2);
    for (size_t k = 0; k < c->spans.len; k++) {
        loami_span s = c->spans.data[k];
        size_t from = b->len;
        if (!loami_buf_reserve(b, 2 * (size_t)(s.end - s.start))) break;
        for (size_t i = s.start; i < s.end; i++)
            b->len += loami_utf8_put(b->data + b->len, loami_byte_chars[(unsigned char)c->text[i]]);
        loami_spans_put(&c->next, from, b->len);
    }
    return rewritten(c, err);
}

static int run_byte_level(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err)
{
    int rc = t->flag ? add_prefix_spaces(c, err) : 0;
    if (rc == 0 && t->use_regex) rc = cut_words(c, LOAMI_WORDS_GPT2, err);
    return rc < 0 || raw ? rc : bytes_to_chars(c, err);
}

static int run_metaspace(const loami_pretokenizer *t, loami_cut *c, bool raw, loam_err *err)
{
    char u[4];
    size_t len = loami_utf8_put(u, t->character);
    loami_buf *b = rewrite(c, 2);
    (void)raw;
    for (size_t k = 0; k < c->spans.len; k++) {
        const char *s = c->text + c->spans.data[k].start;
        size_t n = c->spans.data[k].end - c->spans.data[k].start, from = b->len;
        bool starts = s[0] == ' ' || (n >= len && memcmp(s, u, len) == 0);
        if (!starts && (t->scheme == ALWAYS || (t->scheme == FIRST && k == 0 && c->at_start)))
            loami_buf_put(b, u, len);
        for (const char *p = s, *end = s + n, *at; p < end; p = at + 1) {
            at = memchr(p, ' ', (size_t)(end - p));
            loami_buf_put(b, p, (size_t)((at ? at : end) - p));
            if (!at) break;
            loami_buf_put(b, u, len);
        }
        loami_spans_put(&c->next, from, b->len);
    }
    int rc = rewritten(c, err);
    return rc < 0 || !t->flag ? rc : cut_chars(c, test_equal, t->character, MERGED_WITH_NEXT, err);
}

/* ---- parsing ---- */

static int parse_behavior(loami_pretokenizer *t, const json_t *json, const char *what, loam_err *err)
{
    static const char *const names[] = { "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                         "Contiguous" };
    const char *s = NULL;
    int rc = loami_json_string(json, what, "behavior", &s, err);
    if (rc <= 0) return rc;
    for (int i = 0; i < 5; i++) {
        if (strcmp(s, names[i]) != 0) continue;
        t->behavior = (behavior)i;
        return 0;
    }
    return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: behavior \"%.40s\" is not supported", what, s);
}

static int parse_split(loami_pretokenizer *t, const json_t *json, loam_err *err)
{
    size_t n;
    if (!json_is_string(json_object_get(json, "behavior")))
        return loami_fail(err, LOAM_E_FORMAT, "Split: \"behavior\" must be a string");
    int rc = parse_behavior(t, json, "Split", err);
    if (rc >= 0) rc = loami_json_bool(json, "Split", "invert", &t->invert, err);
    if (rc >= 0) rc = loami_pattern_json(&t->pattern, json_object_get(json, "pattern"), "Split", err);
    if (rc < 0) return rc;
    const char *source = loami_pattern_source(t->pattern, &n);
    bool whole = t->invert ? t->behavior == REMOVED : t->behavior == ISOLATED; /* every match a word */
    if (source && whole) t->words = loami_words_of(source, n);
    return 0;
}

static int parse_byte_level(loami_pretokenizer *t, const json_t *json, loam_err *err)
{
    t->flag = t->use_regex = true;
    int rc = loami_json_bool(json, "ByteLevel", "add_prefix_space", &t->flag, err);
    return rc < 0 ? rc : loami_json_bool(json, "ByteLevel", "use_regex", &t->use_regex, err);
}

static int parse_digits(loami_pretokenizer *t, const json_t *json, loam_err *err)
{
    return loami_json_bool(json, "Digits", "individual_digits", &t->flag, err);
}

static int parse_punctuation(loami_pretokenizer *t, const json_t *json, loam_err *err)
{
    t->behavior = ISOLATED;
    return parse_behavior(t, json, "Punctuation", err);
}

static int parse_delimiter(loami_pretokenizer *t, const json_t *json, loam_err *err)
{
    return loami_char_field(json, "CharDelimiterSplit", "delimiter", &t->character, err);
}

static int parse_fixed_length(loami_pretokenizer *t, const json_t *json, loam_err *err)
{
    t->length = 5;
    return loami_json_u32(json, "FixedLength", "length", 1, UINT32_MAX, &t->length, err);
}

static int parse_metaspace(loami_pretokenizer *t, const json_t *json, loam_err *err)
{
    static const char *const schemes[] = { "always", "first", "never" };
    const char *s = "always";
    bool prefix = true;
    int rc = loami_char_field(json, "Metaspace", "replacement", &t->character, err);
    t->flag = true;
    if (rc >= 0) rc = loami_json_bool(json, "Metaspace", "split", &t->flag, err);
    if (rc >= 0) rc = loami_json_bool(json, "Metaspace", "add_prefix_space", &prefix, err);
    if (rc >= 0) rc = loami_json_string(json, "Metaspace", "prepend_scheme", &s, err);
    if (rc < 0) return rc;
    for (int i = 0; i < 3; i++) {
        if (strcmp(s, schemes[i]) != 0) continue;
        t->scheme = (scheme)i;
        if (prefix || t->scheme == NEVER) return 0;
        return loami_fail(err, LOAM_E_FORMAT, "Metaspace: add_prefix_space does not match prepend_scheme");
    }
    return loami_fail(err, LOAM_E_UNSUPPORTED, "Metaspace: prepend_scheme \"%.40s\" is not supported", s);
}

static const type types[] = {
    { "ByteLevel", parse_byte_level, run_byte_level },
    { "Split", parse_split, run_split },
    { "Digits", parse_digits, run_digits },
    { "Punctuation", parse_punctuation, run_punctuation },
    { "Whitespace", NULL, run_whitespace },
    { "WhitespaceSplit", NULL, run_whitespace_split },
    { "Metaspace", parse_metaspace, run_metaspace },
    { "BertPreTokenizer", NULL, run_bert },
    { "CharDelimiterSplit", parse_delimiter, run_delimiter },
    { "FixedLength", parse_fixed_length, run_fixed_length },
};

static int add(void *arg, const json_t *json, const char *name, loam_err *err)
{
    loami_pretokenizers *l = arg;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(name, types[i].name) != 0) continue;
        loami_pretokenizer *p = realloc(l->list, (l->n + 1) * sizeof *p);
        if (!p) return loami_fail_nomem(err);
        l->list = p;
        l->list[l->n] = (loami_pretokenizer){ .type = &types[i] };
        return types[i].parse ? types[i].parse(&l->list[l->n++], json, err) : (l->n++, 0);
    }
    return loami_fail(err, LOAM_E_UNSUPPORTED, "pre_tokenizer \"%.60s\" is not supported", name);
}

int loami_pretokenizers_parse(loami_pretokenizers *out, const json_t *json, const char *what, loam_err *err)
{
    int rc = loami_components(json, "pretokenizers", "pre_tokenizer", add, out, err);
    return rc < 0 ? loami_fail_in(err, "%s", what) : 0;
}

void loami_pretokenizers_free(loami_pretokenizers *l)
{
    for (size_t i = 0; i < l->n; i++) loami_pattern_free(l->list[i].pattern);
    free(l->list);
    *l = (loami_pretokenizers){ 0 };
}

bool loami_pretokenizers_end_in_bytes(const loami_pretokenizers *l)
{
    return l->n && l->list[l->n - 1].type->run == run_byte_level;
}

int loami_pretokenize(const loami_pretokenizers *l, loami_cut *c, const char *text, size_t n, bool at_start,
                      loam_err *err)
{
    c->text = text;
    c->spans.len = c->next.len = 0;
    c->spans.failed = c->next.failed = c->found.failed = false;
    c->at_start = at_start;
    loami_spans_put(&c->spans, 0, n);
    for (size_t i = 0; i < l->n; i++) {
        int rc = l->list[i].type->run(&l->list[i], c, l->raw && i + 1 == l->n, err);
        if (rc < 0) return rc;
    }
    return c->spans.failed ? loami_fail_nomem(err) : 0;
}
