#include "grammar/syntax.h"

#include <stdlib.h>
#include <string.h>

void loami_syntax_free(loami_syntax *d)
{
    loami_arena_free(&d->arena);
    free(d->rules);
    memset(d, 0, sizeof *d);
}

uint32_t loami_rule_new(loami_syntax *d, const char *name)
{
    if (d->failed) return 0;
    if (d->n_rules + 1 >= d->cap_rules) {
        uint32_t cap = d->cap_rules ? d->cap_rules * 2 : 64;
        loami_rule *rules = cap <= LOAMI_SYNTAX_RULES ? realloc(d->rules, cap * sizeof *rules) : NULL;
        if (!rules) {
            d->failed = true;
            return 0;
        }
        d->rules = rules;
        d->cap_rules = cap;
    }
    if (d->n_rules == 0) d->rules[d->n_rules++] = (loami_rule){ 0 };
    d->rules[d->n_rules] = (loami_rule){ .name = name ? loami_arena_strndup(&d->arena, name, strlen(name))
                                                      : NULL };
    return d->n_rules++;
}

static loami_expr *new_expr(loami_syntax *d, loami_expr_kind kind)
{
    loami_expr *x = d->n_exprs < LOAMI_SYNTAX_EXPRS ? loami_arena_alloc(&d->arena, sizeof *x) : NULL;
    if (!x) {
        d->failed = true;
        return NULL;
    }
    d->n_exprs++;
    x->kind = kind;
    return x;
}

loami_expr *loami_x_empty(loami_syntax *d)
{
    return new_expr(d, LOAMI_X_EMPTY);
}

loami_expr *loami_x_never(loami_syntax *d)
{
    return new_expr(d, LOAMI_X_NEVER);
}

loami_expr *loami_x_bytes(loami_syntax *d, const char *bytes, size_t n)
{
    loami_expr *x = new_expr(d, n ? LOAMI_X_BYTES : LOAMI_X_EMPTY);
    if (!x || n == 0) return x;
    x->n = (uint32_t)n;
    x->u.bytes = loami_arena_strndup(&d->arena, bytes, n);
    if (!x->u.bytes) d->failed = true;
    return x->u.bytes ? x : NULL;
}

loami_expr *loami_x_text(loami_syntax *d, const char *words)
{
    return loami_x_bytes(d, words, strlen(words));
}

/* ---- characters ---- */

static int by_lo(const void *a, const void *b)
{
    const loami_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

uint32_t loami_chars_normal(loami_range *r, uint32_t n)
{
    uint32_t k = 0;
    qsort(r, n, sizeof *r, by_lo);
    for (uint32_t i = 0; i < n; i++) {
        if (k && r[i].lo <= r[k - 1].hi + 1) {
            if (r[i].hi > r[k - 1].hi) r[k - 1].hi = r[i].hi;
        } else {
            r[k++] = r[i];
        }
    }
    return k;
}

uint32_t loami_chars_invert(const loami_range *r, uint32_t n, loami_range *out)
{
    uint32_t k = 0, from = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (r[i].lo > from) out[k++] = (loami_range){ from, r[i].lo - 1 };
        from = r[i].hi + 1;
    }
    if (from <= 0x10ffff) out[k++] = (loami_range){ from, 0x10ffff };
    return k;
}

loami_expr *loami_x_chars(loami_syntax *d, const loami_range *ranges, uint32_t n, bool quoted)
{
    loami_range *r = loami_arena_array(&d->arena, (size_t)n * 2 + 2, sizeof *r);
    loami_expr *x = new_expr(d, quoted ? LOAMI_X_QUOTED : LOAMI_X_CHARS);
    uint32_t k = 0;
    if (!r || !x) {
        d->failed = true;
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) { /* around the surrogates, which are no characters */
        loami_range a = { ranges[i].lo, ranges[i].hi < 0xd7ff ? ranges[i].hi : 0xd7ff };
        loami_range b = { ranges[i].lo > 0xe000 ? ranges[i].lo : 0xe000,
                          ranges[i].hi < 0x10ffff ? ranges[i].hi : 0x10ffff };
        if (a.lo <= a.hi) r[k++] = a;
        if (b.lo <= b.hi) r[k++] = b;
    }
    x->u.chars = (loami_chars){ r, loami_chars_normal(r, k) };
    if (k == 0) x->kind = LOAMI_X_NEVER;
    return x;
}

