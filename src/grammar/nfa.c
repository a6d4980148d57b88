/* Expressions to a nondeterministic automaton, from the end to the beginning: each part is told where to go
 * on, so that a loop's body leads right back to the loop and states that mean the same are the same. */
#include "grammar/automaton.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { INLINE_STATES = 192 /* of a repetition written out; more become a loop that counts */ };

int loami_nfa_fail(loami_nfa *n, int code, const char *words)
{
    if (n->rc == 0) n->rc = loami_fail(n->err, code, "%s", words);
    return n->rc;
}

static uint32_t too_large(loami_nfa *n)
{
    loami_nfa_fail(n, LOAM_E_UNSUPPORTED,
                   "the grammar is too large once repetitions are written out: make it smaller");
    return 0;
}

static uint32_t state(loami_nfa *n)
{
    if (n->rc < 0) return 0;
    if (n->n_states == n->cap_states) {
        uint32_t cap = n->cap_states ? n->cap_states * 2 : 1024;
        if (cap > LOAMI_NFA_STATES) return too_large(n);
        uint32_t *first = realloc(n->first, cap * sizeof *first);
        if (first) n->first = first;
        bool *final = realloc(n->final, cap * sizeof *final);
        if (final) n->final = final;
        if (!first || !final) {
            loami_nfa_fail(n, LOAM_E_NOMEM, "out of memory");
            return 0;
        }
        n->cap_states = cap;
    }
    n->first[n->n_states] = 0;
    n->final[n->n_states] = false;
    return n->n_states++;
}

static void arc(loami_nfa *n, uint32_t from, loami_arc a)
{
    if (n->rc < 0) return;
    if (n->n_arcs + 1 >= n->cap_arcs) {
        uint32_t cap = n->cap_arcs ? n->cap_arcs * 2 : 2048;
        loami_arc *arcs = cap <= 4 * LOAMI_NFA_STATES ? realloc(n->arcs, cap * sizeof *arcs) : NULL;
        if (!arcs) {
            too_large(n);
            return;
        }
        n->arcs = arcs;
        n->cap_arcs = cap;
    }
    a.next = n->first[from];
    n->arcs[++n->n_arcs] = a;
    n->first[from] = n->n_arcs;
}

static void skip(loami_nfa *n, uint32_t from, uint32_t to)
{
    arc(n, from, (loami_arc){ .kind = LOAMI_A_EMPTY, .to = to });
}

static void bytes_arc(loami_nfa *n, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to, bool counts)
{
    while (n->syntax->absent[lo] && lo < hi) lo++;
    while (n->syntax->absent[hi] && lo < hi) hi--;
    if (n->syntax->absent[lo]) return; /* what no token can write would be a dead end */
    arc(n, from, (loami_arc){ .kind = LOAMI_A_BYTES, .lo = lo, .hi = hi, .to = to, .counts = counts });
}

/* ---- characters ---- */

/* Bytes lo[i]..hi[i] for each i, one after the other. */
static void chain(loami_nfa *n, uint32_t from, const uint8_t *lo, const uint8_t *hi, size_t len, uint32_t to,
                  bool counts)
{
    uint32_t next = to;
    for (size_t i = len; i-- > 1;) {
        uint32_t s = state(n);
        bytes_arc(n, s, lo[i], hi[i], next, false);
        next = s;
    }
    bytes_arc(n, from, lo[0], hi[0], next, counts);
}

/* A range of characters, split until each part is a product of byte ranges (Thompson's construction for
 * UTF-8). */
static void range(loami_nfa *n, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to, bool counts)
{
    static const uint32_t last[] = { 0x7f, 0x7ff, 0xffff };
    uint8_t a[4], b[4];
    for (int i = 0; i < 3; i++) {
        if (lo <= last[i] && hi > last[i]) {
            range(n, from, lo, last[i], to, counts);
            range(n, from, last[i] + 1, hi, to, counts);
            return;
        }
    }
    for (int i = 1; i < 4 && hi > 0x7f; i++) {
        uint32_t low = (1u << (6 * i)) - 1;
        if ((lo & ~low) == (hi & ~low)) continue;
        if (lo & low) {
            range(n, from, lo, lo | low, to, counts);
            range(n, from, (lo | low) + 1, hi, to, counts);
            return;
        }
        if ((hi & low) != low) {
            range(n, from, lo, (hi & ~low) - 1, to, counts);
            range(n, from, hi & ~low, hi, to, counts);
            return;
        }
    }
    size_t len = loami_utf8_put((char *)a, lo);
    loami_utf8_put((char *)b, hi);
    chain(n, from, a, b, len, to, counts);
}

