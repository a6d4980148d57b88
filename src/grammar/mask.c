#include "grammar/matcher.h"

#include <stdlib.h>
#include <string.h>

enum {
    WALK_STEPS = 1 << 24, /* of a walk over the vocabulary; a large one has 500000 nodes */
    FRAMES_APART = 16,    /* more frames than this are looked at together, without what is kept of each */
};
static const uint64_t WALK_WORK =
    40000000; /* about 0.1 s for grammars that can be read in hundreds of ways at once */

/* A walk over the vocabulary from a state of the memo. */
typedef struct walk {
    loam_grammar *g;
    uint64_t *bits;
    uint64_t work_until;
    uint32_t *open; /* NULL: what is open is not asked for */
    int32_t *open_token;
    uint32_t n_open, cap_open;
    uint32_t states[LOAMI_TOKEN_BYTES + 1];
    bool left[LOAMI_TOKEN_BYTES + 1]; /* the frame was left at this depth or before */
} walk;

static void set(uint64_t *bits, int32_t id)
{
    bits[(uint32_t)id / 64] |= 1ull << ((uint32_t)id % 64);
}

static void set_node(const loami_vocab *v, uint64_t *bits, int32_t id)
{
    for (; id >= 0; id = v->same[id]) set(bits, id);
}

static bool add_open(walk *w, uint32_t node)
{
    const loami_vocab *v = w->g->vocab;
    if (!w->open) return true;
    if (w->n_open == w->cap_open) {
        uint32_t cap = w->cap_open * 2;
        uint32_t *open = realloc(w->open, cap * sizeof *open);
        if (open) w->open = open;
        int32_t *tokens = realloc(w->open_token, cap * sizeof *tokens);
        if (tokens) w->open_token = tokens;
        if (!open || !tokens) return false;
        w->cap_open = cap;
    }
    uint32_t leaf = node;
    while (v->nodes[leaf].token < 0) leaf++; /* the first node below that ends a token: on the way down */
    w->open[w->n_open] = node;
    w->open_token[w->n_open++] = v->nodes[leaf].token;
    return true;
}

static bool may_go_on(const walk *w, uint32_t steps)
{
    const loami_memo *m = &w->g->memo;
    return !m->failed && steps < WALK_STEPS && m->work < w->work_until &&
           ((steps & 255) || loami_memo_bytes(m) < LOAMI_MEMO_MOST_BYTES);
}

/* Nodes [from, to), whose parent's state is w->states[depth of from - 1]. What is cut is not allowed: fewer
 * tokens, none wrong. */
static void walk_nodes(walk *w, uint32_t from, uint32_t to)
{
    const loami_vocab *v = w->g->vocab;
    loami_memo *m = &w->g->memo;
    for (uint32_t i = from, steps = 0; i < to && may_go_on(w, steps); steps++) {
        const loami_vocab_node *node = &v->nodes[i];
        uint32_t before = w->states[node->depth - 1],
                 after = before ? loami_memo_step(m, before, node->byte) : LOAMI_STATE_NONE;
        bool left = w->left[node->depth - 1];
        if (!after) {
            if (left && !add_open(w, i)) return;
            i += node->skip;
            continue;
        }
        const loami_stacks *s = &m->states[after];
        w->states[node->depth] = after;
        w->left[node->depth] = left || s->leaves;
        if (node->token >= 0) set_node(v, w->bits, node->token);
        if (s->n == 0) { /* nothing of this frame is left: all below depends on others */
            if (w->left[node->depth] && node->skip > 1 && !add_open(w, i)) return;
            i += node->skip;
            continue;
        }
        i++;
    }
}

/* ---- what is kept a frame ---- */

static uint32_t bucket_of(uint32_t state, uint32_t lo, uint32_t hi)
{
    uint32_t h = (state * 0x9e3779b1u ^ lo) * 0x85ebca6bu ^ hi * 0xc2b2ae35u;
    return (h ^ h >> 16) % LOAMI_MASK_BUCKETS;
}

static size_t mask_bytes(const loam_grammar *g, const loami_local_mask *l)
{
    return sizeof *l + g->vocab->n_words * sizeof *l->allowed +
           l->n_open * (sizeof *l->open + sizeof *l->open_token);
}

static void drop(loam_grammar *g, loami_local_mask *l)
{
    loami_local_mask **at = &g->buckets[bucket_of(l->state, l->lo, l->hi)];
    while (*at != l) at = &(*at)->next;
    *at = l->next;
    TAILQ_REMOVE(&g->masks, l, used);
    g->masks_bytes -= mask_bytes(g, l);
    free(l->allowed);
    free(l->open);
    free(l->open_token);
    free(l);
}

void loami_masks_free(loam_grammar *g)
{
    while (!TAILQ_EMPTY(&g->masks)) drop(g, TAILQ_FIRST(&g->masks));
}

