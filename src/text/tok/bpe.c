#include "text/tok/tok.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum {
    SHORT_WORD = 32,        /* symbols: up to here a scan for the best pair is faster than a heap */
    MAX_AFFIX = 256,        /* bytes; every character of a word may be spelled with it */
    CACHE_SLOTS = 1 << 13,
    CACHE_KEY = 26,         /* bytes */
    CACHE_IDS = 8,
};

typedef struct pair {
    uint64_t key;           /* left id << 32 | right id */
    uint32_t rank, id;      /* id of the merged token */
} pair;

static const char mark[] = "\xe2\x96\x81"; /* U+2581, SentencePiece's space */
enum { MARK = 3 };

#define NO_PAIR UINT64_MAX  /* no ids make this key */

typedef struct bpe {
    loami_model base;
    pair *pairs;            /* [mask + 1], key NO_PAIR = free */
    size_t mask;
    char *prefix, *suffix;  /* continuing_subword_prefix, end_of_word_suffix; NULL: none */
    size_t prefix_len, suffix_len;
    char *unk;              /* the name, for the message when it is missing */
    bool has_unk, fuse_unk, byte_fallback, ignore_merges;
    bool apart;             /* no merge joins a word and the "▁" of the next: see encode_apart */
    int32_t unk_id;
    int32_t ascii[128];     /* ids of one-character tokens */
    int32_t bytes[256];     /* ids of the byte-level alphabet's characters */
    int32_t fallback[256];  /* ids of <0xHH> */
} bpe;

typedef struct symbol {
    int32_t id;             /* LOAMI_NO_ID: merged into its left neighbour */
    int32_t prev, next;     /* or -1 */
} symbol;

typedef struct candidate {
    uint32_t rank, pos, id; /* of the pair that starts at pos */
} candidate;

typedef struct cached {
    uint32_t hash;
    uint8_t key_len, n_ids; /* key_len 0: empty */
    char key[CACHE_KEY];
    int32_t ids[CACHE_IDS];
} cached;

typedef struct work {
    loami_ids symbols;
    symbol *list;
    candidate *heap;
    size_t cap;             /* of list; heap has three times as many */
    size_t heap_len;
    loami_buf spell;
    cached *cache;          /* [CACHE_SLOTS] */
} work;

/* ---- the table of merges ---- */

static size_t slot_of(uint64_t key, size_t mask)
{
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & mask;
}

static const pair *find_pair(const bpe *m, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t i = slot_of(key, m->mask);; i = (i + 1) & m->mask) {
        if (m->pairs[i].key == key) return &m->pairs[i];
        if (m->pairs[i].key == NO_PAIR) return NULL;
    }
}

static void put_pair(bpe *m, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = slot_of(key, m->mask);
    while (m->pairs[i].key != NO_PAIR && m->pairs[i].key != key) i = (i + 1) & m->mask;
    m->pairs[i] = (pair){ key, rank, (uint32_t)id };
}

static int merge_missing(const loami_str *token, size_t rank, const char *what, loam_err *err)
{
    return loami_fail(err, LOAM_E_FORMAT,
                      "%s: merge %zu needs token \"%.*s\", which is not in the vocabulary", what, rank,
                      (int)(token->n < 100 ? token->n : 100), token->s);
}

static int build_pairs(bpe *m, const loami_tok_source *src, const char *what, loam_err *err)
{
    const loami_vocab *v = m->base.vocab;
    loami_buf joined = { 0 };
    size_t cap = 16;
    int rc = 0;
    while (cap / 2 < src->n_merges) cap *= 2;
    m->pairs = malloc(cap * sizeof *m->pairs);
    if (!m->pairs) return loami_fail_nomem(err);
    m->mask = cap - 1;
    for (size_t i = 0; i < cap; i++) m->pairs[i].key = NO_PAIR;

    for (size_t i = 0; rc == 0 && i < src->n_merges; i++) {
        loami_str l = src->merges[i].left, r = src->merges[i].right;
        int32_t left = loami_vocab_id(v, l.s, l.n), right = loami_vocab_id(v, r.s, r.n);
        size_t cut = m->prefix_len < r.n ? m->prefix_len : r.n;
        loami_buf_clear(&joined);
        loami_buf_put(&joined, l.s, l.n);
        loami_buf_put(&joined, r.s + cut, r.n - cut);
        loami_str j = { joined.data, joined.len };
        int32_t id = joined.failed ? LOAMI_NO_ID : loami_vocab_id(v, j.s, j.n);
        if (joined.failed) rc = loami_fail_nomem(err);
        else if (left == LOAMI_NO_ID) rc = merge_missing(&l, i, what, err);
        else if (right == LOAMI_NO_ID) rc = merge_missing(&r, i, what, err);
        else if (id == LOAMI_NO_ID) rc = merge_missing(&j, i, what, err);
        else put_pair(m, left, right, (uint32_t)i, id);
    }
    loami_buf_free(&joined);
    return rc;
}

