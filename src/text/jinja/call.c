/* Calls: arguments, macros, functions written in C. */
#include "text/jinja/run.h"

#include <string.h>

/* ---- arguments ---- */

static void add_named(jrun *r, jargs *a, const jstr *name, jval v)
{
    for (size_t i = 0; i < a->n_named; i++)
        if (a->names[i]->n == name->n && memcmp(a->names[i]->p, name->p, name->n) == 0)
            loami_j_fail(r, "got multiple values for keyword argument '%.*s'",
                         name->n > 100 ? 100 : (int)name->n, name->p);
    a->names[a->n_named] = name;
    a->named[a->n_named++] = v;
}

void loami_j_args(jrun *r, const jnode *n, jargs *out)
{
    size_t plain = 0, named = 0;
    jlb all = { .r = r };
    *out = (jargs){ 0 };
    if (!n->list && !n->list2 && !n->b && !n->c) return;
    for (const jnode *i = n->list; i; i = i->next) plain++;
    for (const jnode *i = n->list2; i; i = i->next) named++;
    if (plain) {
        all.v = loami_j_array(r, plain, sizeof *all.v);
        all.cap = plain;
    }
    for (const jnode *i = n->list; i; i = i->next) loami_j_push(&all, loami_j_eval(r, i));
    jval more = { .type = J_MISSING }, by_name = { .type = J_MISSING };
    if (n->b) more = loami_j_eval(r, n->b);
    if (named) {
        out->names = loami_j_array(r, named, sizeof *out->names);
        out->named = loami_j_array(r, named, sizeof *out->named);
    }
    for (const jnode *i = n->list2; i; i = i->next) add_named(r, out, i->name, loami_j_eval(r, i->a));
    if (n->c) by_name = loami_j_eval(r, n->c);
    if (more.type != J_MISSING) {
        jval v;
        jiter *it = loami_j_iter(r, more);
        while (loami_j_step(r, it, &v)) loami_j_push(&all, v);
    }
    out->v = all.v;
    out->n = all.n;
    if (by_name.type == J_MISSING) return;
    if (by_name.type == J_UNDEF) loami_j_fail_undef(r, by_name.u);
    if (by_name.type != J_DICT)
        loami_j_fail(r, "argument after ** must be a mapping, not %s", loami_j_typename(by_name));
    const jstr **names = loami_j_array(r, named + by_name.d->n + 1, sizeof *names);
    jval *values = loami_j_array(r, named + by_name.d->n + 1, sizeof *values);
    if (named) {
        memcpy(names, out->names, named * sizeof *names);
        memcpy(values, out->named, named * sizeof *values);
    }
    out->names = names;
    out->named = values;
    for (size_t i = 0; i < by_name.d->n; i++) {
        if (by_name.d->p[i].k.type != J_STR) loami_j_fail(r, "keywords must be strings");
        add_named(r, out, by_name.d->p[i].k.s, by_name.d->p[i].v);
    }
}

/* ---- builtins ---- */

const jbuiltin *loami_j_find(const jbuiltin *table, const char *name, size_t n)
{
    for (; table->name; table++)
        if (strncmp(table->name, name, n) == 0 && table->name[n] == 0) return table;
    return NULL;
}

const jbuiltin *loami_j_filter(const char *name, size_t n)
{
    const jbuiltin *const tables[] = { loami_j_filters_seq, loami_j_filters_text, loami_j_filters_number };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const jbuiltin *b = loami_j_find(tables[i], name, n);
        if (b) return b;
    }
    return NULL;
}

const jbuiltin *loami_j_test(const char *name, size_t n)
{
    return loami_j_find(loami_j_tests, name, n);
}

typedef struct param {
    const char *name;
    size_t n;
    bool optional;
} param;

/* The next parameter of a list like "a b? c?"; false at its end. */
static bool next_param(const char **at, param *out)
{
    const char *p = *at + strspn(*at, " /");
    size_t n = strcspn(p, " ");
    *at = p + n;
    if (!n) return false;
    *out = (param){ p, n, p[n - 1] == '?' };
    out->n -= out->optional;
    return true;
}

static void bind_named(jrun *r, const jbuiltin *b, const jargs *args, jval *p)
{
    for (size_t i = 0; i < args->n_named; i++) {
        const jstr *name = args->names[i];
        const char *at = b->params;
        param q;
        size_t k = 0;
        bool found = false;
        while (!found && b->params[0] != '/' && next_param(&at, &q)) {
            found = q.n == name->n && memcmp(q.name, name->p, q.n) == 0;
            k += !found;
        }
        int shown = name->n > 100 ? 100 : (int)name->n;
        if (!found)
            loami_j_fail(r, "%s() got an unexpected keyword argument '%.*s'", b->name, shown, name->p);
        if (p[k].type != J_MISSING)
            loami_j_fail(r, "%s() got multiple values for argument '%.*s'", b->name, shown, name->p);
        p[k] = args->named[i];
    }
}

jval loami_j_call_builtin(jrun *r, const jbuiltin *b, jval self, const jargs *args)
{
    jval p[J_MAX_PARAMS] = { { .type = J_MISSING } };
    if (b->params[0] == '*') return b->call(r, self, p, args);
    const char *at = b->params;
    param q;
    size_t n = 0;
    while (next_param(&at, &q)) {
        if (n < args->n) p[n] = args->v[n];
        n++;
    }
    if (args->n > n) loami_j_fail(r, "%s() takes at most %zu arguments (%zu given)", b->name, n, args->n);
    bind_named(r, b, args, p);
    at = b->params;
    for (size_t i = 0; next_param(&at, &q); i++)
        if (!q.optional && p[i].type == J_MISSING)
            loami_j_fail(r, "%s() is missing the argument '%.*s'", b->name, (int)q.n, q.name);
    loami_j_enter(r);
    jval v = b->call(r, self, p, args);
    loami_j_leave(r);
    return v;
}

