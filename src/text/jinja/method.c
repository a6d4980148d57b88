/* The methods of everything but strings, and the str.is...() family. */
#include "text/jinja/run.h"

#include <math.h>

/* ---- what a string consists of ---- */

/* Not empty, and every character passes. */
static jval all(jval self, bool (*test)(uint32_t))
{
    size_t i = 0;
    bool yes = self.s->n != 0;
    while (yes && i < self.s->n) yes = test(loami_j_next(self.s, &i));
    return loami_j_bool(yes);
}

#define IS(name, test) \
    static jval name(jrun *r, jval self, jval *p, const jargs *args) \
    { \
        (void)p, (void)args; \
        loami_j_work(r, self.s->n); \
        return all(self, test); \
    }
IS(is_alpha, loami_j_alpha)
IS(is_alnum, loami_j_alnum)
IS(is_decimal, loami_j_decimal)
IS(is_digit, loami_j_digit)
IS(is_numeric, loami_j_numeric)
IS(is_space, loami_j_space)

static jval is_printable(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)p, (void)args;
    loami_j_work(r, self.s->n);
    return loami_j_bool(self.s->n == 0 || all(self, loami_j_printable).b);
}

static jval is_ascii(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)r, (void)p, (void)args;
    return loami_j_bool(loami_j_chars(self.s) == self.s->n);
}

static jval is_identifier(jrun *r, jval self, jval *p, const jargs *args)
{
    size_t i = 0;
    (void)p, (void)args;
    loami_j_work(r, self.s->n);
    return loami_j_bool(all(self, loami_j_word).b && !loami_j_numeric(loami_j_next(self.s, &i)));
}

/* Some cased character, and none of the other case. */
static jval is_case(jval self, bool upper)
{
    bool any = false;
    for (size_t i = 0; i < self.s->n;) {
        uint32_t cp = loami_j_next(self.s, &i);
        if (upper ? loami_j_lower(cp) || loami_j_title(cp) : loami_j_upper(cp) || loami_j_title(cp))
            return loami_j_bool(false);
        any |= upper ? loami_j_upper(cp) : loami_j_lower(cp);
    }
    return loami_j_bool(any);
}

static jval is_upper(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)p, (void)args;
    loami_j_work(r, self.s->n);
    return is_case(self, true);
}

static jval is_lower(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)p, (void)args;
    loami_j_work(r, self.s->n);
    return is_case(self, false);
}

static jval is_title(jrun *r, jval self, jval *p, const jargs *args)
{
    bool any = false, in_word = false;
    (void)p, (void)args;
    loami_j_work(r, self.s->n);
    for (size_t i = 0; i < self.s->n;) {
        uint32_t cp = loami_j_next(self.s, &i);
        bool up = loami_j_upper(cp) || loami_j_title(cp), low = loami_j_lower(cp);
        if ((up && in_word) || (low && !in_word)) return loami_j_bool(false);
        in_word = up || low;
        any |= in_word;
    }
    return loami_j_bool(any);
}

const jbuiltin loami_j_methods_str_is[] = {
    { "isalpha", is_alpha, "" }, { "isalnum", is_alnum, "" }, { "isdecimal", is_decimal, "" },
    { "isdigit", is_digit, "" },
    { "isnumeric", is_numeric, "" }, { "isspace", is_space, "" }, { "isprintable", is_printable, "" },
    { "isascii", is_ascii, "" },
    { "isidentifier", is_identifier, "" }, { "isupper", is_upper, "" }, { "islower", is_lower, "" },
    { "istitle", is_title, "" },
    { NULL, NULL, NULL },
};

/* ---- dicts ---- */

static jval view_of(jrun *r, jval self, int what)
{
    jview *view = loami_j_alloc(r, sizeof *view);
    *view = (jview){ .d = self.d, .what = what };
    return (jval){ .type = J_VIEW, .view = view };
}

static jval d_keys(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return view_of(r, self, J_KEYS);
}

static jval d_values(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return view_of(r, self, J_VALUES);
}

static jval d_items(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return view_of(r, self, J_ITEMS);
}

static jval d_get(jrun *r, jval self, jval *p, const jargs *args)
{
    jval v;
    (void)args;
    if (loami_j_dict_get(r, self.d, p[0], &v)) return v;
    return p[1].type == J_MISSING ? loami_j_none() : p[1];
}

static jval d_copy(jrun *r, jval self, jval *p, const jargs *args)
{
    jdict *d = loami_j_dict(r);
    (void)p, (void)args;
    for (size_t i = 0; i < self.d->n; i++) loami_j_dict_set(r, d, self.d->p[i].k, self.d->p[i].v);
    return (jval){ .type = J_DICT, .d = d };
}

static jval d_fromkeys(jrun *r, jval self, jval *p, const jargs *args)
{
    jdict *d = loami_j_dict(r);
    jval k, v = p[1].type == J_MISSING ? loami_j_none() : p[1];
    (void)self, (void)args;
    jiter *it = loami_j_iter(r, p[0]);
    while (loami_j_step(r, it, &k)) loami_j_dict_set(r, d, k, v);
    return (jval){ .type = J_DICT, .d = d };
}