/* ---- open ---- */

static char *copy_field(const json_t *json, const char *key, size_t *n)
{
    const json_t *v = json_object_get(json, key);
    *n = json_is_string(v) ? json_string_length(v) : 0;
    char *s = malloc(*n + 1);
    if (s) memcpy(s, *n ? json_string_value(v) : "", *n + 1);
    return s;
}

static int read_options(bpe *m, const json_t *json, const char *what, loam_err *err)
{
    static const char *const strings[] = { "unk_token", "continuing_subword_prefix", "end_of_word_suffix" };
    size_t n;
    const json_t *dropout = json_object_get(json, "dropout");
    if (json_is_number(dropout) && json_number_value(dropout) != 0)
        return loami_fail(err, LOAM_E_UNSUPPORTED,
                          "%s: BPE with dropout is not supported: encoding would be random", what);
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        const json_t *v = json_object_get(json, strings[i]);
        if (v && !json_is_null(v) && !json_is_string(v))
            return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" must be a string", what, strings[i]);
    }
    if (loami_json_bool(json, what, "fuse_unk", &m->fuse_unk, err) < 0 ||
        loami_json_bool(json, what, "byte_fallback", &m->byte_fallback, err) < 0 ||
        loami_json_bool(json, what, "ignore_merges", &m->ignore_merges, err) < 0)
        return LOAM_E_FORMAT;
    m->prefix = copy_field(json, "continuing_subword_prefix", &m->prefix_len);
    m->suffix = copy_field(json, "end_of_word_suffix", &m->suffix_len);
    m->has_unk = json_is_string(json_object_get(json, "unk_token"));
    m->unk = copy_field(json, "unk_token", &n);
    if (!m->prefix || !m->suffix || !m->unk) return loami_fail_nomem(err);
    if (m->prefix_len > MAX_AFFIX || m->suffix_len > MAX_AFFIX)
        return loami_fail(err, LOAM_E_FORMAT, "%s: a word prefix or suffix longer than %d bytes", what,
                          MAX_AFFIX);
    m->unk_id = loami_vocab_id(m->base.vocab, m->unk, n);
    return 0;
}

static bool ends(loami_str s, const char *with)
{
    return s.n >= MARK && memcmp(s.s + s.n - MARK, with, MARK) == 0;
}

static bool begins(loami_str s, const char *with)
{
    return s.n >= MARK && memcmp(s.s, with, MARK) == 0;
}

/* Whether a text may be cut before each mark that no other precedes. */
static bool words_are_apart(const bpe *m, const loami_tok_source *src)
{
    if (m->prefix_len || m->suffix_len || m->ignore_merges ||
        loami_vocab_id(m->base.vocab, mark, MARK) == LOAMI_NO_ID)
        return false;
    for (size_t i = 0; i < src->n_merges; i++)
        if (begins(src->merges[i].right, mark) && !ends(src->merges[i].left, mark)) return false;
    return true;
}

static void find_single_tokens(bpe *m)
{
    const loami_vocab *v = m->base.vocab;
    bool all = m->prefix_len == 0 && m->suffix_len == 0;
    for (int c = 0; c < 128; c++) m->ascii[c] = loami_vocab_id(v, &(char){ (char)c }, 1);
    for (int b = 0; b < 256; b++) {
        char u[4];
        size_t n = loami_utf8_put(u, loami_byte_chars[b]);
        m->bytes[b] = loami_vocab_id(v, u, n);
        if (m->bytes[b] == LOAMI_NO_ID) all = false;
    }
    loami_byte_tokens(v, m->fallback);
    m->base.byte_level = all;
}

static void bpe_close(loami_model *model)
{
    bpe *m = (bpe *)model;
    free(m->pairs);
    free(m->prefix);
    free(m->suffix);
    free(m->unk);
    free(m);
}

