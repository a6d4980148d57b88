#include "grammar/matcher.h"

#include <stdlib.h>
#include <string.h>

int loami_matcher_open(loami_matcher **out, loam_grammar *g, loam_err *err)
{
    loami_matcher *m = calloc(1, sizeof *m);
    if (!m) return loami_fail_nomem(err);
    m->g = loami_grammar_ref(g);
    pthread_mutex_lock(&g->lock);
    m->trail[0] = loami_memo_start(&g->memo);
    LIST_INSERT_HEAD(&g->matchers, m, next);
    pthread_mutex_unlock(&g->lock);
    *out = m;
    return 0;
}

void loami_matcher_close(loami_matcher *m)
{
    if (!m) return;
    pthread_mutex_lock(&m->g->lock);
    LIST_REMOVE(m, next);
    pthread_mutex_unlock(&m->g->lock);
    loami_grammar_unref(m->g);
    free(m);
}

static uint32_t slot(const loami_matcher *m, uint32_t back)
{
    return (m->at + LOAMI_MATCHER_TRAIL + 1 - back) % (LOAMI_MATCHER_TRAIL + 1);
}

/* Forgets what no matcher stands on, when there is much. */
static void tidy(loam_grammar *g)
{
    uint32_t n = 0;
    loami_matcher *m;
    if (loami_memo_bytes(&g->memo) < LOAMI_MEMO_BYTES) return;
    LIST_FOREACH(m, &g->matchers, next) n += m->n_back + 1;
    uint32_t **roots = malloc((n + 1) * sizeof *roots);
    if (!roots) return;
    n = 0;
    LIST_FOREACH(m, &g->matchers, next)
    for (uint32_t b = 0; b <= m->n_back; b++) roots[n++] = &m->trail[slot(m, b)];
    loami_memo_clean(&g->memo, roots, n);
    free(roots);
}

/* The state after a token that is no end of text. */
static uint32_t after(loami_matcher *m, int32_t id)
{
    const loami_vocab *v = m->g->vocab;
    uint32_t s = m->trail[m->at];
    if (id < 0 || (uint32_t)id >= v->n_tokens || s == LOAMI_STATE_NONE) return LOAMI_STATE_NONE;
    uint32_t first = v->at[id], n = v->at[id + 1] - first;
    if (n == 0) return loami_memo_step_token(&m->g->memo, s, id);
    for (uint32_t i = 0; i < n && s; i++) s = loami_memo_step(&m->g->memo, s, (uint8_t)v->bytes[first + i]);
    return s;
}

static bool may_end(const loami_matcher *m)
{
    return m->g->memo.states[m->trail[m->at]].ends;
}

bool loami_matcher_allows(loami_matcher *m, int32_t id)
{
    pthread_mutex_lock(&m->g->lock);
    bool ok = loami_vocab_is_end(m->g->vocab, id) && may_end(m);
    if (!ok) ok = after(m, id) != LOAMI_STATE_NONE;
    pthread_mutex_unlock(&m->g->lock);
    return ok;
}

uint32_t loami_matcher_mask(loami_matcher *m, uint64_t *bits)
{
    pthread_mutex_lock(&m->g->lock);
    tidy(m->g);
    uint32_t some = loami_mask_compute(m->g, m->trail[m->at], bits);
    pthread_mutex_unlock(&m->g->lock);
    return some;
}

bool loami_matcher_accept(loami_matcher *m, int32_t id)
{
    pthread_mutex_lock(&m->g->lock);
    tidy(m->g);
    uint32_t s = after(m, id);
    bool end = s == LOAMI_STATE_NONE && loami_vocab_is_end(m->g->vocab, id) && may_end(m);
    if (end) s = m->trail[m->at];
    if (s != LOAMI_STATE_NONE) {
        m->at = (m->at + 1) % (LOAMI_MATCHER_TRAIL + 1);
        m->trail[m->at] = s;
        if (m->n_back < LOAMI_MATCHER_TRAIL) m->n_back++;
    }
    pthread_mutex_unlock(&m->g->lock);
    return s != LOAMI_STATE_NONE;
}

bool loami_matcher_rollback(loami_matcher *m, uint32_t n)
{
    if (n > m->n_back) return false;
    m->at = slot(m, n);
    m->n_back -= n;
    return true;
}

bool loami_matcher_may_end(loami_matcher *m)
{
    pthread_mutex_lock(&m->g->lock);
    bool ends = may_end(m);
    pthread_mutex_unlock(&m->g->lock);
    return ends;
}

bool loami_matcher_must_end(loami_matcher *m)
{
    pthread_mutex_lock(&m->g->lock);
    bool must = may_end(m) && m->g->memo.states[m->trail[m->at]].n == 0;
    pthread_mutex_unlock(&m->g->lock);
    return must;
}

uint32_t loami_matcher_words(const loami_matcher *m)
{
    return m->g->vocab->n_words;
}
