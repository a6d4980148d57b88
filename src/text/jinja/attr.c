/* value.name, value[key] and value[from:to:step], as Jinja2's sandbox looks them up. */
#include "text/jinja/run.h"

#include <string.h>

/* ---- attributes of objects that are not data ---- */

static bool loop_after(jrun *r, jloop *l)
{
    if (l->after.type == J_MISSING && !loami_j_step(r, l->it, &l->after)) l->after.type = J_MISSING;
    return l->after.type != J_MISSING;
}

static int64_t loop_length(jrun *r, jloop *l)
{
    if (l->length >= 0) return l->length;
    if (loami_j_has_len(l->iterable)) return l->length = loami_j_len(r, l->iterable);
    jval rest = loami_j_tolist(r, (jval){ .type = J_ITER, .it = l->it });
    l->it = loami_j_iter(r, rest);
    return l->length = (int64_t)rest.l->n + l->index0 + 1 + (l->after.type != J_MISSING);
}

static jval loop_attr(jrun *r, jloop *l, int which)
{
    switch (which) {
    case 0: return loami_j_int(l->index0 + 1);
    case 1: return loami_j_int(l->index0);
    case 2: return loami_j_bool(l->index0 == 0);
    case 3: return loami_j_bool(!loop_after(r, l));
    case 4: return loami_j_int(loop_length(r, l));
    case 5: return loami_j_int(loop_length(r, l) - l->index0);
    case 6: return loami_j_int(loop_length(r, l) - l->index0 - 1);
    case 7: return l->index0 == 0 ? loami_j_undef_hint(r, "there is no previous item") : l->before;
    case 8: return loop_after(r, l) ? l->after : loami_j_undef_hint(r, "there is no next item");
    case 9: return loami_j_int(l->depth0 + 1);
    default: return loami_j_int(l->depth0);
    }
}

static bool find_loop(jrun *r, jloop *l, const jstr *name, jval *out)
{
    static const char *const names[] = { "index", "index0", "first", "last", "length", "revindex",
                                         "revindex0", "previtem",
                                         "nextitem", "depth", "depth0" };
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (loami_j_is(name, names[i])) {
            *out = loop_attr(r, l, i);
            return true;
        }
    return false;
}

static bool find_macro(jrun *r, const jmacro *m, const jstr *name, jval *out)
{
    if (loami_j_is(name, "name")) {
        *out = m->name ? (jval){ .type = J_STR, .s = m->name } : loami_j_none();
    } else if (loami_j_is(name, "arguments")) {
        jlb b = { .r = r };
        for (const jnode *p = m->node->list; p; p = p->next)
            loami_j_push(&b, (jval){ .type = J_STR, .s = p->name });
        *out = loami_j_lbval(&b, J_TUPLE);
    } else if (loami_j_is(name, "catch_kwargs")) {
        *out = loami_j_bool(m->fn->wants_kwargs);
    } else if (loami_j_is(name, "catch_varargs")) {
        *out = loami_j_bool(m->fn->wants_varargs);
    } else if (loami_j_is(name, "caller")) {
        *out = loami_j_bool(m->fn->wants_caller);
    } else {
        return false;
    }
    return true;
}

static bool find_range(const jrange *g, const jstr *name, jval *out)
{
    if (loami_j_is(name, "start")) *out = loami_j_int(g->start);
    else if (loami_j_is(name, "stop")) *out = loami_j_int(g->stop);
    else if (loami_j_is(name, "step")) *out = loami_j_int(g->step);
    else return false;
    return true;
}

static bool find_number(jval v, const jstr *name, jval *out)
{
    bool whole = v.type != J_FLOAT;
    if (v.type == J_BOOL) v = loami_j_int(v.b);
    if (loami_j_is(name, "real") || (whole && loami_j_is(name, "numerator"))) *out = v;
    else if (loami_j_is(name, "imag")) *out = whole ? loami_j_int(0) : loami_j_float(0);
    else if (whole && loami_j_is(name, "denominator")) *out = loami_j_int(1);
    else return false;
    return true;
}

static bool find_group(const jlist *l, const jstr *name, jval *out)
{
    if (!l->group) return false;
    if (loami_j_is(name, "grouper")) *out = l->v[0];
    else if (loami_j_is(name, "list")) *out = l->v[1];
    else return false;
    return true;
}