static int bpe_open(loami_model **out, const json_t *json, const loami_tok_source *src, const loami_vocab *v,
                    const char *what, loam_err *err)
{
    if (!src->has_vocab || src->scored || !src->has_merges)
        return loami_fail(err, LOAM_E_FORMAT, "%s: a BPE model needs \"vocab\" (an object) and \"merges\"",
                          what);
    bpe *m = calloc(1, sizeof *m);
    if (!m) return loami_fail_nomem(err);
    m->base = (loami_model){ .type = &loami_bpe, .vocab = v };
    int rc = read_options(m, json, what, err);
    if (rc == 0) rc = build_pairs(m, src, what, err);
    if (rc < 0) {
        bpe_close(&m->base);
        return rc;
    }
    find_single_tokens(m);
    m->apart = words_are_apart(m, src);
    *out = &m->base;
    return 0;
}

/* ---- the symbols a word starts from ---- */

static int bad_unk(const bpe *m, loam_err *err)
{
    return loami_fail(
        err, LOAM_E_FORMAT,
        "the text has a character without a token, and unk_token \"%.100s\" is not in the vocabulary",
        m->unk);
}

/* Tokens of s's bytes, if all have one. */
static bool fall_back(const bpe *m, loami_ids *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (m->fallback[(unsigned char)s[i]] == LOAMI_NO_ID) return false;
    for (size_t i = 0; i < n; i++) out->data[out->len++] = m->fallback[(unsigned char)s[i]];
    return true;
}

/* The token of one character of a word with its prefix and suffix, spelled out in w->spell if any. */
static int32_t char_token(const bpe *m, work *w, loami_str *c, bool first, bool last)
{
    bool prefix = m->prefix_len && !first, suffix = m->suffix_len && last;
    if (!prefix && !suffix)
        return c->n == 1 ? m->ascii[(unsigned char)*c->s] : loami_vocab_id(m->base.vocab, c->s, c->n);
    loami_buf_clear(&w->spell);
    if (prefix) loami_buf_put(&w->spell, m->prefix, m->prefix_len);
    loami_buf_put(&w->spell, c->s, c->n);
    if (suffix) loami_buf_put(&w->spell, m->suffix, m->suffix_len);
    *c = (loami_str){ w->spell.data, w->spell.len };
    return loami_vocab_id(m->base.vocab, c->s, c->n);
}

/* A character without a token waits in *pending as the unknown token, to be fused with the next; byte tokens
 * do not wait for it, so they may come before it: the reference's order. */
static int split_word(const bpe *m, work *w, const char *s, size_t n, loam_err *err)
{
    bool pending = false;
    w->symbols.len = 0;
    if (!loami_ids_reserve(&w->symbols, n + 1)) return loami_fail_nomem(err);
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = loami_utf8_next(s + i, n - i, &cp);
        loami_str c = { s + i, len ? len : 1 };
        bool first = i == 0;
        i += c.n;
        int32_t id = char_token(m, w, &c, first, i == n);
        if (!loami_ids_reserve(&w->symbols, c.n + 2) || w->spell.failed) return loami_fail_nomem(err);
        if (id == LOAMI_NO_ID && m->byte_fallback && fall_back(m, &w->symbols, c.s, c.n)) continue;
        if (id == LOAMI_NO_ID && !m->has_unk) continue;
        if (id == LOAMI_NO_ID && m->unk_id == LOAMI_NO_ID) return bad_unk(m, err);
        if (pending && (id != LOAMI_NO_ID || !m->fuse_unk)) w->symbols.data[w->symbols.len++] = m->unk_id;
        pending = id == LOAMI_NO_ID;
        if (!pending) w->symbols.data[w->symbols.len++] = id;
    }
    return !pending || loami_ids_put(&w->symbols, m->unk_id) ? 0 : loami_fail_nomem(err);
}

static int split_bytes(const bpe *m, work *w, const char *s, size_t n, loam_err *err)
{
    w->symbols.len = 0;
    if (!loami_ids_reserve(&w->symbols, n)) return loami_fail_nomem(err);
    for (size_t i = 0; i < n; i++) w->symbols.data[i] = m->bytes[(unsigned char)s[i]];
    w->symbols.len = n;
    return 0;
}

/* ---- merging: the pair of lowest rank first, the leftmost of equals ---- */

