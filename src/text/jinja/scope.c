/* Which variable a name means is decided before rendering, by Jinja2's rules (its idtracking and compiler modules).
 *
 * Loops, macros, with, set and filter blocks are scopes; an if is not. A name that a scope assigns is the scope's
 * own from its start to its end: it begins as a copy of the outer variable of that name if there is one, else
 * unassigned, or, when it is assigned only in a branch, as the rendering's variable. A name that is only read is
 * the nearest outer variable; macros see outer variables as they are when called. Variables are slots of the
 * function around them, one for each pair of nesting level and name. */
#include "text/jinja/run.h"

#include <string.h>

enum { NAME_TABLE = 2 * J_MAX_NAMES };

typedef struct func func;
typedef struct scope scope;

typedef struct entry {
    uint32_t name;                 /* number of the name */
    uint16_t slot;
    bool stored;
    uint8_t how;                   /* LOAD_* */
    const scope *owner;            /* LOAD_ALIAS: the scope that has the outer variable */
} entry;

struct func {
    func *parent;
    jfn *out;
    struct { uint32_t level, name; } *slots; /* [out->n_slots] */
    size_t cap;
};

struct scope {
    scope *parent;
    uint32_t level;
    func *fn;
    entry *e;                      /* [n] */
    size_t n, cap;
};

typedef struct compiler {
    jrun *r;
    const jstr *names[J_MAX_NAMES];
    uint32_t n_names, table[NAME_TABLE]; /* number + 1 */
} compiler;

static uint32_t intern(compiler *c, const jstr *s)
{
    uint64_t h = loami_j_hash(c->r, (jval){ .type = J_STR, .s = s });
    for (size_t i = h % NAME_TABLE;; i = (i + 1) % NAME_TABLE) {
        if (!c->table[i]) {
            if (c->n_names == J_MAX_NAMES) loami_j_fail(c->r, "more than %d different names", J_MAX_NAMES);
            c->names[c->n_names] = s;
            c->table[i] = ++c->n_names;
            return c->n_names - 1;
        }
        const jstr *other = c->names[c->table[i] - 1];
        if (other->n == s->n && memcmp(other->p, s->p, s->n) == 0) return c->table[i] - 1;
    }
}

static uint32_t intern_z(compiler *c, const char *z)
{
    return intern(c, loami_j_strz(c->r, z).s);
}

/* ---- scopes ---- */

static func *func_new(compiler *c, func *parent)
{
    func *f = loami_j_alloc(c->r, sizeof *f);
    f->parent = parent;
    f->out = loami_j_alloc(c->r, sizeof *f->out);
    return f;
}

static scope *scope_new(compiler *c, scope *parent, func *fn)
{
    scope *s = loami_j_alloc(c->r, sizeof *s);
    *s = (scope){ .parent = parent, .level = parent ? parent->level + 1 : 0, .fn = fn };
    return s;
}

static uint16_t slot_of(compiler *c, func *f, uint32_t level, uint32_t name)
{
    uint32_t n = f->out->n_slots;
    loami_j_work(c->r, n);
    for (uint32_t i = 0; i < n; i++)
        if (f->slots[i].level == level && f->slots[i].name == name) return (uint16_t)i;
    if (n == UINT16_MAX) loami_j_fail(c->r, "too many variables");
    if (n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 16;
        void *bigger = loami_j_array(c->r, cap, sizeof *f->slots);
        if (n) memcpy(bigger, f->slots, n * sizeof *f->slots);
        f->slots = bigger;
        f->cap = cap;
    }
    f->slots[n].level = level;
    f->slots[n].name = name;
    f->out->n_slots = n + 1;
    return (uint16_t)n;
}

static entry *find_here(const scope *s, uint32_t name)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->e[i].name == name) return &s->e[i];
    return NULL;
}

static const scope *find_owner(const scope *s, uint32_t name)
{
    for (; s; s = s->parent)
        if (find_here(s, name)) return s;
    return NULL;
}

static entry *define(compiler *c, scope *s, uint32_t name, uint8_t how, const scope *owner)
{
    entry *e = find_here(s, name);
    loami_j_work(c->r, s->n);
    if (!e) {
        if (s->n == s->cap) {
            size_t cap = s->cap ? s->cap * 2 : 8;
            entry *bigger = loami_j_array(c->r, cap, sizeof *bigger);
            if (s->n) memcpy(bigger, s->e, s->n * sizeof *bigger);
            s->e = bigger;
            s->cap = cap;
        }
        e = &s->e[s->n++];
        *e = (entry){ .name = name, .slot = slot_of(c, s->fn, s->level, name) };
    }
    e->how = how;
    e->owner = owner;
    return e;
}