static void escape(loami_nfa *n, uint32_t from, const char *text, uint32_t to, bool counts)
{
    chain(n, from, (const uint8_t *)text, (const uint8_t *)text, strlen(text), to, counts);
}

/* \uXXXX of any character but the halves of surrogate pairs. */
static void any_unicode_escape(loami_nfa *n, uint32_t from, uint32_t to, bool counts)
{
    static const char *const hex[] = { "09", "af", "AF" };
    static const struct {
        const char *first;
        const char *second;
    } heads[] = {
        { "09", "09" }, { "09", "af" }, { "09", "AF" }, { "ac", "09" }, { "ac", "af" }, { "ac", "AF" },
        { "AC", "09" }, { "AC", "af" }, { "AC", "AF" }, { "ef", "09" }, { "ef", "af" }, { "ef", "AF" },
        { "EF", "09" }, { "EF", "af" }, { "EF", "AF" }, { "dd", "07" }, { "DD", "07" },
    };
    uint32_t backslash = state(n), u = state(n), third = state(n), fourth = state(n);
    bytes_arc(n, from, '\\', '\\', backslash, counts);
    bytes_arc(n, backslash, 'u', 'u', u, false);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        uint32_t s = state(n);
        bytes_arc(n, u, (uint8_t)heads[i].first[0], (uint8_t)heads[i].first[1], s, false);
        bytes_arc(n, s, (uint8_t)heads[i].second[0], (uint8_t)heads[i].second[1], third, false);
    }
    for (int i = 0; i < 3; i++) {
        bytes_arc(n, third, (uint8_t)hex[i][0], (uint8_t)hex[i][1], fourth, false);
        bytes_arc(n, fourth, (uint8_t)hex[i][0], (uint8_t)hex[i][1], to, false);
    }
}

/* A control character, a quote or a backslash within a JSON string. */
static void escaped(loami_nfa *n, uint32_t from, uint32_t c, uint32_t to, bool counts)
{
    static const char shorts[][3] = { "\b\\b", "\f\\f", "\n\\n", "\r\\r", "\t\\t", "\"\\\"", "\\\\\\" };
    static const char hex[] = "0123456789abcdef";
    char text[7] = { '\\', 'u', '0', '0', hex[c >> 4 & 15], hex[c & 15], 0 };
    for (size_t i = 0; i < sizeof shorts / sizeof *shorts; i++)
        if ((uint32_t)shorts[i][0] == c) {
            escape(n, from, (char[]){ shorts[i][1], shorts[i][2], 0 }, to, counts);
            return;
        }
    escape(n, from, text, to, counts);
}

static void quoted(loami_nfa *n, uint32_t from, const loami_chars *chars, uint32_t to, bool counts)
{
    bool all = chars->n == 2 && chars->ranges[0].lo == 0 && chars->ranges[0].hi == 0xd7ff &&
               chars->ranges[1].hi == 0x10ffff;
    for (uint32_t i = 0; i < chars->n; i++) {
        uint32_t lo = chars->ranges[i].lo, hi = chars->ranges[i].hi;
        for (uint32_t c = lo; c <= hi && c <= '\\'; c++)
            if (c < ' ' || c == '"' || c == '\\') escaped(n, from, c, to, counts);
        static const loami_range raw[] = { { ' ', '!' }, { '#', '[' }, { ']', 0x10ffff } };
        for (int k = 0; k < 3; k++) {
            uint32_t a = lo > raw[k].lo ? lo : raw[k].lo, b = hi < raw[k].hi ? hi : raw[k].hi;
            if (a <= b) range(n, from, a, b, to, counts);
        }
    }
    if (!all) return;
    escape(n, from, "\\/", to, counts);
    any_unicode_escape(n, from, to, counts);
}

static void characters(loami_nfa *n, uint32_t from, const loami_expr *x, uint32_t to, bool counts)
{
    if (x->kind == LOAMI_X_QUOTED) {
        quoted(n, from, &x->u.chars, to, counts);
        return;
    }
    for (uint32_t i = 0; i < x->u.chars.n; i++)
        range(n, from, x->u.chars.ranges[i].lo, x->u.chars.ranges[i].hi, to, counts);
}

