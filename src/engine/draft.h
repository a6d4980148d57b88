/* engine/draft.h: guesses at what comes next, to be checked by the model several at a time.
 *
 * Prompt lookup (Saxena 2023, "Prompt lookup decoding"): where the last tokens stood before, what followed them then may
 * follow now. Good for edits of code and quotes of a prompt, worth little in free talk, so a sequence whose guesses fail
 * makes fewer of them, and after a while only now and then.
 *
 * Exact: each guess is run as a row of its own, the sampler chooses from the rows in order as it would without guesses,
 * and the first row whose choice is not the guess is the last that counts. For a guess that is one token for certain this
 * is also what speculative sampling (Leviathan et al. 2023) comes to: kept with its own probability. */
#ifndef LOAMI_DRAFT_H
#define LOAMI_DRAFT_H

#include <stdint.h>

enum { LOAMI_DRAFT_MAX = 32 };  /* guesses a step: more rows than that cost time of their own on every machine */

typedef struct loami_draft {
    uint32_t length;           /* guesses worth making next time */
    uint32_t rest;             /* steps to go without any */
    uint32_t failed;           /* times in a row that not one was right */
} loami_draft;

/* How many guesses the next step should try, at most `most`. */
uint32_t loami_draft_length(loami_draft *d, uint32_t most);

/* Of n_guessed, so many were right. */
void loami_draft_learn(loami_draft *d, uint32_t n_guessed, uint32_t n_right);

/* Writes up to `most` guesses after tokens[n], which has room for them. Returns how many. Looks at the last 32,768
 * tokens, in about as many comparisons. */
uint32_t loami_draft_guess(int32_t *tokens, uint32_t n, uint32_t most);

#endif
