/* Filters over sequences and mappings. */
#include "text/jinja/run.h"

#include <string.h>

static bool given(jval v)
{
    return v.type != J_MISSING && v.type != J_NONE;
}

static bool flag(jrun *r, jval v)
{
    return v.type != J_MISSING && loami_j_true(r, v);
}

/* ---- keys: "a.b.0" of an item ---- */

/* What to do with each item before it is looked at. */
typedef struct key {
    const jlist *parts;            /* names and numbers to follow, one after the other; NULL = the item itself */
    jval fallback;                 /* instead of an undefined part, unless J_MISSING or none */
    bool fold;                     /* strings in lower case */
} key;

static const jlist *key_parts(jrun *r, jval attribute)
{
    jlb b = { .r = r };
    if (!given(attribute)) return NULL;
    if (attribute.type != J_STR) {
        loami_j_push(&b, attribute);
        return loami_j_lbval(&b, J_LIST).l;
    }
    const jstr *s = attribute.s;
    for (size_t at = 0, end; at <= s->n; at = end + 1) {
        const char *dot = memchr(s->p + at, '.', s->n - at);
        end = dot ? (size_t)(dot - s->p) : s->n;
        jval part = loami_j_part(r, s, at, end - at), number = { .type = J_INT };
        bool digits = end > at;
        for (size_t i = at; i < end; i++) digits &= s->p[i] >= '0' && s->p[i] <= '9';
        if (digits && !loami_j_parse_int(part.s, 10, &number.i)) loami_j_fail(r, "an integer beyond 64 bits");
        loami_j_push(&b, digits ? number : part);
    }
    return loami_j_lbval(&b, J_LIST).l;
}

static jval key_of(jrun *r, const key *k, jval item)
{
    for (size_t i = 0; k->parts && i < k->parts->n; i++) {
        item = loami_j_getitem(r, item, k->parts->v[i]);
        if (item.type == J_UNDEF && given(k->fallback)) item = k->fallback;
    }
    if (k->fold && item.type == J_STR) item = loami_j_recase(r, item.s, J_TO_LOWER);
    return item;
}

static key key_for(jrun *r, jval attribute, jval case_sensitive)
{
    return (key){ .parts = key_parts(r, attribute), .fold = !flag(r, case_sensitive) };
}

/* ---- sorting ---- */

typedef struct keyed {
    jval key, item;
} keyed;

static void merge_sort(jrun *r, keyed *v, size_t n, keyed *spare, bool reverse)
{
    if (n < 2) return;
    size_t half = n / 2, i = 0, k = half, out = 0;
    merge_sort(r, v, half, spare, reverse);
    merge_sort(r, v + half, n - half, spare, reverse);
    loami_j_work(r, n);
    while (i < half && k < n) {
        jval a = v[i].key, b = v[k].key;
        bool later_first = reverse ? loami_j_order(r, a, b) : loami_j_order(r, b, a);
        spare[out++] = later_first ? v[k++] : v[i++];
    }
    while (i < half) spare[out++] = v[i++];
    while (k < n) spare[out++] = v[k++];
    memcpy(v, spare, n * sizeof *v);
}

static jval sorted(jrun *r, const jlist *items, const jval *keys, bool reverse)
{
    size_t n = items->n;
    keyed *v = loami_j_array(r, n ? n : 1, sizeof *v), *spare = loami_j_array(r, n ? n : 1, sizeof *v);
    jval *out = loami_j_array(r, n ? n : 1, sizeof *out);
    for (size_t i = 0; i < n; i++) v[i] = (keyed){ keys[i], items->v[i] };
    merge_sort(r, v, n, spare, reverse);
    for (size_t i = 0; i < n; i++) out[i] = v[i].item;
    return loami_j_list(r, J_LIST, out, n);
}

/* sort(attribute="a,b.c"): the key is the list of all. */
static jval f_sort(jrun *r, jval v, jval *p, const jargs *args)
{
    const jlist *items = loami_j_tolist(r, v).l;
    jlb attributes = { .r = r };
    jval *keys = loami_j_array(r, items->n ? items->n : 1, sizeof *keys);
    (void)args;
    if (p[2].type == J_STR) {
        const jstr *s = p[2].s;
        for (size_t at = 0, end; at <= s->n; at = end + 1) {
            const char *comma = memchr(s->p + at, ',', s->n - at);
            end = comma ? (size_t)(comma - s->p) : s->n;
            loami_j_push(&attributes, loami_j_part(r, s, at, end - at));
        }
    } else {
        loami_j_push(&attributes, p[2]);
    }
    for (size_t i = 0; i < items->n; i++) {
        jlb b = { .r = r };
        for (size_t a = 0; a < attributes.n; a++) {
            key k = key_for(r, attributes.v[a], p[1]);
            loami_j_push(&b, key_of(r, &k, items->v[i]));
        }
        keys[i] = loami_j_lbval(&b, J_LIST);
    }
    return sorted(r, items, keys, flag(r, p[0]));
}

