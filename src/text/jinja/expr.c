/* Expressions, in the order in which they bind: conditional, or, and, not, comparison, + -, ~, * / // %, **,
 * sign, postfix, filters and tests. */
#include "text/jinja/parse.h"

#include <string.h>

static jnode *parse_unary(jparser *p, bool filters);
static jnode *parse_primary(jparser *p, bool namespaces);

static jnode *binary(jparser *p, jkind kind, jop op, jnode *a, jnode *b)
{
    jnode *n = loami_j_node(p, kind, a->line);
    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

/* Left-associative operators of one level over the next. */
typedef struct level {
    struct { jtok token; jop op; } ops[5];
} level;

static const level powers = { { { T_POW, OP_POW } } };
static const level products = { { { T_MUL, OP_MUL }, { T_DIV, OP_DIV }, { T_FLOORDIV, OP_FLOORDIV },
                                  { T_MOD, OP_MOD } } };
static const level sums = { { { T_ADD, OP_ADD }, { T_SUB, OP_SUB } } };

static jop op_at(const jparser *p, const level *l)
{
    for (int i = 0; l->ops[i].op; i++)
        if (p->t->type == l->ops[i].token) return l->ops[i].op;
    return OP_NONE;
}

static jnode *parse_pow(jparser *p)
{
    jnode *left = parse_unary(p, true);
    for (jop op; (op = op_at(p, &powers)) != OP_NONE;) {
        p->t++;
        left = binary(p, N_BINARY, op, left, parse_unary(p, true));
    }
    return left;
}

static jnode *parse_product(jparser *p)
{
    jnode *left = parse_pow(p);
    for (jop op; (op = op_at(p, &products)) != OP_NONE;) {
        p->t++;
        left = binary(p, N_BINARY, op, left, parse_pow(p));
    }
    return left;
}

static jnode *parse_concat(jparser *p)
{
    jnode *first = parse_product(p);
    if (p->t->type != T_TILDE) return first;
    jnode *n = loami_j_node(p, N_CONCAT, first->line);
    jnodes list = { 0 };
    loami_j_append(&list, first);
    while (loami_j_skip(p, T_TILDE)) loami_j_append(&list, parse_product(p));
    n->list = list.first;
    return n;
}

static jnode *parse_sum(jparser *p)
{
    jnode *left = parse_concat(p);
    for (jop op; (op = op_at(p, &sums)) != OP_NONE;) {
        p->t++;
        left = binary(p, N_BINARY, op, left, parse_concat(p));
    }
    return left;
}

static jop comparison(jparser *p)
{
    static const struct { jtok token; jop op; } ops[] = {
        { T_EQ, OP_EQ }, { T_NE, OP_NE }, { T_LT, OP_LT }, { T_LE, OP_LE }, { T_GT, OP_GT }, { T_GE, OP_GE },
    };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (loami_j_skip(p, ops[i].token)) return ops[i].op;
    if (loami_j_skip_name(p, "in")) return OP_IN;
    if (loami_j_at(p, "not") && p->t[1].type == T_NAME && loami_j_is(p->t[1].value.s, "in")) {
        p->t += 2;
        return OP_NOT_IN;
    }
    return OP_NONE;
}

static jnode *parse_compare(jparser *p)
{
    jnode *first = parse_sum(p), *n = NULL;
    jnodes list = { 0 };
    for (jop op; (op = comparison(p)) != OP_NONE;) {
        jnode *operand = loami_j_node(p, N_OPERAND, first->line);
        operand->op = op;
        operand->a = parse_sum(p);
        loami_j_append(&list, operand);
    }
    if (!list.first) return first;
    n = loami_j_node(p, N_COMPARE, first->line);
    n->a = first;
    n->list = list.first;
    return n;
}

static jnode *parse_not(jparser *p)
{
    uint32_t line = p->t->line;
    if (!loami_j_skip_name(p, "not")) return parse_compare(p);
    loami_j_enter(p->r);
    jnode *n = loami_j_node(p, N_NOT, line);
    n->a = parse_not(p);
    loami_j_leave(p->r);
    return n;
}

static jnode *parse_and(jparser *p)
{
    jnode *left = parse_not(p);
    while (loami_j_skip_name(p, "and")) left = binary(p, N_AND, OP_NONE, left, parse_not(p));
    return left;
}

static jnode *parse_or(jparser *p)
{
    jnode *left = parse_and(p);
    while (loami_j_skip_name(p, "or")) left = binary(p, N_OR, OP_NONE, left, parse_and(p));
    return left;
}

jnode *loami_j_expression(jparser *p, bool conditional)
{
    loami_j_enter(p->r);
    if (p->r->m.depth > J_MAX_TREE) loami_j_fail(p->r, "nested more than %d levels deep", J_MAX_TREE);
    jnode *e = parse_or(p);
    while (conditional && loami_j_skip_name(p, "if")) {
        jnode *n = loami_j_node(p, N_COND, e->line);
        n->a = e;
        n->b = parse_or(p);
        if (loami_j_skip_name(p, "else")) n->c = loami_j_expression(p, true);
        e = n;
    }
    loami_j_leave(p->r);
    return e;
}

/* ---- literals ---- */

static bool tuple_ends(const jparser *p, const char *stop)
{
    jtok t = p->t->type;
    return t == T_VAR_END || t == T_BLOCK_END || t == T_RPAREN || (stop && loami_j_at(p, stop));
}

/* primaries: only names and literals, as an assignment's target has. */
static jnode *parse_tuple(jparser *p, bool primaries, bool namespaces, bool conditional, const char *stop,
                          bool parentheses)
{
    uint32_t line = p->t->line;
    jnodes list = { 0 };
    bool is_tuple = false;
    for (;;) {
        if (list.n) loami_j_expect(p, T_COMMA, ",");
        if (tuple_ends(p, stop)) break;
        loami_j_append(&list, primaries ? parse_primary(p, namespaces) : loami_j_expression(p, conditional));
        if (p->t->type != T_COMMA) break;
        is_tuple = true;
    }
    if (!is_tuple && list.n) return list.first;
    if (!is_tuple && !parentheses) loami_j_unexpected(p, "an expression");
    jnode *n = loami_j_node(p, N_TUPLE, line);
    n->list = list.first;
    return n;
}

jnode *loami_j_tuple(jparser *p, bool conditional, const char *stop, bool parentheses)
{
    return parse_tuple(p, false, false, conditional, stop, parentheses);
}

static void check_target(jparser *p, jnode *n)
{
    if (n->kind == N_NS_REF) return;
    if (n->kind == N_NAME) {
        n->store = true;
        if (p->loops && loami_j_is(n->name, "loop"))
            loami_j_fail(p->r, "can't assign to the special variable loop in a for loop");
        return;
    }
    if (n->kind != N_TUPLE) loami_j_fail(p->r, "can't assign to this expression");
    for (jnode *i = n->list; i; i = i->next) check_target(p, i);
}

jnode *loami_j_target(jparser *p, const char *stop, bool namespaces)
{
    jnode *n = parse_tuple(p, true, namespaces, true, stop, false);
    check_target(p, n);
    return n;
}

static jnode *parse_list(jparser *p)
{
    jnode *n = loami_j_node(p, N_LIST, p->t->line);
    jnodes list = { 0 };
    loami_j_expect(p, T_LBRACKET, "[");
    while (p->t->type != T_RBRACKET) {
        if (list.n) loami_j_expect(p, T_COMMA, ",");
        if (p->t->type == T_RBRACKET) break;
        loami_j_append(&list, loami_j_expression(p, true));
    }
    loami_j_expect(p, T_RBRACKET, "]");
    n->list = list.first;
    return n;
}

static jnode *parse_dict(jparser *p)
{
    jnode *n = loami_j_node(p, N_DICT, p->t->line);
    jnodes list = { 0 };
    loami_j_expect(p, T_LBRACE, "{");
    while (p->t->type != T_RBRACE) {
        if (list.n) loami_j_expect(p, T_COMMA, ",");
        if (p->t->type == T_RBRACE) break;
        loami_j_append(&list, loami_j_expression(p, true));
        loami_j_expect(p, T_COLON, ":");
        loami_j_append(&list, loami_j_expression(p, true));
    }
    loami_j_expect(p, T_RBRACE, "}");
    n->list = list.first;
    return n;
}

static jnode *constant(jparser *p, uint32_t line, jval v)
{
    jnode *n = loami_j_node(p, N_CONST, line);
    n->value = v;
    return n;
}

static jnode *parse_name(jparser *p, bool namespaces)
{
    static const struct { const char *name; jval v; } words[] = {
        { "true", { .type = J_BOOL, .b = true } }, { "True", { .type = J_BOOL, .b = true } },
        { "false", { .type = J_BOOL, .b = false } }, { "False", { .type = J_BOOL, .b = false } },
        { "none", { .type = J_NONE } }, { "None", { .type = J_NONE } },
    };
    const jtoken *t = p->t++;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (loami_j_is(t->value.s, words[i].name)) return constant(p, t->line, words[i].v);
    jnode *n = loami_j_node(p, N_NAME, t->line);
    n->name = t->value.s;
    if (namespaces && loami_j_skip(p, T_DOT)) {
        n->kind = N_NS_REF;
        n->value = (jval){ .type = J_STR, .s = loami_j_expect_name(p) };
    }
    return n;
}

static jnode *parse_string(jparser *p)
{
    uint32_t line = p->t->line;
    jval v = p->t++->value;
    while (p->t->type == T_STRING) v = loami_j_concat(p->r, v.s, p->t++->value.s);
    return constant(p, line, v);
}

static jnode *parse_primary(jparser *p, bool namespaces)
{
    jnode *n;
    switch (p->t->type) {
    case T_NAME: return parse_name(p, namespaces);
    case T_STRING: return parse_string(p);
    case T_INT:
    case T_FLOAT:
        n = constant(p, p->t->line, p->t->value);
        p->t++;
        return n;
    case T_LPAREN:
        p->t++;
        n = loami_j_tuple(p, true, NULL, true);
        loami_j_expect(p, T_RPAREN, ")");
        return n;
    case T_LBRACKET: return parse_list(p);
    case T_LBRACE: return parse_dict(p);
    default: loami_j_unexpected(p, "an expression");
    }
}

/* ---- postfix ---- */

static jnode *parse_subscript(jparser *p)
{
    uint32_t line = p->t->line;
    jnode *from = NULL, *n;
    if (p->t->type != T_COLON) {
        from = loami_j_expression(p, true);
        if (p->t->type != T_COLON) return from;
    }
    p->t++;
    n = loami_j_node(p, N_SLICE, line);
    n->a = from;
    jtok t = p->t->type;
    if (t != T_COLON && t != T_RBRACKET && t != T_COMMA) n->b = loami_j_expression(p, true);
    if (loami_j_skip(p, T_COLON) && p->t->type != T_RBRACKET && p->t->type != T_COMMA)
        n->c = loami_j_expression(p, true);
    return n;
}

static jnode *parse_item(jparser *p, jnode *of)
{
    jnode *n = loami_j_node(p, N_ITEM, of->line);
    jnodes list = { 0 };
    n->a = of;
    p->t++;
    while (p->t->type != T_RBRACKET) {
        if (list.n) loami_j_expect(p, T_COMMA, ",");
        loami_j_append(&list, parse_subscript(p));
    }
    p->t++;
    n->b = list.first;
    if (list.n == 1) return n;
    for (jnode *i = list.first; i; i = i->next)
        if (i->kind == N_SLICE) loami_j_fail(p->r, "several slices in one subscript");
    n->b = loami_j_node(p, N_TUPLE, of->line);
    n->b->list = list.first;
    return n;
}

static jnode *parse_dot(jparser *p, jnode *of)
{
    p->t++;
    jnode *n = loami_j_node(p, p->t->type == T_NAME ? N_ATTR : N_ITEM, p->t->line);
    n->a = of;
    if (p->t->type == T_NAME) n->name = p->t->value.s;
    else if (p->t->type == T_INT) n->b = constant(p, p->t->line, p->t->value);
    else loami_j_unexpected(p, "a name or a number");
    p->t++;
    return n;
}

static _Noreturn void bad_call(jparser *p)
{
    loami_j_fail(p->r, "invalid syntax for function call expression");
}

/* One argument of a call into n's lists. */
static void parse_argument(jparser *p, jnode *n, jnodes *args, jnodes *named)
{
    if (loami_j_skip(p, T_MUL)) {
        if (n->b || n->c) bad_call(p);
        n->b = loami_j_expression(p, true);
    } else if (loami_j_skip(p, T_POW)) {
        if (n->c) bad_call(p);
        n->c = loami_j_expression(p, true);
    } else if (p->t->type == T_NAME && p->t[1].type == T_ASSIGN) {
        if (n->c) bad_call(p);
        jnode *k = loami_j_node(p, N_KEYWORD, p->t->line);
        k->name = p->t->value.s;
        p->t += 2;
        k->a = loami_j_expression(p, true);
        loami_j_append(named, k);
    } else {
        if (n->b || n->c || named->n) bad_call(p);
        loami_j_append(args, loami_j_expression(p, true));
    }
}

static void parse_arguments(jparser *p, jnode *n)
{
    jnodes args = { 0 }, named = { 0 };
    bool comma = false;
    loami_j_expect(p, T_LPAREN, "(");
    while (p->t->type != T_RPAREN) {
        if (comma) {
            loami_j_expect(p, T_COMMA, ",");
            if (p->t->type == T_RPAREN) break;
        }
        parse_argument(p, n, &args, &named);
        comma = true;
    }
    loami_j_expect(p, T_RPAREN, ")");
    n->list = args.first;
    n->list2 = named.first;
}

static jnode *parse_call(jparser *p, jnode *of)
{
    jnode *n = loami_j_node(p, N_CALL, p->t->line);
    n->a = of;
    parse_arguments(p, n);
    return n;
}

static jnode *parse_postfix(jparser *p, jnode *n)
{
    for (;;) {
        if (p->t->type == T_DOT) n = parse_dot(p, n);
        else if (p->t->type == T_LBRACKET) n = parse_item(p, n);
        else if (p->t->type == T_LPAREN) n = parse_call(p, n);
        else return n;
    }
}

/* A filter's or test's name, which may have dots. */
static const jstr *dotted_name(jparser *p)
{
    const jstr *name = loami_j_expect_name(p);
    while (loami_j_skip(p, T_DOT)) {
        jstr dot = { .p = ".", .n = 1 };
        name = loami_j_concat(p->r, loami_j_concat(p->r, name, &dot).s, loami_j_expect_name(p)).s;
    }
    return name;
}

jnode *loami_j_filters(jparser *p, jnode *of, bool first_inline)
{
    while (p->t->type == T_PIPE || first_inline) {
        if (!first_inline) p->t++;
        jnode *n = loami_j_node(p, N_FILTER, p->t->line);
        n->name = dotted_name(p);
        n->a = of;
        if (p->t->type == T_LPAREN) parse_arguments(p, n);
        of = n;
        first_inline = false;
    }
    return of;
}

static bool test_takes(const jparser *p)
{
    switch (p->t->type) {
    case T_NAME: return !loami_j_at(p, "else") && !loami_j_at(p, "or") && !loami_j_at(p, "and");
    case T_STRING: case T_INT: case T_FLOAT: case T_LPAREN: case T_LBRACKET: case T_LBRACE: return true;
    default: return false;
    }
}

static jnode *parse_test(jparser *p, jnode *of)
{
    jnode *n = loami_j_node(p, N_TEST, p->t->line);
    p->t++;
    bool negated = loami_j_skip_name(p, "not");
    n->name = dotted_name(p);
    n->a = of;
    if (p->t->type == T_LPAREN) {
        parse_arguments(p, n);
    } else if (test_takes(p)) {
        if (loami_j_at(p, "is")) loami_j_fail(p->r, "tests can't be chained with is");
        n->list = parse_postfix(p, parse_primary(p, false));
    }
    if (!negated) return n;
    jnode *inverse = loami_j_node(p, N_NOT, n->line);
    inverse->a = n;
    return inverse;
}

static jnode *parse_unary(jparser *p, bool filters)
{
    uint32_t line = p->t->line;
    jnode *n;
    if (p->t->type == T_SUB || p->t->type == T_ADD) {
        loami_j_enter(p->r);
        n = loami_j_node(p, N_UNARY, line);
        n->op = p->t++->type == T_SUB ? OP_NEG : OP_POS;
        n->a = parse_unary(p, false);
        loami_j_leave(p->r);
    } else {
        n = parse_primary(p, false);
    }
    n = parse_postfix(p, n);
    while (filters) {
        if (p->t->type == T_PIPE) n = loami_j_filters(p, n, false);
        else if (loami_j_at(p, "is")) n = parse_test(p, n);
        else if (p->t->type == T_LPAREN) n = parse_call(p, n);
        else break;
    }
    return n;
}
