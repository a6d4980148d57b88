/* The subset construction, a rule at a time. Calls and tokens are letters like bytes. */
#include "grammar/automaton.h"

#include <stdlib.h>
#include <string.h>

typedef struct set {
    uint32_t at, n; /* members, in sets.pool */
} set;

typedef struct sets {
    loami_automaton *a;
    loami_nfa *nfa;
    set *list; /* [n_list]: the DFA's states of this rule, from `base` on */
    uint32_t n_list, cap_list, base;
    uint32_t *pool; /* members of sets */
    uint32_t n_pool, cap_pool;
    uint32_t *table, n_table; /* hash of members -> place in list, + 1 */
    uint32_t *mark, stamp;    /* [nfa states] */
    uint32_t *todo, *found;   /* [nfa states] */
    uint32_t n_found;
} sets;

static bool grow(void **p, uint32_t *cap, uint32_t n, size_t size)
{
    if (n < *cap) return true;
    uint32_t more = *cap ? *cap * 2 : 256;
    while (more <= n) more *= 2;
    void *q = realloc(*p, more * size);
    if (!q) return false;
    *p = q;
    *cap = more;
    return true;
}

static int no_memory(sets *s)
{
    return loami_nfa_fail(s->nfa, LOAM_E_NOMEM, "out of memory");
}

static bool spend(sets *s, uint32_t work)
{
    if (work > LOAMI_COMPILE_WORK - s->nfa->work) {
        loami_nfa_fail(
            s->nfa, LOAM_E_UNSUPPORTED,
            "the grammar takes too long to compile: its choices begin too much alike, or it is too large");
        return false;
    }
    s->nfa->work += work;
    return true;
}

static bool matters(const loami_nfa *n, uint32_t state)
{
    if (n->final[state]) return true;
    for (uint32_t i = n->first[state]; i; i = n->arcs[i].next)
        if (n->arcs[i].kind != LOAMI_A_EMPTY) return true;
    return false;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* found: what the states can reach without a letter, as far as it matters. */
static void close_set(sets *s, const uint32_t *from, uint32_t n)
{
    const loami_nfa *nfa = s->nfa;
    uint32_t left = 0;
    s->stamp++;
    s->n_found = 0;
    for (uint32_t i = 0; i < n; i++)
        if (s->mark[from[i]] != s->stamp) {
            s->mark[from[i]] = s->stamp;
            s->todo[left++] = from[i];
        }
    while (left) {
        uint32_t at = s->todo[--left];
        if (!spend(s, 1)) return;
        if (matters(nfa, at)) s->found[s->n_found++] = at;
        for (uint32_t i = nfa->first[at]; i; i = nfa->arcs[i].next) {
            uint32_t to = nfa->arcs[i].to;
            if (nfa->arcs[i].kind != LOAMI_A_EMPTY || s->mark[to] == s->stamp) continue;
            s->mark[to] = s->stamp;
            s->todo[left++] = to;
        }
    }
    qsort(s->found, s->n_found, sizeof *s->found, by_number);
}

static uint32_t hash_of(const uint32_t *v, uint32_t n)
{
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < n; i++) h = (h ^ v[i]) * 16777619u, h ^= h >> 15;
    return h;
}

static bool rehash(sets *s)
{
    uint32_t n = s->n_table ? s->n_table * 2 : 256;
    uint32_t *t = calloc(n, sizeof *t);
    if (!t) return false;
    for (uint32_t i = 0; i < s->n_list; i++) {
        uint32_t h = hash_of(s->pool + s->list[i].at, s->list[i].n) & (n - 1);
        while (t[h]) h = (h + 1) & (n - 1);
        t[h] = i + 1;
    }
    free(s->table);
    s->table = t;
    s->n_table = n;
    return true;
}

/* The state for what was found, made if it is new: its number in the list. UINT32_MAX: failed. */
static uint32_t intern(sets *s)
{
    if (s->nfa->rc < 0) return UINT32_MAX;
    if (s->n_list * 2 >= s->n_table && !rehash(s)) return (uint32_t)no_memory(s) | UINT32_MAX;
    uint32_t h = hash_of(s->found, s->n_found) & (s->n_table - 1);
    for (; s->table[h]; h = (h + 1) & (s->n_table - 1)) {
        const set *at = &s->list[s->table[h] - 1];
        if (at->n == s->n_found && memcmp(s->pool + at->at, s->found, at->n * sizeof *s->found) == 0)
            return s->table[h] - 1;
    }
    if (s->base + s->n_list >= LOAMI_DFA_STATES) {
        loami_nfa_fail(s->nfa, LOAM_E_UNSUPPORTED,
                       "the grammar needs more than 65536 states: make it smaller");
        return UINT32_MAX;
    }
    if (!grow((void **)&s->list, &s->cap_list, s->n_list, sizeof *s->list) ||
        !grow((void **)&s->pool, &s->cap_pool, s->n_pool + s->n_found, sizeof *s->pool))
        return (uint32_t)no_memory(s) | UINT32_MAX;
    memcpy(s->pool + s->n_pool, s->found, s->n_found * sizeof *s->found);
    s->list[s->n_list] = (set){ s->n_pool, s->n_found };
    s->n_pool += s->n_found;
    s->table[h] = s->n_list + 1;
    return s->n_list++;
}