static jval f_dictsort(jrun *r, jval v, jval *p, const jargs *args)
{
    bool by_value = false;
    (void)args;
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (v.type != J_DICT) loami_j_fail(r, "'%s' object has no attribute 'items'", loami_j_typename(v));
    if (p[1].type != J_MISSING) {
        by_value = p[1].type == J_STR && loami_j_is(p[1].s, "value");
        if (!by_value && !(p[1].type == J_STR && loami_j_is(p[1].s, "key")))
            loami_j_fail(r, "You can only sort by either \"key\" or \"value\"");
    }
    key k = { .fold = !flag(r, p[0]) };
    size_t n = v.d->n;
    jval *items = loami_j_array(r, n ? n : 1, sizeof *items);
    jval *keys = loami_j_array(r, n ? n : 1, sizeof *keys);
    for (size_t i = 0; i < n; i++) {
        items[i] = loami_j_pair(r, v.d->p[i].k, v.d->p[i].v);
        keys[i] = key_of(r, &k, by_value ? v.d->p[i].v : v.d->p[i].k);
    }
    return sorted(r, loami_j_list(r, J_LIST, items, n).l, keys, flag(r, p[2]));
}

/* Pairs of a key and the items that have it, in the order of the keys. */
static jval f_groupby(jrun *r, jval v, jval *p, const jargs *args)
{
    const jlist *items = loami_j_tolist(r, v).l;
    key k = key_for(r, p[0], p[2]), plain;
    jval *keys = loami_j_array(r, items->n ? items->n : 1, sizeof *keys);
    jlb groups = { .r = r };
    (void)args;
    k.fallback = p[1];
    plain = k;
    plain.fold = false;
    for (size_t i = 0; i < items->n; i++) keys[i] = key_of(r, &k, items->v[i]);
    items = sorted(r, items, keys, false).l;
    for (size_t i = 0; i < items->n;) {
        jlb group = { .r = r };
        jval first = key_of(r, &k, items->v[i]), shown = key_of(r, &plain, items->v[i]);
        do loami_j_push(&group, items->v[i++]);
        while (i < items->n && loami_j_equal(r, first, key_of(r, &k, items->v[i])));
        jval pair = loami_j_pair(r, shown, loami_j_lbval(&group, J_LIST));
        ((jlist *)pair.l)->group = true;
        loami_j_push(&groups, pair);
    }
    return loami_j_lbval(&groups, J_LIST);
}

/* ---- one of many, one from many ---- */

static jval extreme(jrun *r, jval v, jval *p, jop better)
{
    key k = key_for(r, p[1], p[0]);
    jval best, best_key, item;
    jiter *it = loami_j_iter(r, v);
    if (!loami_j_step(r, it, &best)) return loami_j_undef_hint(r, "No aggregated item, sequence was empty.");
    best_key = key_of(r, &k, best);
    while (loami_j_step(r, it, &item)) {
        jval item_key = key_of(r, &k, item);
        if (!loami_j_compare(r, better, item_key, best_key)) continue;
        best = item;
        best_key = item_key;
    }
    return best;
}

static jval f_min(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)args;
    return extreme(r, v, p, OP_LT);
}

static jval f_max(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)args;
    return extreme(r, v, p, OP_GT);
}

static jval f_sum(jrun *r, jval v, jval *p, const jargs *args)
{
    key k = { .parts = key_parts(r, p[0]) };
    jval total = p[1].type == J_MISSING ? loami_j_int(0) : p[1], item;
    jiter *it = loami_j_iter(r, v);
    (void)args;
    if (total.type == J_STR) loami_j_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    while (loami_j_step(r, it, &item)) total = loami_j_binary(r, OP_ADD, total, key_of(r, &k, item));
    return total;
}

