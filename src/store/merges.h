/* store/merges.h: the merges of a SentencePiece BPE, which has only scores. */
#ifndef LOAMI_MERGES_H
#define LOAMI_MERGES_H

#include "base/json.h"
#include "base/map.h"
#include "file/gguf.h"

/* Appends "left right" to out for every way to cut a token of type `normal` into two others, best
 * score first; the order of equal scores is that of transformers' convert_slow_tokenizer.py
 * (generate_merges): longer left, then longer right part first, then by token id and the parts' ids.
 * Lengths are in characters. */
int loami_merges_from_scores(json_t *out, const char *const *token, const uint8_t *type,
                             const loami_gguf_value *scores, uint32_t n, uint8_t normal, const loami_map *ids,
                             loam_err *err);

#endif
