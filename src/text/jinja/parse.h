/* text/jinja/parse.h: what the two halves of the parser share. */
#ifndef LOAMI_JINJA_PARSE_H
#define LOAMI_JINJA_PARSE_H

#include "text/jinja/run.h"

typedef struct jparser {
    jrun *r;
    const jtoken *t;               /* the token at hand */
    unsigned loops;                /* for loops around it */
    bool can_break;                /* the innermost of them is in this function: break may leave it */
} jparser;

/* A list of nodes under construction. */
typedef struct jnodes {
    jnode *first, **end;
    size_t n;
} jnodes;

void loami_j_append(jnodes *l, jnode *n);
jnode *loami_j_node(jparser *p, jkind kind, uint32_t line);
_Noreturn void loami_j_unexpected(jparser *p, const char *wanted);
bool loami_j_at(const jparser *p, const char *name);           /* the token is this name */
bool loami_j_skip(jparser *p, jtok type);
bool loami_j_skip_name(jparser *p, const char *name);
void loami_j_expect(jparser *p, jtok type, const char *what);
const jstr *loami_j_expect_name(jparser *p);

jnode *loami_j_expression(jparser *p, bool conditional);
/* Expressions separated by commas: one alone is itself. stop: a name that ends it besides the usual ends, or NULL. */
jnode *loami_j_tuple(jparser *p, bool conditional, const char *stop, bool parentheses);
jnode *loami_j_target(jparser *p, const char *stop, bool namespaces);
jnode *loami_j_filters(jparser *p, jnode *of, bool first_inline);

#endif
