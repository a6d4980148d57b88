/* Statements. */
#include "text/jinja/parse.h"

#include <string.h>

void loami_j_append(jnodes *l, jnode *n)
{
    if (!l->end) l->end = &l->first;
    *l->end = n;
    l->end = &n->next;
    l->n++;
}

jnode *loami_j_node(jparser *p, jkind kind, uint32_t line)
{
    jnode *n = loami_j_alloc(p->r, sizeof *n);
    n->kind = kind;
    n->line = p->r->m.line = line;
    return n;
}

void loami_j_unexpected(jparser *p, const char *wanted)
{
    const jstr *s = p->t->value.type == J_STR ? p->t->value.s : NULL;
    p->r->m.line = p->t->line;
    if (!s) loami_j_fail(p->r, "expected %s, found a number", wanted);
    loami_j_fail(p->r, "expected %s, found '%.*s'", wanted, s->n > 100 ? 100 : (int)s->n, s->p);
}

bool loami_j_at(const jparser *p, const char *name)
{
    return p->t->type == T_NAME && loami_j_is(p->t->value.s, name);
}

bool loami_j_skip(jparser *p, jtok type)
{
    if (p->t->type != type) return false;
    p->t++;
    return true;
}

bool loami_j_skip_name(jparser *p, const char *name)
{
    if (!loami_j_at(p, name)) return false;
    p->t++;
    return true;
}

void loami_j_expect(jparser *p, jtok type, const char *what)
{
    if (!loami_j_skip(p, type)) loami_j_unexpected(p, what);
}

const jstr *loami_j_expect_name(jparser *p)
{
    if (p->t->type != T_NAME) loami_j_unexpected(p, "a name");
    return p->t++->value.s;
}

static void expect_word(jparser *p, const char *word)
{
    if (!loami_j_skip_name(p, word)) loami_j_unexpected(p, word);
}

static jnode *parse_body(jparser *p, const char *const *ends);
static jnode *parse_statement(jparser *p);

/* The body of a statement up to one of the tags in ends, which is left at hand. */
static jnode *parse_block(jparser *p, const char *const *ends)
{
    loami_j_skip(p, T_COLON);
    loami_j_expect(p, T_BLOCK_END, "%}");
    jnode *body = parse_body(p, ends);
    if (p->t->type == T_EOF) loami_j_fail(p->r, "the template ends where {%% %s %%} is wanted", ends[0]);
    return body;
}

/* The same up to one tag, which is skipped. */
static jnode *parse_to(jparser *p, const char *end)
{
    jnode *body = parse_block(p, (const char *const[]){ end, NULL });
    p->t++;
    return body;
}

/* The same for what becomes a function of its own: break can't leave it. */
static jnode *parse_function(jparser *p, const char *end)
{
    bool can_break = p->can_break;
    p->can_break = false;
    jnode *body = parse_to(p, end);
    p->can_break = can_break;
    return body;
}

static jnode *parse_for(jparser *p, jnode *n)
{
    bool can_break = p->can_break;
    p->loops++;
    n->a = loami_j_target(p, "in", false);
    expect_word(p, "in");
    n->b = loami_j_tuple(p, false, "recursive", false);
    if (loami_j_skip_name(p, "if")) n->c = loami_j_expression(p, true);
    n->recursive = loami_j_skip_name(p, "recursive");
    p->can_break = true;
    n->body = parse_block(p, (const char *const[]){ "endfor", "else", NULL });
    p->can_break = can_break && !n->recursive;
    if (loami_j_is(p->t++->value.s, "else")) n->orelse = parse_to(p, "endfor");
    p->can_break = can_break;
    p->loops--;
    return n;
}

static jnode *parse_if(jparser *p, jnode *n)
{
    static const char *const ends[] = { "endif", "elif", "else", NULL };
    jnodes elifs = { 0 };
    for (jnode *at = n;;) {
        at->a = loami_j_tuple(p, false, NULL, false);
        at->body = parse_block(p, ends);
        const jtoken *t = p->t++;
        if (loami_j_is(t->value.s, "elif")) {
            at = loami_j_node(p, N_IF, t->line);
            loami_j_append(&elifs, at);
            continue;
        }
        if (loami_j_is(t->value.s, "else")) n->orelse = parse_to(p, "endif");
        break;
    }
    n->list = elifs.first;
    return n;
}

static jnode *parse_name_target(jparser *p)
{
    static const char *const words[] = { "true", "false", "none", "True", "False", "None" };
    jnode *n = loami_j_node(p, N_NAME, p->t->line);
    n->name = loami_j_expect_name(p);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (loami_j_is(n->name, words[i])) loami_j_fail(p->r, "can't assign to %s", words[i]);
    return n;
}

static void parse_signature(jparser *p, jnode *n)
{
    jnodes params = { 0 }, defaults = { 0 };
    loami_j_expect(p, T_LPAREN, "(");
    while (p->t->type != T_RPAREN) {
        if (params.n) loami_j_expect(p, T_COMMA, ",");
        jnode *a = parse_name_target(p);
        a->param = true;
        for (jnode *other = params.first; other; other = other->next)
            if (other->name->n == a->name->n && memcmp(other->name->p, a->name->p, a->name->n) == 0)
                loami_j_fail(p->r, "two parameters have the same name");
        if (loami_j_skip(p, T_ASSIGN)) loami_j_append(&defaults, loami_j_expression(p, true));
        else if (defaults.n) loami_j_fail(p->r, "a parameter without default follows one with default");
        loami_j_append(&params, a);
        if (params.n > 255) loami_j_fail(p->r, "more than 255 parameters");
    }
    p->t++;
    n->list = params.first;
    n->list2 = defaults.first;
}

