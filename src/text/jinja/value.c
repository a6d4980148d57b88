#include "text/jinja/run.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SMALL_DICT = 8 };

static const char *const type_names[J_TYPES] = {
    [J_MISSING] = "missing", [J_UNDEF] = "Undefined", [J_NONE] = "NoneType", [J_BOOL] = "bool", [J_INT] = "int",
    [J_FLOAT] = "float", [J_STR] = "str", [J_LIST] = "list", [J_TUPLE] = "tuple", [J_DICT] = "dict",
    [J_RANGE] = "range", [J_ITER] = "generator", [J_NS] = "Namespace", [J_MACRO] = "Macro", [J_FUNC] = "function",
    [J_METHOD] = "builtin_function_or_method", [J_LOOP] = "LoopContext", [J_CYCLER] = "Cycler", [J_JOINER] = "Joiner",
};

const char *loami_j_typename(jval v)
{
    static const char *const views[] = { [J_KEYS] = "dict_keys", [J_VALUES] = "dict_values",
                                         [J_ITEMS] = "dict_items" };
    if (v.type == J_VIEW) return views[v.view->what];
    if (v.type == J_STR && v.s->markup) return "Markup";
    return type_names[v.type];
}

/* ---- lists ---- */

void loami_j_push(jlb *b, jval v)
{
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 8;
        jval *bigger = loami_j_array(b->r, cap, sizeof *bigger);
        if (b->n) memcpy(bigger, b->v, b->n * sizeof *bigger);
        b->v = bigger;
        b->cap = cap;
    }
    b->v[b->n++] = v;
    loami_j_work(b->r, 0);
}

jval loami_j_list(jrun *r, jtype type, jval *v, size_t n)
{
    jlist *l = loami_j_alloc(r, sizeof *l);
    *l = (jlist){ .v = v, .n = n };
    return (jval){ .type = type, .l = l };
}

jval loami_j_lbval(jlb *b, jtype type)
{
    return loami_j_list(b->r, type, b->v, b->n);
}

jval loami_j_pair(jrun *r, jval a, jval b)
{
    jval *v = loami_j_array(r, 2, sizeof *v);
    v[0] = a;
    v[1] = b;
    return loami_j_list(r, J_TUPLE, v, 2);
}

/* ---- dicts ---- */

jdict *loami_j_dict(jrun *r)
{
    return loami_j_alloc(r, sizeof(jdict));
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    return h ^ h >> 33;
}

static uint64_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 1099511628211u;
    return mix(h);
}

uint64_t loami_j_hash(jrun *r, jval v)
{
    uint64_t h = 7;
    switch (v.type) {
    case J_BOOL: return mix(v.b);
    case J_INT: return mix((uint64_t)v.i);
    case J_FLOAT:
        if (v.f >= -9e18 && v.f <= 9e18 && v.f == floor(v.f)) return mix((uint64_t)(int64_t)v.f);
        memcpy(&h, &v.f, sizeof h);
        return mix(h);
    case J_STR:
        loami_j_work(r, v.s->n);
        return hash_bytes(v.s->p, v.s->n);
    case J_TUPLE:
        loami_j_enter(r);
        for (size_t i = 0; i < v.l->n; i++) h = mix(h * 31 + loami_j_hash(r, v.l->v[i]));
        loami_j_leave(r);
        return h;
    case J_VIEW:
        if (v.view->what == J_VALUES) return mix((uint64_t)(uintptr_t)v.p);
        /* fall through */
    case J_LIST:
    case J_DICT: loami_j_fail(r, "unhashable type: '%s'", loami_j_typename(v));
    case J_NONE:
    case J_UNDEF: return mix(v.type);
    default: return mix((uint64_t)(uintptr_t)v.p);
    }
}

/* The number of the key's pair + 1, or 0 with *slot where it belongs in the index. */
static uint32_t dict_find(jrun *r, const jdict *d, jval k, uint64_t hash, size_t *slot)
{
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++)
            if (d->p[i].hash == hash && loami_j_equal(r, d->p[i].k, k)) return (uint32_t)i + 1;
        return 0;
    }
    size_t i = hash & (d->index_cap - 1);
    for (; d->index[i]; i = (i + 1) & (d->index_cap - 1)) {
        const jpair *p = &d->p[d->index[i] - 1];
        if (p->hash == hash && loami_j_equal(r, p->k, k)) return d->index[i];
    }
    *slot = i;
    return 0;
}