/* ---- text without certain words ---- */

static uint32_t longest_suffix(loami_expr *const *words, uint32_t n_words, const char *text, size_t n,
                               uint32_t *word)
{
    for (size_t skipped = 0; skipped < n; skipped++)
        for (uint32_t w = 0; w < n_words; w++)
            if (words[w]->n >= n - skipped && memcmp(words[w]->u.bytes, text + skipped, n - skipped) == 0) {
                *word = w;
                return (uint32_t)(n - skipped);
            }
    *word = 0;
    return 0;
}

static bool ends_in_word(loami_expr *const *words, uint32_t n_words, const char *text, size_t n)
{
    for (uint32_t w = 0; w < n_words; w++)
        if (words[w]->n <= n && memcmp(words[w]->u.bytes, text + n - words[w]->n, words[w]->n) == 0)
            return true;
    return false;
}

enum { WORD = 128, WORDS = 16 };

/* The arcs of the state after k bytes of a word; neighbours that lead to the same place are one. */
static void follow(loami_nfa *n, const loami_expr *x, uint32_t s, const char *word, uint32_t k,
                   uint32_t (*states)[WORD], uint32_t start)
{
    char text[WORD + 1];
    uint32_t which, to, run = UINT32_MAX;
    int from = 0;
    memcpy(text, word, k);
    for (int c = 0; c <= 256; c++) {
        text[k] = (char)c;
        bool ends = c == 256 || ends_in_word(x->u.items, x->n, text, k + 1);
        uint32_t len = ends ? 0 : longest_suffix(x->u.items, x->n, text, k + 1, &which);
        to = ends ? UINT32_MAX : len ? states[which][len] : start;
        if (c && to == run) continue;
        if (c && run != UINT32_MAX) bytes_arc(n, s, (uint8_t)from, (uint8_t)(c - 1), run, false);
        run = to;
        from = c;
    }
}

/* Aho and Corasick's automaton: a state for each beginning of a word; completing one leads nowhere. */
static uint32_t until(loami_nfa *n, const loami_expr *x, uint32_t next)
{
    uint32_t states[WORDS][WORD], start = state(n);
    if (x->n > WORDS) return too_large(n);
    for (uint32_t w = 0; w < x->n; w++) {
        if (x->u.items[w]->kind != LOAMI_X_BYTES || x->u.items[w]->n >= WORD) return too_large(n);
        for (uint32_t k = 0; k < x->u.items[w]->n; k++) {
            states[w][k] = k == 0 ? start : 0;
            for (uint32_t v = 0; v < w && k && !states[w][k]; v++)
                if (x->u.items[v]->n > k && memcmp(x->u.items[v]->u.bytes, x->u.items[w]->u.bytes, k) == 0)
                    states[w][k] = states[v][k];
            if (!states[w][k]) states[w][k] = state(n);
        }
    }
    if (n->rc < 0) return 0;
    skip(n, start, next);
    if (x->n == 0) bytes_arc(n, start, 0, 255, start, false);
    for (uint32_t w = 0; w < x->n; w++)
        for (uint32_t k = 0; k < x->u.items[w]->n; k++) {
            uint32_t s = states[w][k];
            if (s == start ? w > 0 : n->first[s] != 0) continue;
            if (s != start) skip(n, s, next);
            follow(n, x, s, x->u.items[w]->u.bytes, k, states, start);
        }
    return start;
}

/* ---- repetition ---- */

static uint32_t build(loami_nfa *n, const loami_expr *x, uint32_t next);

/* About how many states x takes; above the limit it need not be exact. */
static uint32_t size_of(const loami_expr *x, uint32_t limit)
{
    uint64_t sum = 1;
    switch (x->kind) {
    case LOAMI_X_BYTES: return x->n;
    case LOAMI_X_CHARS: return 1 + 2 * x->u.chars.n;
    case LOAMI_X_QUOTED: return 24;
    case LOAMI_X_SEQ:
    case LOAMI_X_ALT:
        for (uint32_t i = 0; i < x->n && sum <= limit; i++) sum += size_of(x->u.items[i], limit);
        break;
    case LOAMI_X_REPEAT:
        sum = size_of(x->u.items[0], limit) + (x->u.items[1] ? 4 : 0);
        sum *= x->hi != LOAMI_NO_LIMIT ? x->hi : x->lo ? x->lo : 1;
        break;
    case LOAMI_X_MEMBERS:
    case LOAMI_X_TEXT: return limit + 1;
    default: break;
    }
    return sum > limit ? limit + 1 : (uint32_t)sum;
}