static jnode *parse_macro(jparser *p, jnode *n)
{
    n->name = parse_name_target(p)->name;
    parse_signature(p, n);
    n->body = parse_function(p, "endmacro");
    return n;
}

static jnode *parse_call_block(jparser *p, jnode *n)
{
    if (p->t->type == T_LPAREN) parse_signature(p, n);
    n->a = loami_j_expression(p, true);
    if (n->a->kind != N_CALL) loami_j_fail(p->r, "expected a call");
    n->body = parse_function(p, "endcall");
    return n;
}

static jnode *parse_generation(jparser *p, jnode *n)
{
    n->body = parse_function(p, "endgeneration");
    return n;
}

static jnode *parse_filter_block(jparser *p, jnode *n)
{
    n->a = loami_j_filters(p, NULL, true);
    n->body = parse_to(p, "endfilter");
    return n;
}

static jnode *parse_with(jparser *p, jnode *n)
{
    jnodes targets = { 0 }, values = { 0 };
    while (p->t->type != T_BLOCK_END) {
        if (targets.n) loami_j_expect(p, T_COMMA, ",");
        jnode *t = loami_j_target(p, NULL, false);
        t->param = true;
        loami_j_append(&targets, t);
        loami_j_expect(p, T_ASSIGN, "=");
        loami_j_append(&values, loami_j_expression(p, true));
    }
    n->list = targets.first;
    n->list2 = values.first;
    n->body = parse_to(p, "endwith");
    return n;
}

static jnode *parse_set(jparser *p, jnode *n)
{
    n->a = loami_j_target(p, NULL, true);
    if (loami_j_skip(p, T_ASSIGN)) {
        n->b = loami_j_tuple(p, true, NULL, false);
        return n;
    }
    n->kind = N_SET_BLOCK;
    n->b = loami_j_filters(p, NULL, false);
    n->body = parse_to(p, "endset");
    return n;
}

static jnode *parse_print(jparser *p, jnode *n)
{
    jnodes list = { 0 };
    while (p->t->type != T_BLOCK_END) {
        if (list.n) loami_j_expect(p, T_COMMA, ",");
        loami_j_append(&list, loami_j_expression(p, true));
    }
    n->list = list.first;
    return n;
}

static jnode *parse_jump(jparser *p, jnode *n)
{
    if (!p->can_break)
        loami_j_fail(p->r, "%s outside of a for loop", n->kind == N_BREAK ? "break" : "continue");
    return n;
}

static const struct {
    const char *tag;
    jkind kind;
    jnode *(*parse)(jparser *p, jnode *n);
} statements[] = {
    { "if", N_IF, parse_if }, { "for", N_FOR, parse_for }, { "set", N_SET, parse_set },
    { "macro", N_MACRO, parse_macro },
    { "break", N_BREAK, parse_jump }, { "continue", N_CONTINUE, parse_jump }, { "with", N_WITH, parse_with },
    { "call", N_CALL_BLOCK, parse_call_block }, { "filter", N_FILTER_BLOCK, parse_filter_block },
    { "generation", N_CALL_BLOCK, parse_generation }, { "print", N_OUTPUT, parse_print },
};

/* Of the language, but of no use where there is only one template and no HTML. */
static const char *const refused[] = { "block", "extends", "include", "import", "from", "autoescape" };

static jnode *parse_statement(jparser *p)
{
    if (p->t->type != T_NAME) loami_j_unexpected(p, "the name of a tag");
    const jtoken *t = p->t++;
    p->r->m.line = t->line;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (loami_j_is(t->value.s, statements[i].tag))
            return statements[i].parse(p, loami_j_node(p, statements[i].kind, t->line));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (loami_j_is(t->value.s, refused[i]))
            loami_j_fail(p->r, "the tag %s is not supported in a chat template", refused[i]);
    loami_j_fail(p->r, "unknown tag '%.*s'", t->value.s->n > 100 ? 100 : (int)t->value.s->n, t->value.s->p);
}

static bool at_end(const jparser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (loami_j_at(p, *ends)) return true;
    return false;
}

/* Text and expressions up to the next tag, as one node. */
static jnode *parse_output(jparser *p)
{
    jnode *n = loami_j_node(p, N_OUTPUT, p->t->line);
    jnodes list = { 0 };
    while (p->t->type == T_DATA || p->t->type == T_VAR_BEGIN) {
        if (p->t->type == T_DATA) {
            jnode *data = loami_j_node(p, N_CONST, p->t->line);
            data->value = p->t++->value;
            loami_j_append(&list, data);
            continue;
        }
        p->t++;
        loami_j_append(&list, loami_j_tuple(p, true, NULL, false));
        loami_j_expect(p, T_VAR_END, "}}");
    }
    n->list = list.first;
    return n;
}

static jnode *parse_body(jparser *p, const char *const *ends)
{
    jnodes body = { 0 };
    loami_j_enter(p->r);
    if (p->r->m.depth > J_MAX_TREE) loami_j_fail(p->r, "nested more than %d levels deep", J_MAX_TREE);
    while (p->t->type != T_EOF) {
        if (p->t->type != T_BLOCK_BEGIN) {
            loami_j_append(&body, parse_output(p));
            continue;
        }
        p->t++;
        if (at_end(p, ends)) break;
        loami_j_append(&body, parse_statement(p));
        loami_j_expect(p, T_BLOCK_END, "%}");
    }
    loami_j_leave(p->r);
    return body.first;
}

jnode *loami_j_parse(jrun *r, jtoken *tokens)
{
    jparser p = { .r = r, .t = tokens };
    return parse_body(&p, NULL);
}
