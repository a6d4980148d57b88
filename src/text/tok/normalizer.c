#include "base/utf8.h"
#include "text/tok/precompiled.h"
#include "text/tok/tok.h"

#include <stdlib.h>
#include <string.h>

typedef struct loami_normalizer loami_normalizer;

/* What a normalizer sees and says. */
typedef struct pass {
    const char *s;
    size_t n;
    loami_buf *out;         /* empty */
    void *matches;
    bool at_start;          /* as of loami_normalize; to be cleared */
} pass;

typedef struct type {
    const char *name;
    int (*parse)(loami_normalizer *z, const json_t *json, loam_err *err); /* NULL: no fields */
    int (*run)(const loami_normalizer *z, pass *p, loam_err *err); /* 1: nothing to change, out is unused */
} type;

struct loami_normalizer {
    const type *type;
    loami_pattern *pattern;
    char *text;             /* [n] what to prepend, or to put in place of a match */
    size_t n;
    bool left, right;                                /* Strip */
    bool clean, chinese, accents, lower;             /* BertNormalizer */
    loami_precompiled *map;
};

/* A file may say anything; what it makes of a text stays in proportion. NFKC, the largest real one, makes 11
 * of 1. */
enum { GROWTH = 32, GROWTH_MORE = 1 << 16 };

static int done(const pass *p, loam_err *err)
{
    const loami_buf *b = p->out;
    if (!b->failed) return 0;
    if (!b->limit) return loami_fail_nomem(err);
    return loami_fail(err, LOAM_E_FORMAT, "the tokenizer's normalizer makes more than %zu bytes of a text",
                      b->limit);
}

static int copy_text(loami_normalizer *z, loami_str s, loam_err *err)
{
    z->text = malloc(s.n + 1);
    if (!z->text) return loami_fail_nomem(err);
    if (s.n) memcpy(z->text, s.s, s.n);
    z->n = s.n;
    return 0;
}

/* ---- characters one by one ---- */

/* Writes what cp becomes to out[2] and returns how many; 0 removes it. */
typedef int char_map(uint32_t cp, uint32_t out[3]);

static int map_chars(pass *p, char_map *map, loam_err *err)
{
    for (size_t i = 0; i < p->n;) {
        uint32_t cp, to[3];
        size_t len = loami_utf8_next(p->s + i, p->n - i, &cp);
        int k = map(cp, to);
        if (k == 0 && p->out->len == 0) p->at_start = false;
        for (int j = 0; j < k; j++) {
            char u[4];
            loami_buf_put(p->out, u, loami_utf8_put(u, to[j]));
        }
        i += len ? len : 1;
    }
    return done(p, err);
}

static int lower_char(uint32_t cp, uint32_t out[3])
{
    out[0] = loami_uni_lower(cp, &out[1]);
    return out[1] ? 2 : 1;
}

static int without_mark(uint32_t cp, uint32_t out[3])
{
    out[0] = cp;
    if (cp == 0x1cf2 || cp == 0x1cf3) return 0; /* marks once, and in the reference's tables */
    return cp < 0x300 || loami_uni_major(cp) != 'M' || loami_uni_is_late(cp, LOAMI_UNI_MARK);
}

static int without_nonspacing(uint32_t cp, uint32_t out[3])
{
    out[0] = cp;
    if (cp < 0x300 || cp == 0x1734) return cp < 0x300; /* nonspacing once */
    return strcmp(loami_uni_category(cp), "Mn") != 0 || loami_uni_is_late(cp, LOAMI_UNI_NONSPACING);
}

/* sentencepiece's "nmt" rules. */
static int nmt_char(uint32_t cp, uint32_t out[3])
{
    bool drop = (cp >= 1 && cp <= 8) || cp == 0xb || (cp >= 0xe && cp <= 0x1f) || cp == 0x7f || cp == 0x8f ||
                cp == 0x9f;
    bool space = cp == 9 || cp == 0xa || cp == 0xc || cp == 0xd || cp == 0x1680 ||
                 (cp >= 0x200b && cp <= 0x200f) || cp == 0x2028 || cp == 0x2029 || cp == 0x2581 ||
                 cp == 0xfeff || cp == 0xfffd;
    out[0] = space ? ' ' : cp;
    return !drop;
}

