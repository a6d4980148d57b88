#include "engine/pages.h"
#include "engine/frames.h"
#include "substrate/groups.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NONE LOAMI_NO_FRAME

/* A page as a node of the tree. */
typedef struct node {
    uint64_t hash;             /* of salt and all tokens from the root to here */
    uint64_t salt;
    uint32_t depth;            /* nodes above */
    bool node, fresh;          /* it is one; nobody has asked for it yet */
    uint32_t parent;           /* page, or NONE below the root */
    uint32_t near;             /* its near page, or NONE */
    uint32_t next;             /* in its hash bucket */
} node;

struct loami_pages {
    loami_pages_config c;
    loami_frames whole;        /* the nodes' pages. A kept parent is always newer than its children, so the oldest is a leaf */
    loami_frames near;         /* pinned or kept ones are some node's */
    uint32_t *near_node;       /* [c.n_near] whose */
    node *nodes;               /* [c.n_pages] by page */
    int32_t *tokens;           /* [c.n_pages][page_tokens] of the nodes */
    uint32_t *buckets;         /* [n_buckets] a power of two */
    uint32_t n_buckets;
    uint32_t *fresh;           /* [c.n_pages] a ring of pages that became nodes; some may be none any more */
    uint64_t fresh_head, fresh_tail;
};

int loami_pages_open(loami_pages **out, const loami_pages_config *c, loam_err *err)
{
    size_t n = c->n_pages;
    loami_pages *p = calloc(1, sizeof *p);
    if (!p) return loami_fail_nomem(err);
    p->c = *c;
    for (p->n_buckets = 16; p->n_buckets < n && p->n_buckets < 1u << 30;) p->n_buckets *= 2;
    p->near_node = calloc((size_t)c->n_near + 1, sizeof *p->near_node);
    p->nodes = calloc(n + 1, sizeof *p->nodes);
    p->tokens = calloc(n + 1, c->page_tokens * sizeof *p->tokens);
    p->fresh = calloc(n + 1, sizeof *p->fresh);
    p->buckets = malloc(p->n_buckets * sizeof *p->buckets);
    bool frames = loami_frames_open(&p->whole, c->n_pages) && loami_frames_open(&p->near, c->n_near);
    if (!frames || !p->near_node || !p->nodes || !p->tokens || !p->fresh || !p->buckets) {
        loami_pages_close(p);
        return loami_fail_nomem(err);
    }
    memset(p->buckets, 0xff, p->n_buckets * sizeof *p->buckets);
    p->near.n_promised = c->n_spare;
    *out = p;
    return 0;
}

void loami_pages_close(loami_pages *p)
{
    if (!p) return;
    loami_frames_close(&p->whole);
    loami_frames_close(&p->near);
    free(p->near_node);
    free(p->nodes);
    free(p->tokens);
    free(p->fresh);
    free(p->buckets);
    free(p);
}

static loami_pages_count counted(const loami_frames *f)
{
    return (loami_pages_count){ f->n, f->n - f->n_free - f->n_kept, f->n_kept };
}

loami_pages_count loami_pages_counted(const loami_pages *p)
{
    return counted(&p->whole);
}

loami_pages_count loami_pages_near(const loami_pages *p)
{
    return counted(&p->near);
}

uint32_t loami_pages_left(const loami_pages *p)
{
    return loami_frames_left(&p->whole);
}

