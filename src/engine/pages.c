#include "engine/pages.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

/* A page as a node of the tree. */
typedef struct node {
    uint64_t hash;             /* of salt and all tokens from the root to here */
    uint64_t salt;
    uint32_t depth;            /* nodes above */
    bool node, fresh;          /* it is one; nobody has asked for it yet */
    uint32_t parent;           /* page, or NONE below the root */
    uint32_t pins;
    uint32_t older, newer;     /* among the unpinned */
    uint32_t next;             /* in its hash bucket */
} node;

struct loami_pages {
    uint32_t n, page_tokens;
    uint32_t *free;            /* [n_free] a stack */
    uint32_t n_free, n_kept, n_promised;
    uint32_t kept_most;
    node *nodes;               /* [n] by page */
    int32_t *tokens;           /* [n][page_tokens] of the nodes */
    uint32_t *buckets;         /* [n_buckets] a power of two */
    uint32_t n_buckets;
    uint32_t *fresh;           /* [n] a ring of pages that became nodes; some may be none any more */
    uint64_t fresh_head, fresh_tail;
    uint32_t oldest, newest;   /* unpinned nodes. A parent is always newer than its children, so the oldest is a leaf */
};

int loami_pages_open(loami_pages **out, uint32_t n, uint32_t page_tokens, uint32_t kept_most, loam_err *err)
{
    loami_pages *p = calloc(1, sizeof *p);
    if (!p) return loami_fail_nomem(err);
    p->n = p->n_free = n;
    p->page_tokens = page_tokens;
    p->kept_most = kept_most;
    p->oldest = p->newest = NONE;
    for (p->n_buckets = 16; p->n_buckets < n && p->n_buckets < 1u << 30;) p->n_buckets *= 2;
    p->free = calloc((size_t)n + 1, sizeof *p->free);
    p->nodes = calloc((size_t)n + 1, sizeof *p->nodes);
    p->tokens = calloc((size_t)n + 1, page_tokens * sizeof *p->tokens);
    p->fresh = calloc((size_t)n + 1, sizeof *p->fresh);
    p->buckets = malloc(p->n_buckets * sizeof *p->buckets);
    if (!p->free || !p->nodes || !p->tokens || !p->fresh || !p->buckets) {
        loami_pages_close(p);
        return loami_fail_nomem(err);
    }
    memset(p->buckets, 0xff, p->n_buckets * sizeof *p->buckets);
    for (uint32_t i = 0; i < n; i++) p->free[i] = n - 1 - i;
    *out = p;
    return 0;
}

void loami_pages_close(loami_pages *p)
{
    if (!p) return;
    free(p->free);
    free(p->nodes);
    free(p->tokens);
    free(p->fresh);
    free(p->buckets);
    free(p);
}

uint32_t loami_pages_count(const loami_pages *p)
{
    return p->n;
}

uint32_t loami_pages_used(const loami_pages *p)
{
    return p->n - p->n_free - p->n_kept;
}

uint32_t loami_pages_kept(const loami_pages *p)
{
    return p->n_kept;
}

uint32_t loami_pages_left(const loami_pages *p)
{
    uint32_t all = p->n_free + p->n_kept;
    return all > p->n_promised ? all - p->n_promised : 0;
}

/* ---- the list of unpinned nodes ------------------------------------------------------------------------- */

static void list_remove(loami_pages *p, uint32_t at)
{
    node *x = &p->nodes[at];
    *(x->older == NONE ? &p->oldest : &p->nodes[x->older].newer) = x->newer;
    *(x->newer == NONE ? &p->newest : &p->nodes[x->newer].older) = x->older;
    p->n_kept--;
}

static void list_append(loami_pages *p, uint32_t at)
{
    node *x = &p->nodes[at];
    x->older = p->newest;
    x->newer = NONE;
    *(p->newest == NONE ? &p->oldest : &p->nodes[p->newest].newer) = at;
    p->newest = at;
    p->n_kept++;
}

