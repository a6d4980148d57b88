/* text/tok/reader.h: tokenizer.json, its two large parts read directly.
 *
 * The vocabulary and the merges are nearly all of such a file (11 MB for 150,000 tokens), and building JSON
 * values of them takes longer (0.23 s) than everything else we do at open. They are read here in one pass;
 * the rest goes to jansson with null in their place. */
#ifndef LOAMI_TOK_READER_H
#define LOAMI_TOK_READER_H

#include "base/arena.h"
#include "base/json.h"

typedef struct loami_str {
    const char *s;
    size_t n;
} loami_str;

typedef struct loami_vocab_entry {
    loami_str token;
    uint32_t id;            /* of an object's member; of an array's element its index */
    double score;           /* of an array's element */
} loami_vocab_entry;

typedef struct loami_merge {
    loami_str left, right;
} loami_merge;

/* Strings point into the text or into `strings`. */
typedef struct loami_tok_source {
    json_t *root;              /* an object */
    loami_vocab_entry *vocab;  /* [n_vocab] in the file's order */
    loami_merge *merges;       /* [n_merges] by rank */
    size_t n_vocab, n_merges, cap_vocab, cap_merges;
    bool has_vocab, has_merges;
    bool scored;               /* vocab is an array of [token, score] */
    loami_arena strings;       /* those that had escapes */
} loami_tok_source;

/* text must outlive the source. Time and memory are linear in n. */
int loami_tok_read(loami_tok_source *out, const char *text, size_t n, const char *what, loam_err *err);
void loami_tok_source_free(loami_tok_source *s);

#endif