static int clean_char(uint32_t cp, uint32_t out[3])
{
    bool white = loami_uni_is_space(cp);
    out[0] = white ? ' ' : cp;
    if (cp == '\t' || cp == '\n' || cp == '\r') return 1;
    const char *c = loami_uni_category(cp);
    if (cp == 0 || cp == 0xfffd) return 0;
    return c[0] != 'C' || c[1] == 'n' || loami_uni_is_late(cp, LOAMI_UNI_FORMAT);
}

static int chinese_char(uint32_t cp, uint32_t out[3])
{
    static const struct { uint32_t lo, hi; } blocks[] = {
        { 0x3400, 0x4dbf },   { 0x4e00, 0x9fff },   { 0xf900, 0xfaff },   { 0x20000, 0x2a6df },
        { 0x2a700, 0x2b73f }, { 0x2b740, 0x2b81f }, { 0x2b920, 0x2ceaf }, { 0x2f800, 0x2fa1f },
    };
    out[0] = cp;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (cp < blocks[i].lo || cp > blocks[i].hi) continue;
        out[0] = out[2] = ' ';
        out[1] = cp;
        return 3;
    }
    return 1;
}

static int run_lowercase(const loami_normalizer *z, pass *p, loam_err *err)
{
    (void)z;
    return map_chars(p, lower_char, err);
}

static int run_strip_accents(const loami_normalizer *z, pass *p, loam_err *err)
{
    (void)z;
    return map_chars(p, without_mark, err);
}

static int run_nmt(const loami_normalizer *z, pass *p, loam_err *err)
{
    (void)z;
    return map_chars(p, nmt_char, err);
}

static int byte_level(const loami_normalizer *z, pass *p, loam_err *err)
{
    (void)z;
    for (size_t i = 0; i < p->n; i++) {
        char u[4];
        loami_buf_put(p->out, u, loami_utf8_put(u, loami_byte_chars[(unsigned char)p->s[i]]));
    }
    return done(p, err);
}

/* ---- BertNormalizer ---- */

static int parse_bert(loami_normalizer *z, const json_t *json, loam_err *err)
{
    z->clean = z->chinese = z->lower = true;
    if (loami_json_bool(json, "BertNormalizer", "clean_text", &z->clean, err) < 0 ||
        loami_json_bool(json, "BertNormalizer", "handle_chinese_chars", &z->chinese, err) < 0 ||
        loami_json_bool(json, "BertNormalizer", "lowercase", &z->lower, err) < 0)
        return LOAM_E_FORMAT;
    z->accents = z->lower;
    return loami_json_bool(json, "BertNormalizer", "strip_accents", &z->accents, err);
}

static int run_bert(const loami_normalizer *z, pass *p, loam_err *err)
{
    char_map *const maps[] = { z->clean ? clean_char : NULL, z->chinese ? chinese_char : NULL,
                               z->accents ? without_nonspacing : NULL, z->lower ? lower_char : NULL };
    loami_buf bufs[2] = { { 0 }, { 0 } };
    pass step = *p;
    int rc = 0, at = 0;
    for (size_t i = 0; rc == 0 && i < sizeof maps / sizeof *maps; i++) {
        if (!maps[i]) continue;
        if (maps[i] == without_nonspacing) {
            loami_buf_clear(&bufs[at]);
            rc = loami_uni_normalize(&bufs[at], step.s, step.n, LOAMI_NFD, err);
            step.s = bufs[at].data ? bufs[at].data : "";
            step.n = bufs[at].len;
            at = !at;
            if (rc < 0) break;
        }
        step.out = &bufs[at];
        loami_buf_clear(step.out);
        rc = map_chars(&step, maps[i], err);
        step.s = step.out->data ? step.out->data : "";
        step.n = step.out->len;
        at = !at;
    }
    if (rc == 0) loami_buf_put(p->out, step.s, step.n);
    p->at_start = step.at_start;
    loami_buf_free(&bufs[0]);
    loami_buf_free(&bufs[1]);
    return rc < 0 ? rc : done(p, err);
}

