/* text/tok/trie.h: byte strings and all their prefixes, to find which of them a text goes on with. */
#ifndef LOAMI_TOK_TRIE_H
#define LOAMI_TOK_TRIE_H

#include "base/err.h"

enum {
    LOAMI_TRIE_ROOT = 0,
    LOAMI_TRIE_KEY_MAX = 4096, /* bytes: a walk from each position of a text must not take for ever */
};

/* Zero-initialised is empty. */
typedef struct loami_trie {
    uint64_t *slots;        /* [mask + 1] parent << 40 | byte << 32 | child; 0 = free */
    size_t mask;
    int32_t *values;        /* [n_nodes], -1 where no key ends */
    uint32_t n_nodes, cap_nodes;
    bool first[256];        /* bytes that keys begin with */
} loami_trie;

/* Adds or replaces; value >= 0. A key of 0 or too many bytes is LOAM_E_FORMAT. */
int loami_trie_put(loami_trie *t, const char *key, size_t n, int32_t value, loam_err *err);

/* The node after one more byte, or 0 when no key goes on so. */
uint32_t loami_trie_step(const loami_trie *t, uint32_t node, unsigned char byte);

/* The longest key that text begins with: its length, 0 for none; *value its value. */
size_t loami_trie_longest(const loami_trie *t, const char *text, size_t n, int32_t *value);
void loami_trie_free(loami_trie *t);

#endif
