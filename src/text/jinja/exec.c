/* Statements at work. */
#include "text/jinja/run.h"

#include <string.h>

jval *loami_j_var(jrun *r, jref ref)
{
    jframe *f = r->frame;
    for (unsigned up = ref.up; up; up--) f = f->up;
    return &f->v[ref.slot];
}

jframe *loami_j_frame(jrun *r, const jfn *fn, jframe *up)
{
    jframe *f = loami_j_alloc(r, sizeof *f);
    f->v = loami_j_array(r, fn->n_slots ? fn->n_slots : 1, sizeof *f->v);
    f->up = up;
    return f;
}

static jval outside(jrun *r, const jstr *name)
{
    jval v;
    if (loami_j_dict_gets(r, r->vars, name->p, name->n, &v)) return v;
    const jbuiltin *b = loami_j_find(loami_j_globals, name->p, name->n);
    return b ? (jval){ .type = J_FUNC, .fn = b } : (jval){ .type = J_MISSING };
}

void loami_j_enter_scope(jrun *r, const jscope *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const jload *l = &s->loads[i];
        jval *to = &r->frame->v[l->to.slot];
        if (l->how == LOAD_VARS) *to = outside(r, l->name);
        else if (l->how == LOAD_ALIAS) *to = *loami_j_var(r, l->from);
        else if (l->how == LOAD_UNDEF) to->type = J_MISSING;
    }
    loami_j_work(r, s->n);
}

static void leave_scope(jrun *r, const jscope *s)
{
    for (size_t i = 0; i < s->n; i++) r->frame->v[s->loads[i].to.slot].type = J_MISSING;
}

/* ---- assignment ---- */

static void assign_parts(jrun *r, const jnode *target, jval v)
{
    size_t want = 0, have = 0;
    jval item;
    for (const jnode *t = target->list; t; t = t->next) want++;
    jval *parts = loami_j_array(r, want ? want : 1, sizeof *parts);
    jiter *it = loami_j_iter(r, v);
    while (loami_j_step(r, it, &item)) {
        if (have == want) loami_j_fail(r, "too many values to unpack (expected %zu)", want);
        parts[have++] = item;
    }
    if (have < want) loami_j_fail(r, "not enough values to unpack (expected %zu, got %zu)", want, have);
    have = 0;
    for (const jnode *t = target->list; t; t = t->next) loami_j_assign(r, t, parts[have++]);
}

void loami_j_assign(jrun *r, const jnode *target, jval v)
{
    if (target->kind == N_NAME) {
        *loami_j_var(r, target->ref) = v;
        return;
    }
    loami_j_enter(r);
    if (target->kind == N_TUPLE) {
        assign_parts(r, target, v);
    } else {
        const jstr *key = target->value.s;
        if (key->n && key->p[0] == '_')
            loami_j_fail(r, "a namespace can't have names that begin with an underscore");
        loami_j_dict_set(r, loami_j_var(r, target->ref)->d, target->value, v);
    }
    loami_j_leave(r);
}

static void check_namespaces(jrun *r, const jnode *target)
{
    if (target->kind == N_NS_REF && loami_j_var(r, target->ref)->type != J_NS)
        loami_j_fail(r, "cannot assign attribute on non-namespace object");
    if (target->kind != N_TUPLE) return;
    for (const jnode *t = target->list; t; t = t->next) check_namespaces(r, t);
}

/* ---- loops ---- */

/* The items of a loop that meet its condition. */
typedef struct condition {
    const jnode *n;
    jframe *frame;
    bool entered;
} condition;

/* What a target was given, seen through its names: a tuple where it unpacks. */
static jval seen_as(jrun *r, const jnode *target)
{
    if (target->kind == N_NAME) return *loami_j_var(r, target->ref);
    jlb b = { .r = r };
    for (const jnode *t = target->list; t; t = t->next) loami_j_push(&b, seen_as(r, t));
    return loami_j_lbval(&b, J_TUPLE);
}

static bool next_that_meets(jrun *r, jiter *it, jval *out)
{
    condition *c = it->more;
    jframe *frame = r->frame;
    bool found = false;
    jval v;

    r->frame = c->frame;
    if (!c->entered) loami_j_enter_scope(r, c->n->test_scope);
    c->entered = true;
    while (!found && loami_j_step(r, it->src.it, &v)) {
        loami_j_assign(r, c->n->list, v);
        found = loami_j_true(r, loami_j_eval(r, c->n->c));
        if (found) *out = seen_as(r, c->n->list);
    }
    r->frame = frame;
    return found;
}

