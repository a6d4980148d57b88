#include "base/utf8.h"
#include "text/tok/tok.h"
#include "text/tok/trie.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double unk_penalty = 10; /* below the worst score: sentencepiece's number */

typedef struct unigram {
    loami_model base;
    loami_trie trie;
    double *scores;         /* [n_scores] by id */
    size_t n_scores;
    double unk_score;
    int32_t unk_id;         /* or LOAMI_NO_ID */
    bool byte_fallback;
    int32_t fallback[256];
} unigram;

/* The best way found to the end of a prefix of the text. */
typedef struct best {
    double score;
    int32_t id;
    uint32_t start;         /* of its last token; NOWHERE: no way yet */
} best;

#define NOWHERE UINT32_MAX

typedef struct work {
    best *ends;             /* [cap] */
    loami_span *path;       /* [cap] of the chosen way, last token first */
    size_t cap;
} work;

static void unigram_close(loami_model *model)
{
    unigram *m = (unigram *)model;
    loami_trie_free(&m->trie);
    free(m->scores);
    free(m);
}

static int build(unigram *m, const loami_tok_source *src, const char *what, loam_err *err)
{
    double least = INFINITY;
    m->scores = malloc((src->n_vocab + 1) * sizeof *m->scores);
    if (!m->scores) return loami_fail_nomem(err);
    m->n_scores = src->n_vocab;
    for (size_t i = 0; i < src->n_vocab; i++) {
        const loami_vocab_entry *e = &src->vocab[i];
        m->scores[i] = e->score;
        if (e->score < least) least = e->score;
        if (e->token.n == 0) continue;
        int rc = loami_trie_put(&m->trie, e->token.s, e->token.n, (int32_t)i, err);
        if (rc < 0) return loami_fail_in(err, "%s", what);
    }
    m->unk_score = least - unk_penalty;
    return 0;
}

static int unigram_open(loami_model **out, const json_t *json, const loami_tok_source *src,
                        const loami_vocab *v, const char *what, loam_err *err)
{
    uint32_t unk = 0;
    if (!src->has_vocab || !src->scored)
        return loami_fail(err, LOAM_E_FORMAT,
                          "%s: a Unigram model needs \"vocab\", an array of [token, score]", what);
    unigram *m = calloc(1, sizeof *m);
    if (!m) return loami_fail_nomem(err);
    m->base = (loami_model){ .type = &loami_unigram, .vocab = v };
    uint32_t last = src->n_vocab ? (uint32_t)src->n_vocab - 1 : 0;
    int has = loami_json_u32(json, what, "unk_id", 0, last, &unk, err), rc = has;
    if (rc >= 0) rc = loami_json_bool(json, what, "byte_fallback", &m->byte_fallback, err);
    if (rc >= 0) rc = build(m, src, what, err);
    if (rc < 0) {
        unigram_close(&m->base);
        return rc;
    }
    m->unk_id = has ? (int32_t)unk : LOAMI_NO_ID;
    loami_byte_tokens(v, m->fallback);
    *out = &m->base;
    return 0;
}

static work *work_of(loami_scratch *s, size_t n)
{
    if (!s->model) s->model = calloc(1, sizeof(work));
    work *w = s->model;
    if (!w || n <= w->cap) return w;
    best *ends = realloc(w->ends, n * sizeof *ends);
    if (ends) w->ends = ends;
    loami_span *path = realloc(w->path, n * sizeof *path);
    if (path) w->path = path;
    if (!ends || !path) return NULL;
    w->cap = n;
    return w;
}

static void work_free(void *p)
{
    work *w = p;
    if (!w) return;
    free(w->ends);
    free(w->path);
    free(w);
}

static void offer(best *e, double score, int32_t id, size_t start)
{
    if (e->start != NOWHERE && !(score > e->score)) return;
    *e = (best){ score, id, (uint32_t)start };
}

/* Viterbi: every token that goes on from every character, the first best kept. */
static int find_way(const unigram *m, best *ends, const char *s, size_t n, loam_err *err)
{
    for (size_t i = 0; i <= n; i++) ends[i] = (best){ 0, 0, NOWHERE };
    for (size_t at = 0; at < n;) {
        uint32_t cp, node = LOAMI_TRIE_ROOT;
        size_t len = loami_utf8_next(s + at, n - at, &cp);
        bool single = false;
        double before = ends[at].score;
        if (!len) len = 1;
        for (size_t i = at; i < n && m->trie.n_nodes; i++) {
            node = loami_trie_step(&m->trie, node, (unsigned char)s[i]);
            if (!node) break;
            int32_t id = m->trie.values[node];
            if (id < 0) continue;
            offer(&ends[i + 1], m->scores[id] + before, id, at);
            if (i + 1 - at == len) single = true;
        }
        if (!single) {
            if (m->unk_id == LOAMI_NO_ID)
                return loami_fail(err, LOAM_E_FORMAT,
                                  "the text has a character without a token, and the model has no unk_id");
            offer(&ends[at + len], m->unk_score + before, m->unk_id, at);
        }
        at += len;
    }
    return 0;
}

/* The chosen tokens, last first; neighbouring unknown ones as one. */
static size_t collect(const unigram *m, const best *ends, size_t n, loami_span *path)
{
    size_t k = 0;
    bool fusing = false;
    for (size_t end = n; end > 0; end = ends[end].start) {
        bool unk = ends[end].id == m->unk_id;
        if (unk && fusing) path[k - 1].start = ends[end].start;
        else path[k++] = (loami_span){ ends[end].start, (uint32_t)end };
        fusing = unk;
    }
    return k;
}

static bool put_piece(const unigram *m, loami_ids *out, const char *s, size_t n)
{
    int32_t id = loami_vocab_id(m->base.vocab, s, n);
    bool bytes = m->byte_fallback;
    if (id != LOAMI_NO_ID) return loami_ids_put(out, id);
    for (size_t i = 0; i < n && bytes; i++) bytes = m->fallback[(unsigned char)s[i]] != LOAMI_NO_ID;
    if (!bytes) return loami_ids_put(out, m->unk_id);
    for (size_t i = 0; i < n; i++)
        if (!loami_ids_put(out, m->fallback[(unsigned char)s[i]])) return false;
    return true;
}

static int unigram_encode(const loami_model *model, loami_scratch *scratch, const char *s, size_t n,
                          loami_ids *out, loam_err *err)
{
    const unigram *m = (const unigram *)model;
    work *w = work_of(scratch, n + 1);
    if (!w) return loami_fail_nomem(err);
    int rc = find_way(m, w->ends, s, n, err);
    if (rc < 0) return rc;
    for (size_t k = collect(m, w->ends, n, w->path); k-- > 0;)
        if (!put_piece(m, out, s + w->path[k].start, w->path[k].end - w->path[k].start))
            return loami_fail_nomem(err);
    return 0;
}

const loami_model_type loami_unigram = { "Unigram", unigram_open, unigram_close, unigram_encode, work_free };
