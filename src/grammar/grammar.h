/* grammar/grammar.h: which tokens may come next, so that a text keeps to a grammar.
 *
 * A grammar is compiled from a regular expression, a JSON Schema, a list of choices or EBNF, over a vocabulary. A matcher
 * is one text's place in it. The answer is a mask: a bit for each token of the vocabulary. Most of a mask depends on
 * nothing but the rule that the text is in; that part is computed once and kept, and only tokens that end the rule in
 * their middle are looked at again with all of the stack. Method: Dong et al. 2024 (XGrammar), Geng et al. 2023. */
#ifndef LOAMI_GRAMMAR_H
#define LOAMI_GRAMMAR_H

#include "grammar/vocab.h"

#include "loam.h"

enum {
    LOAMI_GRAMMAR_SOURCE = 1 << 20,      /* bytes of a source */
    LOAMI_GRAMMAR_MASKS_BYTES = 16 << 20,/* kept a grammar: hundreds of masks, oldest go first */
    LOAMI_MATCHER_TRAIL = 64,            /* tokens that can be taken back */
    LOAMI_CACHE_GRAMMARS = 64,           /* kept compiled though nobody uses them */
    LOAMI_CACHE_BYTES = 128 << 20,
};

/* loam_grammar of loam.h. Reference counted. Any thread compiles, takes and lets go of references; the vocabulary must
 * outlive it. */
int loami_grammar_open(loam_grammar **out, const loami_vocab *v, loam_grammar_kind kind, const char *source, size_t n, loam_err *err);
loam_grammar *loami_grammar_ref(loam_grammar *g);
void loami_grammar_unref(loam_grammar *g);
size_t loami_grammar_bytes(const loam_grammar *g);

/* Compiled grammars by their source, so that the same schema is compiled once. Any thread. */
typedef struct loami_grammar_cache loami_grammar_cache;
int loami_grammar_cache_open(loami_grammar_cache **out, loam_err *err);
void loami_grammar_cache_close(loami_grammar_cache *c);
/* A reference of the caller's. */
int loami_grammar_cache_get(loami_grammar_cache *c, loam_grammar **out, const loami_vocab *v, loam_grammar_kind kind, const char *source,
                            size_t n, loam_err *err);

/* A text's place. Holds a reference to g. Any thread, one at a time; matchers of one grammar may be used at the same time. */
typedef struct loami_matcher loami_matcher;
int loami_matcher_open(loami_matcher **out, loam_grammar *g, loam_err *err);
void loami_matcher_close(loami_matcher *m);

/* Whether this token may come next. An end-of-text token: whether the text may end. */
bool loami_matcher_allows(loami_matcher *m, int32_t id);

/* bits[n_words]: bit id % 64 of word id / 64 is set if the token may come next. Returns how many words are not 0: 0 means
 * that the vocabulary has no token that fits. */
uint32_t loami_matcher_mask(loami_matcher *m, uint64_t *bits);

/* The token comes. False, and nothing changed: it is not allowed. End-of-text tokens leave all as it is. */
bool loami_matcher_accept(loami_matcher *m, int32_t id);

/* Takes back the last n tokens accepted, n <= LOAMI_MATCHER_TRAIL. False: there are not so many. */
bool loami_matcher_rollback(loami_matcher *m, uint32_t n);

bool loami_matcher_may_end(loami_matcher *m);   /* the text may end here */
bool loami_matcher_must_end(loami_matcher *m);  /* ... and nothing else may follow */
uint32_t loami_matcher_words(const loami_matcher *m);

#endif
