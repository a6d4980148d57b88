#include "base/utf8.h"
#include "text/tok/tok.h"
#include "text/tok/trie.h"

#include <stdlib.h>
#include <string.h>

/* WordPiece and WordLevel: the vocabularies of BERT's time. */
typedef struct wordpiece {
    loami_model base;
    loami_trie trie;
    uint32_t inner; /* where a token inside of a word begins: behind the prefix; NO_NODE: there is none */
    uint32_t chars_max;     /* a longer word is unknown */
    int32_t unk_id;         /* or LOAMI_NO_ID */
    char *unk;
} wordpiece;

#define NO_NODE UINT32_MAX

static void wordpiece_close(loami_model *model)
{
    wordpiece *m = (wordpiece *)model;
    loami_trie_free(&m->trie);
    free(m->unk);
    free(m);
}

static int open_any(wordpiece **out, const loami_model_type *type, const json_t *json,
                    const loami_tok_source *src, const loami_vocab *v, const char *what, loam_err *err)
{
    loami_str unk;
    if (!src->has_vocab || src->scored)
        return loami_fail(err, LOAM_E_FORMAT, "%s: a %s model needs \"vocab\", an object", what, type->name);
    int rc = loami_string_field(json, what, "unk_token", &unk, err);
    if (rc < 0) return rc;
    wordpiece *m = calloc(1, sizeof *m);
    if (!m) return loami_fail_nomem(err);
    m->base = (loami_model){ .type = type, .vocab = v };
    m->unk_id = loami_vocab_id(v, unk.s, unk.n);
    m->unk = strdup(unk.s);
    if (!m->unk) {
        free(m);
        return loami_fail_nomem(err);
    }
    *out = m;
    return 0;
}

static int wordlevel_open(loami_model **out, const json_t *json, const loami_tok_source *src,
                          const loami_vocab *v, const char *what, loam_err *err)
{
    wordpiece *m = NULL;
    int rc = open_any(&m, &loami_wordlevel, json, src, v, what, err);
    if (rc == 0) *out = &m->base;
    return rc;
}

static int wordpiece_open(loami_model **out, const json_t *json, const loami_tok_source *src,
                          const loami_vocab *v, const char *what, loam_err *err)
{
    wordpiece *m = NULL;
    loami_str prefix;
    int rc = open_any(&m, &loami_wordpiece, json, src, v, what, err);
    if (rc < 0) return rc;
    m->chars_max = 100;
    rc = loami_json_u32(json, what, "max_input_chars_per_word", 0, UINT32_MAX, &m->chars_max, err);
    if (rc >= 0) rc = loami_string_field(json, what, "continuing_subword_prefix", &prefix, err);
    for (size_t i = 0; rc >= 0 && i < src->n_vocab; i++) {
        const loami_str t = src->vocab[i].token;
        if (t.n) rc = loami_trie_put(&m->trie, t.s, t.n, (int32_t)src->vocab[i].id, err);
    }
    if (rc < 0) {
        wordpiece_close(&m->base);
        return rc;
    }
    m->inner = m->trie.n_nodes ? LOAMI_TRIE_ROOT : NO_NODE;
    for (size_t i = 0; i < prefix.n && m->inner != NO_NODE; i++) {
        m->inner = loami_trie_step(&m->trie, m->inner, (unsigned char)prefix.s[i]);
        if (!m->inner) m->inner = NO_NODE;
    }
    *out = &m->base;
    return 0;
}

static int put_unk(const wordpiece *m, loami_ids *out, loam_err *err)
{
    if (m->unk_id == LOAMI_NO_ID)
        return loami_fail(
            err, LOAM_E_FORMAT,
            "the text has a word without a token, and unk_token \"%.100s\" is not in the vocabulary", m->unk);
    return loami_ids_put(out, m->unk_id) ? 0 : loami_fail_nomem(err);
}

static bool too_long(const char *s, size_t n, uint32_t chars_max)
{
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)s[i] & 0xc0) != 0x80;
    return chars > chars_max;
}

/* The longest token from node on: its length, 0 for none. */
static size_t longest(const wordpiece *m, uint32_t node, const char *s, size_t n, int32_t *id)
{
    size_t len = 0;
    if (node == NO_NODE || !m->trie.n_nodes) return 0;
    for (size_t i = 0; i < n; i++) {
        node = loami_trie_step(&m->trie, node, (unsigned char)s[i]);
        if (!node) break;
        if (m->trie.values[node] < 0) continue;
        len = i + 1;
        *id = m->trie.values[node];
    }
    return len;
}

static int wordpiece_encode(const loami_model *model, loami_scratch *s, const char *word, size_t n,
                            loami_ids *out, loam_err *err)
{
    const wordpiece *m = (const wordpiece *)model;
    size_t before = out->len;
    (void)s;
    if (too_long(word, n, m->chars_max)) return put_unk(m, out, err);
    for (size_t at = 0; at < n;) {
        int32_t id = LOAMI_NO_ID;
        size_t len = longest(m, at ? m->inner : LOAMI_TRIE_ROOT, word + at, n - at, &id);
        if (!len) {
            out->len = before;
            return put_unk(m, out, err);
        }
        if (!loami_ids_put(out, id)) return loami_fail_nomem(err);
        at += len;
    }
    return 0;
}

static int wordlevel_encode(const loami_model *model, loami_scratch *s, const char *word, size_t n,
                            loami_ids *out, loam_err *err)
{
    const wordpiece *m = (const wordpiece *)model;
    (void)s;
    int32_t id = loami_vocab_id(m->base.vocab, word, n);
    if (id == LOAMI_NO_ID) return put_unk(m, out, err);
    return loami_ids_put(out, id) ? 0 : loami_fail_nomem(err);
}

const loami_model_type loami_wordpiece = { "WordPiece", wordpiece_open, wordpiece_close, wordpiece_encode,
                                           NULL };
const loami_model_type loami_wordlevel = { "WordLevel", wordlevel_open, wordpiece_close, wordlevel_encode,
                                           NULL };