static bool find_helper(jval v, const jstr *name, jval *out)
{
    bool cycler = v.type == J_CYCLER;
    if (cycler && loami_j_is(name, "current")) *out = v.cycler->items->v[v.cycler->at];
    else if (cycler && loami_j_is(name, "pos")) *out = loami_j_int((int64_t)v.cycler->at);
    else if (cycler && loami_j_is(name, "items")) *out = (jval){ .type = J_TUPLE, .l = v.cycler->items };
    else if (!cycler && loami_j_is(name, "sep")) *out = v.joiner->sep;
    else if (!cycler && loami_j_is(name, "used")) *out = loami_j_bool(v.joiner->used);
    else return false;
    return true;
}

/* What has no method for it: a plain attribute of the type. */
static bool find_plain(jrun *r, jval v, const jstr *name, jval *out)
{
    switch (v.type) {
    case J_LOOP: return find_loop(r, v.loop, name, out);
    case J_MACRO: return find_macro(r, v.macro, name, out);
    case J_RANGE: return find_range(v.range, name, out);
    case J_BOOL:
    case J_INT:
    case J_FLOAT: return find_number(v, name, out);
    case J_TUPLE: return find_group(v.l, name, out);
    case J_CYCLER:
    case J_JOINER: return find_helper(v, name, out);
    case J_NS: return loami_j_dict_gets(r, v.d, name->p, name->n, out);
    default: return false;
    }
}

/* ---- methods ---- */

static const jbuiltin *find_method(jval v, const jstr *name)
{
    static const jbuiltin *const tables[J_TYPES][2] = {
        [J_STR] = { loami_j_methods_str, loami_j_methods_str_is }, [J_DICT] = { loami_j_methods_dict },
        [J_LIST] = { loami_j_methods_list }, [J_TUPLE] = { loami_j_methods_tuple },
        [J_INT] = { loami_j_methods_int },
        [J_BOOL] = { loami_j_methods_int }, [J_FLOAT] = { loami_j_methods_float },
        [J_RANGE] = { loami_j_methods_range },
        [J_LOOP] = { loami_j_methods_loop }, [J_CYCLER] = { loami_j_methods_cycler },
    };
    const jbuiltin *found = NULL;
    for (int i = 0; i < 2 && !found && tables[v.type][i]; i++)
        found = loami_j_find(tables[v.type][i], name->p, name->n);
    if (!found && v.type == J_FUNC && strcmp(v.fn->name, "dict") == 0)
        found = loami_j_find(loami_j_methods_dict_type, name->p, name->n);
    return found;
}

/* Methods that would change a list or a dict: the sandbox hides them. */
static bool unsafe(jval v, const jstr *name)
{
    static const char *const list[] = { "append", "clear", "pop", "reverse", "insert", "sort", "extend",
                                        "remove", NULL };
    static const char *const dict[] = { "clear", "pop", "popitem", "setdefault", "update", NULL };
    const char *const *names = v.type == J_LIST ? list : v.type == J_DICT ? dict : NULL;
    for (; names && *names; names++)
        if (loami_j_is(name, *names)) return true;
    return false;
}

bool loami_j_attribute(jrun *r, jval v, const jstr *name, jval *out)
{
    if (unsafe(v, name)) {
        *out = loami_j_undef_hint(r, "access to attribute '%.*s' of '%s' object is unsafe.", (int)name->n, name->p, loami_j_typename(v));
        return true;
    }
    if (find_plain(r, v, name, out)) return true;
    const jbuiltin *fn = find_method(v, name);
    if (!fn) return false;
    jmethod *m = loami_j_alloc(r, sizeof *m);
    *m = (jmethod){ v, fn };
    *out = (jval){ .type = J_METHOD, .method = m };
    return true;
}

/* ---- items ---- */

static jval char_at(jrun *r, const jstr *s, size_t k)
{
    size_t at = loami_j_offset(s, k), end = at;
    if (at != k) loami_j_work(r, k);
    loami_j_next(s, &end);
    return loami_j_part(r, s, at, end - at);
}

/* v[key] as Python has it; false for IndexError, KeyError and TypeError. */
static bool item(jrun *r, jval v, jval key, jval *out)
{
    int64_t i, n;
    if (v.type == J_DICT) {
        if (key.type == J_LIST || key.type == J_DICT || key.type == J_VIEW) return false;
        return loami_j_dict_get(r, v.d, key, out);
    }
    if (v.type != J_STR && v.type != J_LIST && v.type != J_TUPLE && v.type != J_RANGE) return false;
    if (!loami_j_whole(key, &i)) return false;
    n = loami_j_len(r, v);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return false;
    if (v.type == J_STR) *out = char_at(r, v.s, (size_t)i);
    else if (v.type == J_RANGE) *out = loami_j_int(v.range->start + i * v.range->step);
    else *out = v.l->v[i];
    return true;
}