static bool can_be_empty(const loami_syntax *d, const loami_expr *x, int depth)
{
    switch (x->kind) {
    case LOAMI_X_EMPTY:
    case LOAMI_X_TEXT: return true;
    case LOAMI_X_SEQ:
        for (uint32_t i = 0; i < x->n; i++)
            if (!can_be_empty(d, x->u.items[i], depth)) return false;
        return true;
    case LOAMI_X_ALT:
        for (uint32_t i = 0; i < x->n; i++)
            if (can_be_empty(d, x->u.items[i], depth)) return true;
        return false;
    case LOAMI_X_REPEAT: return x->lo == 0 || can_be_empty(d, x->u.items[0], depth);
    case LOAMI_X_RULE: /* a deep chain of rules counts as empty, which is the careful answer */
        return depth > 16 || !d->rules[x->u.rule].expr ||
               can_be_empty(d, d->rules[x->u.rule].expr, depth + 1);
    case LOAMI_X_MEMBERS:
        for (uint32_t i = 0; i < x->u.members->n; i++)
            if (x->u.members->required[i]) return false;
        return true;
    default: return false;
    }
}

static uint32_t star(loami_nfa *n, const loami_expr *item, uint32_t next)
{
    uint32_t loop = state(n), body = build(n, item, loop);
    skip(n, loop, body);
    skip(n, loop, next);
    return loop;
}

static uint32_t written_out(loami_nfa *n, const loami_expr *x, uint32_t next)
{
    const loami_expr *item = x->u.items[0];
    uint32_t at = next;
    if (x->hi == LOAMI_NO_LIMIT) at = star(n, item, next);
    for (uint32_t i = x->lo; x->hi != LOAMI_NO_LIMIT && i < x->hi && n->rc == 0; i++) {
        uint32_t s = state(n);
        skip(n, s, build(n, item, at));
        skip(n, s, next);
        at = s;
    }
    for (uint32_t i = 0; i < x->lo && n->rc == 0; i++) at = build(n, item, at);
    return at;
}

/* The loop over these items, whose limits a call brings. Loops over the same are the same rule. */
static uint32_t loop_rule(loami_nfa *n, const loami_expr *x)
{
    loami_syntax *d = n->syntax;
    for (uint32_t i = 1; i < d->n_rules && i < 4096; i++)
        if (d->rules[i].is_loop && d->rules[i].expr->u.items[0] == x->u.items[0] &&
            d->rules[i].expr->u.items[1] == x->u.items[1])
            return i;
    uint32_t r = loami_rule_new(d, NULL);
    if (!r) return too_large(n);
    d->rules[r].expr = (loami_expr *)x;
    d->rules[r].is_loop = true;
    return r;
}

static void call(loami_nfa *n, uint32_t from, uint32_t rule, uint32_t lo, uint32_t hi, bool counts,
                 uint32_t to)
{
    arc(n, from,
        (loami_arc){ .kind = LOAMI_A_CALL, .a = rule, .b = lo, .c = hi, .counts = counts, .to = to });
}

static uint32_t repeat(loami_nfa *n, const loami_expr *x, uint32_t next)
{
    const loami_expr *item = x->u.items[0];
    uint32_t times = x->hi != LOAMI_NO_LIMIT ? x->hi : x->lo;
    bool few = times <= 1 || ((uint64_t)times * size_of(item, INLINE_STATES) <= INLINE_STATES &&
                              item->kind != LOAMI_X_QUOTED);
    if (!x->u.items[1] && (few || n->counts_chars)) return written_out(n, x, next);
    if (can_be_empty(n->syntax, item, 0)) {
        if (x->hi == LOAMI_NO_LIMIT && !x->u.items[1]) return star(n, item, next);
        loami_nfa_fail(n, LOAM_E_UNSUPPORTED,
                       "something that can be empty is repeated too often: make it not empty, or repeat it "
                       "without limit");
        return 0;
    }
    uint32_t s = state(n), rule = loop_rule(n, x);
    call(n, s, rule, x->lo, x->hi, false, next);
    return s;
}