uint32_t loami_pages_near_most(const loami_pages *p)
{
    return p->c.n_near - p->c.n_spare;
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

uint64_t loami_pages_last(const loami_pages *p, const loami_holding *h)
{
    return h->n_shared ? p->nodes[h->pages[h->n_shared - 1]].hash : h->salt;
}

static uint32_t find(const loami_pages *p, uint64_t hash, uint32_t parent, const int32_t *tokens)
{
    uint32_t at = p->buckets[hash & (p->n_buckets - 1)];
    for (; at != NONE; at = p->nodes[at].next) {
        const node *x = &p->nodes[at];
        if (x->hash == hash && x->parent == parent &&
            memcmp(p->tokens + (size_t)at * p->c.page_tokens, tokens, p->c.page_tokens * sizeof *tokens) == 0)
            return at;
    }
    return NONE;
}

/* What is not asked for in time is forgotten: the oldest first. */
static void note_fresh(loami_pages *p, uint32_t at)
{
    if (p->nodes[at].fresh) return;
    if (p->fresh_head - p->fresh_tail == p->c.n_pages) p->fresh_tail++;
    p->fresh[p->fresh_head++ % p->c.n_pages] = at;
    p->nodes[at].fresh = true;
}

/* Makes page `at` a node, pinned once. */
static void insert(loami_pages *p, uint32_t at, uint64_t hash, const loami_holding *h, uint32_t parent, const int32_t *tokens)
{
    uint32_t *bucket = &p->buckets[hash & (p->n_buckets - 1)];
    p->nodes[at] = (node){ .hash = hash, .salt = h->salt, .depth = h->n_shared, .node = true, .parent = parent, .near = NONE, .next = *bucket };
    loami_frames_share(&p->whole, at);
    note_fresh(p, at);
    memcpy(p->tokens + (size_t)at * p->c.page_tokens, tokens, p->c.page_tokens * sizeof *tokens);
    *bucket = at;
}

/* Frees the node that nobody pins and that was used longest ago. */
static void evict(loami_pages *p)
{
    uint32_t at = p->whole.oldest;
    uint32_t *link = &p->buckets[p->nodes[at].hash & (p->n_buckets - 1)];
    while (*link != at) link = &p->nodes[*link].next;
    *link = p->nodes[at].next;
    if (p->nodes[at].near != NONE) loami_frames_forget(&p->near, p->nodes[at].near);
    p->nodes[at].node = p->nodes[at].fresh = false;
    loami_frames_forget(&p->whole, at);
}

static void evict_near(loami_pages *p)
{
    uint32_t at = p->near.oldest;
    p->nodes[p->near_node[at]].near = NONE;
    loami_frames_forget(&p->near, at);
}

/* ---- near pages of a sequence ----------------------------------------------------------------------------- */

uint32_t loami_pages_seen(const loami_pages *p, uint32_t n_past)
{
    return loami_window_from(p->c.window, n_past) / p->c.page_tokens;
}

static void near_put(loami_pages *p, const loami_holding *h, uint32_t i)
{
    if (i < h->n_shared) loami_frames_unpin(&p->near, h->near[i]);
    else loami_frames_put(&p->near, h->near[i]);
}

void loami_pages_pass(loami_pages *p, loami_holding *h, uint32_t n_past)
{
    uint32_t seen = p->near.n ? loami_pages_seen(p, n_past) : 0;
    for (; h->near_from < seen && h->near_from < h->near_end; h->near_from++) near_put(p, h, h->near_from);
    for (; h->near_from < seen; h->near_from = ++h->near_end) h->near[h->near_end] = 0;
}

/* h has come along nodes to its n_shared'th, from the before'th. */
static void near_follow(loami_pages *p, loami_holding *h, uint32_t before)
{
    uint32_t seen = loami_pages_seen(p, h->n_shared * p->c.page_tokens);
    for (uint32_t i = before; i < h->n_shared; i++) {
        h->near[i] = i < seen ? 0 : p->nodes[h->pages[i]].near;
        if (i >= seen) loami_frames_pin(&p->near, h->near[i]);
    }
    for (; h->near_from < seen && h->near_from < before; h->near_from++) loami_frames_unpin(&p->near, h->near[h->near_from]);
    if (h->near_from < seen) h->near_from = seen;
    h->near_end = h->n_shared;
}

/* Page i, which became a node or gave way to one: its near page goes to the node, or gives way to the node's. */
static void near_publish(loami_pages *p, loami_holding *h, uint32_t i)
{
    node *x = &p->nodes[h->pages[i]];
    if (i < h->near_from || i >= h->near_end) return;
    if (x->near == NONE) {
        x->near = h->near[i];
        p->near_node[x->near] = h->pages[i];
        loami_frames_share(&p->near, x->near);
        note_fresh(p, h->pages[i]);
        return;
    }
    loami_frames_pin(&p->near, x->near);
    loami_frames_put(&p->near, h->near[i]);
    h->near[i] = x->near;
}

/* ---- a sequence's life ------------------------------------------------------------------------------------ */

/* Nodes that follow h's, as far as tokens go on in the tree and a sequence can begin behind: up to which. They are written to
 * h->pages, not yet pinned. */
static uint32_t look(const loami_pages *p, const loami_holding *h, const int32_t *tokens, uint32_t n_full)
{
    uint32_t parent = h->n_shared ? h->pages[h->n_shared - 1] : NONE, best = h->n_shared, gap = 0; /* the last before this has no near page */
    uint64_t hash = loami_pages_last(p, h);
    for (uint32_t i = h->n_shared; i < n_full; i++) {
        const int32_t *these = tokens + (size_t)i * p->c.page_tokens;
        uint32_t at = find(p, hash = hash_page(hash, these, p->c.page_tokens), parent, these);
        if (at == NONE) break;
        h->pages[i] = parent = at;
        if (p->near.n && p->nodes[at].near == NONE) gap = i + 1;
        if (gap == 0 || gap <= loami_pages_seen(p, (i + 1) * p->c.page_tokens)) best = i + 1;
    }
    return best;
}

/* Pins nodes that follow h's. Returns how many. */
static uint32_t follow(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_full)
{
    uint32_t before = h->n_shared;
    if (h->keep) h->n_shared = look(p, h, tokens, n_full);
    for (uint32_t i = before; i < h->n_shared; i++) loami_frames_pin(&p->whole, h->pages[i]);
    if (p->near.n && h->n_shared > before) near_follow(p, h, before);
    h->n_pages = h->n_shared;
    return h->n_shared - before;
}

static void let_nodes_go(loami_pages *p, loami_holding *h)
{
    for (; h->near_from < h->near_end; h->near_from++) near_put(p, h, h->near_from);
    while (h->n_shared) loami_frames_unpin(&p->whole, h->pages[--h->n_shared]); /* the deepest first: see whole */
    h->n_pages = h->near_from = h->near_end = 0;
}

bool loami_pages_take(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_tokens, uint32_t n_most)
{
    h->n_shared = h->n_pages = h->n_promised = h->n_dropped = h->near_from = h->near_end = 0;
    if (p->near.n && h->near_most > p->near.n - p->near.n_promised) return false;
    follow(p, h, tokens, n_tokens ? (n_tokens - 1) / p->c.page_tokens : 0);
    uint32_t more = n_most > h->n_pages ? n_most - h->n_pages : 0;
    if (p->whole.n_promised > p->whole.n_free + p->whole.n_kept || more > loami_pages_left(p)) {
        let_nodes_go(p, h);
        return false;
    }
    h->n_promised = more;
    p->whole.n_promised += more;
    if (p->near.n) p->near.n_promised += h->near_most;
    return true;
}

void loami_pages_extend(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_tokens, bool all)
{
    assert(h->n_pages == h->n_shared);
    uint32_t came = follow(p, h, tokens, (n_tokens - !all) / p->c.page_tokens);
    uint32_t kept = came < h->n_promised ? came : h->n_promised; /* promises that were kept this way */
    h->n_promised -= kept;
    p->whole.n_promised -= kept;
}

bool loami_pages_grow(loami_pages *p, loami_holding *h, uint32_t n)
{
    while (h->n_pages < n) {
        if (!h->n_promised && loami_pages_left(p) == 0) break;
        if (p->whole.n_free == 0) evict(p);
        if (h->n_promised) h->n_promised--, p->whole.n_promised--;
        h->pages[h->n_pages++] = loami_frames_take(&p->whole);
    }
    while (p->near.n && h->near_end < n && h->near_end < h->n_pages) {
        if (p->near.n_free + p->near.n_kept == 0) break;
        if (p->near.n_free == 0) evict_near(p);
        h->near[h->near_end++] = loami_frames_take(&p->near);
    }
    return loami_pages_held(p, h) >= n;
}

uint32_t loami_pages_held(const loami_pages *p, const loami_holding *h)
{
    return p->near.n && h->near_end < h->n_pages ? h->near_end : h->n_pages;
}

void loami_pages_publish(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_done)
{
    uint32_t full = h->keep && h->n_dropped <= h->n_shared ? n_done / p->c.page_tokens : 0;
    uint32_t parent = h->n_shared ? h->pages[h->n_shared - 1] : NONE;
    uint64_t hash = loami_pages_last(p, h);

    for (; h->n_shared < full; h->n_shared++) {
        uint32_t *page = &h->pages[h->n_shared];
        const int32_t *these = tokens + (size_t)h->n_shared * p->c.page_tokens;
        hash = hash_page(hash, these, p->c.page_tokens);
        uint32_t same = find(p, hash, parent, these);
        if (same == NONE) {
            insert(p, *page, hash, h, parent, these);
        } else {
            loami_frames_pin(&p->whole, same);
            loami_frames_put(&p->whole, *page);
            *page = same;
        }
        near_publish(p, h, h->n_shared);
        parent = *page;
    }
}

void loami_pages_drop(loami_pages *p, loami_holding *h, uint32_t n)
{
    assert(n <= h->n_pages && p->near.n == 0);
    if (h->n_dropped < h->n_shared) h->n_dropped = h->n_shared;
    for (; h->n_dropped < n; h->n_dropped++, h->n_promised++, p->whole.n_promised++) loami_frames_put(&p->whole, h->pages[h->n_dropped]);
}

void loami_pages_give(loami_pages *p, loami_holding *h, const int32_t *tokens, uint32_t n_done)
{
    loami_pages_publish(p, h, tokens, n_done);
    for (uint32_t i = h->n_pages; i > h->n_shared && i > h->n_dropped; i--) loami_frames_put(&p->whole, h->pages[i - 1]);
    let_nodes_go(p, h);
    p->whole.n_promised -= h->n_promised;
    if (p->near.n) p->near.n_promised -= h->near_most;
    h->n_promised = h->n_dropped = 0;
    while (p->near.n_kept > p->c.kept_most) evict_near(p);
    while (p->whole.n_kept > p->c.kept_most) evict(p);
}

void loami_pages_forget(loami_pages *p)
{
    while (p->whole.oldest != NONE) evict(p);
}

/* ---- for those who keep pages elsewhere ------------------------------------------------------------------ */

uint64_t loami_pages_next(const loami_pages *p, uint64_t hash, const int32_t *tokens)
{
    return hash_page(hash, tokens, p->c.page_tokens);
}

bool loami_pages_fresh(loami_pages *p, uint32_t *page, uint32_t *near, uint64_t *hash)
{
    while (p->fresh_head != p->fresh_tail) {
        node *x = &p->nodes[*page = p->fresh[p->fresh_tail++ % p->c.n_pages]];
        if (!x->node || !x->fresh) continue;
        x->fresh = false;
        *near = x->near;
        *hash = x->hash;
        return true;
    }
    return false;
}

void loami_pages_fresh_again(loami_pages *p, uint32_t page)
{
    p->fresh[--p->fresh_tail % p->c.n_pages] = page;
    p->nodes[page].fresh = true;
}

uint32_t loami_pages_spell(const loami_pages *p, uint32_t page, int32_t *out, uint32_t most, uint64_t *salt)
{
    uint32_t n = (p->nodes[page].depth + 1) * p->c.page_tokens;
    *salt = p->nodes[page].salt;
    if (n > most) return 0;
    for (uint32_t at = page; at != NONE; at = p->nodes[at].parent)
        memcpy(out + (size_t)p->nodes[at].depth * p->c.page_tokens, p->tokens + (size_t)at * p->c.page_tokens, p->c.page_tokens * sizeof *out);
    return n;
}