/* ---- normalization forms ---- */

static bool is_ascii(const char *s, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t x;
        memcpy(&x, s + i, 8);
        if (x & 0x8080808080808080u) return false;
    }
    for (; i < n; i++)
        if ((unsigned char)s[i] >= 0x80) return false;
    return true;
}

static int run_form(pass *p, loami_uni_form form, loam_err *err)
{
    return is_ascii(p->s, p->n) ? 1 : loami_uni_normalize(p->out, p->s, p->n, form, err);
}

static int run_nfc(const loami_normalizer *z, pass *p, loam_err *err)
{
    (void)z;
    return run_form(p, LOAMI_NFC, err);
}

static int run_nfd(const loami_normalizer *z, pass *p, loam_err *err)
{
    (void)z;
    return run_form(p, LOAMI_NFD, err);
}

static int run_nfkc(const loami_normalizer *z, pass *p, loam_err *err)
{
    (void)z;
    return run_form(p, LOAMI_NFKC, err);
}

static int run_nfkd(const loami_normalizer *z, pass *p, loam_err *err)
{
    (void)z;
    return run_form(p, LOAMI_NFKD, err);
}

/* ---- Strip, Prepend, Replace, Precompiled ---- */

static int parse_strip(loami_normalizer *z, const json_t *json, loam_err *err)
{
    int rc = loami_json_bool(json, "Strip", "strip_left", &z->left, err);
    return rc < 0 ? rc : loami_json_bool(json, "Strip", "strip_right", &z->right, err);
}

static size_t spaces_before(const char *s, size_t n)
{
    size_t end = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = loami_utf8_next(s + i, n - i, &cp);
        i += len ? len : 1;
        if (!loami_uni_is_space(cp)) break;
        end = i;
    }
    return end;
}

static int run_strip(const loami_normalizer *z, pass *p, loam_err *err)
{
    size_t from = z->left ? spaces_before(p->s, p->n) : 0, to = p->n;
    while (z->right && to > from) {
        size_t i = to - 1;
        uint32_t cp;
        while (i > from && ((unsigned char)p->s[i] & 0xc0) == 0x80) i--;
        loami_utf8_next(p->s + i, to - i, &cp);
        if (!loami_uni_is_space(cp)) break;
        to = i;
    }
    if (from > 0) p->at_start = false;
    loami_buf_put(p->out, p->s + from, to - from);
    return done(p, err);
}

static int parse_prepend(loami_normalizer *z, const json_t *json, loam_err *err)
{
    loami_str s;
    int rc = loami_string_field(json, "Prepend", "prepend", &s, err);
    return rc < 0 ? rc : copy_text(z, s, err);
}

static int run_prepend(const loami_normalizer *z, pass *p, loam_err *err)
{
    loami_buf_put(p->out, z->text, z->n);
    loami_buf_put(p->out, p->s, p->n);
    return done(p, err);
}

static int parse_replace(loami_normalizer *z, const json_t *json, loam_err *err)
{
    loami_str s;
    int rc = loami_string_field(json, "Replace", "content", &s, err);
    if (rc == 0) rc = copy_text(z, s, err);
    return rc < 0 ? rc : loami_pattern_json(&z->pattern, json_object_get(json, "pattern"), "Replace", err);
}

/* A replacement stands where the last character of its match stood. */
static bool one_char(const char *s, size_t n)
{
    uint32_t cp;
    return n == 0 || loami_utf8_next(s, n, &cp) == n;
}