static void dict_grow(jrun *r, jdict *d)
{
    size_t cap = d->cap ? d->cap * 2 : SMALL_DICT;
    jpair *p = loami_j_array(r, cap, sizeof *p);
    if (d->n) memcpy(p, d->p, d->n * sizeof *p);
    d->p = p;
    d->cap = cap;
    if (cap <= SMALL_DICT) return;
    if (cap > UINT32_MAX / 4) loami_j_fail(r, "a dict is too large");
    d->index_cap = cap * 2;
    d->index = loami_j_array(r, d->index_cap, sizeof *d->index);
    for (size_t k = 0; k < d->n; k++) {
        size_t i = p[k].hash & (d->index_cap - 1);
        while (d->index[i]) i = (i + 1) & (d->index_cap - 1);
        d->index[i] = (uint32_t)k + 1;
    }
}

void loami_j_dict_set(jrun *r, jdict *d, jval k, jval v)
{
    uint64_t hash = loami_j_hash(r, k);
    if (d->n == d->cap) dict_grow(r, d);
    size_t slot = 0;
    uint32_t at = dict_find(r, d, k, hash, &slot);
    if (at) {
        d->p[at - 1].v = v;
        return;
    }
    d->p[d->n++] = (jpair){ k, v, hash };
    if (d->index) d->index[slot] = (uint32_t)d->n;
    loami_j_work(r, 0);
}

bool loami_j_dict_get(jrun *r, const jdict *d, jval k, jval *out)
{
    size_t slot;
    uint32_t at = dict_find(r, d, k, loami_j_hash(r, k), &slot);
    if (at) *out = d->p[at - 1].v;
    return at != 0;
}

bool loami_j_dict_gets(jrun *r, const jdict *d, const char *k, size_t n, jval *out)
{
    jstr s = { .p = k, .n = n };
    return loami_j_dict_get(r, d, (jval){ .type = J_STR, .s = &s }, out);
}

/* ---- equality ---- */

static bool equal_lists(jrun *r, const jlist *a, const jlist *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!loami_j_equal(r, a->v[i], b->v[i])) return false;
    return true;
}

static bool equal_dicts(jrun *r, const jdict *a, const jdict *b)
{
    jval other;
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!loami_j_dict_get(r, b, a->p[i].k, &other) || !loami_j_equal(r, a->p[i].v, other)) return false;
    return true;
}

static bool equal_ranges(const jrange *a, const jrange *b)
{
    if (a->len != b->len) return false;
    return a->len == 0 || (a->start == b->start && (a->len == 1 || a->step == b->step));
}

/* An int against a float, exactly. */
static bool equal_mixed(int64_t i, double f)
{
    return f >= -9223372036854775808.0 && f < 9223372036854775808.0 && f == floor(f) && (int64_t)f == i;
}

static bool equal_numbers(jval a, jval b)
{
    int64_t i, j;
    bool wa = loami_j_whole(a, &i), wb = loami_j_whole(b, &j);
    if (wa && wb) return i == j;
    if (wa) return equal_mixed(i, b.f);
    if (wb) return equal_mixed(j, a.f);
    return a.f == b.f;
}

static bool is_number(jval v)
{
    return v.type == J_BOOL || v.type == J_INT || v.type == J_FLOAT;
}

/* dict.keys() and .items() compare as sets. */
static bool equal_views(jrun *r, const jview *a, const jview *b)
{
    jval other;
    if (a == b) return true;
    if (a->what == J_VALUES || b->what == J_VALUES || a->d->n != b->d->n) return false;
    if (a->what != b->what) return a->d->n == 0;
    if (a->what == J_ITEMS) return equal_dicts(r, a->d, b->d);
    for (size_t i = 0; i < a->d->n; i++)
        if (!loami_j_dict_get(r, b->d, a->d->p[i].k, &other)) return false;
    return true;
}