static void declare(compiler *c, scope *s, uint32_t name)
{
    define(c, s, name, LOAD_PARAM, NULL)->stored = true;
}

static void store(compiler *c, scope *s, uint32_t name)
{
    entry *e = find_here(s, name);
    if (!e) {
        const scope *owner = find_owner(s->parent, name);
        e = define(c, s, name, owner ? LOAD_ALIAS : LOAD_UNDEF, owner);
    }
    e->stored = true;
}

static void load(compiler *c, scope *s, uint32_t name)
{
    loami_j_work(c->r, s->n);
    if (!find_owner(s, name)) define(c, s, name, LOAD_VARS, NULL);
}

/* ---- which names a scope has: visits what runs in it, and stops at inner scopes ---- */

static void visit(compiler *c, scope *s, jnode *n);

static void visit_list(compiler *c, scope *s, jnode *n)
{
    for (; n; n = n->next) visit(c, s, n);
}

/* Gives s the names that it had before, in an array of its own. */
static void restore(compiler *c, scope *s, const scope *before)
{
    s->n = before->n;
    s->cap = before->n + 4;
    s->e = loami_j_array(c->r, s->cap, sizeof *s->e);
    if (s->n) memcpy(s->e, before->e, s->n * sizeof *s->e);
    loami_j_work(c->r, s->n * sizeof *s->e);
}

static void visit_if(compiler *c, scope *s, jnode *n)
{
    visit(c, s, n->a);
    scope before = *s, after[3];
    jnode *branches[3] = { n->body, n->list, n->orelse };
    for (int i = 0; i < 3; i++) {
        restore(c, s, &before);
        visit_list(c, s, branches[i]);
        after[i] = *s;
    }
    restore(c, s, &before);
    for (int i = 0; i < 3; i++)
        for (size_t k = 0; k < after[i].n; k++) {
            const entry *e = &after[i].e[k];
            entry *mine = define(c, s, e->name, e->how, e->owner);
            mine->stored |= e->stored;
        }
    for (size_t k = 0; k < s->n; k++) {
        entry *e = &s->e[k];
        const entry *old = find_here(&before, e->name);
        if (!e->stored || (old && old->stored)) continue;
        e->owner = find_owner(s->parent, e->name);
        e->how = e->owner ? LOAD_ALIAS : LOAD_VARS;
    }
}

static void visit(compiler *c, scope *s, jnode *n)
{
    if (!n) return;
    loami_j_enter(c->r);
    loami_j_work(c->r, 0);
    c->r->m.line = n->line;
    switch (n->kind) {
    case N_NAME:
        if (n->param) declare(c, s, intern(c, n->name));
        else if (n->store) store(c, s, intern(c, n->name));
        else load(c, s, intern(c, n->name));
        break;
    case N_NS_REF: load(c, s, intern(c, n->name)); break;
    case N_IF: visit_if(c, s, n); break;
    case N_MACRO: store(c, s, intern(c, n->name)); break;
    case N_SET:
        visit(c, s, n->b);
        visit(c, s, n->a);
        break;
    case N_FOR: visit(c, s, n->b); break;
    case N_CALL_BLOCK:
    case N_FILTER_BLOCK:
    case N_SET_BLOCK: visit(c, s, n->a); break;
    case N_WITH: visit_list(c, s, n->list2); break;
    default:
        visit(c, s, n->a);
        visit(c, s, n->b);
        visit(c, s, n->c);
        visit_list(c, s, n->list);
        visit_list(c, s, n->list2);
        break;
    }
    loami_j_leave(c->r);
}

/* Whether `name` is read somewhere below without having been assigned before. -1: assigned first. */
static int reads(compiler *c, const jnode *n, const char *name)
{
    for (; n; n = n->next) {
        loami_j_work(c->r, 0);
        if ((n->kind == N_NAME) && loami_j_is(n->name, name)) return n->store || n->param ? -1 : 1;
        const jnode *parts[] = { n->a, n->b, n->c, n->list, n->list2, n->body, n->orelse };
        loami_j_enter(c->r);
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            int found = parts[i] ? reads(c, parts[i], name) : 0;
            if (!found) continue;
            loami_j_leave(c->r);
            return found;
        }
        loami_j_leave(c->r);
    }
    return 0;
}

