/* grammar/matcher.h: what grammar.c, mask.c and matcher.c know of each other. */
#ifndef LOAMI_MATCHER_H
#define LOAMI_MATCHER_H

#include "grammar/grammar.h"
#include "grammar/memo.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

/* The part of a mask that depends on the frame alone. */
typedef struct loami_local_mask {
    uint32_t state, lo, hi;
    uint64_t *allowed;               /* [n_words] whatever is below */
    uint32_t *open;                  /* [n_open] nodes of the vocabulary whose subtrees depend on what is below */
    int32_t *open_token;             /* [n_open] some token of each */
    uint32_t n_open;
    TAILQ_ENTRY(loami_local_mask) used; /* last used last */
    struct loami_local_mask *next;   /* of the same hash */
} loami_local_mask;

enum { LOAMI_MASK_BUCKETS = 1024 };

struct loam_grammar {
    atomic_uint refs;
    const loami_vocab *vocab;
    loami_automaton *automaton;

    pthread_mutex_t lock;            /* of what follows */
    loami_memo memo;
    LIST_HEAD(loami_matchers, loami_matcher) matchers;
    TAILQ_HEAD(loami_masks, loami_local_mask) masks;
    loami_local_mask *buckets[LOAMI_MASK_BUCKETS];
    size_t masks_bytes;
};

struct loami_matcher {
    loam_grammar *g;
    uint32_t trail[LOAMI_MATCHER_TRAIL + 1]; /* states of the memo, the present one at `at` */
    uint32_t at, n_back;             /* n_back: how many before it are valid */
    LIST_ENTRY(loami_matcher) next;
};

/* With the lock held. */
uint32_t loami_mask_compute(loam_grammar *g, uint32_t state, uint64_t *bits);
void loami_masks_free(loam_grammar *g);

#endif