bool loami_j_equal(jrun *r, jval a, jval b)
{
    bool same = false;
    if (is_number(a) && is_number(b)) return equal_numbers(a, b);
    if (a.type != b.type) return false;
    loami_j_enter(r);
    loami_j_work(r, 0);
    switch (a.type) {
    case J_NONE:
    case J_UNDEF: same = true; break;
    case J_STR:
        same = a.s->n == b.s->n && (a.s->p == b.s->p || memcmp(a.s->p, b.s->p, a.s->n) == 0);
        if (same) loami_j_work(r, a.s->n);
        break;
    case J_LIST:
    case J_TUPLE: same = a.l == b.l || equal_lists(r, a.l, b.l); break;
    case J_DICT: same = a.d == b.d || equal_dicts(r, a.d, b.d); break;
    case J_RANGE: same = equal_ranges(a.range, b.range); break;
    case J_VIEW: same = equal_views(r, a.view, b.view); break;
    case J_METHOD: same = a.method->fn == b.method->fn && loami_j_same(a.method->self, b.method->self); break;
    default: same = a.p == b.p; break;
    }
    loami_j_leave(r);
    return same;
}

/* ---- JSON in ---- */

jval loami_j_from_json(jrun *r, const json_t *v)
{
    jval out = loami_j_none();
    loami_j_enter(r);
    loami_j_work(r, 0);
    switch (json_typeof(v)) {
    case JSON_OBJECT: {
        jdict *d = loami_j_dict(r);
        const char *k;
        json_t *item;
        void *at;
        for (at = json_object_iter((json_t *)v); at; at = json_object_iter_next((json_t *)v, at)) {
            k = json_object_iter_key(at);
            item = json_object_iter_value(at);
            loami_j_dict_set(r, d, loami_j_str(r, k, strlen(k)), loami_j_from_json(r, item));
        }
        out = (jval){ .type = J_DICT, .d = d };
        break;
    }
    case JSON_ARRAY: {
        size_t n = json_array_size(v);
        jval *items = loami_j_array(r, n ? n : 1, sizeof *items);
        for (size_t i = 0; i < n; i++) items[i] = loami_j_from_json(r, json_array_get(v, i));
        out = loami_j_list(r, J_LIST, items, n);
        break;
    }
    case JSON_STRING: out = loami_j_str(r, json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: out = loami_j_int(json_integer_value(v)); break;
    case JSON_REAL: out = loami_j_float(json_real_value(v)); break;
    case JSON_TRUE:
    case JSON_FALSE: out = loami_j_bool(json_is_true(v)); break;
    case JSON_NULL: break;
    }
    loami_j_leave(r);
    return out;
}

/* ---- undefined ---- */

jval loami_j_undef_hint(jrun *r, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : n < (int)sizeof text ? (size_t)n : sizeof text - 1;
    char *copy = loami_j_alloc(r, len + 1);
    memcpy(copy, text, len);
    jundef *u = loami_j_alloc(r, sizeof *u);
    *u = (jundef){ .hint = loami_j_str(r, copy, len).s };
    return (jval){ .type = J_UNDEF, .u = u };
}

jval loami_j_undef_var(jrun *r, const jstr *name)
{
    jundef *u = loami_j_alloc(r, sizeof *u);
    *u = (jundef){ .name = name };
    return (jval){ .type = J_UNDEF, .u = u };
}

jval loami_j_undef_key(jrun *r, jval owner, jval key)
{
    jundef *u = loami_j_alloc(r, sizeof *u);
    *u = (jundef){ .owner = owner, .key = key, .name = key.type == J_STR ? key.s : NULL };
    return (jval){ .type = J_UNDEF, .u = u };
}

void loami_j_fail_undef(jrun *r, const jundef *u)
{
    if (u->hint) loami_j_fail(r, "%.*s", (int)u->hint->n, u->hint->p);
    if (u->owner.type == J_MISSING)
        loami_j_fail(r, "'%.*s' is undefined", u->name->n > 200 ? 200 : (int)u->name->n, u->name->p);
    const char *type = loami_j_typename(u->owner);
    if (u->owner.type == J_NONE) type = "None";
    const char *object = u->owner.type == J_NONE ? "" : " object";
    if (u->name) {
        int n = u->name->n > 200 ? 200 : (int)u->name->n;
        loami_j_fail(r, "'%s%s' has no attribute '%.*s'", type, object, n, u->name->p);
    }
    jsb b = { .r = r };
    loami_j_repr(&b, u->key);
    loami_j_fail(r, "%s%s has no element %.*s", type, object, b.n > 200 ? 200 : (int)b.n, b.p);
}
