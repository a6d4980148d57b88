/* What the fuzz targets of grammars share: a small vocabulary, and a walk through whatever compiled. */
#ifndef TESTS_FUZZ_GRAMMAR_WALK_H
#define TESTS_FUZZ_GRAMMAR_WALK_H

#include "grammar/grammar.h"

#include <stdlib.h>
#include <string.h>

enum { WALK_END = 256, WALK_SPECIAL = 257, WALK_TOKENS = 280 };

static inline int walk_token(const void *arg, int32_t id, char **bytes, size_t *n, bool *special)
{
    static const char *const words[] = { "", "<|call|>", "\",", "\":", "{\"", "\"}", "true", "null", "[[", "]]", "  ", "ab", "abc", "é", "\xc3", "\xa9x", "\\u", "00", "1.5", "e+", "\n\t", "-1", "0]", "}}" };
    (void)arg;
    *special = id == WALK_END || id == WALK_SPECIAL;
    *n = id < 256 ? 1 : strlen(words[id - 256]);
    if (!(*bytes = malloc(*n + 1))) return -1;
    if (id < 256) (*bytes)[0] = (char)id;
    else memcpy(*bytes, words[id - 256], *n);
    (*bytes)[*n] = 0;
    return 0;
}

static inline const loami_vocab *walk_vocab(void)
{
    static loami_vocab *v;
    static const int32_t end = WALK_END;
    loami_vocab_source source = { .n_tokens = WALK_TOKENS, .token = walk_token, .ends = &end, .n_ends = 1 };
    if (!v && loami_vocab_open(&v, &source, NULL) < 0) abort();
    return v;
}

/* Follows the masks; which token, the input says. Each mask is what asking for its tokens gives, none is empty before the
 * end, and taking back a token brings back its mask. */
static inline void walk_grammar(loam_grammar_kind kind, const uint8_t *data, size_t size)
{
    loam_grammar *g;
    loami_matcher *m;
    loam_err err = { .code = 77 };
    uint64_t mask[(WALK_TOKENS + 63) / 64], again[(WALK_TOKENS + 63) / 64];
    char *source = malloc(size + 1);
    if (!source) return;
    memcpy(source, data, size);
    source[size] = 0;
    int rc = loami_grammar_open(&g, walk_vocab(), kind, source, size, &err);
    free(source);
    if (rc < 0 && (err.code != rc || !err.msg[0])) abort();
    if (rc < 0) return;
    if (loami_matcher_open(&m, g, NULL) < 0) abort();
    for (size_t step = 0; step < 40 && !loami_matcher_must_end(m); step++) {
        uint32_t some = loami_matcher_mask(m, mask), n = 0;
        int32_t chosen = -1;
        if (some == 0) abort();
        for (int32_t id = 0; id < WALK_TOKENS; id++) {
            bool allowed = mask[id / 64] >> (id % 64) & 1;
            if (allowed != loami_matcher_allows(m, id)) abort();
            if (allowed && id != WALK_END && (chosen < 0 || (size && data[(step * 7 + n++) % size] % 5 == 0))) chosen = id;
        }
        if (chosen < 0 && loami_matcher_may_end(m)) break;
        if (chosen < 0 || !loami_matcher_accept(m, chosen) || !loami_matcher_rollback(m, 1)) abort();
        loami_matcher_mask(m, again);
        if (memcmp(mask, again, sizeof mask) != 0 || !loami_matcher_accept(m, chosen)) abort();
    }
    loami_matcher_close(m);
    loami_grammar_unref(g);
}

#endif