static void pin(loami_pages *p, uint32_t at)
{
    if (p->nodes[at].pins++ == 0) list_remove(p, at);
}

static void unpin(loami_pages *p, uint32_t at)
{
    assert(p->nodes[at].pins > 0);
    if (--p->nodes[at].pins == 0) list_append(p, at);
}

/* ---- the tree ------------------------------------------------------------------------------------------- */

static uint64_t hash_page(uint64_t h, const int32_t *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ (uint32_t)tokens[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h;
}

static uint32_t find(const loami_pages *p, uint64_t hash, uint32_t parent, const int32_t *tokens)
{
    uint32_t at = p->buckets[hash & (p->n_buckets - 1)];
    for (; at != NONE; at = p->nodes[at].next) {
        const node *x = &p->nodes[at];
        if (x->hash == hash && x->parent == parent &&
            memcmp(p->tokens + (size_t)at * p->page_tokens, tokens, p->page_tokens * sizeof *tokens) == 0)
            return at;
    }
    return NONE;
}

/* What is not asked for in time is forgotten: the oldest first. */
static void note_fresh(loami_pages *p, uint32_t at)
{
    if (p->fresh_head - p->fresh_tail == p->n) p->fresh_tail++;
    p->fresh[p->fresh_head++ % p->n] = at;
    p->nodes[at].fresh = true;
}

/* Makes page `at` a node, pinned once. */
static void insert(loami_pages *p, uint32_t at, uint64_t hash, const loami_holding *h, uint32_t parent, const int32_t *tokens)
{
    uint32_t *bucket = &p->buckets[hash & (p->n_buckets - 1)];
    p->nodes[at] = (node){ .hash = hash, .salt = h->salt, .depth = h->n_shared, .node = true, .parent = parent, .pins = 1, .next = *bucket };
    note_fresh(p, at);
    memcpy(p->tokens + (size_t)at * p->page_tokens, tokens, p->page_tokens * sizeof *tokens);
    *bucket = at;
}

/* Frees the unpinned node that was used longest ago. */
static void evict(loami_pages *p)
{
    uint32_t at = p->oldest;
    uint32_t *link = &p->buckets[p->nodes[at].hash & (p->n_buckets - 1)];
    while (*link != at) link = &p->nodes[*link].next;
    *link = p->nodes[at].next;
    list_remove(p, at);
    p->nodes[at].node = p->nodes[at].fresh = false;
    p->free[p->n_free++] = at;
}

/* Pins nodes that follow h's, as far as tokens go on in the tree. Returns how many. */
static uint32_t follow(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_full)
{
    uint32_t parent = h->n_shared ? h->pages[h->n_shared - 1] : NONE, before = h->n_shared;
    uint64_t hash = h->n_shared ? p->nodes[parent].hash : h->salt;
    for (; h->keep && h->n_shared < n_full; h->n_shared++) {
        const int32_t *these = tokens + (size_t)h->n_shared * p->page_tokens;
        uint32_t at = find(p, hash = hash_page(hash, these, p->page_tokens), parent, these);
        if (at == NONE) break;
        pin(p, at);
        h->pages[h->n_shared] = parent = at;
    }
    h->n_pages = h->n_shared;
    return h->n_shared - before;
}

bool loami_pages_take(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_tokens, uint32_t n_most)
{
    h->n_shared = h->n_pages = h->n_promised = 0;
    follow(p, h, tokens, n_tokens ? (n_tokens - 1) / p->page_tokens : 0);
    uint32_t more = n_most > h->n_pages ? n_most - h->n_pages : 0;
    if (p->n_promised > p->n_free + p->n_kept || more > loami_pages_left(p)) {
        while (h->n_shared) unpin(p, h->pages[--h->n_shared]);
        h->n_pages = 0;
        return false;
    }
    h->n_promised = more;
    p->n_promised += more;
    return true;
}

void loami_pages_extend(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_tokens, bool all)
{
    assert(h->n_pages == h->n_shared);
    uint32_t came = follow(p, h, tokens, (n_tokens - !all) / p->page_tokens);
    uint32_t kept = came < h->n_promised ? came : h->n_promised; /* promises that were kept this way */
    h->n_promised -= kept;
    p->n_promised -= kept;
}

bool loami_pages_grow(loami_pages *p, loami_holding *h, uint32_t n)
{
    while (h->n_pages < n) {
        if (!h->n_promised && loami_pages_left(p) == 0) return false;
        if (p->n_free == 0) evict(p);
        if (h->n_promised) h->n_promised--, p->n_promised--;
        h->pages[h->n_pages++] = p->free[--p->n_free];
    }
    return true;
}

void loami_pages_publish(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_done)
{
    uint32_t full = h->keep ? n_done / p->page_tokens : 0;
    uint32_t parent = h->n_shared ? h->pages[h->n_shared - 1] : NONE;
    uint64_t hash = h->n_shared ? p->nodes[parent].hash : h->salt;

    for (; h->n_shared < full; h->n_shared++) {
        uint32_t *page = &h->pages[h->n_shared];
        const int32_t *these = tokens + (size_t)h->n_shared * p->page_tokens;
        hash = hash_page(hash, these, p->page_tokens);
        uint32_t same = find(p, hash, parent, these);
        if (same == NONE) {
            insert(p, *page, hash, h, parent, these);
        } else {
            pin(p, same);
            p->free[p->n_free++] = *page;
            *page = same;
        }
        parent = *page;
    }
}

void loami_pages_give(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_done)
{
    loami_pages_publish(p, h, tokens, n_done);
    for (uint32_t i = h->n_pages; i > h->n_shared; i--) p->free[p->n_free++] = h->pages[i - 1];
    while (h->n_shared) unpin(p, h->pages[--h->n_shared]); /* the deepest first: see oldest */
    p->n_promised -= h->n_promised;
    h->n_pages = h->n_promised = 0;
    while (p->n_kept > p->kept_most) evict(p);
    assert(p->n_free <= p->n);
}

void loami_pages_forget(loami_pages *p)
{
    while (p->oldest != NONE) evict(p);
}

/* ---- for those who keep pages elsewhere ------------------------------------------------------------------ */

uint64_t loami_pages_next(const loami_pages *p, const loami_holding *h, const int32_t *tokens)
{
    uint64_t before = h->n_shared ? p->nodes[h->pages[h->n_shared - 1]].hash : h->salt;
    return hash_page(before, tokens + (size_t)h->n_shared * p->page_tokens, p->page_tokens);
}

bool loami_pages_fresh(loami_pages *p, uint32_t *page, uint64_t *hash)
{
    while (p->fresh_head != p->fresh_tail) {
        node *x = &p->nodes[*page = p->fresh[p->fresh_tail++ % p->n]];
        if (!x->node || !x->fresh) continue;
        x->fresh = false;
        *hash = x->hash;
        return true;
    }
    return false;
}

void loami_pages_fresh_again(loami_pages *p, uint32_t page)
{
    p->fresh[--p->fresh_tail % p->n] = page;
    p->nodes[page].fresh = true;
}

uint32_t loami_pages_spell(const loami_pages *p, uint32_t page, int32_t *out, uint32_t most, uint64_t *salt)
{
    uint32_t n = (p->nodes[page].depth + 1) * p->page_tokens;
    *salt = p->nodes[page].salt;
    if (n > most) return 0;
    for (uint32_t at = page; at != NONE; at = p->nodes[at].parent)
        memcpy(out + (size_t)p->nodes[at].depth * p->page_tokens, p->tokens + (size_t)at * p->page_tokens, p->page_tokens * sizeof *out);
    return n;
}