/* ---- made of others ---- */

static loami_expr *of_items(loami_syntax *d, loami_expr_kind kind, loami_expr *const *items, uint32_t n)
{
    loami_expr *x = new_expr(d, kind);
    for (uint32_t i = 0; i < n; i++)
        if (!items[i]) return NULL;
    if (!x || !(x->u.items = loami_arena_array(&d->arena, n + 1, sizeof *items))) {
        d->failed = true;
        return NULL;
    }
    if (n) memcpy(x->u.items, items, n * sizeof *items);
    x->n = n;
    return x;
}

loami_expr *loami_x_seq(loami_syntax *d, loami_expr *const *items, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (items[i] && items[i]->kind == LOAMI_X_NEVER) return items[i];
    return n == 0 ? loami_x_empty(d) : n == 1 ? items[0] : of_items(d, LOAMI_X_SEQ, items, n);
}

loami_expr *loami_x_alt(loami_syntax *d, loami_expr *const *items, uint32_t n)
{
    return n == 0 ? loami_x_never(d) : n == 1 ? items[0] : of_items(d, LOAMI_X_ALT, items, n);
}

loami_expr *loami_x_two(loami_syntax *d, loami_expr *a, loami_expr *b)
{
    return loami_x_seq(d, (loami_expr *[]){ a, b }, 2);
}

loami_expr *loami_x_either(loami_syntax *d, loami_expr *a, loami_expr *b)
{
    if (a && a->kind == LOAMI_X_NEVER) return b;
    if (b && b->kind == LOAMI_X_NEVER) return a;
    return loami_x_alt(d, (loami_expr *[]){ a, b }, 2);
}

loami_expr *loami_x_repeat(loami_syntax *d, loami_expr *item, loami_expr *between, uint32_t lo, uint32_t hi)
{
    if (!item) return NULL;
    if (hi == 0) return loami_x_empty(d);
    if (lo == 1 && hi == 1) return item;
    if (item->kind == LOAMI_X_NEVER) return lo ? item : loami_x_empty(d);
    loami_expr *x = new_expr(d, LOAMI_X_REPEAT);
    if (!x || !(x->u.items = loami_arena_array(&d->arena, 2, sizeof *x->u.items))) {
        d->failed = true;
        return NULL;
    }
    x->u.items[0] = item;
    x->u.items[1] = between;
    x->lo = lo;
    x->hi = hi;
    return x;
}

loami_expr *loami_x_rule(loami_syntax *d, uint32_t rule)
{
    loami_expr *x = rule ? new_expr(d, LOAMI_X_RULE) : NULL;
    if (!x) return NULL;
    x->u.rule = rule;
    x->hi = LOAMI_NO_LIMIT;
    return x;
}

loami_expr *loami_x_token(loami_syntax *d, int32_t id)
{
    loami_expr *x = new_expr(d, LOAMI_X_TOKEN);
    if (x) x->u.token = id;
    return x;
}

loami_expr *loami_x_until(loami_syntax *d, loami_expr *const *words, uint32_t n)
{
    return of_items(d, LOAMI_X_TEXT, words, n);
}

loami_expr *loami_x_members(loami_syntax *d, const loami_members *m)
{
    loami_expr *x = new_expr(d, LOAMI_X_MEMBERS);
    loami_members *copy = loami_arena_alloc(&d->arena, sizeof *copy);
    if (!x || !copy) {
        d->failed = true;
        return NULL;
    }
    *copy = *m;
    x->u.members = copy;
    for (uint32_t i = 0; i < m->n; i++)
        if (!m->items[i]) return NULL;
    return x;
}

void loami_exprs_put(loami_syntax *d, loami_exprs *l, loami_expr *x)
{
    if (!x) d->failed = true;
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 16;
        loami_expr **items = loami_arena_array(&d->arena, cap, sizeof *items);
        if (!items) {
            d->failed = true;
            return;
        }
        if (l->n) memcpy(items, l->items, l->n * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = x;
}
