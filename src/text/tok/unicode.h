/* text/tok/unicode.h: what a tokenizer asks about characters. Properties are those of Unicode 16, which
 * `tokenizers` has: utf8proc's, and a small table for what its version may lack. */
#ifndef LOAMI_TOK_UNICODE_H
#define LOAMI_TOK_UNICODE_H

#include "base/buf.h"

/* General category as two letters, "Lu", "Cn" for an unassigned code point. Static. */
const char *loami_uni_category(uint32_t cp);

/* One letter of it is often enough: 'L', 'M', 'N', 'P', 'S', 'Z', 'C'. */
char loami_uni_major(uint32_t cp);

bool loami_uni_is_space(uint32_t cp); /* White_Space */
bool loami_uni_is_word(uint32_t cp);  /* \w of Unicode's regular expressions (UTS 18, annex C) */

/* Lower case; *second: the second character of the result, or 0. */
uint32_t loami_uni_lower(uint32_t cp, uint32_t *second);

/* A run of code points that Unicode added after version 14, with their category: what an older regex library
 * does not know. Ascending. */
typedef struct loami_uni_run {
    uint32_t lo, hi;
    char category[3];
} loami_uni_run;
extern const loami_uni_run loami_uni_new[];
extern const size_t loami_uni_new_count;

typedef enum loami_uni_form { LOAMI_NFC, LOAMI_NFD, LOAMI_NFKC, LOAMI_NFKD } loami_uni_form;

/* The same for what `tokenizers` has from older tables: characters whose property came later than those, and
 * does not count there. */
enum {
    LOAMI_UNI_PUNCTUATION = 1,  /* Punctuation, BertPreTokenizer */
    LOAMI_UNI_MARK = 2,         /* StripAccents */
    LOAMI_UNI_NONSPACING = 4,   /* BertNormalizer */
    LOAMI_UNI_FORMAT = 8,       /* BertNormalizer */
    LOAMI_UNI_DECOMPOSED = 16,  /* NFD, NFKC, NFKD */
};
typedef struct loami_uni_late {
    uint32_t lo, hi;
    uint8_t kinds;
} loami_uni_late;
extern const loami_uni_late loami_uni_lates[];
extern const size_t loami_uni_lates_count;
bool loami_uni_is_late(uint32_t cp, unsigned kind);

bool loami_uni_is_punctuation(uint32_t cp); /* as Punctuation and BertPreTokenizer see it */

/* Appends n bytes of valid UTF-8 in a normalization form. Time is linear in n. */
int loami_uni_normalize(loami_buf *out, const char *s, size_t n, loami_uni_form form, loam_err *err);

/* Appends n bytes, each maximal ill-formed subsequence as U+FFFD (Unicode 3.9, "best practice"). */
void loami_uni_lossy(loami_buf *out, const char *s, size_t n);

#endif