static jval f_join(jrun *r, jval v, jval *p, const jargs *args)
{
    key k = { .parts = key_parts(r, p[1]) };
    const jstr *sep = p[0].type == J_MISSING ? NULL : loami_j_soft(r, p[0]).s;
    jsb b = { .r = r };
    jval item;
    (void)args;
    jiter *it = loami_j_iter(r, v);
    for (bool first = true; loami_j_step(r, it, &item); first = false) {
        if (!first && sep) loami_j_put(&b, sep->p, sep->n);
        loami_j_show(&b, key_of(r, &k, item));
    }
    return loami_j_sbval(&b);
}

static jval f_first(jrun *r, jval v, jval *p, const jargs *args)
{
    jval item;
    (void)p, (void)args;
    if (loami_j_step(r, loami_j_iter(r, v), &item)) return item;
    return loami_j_undef_hint(r, "No first item, sequence was empty.");
}

static bool next_reversed(jrun *r, jiter *it, jval *out)
{
    size_t n = it->src.l->n;
    (void)r;
    if (it->at >= n) return false;
    *out = it->src.l->v[n - 1 - it->at++];
    return true;
}

static bool reversible(jval v)
{
    switch (v.type) {
    case J_UNDEF: case J_STR: case J_LIST: case J_TUPLE: case J_DICT: case J_VIEW: case J_RANGE: return true;
    default: return false;
    }
}

static jval f_last(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p, (void)args;
    if (!reversible(v)) loami_j_fail(r, "'%s' object is not reversible", loami_j_typename(v));
    const jlist *l = loami_j_tolist(r, v).l;
    return l->n ? l->v[l->n - 1] : loami_j_undef_hint(r, "No last item, sequence was empty.");
}

static jval f_reverse(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p, (void)args;
    if (v.type == J_STR) return loami_j_slice(r, v, loami_j_none(), loami_j_none(), loami_j_int(-1));
    if (!loami_j_iterable(v)) loami_j_fail(r, "argument must be iterable");
    jval items = loami_j_tolist(r, v);
    jval lazy = loami_j_lazy(r, "reverse iterator object", next_reversed, items, NULL);
    return reversible(v) ? lazy : loami_j_tolist(r, lazy);
}

static jval f_length(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return loami_j_int(loami_j_len(r, v));
}

static jval f_list(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return loami_j_tolist(r, v);
}

static jval f_default(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)args;
    if (v.type != J_UNDEF && !(flag(r, p[1]) && !loami_j_true(r, v))) return v;
    return p[0].type == J_MISSING ? loami_j_strz(r, "") : p[0];
}

static jval f_attr(jrun *r, jval v, jval *p, const jargs *args)
{
    jval out;
    (void)args;
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (p[0].type != J_STR)
        loami_j_fail(r, "attribute name must be string, not '%s'", loami_j_typename(p[0]));
    return loami_j_attribute(r, v, p[0].s, &out) ? out : loami_j_undef_key(r, v, p[0]);
}

static jval f_tojson(jrun *r, jval v, jval *p, const jargs *args)
{
    jsb b = { .r = r };
    (void)args;
    loami_j_json(&b, v, flag(r, p[0]), p[1], p[2], flag(r, p[3]));
    return loami_j_sbval(&b);
}

/* ---- generators ---- */

static bool next_items(jrun *r, jiter *it, jval *out)
{
    if (it->src.type == J_UNDEF) return false;
    if (it->src.type != J_DICT) loami_j_fail(r, "Can only get item pairs from a mapping.");
    if (it->at >= it->src.d->n) return false;
    const jpair *p = &it->src.d->p[it->at++];
    *out = loami_j_pair(r, p->k, p->v);
    return true;
}

static jval f_items(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return loami_j_lazy(r, "generator object do_items", next_items, v, NULL);
}

typedef struct unique {
    key k;
    jdict *seen;
} unique;

/* The source, which generators walk only when they are walked themselves. */
static jiter *source(jrun *r, jiter *it)
{
    if (it->src.type != J_ITER) it->src = (jval){ .type = J_ITER, .it = loami_j_iter(r, it->src) };
    return it->src.it;
}

static bool next_unique(jrun *r, jiter *it, jval *out)
{
    unique *u = it->more;
    jval seen;
    while (loami_j_step(r, source(r, it), out)) {
        jval k = key_of(r, &u->k, *out);
        if (loami_j_dict_get(r, u->seen, k, &seen)) continue;
        loami_j_dict_set(r, u->seen, k, loami_j_none());
        return true;
    }
    return false;
}

