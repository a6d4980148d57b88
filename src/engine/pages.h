/* engine/pages.h: who holds which KV page, and which pages hold the beginning of a text seen before.
 *
 * The bytes are the substrate's; here are only numbers. A page that is full of known tokens can be shared: it is a
 * node of a tree whose paths spell token sequences, page by page. Sequences pin the nodes they stand on. Nodes that
 * nobody pins stay as long as their page isn't needed and go in order of last use, leaves first. Lookups compare the
 * tokens themselves, not only their hash.
 *
 * A sequence takes pages as it grows. What it was promised when it began it will get: promised pages are free or can
 * be made so at any moment, but until they are taken they may still hold what was kept. Engine thread only; nothing is
 * allocated after open.
 *
 * Where some layers see everything and others only a window, each kind has pages of its own: those of the first kind are
 * the nodes, as above; those of the second, the near ones, hang on the nodes, and may be gone from one. A sequence gives its
 * near pages up as the window leaves them; then they are kept as nodes are. It can begin at a node if no near page is
 * missing among those that its next token looks back at. Near promises are for what is held at once, shared or not: two
 * that share now part as they go on. */
#ifndef LOAMI_PAGES_H
#define LOAMI_PAGES_H

#include "base/err.h"

typedef struct loami_pages loami_pages;

typedef struct loami_pages_config {
    uint32_t n_pages, page_tokens;
    uint32_t kept_most;      /* nodes that nobody pins, at most; near pages likewise */
    uint32_t n_near, window; /* near pages, and the tokens that their layers see; 0: there are none */
    uint32_t n_spare;        /* of n_near, never promised: for the rows of one step, whosever they are */
} loami_pages_config;

typedef struct loami_pages_count {
    uint32_t all, used, kept; /* held by sequences, shared ones once; held by the tree alone */
} loami_pages_count;

/* What a sequence holds. */
typedef struct loami_holding {
    uint32_t *pages;         /* [n_pages] in order; the caller's array, with room for all it may come to hold */
    uint32_t n_pages;
    uint32_t n_shared;       /* the first of them that are nodes of the tree, pinned */
    uint32_t n_promised;     /* pages to come */
    uint32_t n_dropped;      /* of those that are no nodes, the ones before this number were given back: see drop */
    uint32_t *near;          /* as pages, by the same numbers, likewise; unused where there are none */
    uint32_t near_from, near_end; /* of them it holds these; entries before are any near page */
    uint32_t near_most;      /* the caller's word: it holds no more than so many at once, but for a step's rows */
    uint64_t salt;           /* sequences of different salt share nothing */
    bool keep;               /* takes from the tree and leaves its pages to it; otherwise all its pages are its own */
} loami_holding;

int loami_pages_open(loami_pages **out, const loami_pages_config *c, loam_err *err);
void loami_pages_close(loami_pages *p);

loami_pages_count loami_pages_counted(const loami_pages *p);
loami_pages_count loami_pages_near(const loami_pages *p);
uint32_t loami_pages_left(const loami_pages *p);   /* neither held nor promised */
uint32_t loami_pages_near_most(const loami_pages *p); /* the largest near_most that could ever be had */

/* Begins to hold: nodes that begin the n_tokens, as far as there are (but never all of them: the last token must be run).
 * h->n_shared tells how many; their tokens need no prefill. Promises more, up to n_most pages together, and h->near_most.
 * False, and nothing held, when there are not enough. */
bool loami_pages_take(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_tokens, uint32_t n_most);

/* Looks again, while h holds nothing but nodes: takes those that have come since. all: the last token's page, too. */
void loami_pages_extend(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_tokens, bool all);

/* Takes fresh pages until h has n, of both kinds: those promised, then any that are left. False when there are no more; h then
 * has what there was. */
bool loami_pages_grow(loami_pages *p, loami_holding *h, uint32_t n);

/* Pages that h has, of both kinds. */
uint32_t loami_pages_held(const loami_pages *p, const loami_holding *h);

/* Makes nodes of h's pages that are full with the first n_done tokens, so that others may share them from now on. Where
 * the tree has the same already, h gets that page instead and its own becomes free; near pages that the tree lacks it gets. */
void loami_pages_publish(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_done);

/* Gives up near pages that no token from number n_past on looks back at; n_past may be further than h is. */
void loami_pages_pass(loami_pages *p, loami_holding *h, uint32_t n_past);

/* The first page that token number n_past of a near layer looks back at. */
uint32_t loami_pages_seen(const loami_pages *p, uint32_t n_past);

/* Gives back pages before number n that are no nodes: nobody will read them again. As many are promised anew. From now on
 * h publishes nothing. For where all layers have a window, and there are no near pages. */
void loami_pages_drop(loami_pages *p, loami_holding *h, uint32_t n);

/* Publishes, unpins, frees the rest. h holds nothing and is promised nothing after. */
void loami_pages_give(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_done);

/* Forgets every node that nobody pins. */
void loami_pages_forget(loami_pages *p);

/* ---- for those who keep pages elsewhere (tier.h) ---- */

/* The hash that the page after `hash` has, with the tokens of that page; and of the last of h's nodes. */
uint64_t loami_pages_next(const loami_pages *p, uint64_t hash, const int32_t *tokens);
uint64_t loami_pages_last(const loami_pages *p, const loami_holding *h);

/* The node longest new and not yet asked for; false: there is none. One that gets a near page later is new once more; so is one
 * given back by again. *near is LOAMI_NO_FRAME if it has none. */
bool loami_pages_fresh(loami_pages *p, uint32_t *page, uint32_t *near, uint64_t *hash);
void loami_pages_fresh_again(loami_pages *p, uint32_t page);

/* All tokens from the root to the end of a node: out[returned], at most `most`; 0 if they don't fit. */
uint32_t loami_pages_spell(const loami_pages *p, uint32_t page, int32_t *out, uint32_t most, uint64_t *salt);

#endif
