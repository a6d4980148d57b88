/* engine/pages.h: who holds which KV page, and which pages hold the beginning of a text seen before.
 *
 * The bytes are the substrate's; here are only numbers. A page that is full of known tokens can be shared: it is a
 * node of a tree whose paths spell token sequences, page by page. Sequences pin the nodes they stand on. Nodes that
 * nobody pins stay as long as their page isn't needed and go in order of last use, leaves first. Lookups compare the
 * tokens themselves, not only their hash.
 *
 * A sequence takes pages as it grows. What it was promised when it began it will get: promised pages are free or can
 * be made so at any moment, but until they are taken they may still hold what was kept. Engine thread only; nothing is
 * allocated after open. */
#ifndef LOAMI_PAGES_H
#define LOAMI_PAGES_H

#include "base/err.h"

typedef struct loami_pages loami_pages;

/* What a sequence holds. */
typedef struct loami_holding {
    uint32_t *pages;         /* [n_pages] in order; the caller's array, with room for all it may come to hold */
    uint32_t n_pages;
    uint32_t n_shared;       /* the first of them that are nodes of the tree, pinned */
    uint32_t n_promised;     /* pages to come */
    uint64_t salt;           /* sequences of different salt share nothing */
    bool keep;               /* takes from the tree and leaves its pages to it; otherwise all its pages are its own */
} loami_holding;

/* kept_most: nodes that nobody pins, at most. */
int loami_pages_open(loami_pages **out, uint32_t n_pages, uint32_t page_tokens, uint32_t kept_most, loam_err *err);
void loami_pages_close(loami_pages *p);

uint32_t loami_pages_count(const loami_pages *p);
uint32_t loami_pages_used(const loami_pages *p);   /* held by sequences, shared ones once */
uint32_t loami_pages_kept(const loami_pages *p);   /* held by the tree alone */
uint32_t loami_pages_left(const loami_pages *p);   /* neither held nor promised */

/* Begins to hold: nodes that begin the n_tokens, as far as there are (but never all of them: the last token must be run).
 * h->n_shared tells how many; their tokens need no prefill. Promises more, up to n_most pages together. False, and
 * nothing held, when there are not enough. */
bool loami_pages_take(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_tokens, uint32_t n_most);

/* Looks again, while h holds nothing but nodes: takes those that have come since. all: the last token's page, too. */
void loami_pages_extend(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_tokens, bool all);

/* Takes fresh pages until h has n: those promised, then any that are left. False when there are no more; h then has what
 * there was. */
bool loami_pages_grow(loami_pages *p, loami_holding *h, uint32_t n);

/* Makes nodes of h's pages that are full with the first n_done tokens, so that others may share them from now on. Where
 * the tree has the same already, h gets that page instead and its own becomes free. */
void loami_pages_publish(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_done);

/* Publishes, unpins, frees the rest. h holds nothing and is promised nothing after. */
void loami_pages_give(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_done);

/* Forgets every node that nobody pins. */
void loami_pages_forget(loami_pages *p);

/* ---- for those who keep pages elsewhere (tier.h) ---- */

/* The hash that the page after h's nodes would have, with the tokens that follow. */
uint64_t loami_pages_next(const loami_pages *p, const loami_holding *h, const int32_t *tokens);

/* The node longest new and not yet asked for; false: there is none. again: it is new once more. */
bool loami_pages_fresh(loami_pages *p, uint32_t *page, uint64_t *hash);
void loami_pages_fresh_again(loami_pages *p, uint32_t page);

/* All tokens from the root to the end of a node: out[returned], at most `most`; 0 if they don't fit. */
uint32_t loami_pages_spell(const loami_pages *p, uint32_t page, int32_t *out, uint32_t most, uint64_t *salt);

#endif
