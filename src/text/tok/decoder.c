#include "text/tok/decoder.h"
#include "base/hex.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- what a component does to one token ---- */

/* The bytes of a token of byte-level BPE; of another one, its own. */
static void put_bytes(loami_buf *out, const char *s, size_t n)
{
    size_t from = out->len;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = loami_utf8_next(s + i, n - i, &cp);
        int b = len ? loami_byte_of_char(cp) : -1;
        if (b < 0) {
            out->len = from;
            loami_buf_put(out, s, n);
            return;
        }
        loami_buf_putc(out, (char)b);
        i += len;
    }
}

int loami_byte_token(const char *s, size_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int high = s[3] == '+' ? 0 : loami_hex_digit(s[3]); /* "+5": Rust's number parser takes it */
    int low = loami_hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static void replace_all(loami_buf *out, const char *s, size_t n, const char *what, size_t what_n,
                        const char *by, size_t by_n)
{
    size_t from = 0;
    for (size_t i = 0; what_n && n - i >= what_n && i <= n - what_n;) {
        if (s[i] != what[0] || memcmp(s + i, what, what_n) != 0) {
            i++;
            continue;
        }
        loami_buf_put(out, s + from, i - from);
        loami_buf_put(out, by, by_n);
        i += what_n;
        from = i;
    }
    loami_buf_put(out, s + from, n - from);
}

static int middle_bytes(const loami_decoder *d, void *matches, loami_buf *out, const char *s, size_t n,
                        bool first, loam_err *err)
{
    (void)d, (void)matches, (void)first, (void)err;
    put_bytes(out, s, n);
    return 0;
}

static int middle_fallback(const loami_decoder *d, void *matches, loami_buf *out, const char *s, size_t n,
                           bool first, loam_err *err)
{
    (void)d, (void)matches, (void)first, (void)err;
    int b = loami_byte_token(s, n);
    if (b >= 0) loami_buf_putc(out, (char)b);
    else loami_buf_put(out, s, n);
    return 0;
}

static int middle_same(const loami_decoder *d, void *matches, loami_buf *out, const char *s, size_t n,
                       bool first, loam_err *err)
{
    (void)d, (void)matches, (void)first, (void)err;
    loami_buf_put(out, s, n);
    return 0;
}

static int middle_replace(const loami_decoder *d, void *matches, loami_buf *out, const char *s, size_t n,
                          bool first, loam_err *err)
{
    loami_matches m = { .pattern = d->pattern, .text = s, .n = n, .state = matches };
    size_t from = 0;
    int rc;
    (void)first;
    if (n == 0) return 0;
    while ((rc = loami_matches_next(&m, err)) > 0) {
        loami_buf_put(out, s + from, m.start - from);
        loami_buf_put(out, d->text, d->n);
        from = m.end;
    }
    if (rc == 0) loami_buf_put(out, s + from, n - from);
    return rc;
}

static int middle_strip(const loami_decoder *d, void *matches, loami_buf *out, const char *s, size_t n,
                        bool first, loam_err *err)
{
    (void)matches, (void)first, (void)err;
    if (d->fused) return loami_buf_put(out, s, n), 0; /* works on the ends of the whole text */
    size_t from = 0, to = n;
    for (uint32_t i = 0; i < d->start && n - from >= d->n && memcmp(s + from, d->text, d->n) == 0; i++)
        from += d->n;
    for (uint32_t i = 0; i < d->stop && to >= from + d->n && memcmp(s + to - d->n, d->text, d->n) == 0; i++)
        to -= d->n;
    loami_buf_put(out, s + from, to - from);
    return 0;
}

static int middle_metaspace(const loami_decoder *d, void *matches, loami_buf *out, const char *s, size_t n,
                            bool first, loam_err *err)
{
    bool drop = (first || d->fused) && !d->never;
    (void)matches, (void)err;
    replace_all(out, s, n, d->text, d->n, " ", drop ? 0 : 1);
    return 0;
}

static void clean_up(loami_buf *b, size_t from)
{
    static const char *const rules[][2] = {
        { " .", "." },   { " ?", "?" },     { " !", "!" },     { " ,", "," },
        { " ' ", "'" },  { " n't", "n't" }, { " 'm", "'m" },   { " do not", " don't" },
        { " 's", "'s" }, { " 've", "'ve" }, { " 're", "'re" },
    };
    loami_buf copy = { 0 };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        loami_buf_clear(&copy);
        loami_buf_put(&copy, b->data + from, b->len - from);
        b->len = from;
        replace_all(b, copy.data, copy.len, rules[i][0], strlen(rules[i][0]), rules[i][1],
                    strlen(rules[i][1]));
    }
    b->failed |= copy.failed;
    loami_buf_free(&copy);
}