/* Items as a rule of their own, unless they are characters, or a rule already. */
static uint32_t item_rule(loami_nfa *n, loami_expr *item)
{
    if (item->kind == LOAMI_X_RULE && item->lo == 0 && item->hi == LOAMI_NO_LIMIT) return item->u.rule;
    uint32_t r = loami_rule_new(n->syntax, NULL);
    if (!r) return too_large(n);
    n->syntax->rules[r].expr = item;
    return r;
}

static uint32_t loop(loami_nfa *n, const loami_expr *x)
{
    loami_expr *item = x->u.items[0], *between = x->u.items[1];
    uint32_t s = state(n);
    n->final[s] = n->rc == 0;
    if (!between && (item->kind == LOAMI_X_CHARS || item->kind == LOAMI_X_QUOTED)) {
        characters(n, s, item, s, true);
        return s;
    }
    uint32_t rule = item_rule(n, item);
    if (!between) {
        call(n, s, rule, 0, LOAMI_NO_LIMIT, true, s);
        return s;
    }
    uint32_t after = state(n), more = state(n);
    call(n, s, rule, 0, LOAMI_NO_LIMIT, true, after);
    call(n, more, rule, 0, LOAMI_NO_LIMIT, true, after);
    skip(n, after, build(n, between, more));
    if (n->rc == 0) n->final[after] = true;
    return s;
}

/* ---- expressions ---- */

static uint32_t members(loami_nfa *n, const loami_members *m, uint32_t next)
{
    uint32_t rest = next, first = next; /* with and without a member before */
    if (m->more) {
        rest = state(n);
        uint32_t one = build(n, m->more, rest);
        skip(n, rest, next);
        skip(n, rest, build(n, m->separator, one));
        first = state(n);
        skip(n, first, next);
        skip(n, first, one);
    }
    for (uint32_t i = m->n; i-- > 0 && n->rc == 0;) {
        uint32_t one = build(n, m->items[i], rest), separated = build(n, m->separator, one);
        if (m->required[i]) {
            first = one;
            rest = separated;
            continue;
        }
        uint32_t r = state(n), f = state(n);
        skip(n, r, separated);
        skip(n, r, rest);
        skip(n, f, one);
        skip(n, f, first);
        rest = r;
        first = f;
    }
    return first;
}

static uint32_t build(loami_nfa *n, const loami_expr *x, uint32_t next)
{
    uint32_t s;
    if (n->rc < 0) return 0;
    switch (x->kind) {
    case LOAMI_X_EMPTY: return next;
    case LOAMI_X_NEVER: return state(n);
    case LOAMI_X_BYTES:
        s = state(n);
        chain(n, s, (const uint8_t *)x->u.bytes, (const uint8_t *)x->u.bytes, x->n, next, false);
        return s;
    case LOAMI_X_CHARS:
    case LOAMI_X_QUOTED:
        s = state(n);
        characters(n, s, x, next, n->counts_chars);
        return s;
    case LOAMI_X_SEQ:
        for (uint32_t i = x->n; i-- > 0;) next = build(n, x->u.items[i], next);
        return next;
    case LOAMI_X_ALT:
        s = state(n);
        for (uint32_t i = 0; i < x->n; i++) skip(n, s, build(n, x->u.items[i], next));
        return s;
    case LOAMI_X_REPEAT: return repeat(n, x, next);
    case LOAMI_X_RULE:
        s = state(n);
        call(n, s, x->u.rule, x->lo, x->hi, false, next);
        return s;
    case LOAMI_X_TOKEN:
        s = state(n);
        arc(n, s, (loami_arc){ .kind = LOAMI_A_TOKEN, .a = (uint32_t)x->u.token, .to = next });
        return s;
    case LOAMI_X_TEXT: return until(n, x, next);
    case LOAMI_X_MEMBERS: return members(n, x->u.members, next);
    }
    return next;
}

uint32_t loami_nfa_rule(loami_nfa *n, uint32_t rule)
{
    loami_rule r = n->syntax->rules[rule];
    n->counts_chars = r.counts_chars;
    if (r.is_loop) return loop(n, r.expr);
    uint32_t end = state(n);
    if (n->rc == 0) n->final[end] = true;
    return build(n, r.expr, end);
}

void loami_nfa_free(loami_nfa *n)
{
    free(n->first);
    free(n->final);
    free(n->arcs);
}