static jval f_unique(jrun *r, jval v, jval *p, const jargs *args)
{
    unique *u = loami_j_alloc(r, sizeof *u);
    (void)args;
    *u = (unique){ key_for(r, p[1], p[0]), loami_j_dict(r) };
    return loami_j_lazy(r, "generator object sync_do_unique", next_unique, v, u);
}

typedef struct batch {
    int64_t size;
    jval fill, held;               /* an item that was read and belongs to the next batch */
    const jlist *all;              /* slice: everything */
} batch;

static bool next_batch(jrun *r, jiter *it, jval *out)
{
    batch *s = it->more;
    jlb b = { .r = r };
    jval item;
    if (s->held.type != J_MISSING) loami_j_push(&b, s->held);
    bool started = it->at > 0;
    s->held.type = J_MISSING;
    while (loami_j_step(r, source(r, it), &item)) {
        it->at = 1;
        if ((int64_t)b.n == s->size && (b.n || !started)) {
            s->held = item;
            *out = loami_j_lbval(&b, J_LIST);
            return true;
        }
        loami_j_push(&b, item);
    }
    if (!b.n) return false;
    while (given(s->fill) && (int64_t)b.n < s->size) loami_j_push(&b, s->fill);
    *out = loami_j_lbval(&b, J_LIST);
    return true;
}

static jval f_batch(jrun *r, jval v, jval *p, const jargs *args)
{
    batch *s = loami_j_alloc(r, sizeof *s);
    (void)args;
    *s = (batch){ .size = loami_j_index(r, p[0]), .fill = p[1] };
    return loami_j_lazy(r, "generator object do_batch", next_batch, v, s);
}

static bool next_slice(jrun *r, jiter *it, jval *out)
{
    batch *s = it->more;
    jlb b = { .r = r };
    if (!s->all) s->all = loami_j_tolist(r, it->src).l;
    if (s->size == 0) loami_j_fail(r, "integer division or modulo by zero");
    if ((int64_t)it->at >= s->size) return false;
    size_t n = (size_t)s->size, k = it->at++, each = s->all->n / n, extra = s->all->n % n;
    size_t from = k * each + (k < extra ? k : extra), to = from + each + (k < extra);
    for (size_t i = from; i < to; i++) loami_j_push(&b, s->all->v[i]);
    if (given(s->fill) && k >= extra) loami_j_push(&b, s->fill);
    *out = loami_j_lbval(&b, J_LIST);
    return true;
}

static jval f_slice(jrun *r, jval v, jval *p, const jargs *args)
{
    batch *s = loami_j_alloc(r, sizeof *s);
    (void)args;
    *s = (batch){ .size = loami_j_index(r, p[0]), .fill = p[1] };
    return loami_j_lazy(r, "generator object sync_do_slice", next_slice, v, s);
}

/* ---- map, select, reject ---- */

typedef struct chooser {
    jargs args;                    /* for the filter or test */
    const jbuiltin *fn;            /* NULL: the value itself */
    key k;
    bool by_key, reject, ready, empty;
} chooser;

/* Copies the arguments from position `from` on; named ones all. */
static void rest_of(const jargs *args, size_t from, jargs *out)
{
    *out = *args;
    out->v = args->n > from ? args->v + from : NULL;
    out->n = args->n > from ? args->n - from : 0;
}

static const jbuiltin *named_builtin(jrun *r, jval name, bool filter)
{
    const jbuiltin *b = NULL;
    if (name.type == J_STR)
        b = filter ? loami_j_filter(name.s->p, name.s->n) : loami_j_test(name.s->p, name.s->n);
    if (b) return b;
    jsb shown = { .r = r };
    loami_j_repr(&shown, name);
    loami_j_fail(r, "No %s named %.*s.", filter ? "filter" : "test", shown.n > 100 ? 100 : (int)shown.n,
                 shown.p);
}

static void prepare_map(jrun *r, chooser *c)
{
    const jargs args = c->args;
    jval attribute = { .type = J_MISSING };
    for (size_t i = 0; i < args.n_named && !args.n; i++)
        if (loami_j_is(args.names[i], "attribute")) attribute = args.named[i];
    if (attribute.type == J_MISSING) {
        if (!args.n) loami_j_fail(r, "map requires a filter argument");
        c->fn = named_builtin(r, args.v[0], true);
        rest_of(&args, 1, &c->args);
        return;
    }
    c->by_key = true;
    c->k = (key){ .parts = key_parts(r, attribute) };
    for (size_t i = 0; i < args.n_named; i++) {
        if (loami_j_is(args.names[i], "default")) c->k.fallback = args.named[i];
        else if (!loami_j_is(args.names[i], "attribute"))
            loami_j_fail(r, "Unexpected keyword argument '%.*s'",
                         args.names[i]->n > 100 ? 100 : (int)args.names[i]->n, args.names[i]->p);
    }
}