/* ---- resolving ---- */

static jref ref_to(const scope *from, const scope *owner, uint32_t name)
{
    uint16_t up = 0;
    for (const func *f = from->fn; f != owner->fn; f = f->parent) up++;
    return (jref){ up, find_here(owner, name)->slot };
}

static jref resolve_name(compiler *c, scope *s, const jstr *name)
{
    uint32_t id = intern(c, name);
    const scope *owner = find_owner(s, id);
    if (!owner) {
        define(c, s, id, LOAD_VARS, NULL);
        owner = s;
    }
    return ref_to(s, owner, id);
}

static const jscope *finish(compiler *c, const scope *s)
{
    jscope *out = loami_j_alloc(c->r, sizeof *out);
    out->loads = loami_j_array(c->r, s->n ? s->n : 1, sizeof *out->loads);
    out->n = s->n;
    for (size_t i = 0; i < s->n; i++) {
        const entry *e = &s->e[i];
        out->loads[i] = (jload){ .to = { 0, e->slot }, .how = e->how, .name = c->names[e->name] };
        if (e->how == LOAD_ALIAS) out->loads[i].from = ref_to(s, e->owner, e->name);
    }
    return out;
}

static void resolve(compiler *c, scope *s, jnode *n, bool soft);

static void resolve_list(compiler *c, scope *s, jnode *n, bool soft)
{
    for (; n; n = n->next) resolve(c, s, n, soft);
}

/* The names of a for loop's target once more: its condition runs in a function of its own. */
static jnode *copy_target(compiler *c, const jnode *n)
{
    jnode *copy = loami_j_alloc(c->r, sizeof *copy);
    *copy = *n;
    copy->next = copy->list = NULL;
    jnode **end = &copy->list;
    for (const jnode *i = n->list; i; i = i->next) {
        *end = copy_target(c, i);
        end = &(*end)->next;
    }
    return copy;
}

static void declare_target(compiler *c, scope *s, const jnode *n)
{
    if (n->kind == N_NAME) declare(c, s, intern(c, n->name));
    for (const jnode *i = n->list; i; i = i->next) declare_target(c, s, i);
}

static void resolve_for(compiler *c, scope *s, jnode *n, bool soft)
{
    resolve(c, s, n->b, soft);
    if (n->c) {
        func *f = func_new(c, s->fn);
        scope *test = scope_new(c, s, f);
        n->list = copy_target(c, n->a);
        declare_target(c, test, n->list);
        visit(c, test, n->c);
        resolve(c, test, n->list, false);
        resolve(c, test, n->c, false);
        n->test_scope = finish(c, test);
        n->test_fn = f->out;
    }
    func *f = n->recursive ? func_new(c, s->fn) : s->fn;
    scope *body = scope_new(c, s, f);
    n->extended = n->recursive || reads(c, n->body, "loop") > 0;
    uint32_t loop = intern_z(c, "loop");
    if (n->extended) declare(c, body, loop);
    declare_target(c, body, n->a);
    visit_list(c, body, n->body);
    resolve(c, body, n->a, false);
    if (n->extended) n->ref = ref_to(body, body, loop);
    resolve_list(c, body, n->body, false);
    n->scope = finish(c, body);
    if (n->orelse) {
        scope *other = scope_new(c, s, f);
        visit_list(c, other, n->orelse);
        resolve_list(c, other, n->orelse, false);
        n->scope2 = finish(c, other);
    }
    if (n->recursive) n->fn = f->out;
}