/* ---- a state's edges ---- */

/* Arcs of the set at hand, by kind. */
typedef struct letters {
    uint32_t *bytes, *others; /* numbers of arcs */
    uint32_t n_bytes, cap_bytes, n_others, cap_others;
    uint32_t *to; /* targets of one letter */
    uint32_t n_to, cap_to;
    uint32_t *order; /* [n_bytes] arcs over one byte by that byte, from the end on those over several */
    uint32_t cap_order, at[257], n_wide;
} letters;

static bool gather(sets *s, uint32_t which, letters *l)
{
    const loami_nfa *nfa = s->nfa;
    l->n_bytes = l->n_others = 0;
    for (uint32_t k = 0; k < s->list[which].n; k++)
        for (uint32_t i = nfa->first[s->pool[s->list[which].at + k]]; i; i = nfa->arcs[i].next) {
            bool byte = nfa->arcs[i].kind == LOAMI_A_BYTES;
            if (nfa->arcs[i].kind == LOAMI_A_EMPTY) continue;
            if (byte ? !grow((void **)&l->bytes, &l->cap_bytes, l->n_bytes, sizeof *l->bytes)
                     : !grow((void **)&l->others, &l->cap_others, l->n_others, sizeof *l->others))
                return no_memory(s) == 0;
            if (byte)
                l->bytes[l->n_bytes++] = i;
            else
                l->others[l->n_others++] = i;
        }
    bool room = grow((void **)&l->to, &l->cap_to, l->n_bytes + l->n_others + 1, sizeof *l->to) &&
                grow((void **)&l->order, &l->cap_order, l->n_bytes + 1, sizeof *l->order);
    return room || no_memory(s) == 0;
}

/* Fills order, at, n_wide and the borders of what leads to the same. */
static void sort_arcs(const sets *s, letters *l, bool counts, bool border[257])
{
    uint32_t next[257];
    const loami_arc *arcs = s->nfa->arcs;
    memset(l->at, 0, sizeof l->at);
    l->n_wide = 0;
    for (uint32_t i = 0; i < l->n_bytes; i++) {
        const loami_arc *a = &arcs[l->bytes[i]];
        if (a->counts != counts) continue;
        border[a->lo] = border[a->hi + 1] = true;
        if (a->lo == a->hi) l->at[a->lo + 1]++;
        else l->order[l->n_bytes - ++l->n_wide] = l->bytes[i];
    }
    for (int c = 0; c < 256; c++) l->at[c + 1] += l->at[c];
    memcpy(next, l->at, sizeof next);
    for (uint32_t i = 0; i < l->n_bytes; i++) {
        const loami_arc *a = &arcs[l->bytes[i]];
        if (a->counts == counts && a->lo == a->hi) l->order[next[a->lo]++] = l->bytes[i];
    }
}

static bool put_edge(sets *s, uint32_t *cap, loami_edge e, bool joins)
{
    loami_automaton *a = s->a;
    loami_edge *last = a->n_edges ? &a->edges[a->n_edges - 1] : NULL;
    if (joins && last && last->to == e.to && last->counts == e.counts && last->hi + 1 == e.lo) {
        last->hi = e.hi;
        return true;
    }
    if (!grow((void **)&a->edges, cap, a->n_edges, sizeof *a->edges)) return no_memory(s) == 0;
    a->edges[a->n_edges++] = e;
    return true;
}

