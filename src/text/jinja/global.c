/* The functions that every template finds. */
#include "text/jinja/run.h"

#include <string.h>

static jval g_range(jrun *r, jval self, jval *p, const jargs *args)
{
    int64_t start = 0, stop = loami_j_index(r, p[0]), step = 1;
    (void)self, (void)args;
    if (p[1].type != J_MISSING) {
        start = stop;
        stop = loami_j_index(r, p[1]);
    }
    if (p[2].type != J_MISSING) step = loami_j_index(r, p[2]);
    if (step == 0) loami_j_fail(r, "range() arg 3 must not be zero");
    uint64_t distance = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    bool empty = step > 0 ? start >= stop : start <= stop;
    uint64_t len = empty ? 0 : (distance - 1) / stride + 1;
    if (len > J_MAX_RANGE)
        loami_j_fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", J_MAX_RANGE);
    jrange *g = loami_j_alloc(r, sizeof *g);
    *g = (jrange){ start, stop, step, (int64_t)len };
    return (jval){ .type = J_RANGE, .range = g };
}

/* dict(...): a mapping or pairs, then names. */
static jdict *make_dict(jrun *r, const char *what, const jargs *args)
{
    jdict *d = loami_j_dict(r);
    jval v;
    if (args->n > 1) loami_j_fail(r, "%s expected at most 1 argument, got %zu", what, args->n);
    if (args->n && args->v[0].type == J_UNDEF) loami_j_fail_undef(r, args->v[0].u);
    if (args->n && (args->v[0].type == J_DICT)) {
        const jdict *from = args->v[0].d;
        for (size_t i = 0; i < from->n; i++) loami_j_dict_set(r, d, from->p[i].k, from->p[i].v);
    } else if (args->n) {
        jiter *it = loami_j_iter(r, args->v[0]);
        while (loami_j_step(r, it, &v)) {
            jval pair = loami_j_tolist(r, v);
            if (pair.l->n != 2)
                loami_j_fail(r, "%s: an element has length %zu; 2 is required", what, pair.l->n);
            loami_j_dict_set(r, d, pair.l->v[0], pair.l->v[1]);
        }
    }
    for (size_t i = 0; i < args->n_named; i++)
        loami_j_dict_set(r, d, (jval){ .type = J_STR, .s = args->names[i] }, args->named[i]);
    return d;
}

static jval g_dict(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)self, (void)p;
    return (jval){ .type = J_DICT, .d = make_dict(r, "dict", args) };
}

static jval g_namespace(jrun *r, jval self, jval *p, const jargs *args)
{
    jdict *d = make_dict(r, "namespace", args);
    (void)self, (void)p;
    for (size_t i = 0; i < d->n; i++)
        if (d->p[i].k.type == J_STR && d->p[i].k.s->n && d->p[i].k.s->p[0] == '_')
            loami_j_fail(r, "a namespace can't have names that begin with an underscore");
    return (jval){ .type = J_NS, .d = d };
}

static jval g_cycler(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)self, (void)p;
    if (args->n_named) loami_j_fail(r, "cycler() takes no keyword arguments");
    if (!args->n) loami_j_fail(r, "at least one item has to be provided");
    jcycler *c = loami_j_alloc(r, sizeof *c);
    c->items = loami_j_list(r, J_TUPLE, args->v, args->n).l;
    return (jval){ .type = J_CYCLER, .cycler = c };
}

static jval g_joiner(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)self, (void)args;
    jjoiner *j = loami_j_alloc(r, sizeof *j);
    j->sep = p[0].type == J_MISSING ? loami_j_strz(r, ", ") : p[0];
    return (jval){ .type = J_JOINER, .joiner = j };
}

static jval g_raise(jrun *r, jval self, jval *p, const jargs *args)
{
    jval text = loami_j_tostr(r, p[0]);
    (void)self, (void)args;
    loami_j_fail_code(r, LOAM_E_TEMPLATE, text.s->p, text.s->n);
}

enum { MAX_TIME_FORMAT = 1000 };

/* Python's datetime.now().strftime: local time, and none of a time zone's words, because the time is naive. */
static jval g_strftime_now(jrun *r, jval self, jval *p, const jargs *args)
{
    struct tm tm;
    char piece[256], fmt[8];
    (void)self, (void)args;
    if (p[0].type != J_STR) loami_j_fail(r, "strftime_now() wants a string, not %s", loami_j_typename(p[0]));
    const jstr *s = p[0].s;
    if (s->n > MAX_TIME_FORMAT)
        loami_j_fail(r, "strftime_now() with a format of more than %d bytes", MAX_TIME_FORMAT);
    if (!localtime_r(&r->now, &tm)) loami_j_fail(r, "there is no local time");
    jsb b = { .r = r };
    for (size_t i = 0; i < s->n; i++) {
        if (s->p[i] != '%' || i + 1 == s->n) {
            loami_j_putc(&b, s->p[i]);
            continue;
        }
        size_t n = 1;
        if (strchr("-_0^#EO", s->p[i + 1]) && i + 2 < s->n) n = 2;
        char c = s->p[i + n];
        memcpy(fmt, s->p + i, n + 1);
        fmt[n + 1] = 0;
        i += n;
        if (c == 'f') loami_j_puts(&b, "000000");
        else if (c != 'z' && c != 'Z' && c != ':' && c)
            loami_j_put(&b, piece, strftime(piece, sizeof piece, fmt, &tm));
    }
    return loami_j_sbval(&b);
}

const jbuiltin loami_j_globals[] = {
    { "range", g_range, "/ start stop? step?" }, { "dict", g_dict, "*" }, { "namespace", g_namespace, "*" },
    { "cycler", g_cycler, "*" }, { "joiner", g_joiner, "sep?" }, { "raise_exception", g_raise, "message" },
    { "strftime_now", g_strftime_now, "format" },
    { NULL, NULL, NULL },
};