jval loami_j_getattr(jrun *r, jval v, const jstr *name)
{
    jval out, key = { .type = J_STR, .s = name };
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (loami_j_attribute(r, v, name, &out) || item(r, v, key, &out)) return out;
    return loami_j_undef_key(r, v, key);
}

jval loami_j_getitem(jrun *r, jval v, jval key)
{
    jval out;
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (item(r, v, key, &out) || (key.type == J_STR && loami_j_attribute(r, v, key.s, &out))) return out;
    return loami_j_undef_key(r, v, key);
}

/* ---- slices ---- */

static bool bound(jrun *r, jval v, int64_t *out)
{
    if (v.type == J_NONE) return false;
    if (v.type == J_UNDEF || !loami_j_whole(v, out))
        loami_j_fail(r, "slice indices must be integers or None or have an __index__ method");
    return true;
}

static int64_t clamp(int64_t i, int64_t n, int64_t lo, int64_t hi)
{
    if (i < 0) i = i < -n ? lo : i + n;
    return i < lo ? lo : i > hi ? hi : i;
}

static jval slice_string(jrun *r, const jstr *s, int64_t from, int64_t step, int64_t count)
{
    if (count == 0) return loami_j_part(r, s, 0, 0);
    if (step == 1) {
        size_t at = loami_j_offset(s, (size_t)from);
        jstr rest = { .p = s->p + at, .n = s->n - at, .chars = loami_j_chars(s) - (size_t)from };
        loami_j_work(r, loami_j_chars(s) == s->n ? 0 : s->n);
        return loami_j_part(r, s, at, loami_j_offset(&rest, (size_t)count));
    }
    size_t *offsets = NULL, at = 0;
    if (loami_j_chars(s) != s->n) {
        offsets = loami_j_array(r, loami_j_chars(s) + 1, sizeof *offsets);
        for (size_t k = 0; at < s->n; k++) {
            offsets[k] = at;
            loami_j_next(s, &at);
        }
    }
    jsb b = { .r = r };
    for (int64_t k = 0; k < count; k++) {
        at = offsets ? offsets[from + k * step] : (size_t)(from + k * step);
        size_t end = at;
        loami_j_next(s, &end);
        loami_j_put(&b, s->p + at, end - at);
    }
    jval out = loami_j_sbval(&b);
    ((jstr *)out.s)->markup = s->markup;
    return out;
}

jval loami_j_slice(jrun *r, jval v, jval start, jval stop, jval step)
{
    int64_t k = 1, from, to, count = 0, wide = 0;
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (v.type != J_STR && v.type != J_LIST && v.type != J_TUPLE && v.type != J_RANGE)
        loami_j_fail(r, v.type == J_DICT ? "unhashable type: 'slice'" : "'%s' object is not subscriptable",
                     loami_j_typename(v));
    int64_t n = loami_j_len(r, v);
    bool stepped = bound(r, step, &k);
    if (stepped && k == 0) loami_j_fail(r, "slice step cannot be zero");
    if (v.type == J_RANGE && __builtin_mul_overflow(k, v.range->step, &wide))
        loami_j_fail(r, "an integer beyond 64 bits");
    if (k < -n - 1) k = -n - 1;    /* steps beyond the whole are alike, and can't overflow */
    if (k > n + 1) k = n + 1;
    int64_t lo = k < 0 ? -1 : 0, hi = k < 0 ? n - 1 : n;
    from = bound(r, start, &from) ? clamp(from, n, lo, hi) : k < 0 ? hi : lo;
    to = bound(r, stop, &to) ? clamp(to, n, lo, hi) : k < 0 ? lo : hi;
    if (k > 0 && from < to) count = (to - from - 1) / k + 1;
    if (k < 0 && to < from) count = (from - to - 1) / -k + 1;
    if (v.type == J_STR) return slice_string(r, v.s, from, k, count);
    if (v.type == J_RANGE) {
        jrange *g = loami_j_alloc(r, sizeof *g);
        *g = (jrange){ v.range->start + from * v.range->step, v.range->start + to * v.range->step, wide, count };
        return (jval){ .type = J_RANGE, .range = g };
    }
    jval *items = loami_j_array(r, count ? (size_t)count : 1, sizeof *items);
    for (int64_t i = 0; i < count; i++) items[i] = v.l->v[from + i * k];
    loami_j_work(r, (size_t)count * sizeof *items);
    return loami_j_list(r, v.type, items, (size_t)count);
}