static void prepare_select(jrun *r, chooser *c)
{
    const jargs args = c->args;
    size_t at = 0;
    if (c->by_key) {
        if (!args.n) loami_j_fail(r, "Missing parameter for attribute name");
        c->k = (key){ .parts = key_parts(r, args.v[at++]) };
    }
    if (args.n > at) {
        c->fn = named_builtin(r, args.v[at++], false);
        rest_of(&args, at, &c->args);
    }
}

/* Generators look at their arguments when they are first walked, and only if there is something to walk. */
static bool start(jrun *r, jiter *it, void (*prepare)(jrun *, chooser *))
{
    chooser *c = it->more;
    if (!c->ready) {
        c->ready = true;
        c->empty = !loami_j_true(r, it->src);
        if (!c->empty) prepare(r, c);
    }
    return !c->empty;
}

static bool next_mapped(jrun *r, jiter *it, jval *out)
{
    chooser *c = it->more;
    jval item;
    if (!start(r, it, prepare_map) || !loami_j_step(r, source(r, it), &item)) return false;
    *out = c->by_key ? key_of(r, &c->k, item) : loami_j_call_builtin(r, c->fn, item, &c->args);
    return true;
}

static bool next_selected(jrun *r, jiter *it, jval *out)
{
    chooser *c = it->more;
    if (!start(r, it, prepare_select)) return false;
    while (loami_j_step(r, source(r, it), out)) {
        jval v = c->by_key ? key_of(r, &c->k, *out) : *out;
        if (c->fn) v = loami_j_call_builtin(r, c->fn, v, &c->args);
        if (loami_j_true(r, v) != c->reject) return true;
    }
    return false;
}

static jval chosen(jrun *r, jval v, const jargs *args, bool by_key, bool reject)
{
    chooser *c = loami_j_alloc(r, sizeof *c);
    *c = (chooser){ .args = *args, .by_key = by_key, .reject = reject };
    return loami_j_lazy(r, "generator object select_or_reject", next_selected, v, c);
}

static jval f_map(jrun *r, jval v, jval *p, const jargs *args)
{
    chooser *c = loami_j_alloc(r, sizeof *c);
    (void)p;
    *c = (chooser){ .args = *args };
    return loami_j_lazy(r, "generator object sync_do_map", next_mapped, v, c);
}

static jval f_select(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p;
    return chosen(r, v, args, false, false);
}

static jval f_reject(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p;
    return chosen(r, v, args, false, true);
}

static jval f_selectattr(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p;
    return chosen(r, v, args, true, false);
}

static jval f_rejectattr(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p;
    return chosen(r, v, args, true, true);
}

const jbuiltin loami_j_filters_seq[] = {
    { "length", f_length, "" }, { "count", f_length, "" },
    { "default", f_default, "default_value? boolean?" },
    { "d", f_default, "default_value? boolean?" },
    { "tojson", f_tojson, "ensure_ascii? indent? separators? sort_keys?" },
    { "items", f_items, "" }, { "list", f_list, "" }, { "join", f_join, "d? attribute?" },
    { "map", f_map, "*" },
    { "select", f_select, "*" }, { "reject", f_reject, "*" }, { "selectattr", f_selectattr, "*" },
    { "rejectattr", f_rejectattr, "*" },
    { "first", f_first, "" }, { "last", f_last, "" }, { "reverse", f_reverse, "" },
    { "sort", f_sort, "reverse? case_sensitive? attribute?" },
    { "unique", f_unique, "case_sensitive? attribute?" },
    { "dictsort", f_dictsort, "case_sensitive? by? reverse?" },
    { "groupby", f_groupby, "attribute default? case_sensitive?" },
    { "batch", f_batch, "linecount fill_with?" }, { "slice", f_slice, "slices fill_with?" },
    { "min", f_min, "case_sensitive? attribute?" }, { "max", f_max, "case_sensitive? attribute?" },
    { "sum", f_sum, "attribute? start?" },
    { "attr", f_attr, "name" },
    { NULL, NULL, NULL },
};
