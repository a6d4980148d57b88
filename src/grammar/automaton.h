/* grammar/automaton.h: a grammar as a machine that reads bytes: a deterministic automaton a rule, whose states may call
 * other rules. A stack of calls makes the whole a pushdown automaton.
 *
 * A call carries two counts, lo and hi: edges that are marked `counts` take one off both, hi forbids more when it is
 * 0, and the rule may not end before lo is. So {3,500} needs one loop, not 500 copies of it, and all strings have their
 * states in common. need and most say whether the counts can still be held to from a state: a way that can't is never
 * taken, so whatever is left of a text can be completed. */
#ifndef LOAMI_AUTOMATON_H
#define LOAMI_AUTOMATON_H

#include "grammar/syntax.h"

enum {
    LOAMI_NFA_STATES = 1 << 18,  /* 2 MiB; what 256 KiB of choices need */
    LOAMI_DFA_STATES = 1 << 16,  /* of all rules */
    LOAMI_COMPILE_WORK = 1 << 25, /* steps of the subset construction: about a tenth of a second */
};

typedef struct loami_edge {
    uint8_t lo, hi;              /* bytes, both included */
    bool counts;
    uint32_t to;
} loami_edge;

typedef struct loami_call_edge {
    uint32_t rule, to;
    uint32_t lo, hi;             /* for the rule called */
    bool counts;                 /* in this rule */
} loami_call_edge;

typedef struct loami_token_edge {
    int32_t id;
    uint32_t to;
} loami_token_edge;

typedef struct loami_state {
    uint32_t edges, calls, tokens;       /* where this state's begin; they end where the next state's begin */
    uint32_t need, most;                 /* counts to the end of the rule: fewest, and most or LOAMI_NO_LIMIT */
    bool final;
} loami_state;

typedef struct loami_automaton {
    loami_state *states;         /* [n_states + 1]; the last one only ends the lists */
    loami_edge *edges;
    loami_call_edge *calls;
    loami_token_edge *tokens;
    uint32_t *starts;            /* [n_rules] */
    uint32_t n_states, n_edges, n_calls, n_tokens, n_rules, root;
} loami_automaton;

/* Compiles a syntax. LOAM_E_UNSUPPORTED or LOAM_E_ARG with words about the rule: left recursion, no text at all, too large. */
int loami_automaton_make(loami_automaton **out, loami_syntax *d, loam_err *err);
void loami_automaton_free(loami_automaton *a);
size_t loami_automaton_bytes(const loami_automaton *a);

/* ---- between the steps of compiling ----------------------------------------------------------------------- */

typedef enum loami_arc_kind { LOAMI_A_EMPTY, LOAMI_A_BYTES, LOAMI_A_CALL, LOAMI_A_TOKEN } loami_arc_kind;

typedef struct loami_arc {
    loami_arc_kind kind;
    uint8_t lo, hi;              /* BYTES */
    bool counts;
    uint32_t a, b, c;            /* CALL: rule, lo, hi; TOKEN: a is the id */
    uint32_t to, next;           /* next: of the same state, 0 = none */
} loami_arc;

/* Nondeterministic, as nfa.c writes it and subset.c reads it. */
typedef struct loami_nfa {
    loami_syntax *syntax;
    uint32_t *first;             /* [n_states] of its arcs */
    loami_arc *arcs;             /* from 1 on */
    uint32_t n_states, cap_states, n_arcs, cap_arcs;
    bool *final;                 /* [n_states] of its rule */
    bool counts_chars;           /* of the rule being written */
    uint32_t work;
    loam_err *err;
    int rc;
} loami_nfa;

/* The start of a rule's part. Rules may be added to the syntax: loops of their own. */
uint32_t loami_nfa_rule(loami_nfa *n, uint32_t rule);
void loami_nfa_free(loami_nfa *n);
int loami_nfa_fail(loami_nfa *n, int code, const char *words);

/* subset.c: appends the rule's states to a. */
int loami_subset(loami_automaton *a, loami_nfa *n, uint32_t start, uint32_t *dfa_start);

/* trim.c: drops what leads nowhere, fills need and most, refuses what would not end. */
int loami_trim(loami_automaton *a, const loami_syntax *d, loam_err *err);

#endif
