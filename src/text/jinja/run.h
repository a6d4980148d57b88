/* text/jinja/run.h: what the parts of the interpreter offer each other.
 *
 *   lex.c -> parse.c, expr.c -> scope.c (which name is which variable) -> exec.c, eval.c, call.c
 *
 * filters, tests, methods and functions are tables of jbuiltin, one file a kind. */
#ifndef LOAMI_JINJA_RUN_H
#define LOAMI_JINJA_RUN_H

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

#include <time.h>

enum {
    J_MAX_SOURCE = 4 << 20,        /* bytes of a template; the longest published one has 40 kB */
    J_MAX_DEPTH = 400,             /* nested expressions, statements and calls together: bounds the C stack */
    J_MAX_TREE = 120,              /* nesting of a template's own text, for the parser */
    J_MAX_NAMES = 4096,            /* distinct names in a template */
    J_MAX_RANGE = 100000,          /* as Jinja2's sandbox */
    J_MAX_OUTPUT = 64 << 20,
    J_MAX_MEMORY = 256 << 20,
    J_MAX_STEPS = 50000000,        /* about two seconds */
};

/* The variables of one call of a compiled function. */
typedef struct jframe jframe;
struct jframe {
    jval *v;                       /* [fn->n_slots] */
    jframe *up;                    /* of the function around it: variables found there are seen as they are now */
};

struct jrun {
    jmem m;
    const jdict *vars;             /* NULL while compiling */
    jframe *frame;
    jval block_text;               /* what a filter block or set block hands to its filters */
    time_t now;                    /* of strftime_now */
};

typedef struct jmacro {
    const jfn *fn;
    const jnode *node;             /* of the macro or call block */
    const jstr *name;              /* NULL: a caller */
    jframe *up;
} jmacro;

typedef struct jloop {
    jval iterable;                 /* for its length */
    jiter *it;
    jval current, before, after;   /* J_MISSING where there is none */
    jval changed;                  /* the last tuple given to changed(), or J_MISSING */
    int64_t index0, length;        /* length -1 = not known yet */
    int64_t depth0;
    const jnode *recurse;          /* the for node, when recursive */
    jframe *up;
} jloop;

/* ---- compile ------------------------------------------------------------------------------------------- */

jtoken *loami_j_lex(jrun *r, const char *text, size_t n);      /* ends with T_EOF */
jnode *loami_j_parse(jrun *r, jtoken *tokens);                 /* the body */
jfn *loami_j_scope(jrun *r, jnode *body);                      /* resolves names and builtins */

/* ---- run ----------------------------------------------------------------------------------------------- */

typedef enum jflow { J_GO_ON, J_BREAK, J_CONTINUE } jflow;

jframe *loami_j_frame(jrun *r, const jfn *fn, jframe *up);      /* fresh variables, not yet r->frame */
jflow loami_j_exec(jrun *r, const jnode *body, jsb *out);
void loami_j_enter_scope(jrun *r, const jscope *s);
jval loami_j_recurse(jrun *r, const jloop *loop, jval iterable); /* loop(iterable) */
jval *loami_j_var(jrun *r, jref ref);
void loami_j_assign(jrun *r, const jnode *target, jval v);
jval loami_j_eval(jrun *r, const jnode *n);
jval loami_j_call(jrun *r, jval callee, const jargs *args);
jval loami_j_call_builtin(jrun *r, const jbuiltin *b, jval self, const jargs *args);
jval loami_j_call_macro(jrun *r, const jmacro *m, const jargs *args);
void loami_j_args(jrun *r, const jnode *n, jargs *out);        /* evaluates a call's, filter's or test's arguments */

/* ---- operations (ops.c, attr.c) ------------------------------------------------------------------------ */

