/* What compiling looks at once the automata are there: ways that lead nowhere, and grammars that would not
 * end. */
#include "grammar/automaton.h"

#include <stdlib.h>
#include <string.h>

enum {
    COUNTED_STATES = 4096,
    LENGTHS = 1024 /* in which a pattern's lengths must have no gap */,
    ROUNDS = 64
};

typedef struct trim {
    loami_automaton *a;
    const loami_syntax *d;
    bool *alive;              /* [states] some text leads to the rule's end */
    uint32_t *back, *back_at; /* which edges and calls wait for a state: back[back_at[s]..back_at[s + 1]) */
    uint32_t *todo;
    bool *nullable; /* [rules] */
    loam_err *err;
} trim;

/* A call and an edge in one numbering, for `back`. */
static uint32_t owner_of(const loami_automaton *a, uint32_t item)
{
    uint32_t lo = 0, hi = a->n_states;
    bool is_call = item >= a->n_edges + a->n_tokens, is_token = !is_call && item >= a->n_edges;
    uint32_t at = is_call ? item - a->n_edges - a->n_tokens : is_token ? item - a->n_edges : item;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2, first = is_call    ? a->states[mid].calls
                                                   : is_token ? a->states[mid].tokens
                                                              : a->states[mid].edges;
        if (first <= at)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static bool satisfiable(const loami_automaton *a, const loami_call_edge *c)
{
    const loami_state *start = &a->states[a->starts[c->rule]];
    return start->need <= c->hi && start->most >= c->lo;
}

static int wait_for(trim *t, uint32_t pass, uint32_t state, uint32_t item)
{
    if (pass == 0)
        t->back_at[state + 1]++;
    else
        t->back[t->back_at[state]++] = item;
    return 0;
}

static bool index_back(trim *t)
{
    loami_automaton *a = t->a;
    uint32_t total = a->n_edges + a->n_tokens + 2 * a->n_calls;
    t->back = malloc((total + 1) * sizeof *t->back);
    t->back_at = calloc(a->n_states + 2, sizeof *t->back_at);
    if (!t->back || !t->back_at) return false;
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < a->n_edges; i++) wait_for(t, pass, a->edges[i].to, i);
        for (uint32_t i = 0; i < a->n_tokens; i++) wait_for(t, pass, a->tokens[i].to, a->n_edges + i);
        for (uint32_t i = 0; i < a->n_calls; i++) {
            wait_for(t, pass, a->calls[i].to, a->n_edges + a->n_tokens + i);
            wait_for(t, pass, a->starts[a->calls[i].rule], a->n_edges + a->n_tokens + i);
        }
        for (uint32_t s = 0; pass == 0 && s <= a->n_states; s++) t->back_at[s + 1] += t->back_at[s];
    }
    memmove(t->back_at + 1, t->back_at,
            (a->n_states + 1) * sizeof *t->back_at); /* filling moved each on to the next */
    t->back_at[0] = 0;
    return true;
}

static bool find_alive(trim *t)
{
    loami_automaton *a = t->a;
    uint32_t left = 0;
    memset(t->alive, 0, a->n_states);
    free(t->back);
    free(t->back_at);
    if (!index_back(t)) return false;
    for (uint32_t s = 0; s < a->n_states; s++)
        if (a->states[s].final) {
            t->alive[s] = true;
            t->todo[left++] = s;
        }
    while (left) {
        uint32_t s = t->todo[--left];
        for (uint32_t k = t->back_at[s]; k < t->back_at[s + 1]; k++) {
            uint32_t item = t->back[k], from = owner_of(a, item);
            if (t->alive[from]) continue;
            if (item >= a->n_edges + a->n_tokens) {
                const loami_call_edge *c = &a->calls[item - a->n_edges - a->n_tokens];
                if (!t->alive[c->to] || !t->alive[a->starts[c->rule]]) continue;
            }
            t->alive[from] = true;
            t->todo[left++] = from;
        }
    }
    return true;
}

