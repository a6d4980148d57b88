/* grammar/vocab.h: the bytes of a tokenizer's tokens, as a tree that masks are computed by walking. Made once; never changes. */
#ifndef LOAMI_VOCAB_H
#define LOAMI_VOCAB_H

#include "base/err.h"

enum { LOAMI_TOKEN_BYTES = 255 /* longer tokens (there are hardly any) are never allowed */ };

/* A node of the tree, in the order of a walk that visits a node before its children. */
typedef struct loami_vocab_node {
    uint32_t skip;               /* nodes of this one's subtree, itself included */
    int32_t token;               /* the first token that ends here, or -1 */
    uint8_t byte, depth;         /* depth: bytes from the root, 1 for its children */
} loami_vocab_node;

typedef struct loami_vocab loami_vocab;
struct loami_vocab {
    uint32_t n_tokens;           /* ids are below */
    uint32_t n_words;            /* 64-bit words of a mask */
    loami_vocab_node *nodes;     /* [n_nodes] */
    uint32_t n_nodes;
    int32_t *same;               /* [n_tokens] the next token with the same bytes, or -1 */
    uint32_t *at;                /* [n_tokens + 1] where a token's bytes are; none: special, or no token */
    char *bytes;
    int32_t *ends;               /* [n_ends] end-of-text tokens */
    uint32_t n_ends;
    int32_t *special;            /* [n_special] tokens that are no text, and how they are spelt */
    char **spelling;
    uint32_t n_special;
    bool absent[256];            /* bytes that no token has */
};

/* What a vocabulary is made of. */
typedef struct loami_vocab_source {
    uint32_t n_tokens;
    /* The bytes of token id, malloc'd, NULL if it has none (*n = 0); *special: it is no text. -1: out of memory. */
    int (*token)(const void *arg, int32_t id, char **bytes, size_t *n, bool *special);
    const void *arg;
    const int32_t *ends;         /* [n_ends] */
    uint32_t n_ends;
} loami_vocab_source;

int loami_vocab_open(loami_vocab **out, const loami_vocab_source *source, loam_err *err);
void loami_vocab_close(loami_vocab *v);

/* The special token spelt so, or -1. */
int32_t loami_vocab_special(const loami_vocab *v, const char *text, size_t n);
bool loami_vocab_is_end(const loami_vocab *v, int32_t id);

#endif
