#include "engine/draft.h"

#include <string.h>

enum {
    NGRAM_MOST = 4, NGRAM_LEAST = 2, /* tokens that must have stood before: 1 is right too seldom */
    LOOK_BACK = 32768,
    FIRST = 4,                 /* guesses at the beginning */
    REST_MOST = 64,
};

uint32_t loami_draft_length(loami_draft *d, uint32_t most)
{
    if (d->rest) {
        d->rest--;
        return 0;
    }
    if (!d->length) d->length = FIRST;
    if (most > LOAMI_DRAFT_MAX) most = LOAMI_DRAFT_MAX;
    return d->length < most ? d->length : most;
}

void loami_draft_learn(loami_draft *d, uint32_t n_guessed, uint32_t n_right)
{
    if (n_guessed == 0) return;
    if (n_right) {
        d->failed = 0;
        d->length = n_right < n_guessed ? n_right + 1 : d->length < LOAMI_DRAFT_MAX / 2 ? 2 * d->length : LOAMI_DRAFT_MAX;
        return;
    }
    d->length = d->length > 2 ? d->length / 2 : 1;
    if (++d->failed > 2) d->rest = d->failed < 9 ? 1u << (d->failed - 3) : REST_MOST;
}

/* Where the last n-gram stood before, the latest such place: the index after it, or 0. */
static uint32_t look_up(const int32_t *tokens, uint32_t n, uint32_t gram)
{
    const int32_t *tail = tokens + n - gram;
    uint32_t least = n > LOOK_BACK ? n - LOOK_BACK : 0;
    for (uint32_t at = n - 1; at >= least + gram; at--)
        if (tokens[at - 1] == tail[gram - 1] && memcmp(tokens + at - gram, tail, gram * sizeof *tail) == 0) return at;
    return 0;
}

uint32_t loami_draft_guess(int32_t *tokens, uint32_t n, uint32_t most)
{
    for (uint32_t gram = NGRAM_MOST; gram >= NGRAM_LEAST; gram--) {
        uint32_t from = n > gram ? look_up(tokens, n, gram) : 0;
        if (!from) continue;
        for (uint32_t i = 0; i < most; i++) tokens[n + i] = tokens[from + i]; /* may run into what it has written: a loop */
        return most;
    }
    return 0;
}
