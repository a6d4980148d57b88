/* Expressions at work. */
#include "text/jinja/run.h"

#include <string.h>

static jval eval_name(jrun *r, const jnode *n)
{
    jval v = *loami_j_var(r, n->ref);
    return v.type == J_MISSING ? loami_j_undef_var(r, n->name) : v;
}

static jval eval_const(jrun *r, const jnode *n)
{
    (void)r;
    return n->value;
}

static jval eval_items(jrun *r, const jnode *n)
{
    size_t count = 0, k = 0;
    for (const jnode *i = n->list; i; i = i->next) count++;
    jval *v = loami_j_array(r, count ? count : 1, sizeof *v);
    for (const jnode *i = n->list; i; i = i->next) v[k++] = loami_j_eval(r, i);
    return loami_j_list(r, n->kind == N_LIST ? J_LIST : J_TUPLE, v, count);
}

static jval eval_dict(jrun *r, const jnode *n)
{
    jdict *d = loami_j_dict(r);
    for (const jnode *i = n->list; i; i = i->next->next) {
        jval k = loami_j_eval(r, i);
        loami_j_dict_set(r, d, k, loami_j_eval(r, i->next));
    }
    return (jval){ .type = J_DICT, .d = d };
}

static jval eval_cond(jrun *r, const jnode *n)
{
    if (loami_j_true(r, loami_j_eval(r, n->b))) return loami_j_eval(r, n->a);
    if (n->c) return loami_j_eval(r, n->c);
    return loami_j_undef_hint(r,
                              "the inline if-expression on line %u evaluated to false and no else section was defined.", n->line);
}

static jval eval_and(jrun *r, const jnode *n)
{
    jval a = loami_j_eval(r, n->a);
    return loami_j_true(r, a) ? loami_j_eval(r, n->b) : a;
}

static jval eval_or(jrun *r, const jnode *n)
{
    jval a = loami_j_eval(r, n->a);
    return loami_j_true(r, a) ? a : loami_j_eval(r, n->b);
}

static jval eval_not(jrun *r, const jnode *n)
{
    return loami_j_bool(!loami_j_true(r, loami_j_eval(r, n->a)));
}

static jval eval_compare(jrun *r, const jnode *n)
{
    jval left = loami_j_eval(r, n->a);
    for (const jnode *o = n->list; o; o = o->next) {
        jval right = loami_j_eval(r, o->a);
        if (!loami_j_compare(r, o->op, left, right)) return loami_j_bool(false);
        left = right;
    }
    return loami_j_bool(true);
}

static jval eval_binary(jrun *r, const jnode *n)
{
    jval a = loami_j_eval(r, n->a), b = loami_j_eval(r, n->b);
    r->m.line = n->line;
    return loami_j_binary(r, n->op, a, b);
}

static jval eval_unary(jrun *r, const jnode *n)
{
    return loami_j_unary(r, n->op, loami_j_eval(r, n->a));
}

static jval eval_concat(jrun *r, const jnode *n)
{
    jval first = loami_j_tostr(r, loami_j_eval(r, n->list));
    for (const jnode *i = n->list->next; i; i = i->next)
        first = loami_j_concat(r, first.s, loami_j_tostr(r, loami_j_eval(r, i)).s);
    return first;
}

static jval eval_attr(jrun *r, const jnode *n)
{
    jval of = loami_j_eval(r, n->a);
    r->m.line = n->line;
    return loami_j_getattr(r, of, n->name);
}

static jval eval_item(jrun *r, const jnode *n)
{
    jval of = loami_j_eval(r, n->a);
    if (n->b->kind != N_SLICE) {
        jval key = loami_j_eval(r, n->b);
        r->m.line = n->line;
        return loami_j_getitem(r, of, key);
    }
    const jnode *parts[] = { n->b->a, n->b->b, n->b->c };
    jval v[3];
    for (int i = 0; i < 3; i++) v[i] = parts[i] ? loami_j_eval(r, parts[i]) : loami_j_none();
    return loami_j_slice(r, of, v[0], v[1], v[2]);
}

static jval eval_call(jrun *r, const jnode *n)
{
    jargs args;
    jval callee = loami_j_eval(r, n->a);
    loami_j_args(r, n, &args);
    r->m.line = n->line;
    return loami_j_call(r, callee, &args);
}

static jval eval_filter(jrun *r, const jnode *n)
{
    jargs args;
    jval v = n->a ? loami_j_eval(r, n->a) : r->block_text;
    loami_j_args(r, n, &args);
    r->m.line = n->line;
    if (!n->builtin)
        loami_j_fail(r, "No %s named '%.*s' found.", n->kind == N_FILTER ? "filter" : "test",
                     n->name->n > 100 ? 100 : (int)n->name->n,
                     n->name->p);
    return loami_j_call_builtin(r, n->builtin, v, &args);
}

static jval (*const eval_kinds[N_KINDS])(jrun *r, const jnode *n) = {
    [N_CONST] = eval_const, [N_NAME] = eval_name, [N_TUPLE] = eval_items, [N_LIST] = eval_items, [N_DICT] = eval_dict,
    [N_COND] = eval_cond, [N_AND] = eval_and, [N_OR] = eval_or, [N_NOT] = eval_not, [N_COMPARE] = eval_compare,
    [N_BINARY] = eval_binary, [N_UNARY] = eval_unary, [N_CONCAT] = eval_concat, [N_ATTR] = eval_attr, [N_ITEM] = eval_item,
    [N_CALL] = eval_call, [N_FILTER] = eval_filter, [N_TEST] = eval_filter,
};

jval loami_j_eval(jrun *r, const jnode *n)
{
    loami_j_enter(r);
    loami_j_work(r, 0);
    jval v = eval_kinds[n->kind](r, n);
    loami_j_leave(r);
    return v;
}
