/* text/tokenizer.h: text to token ids and back, as Hugging Face `tokenizers` does it from the same tokenizer.json.
 *
 * The pipeline is theirs: added tokens are cut out of the text, then normalizer, pre_tokenizer, model,
 * post_processor; decoding runs the decoder. A component of a type that we do not know is refused at open by its
 * name. A tokenizer never changes once open: any thread may use it. */
#ifndef LOAMI_TOKENIZER_H
#define LOAMI_TOKENIZER_H

#include "base/buf.h"

typedef struct loami_tokenizer loami_tokenizer;

/* A growable list of ids. Zero-initialised is empty; free(ids.data). */
typedef struct loami_ids {
    int32_t *data;
    size_t len, cap;
} loami_ids;

/* Appends; false when memory ran out. */
bool loami_ids_put(loami_ids *ids, int32_t id);

/* From the path of a tokenizer.json. */
int loami_tokenizer_open(loami_tokenizer **out, const char *path, loam_err *err);
/* From its text, n bytes; what names it in messages. */
int loami_tokenizer_parse(loami_tokenizer **out, const char *text, size_t n, const char *what, loam_err *err);
void loami_tokenizer_close(loami_tokenizer *t);

/* Appends the ids of n bytes of text. Invalid UTF-8 becomes U+FFFD. special: run the post-processor. */
int loami_tokenizer_encode(const loami_tokenizer *t, loami_ids *out, const char *text, size_t n, bool special, loam_err *err);

/* Appends the text of n ids, as tokenizers' decode(ids, skip_special_tokens) gives it. Ids outside the vocabulary
 * are left out, as there. */
int loami_tokenizer_decode(const loami_tokenizer *t, loami_buf *out, const int32_t *ids, size_t n, bool skip_special, loam_err *err);

/* One more than the largest id. */
uint32_t loami_tokenizer_size(const loami_tokenizer *t);

/* The token's own spelling in the vocabulary (for byte-level BPE in its 256-character alphabet), or NULL. */
const char *loami_tokenizer_token(const loami_tokenizer *t, int32_t id, size_t *len);

/* Its id, or -1. */
int32_t loami_tokenizer_id(const loami_tokenizer *t, const char *token, size_t len);

bool loami_tokenizer_is_special(const loami_tokenizer *t, int32_t id);

/* The bytes that this token adds in the middle of a text, appended to out: may be a part of a character. Used for
 * logprobs' "bytes" and for grammars. */
int loami_tokenizer_bytes(const loami_tokenizer *t, loami_buf *out, int32_t id, loam_err *err);

/* Streaming decode: the concatenation of what put and flush append equals decode of all ids at once (where a
 * decoder looks at the whole text, e.g. strips its end, up to that), and nothing appended ever ends inside a
 * UTF-8 character. Cost per token does not grow with the length of the text. */
typedef struct loami_detok loami_detok;
int loami_detok_open(loami_detok **out, const loami_tokenizer *t, bool skip_special, loam_err *err);
int loami_detok_put(loami_detok *d, loami_buf *out, int32_t id, loam_err *err);
int loami_detok_flush(loami_detok *d, loami_buf *out, loam_err *err); /* an unfinished character becomes U+FFFD, as in decode */
void loami_detok_close(loami_detok *d);

#endif
