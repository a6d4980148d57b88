/* text/tok/precompiled.h: sentencepiece's compiled character map, as tokenizer.json carries it: base64 of a
 * double-array trie (darts-clone) and the strings that its values point to. */
#ifndef LOAMI_TOK_PRECOMPILED_H
#define LOAMI_TOK_PRECOMPILED_H

#include "base/buf.h"

typedef struct loami_precompiled loami_precompiled;

int loami_precompiled_open(loami_precompiled **out, const char *base64, size_t n, loam_err *err);
void loami_precompiled_close(loami_precompiled *m);

/* Appends n bytes of valid UTF-8, mapped grapheme by grapheme, or, where the map has none, character by
 * character. */
void loami_precompiled_run(const loami_precompiled *m, loami_buf *out, const char *s, size_t n);

#endif