static jval with_condition(jrun *r, const jnode *n, jval iterable, jframe *up)
{
    condition *c = loami_j_alloc(r, sizeof *c);
    *c = (condition){ .n = n, .frame = loami_j_frame(r, n->test_fn, up) };
    jval src = { .type = J_ITER, .it = loami_j_iter(r, iterable) };
    return loami_j_lazy(r, "generator object", next_that_meets, src, c);
}

static bool loop_next(jrun *r, jloop *l, jval *out)
{
    if (l->after.type != J_MISSING) {
        *out = l->after;
        l->after.type = J_MISSING;
    } else if (!loami_j_step(r, l->it, out)) {
        return false;
    }
    l->index0++;
    l->before = l->current;
    l->current = *out;
    return true;
}

/* The iterations of a for loop in r->frame. */
static jflow exec_iterations(jrun *r, const jnode *n, jval iterable, jframe *up, int64_t depth0, jsb *out)
{
    jloop *l = loami_j_alloc(r, sizeof *l);
    bool finished = false;         /* an iteration came to its end; otherwise else runs, as in Jinja2 */
    jval item;

    if (n->c) iterable = with_condition(r, n, iterable, up);
    *l = (jloop){ .iterable = iterable, .it = loami_j_iter(r, iterable), .index0 = -1, .length = -1, .depth0 = depth0,
                  .recurse = n->recursive ? n : NULL, .up = up };
    while (loop_next(r, l, &item)) {
        loami_j_work(r, 0);
        loami_j_assign(r, n->a, item);
        if (n->extended) *loami_j_var(r, n->ref) = (jval){ .type = J_LOOP, .loop = l };
        loami_j_enter_scope(r, n->scope);
        jflow flow = loami_j_exec(r, n->body, out);
        if (flow == J_BREAK) break;
        if (flow == J_GO_ON) finished = true;
    }
    leave_scope(r, n->scope);
    if (finished || !n->orelse) return J_GO_ON;
    loami_j_enter_scope(r, n->scope2);
    jflow flow = loami_j_exec(r, n->orelse, out);
    leave_scope(r, n->scope2);
    return flow;
}

/* A recursive loop is a function: it has its own variables and its output is one string. */
static jval exec_recursive(jrun *r, const jnode *n, jval iterable, jframe *up, int64_t depth0)
{
    jframe *frame = r->frame;
    jsb b = { .r = r };
    loami_j_enter(r);
    r->frame = loami_j_frame(r, n->fn, up);
    exec_iterations(r, n, iterable, up, depth0, &b);
    r->frame = frame;
    loami_j_leave(r);
    return loami_j_sbval(&b);
}

jval loami_j_recurse(jrun *r, const jloop *l, jval iterable)
{
    if (!l->recurse) loami_j_fail(r, "The loop must have the 'recursive' marker to be called recursively.");
    return exec_recursive(r, l->recurse, iterable, l->up, l->depth0 + 1);
}

static jflow exec_for(jrun *r, const jnode *n, jsb *out)
{
    jval iterable = loami_j_eval(r, n->b);
    if (!n->recursive) return exec_iterations(r, n, iterable, r->frame, 0, out);
    loami_j_show(out, exec_recursive(r, n, iterable, r->frame, 0));
    return J_GO_ON;
}

/* ---- the other statements ---- */

static jflow exec_output(jrun *r, const jnode *n, jsb *out)
{
    for (const jnode *e = n->list; e; e = e->next) loami_j_show(out, loami_j_eval(r, e));
    return J_GO_ON;
}

static jflow exec_if(jrun *r, const jnode *n, jsb *out)
{
    if (loami_j_true(r, loami_j_eval(r, n->a))) return loami_j_exec(r, n->body, out);
    for (const jnode *e = n->list; e; e = e->next)
        if (loami_j_true(r, loami_j_eval(r, e->a))) return loami_j_exec(r, e->body, out);
    return loami_j_exec(r, n->orelse, out);
}

static jval macro_of(jrun *r, const jnode *n)
{
    jmacro *m = loami_j_alloc(r, sizeof *m);
    *m = (jmacro){ .fn = n->fn, .node = n, .name = n->name, .up = r->frame };
    return (jval){ .type = J_MACRO, .macro = m };
}

static jflow exec_macro(jrun *r, const jnode *n, jsb *out)
{
    (void)out;
    *loami_j_var(r, n->ref) = macro_of(r, n);
    return J_GO_ON;
}