static int run_replace(const loami_normalizer *z, pass *p, loam_err *err)
{
    loami_matches m = { .pattern = z->pattern, .text = p->s, .n = p->n, .state = p->matches };
    size_t from = 0, total = 0;
    int rc;
    while ((rc = loami_matches_next(&m, err)) > 0) {
        if (m.start == 0 && m.end > 0 && (z->n == 0 || !one_char(p->s, m.end))) p->at_start = false;
        loami_buf_put(p->out, p->s + from, m.start - from);
        loami_buf_put(p->out, z->text, z->n);
        from = m.end;
        total++;
    }
    if (rc < 0) return rc;
    if (!total) return 1;
    loami_buf_put(p->out, p->s + from, p->n - from);
    return done(p, err);
}

static int parse_precompiled(loami_normalizer *z, const json_t *json, loam_err *err)
{
    loami_str s;
    int rc = loami_string_field(json, "Precompiled", "precompiled_charsmap", &s, err);
    return rc < 0 ? rc : loami_precompiled_open(&z->map, s.s, s.n, err);
}

static int run_precompiled(const loami_normalizer *z, pass *p, loam_err *err)
{
    loami_precompiled_run(z->map, p->out, p->s, p->n);
    return done(p, err);
}

/* ---- the list ---- */

static const type types[] = {
    { "NFC", NULL, run_nfc },
    { "NFD", NULL, run_nfd },
    { "NFKC", NULL, run_nfkc },
    { "NFKD", NULL, run_nfkd },
    { "Lowercase", NULL, run_lowercase },
    { "Strip", parse_strip, run_strip },
    { "StripAccents", NULL, run_strip_accents },
    { "Replace", parse_replace, run_replace },
    { "Prepend", parse_prepend, run_prepend },
    { "Nmt", NULL, run_nmt },
    { "BertNormalizer", parse_bert, run_bert },
    { "ByteLevel", NULL, byte_level },
    { "Precompiled", parse_precompiled, run_precompiled },
};

static int add(void *arg, const json_t *json, const char *name, loam_err *err)
{
    loami_normalizers *l = arg;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(name, types[i].name) != 0) continue;
        loami_normalizer *p = realloc(l->list, (l->n + 1) * sizeof *p);
        if (!p) return loami_fail_nomem(err);
        l->list = p;
        l->list[l->n] = (loami_normalizer){ .type = &types[i] };
        return types[i].parse ? types[i].parse(&l->list[l->n++], json, err) : (l->n++, 0);
    }
    return loami_fail(err, LOAM_E_UNSUPPORTED, "normalizer \"%.60s\" is not supported", name);
}

int loami_normalizers_parse(loami_normalizers *out, const json_t *json, const char *what, loam_err *err)
{
    int rc = loami_components(json, "normalizers", "normalizer", add, out, err);
    return rc < 0 ? loami_fail_in(err, "%s", what) : 0;
}

void loami_normalizers_free(loami_normalizers *l)
{
    for (size_t i = 0; i < l->n; i++) {
        loami_pattern_free(l->list[i].pattern);
        loami_precompiled_close(l->list[i].map);
        free(l->list[i].text);
    }
    free(l->list);
    *l = (loami_normalizers){ 0 };
}

int loami_normalize(const loami_normalizers *l, loami_buf bufs[2], void *matches, const char **text,
                    size_t *n, bool *at_start, loam_err *err)
{
    int at = 0;
    bufs[0].limit = bufs[1].limit = GROWTH * *n + GROWTH_MORE;
    for (size_t i = 0; i < l->n && *n; i++) {
        loami_buf_clear(&bufs[at]);
        pass p = { *text, *n, &bufs[at], matches, *at_start };
        int rc = l->list[i].type->run(&l->list[i], &p, err);
        if (rc < 0) return rc;
        if (rc == 1) continue;
        *text = bufs[at].data ? bufs[at].data : "";
        *n = bufs[at].len;
        *at_start = p.at_start;
        at = !at;
    }
    return 0;
}