/* The edges over bytes that count, or those that don't. */
static bool byte_edges(sets *s, letters *l, bool counts, uint32_t *cap)
{
    bool border[257] = { false };
    uint32_t first = s->a->n_edges;
    const loami_arc *arcs = s->nfa->arcs;
    sort_arcs(s, l, counts, border);
    for (int lo = 0, hi; lo < 256; lo = hi) {
        for (hi = lo + 1; hi < 256 && !border[hi];) hi++;
        l->n_to = 0;
        if (!spend(s, l->n_wide + l->at[lo + 1] - l->at[lo] + 1)) return false;
        for (uint32_t i = l->at[lo]; i < l->at[lo + 1]; i++) l->to[l->n_to++] = arcs[l->order[i]].to;
        for (uint32_t i = l->n_bytes - l->n_wide; i < l->n_bytes; i++) {
            const loami_arc *a = &arcs[l->order[i]];
            if (a->lo <= lo && lo <= a->hi) l->to[l->n_to++] = a->to;
        }
        if (l->n_to == 0) continue;
        close_set(s, l->to, l->n_to);
        uint32_t to = intern(s);
        if (to == UINT32_MAX) return false;
        loami_edge e = { (uint8_t)lo, (uint8_t)(hi - 1), counts, s->base + to };
        if (!put_edge(s, cap, e, s->a->n_edges > first)) return false;
    }
    return true;
}

static bool same_letter(const loami_arc *a, const loami_arc *b)
{
    return a->kind == b->kind && a->a == b->a &&
           (a->kind == LOAMI_A_TOKEN || (a->b == b->b && a->c == b->c && a->counts == b->counts));
}

static bool other_edges(sets *s, letters *l, uint32_t *cap_calls, uint32_t *cap_tokens)
{
    loami_automaton *a = s->a;
    const loami_arc *arcs = s->nfa->arcs;
    for (uint32_t i = 0; i < l->n_others; i++) {
        if (!l->others[i]) continue; /* its letter was looked at */
        const loami_arc *x = &arcs[l->others[i]];
        l->n_to = 0;
        if (!spend(s, l->n_others)) return false;
        for (uint32_t k = i; k < l->n_others; k++) {
            if (!l->others[k] || !same_letter(x, &arcs[l->others[k]])) continue;
            l->to[l->n_to++] = arcs[l->others[k]].to;
            l->others[k] = 0;
        }
        close_set(s, l->to, l->n_to);
        uint32_t to = intern(s);
        if (to == UINT32_MAX) return false;
        if (x->kind == LOAMI_A_CALL) {
            if (!grow((void **)&a->calls, cap_calls, a->n_calls, sizeof *a->calls)) return no_memory(s) == 0;
            a->calls[a->n_calls++] = (loami_call_edge){ x->a, s->base + to, x->b, x->c, x->counts };
        } else {
            if (!grow((void **)&a->tokens, cap_tokens, a->n_tokens, sizeof *a->tokens))
                return no_memory(s) == 0;
            a->tokens[a->n_tokens++] = (loami_token_edge){ (int32_t)x->a, s->base + to };
        }
    }
    return true;
}

static bool add_state(sets *s, uint32_t which, letters *l, uint32_t caps[4])
{
    loami_automaton *a = s->a;
    loami_state st = { .edges = a->n_edges, .calls = a->n_calls, .tokens = a->n_tokens };
    for (uint32_t k = 0; k < s->list[which].n; k++) st.final |= s->nfa->final[s->pool[s->list[which].at + k]];
    if (!grow((void **)&a->states, &caps[0], a->n_states + 1, sizeof *a->states)) return no_memory(s) == 0;
    a->states[a->n_states++] = st;
    return gather(s, which, l) && byte_edges(s, l, false, &caps[1]) && byte_edges(s, l, true, &caps[1]) &&
           other_edges(s, l, &caps[2], &caps[3]);
}

int loami_subset(loami_automaton *a, loami_nfa *n, uint32_t start, uint32_t *dfa_start)
{
    letters l = { 0 };
    sets s = { .a = a, .nfa = n, .base = a->n_states };
    uint32_t caps[4] = { a->n_states + 1, a->n_edges, a->n_calls,
                         a->n_tokens }; /* at least so many there are */
    if (n->rc < 0) return n->rc;
    s.mark = calloc(n->n_states, sizeof *s.mark);
    s.todo = malloc(n->n_states * sizeof *s.todo);
    s.found = malloc(n->n_states * sizeof *s.found);
    if (!s.mark || !s.todo || !s.found) {
        no_memory(&s);
        goto out;
    }
    close_set(&s, &start, 1);
    *dfa_start = s.base;
    if (intern(&s) == UINT32_MAX) goto out;
    for (uint32_t i = 0; i < s.n_list; i++)
        if (!add_state(&s, i, &l, caps)) break;
out:
    free(s.mark);
    free(s.todo);
    free(s.found);
    free(s.list);
    free(s.pool);
    free(s.table);
    free(l.bytes);
    free(l.others);
    free(l.to);
    free(l.order);
    return n->rc;
}
