#include "text/tok/reader.h"
#include "base/buf.h"
#include "base/hex.h"
#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    const char *p, *end, *start;
    const char *what;
    loami_tok_source *src;
    loam_err *err;
    loami_buf rest;         /* the text for jansson */
    const char *copied;     /* up to here it is in rest, or left out */
} reader;

static int fail(const reader *r, const char *words)
{
    return loami_fail(r->err, LOAM_E_FORMAT, "%s: byte %zu: %s", r->what, (size_t)(r->p - r->start), words);
}

static void space(reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r')) r->p++;
}

/* Skips white space; true and past it if c comes next. */
static bool take(reader *r, char c)
{
    space(r);
    if (r->p == r->end || *r->p != c) return false;
    r->p++;
    return true;
}

/* ---- strings ---- */

/* Four hex digits at p, or -1. */
static int hex4(const char *p, const char *end)
{
    int v = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int d = loami_hex_digit(p[i]);
        if (d < 0) return -1;
        v = v << 4 | d;
    }
    return v;
}

/* After "\u": writes the character, moves p behind it (and behind the second half of a pair). 0: bad. */
static size_t unicode_escape(const char **p, const char *end, char out[4])
{
    int u = hex4(*p, end);
    if (u < 0 || (u >= 0xdc00 && u < 0xe000)) return 0;
    *p += 4;
    if (u < 0xd800 || u >= 0xdc00) return loami_utf8_put(out, (uint32_t)u);
    int low = end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u' ? hex4(*p + 2, end) : -1;
    if (low < 0xdc00 || low > 0xdfff) return 0;
    *p += 6;
    return loami_utf8_put(out, 0x10000 + (((uint32_t)u - 0xd800) << 10) + ((uint32_t)low - 0xdc00));
}

/* s[0..n) without its escapes, in the arena. */
static int unescape(reader *r, const char *s, size_t n, loami_str *out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char *q = loami_arena_alloc(&r->src->strings, n);
    size_t k = 0;
    if (!q) return loami_fail_nomem(r->err);
    for (const char *p = s, *end = s + n; p < end;) {
        if (*p != '\\') {
            q[k++] = *p++;
            continue;
        }
        char c = p[1];
        const char *at = strchr(names, c);
        p += 2; /* the closing quote was found, so an escape has its letter */
        if (c == 'u') {
            size_t len = unicode_escape(&p, end, q + k);
            if (!len) return fail(r, "invalid \\u escape");
            k += len;
        } else if (at && c) {
            q[k++] = values[at - names];
        } else {
            return fail(r, "invalid escape");
        }
    }
    *out = (loami_str){ q, k };
    return 0;
}

static int string(reader *r, loami_str *out)
{
    if (!take(r, '"')) return fail(r, "a string was expected");
    const char *s = r->p;
    bool escapes = false;
    unsigned char high = 0;
    for (;; r->p++) {
        if (r->p == r->end) return fail(r, "a string without end");
        unsigned char c = (unsigned char)*r->p;
        if (c == '"') break;
        if (c < 0x20) return fail(r, "a control character in a string");
        high |= c;
        if (c != '\\') continue;
        escapes = true;
        if (++r->p == r->end) return fail(r, "a string without end");
    }
    size_t n = (size_t)(r->p - s);
    r->p++;
    if (high >= 0x80 && !loami_utf8_valid(s, n)) return fail(r, "invalid UTF-8 in a string");
    *out = (loami_str){ s, n };
    return escapes ? unescape(r, s, n, out) : 0;
}

/* ---- numbers ---- */

static int id_number(reader *r, uint32_t *id)
{
    uint64_t v = 0;
    space(r);
    const char *s = r->p;
    for (; r->p < r->end && *r->p >= '0' && *r->p <= '9' && v <= INT32_MAX; r->p++)
        v = v * 10 + (uint64_t)(*r->p - '0');
    bool tail = r->p < r->end && (*r->p == '.' || (*r->p | 32) == 'e' || (*r->p >= '0' && *r->p <= '9'));
    if (r->p == s || tail || v > INT32_MAX)
        return fail(r, "a token's id must be a whole number from 0 to 2147483647");
    *id = (uint32_t)v;
    return 0;
}