static loami_local_mask *find(loam_grammar *g, const loami_frame *f)
{
    loami_local_mask *l = g->buckets[bucket_of(f->state, f->lo, f->hi)];
    while (l && (l->state != f->state || l->lo != f->lo || l->hi != f->hi)) l = l->next;
    if (!l) return NULL;
    TAILQ_REMOVE(&g->masks, l, used);
    TAILQ_INSERT_TAIL(&g->masks, l, used);
    return l;
}

static loami_local_mask *make(loam_grammar *g, const loami_frame *f)
{
    enum { SOME = 64 };
    loami_local_mask *l = calloc(1, sizeof *l);
    walk w = { .g = g, .cap_open = SOME, .work_until = g->memo.work + WALK_WORK };
    w.bits = calloc(g->vocab->n_words, sizeof *w.bits);
    w.open = malloc(SOME * sizeof *w.open);
    w.open_token = malloc(SOME * sizeof *w.open_token);
    if (!l || !w.bits || !w.open || !w.open_token) {
        free(l);
        free(w.bits);
        free(w.open);
        free(w.open_token);
        return NULL;
    }
    w.states[0] = loami_memo_local(&g->memo, f->state, f->lo, f->hi);
    w.left[0] = false; /* what leaves before it reads is for the frames below, which are in the set themselves */
    walk_nodes(&w, 0, g->vocab->n_nodes);
    *l = (loami_local_mask){ .state = f->state,
                             .lo = f->lo,
                             .hi = f->hi,
                             .allowed = w.bits,
                             .open = w.open,
                             .open_token = w.open_token,
                             .n_open = w.n_open };
    uint32_t b = bucket_of(l->state, l->lo, l->hi);
    l->next = g->buckets[b];
    g->buckets[b] = l;
    TAILQ_INSERT_TAIL(&g->masks, l, used);
    g->masks_bytes += mask_bytes(g, l);
    return l;
}

/* Counts that no token can exhaust are as good as none, so that long strings share their masks. */
static loami_frame without_far_limits(loami_frame f)
{
    if (f.lo != LOAMI_NO_LIMIT && f.lo > LOAMI_TOKEN_BYTES) f.lo = LOAMI_TOKEN_BYTES + 1;
    if (f.hi != LOAMI_NO_LIMIT && f.hi > LOAMI_TOKEN_BYTES) f.hi = LOAMI_NO_LIMIT;
    return f;
}

/* ---- the whole ---- */

/* Walks the open subtrees again, from the whole state. */
static void walk_open(walk *w, uint32_t state, const loami_local_mask *l)
{
    const loami_vocab *v = w->g->vocab;
    w->states[0] = state;
    for (uint32_t i = 0; i < l->n_open; i++) {
        const loami_vocab_node *node = &v->nodes[l->open[i]];
        const char *bytes = v->bytes + v->at[l->open_token[i]];
        uint32_t s = state;
        for (uint32_t d = 0; s && d + 1 < node->depth; d++)
            w->states[d + 1] = s = loami_memo_step(&w->g->memo, s, (uint8_t)bytes[d]);
        if (s) walk_nodes(w, l->open[i], l->open[i] + node->skip);
    }
}

static void walk_all(walk *w, uint32_t state)
{
    w->states[0] = state;
    walk_nodes(w, 0, w->g->vocab->n_nodes);
}

/* Masks by frame, all of them kept while they are needed. False: out of memory, or there are too many. */
static bool by_frames(walk *w, uint32_t state)
{
    loam_grammar *g = w->g;
    uint32_t n = g->memo.states[state].n;
    if (n > FRAMES_APART) return false;
    for (uint32_t k = 0; k < n; k++) {
        loami_frame f = without_far_limits(g->memo.frames[g->memo.list[g->memo.states[state].first + k]]);
        loami_local_mask *l = find(g, &f);
        if (!l && !(l = make(g, &f))) return false;
        for (uint32_t i = 0; i < g->vocab->n_words; i++) w->bits[i] |= l->allowed[i];
        walk_open(w, state, l);
        while (g->masks_bytes > LOAMI_GRAMMAR_MASKS_BYTES && TAILQ_FIRST(&g->masks) != l)
            drop(g, TAILQ_FIRST(&g->masks));
    }
    return true;
}

uint32_t loami_mask_compute(loam_grammar *g, uint32_t state, uint64_t *bits)
{
    const loami_vocab *v = g->vocab;
    walk w = { .g = g, .bits = bits, .work_until = g->memo.work + WALK_WORK };
    uint32_t some = 0;
    memset(bits, 0, v->n_words * sizeof *bits);
    if (state == LOAMI_STATE_NONE) return 0;
    if (!by_frames(&w, state)) walk_all(&w, state);
    loami_stacks s = g->memo.states[state];
    for (uint32_t k = 0; k < s.n; k++) {
        const loami_state *at = &g->automaton->states[g->memo.frames[g->memo.list[s.first + k]].state];
        for (uint32_t i = at->tokens; i < at[1].tokens; i++) set(bits, g->automaton->tokens[i].id);
    }
    for (uint32_t i = 0; i < v->n_ends && s.ends; i++) set(bits, v->ends[i]);
    for (uint32_t i = 0; i < v->n_words; i++) some += bits[i] != 0;
    return some;
}