/* Jinja2 joins what a block gives without making it a string first. */
static void put_string(jsb *out, jval v)
{
    if (v.type != J_STR) loami_j_fail(out->r, "expected str instance, %s found", loami_j_typename(v));
    loami_j_show(out, v);
}

/* The call with the block as its argument `caller`; a generation block is its own caller. */
static jflow exec_call_block(jrun *r, const jnode *n, jsb *out)
{
    jval caller = macro_of(r, n);
    if (!n->a) {
        loami_j_show(out, loami_j_call(r, caller, &(jargs){ 0 }));
        return J_GO_ON;
    }
    jval callee = loami_j_eval(r, n->a->a);
    jargs args;
    loami_j_args(r, n->a, &args);
    for (size_t i = 0; i < args.n_named; i++)
        if (loami_j_is(args.names[i], "caller")) loami_j_fail(r, "the call block has two values for caller");
    jval *named = loami_j_array(r, args.n_named + 1, sizeof *named);
    const jstr **names = loami_j_array(r, args.n_named + 1, sizeof *names);
    for (size_t i = 0; i < args.n_named; i++) {
        named[i] = args.named[i];
        names[i] = args.names[i];
    }
    named[args.n_named] = caller;
    names[args.n_named] = loami_j_strz(r, "caller").s;
    args.named = named;
    args.names = names;
    args.n_named++;
    put_string(out, loami_j_call(r, callee, &args));
    return J_GO_ON;
}

/* Runs a body into a string and through filters, within its scope. flow: how it ended. */
static jval captured(jrun *r, const jnode *n, const jnode *filters, jflow *flow)
{
    jsb b = { .r = r };
    jval text, outer = r->block_text;
    loami_j_enter_scope(r, n->scope);
    *flow = loami_j_exec(r, n->body, &b);
    text = loami_j_sbval(&b);
    if (*flow == J_GO_ON && filters) {
        r->block_text = text;
        text = loami_j_eval(r, filters);
        r->block_text = outer;
    }
    return text;
}

static jflow exec_filter_block(jrun *r, const jnode *n, jsb *out)
{
    jflow flow;
    jval text = captured(r, n, n->a, &flow);
    if (flow == J_GO_ON) put_string(out, text);
    leave_scope(r, n->scope);
    return flow;
}

static jflow exec_set_block(jrun *r, const jnode *n, jsb *out)
{
    jflow flow;
    jval text = captured(r, n, n->b, &flow);
    (void)out;
    if (flow == J_GO_ON) {
        check_namespaces(r, n->a);
        loami_j_assign(r, n->a, text);
    }
    leave_scope(r, n->scope);
    return flow;
}

static jflow exec_set(jrun *r, const jnode *n, jsb *out)
{
    (void)out;
    check_namespaces(r, n->a);
    loami_j_assign(r, n->a, loami_j_eval(r, n->b));
    return J_GO_ON;
}

static jflow exec_with(jrun *r, const jnode *n, jsb *out)
{
    loami_j_enter_scope(r, n->scope);
    const jnode *v = n->list2;
    for (const jnode *t = n->list; t; t = t->next, v = v->next) loami_j_assign(r, t, loami_j_eval(r, v));
    jflow flow = loami_j_exec(r, n->body, out);
    leave_scope(r, n->scope);
    return flow;
}

static jflow exec_break(jrun *r, const jnode *n, jsb *out)
{
    (void)r, (void)out;
    return n->kind == N_BREAK ? J_BREAK : J_CONTINUE;
}

static jflow (*const exec_kinds[])(jrun *r, const jnode *n, jsb *out) = {
    [N_OUTPUT] = exec_output, [N_FOR] = exec_for, [N_IF] = exec_if, [N_MACRO] = exec_macro,
    [N_CALL_BLOCK] = exec_call_block, [N_FILTER_BLOCK] = exec_filter_block, [N_WITH] = exec_with, [N_SET] = exec_set,
    [N_SET_BLOCK] = exec_set_block, [N_BREAK] = exec_break, [N_CONTINUE] = exec_break,
};

jflow loami_j_exec(jrun *r, const jnode *body, jsb *out)
{
    jflow flow = J_GO_ON;
    loami_j_enter(r);
    for (const jnode *n = body; n && flow == J_GO_ON; n = n->next) {
        r->m.line = n->line;
        loami_j_work(r, 0);
        flow = exec_kinds[n->kind](r, n, out);
    }
    loami_j_leave(r);
    return flow;
}