/* ---- macros ---- */

/* The named argument `name`, marked as used; missing when there is none. */
static jval take(const jargs *args, bool *used, const jstr *name)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (!used[i] && args->names[i]->n == name->n && memcmp(args->names[i]->p, name->p, name->n) == 0) {
            used[i] = true;
            return args->named[i];
        }
    return (jval){ .type = J_MISSING };
}

static void bind_params(jrun *r, const jmacro *m, const jargs *args, bool *used)
{
    const jfn *fn = m->fn;
    size_t at = 0;
    bool found_caller = false, explicit_caller = false;
    for (const jnode *p = m->node->list; p; p = p->next, at++) {
        bool is_caller = loami_j_is(p->name, "caller");
        explicit_caller |= is_caller;
        if (at >= args->n && is_caller) found_caller = true;
        r->frame->v[p->ref.slot] = at < args->n ? args->v[at] : take(args, used, p->name);
    }
    if (args->n >= at) found_caller = explicit_caller;
    if (fn->wants_caller && !found_caller) {
        jval caller = take(args, used, loami_j_strz(r, "caller").s);
        bool none = caller.type == J_MISSING || caller.type == J_NONE;
        r->frame->v[fn->caller.slot] = none ? loami_j_undef_hint(r, "No caller defined") : caller;
    }
    jdict *kwargs = loami_j_dict(r);
    for (size_t i = 0; i < args->n_named; i++)
        if (!used[i])
            loami_j_dict_set(r, kwargs, (jval){ .type = J_STR, .s = args->names[i] }, args->named[i]);
    int n = m->name ? m->name->n > 100 ? 100 : (int)m->name->n : 4;
    const char *name = m->name ? m->name->p : "None";
    if (fn->wants_kwargs) r->frame->v[fn->kwargs.slot] = (jval){ .type = J_DICT, .d = kwargs };
    else if (kwargs->n) loami_j_fail(r, "macro '%.*s' takes no keyword argument '%.*s'", n, name,
                                     kwargs->p[0].k.s->n > 100 ? 100 : (int)kwargs->p[0].k.s->n, kwargs->p[0].k.s->p);
    size_t extra = args->n > at ? args->n - at : 0;
    if (fn->wants_varargs)
        r->frame->v[fn->varargs.slot] = loami_j_list(r, J_TUPLE, args->v + args->n - extra, extra);
    else if (extra) loami_j_fail(r, "macro '%.*s' takes not more than %zu argument(s)", n, name, at);
}

/* Parameters that were not given take their defaults, in order; a default may name an earlier parameter. */
static void fill_defaults(jrun *r, const jmacro *m)
{
    size_t n_params = 0, n_defaults = 0, at = 0;
    for (const jnode *p = m->node->list; p; p = p->next) n_params++;
    for (const jnode *d = m->node->list2; d; d = d->next) n_defaults++;
    const jnode *d = m->node->list2;
    for (const jnode *p = m->node->list; p; p = p->next, at++) {
        const jnode *mine = NULL;
        if (at + n_defaults >= n_params) {
            mine = d;
            d = d->next;
        }
        jval *v = &r->frame->v[p->ref.slot];
        if (v->type != J_MISSING) continue;
        *v = mine ? loami_j_eval(r, mine)
                  : loami_j_undef_hint(r, "parameter '%.*s' was not provided",
                                       p->name->n > 100 ? 100 : (int)p->name->n, p->name->p);
    }
}

jval loami_j_call_macro(jrun *r, const jmacro *m, const jargs *args)
{
    jframe *frame = r->frame;
    jsb b = { .r = r };
    bool *used = loami_j_array(r, args->n_named ? args->n_named : 1, sizeof *used);

    loami_j_enter(r);
    r->frame = loami_j_frame(r, m->fn, m->up);
    bind_params(r, m, args, used);
    loami_j_enter_scope(r, m->node->scope);
    fill_defaults(r, m);
    loami_j_exec(r, m->node->body, &b);
    r->frame = frame;
    loami_j_leave(r);
    return loami_j_sbval(&b);
}

jval loami_j_call(jrun *r, jval callee, const jargs *args)
{
    switch (callee.type) {
    case J_MACRO: return loami_j_call_macro(r, callee.macro, args);
    case J_FUNC: return loami_j_call_builtin(r, callee.fn, callee, args);
    case J_METHOD: return loami_j_call_builtin(r, callee.method->fn, callee.method->self, args);
    case J_UNDEF: loami_j_fail_undef(r, callee.u);
    case J_LOOP:
        if (args->n != 1 || args->n_named) loami_j_fail(r, "loop() takes one argument");
        return loami_j_recurse(r, callee.loop, args->v[0]);
    case J_JOINER:
        if (args->n || args->n_named) loami_j_fail(r, "a joiner takes no arguments");
        if (callee.joiner->used) return callee.joiner->sep;
        callee.joiner->used = true;
        return loami_j_strz(r, "");
    default: loami_j_fail(r, "'%s' object is not callable", loami_j_typename(callee));
    }
}
