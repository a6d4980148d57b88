/* text/jinja/ast.h: a template as a tree, and the variables that its names mean. */
#ifndef LOAMI_JINJA_AST_H
#define LOAMI_JINJA_AST_H

#include "text/jinja/value.h"

typedef enum jop {
    OP_NONE, OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW,
    OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN,
    OP_NEG, OP_POS
} jop;

typedef enum jtok {
    T_EOF, T_DATA, T_VAR_BEGIN, T_VAR_END, T_BLOCK_BEGIN, T_BLOCK_END, T_NAME, T_STRING, T_INT, T_FLOAT,
    T_ADD, T_SUB, T_MUL, T_DIV, T_FLOORDIV, T_MOD, T_POW, T_TILDE, T_EQ, T_NE, T_LT, T_LE, T_GT, T_GE, T_ASSIGN,
    T_DOT, T_COLON, T_PIPE, T_COMMA, T_SEMICOLON, T_LPAREN, T_RPAREN, T_LBRACKET, T_RBRACKET, T_LBRACE, T_RBRACE,
    T_TYPES
} jtok;

typedef struct jtoken {
    jtok type;
    uint32_t line;
    jval value;                    /* J_STR of data, names, strings and operators; J_INT; J_FLOAT */
} jtoken;

/* A variable: slot of the function `up` functions out. */
typedef struct jref {
    uint16_t up, slot;
} jref;

/* What happens to a variable when its scope is entered. */
typedef struct jload {
    jref to;
    enum { LOAD_PARAM, LOAD_VARS, LOAD_ALIAS, LOAD_UNDEF } how;
    jref from;                     /* LOAD_ALIAS */
    const jstr *name;              /* LOAD_VARS: looked up among the variables of the rendering and the globals */
} jload;

typedef struct jscope {
    jload *loads;                  /* [n] */
    size_t n;
} jscope;

/* What has variables of its own that live through one call: the template, a macro, a caller, the body of a
 * recursive loop, the condition of a filtered loop. */
typedef struct jfn {
    uint32_t n_slots;
    const jscope *scope;
    bool wants_caller, wants_kwargs, wants_varargs;
    jref caller, kwargs, varargs;
} jfn;

typedef enum jkind {
    /* statements. body: the nested statements */
    N_OUTPUT,      /* list: expressions and text */
    N_FOR,         /* a target, b iterable, c condition, list: the target once more for c; orelse */
    N_IF,          /* a condition; list: the elifs; orelse */
    N_MACRO,       /* name; list: parameters, list2: defaults of the last of them */
    N_CALL_BLOCK,  /* a: the call; list, list2: the caller's parameters. a NULL: {% generation %} */
    N_FILTER_BLOCK,/* a: filters around NULL */
    N_WITH,        /* list: targets, list2: values */
    N_SET,         /* a target, b value */
    N_SET_BLOCK,   /* a target, b: filters around NULL, or NULL */
    N_BREAK, N_CONTINUE,
    /* expressions */
    N_CONST,       /* value */
    N_NAME,        /* name, ref */
    N_NS_REF,      /* name.value, assigned to */
    N_TUPLE, N_LIST, /* list */
    N_DICT,        /* list: key, value, key, value */
    N_COND,        /* a if b else c (or NULL) */
    N_AND, N_OR, N_NOT,
    N_COMPARE,     /* a; list: N_OPERAND */
    N_OPERAND,     /* op, a */
    N_BINARY,      /* op, a, b */
    N_UNARY,       /* op, a */
    N_CONCAT,      /* list */
    N_ATTR,        /* a.name */
    N_ITEM,        /* a[b] */
    N_SLICE,       /* a:b:c, only as the b of N_ITEM */
    N_CALL,        /* a(list, list2 = N_KEYWORD, *b, **c) */
    N_FILTER,      /* a|name(...): arguments as a call's */
    N_TEST,        /* a is name(...) */
    N_KEYWORD,     /* name = a */
    N_KINDS
} jkind;

typedef struct jnode jnode;
struct jnode {
    jkind kind;
    jop op;
    uint32_t line;
    bool store, param;             /* a name that is assigned */
    bool recursive, extended;      /* N_FOR: may call itself; has a loop variable */
    jnode *next;                   /* the next of a list */
    jnode *a, *b, *c, *list, *list2, *body, *orelse;
    const jstr *name;
        jval value;
    jref ref;                      /* N_NAME, N_NS_REF, N_MACRO, and the loop variable of N_FOR */
    const jscope *scope, *scope2;  /* of body, of orelse */
    const jfn *fn, *test_fn;       /* N_MACRO, N_CALL_BLOCK, recursive N_FOR; condition of N_FOR */
    const jscope *test_scope;
    const struct jbuiltin *builtin;/* N_FILTER, N_TEST; NULL: unknown, fails when reached */
};

#endif