/* Takes out edges that lead nowhere and calls that can't be satisfied. */
static void drop_dead(trim *t)
{
    loami_automaton *a = t->a;
    uint32_t edges = 0, calls = 0, tokens = 0;
    for (uint32_t s = 0; s < a->n_states; s++) {
        loami_state next = a->states[s + 1], at = a->states[s];
        a->states[s].edges = edges;
        a->states[s].calls = calls;
        a->states[s].tokens = tokens;
        for (uint32_t i = at.edges; i < next.edges; i++)
            if (t->alive[a->edges[i].to]) a->edges[edges++] = a->edges[i];
        for (uint32_t i = at.tokens; i < next.tokens; i++)
            if (t->alive[a->tokens[i].to]) a->tokens[tokens++] = a->tokens[i];
        for (uint32_t i = at.calls; i < next.calls; i++) {
            const loami_call_edge *c = &a->calls[i];
            bool fits = satisfiable(a, c);
            if (fits && t->alive[c->to] && t->alive[a->starts[c->rule]]) a->calls[calls++] = *c;
        }
    }
    a->states[a->n_states].edges = a->n_edges = edges;
    a->states[a->n_states].calls = a->n_calls = calls;
    a->states[a->n_states].tokens = a->n_tokens = tokens;
}

/* ---- counts ---- */

static bool counts(const loami_automaton *a, uint32_t lo, uint32_t hi)
{
    for (uint32_t i = a->states[lo].edges; i < a->states[hi].edges; i++)
        if (a->edges[i].counts) return true;
    for (uint32_t i = a->states[lo].calls; i < a->states[hi].calls; i++)
        if (a->calls[i].counts) return true;
    return false;
}

/* Better values for need and most of s from where it leads. True: they changed. */
static bool relax(loami_automaton *a, uint32_t s, uint32_t n)
{
    loami_state *st = &a->states[s];
    uint32_t need = st->need;
    int64_t most = st->most == LOAMI_NO_LIMIT
                       ? INT64_MAX
                       : (int64_t)st->most - 1; /* kept + 1 here, so that 0 is "no way" */
    if (st->final) need = 0;
    if (st->final && most < 0) most = 0;
    uint32_t n_edges = st[1].edges - st->edges,
             all = n_edges + st[1].calls - st->calls + st[1].tokens - st->tokens;
    for (uint32_t k = 0; k < all; k++) {
        uint32_t call = k - n_edges, n_calls = st[1].calls - st->calls;
        uint32_t to = k < n_edges      ? a->edges[st->edges + k].to
                      : call < n_calls ? a->calls[st->calls + call].to
                                       : a->tokens[st->tokens + call - n_calls].to;
        uint32_t w = k < n_edges      ? a->edges[st->edges + k].counts
                     : call < n_calls ? a->calls[st->calls + call].counts
                                      : 0;
        const loami_state *next = &a->states[to];
        if (next->need != LOAMI_NO_LIMIT && next->need + w < need) need = next->need + w;
        if (next->most == 0) continue;
        int64_t further = next->most == LOAMI_NO_LIMIT ? INT64_MAX : (int64_t)next->most - 1 + w;
        if (further > (int64_t)n) further = INT64_MAX; /* longer than any way without a circle */
        if (further > most) most = further;
    }
    uint32_t kept = most == INT64_MAX ? LOAMI_NO_LIMIT : (uint32_t)(most + 1);
    bool changed = need != st->need || kept != st->most;
    st->need = need;
    st->most = kept;
    return changed;
}

static int count_rule(trim *t, const loami_rule *rule, uint32_t lo, uint32_t hi)
{
    loami_automaton *a = t->a;
    bool counted = rule->counts_chars || rule->is_loop || counts(a, lo, hi);
    for (uint32_t s = lo; s < hi; s++) {
        a->states[s].need = counted ? LOAMI_NO_LIMIT : 0;
        a->states[s].most = counted ? 0 : LOAMI_NO_LIMIT;
    }
    if (!counted) return 0;
    if (hi - lo > COUNTED_STATES)
        return loami_fail(t->err, LOAM_E_UNSUPPORTED,
                          "a pattern of %u states can't be held to a length: put the length into the pattern",
                          hi - lo);
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t s = hi; s-- > lo;) changed |= relax(a, s, hi - lo);
    }
    for (uint32_t s = lo; s < hi; s++)
        if (a->states[s].most != LOAMI_NO_LIMIT && a->states[s].most) a->states[s].most--;
    return 0;
}

