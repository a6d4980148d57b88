#include "text/jinja/run.h"

#include <inttypes.h>
#include <string.h>

static void repr_string(jsb *b, const jstr *s)
{
    static const struct { char c; const char *as; } escapes[] = { { '\n', "\\n" }, { '\r', "\\r" },
                                                                  { '\t', "\\t" }, { '\\', "\\\\" } };
    char quote = memchr(s->p, '\'', s->n) && !memchr(s->p, '"', s->n) ? '"' : '\'';

    if (s->markup) loami_j_puts(b, "Markup(");
    loami_j_putc(b, quote);
    for (size_t i = 0; i < s->n;) {
        uint32_t cp = loami_j_next(s, &i);
        const char *as = NULL;
        for (int k = 0; k < 4; k++)
            if (cp == (uint32_t)escapes[k].c) as = escapes[k].as;
        if (as) loami_j_puts(b, as);
        else if (cp == (uint32_t)quote) loami_j_printf(b, "\\%c", quote);
        else if (loami_j_printable(cp)) loami_j_putcp(b, cp);
        else loami_j_printf(b, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
    }
    loami_j_putc(b, quote);
    if (s->markup) loami_j_putc(b, ')');
}

static void repr_items(jsb *b, const jlist *l, const char *open, const char *close)
{
    loami_j_puts(b, open);
    for (size_t i = 0; i < l->n; i++) {
        if (i) loami_j_puts(b, ", ");
        loami_j_repr(b, l->v[i]);
    }
    loami_j_puts(b, close);
}

static void repr_dict(jsb *b, const jdict *d)
{
    loami_j_putc(b, '{');
    for (size_t i = 0; i < d->n; i++) {
        if (i) loami_j_puts(b, ", ");
        loami_j_repr(b, d->p[i].k);
        loami_j_puts(b, ": ");
        loami_j_repr(b, d->p[i].v);
    }
    loami_j_putc(b, '}');
}

static void repr_view(jsb *b, const jview *view)
{
    static const char *const names[] = { [J_KEYS] = "dict_keys([", [J_VALUES] = "dict_values([",
                                         [J_ITEMS] = "dict_items([" };
    loami_j_puts(b, names[view->what]);
    for (size_t i = 0; i < view->d->n; i++) {
        const jpair *p = &view->d->p[i];
        if (i) loami_j_puts(b, ", ");
        if (view->what == J_ITEMS) loami_j_putc(b, '(');
        if (view->what != J_VALUES) loami_j_repr(b, p->k);
        if (view->what == J_ITEMS) loami_j_puts(b, ", ");
        if (view->what != J_KEYS) loami_j_repr(b, p->v);
        if (view->what == J_ITEMS) loami_j_putc(b, ')');
    }
    loami_j_puts(b, "])");
}

static void repr_range(jsb *b, const jrange *g)
{
    loami_j_printf(b, "range(%" PRId64 ", %" PRId64, g->start, g->stop);
    if (g->step != 1) loami_j_printf(b, ", %" PRId64, g->step);
    loami_j_putc(b, ')');
}

static void repr_macro(jsb *b, const jmacro *m)
{
    loami_j_puts(b, "<Macro ");
    if (m->name) repr_string(b, m->name);
    else loami_j_puts(b, "anonymous");
    loami_j_putc(b, '>');
}

static void repr_loop(jsb *b, jval v)
{
    static const jstr length = { .p = "length", .n = 6 };
    jval n;
    loami_j_attribute(b->r, v, &length, &n);
    loami_j_printf(b, "<LoopContext %" PRId64 "/%" PRId64 ">", v.loop->index0 + 1, n.i);
}

void loami_j_repr(jsb *b, jval v)
{
    loami_j_enter(b->r);
    loami_j_work(b->r, 0);
    switch (v.type) {
    case J_UNDEF: loami_j_puts(b, "Undefined"); break;
    case J_NONE: loami_j_puts(b, "None"); break;
    case J_BOOL: loami_j_puts(b, v.b ? "True" : "False"); break;
    case J_INT: loami_j_printf(b, "%" PRId64, v.i); break;
    case J_FLOAT: loami_j_float_repr(b, v.f); break;
    case J_STR: repr_string(b, v.s); break;
    case J_LIST: repr_items(b, v.l, "[", "]"); break;
    case J_TUPLE: repr_items(b, v.l, "(", v.l->n == 1 ? ",)" : ")"); break;
    case J_DICT: repr_dict(b, v.d); break;
    case J_VIEW: repr_view(b, v.view); break;
    case J_RANGE: repr_range(b, v.range); break;
    case J_ITER: loami_j_printf(b, "<%s>", v.it->shown); break;
    case J_NS:
        loami_j_puts(b, "<Namespace ");
        repr_dict(b, v.d);
        loami_j_putc(b, '>');
        break;
    case J_MACRO: repr_macro(b, v.macro); break;
    case J_FUNC: loami_j_printf(b, "<function %s>", v.fn->name); break;
    case J_METHOD:
        loami_j_printf(b, "<built-in method %s of %s object>", v.method->fn->name,
                       loami_j_typename(v.method->self));
        break;
    case J_LOOP: repr_loop(b, v); break;
    default: loami_j_printf(b, "<%s object>", loami_j_typename(v)); break;
    }
    loami_j_leave(b->r);
}

void loami_j_show(jsb *b, jval v)
{
    if (v.type == J_STR) loami_j_put(b, v.s->p, v.s->n);
    else if (v.type != J_UNDEF) loami_j_repr(b, v);
}

jval loami_j_soft(jrun *r, jval v)
{
    if (v.type == J_STR) return v;
    jsb b = { .r = r };
    loami_j_show(&b, v);
    return loami_j_sbval(&b);
}

jval loami_j_tostr(jrun *r, jval v)
{
    v = loami_j_soft(r, v);
    if (v.s->markup) {
        v = loami_j_part(r, v.s, 0, v.s->n);
        ((jstr *)v.s)->markup = false;
    }
    return v;
}

jval loami_j_escape(jrun *r, jval v)
{
    static const struct { char c; const char *as; } entities[] = {
        { '&', "&amp;" }, { '<', "&lt;" }, { '>', "&gt;" }, { '\'', "&#39;" }, { '"', "&#34;" },
    };
    if (v.type == J_STR && v.s->markup) return v;
    const jstr *s = loami_j_soft(r, v).s;
    jsb b = { .r = r };
    for (size_t i = 0; i < s->n; i++) {
        const char *as = NULL;
        for (int k = 0; k < 5; k++)
            if (s->p[i] == entities[k].c) as = entities[k].as;
        if (as) loami_j_puts(&b, as);
        else loami_j_putc(&b, s->p[i]);
    }
    v = loami_j_sbval(&b);
    ((jstr *)v.s)->markup = true;
    return v;
}
