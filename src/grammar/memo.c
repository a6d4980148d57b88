#include "grammar/memo.h"

#include <stdlib.h>
#include <string.h>

/* Frames on their way into a set. */
typedef struct work {
    uint32_t todo[LOAMI_MEMO_STACKS * 2], n_todo;
    uint32_t seen[LOAMI_MEMO_STACKS * 2], n_seen;
    uint32_t found[LOAMI_MEMO_STACKS], n_found;
    bool ends, leaves;
} work;

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

static uint32_t mix(uint32_t h, uint32_t v)
{
    h = (h ^ v) * 0x9e3779b1u;
    return h ^ h >> 15;
}

/* ---- frames ---- */

static uint32_t frame_hash(const loami_frame *f)
{
    return mix(mix(mix(mix(0, f->state), f->lo), f->hi), f->below);
}

static bool rehash_frames(loami_memo *m, uint32_t size)
{
    uint32_t *t = calloc(size, sizeof *t);
    if (!t) return false;
    for (uint32_t i = 2; i < m->n_frames; i++) {
        uint32_t h = frame_hash(&m->frames[i]) & (size - 1);
        while (t[h]) h = (h + 1) & (size - 1);
        t[h] = i;
    }
    free(m->frame_table);
    m->frame_table = t;
    m->n_frame_table = size;
    return true;
}

/* The frame's number, or 0: too deep, or no way to hold to its counts. */
static uint32_t frame(loami_memo *m, uint32_t state, uint32_t lo, uint32_t hi, uint32_t below)
{
    const loami_state *s = &m->a->states[state];
    loami_frame f = { state, lo, hi, below, below ? m->frames[below].depth + 1 : 0 };
    if (s->need > hi || s->most < lo || f.depth > LOAMI_MEMO_DEPTH) return 0;
    uint32_t h = frame_hash(&f) & (m->n_frame_table - 1);
    for (; m->frame_table[h]; h = (h + 1) & (m->n_frame_table - 1)) {
        const loami_frame *at = &m->frames[m->frame_table[h]];
        if (at->state == state && at->lo == lo && at->hi == hi && at->below == below)
            return m->frame_table[h];
    }
    if (!grow((void **)&m->frames, &m->cap_frames, m->n_frames, sizeof *m->frames)) {
        m->failed = true;
        return 0;
    }
    m->frames[m->n_frames] = f;
    m->frame_table[h] = m->n_frames++;
    if (m->n_frames * 2 > m->n_frame_table && !rehash_frames(m, m->n_frame_table * 2)) m->failed = true;
    return m->n_frames - 1;
}

static uint32_t counted(uint32_t n, bool counts)
{
    return counts && n && n != LOAMI_NO_LIMIT ? n - 1 : n;
}

/* What an edge of frame f leads to, 0 if its counts forbid it. */
static uint32_t follow(loami_memo *m, const loami_frame *f, uint32_t to, bool counts)
{
    if (counts && f->hi == 0) return 0;
    return frame(m, to, counted(f->lo, counts), counted(f->hi, counts), f->below);
}

/* ---- sets ---- */

static void visit(work *w, uint32_t frame)
{
    if (!frame) return;
    for (uint32_t i = 0; i < w->n_seen; i++)
        if (w->seen[i] == frame) return;
    if (w->n_seen == LOAMI_MEMO_STACKS * 2) return;
    w->seen[w->n_seen++] = frame;
    w->todo[w->n_todo++] = frame;
}

static void enter(loami_memo *m, work *w, loami_frame f, const loami_call_edge *c)
{
    const loami_state *to = &m->a->states[c->to];
    uint32_t below;
    if (c->counts && f.hi == 0) return;
    bool nothing_left = to->final && counted(f.lo, c->counts) == 0 && to->edges == to[1].edges &&
                        to->calls == to[1].calls && to->tokens == to[1].tokens;
    if (nothing_left)
        below = f.below; /* a last call takes the caller's place */
    else if (!(below = follow(m, &f, c->to, c->counts)))
        return;
    visit(w, frame(m, m->a->starts[c->rule], c->lo, c->hi, below));
}

