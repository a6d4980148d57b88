/* engine/pages.h: who holds which KV page, and which pages hold the beginning of a text seen before.
 *
 * The bytes are the substrate's; here are only numbers. A page that is full of known tokens can be shared: it is a
 * node of a tree whose paths spell token sequences, page by page. Sequences pin the nodes they stand on. Nodes that
 * nobody pins stay as long as their page isn't needed and go in order of last use, leaves first. Lookups compare the
 * tokens themselves, not only their hash. Engine thread only; nothing is allocated after open. */
#ifndef LOAMI_PAGES_H
#define LOAMI_PAGES_H

#include "base/err.h"

typedef struct loami_pages loami_pages;

/* What a sequence holds. */
typedef struct loami_holding {
    uint32_t *pages;         /* [n_pages] in order; the caller's array */
    uint32_t n_pages;
    uint32_t n_shared;       /* the first of them that are nodes of the tree, pinned */
    uint64_t salt;           /* sequences of different salt share nothing */
    bool keep;               /* takes from the tree and leaves its pages to it; otherwise all its pages are its own */
} loami_holding;

int loami_pages_open(loami_pages **out, uint32_t n_pages, uint32_t page_tokens, loam_err *err);
void loami_pages_close(loami_pages *p);

uint32_t loami_pages_count(const loami_pages *p);
uint32_t loami_pages_used(const loami_pages *p);   /* held by sequences, shared ones once */
uint32_t loami_pages_kept(const loami_pages *p);   /* held by the tree alone */

/* Takes h->n_pages pages for n_tokens tokens: nodes that begin them as far as there are (but never all of them: the
 * last token must be run), then fresh ones. False, and nothing taken, when there are not enough. Returns in
 * h->n_shared how many are nodes: their tokens need no prefill. */
bool loami_pages_take(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_tokens);

/* Makes nodes of h's pages that are full with the first n_done tokens, so that others may share them from now on. Where
 * the tree has the same already, h gets that page instead and its own becomes free. */
void loami_pages_publish(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_done);

/* Publishes, unpins, frees the rest. h holds nothing after. */
void loami_pages_give(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_done);

/* Forgets every node that nobody pins. */
void loami_pages_forget(loami_pages *p);

#endif