/* A score. Digits and a power of ten, multiplied once: what the reference's reader does, to the last bit. */
static int score_number(reader *r, double *out)
{
    uint64_t m = 0;
    int exp = 0, digits = 0;
    bool neg = take(r, '-'), point = false;
    for (; r->p < r->end; r->p++) {
        char c = *r->p;
        if (c == '.' && !point) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9') break;
        digits++;
        if (m < UINT64_MAX / 10 - 1) {
            m = m * 10 + (uint64_t)(c - '0');
            exp -= point;
        } else {
            exp += !point;
        }
    }
    if (!digits) return fail(r, "a score must be a number");
    if (r->p < r->end && (*r->p | 32) == 'e') {
        bool eneg = ++r->p < r->end && *r->p == '-';
        int e = 0;
        if (r->p < r->end && (*r->p == '-' || *r->p == '+')) r->p++;
        for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++)
            e = e > 9999 ? e : e * 10 + (*r->p - '0');
        exp += eneg ? -e : e;
    }
    double v = (double)m;
    if (exp < -308) {
        v /= 1e308;
        exp += 308;
    }
    v = exp < 0 ? v / pow(10, exp < -308 ? 308 : -exp) : v * pow(10, exp > 308 ? 308 : exp);
    if (!isfinite(v)) return fail(r, "a score is too large");
    *out = neg ? -v : v;
    return 0;
}

/* ---- the parts ---- */

/* Room for one more element of an array of `size` bytes each. */
static bool room(void **data, size_t len, size_t *cap, size_t size)
{
    if (len < *cap) return true;
    size_t want = *cap ? *cap * 2 : 1024;
    void *p = want > SIZE_MAX / 2 / size ? NULL : realloc(*data, want * size);
    if (!p) return false;
    *data = p;
    *cap = want;
    return true;
}

static int vocab_entry(reader *r, loami_vocab_entry *e)
{
    loami_tok_source *src = r->src;
    int rc;
    if (!src->scored) {
        rc = string(r, &e->token);
        if (rc == 0 && !take(r, ':')) rc = fail(r, "':' was expected");
        return rc < 0 ? rc : id_number(r, &e->id);
    }
    if (!take(r, '[')) return fail(r, "a pair [token, score] was expected");
    e->id = (uint32_t)src->n_vocab;
    rc = string(r, &e->token);
    if (rc == 0 && !take(r, ',')) rc = fail(r, "',' was expected");
    if (rc == 0) rc = score_number(r, &e->score);
    if (rc == 0 && !take(r, ']')) rc = fail(r, "']' was expected");
    return rc;
}

static int read_vocab(reader *r)
{
    loami_tok_source *src = r->src;
    if (src->has_vocab) return fail(r, "a second \"vocab\"");
    src->has_vocab = true;
    src->scored = take(r, '[');
    char close = src->scored ? ']' : '}';
    if (!src->scored && !take(r, '{')) return fail(r, "\"vocab\" must be an object or an array");
    if (take(r, close)) return 0;
    do {
        loami_vocab_entry e = { { NULL, 0 }, 0, 0 };
        int rc = vocab_entry(r, &e);
        if (rc < 0) return rc;
        if (src->n_vocab > INT32_MAX || !room((void **)&src->vocab, src->n_vocab, &src->cap_vocab, sizeof e))
            return loami_fail_nomem(r->err);
        src->vocab[src->n_vocab++] = e;
    } while (take(r, ','));
    return take(r, close) ? 0 : fail(r, "',' or the end of \"vocab\" was expected");
}

/* "left right", with exactly one space. 1: a comment line of an old merges file. */
static int merge_line(reader *r, loami_merge *m)
{
    loami_str line;
    int rc = string(r, &line);
    if (rc < 0) return rc;
    if (line.n >= 8 && memcmp(line.s, "#version", 8) == 0) return 1;
    const char *at = memchr(line.s, ' ', line.n);
    size_t left = at ? (size_t)(at - line.s) : 0;
    if (!at || memchr(at + 1, ' ', line.n - left - 1))
        return fail(r, "a merge must be two tokens with a space between");
    m->left = (loami_str){ line.s, left };
    m->right = (loami_str){ at + 1, line.n - left - 1 };
    return 0;
}