static int middle_wordpiece(const loami_decoder *d, void *matches, loami_buf *out, const char *s, size_t n,
                            bool first, loam_err *err)
{
    size_t from = out->len;
    (void)matches, (void)err;
    if (!first && n >= d->n && memcmp(s, d->text, d->n) == 0) {
        s += d->n;
        n -= d->n;
    } else if (!first) {
        loami_buf_putc(out, ' ');
    }
    loami_buf_put(out, s, n);
    if (d->cleanup && out->len > from) clean_up(out, from);
    return 0;
}

static int middle_bpe(const loami_decoder *d, void *matches, loami_buf *out, const char *s, size_t n,
                      bool first, loam_err *err)
{
    (void)matches, (void)first, (void)err;
    replace_all(out, s, n, d->text, d->n, " ", 1);
    return 0;
}

/* ---- fields ---- */

static int copy_text(loami_decoder *d, loami_str s, loam_err *err)
{
    d->text = malloc(s.n + 1);
    if (!d->text) return loami_fail_nomem(err);
    if (s.n) memcpy(d->text, s.s, s.n);
    d->text[s.n] = 0;
    d->n = s.n;
    return 0;
}

static int parse_replace(loami_decoder *d, const json_t *json, loam_err *err)
{
    loami_str s;
    size_t n;
    int rc = loami_string_field(json, "Replace", "content", &s, err);
    if (rc == 0) rc = copy_text(d, s, err);
    if (rc == 0) rc = loami_pattern_json(&d->pattern, json_object_get(json, "pattern"), "Replace", err);
    if (rc == 0) d->chunks = !loami_pattern_source(d->pattern, &n) && n > 0;
    return rc;
}

static int parse_strip(loami_decoder *d, const json_t *json, loam_err *err)
{
    uint32_t cp;
    char u[4];
    int rc = loami_char_field(json, "Strip", "content", &cp, err);
    if (rc == 0) rc = copy_text(d, (loami_str){ u, loami_utf8_put(u, cp) }, err);
    if (rc >= 0) rc = loami_json_u32(json, "Strip", "start", 0, 1 << 20, &d->start, err);
    return rc < 0 ? rc : loami_json_u32(json, "Strip", "stop", 0, 1 << 20, &d->stop, err);
}

static int parse_metaspace(loami_decoder *d, const json_t *json, loam_err *err)
{
    uint32_t cp;
    char u[4];
    const char *scheme = "always";
    bool prefix = true;
    int rc = loami_char_field(json, "Metaspace", "replacement", &cp, err);
    if (rc == 0) rc = copy_text(d, (loami_str){ u, loami_utf8_put(u, cp) }, err);
    if (rc >= 0) rc = loami_json_bool(json, "Metaspace", "add_prefix_space", &prefix, err);
    if (rc >= 0) rc = loami_json_string(json, "Metaspace", "prepend_scheme", &scheme, err);
    d->never = !prefix || strcmp(scheme, "never") == 0;
    return rc;
}