/* Whether some text of this rule, from some state on, can be k and k + 2 characters long, but not k + 1: then
 * need and most don't tell all. */
static bool has_gaps(const loami_automaton *a, uint32_t lo, uint32_t hi, uint64_t (*len)[LENGTHS / 64])
{
    bool changed = true, gap = false;
    memset(len, 0, (hi - lo) * sizeof *len);
    for (int pass = 0; changed && pass < LENGTHS; pass++) {
        changed = false;
        for (uint32_t s = hi; s-- > lo;) {
            uint64_t *to = len[s - lo];
            uint64_t before = 0, after = 0;
            for (int w = 0; w < LENGTHS / 64; w++) before += (uint64_t)__builtin_popcountll(to[w]);
            to[0] |= a->states[s].final;
            for (uint32_t i = a->states[s].edges; i < a->states[s + 1].edges; i++) {
                const uint64_t *from = len[a->edges[i].to - lo];
                bool one = a->edges[i].counts;
                for (int w = LENGTHS / 64; w-- > 0;)
                    to[w] |= one ? from[w] << 1 | (w ? from[w - 1] >> 63 : 0) : from[w];
            }
            for (int w = 0; w < LENGTHS / 64; w++) after += (uint64_t)__builtin_popcountll(to[w]);
            changed |= before != after;
        }
    }
    for (uint32_t s = lo; s < hi && !gap; s++) {
        bool begun = false, over = false;
        for (uint32_t k = 0; k < LENGTHS - 1 && !gap; k++) {
            bool has = len[s - lo][k / 64] >> (k % 64) & 1;
            gap = has && over;
            over |= begun && !has;
            begun |= has;
        }
    }
    return gap;
}

static int check_lengths(trim *t)
{
    const loami_automaton *a = t->a;
    for (uint32_t r = 1; r < a->n_rules; r++) {
        uint32_t lo = a->starts[r], hi = r + 1 < a->n_rules ? a->starts[r + 1] : a->n_states;
        if (!t->d->rules[r].counts_chars) continue;
        uint64_t(*len)[LENGTHS / 64] = malloc((hi - lo + 1) * sizeof *len);
        if (!len) return loami_fail_nomem(t->err);
        bool gap = has_gaps(a, lo, hi, len);
        free(len);
        if (gap)
            return loami_fail(
                t->err, LOAM_E_UNSUPPORTED,
                "%s: a length beside a pattern like this can't be held to: put the length into the pattern",
                t->d->rules[r].where ? t->d->rules[r].where : "pattern");
    }
    return 0;
}

/* ---- what would not end ---- */

/* States that the rule's start reaches without a byte, into todo; how many. */
static uint32_t reach_empty(trim *t, uint32_t rule, bool *ends)
{
    const loami_automaton *a = t->a;
    uint32_t n = 0;
    t->todo[n++] = a->starts[rule];
    *ends = false;
    for (uint32_t k = 0; k < n; k++) {
        const loami_state *s = &a->states[t->todo[k]];
        *ends |= s->final;
        for (uint32_t i = s->calls; i < s[1].calls; i++) {
            bool seen = !t->nullable[a->calls[i].rule] || a->calls[i].lo > 0;
            for (uint32_t j = 0; j < n && !seen; j++) seen = t->todo[j] == a->calls[i].to;
            if (!seen) t->todo[n++] = a->calls[i].to;
        }
    }
    return n;
}