/* A macro or a call block: a function with parameters. */
static void resolve_function(compiler *c, scope *s, jnode *n)
{
    static const char *const names[] = { "caller", "kwargs", "varargs" };
    func *f = func_new(c, s->fn);
    scope *in = scope_new(c, s, f);
    bool wants[3], explicit[3] = { false };
    size_t n_params = 0, n_defaults = 0, at = 0;

    for (jnode *d = n->list2; d; d = d->next) n_defaults++;
    for (jnode *p = n->list; p; p = p->next, n_params++) declare(c, in, intern(c, p->name));
    for (int i = 0; i < 3; i++) {
        at = 0;
        wants[i] = reads(c, n->body, names[i]) > 0;
        for (jnode *p = n->list; p; p = p->next, at++) {
            if (!loami_j_is(p->name, names[i])) continue;
            explicit[i] = true;
            if (i == 0 && wants[0] && at + n_defaults < n_params)
                loami_j_fail(c->r, "the parameter caller must be left out or have a default");
        }
    }
    for (int i = 0; i < 3; i++)
        if (wants[i] && !explicit[i]) declare(c, in, intern_z(c, names[i]));
    visit_list(c, in, n->list2);
    visit_list(c, in, n->body);
    resolve_list(c, in, n->list, false);
    resolve_list(c, in, n->list2, false);
    resolve_list(c, in, n->body, false);
    jref *refs[] = { &f->out->caller, &f->out->kwargs, &f->out->varargs };
    for (int i = 0; i < 3; i++)
        if (wants[i]) *refs[i] = ref_to(in, in, intern_z(c, names[i]));
    f->out->wants_caller = wants[0];
    f->out->wants_kwargs = wants[1] && !explicit[1];
    f->out->wants_varargs = wants[2] && !explicit[2];
    f->out->scope = n->scope = finish(c, in);
    n->fn = f->out;
}

/* with, set and filter blocks: a scope within the same function. first: what is declared or visited in it. */
static void resolve_block(compiler *c, scope *s, jnode *n, bool soft)
{
    scope *in = scope_new(c, s, s->fn);
    bool filtered = n->kind != N_WITH;
    jnode *filters = n->kind == N_SET_BLOCK ? n->b : n->a;

    if (n->kind == N_WITH) {
        resolve_list(c, s, n->list2, soft);
        for (jnode *t = n->list; t; t = t->next) declare_target(c, in, t);
    }
    visit_list(c, in, n->body);
    if (filtered) visit(c, in, filters);
    resolve_list(c, in, n->body, false);
    if (filtered && filters) resolve(c, in, filters, false);
    else resolve_list(c, in, n->list, false);
    if (n->kind == N_SET_BLOCK) resolve(c, s, n->a, soft);
    n->scope = finish(c, in);
}

static void resolve_builtin(compiler *c, jnode *n, bool soft)
{
    bool filter = n->kind == N_FILTER;
    n->builtin = filter ? loami_j_filter(n->name->p, n->name->n) : loami_j_test(n->name->p, n->name->n);
    if (n->builtin || soft) return;
    loami_j_fail(c->r, "No %s named '%.*s'", filter ? "filter" : "test",
                 n->name->n > 100 ? 100 : (int)n->name->n, n->name->p);
}

/* soft: within an if, where an unknown filter fails only when it is reached. */
static void resolve(compiler *c, scope *s, jnode *n, bool soft)
{
    if (!n) return;
    loami_j_enter(c->r);
    loami_j_work(c->r, 0);
    c->r->m.line = n->line;
    switch (n->kind) {
    case N_NAME:
    case N_NS_REF: n->ref = resolve_name(c, s, n->name); break;
    case N_FOR: resolve_for(c, s, n, soft); break;
    case N_MACRO:
        resolve_function(c, s, n);
        n->ref = resolve_name(c, s, n->name);
        break;
    case N_CALL_BLOCK:
        resolve(c, s, n->a, soft);
        resolve_function(c, s, n);
        break;
    case N_WITH:
    case N_FILTER_BLOCK:
    case N_SET_BLOCK: resolve_block(c, s, n, soft); break;
    default:
        if (n->kind == N_IF || n->kind == N_COND) soft = true;
        if (n->kind == N_FILTER || n->kind == N_TEST) resolve_builtin(c, n, soft);
        resolve(c, s, n->a, soft);
        resolve(c, s, n->b, soft);
        resolve(c, s, n->c, soft);
        resolve_list(c, s, n->list, soft);
        resolve_list(c, s, n->list2, soft);
        resolve_list(c, s, n->body, soft);
        resolve_list(c, s, n->orelse, soft);
        break;
    }
    loami_j_leave(c->r);
}

jfn *loami_j_scope(jrun *r, jnode *body)
{
    compiler *c = loami_j_alloc(r, sizeof *c);
    c->r = r;
    func *f = func_new(c, NULL);
    scope *s = scope_new(c, NULL, f);
    visit_list(c, s, body);
    resolve_list(c, s, body, false);
    f->out->scope = finish(c, s);
    return f->out;
}
