#include "grammar/automaton.h"

#include <stdlib.h>

static int make_rules(loami_automaton *a, loami_syntax *d, loami_nfa *n)
{
    uint32_t cap = 0;
    for (uint32_t r = 1; r < d->n_rules && n->rc == 0; r++) { /* loops are added on the way */
        if (r >= cap) {
            cap = d->n_rules * 2 + 16;
            uint32_t *starts = realloc(a->starts, cap * sizeof *starts);
            if (!starts) return loami_fail_nomem(n->err);
            a->starts = starts;
        }
        n->n_states = n->n_arcs = 0;
        uint32_t start = loami_nfa_rule(n, r);
        a->n_rules = r + 1;
        loami_subset(a, n, start, &a->starts[r]);
    }
    return n->rc;
}

/* The lists of a state end where the next one's begin, so there is one more. */
static int close_lists(loami_automaton *a, loam_err *err)
{
    loami_state *states = realloc(a->states, (a->n_states + 1) * sizeof *states);
    if (!states) return loami_fail_nomem(err);
    a->states = states;
    states[a->n_states] = (loami_state){ .edges = a->n_edges, .calls = a->n_calls, .tokens = a->n_tokens };
    return 0;
}

int loami_automaton_make(loami_automaton **out, loami_syntax *d, loam_err *err)
{
    if (d->failed)
        return loami_fail(err, LOAM_E_UNSUPPORTED,
                          "the grammar is too large: at most %d expressions and %d rules", LOAMI_SYNTAX_EXPRS,
                          LOAMI_SYNTAX_RULES);
    loami_automaton *a = calloc(1, sizeof *a);
    loami_nfa n = { .syntax = d, .err = err };
    if (!a) return loami_fail_nomem(err);
    a->root = d->root;
    int rc = make_rules(a, d, &n);
    if (rc == 0) rc = close_lists(a, err);
    if (rc == 0) rc = loami_trim(a, d, err);
    loami_nfa_free(&n);
    if (rc < 0)
        loami_automaton_free(a);
    else
        *out = a;
    return rc;
}

void loami_automaton_free(loami_automaton *a)
{
    if (!a) return;
    free(a->states);
    free(a->edges);
    free(a->calls);
    free(a->tokens);
    free(a->starts);
    free(a);
}

size_t loami_automaton_bytes(const loami_automaton *a)
{
    return sizeof *a + a->n_states * sizeof *a->states + a->n_edges * sizeof *a->edges +
           a->n_calls * sizeof *a->calls + a->n_tokens * sizeof *a->tokens + a->n_rules * sizeof *a->starts;
}