const jbuiltin loami_j_methods_dict[] = {
    { "items", d_items, "" }, { "keys", d_keys, "" }, { "values", d_values, "" },
    { "get", d_get, "/ key default?" },
    { "copy", d_copy, "" }, { "fromkeys", d_fromkeys, "/ iterable value?" },
    { NULL, NULL, NULL },
};

const jbuiltin loami_j_methods_dict_type[] = {
    { "fromkeys", d_fromkeys, "/ iterable value?" },
    { NULL, NULL, NULL },
};

/* ---- lists, tuples, ranges ---- */

static jval s_count(jrun *r, jval self, jval *p, const jargs *args)
{
    int64_t n = 0;
    jval v;
    (void)args;
    jiter *it = loami_j_iter(r, self);
    while (loami_j_step(r, it, &v)) n += loami_j_same(v, p[0]) || loami_j_equal(r, v, p[0]);
    return loami_j_int(n);
}

static jval s_index(jrun *r, jval self, jval *p, const jargs *args)
{
    int64_t n = loami_j_len(r, self), from = 0, to = n, i = 0;
    jval v;
    (void)args;
    if (p[1].type != J_MISSING) from = loami_j_index(r, p[1]);
    if (p[2].type != J_MISSING) to = loami_j_index(r, p[2]);
    if (from < 0) from = from < -n ? 0 : from + n;
    if (to < 0) to = to < -n ? 0 : to + n;
    jiter *it = loami_j_iter(r, self);
    for (; i < to && loami_j_step(r, it, &v); i++)
        if (i >= from && (loami_j_same(v, p[0]) || loami_j_equal(r, v, p[0]))) return loami_j_int(i);
    loami_j_fail(r, "%s.index(x): x not in %s", loami_j_typename(self), loami_j_typename(self));
}

static jval s_copy(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return loami_j_tolist(r, self);
}

const jbuiltin loami_j_methods_list[] = {
    { "count", s_count, "/ value" }, { "index", s_index, "/ value start? stop?" }, { "copy", s_copy, "" },
    { NULL, NULL, NULL },
};

const jbuiltin loami_j_methods_tuple[] = {
    { "count", s_count, "/ value" }, { "index", s_index, "/ value start? stop?" }, { NULL, NULL, NULL },
};

const jbuiltin loami_j_methods_range[] = {
    { "count", s_count, "/ value" }, { "index", s_index, "/ value" }, { NULL, NULL, NULL },
};

/* ---- numbers ---- */

static jval n_bit_length(jrun *r, jval self, jval *p, const jargs *args)
{
    int64_t i = loami_j_index(r, self), n = 0;
    (void)p, (void)args;
    for (uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i; u; u >>= 1) n++;
    return loami_j_int(n);
}

static jval n_conjugate(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)r, (void)p, (void)args;
    return self.type == J_BOOL ? loami_j_int(self.b) : self;
}

static jval n_is_integer(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)r, (void)p, (void)args;
    return loami_j_bool(isfinite(self.f) && self.f == floor(self.f));
}

const jbuiltin loami_j_methods_int[] = {
    { "bit_length", n_bit_length, "" }, { "conjugate", n_conjugate, "" }, { NULL, NULL, NULL },
};

const jbuiltin loami_j_methods_float[] = {
    { "is_integer", n_is_integer, "" }, { "conjugate", n_conjugate, "" }, { NULL, NULL, NULL },
};

/* ---- loop, cycler ---- */

static jval l_cycle(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)p;
    if (args->n_named) loami_j_fail(r, "cycle() takes no keyword arguments");
    if (!args->n) loami_j_fail(r, "no items for cycling given");
    return args->v[(size_t)self.loop->index0 % args->n];
}

static jval l_changed(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)p;
    if (args->n_named) loami_j_fail(r, "changed() takes no keyword arguments");
    jval now = loami_j_list(r, J_TUPLE, args->v, args->n);
    bool changed = self.loop->changed.type == J_MISSING || !loami_j_equal(r, self.loop->changed, now);
    if (changed) self.loop->changed = now;
    return loami_j_bool(changed);
}

const jbuiltin loami_j_methods_loop[] = {
    { "cycle", l_cycle, "*" }, { "changed", l_changed, "*" }, { NULL, NULL, NULL },
};

static jval c_next(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)r, (void)p, (void)args;
    jcycler *c = self.cycler;
    jval v = c->items->v[c->at];
    c->at = (c->at + 1) % c->items->n;
    return v;
}

static jval c_reset(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)r, (void)p, (void)args;
    self.cycler->at = 0;
    return loami_j_none();
}

const jbuiltin loami_j_methods_cycler[] = {
    { "next", c_next, "" }, { "reset", c_reset, "" }, { NULL, NULL, NULL },
};