static int parse_wordpiece(loami_decoder *d, const json_t *json, loam_err *err)
{
    loami_str s;
    d->cleanup = true;
    int rc = loami_string_field(json, "WordPiece", "prefix", &s, err);
    if (rc == 0) rc = copy_text(d, s, err);
    return rc < 0 ? rc : loami_json_bool(json, "WordPiece", "cleanup", &d->cleanup, err);
}

static int parse_bpe(loami_decoder *d, const json_t *json, loam_err *err)
{
    loami_str s;
    int rc = loami_string_field(json, "BPEDecoder", "suffix", &s, err);
    return rc < 0 ? rc : copy_text(d, s, err);
}

/* ---- the list ---- */

static const loami_decoder_type types[] = {
    { "ByteLevel", LOAMI_DECODE_BYTES, NULL, middle_bytes, true, false },
    { "ByteFallback", LOAMI_DECODE_FALLBACK, NULL, middle_fallback, false, false },
    { "Fuse", LOAMI_DECODE_EACH, NULL, middle_same, true, true },
    { "Strip", LOAMI_DECODE_STRIP, parse_strip, middle_strip, false, true },
    { "Replace", LOAMI_DECODE_REPLACE, parse_replace, middle_replace, false, false },
    { "Metaspace", LOAMI_DECODE_EACH, parse_metaspace, middle_metaspace, false, true },
    { "WordPiece", LOAMI_DECODE_EACH, parse_wordpiece, middle_wordpiece, false, false },
    { "BPEDecoder", LOAMI_DECODE_BPE, parse_bpe, middle_bpe, false, false },
};

static int add(void *arg, const json_t *json, const char *name, loam_err *err)
{
    loami_decoders *l = arg;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(name, types[i].name) != 0) continue;
        loami_decoder *p = realloc(l->list, (l->n + 1) * sizeof *p);
        if (!p) return loami_fail_nomem(err);
        l->list = p;
        loami_decoder *d = &p[l->n];
        bool fused = l->n && (p[l->n - 1].fused || p[l->n - 1].type->fuses);
        *d = (loami_decoder){ .type = &types[i], .fused = fused, .chunks = types[i].chunks };
        l->n++;
        return types[i].parse ? types[i].parse(d, json, err) : 0;
    }
    return loami_fail(err, LOAM_E_UNSUPPORTED, "decoder \"%.60s\" is not supported", name);
}

int loami_decoders_parse(loami_decoders *out, const json_t *json, const char *what, loam_err *err)
{
    int rc = loami_components(json, "decoders", "decoder", add, out, err);
    return rc < 0 ? loami_fail_in(err, "%s", what) : 0;
}

void loami_decoders_free(loami_decoders *l)
{
    for (size_t i = 0; i < l->n; i++) {
        loami_pattern_free(l->list[i].pattern);
        free(l->list[i].text);
    }
    free(l->list);
    *l = (loami_decoders){ 0 };
}

int loami_decode_middle(const loami_decoders *l, loami_buf *out, const char *token, size_t n, loam_err *err)
{
    loami_buf bufs[2] = { { 0 }, { 0 } };
    void *matches = loami_matches_state();
    int rc = matches ? 0 : loami_fail_nomem(err), at = 0;
    for (size_t i = 0; rc == 0 && i < l->n; i++) {
        loami_buf_clear(&bufs[at]);
        rc = l->list[i].type->middle(&l->list[i], matches, &bufs[at], token, n, false, err);
        token = bufs[at].data ? bufs[at].data : "";
        n = bufs[at].len;
        at = !at;
    }
    if (rc == 0) loami_buf_put(out, token, n);
    if (rc == 0 && (out->failed || bufs[0].failed || bufs[1].failed)) rc = loami_fail_nomem(err);
    loami_buf_free(&bufs[0]);
    loami_buf_free(&bufs[1]);
    loami_matches_state_free(matches);
    return rc;
}
