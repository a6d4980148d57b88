/* text/tok/words.h: the well-known expressions that cut text into words, by hand.
 *
 * Nearly all byte-level tokenizers use one of a few regular expressions. These scanners do the same an order
 * of magnitude faster; the expression itself is their slow twin in the tests. */
#ifndef LOAMI_TOK_WORDS_H
#define LOAMI_TOK_WORDS_H

#include <stddef.h>
#include <stdint.h>

typedef enum loami_words {
    LOAMI_WORDS_NONE,
    LOAMI_WORDS_GPT2,       /* GPT-2: ByteLevel's own */
    LOAMI_WORDS_3_DIGITS,   /* cl100k, Llama 3: numbers in groups of three */
    LOAMI_WORDS_1_DIGIT,    /* Qwen 2: each digit alone */
} loami_words;

extern const char loami_words_gpt2[]; /* GPT-2's expression */

/* Which of them an expression is; NONE for any other. */
loami_words loami_words_of(const char *regex, size_t n);

/* The end of the word that begins at s[from]; from < n. Words follow each other without gaps. */
size_t loami_words_end(loami_words kind, const char *s, size_t n, size_t from);

#endif