static int merge_pair(reader *r, loami_merge *m)
{
    if (!take(r, '[')) return fail(r, "a merge must be a string or a pair of strings");
    int rc = string(r, &m->left);
    if (rc == 0 && !take(r, ',')) rc = fail(r, "a merge must have two tokens");
    if (rc == 0) rc = string(r, &m->right);
    if (rc == 0 && !take(r, ']')) rc = fail(r, "a merge must have two tokens");
    return rc;
}

static int read_merges(reader *r)
{
    loami_tok_source *src = r->src;
    if (src->has_merges) return fail(r, "a second \"merges\"");
    src->has_merges = true;
    if (!take(r, '[')) return fail(r, "\"merges\" must be an array");
    if (take(r, ']')) return 0;
    do {
        loami_merge m;
        space(r);
        int rc = r->p < r->end && *r->p == '"' ? merge_line(r, &m) : merge_pair(r, &m);
        if (rc < 0) return rc;
        if (src->n_merges > INT32_MAX ||
            !room((void **)&src->merges, src->n_merges, &src->cap_merges, sizeof m))
            return loami_fail_nomem(r->err);
        if (rc == 0) src->merges[src->n_merges++] = m;
    } while (take(r, ','));
    return take(r, ']') ? 0 : fail(r, "',' or the end of \"merges\" was expected");
}

/* Steps over a value without judging it: jansson reads it later. */
static int skip(reader *r)
{
    size_t depth = 0;
    loami_str s;
    do {
        space(r);
        if (r->p == r->end) return fail(r, "the file ends early");
        char c = *r->p;
        if (c == '"') {
            int rc = string(r, &s);
            if (rc < 0) return rc;
            continue;
        }
        if (depth == 0 && (c == ',' || c == ':' || c == ']' || c == '}'))
            return fail(r, "a value was expected");
        if (c == '[' || c == '{') depth++;
        if (c == ']' || c == '}') depth--;
        r->p++;
        if (depth || c == ']' || c == '}') continue;
        while (r->p < r->end && !memchr(" \n\t\r,:]}[{\"", *r->p, 11)) r->p++;
    } while (depth);
    return 0;
}

/* Walks an object: for each member calls on, with p at the value; on must step over it. */
static int members(reader *r, int (*on)(reader *, loami_str key))
{
    if (!take(r, '{')) return fail(r, "an object was expected");
    if (take(r, '}')) return 0;
    do {
        loami_str key;
        int rc = string(r, &key);
        if (rc == 0 && !take(r, ':')) rc = fail(r, "':' was expected");
        if (rc == 0) space(r);
        if (rc == 0) rc = on(r, key);
        if (rc < 0) return rc;
    } while (take(r, ','));
    return take(r, '}') ? 0 : fail(r, "',' or '}' was expected");
}

static bool is(loami_str s, const char *word)
{
    return s.n == strlen(word) && memcmp(s.s, word, s.n) == 0;
}

static int in_model(reader *r, loami_str key)
{
    bool vocab = is(key, "vocab"), merges = is(key, "merges");
    if ((!vocab && !merges) || (r->p < r->end && *r->p == 'n')) return skip(r);
    loami_buf_put(&r->rest, r->copied, (size_t)(r->p - r->copied));
    loami_buf_puts(&r->rest, "null");
    int rc = vocab ? read_vocab(r) : read_merges(r);
    r->copied = r->p;
    return rc;
}

static int in_root(reader *r, loami_str key)
{
    return is(key, "model") && r->p < r->end && *r->p == '{' ? members(r, in_model) : skip(r);
}

int loami_tok_read(loami_tok_source *out, const char *text, size_t n, const char *what, loam_err *err)
{
    loami_tok_source src = { 0 };
    reader r = {
        .p = text, .end = text + n, .start = text, .copied = text, .what = what, .src = &src, .err = err
    };
    int rc = members(&r, in_root);
    if (rc == 0) {
        loami_buf_put(&r.rest, r.copied, (size_t)(r.end - r.copied));
        rc = r.rest.failed ? loami_fail_nomem(err)
                           : loami_json_parse(&src.root, r.rest.data, r.rest.len, what, err);
    }
    loami_buf_free(&r.rest);
    if (rc < 0) loami_tok_source_free(&src);
    else *out = src;
    return rc;
}

void loami_tok_source_free(loami_tok_source *s)
{
    json_decref(s->root);
    free(s->vocab);
    free(s->merges);
    loami_arena_free(&s->strings);
    *s = (loami_tok_source){ 0 };
}