static void find_nullable(trim *t)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t r = t->a->n_rules; r-- > 1;) {
            bool ends = false;
            if (t->nullable[r]) continue;
            reach_empty(t, r, &ends);
            t->nullable[r] = ends;
            changed |= ends;
        }
    }
}

static int left_recursive(trim *t, uint32_t rule)
{
    const char *name = t->d->rules[rule].name;
    return loami_fail(t->err, LOAM_E_UNSUPPORTED,
                      "the rule %s can begin with itself (left recursion): write it as a repetition",
                      name ? name : "(unnamed)");
}

/* Depth first over "can begin with": 1 = on the way, 2 = done. */
static int check_left_recursion(trim *t)
{
    const loami_automaton *a = t->a;
    int rc = 0;
    uint8_t *seen = calloc(a->n_rules, 1);
    uint32_t *stack = malloc((size_t)a->n_rules * 2 * sizeof *stack), depth = 0;
    if (!seen || !stack) rc = loami_fail_nomem(t->err);
    for (uint32_t r = 1; r < a->n_rules && rc == 0; r++) {
        if (seen[r]) continue;
        stack[0] = r;
        stack[1] = 0;
        depth = 1;
        seen[r] = 1;
        while (depth && rc == 0) { /* a rule and the number of the call to look at */
            uint32_t rule = stack[2 * depth - 2], want = stack[2 * depth - 1]++, at = 0, callee = 0;
            bool ends;
            uint32_t n = reach_empty(t, rule, &ends);
            for (uint32_t k = 0; k < n && !callee; k++) {
                const loami_state *s = &a->states[t->todo[k]];
                uint32_t here = s[1].calls - s->calls;
                if (want < at + here) callee = a->calls[s->calls + want - at].rule;
                at += here;
            }
            if (!callee) {
                seen[rule] = 2;
                depth--;
            } else if (seen[callee] == 1) {
                rc = left_recursive(t, callee);
            } else if (!seen[callee]) {
                seen[callee] = 1;
                stack[2 * depth] = callee;
                stack[2 * depth + 1] = 0;
                depth++;
            }
        }
    }
    free(seen);
    free(stack);
    return rc;
}

static int settle(trim *t)
{
    loami_automaton *a = t->a;
    for (uint32_t s = 0; s < a->n_states; s++) a->states[s].most = LOAMI_NO_LIMIT;
    for (int round = 0; round < ROUNDS; round++) {
        if (!find_alive(t)) return loami_fail_nomem(t->err);
        drop_dead(t);
        for (uint32_t r = 1; r < a->n_rules; r++) {
            int rc = count_rule(t, &t->d->rules[r], a->starts[r],
                                r + 1 < a->n_rules ? a->starts[r + 1] : a->n_states);
            if (rc < 0) return rc;
        }
        bool fits = true;
        for (uint32_t i = 0; i < a->n_calls && fits; i++) fits = satisfiable(a, &a->calls[i]);
        if (fits) return 0;
        if (!find_alive(t)) return loami_fail_nomem(t->err);
        drop_dead(t);
    }
    return loami_fail(t->err, LOAM_E_UNSUPPORTED, "the grammar has too many parts that nothing can satisfy");
}

int loami_trim(loami_automaton *a, const loami_syntax *d, loam_err *err)
{
    trim t = { .a = a, .d = d, .err = err };
    int rc;
    t.alive = malloc(a->n_states + 1);
    t.todo = malloc((a->n_states + 1) * sizeof *t.todo);
    t.nullable = calloc(a->n_rules, 1);
    rc = t.alive && t.todo && t.nullable ? settle(&t) : loami_fail_nomem(err);
    if (rc == 0 && !t.alive[a->starts[a->root]])
        rc = loami_fail(err, LOAM_E_ARG, "no text at all can satisfy it");
    if (rc == 0) rc = check_lengths(&t);
    if (rc == 0) find_nullable(&t);
    if (rc == 0) rc = check_left_recursion(&t);
    free(t.alive);
    free(t.todo);
    free(t.nullable);
    free(t.back);
    free(t.back_at);
    return rc;
}