static void merge_short(const bpe *m, loami_ids *symbols)
{
    int32_t *s = symbols->data;
    size_t n = symbols->len;
    uint64_t best[SHORT_WORD]; /* of pair i: rank << 32 | id */
    const pair *p;
    for (size_t i = 0; i + 1 < n; i++) {
        p = find_pair(m, s[i], s[i + 1]);
        best[i] = p ? (uint64_t)p->rank << 32 | p->id : UINT64_MAX;
    }
    while (n > 1) {
        size_t at = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (best[i] < best[at]) at = i;
        if (best[at] == UINT64_MAX) break;
        s[at] = (int32_t)(uint32_t)best[at];
        n--;
        memmove(s + at + 1, s + at + 2, (n - at - 1) * sizeof *s);
        memmove(best + at, best + at + 1, (n - at - 1) * sizeof *best);
        if (at + 1 < n) {
            p = find_pair(m, s[at], s[at + 1]);
            best[at] = p ? (uint64_t)p->rank << 32 | p->id : UINT64_MAX;
        }
        if (at > 0) {
            p = find_pair(m, s[at - 1], s[at]);
            best[at - 1] = p ? (uint64_t)p->rank << 32 | p->id : UINT64_MAX;
        }
    }
    symbols->len = n;
}

static bool before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static void heap_put(work *w, const bpe *m, int32_t pos)
{
    int32_t next = w->list[pos].next;
    const pair *p = next < 0 ? NULL : find_pair(m, w->list[pos].id, w->list[next].id);
    if (!p) return;
    candidate c = { p->rank, (uint32_t)pos, p->id };
    size_t i = w->heap_len++;
    for (; i > 0 && before(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static candidate heap_take(work *w)
{
    candidate top = w->heap[0], c = w->heap[--w->heap_len];
    size_t i = 0;
    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= w->heap_len) break;
        if (k + 1 < w->heap_len && before(&w->heap[k + 1], &w->heap[k])) k++;
        if (!before(&w->heap[k], &c)) break;
        w->heap[i] = w->heap[k];
        i = k;
    }
    w->heap[i] = c;
    return top;
}

static bool work_reserve(work *w, size_t n)
{
    if (n <= w->cap) return true;
    if (n > INT32_MAX / 2) return false;
    symbol *list = realloc(w->list, n * sizeof *list);
    if (list) w->list = list;
    candidate *heap = realloc(w->heap, 3 * n * sizeof *heap); /* n - 1 at the start, two more a merge */
    if (heap) w->heap = heap;
    if (!list || !heap) return false;
    w->cap = n;
    return true;
}

static bool merge_long(const bpe *m, work *w)
{
    int32_t n = (int32_t)w->symbols.len;
    if (!work_reserve(w, w->symbols.len)) return false;
    for (int32_t i = 0; i < n; i++)
        w->list[i] = (symbol){ w->symbols.data[i], i - 1, i + 1 < n ? i + 1 : -1 };
    w->heap_len = 0;
    for (int32_t i = 0; i + 1 < n; i++) heap_put(w, m, i);
    while (w->heap_len) {
        candidate c = heap_take(w);
        symbol *left = &w->list[c.pos];
        if (left->id == LOAMI_NO_ID || left->next < 0) continue;
        symbol *right = &w->list[left->next];
        const pair *p = find_pair(m, left->id, right->id);
        if (!p || p->id != c.id) continue; /* a neighbour has changed since */
        left->id = (int32_t)c.id;
        left->next = right->next;
        right->id = LOAMI_NO_ID;
        if (left->next >= 0) w->list[left->next].prev = (int32_t)c.pos;
        if (left->prev >= 0) heap_put(w, m, left->prev);
        heap_put(w, m, (int32_t)c.pos);
    }
    w->symbols.len = 0;
    for (int32_t i = 0; i >= 0; i = w->list[i].next) w->symbols.data[w->symbols.len++] = w->list[i].id;
    return true;
}

/* ---- words ---- */

static uint64_t hash_word(const char *s, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15u;
    for (; n >= 8; s += 8, n -= 8) {
        uint64_t x;
        memcpy(&x, s, 8);
        h = (h ^ x) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    uint64_t x = 0;
    memcpy(&x, s, n);
    h = (h ^ x) * 0xff51afd7ed558ccdu;
    return h ^ h >> 29;
}

/* The token that is the whole word, for ignore_merges. */
static int32_t whole_token(const bpe *m, work *w, const char *s, size_t n)
{
    if (!m->base.raw) return loami_vocab_id(m->base.vocab, s, n);
    loami_buf_clear(&w->spell);
    if (!loami_buf_reserve(&w->spell, 2 * n)) return LOAMI_NO_ID;
    char *p = w->spell.data;
    for (size_t i = 0; i < n; i++) p += loami_utf8_put(p, loami_byte_chars[(unsigned char)s[i]]);
    return loami_vocab_id(m->base.vocab, w->spell.data, (size_t)(p - w->spell.data));
}

static int encode_word(const bpe *m, work *w, const char *s, size_t n, loam_err *err)
{
    if (m->ignore_merges) {
        int32_t id = whole_token(m, w, s, n);
        w->symbols.len = 0;
        if (id != LOAMI_NO_ID) return loami_ids_put(&w->symbols, id) ? 0 : loami_fail_nomem(err);
    }
    int rc = m->base.raw ? split_bytes(m, w, s, n, err) : split_word(m, w, s, n, err);
    if (rc < 0) return rc;
    if (w->symbols.len <= SHORT_WORD) merge_short(m, &w->symbols);
    else if (!merge_long(m, w)) return loami_fail_nomem(err);
    return 0;
}

static work *work_of(loami_scratch *s)
{
    if (s->model) return s->model;
    work *w = calloc(1, sizeof *w);
    if (w) w->cache = calloc(CACHE_SLOTS, sizeof *w->cache);
    if (w && !w->cache) {
        free(w);
        w = NULL;
    }
    return s->model = w;
}

static void work_free(void *p)
{
    work *w = p;
    if (!w) return;
    free(w->symbols.data);
    free(w->list);
    free(w->heap);
    free(w->cache);
    loami_buf_free(&w->spell);
    free(w);
}

static int put_symbols(const work *w, loami_ids *out, loam_err *err)
{
    if (w->symbols.len == 0) return 0; /* every character unknown, and no token for that */
    if (!loami_ids_reserve(out, w->symbols.len)) return loami_fail_nomem(err);
    memcpy(out->data + out->len, w->symbols.data, w->symbols.len * sizeof *out->data);
    out->len += w->symbols.len;
    return 0;
}

static int encode_cached(const bpe *m, work *w, const char *s, size_t n, loami_ids *out, loam_err *err)
{
    int rc;
    if (n > CACHE_KEY) return (rc = encode_word(m, w, s, n, err)) < 0 ? rc : put_symbols(w, out, err);
    uint64_t h = hash_word(s, n);
    cached *c = &w->cache[h & (CACHE_SLOTS - 1)];
    if (c->hash != (uint32_t)(h >> 32) || c->key_len != n || memcmp(c->key, s, n) != 0) {
        rc = encode_word(m, w, s, n, err);
        if (rc < 0) return rc;
        if (w->symbols.len > CACHE_IDS) return put_symbols(w, out, err);
        *c = (cached){ .hash = (uint32_t)(h >> 32), .key_len = (uint8_t)n, .n_ids = (uint8_t)w->symbols.len };
        memcpy(c->key, s, n);
        memcpy(c->ids, w->symbols.data, w->symbols.len * sizeof *c->ids);
    }
    if (!loami_ids_reserve(out, CACHE_IDS)) return loami_fail_nomem(err);
    memcpy(out->data + out->len, c->ids, sizeof c->ids);
    out->len += c->n_ids;
    return 0;
}

/* Where the first word of s ends: before a mark that does not follow another. */
static size_t first_word(const char *s, size_t n)
{
    bool inside = false;
    for (size_t i = 0; i < n;) {
        bool is_mark = s[i] == mark[0] && n - i >= MARK && memcmp(s + i, mark, MARK) == 0;
        if (is_mark && inside) return i;
        inside = !is_mark;
        i += is_mark ? MARK : 1;
    }
    return n;
}

/* SentencePiece models are given whole texts. Where their merges never join two words, words are as good: the
 * merges of one do not depend on those of another. */
static int encode_apart(const bpe *m, work *w, const char *s, size_t n, loami_ids *out, loam_err *err)
{
    int rc = 0;
    for (size_t i = 0, len; rc == 0 && i < n; i += len) {
        len = first_word(s + i, n - i);
        rc = encode_cached(m, w, s + i, len, out, err);
    }
    return rc;
}

static int bpe_encode(const loami_model *model, loami_scratch *scratch, const char *s, size_t n,
                      loami_ids *out, loam_err *err)
{
    const bpe *m = (const bpe *)model;
    work *w = work_of(scratch);
    if (!w) return loami_fail_nomem(err);
    return m->apart && !m->base.raw ? encode_apart(m, w, s, n, out, err)
                                    : encode_cached(m, w, s, n, out, err);
}

const loami_model_type loami_bpe = { "BPE", bpe_open, bpe_close, bpe_encode, work_free };