/* Adds what the frames reach without reading: rules called, callers of rules that may end. */
static void close_work(loami_memo *m, work *w)
{
    while (w->n_todo) {
        uint32_t number = w->todo[--w->n_todo];
        if (number == LOAMI_FRAME_OUTSIDE) {
            w->leaves = true;
            continue;
        }
        loami_frame f = m->frames[number]; /* a copy: frames may move */
        const loami_state *s = &m->a->states[f.state];
        if (s->final && f.lo == 0) {
            if (f.below)
                visit(w, f.below);
            else
                w->ends = true;
        }
        for (uint32_t i = s->calls; i < s[1].calls; i++) enter(m, w, f, &m->a->calls[i]);
        bool reads = s->edges != s[1].edges || s->tokens != s[1].tokens;
        if (reads && w->n_found < LOAMI_MEMO_STACKS) w->found[w->n_found++] = number;
    }
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t set_hash(const uint32_t *v, uint32_t n, bool ends, bool leaves)
{
    uint32_t h = (uint32_t)ends << 1 | leaves;
    for (uint32_t i = 0; i < n; i++) h = mix(h, v[i]);
    return h;
}

static bool rehash_states(loami_memo *m, uint32_t size)
{
    uint32_t *t = calloc(size, sizeof *t);
    if (!t) return false;
    for (uint32_t i = 1; i < m->n_states; i++) {
        const loami_stacks *s = &m->states[i];
        uint32_t h = set_hash(m->list + s->first, s->n, s->ends, s->leaves) & (size - 1);
        while (t[h]) h = (h + 1) & (size - 1);
        t[h] = i;
    }
    free(m->state_table);
    m->state_table = t;
    m->n_state_table = size;
    return true;
}

static uint32_t no_memory(loami_memo *m)
{
    m->failed = true;
    return LOAMI_STATE_NONE;
}

static uint32_t intern(loami_memo *m, work *w)
{
    if (w->n_found == 0 && !w->ends && !w->leaves) return LOAMI_STATE_NONE;
    if (w->n_found > 1) qsort(w->found, w->n_found, sizeof *w->found, by_number);
    uint32_t h = set_hash(w->found, w->n_found, w->ends, w->leaves) & (m->n_state_table - 1);
    for (; m->state_table[h]; h = (h + 1) & (m->n_state_table - 1)) {
        const loami_stacks *s = &m->states[m->state_table[h]];
        if (s->n == w->n_found && s->ends == w->ends && s->leaves == w->leaves &&
            memcmp(m->list + s->first, w->found, s->n * sizeof *w->found) == 0)
            return m->state_table[h];
    }
    if (!grow((void **)&m->states, &m->cap_states, m->n_states, sizeof *m->states) ||
        !grow((void **)&m->list, &m->cap_list, m->n_list + w->n_found, sizeof *m->list))
        return no_memory(m);
    memcpy(m->list + m->n_list, w->found, w->n_found * sizeof *w->found);
    m->states[m->n_states] = (loami_stacks){ m->n_list, w->n_found, w->ends, w->leaves, NULL };
    m->n_list += w->n_found;
    m->state_table[h] = m->n_states++;
    if (m->n_states * 2 > m->n_state_table && !rehash_states(m, m->n_state_table * 2)) return no_memory(m);
    return m->n_states - 1;
}

static uint32_t of_frame(loami_memo *m, uint32_t number)
{
    work w;
    w.n_todo = w.n_seen = w.n_found = 0;
    w.ends = w.leaves = false;
    visit(&w, number);
    close_work(m, &w);
    return intern(m, &w);
}

uint32_t loami_memo_start(loami_memo *m)
{
    return of_frame(m, frame(m, m->a->starts[m->a->root], 0, LOAMI_NO_LIMIT, 0));
}

uint32_t loami_memo_local(loami_memo *m, uint32_t state, uint32_t lo, uint32_t hi)
{
    return of_frame(m, frame(m, state, lo, hi, LOAMI_FRAME_OUTSIDE));
}

static uint32_t step(loami_memo *m, uint32_t state, uint8_t byte)
{
    work w;
    uint32_t first = m->states[state].first, n = m->states[state].n;
    w.n_todo = w.n_seen = w.n_found = 0;
    w.ends = w.leaves = false;
    for (uint32_t k = 0; k < n; k++) {
        loami_frame f = m->frames[m->list[first + k]];
        const loami_state *s = &m->a->states[f.state];
        for (uint32_t i = s->edges; i < s[1].edges; i++) {
            const loami_edge *e = &m->a->edges[i];
            if (e->lo <= byte && byte <= e->hi) visit(&w, follow(m, &f, e->to, e->counts));
        }
    }
    close_work(m, &w);
    m->work += w.n_seen * (w.n_seen / 16 + 1);
    return intern(m, &w);
}

uint32_t loami_memo_step(loami_memo *m, uint32_t state, uint8_t byte)
{
    uint32_t *row = m->states[state].row;
    if (!row) {
        if (!(row = malloc(256 * sizeof *row))) return no_memory(m);
        memset(row, 0xff, 256 * sizeof *row);
        m->states[state].row = row;
        m->n_rows++;
    }
    if (row[byte] == LOAMI_STATE_UNKNOWN) {
        uint32_t to = step(m, state, byte);
        m->states[state].row[byte] = to;
        return to;
    }
    return row[byte];
}

uint32_t loami_memo_step_token(loami_memo *m, uint32_t state, int32_t token)
{
    work w;
    uint32_t first = m->states[state].first, n = m->states[state].n;
    w.n_todo = w.n_seen = w.n_found = 0;
    w.ends = w.leaves = false;
    for (uint32_t k = 0; k < n; k++) {
        loami_frame f = m->frames[m->list[first + k]];
        const loami_state *s = &m->a->states[f.state];
        for (uint32_t i = s->tokens; i < s[1].tokens; i++)
            if (m->a->tokens[i].id == token) visit(&w, follow(m, &f, m->a->tokens[i].to, false));
    }
    close_work(m, &w);
    return intern(m, &w);
}

/* ---- memory ---- */

int loami_memo_open(loami_memo *m, const loami_automaton *a, loam_err *err)
{
    *m = (loami_memo){ .a = a, .n_frames = 2, .n_states = 1 };
    bool ok = grow((void **)&m->frames, &m->cap_frames, 2, sizeof *m->frames) &&
              grow((void **)&m->states, &m->cap_states, 1, sizeof *m->states) && rehash_frames(m, 256) &&
              rehash_states(m, 256);
    if (!ok) {
        loami_memo_close(m);
        return loami_fail_nomem(err);
    }
    memset(m->frames, 0, 2 * sizeof *m->frames);
    memset(m->states, 0, sizeof *m->states);
    return 0;
}

void loami_memo_close(loami_memo *m)
{
    for (uint32_t i = 1; i < m->n_states; i++) free(m->states[i].row);
    free(m->frames);
    free(m->frame_table);
    free(m->states);
    free(m->state_table);
    free(m->list);
    *m = (loami_memo){ 0 };
}

size_t loami_memo_bytes(const loami_memo *m)
{
    return (size_t)m->n_rows * 1024 + m->cap_frames * sizeof *m->frames + m->cap_states * sizeof *m->states +
           (m->cap_list + m->n_frame_table + m->n_state_table) * sizeof *m->list;
}

/* A frame and all below it in the new memo. */
static uint32_t move_frame(loami_memo *to, const loami_memo *from, uint32_t number)
{
    uint32_t path[LOAMI_MEMO_DEPTH + 2], n = 0;
    for (; number > LOAMI_FRAME_OUTSIDE; number = from->frames[number].below) path[n++] = number;
    while (n) {
        const loami_frame *f = &from->frames[path[--n]];
        number = frame(to, f->state, f->lo, f->hi, number);
        if (!number) return 0;
    }
    return number;
}

static uint32_t move_state(loami_memo *to, const loami_memo *from, uint32_t number)
{
    work w;
    const loami_stacks *s = &from->states[number];
    if (number == LOAMI_STATE_NONE) return number;
    w.n_todo = w.n_seen = w.n_found = 0;
    w.ends = s->ends;
    w.leaves = s->leaves;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t f = move_frame(to, from, from->list[s->first + i]);
        if (f) w.found[w.n_found++] = f;
    }
    return intern(to, &w); /* cppcheck-suppress ctuuninitvar */
}

void loami_memo_clean(loami_memo *m, uint32_t *const *roots, uint32_t n)
{
    loami_memo fresh;
    if (loami_memo_open(&fresh, m->a, NULL) < 0) return; /* later, then */
    for (uint32_t i = 0; i < n; i++) *roots[i] = move_state(&fresh, m, *roots[i]);
    fresh.failed |= m->failed;
    fresh.work = m->work;
    loami_memo_close(m);
    *m = fresh;
}