bool loami_j_true(jrun *r, jval v);
jval loami_j_binary(jrun *r, jop op, jval a, jval b);
jval loami_j_unary(jrun *r, jop op, jval a);
bool loami_j_compare(jrun *r, jop op, jval a, jval b);         /* < <= > >= == != in, not in */
int loami_j_order(jrun *r, jval a, jval b);                    /* a < b, by Python's rules */
bool loami_j_contains(jrun *r, jval item, jval in);
bool loami_j_same(jval a, jval b);                             /* Python's `is` */
jval loami_j_getattr(jrun *r, jval v, const jstr *name);
jval loami_j_getitem(jrun *r, jval v, jval key);
jval loami_j_slice(jrun *r, jval v, jval start, jval stop, jval step);
bool loami_j_attribute(jrun *r, jval v, const jstr *name, jval *out); /* Python's getattr, not falling back to items */
int64_t loami_j_len(jrun *r, jval v);                          /* fails for what has none */
bool loami_j_has_len(jval v);
bool loami_j_number(jval v, double *f);                        /* bool, int or float */
bool loami_j_whole(jval v, int64_t *i);                        /* bool or int */
int64_t loami_j_index(jrun *r, jval v);                        /* bool or int, or fails as Python's __index__ does */

/* ---- text (show.c, holes.c, format_value.c, chars.c, number.c, tojson.c) ------------------------------- */

void loami_j_show(jsb *b, jval v);                             /* str(v) */
void loami_j_repr(jsb *b, jval v);
jval loami_j_tostr(jrun *r, jval v);                           /* str(v) as a value; a string is itself */
jval loami_j_soft(jrun *r, jval v);                            /* the same, keeping markup */
void loami_j_float_repr(jsb *b, double f);
jval loami_j_escape(jrun *r, jval v);
jval loami_j_percent(jrun *r, const jstr *fmt, jval args);     /* fmt % args */
jval loami_j_format(jrun *r, const jstr *fmt, const jargs *args);
void loami_j_format_value(jsb *b, jval v, const jstr *spec);   /* format(v, spec) */
void loami_j_json(jsb *b, jval v, bool ascii, jval indent, jval separators, bool sort);
bool loami_j_parse_int(const jstr *s, int64_t base, int64_t *out); /* int(s, base) */
bool loami_j_parse_float(const jstr *s, double *out);
jval loami_j_round(jrun *r, jval v, jval digits);

bool loami_j_space(uint32_t cp);
bool loami_j_printable(uint32_t cp);
bool loami_j_alpha(uint32_t cp);
bool loami_j_alnum(uint32_t cp);
bool loami_j_digit(uint32_t cp);                               /* str.isdigit */
bool loami_j_decimal(uint32_t cp);
bool loami_j_numeric(uint32_t cp);
bool loami_j_upper(uint32_t cp);                               /* uppercase, lowercase, titlecase */
bool loami_j_lower(uint32_t cp);
bool loami_j_title(uint32_t cp);
bool loami_j_word(uint32_t cp);                                /* \w */
bool loami_j_line_end(uint32_t cp);                            /* ends a line in splitlines */
typedef enum jcase { J_TO_UPPER, J_TO_LOWER, J_TO_TITLE, J_TO_CAPITAL, J_TO_SWAPPED, J_TO_FOLDED } jcase;
jval loami_j_recase(jrun *r, const jstr *s, jcase to);
jval loami_j_strip(jrun *r, const jstr *s, const jstr *chars, bool left, bool right);
uint32_t loami_j_next(const jstr *s, size_t *at);              /* the code point at *at, which moves on */

/* ---- walking (iter.c) ---------------------------------------------------------------------------------- */

bool loami_j_iterable(jval v);
jiter *loami_j_iter(jrun *r, jval v);                          /* fails for what can't be walked */
bool loami_j_step(jrun *r, jiter *it, jval *out);
jval loami_j_lazy(jrun *r, const char *shown, bool (*next)(jrun *, jiter *, jval *), jval src, void *more);
jval loami_j_tolist(jrun *r, jval v);

/* ---- tables -------------------------------------------------------------------------------------------- */

extern const jbuiltin loami_j_filters_seq[], loami_j_filters_text[], loami_j_filters_number[], loami_j_tests[];
extern const jbuiltin loami_j_methods_str[], loami_j_methods_str_is[], loami_j_methods_dict[], loami_j_methods_list[],
    loami_j_methods_tuple[], loami_j_methods_int[], loami_j_methods_float[], loami_j_methods_range[], loami_j_methods_loop[],
    loami_j_methods_cycler[], loami_j_methods_dict_type[];
extern const jbuiltin loami_j_globals[];
const jbuiltin *loami_j_find(const jbuiltin *table, const char *name, size_t n); /* or NULL */
const jbuiltin *loami_j_filter(const char *name, size_t n);
const jbuiltin *loami_j_test(const char *name, size_t n);

#endif
