#include "grammar/matcher.h"

#include <stdlib.h>
#include <string.h>

/* The root for a source that is one expression. */
static int one_rule(loami_syntax *d, int rc, loami_expr *const *expr)
{
    if (rc < 0) return rc;
    uint32_t root = loami_rule_new(d, "root");
    if (root) d->rules[root].expr = *expr;
    if (!*expr) d->failed = true;
    d->root = root;
    return 0;
}

static int read_source(loami_syntax *d, loam_grammar_kind kind, const char *s, size_t n, loam_err *err)
{
    loami_expr *x = NULL;
    switch (kind) {
    case LOAM_GRAMMAR_REGEX: return one_rule(d, loami_regex_read(d, &x, s, n, false, "", err), &x);
    case LOAM_GRAMMAR_JSON_SCHEMA: return one_rule(d, loami_schema_read(d, &x, s, n, err), &x);
    case LOAM_GRAMMAR_CHOICE: return one_rule(d, loami_choice_read(d, &x, s, n, err), &x);
    case LOAM_GRAMMAR_EBNF: return loami_ebnf_read(d, s, n, err);
    case LOAM_GRAMMAR_JSON_OBJECT: x = loami_json_object_x(d); return one_rule(d, 0, &x);
    }
    return loami_fail(err, LOAM_E_ARG, "there is no kind of grammar %d", (int)kind);
}

int loami_grammar_open(loam_grammar **out, const loami_vocab *v, loam_grammar_kind kind, const char *source,
                       size_t n, loam_err *err)
{
    loami_syntax d = { .vocab = v };
    loam_grammar *g = calloc(1, sizeof *g);
    if (!g) return loami_fail_nomem(err);
    memcpy(d.absent, v->absent, sizeof d.absent);
    int rc = n > LOAMI_GRAMMAR_SOURCE
                 ? loami_fail(err, LOAM_E_ARG, "the grammar has %zu bytes, at most %d are taken", n,
                              LOAMI_GRAMMAR_SOURCE)
                 : 0;
    if (rc == 0) rc = read_source(&d, kind, source, n, err);
    if (rc == 0) rc = loami_automaton_make(&g->automaton, &d, err);
    if (rc == 0) rc = loami_memo_open(&g->memo, g->automaton, err);
    loami_syntax_free(&d);
    if (rc < 0) {
        loami_automaton_free(g->automaton);
        free(g);
        return rc;
    }
    atomic_init(&g->refs, 1);
    g->vocab = v;
    pthread_mutex_init(&g->lock, NULL);
    LIST_INIT(&g->matchers);
    TAILQ_INIT(&g->masks);
    *out = g;
    return 0;
}

loam_grammar *loami_grammar_ref(loam_grammar *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void loami_grammar_unref(loam_grammar *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1) return;
    loami_masks_free(g);
    loami_memo_close(&g->memo);
    loami_automaton_free(g->automaton);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

size_t loami_grammar_bytes(const loam_grammar *g)
{
    loam_grammar *shared = (loam_grammar *)g; /* its lock */
    pthread_mutex_lock(&shared->lock);
    size_t n = sizeof *g + loami_automaton_bytes(g->automaton) + loami_memo_bytes(&g->memo) + g->masks_bytes;
    pthread_mutex_unlock(&shared->lock);
    return n;
}
