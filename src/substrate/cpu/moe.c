/* A mixture of experts. Rows are sorted by the experts they chose, so that each expert's weights are read once a
 * step; a (row, expert) that was chosen is a pair. */
#include "substrate/cpu/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct mixture {
    const loam_moe *moe;
    uint32_t rows, n_pairs, n_experts;
    loami_node logits, hidden, out; /* [rows][n_experts], [n_pairs][ffn], [n_pairs][dim] */
    const loami_ready *in, *sorted, *mid; /* of rows; of pairs; hidden's of pairs */
    uint32_t *chosen;               /* [rows][top_k] experts */
    float *p;                       /* [rows][top_k] */
    uint32_t *slot;                 /* [rows][top_k] where the pair lies when sorted by expert */
    uint32_t *row;                  /* [n_pairs] of a sorted pair */
    uint32_t *active, *start;       /* [n_active] experts chosen by any; [n_active + 1] their pairs */
    uint32_t n_active;
} mixture;

/* ---- which experts ---------------------------------------------------------------------------------------------- */

static void run_route(loam_sub *s, const loami_phase *p, uint32_t row, loami_scratch *t)
{
    (void)s;
    mixture *m = p->more;
    uint32_t n = m->n_experts, k = m->moe->top_k, *chosen = m->chosen + (size_t)row * k;
    float *x = t->floats, *out = m->p + (size_t)row * k, sum = 0, top;
    const float *logit = m->logits.data + (size_t)row * n;

    memcpy(x, logit, n * sizeof *x);
    for (uint32_t i = 0; i < k; i++) { /* ties: the first; NaN is never above */
        uint32_t best = UINT32_MAX;
        for (uint32_t e = 0; e < n; e++) {
            bool taken = false;
            for (uint32_t j = 0; j < i; j++) taken |= chosen[j] == e;
            if (!taken && (best == UINT32_MAX || x[e] > x[best])) best = e;
        }
        chosen[i] = best;
    }
    top = logit[chosen[0]];
    if (m->moe->how == LOAM_ROUTE_SOFTMAX_TOPK)
        for (uint32_t e = 0; e < n; e++) sum += expf(logit[e] - top);
    for (uint32_t i = 0; i < k; i++) out[i] = expf(logit[chosen[i]] - top);
    if (m->moe->how == LOAM_ROUTE_TOPK_SOFTMAX || m->moe->renormalise) sum = 0;
    for (uint32_t i = 0; i < k && (m->moe->how == LOAM_ROUTE_TOPK_SOFTMAX || m->moe->renormalise); i++) sum += out[i];
    for (uint32_t i = 0; i < k; i++) out[i] /= sum;
}

/* Sorts pairs by expert, stably: counts, starts, slots. */
static void run_sort(loam_sub *s, const loami_phase *p, uint32_t chunk, loami_scratch *t)
{
    (void)s;
    (void)chunk;
    mixture *m = p->more;
    uint32_t *at = (uint32_t *)t->floats, next = 0;
    memset(at, 0, m->n_experts * sizeof *at);
    m->n_active = 0;
    for (uint32_t i = 0; i < m->n_pairs; i++) at[m->chosen[i]]++;
    for (uint32_t e = 0; e < m->n_experts; e++) {
        uint32_t n = at[e];
        if (n) {
            m->active[m->n_active] = e;
            m->start[m->n_active++] = next;
        }
        at[e] = next;
        next += n;
    }
    m->start[m->n_active] = next;
    for (uint32_t i = 0; i < m->n_pairs; i++) {
        m->slot[i] = at[m->chosen[i]]++;
        m->row[m->slot[i]] = i / m->moe->top_k;
    }
}

static void copy_row(void *to, const void *from, uint32_t to_row, uint32_t from_row, size_t bytes)
{
    memcpy((char *)to + to_row * bytes, (const char *)from + from_row * bytes, bytes);
}

/* The input of sorted pair i, copied from its row. */
static void run_spread(loam_sub *s, const loami_phase *p, uint32_t i, loami_scratch *t)
{
    (void)s;
    (void)t;
    mixture *m = p->more;
    const loami_ready *a = m->in, *b = m->sorted;
    if (a->want_x) copy_row(b->x, a->x, i, m->row[i], p->from->cols * sizeof(float));
    for (uint32_t j = 0; j < a->n_formats; j++) {
        const loami_acts *x = &a->format[j].acts, *y = &b->format[j].acts;
        copy_row(y->codes, x->codes, i, m->row[i], x->code_stride);
        copy_row(y->scale, x->scale, i, m->row[i], x->group_stride * sizeof(float));
        copy_row(y->sum, x->sum, i, m->row[i], x->group_stride * sizeof(float));
    }
}

/* ---- the experts' work ------------------------------------------------------------------------------------------- */

/* Chunks are n_active experts times pieces of their rows; those beyond are nothing to do. */
static bool piece(const mixture *m, const loami_phase *p, uint32_t chunk, uint32_t rows, uint32_t *which, uint32_t *row, uint32_t *n)
{
    uint32_t each = (rows + p->chunk_rows - 1) / p->chunk_rows;
    *which = chunk / each;
    *row = chunk % each * p->chunk_rows;
    *n = rows - *row < p->chunk_rows ? rows - *row : p->chunk_rows;
    return *which < m->n_active;
}

static void run_hidden(loam_sub *s, const loami_phase *p, uint32_t chunk, loami_scratch *t)
{
    mixture *m = p->more;
    uint32_t half = m->hidden.cols, i, row, n;
    if (!piece(m, p, chunk, half, &i, &row, &n)) return;
    uint32_t first = m->start[i], pairs = m->start[i + 1] - first;
    float *y = m->hidden.data + (size_t)first * half + row;
    loami_glu_rows(s, t, m->moe->gate_up, m->active[i], m->moe->act, row, n, m->sorted, m->rows > 1 ? first : 0, pairs, y, half);
}

static void run_down(loam_sub *s, const loami_phase *p, uint32_t chunk, loami_scratch *t)
{
    mixture *m = p->more;
    uint32_t dim = m->out.cols, i, row, n;
    if (!piece(m, p, chunk, dim, &i, &row, &n)) return;
    uint32_t first = m->start[i], pairs = m->start[i + 1] - first;
    loami_matmul(s, t, m->moe->down, m->active[i], row, n, m->mid, first, pairs, m->out.data + (size_t)first * dim + row, NULL, dim);
}

static void run_sum(loam_sub *s, const loami_phase *p, uint32_t row, loami_scratch *t)
{
    (void)t;
    mixture *m = p->more;
    uint32_t dim = m->out.cols, k = m->moe->top_k;
    float *y = p->y + (size_t)row * dim;
    for (uint32_t i = 0; i < k; i++) {
        const float *x = m->out.data + (size_t)m->slot[row * k + i] * dim;
        if (i == 0) s->k->cap(y, x, m->p[row * k], 0, dim);
        else s->k->axpy(y, y, x, m->p[row * k + i], dim);
    }
}

/* ---- plan -------------------------------------------------------------------------------------------------------- */

static loami_phase *add(loam_sub *s, loami_run_fn *run, uint32_t n, mixture *m, const loami_node *node)
{
    loami_phase *p = loami_phase_add(s, run, n, node);
    if (p) p->more = m;
    return p;
}

static bool alloc(loam_sub *s, mixture *m, const loami_node *from)
{
    const loam_moe *moe = m->moe;
    uint32_t n = m->n_pairs, dim = moe->down->rows, ffn = moe->gate_up->rows / 2;
    m->logits = (loami_node){ .rows = m->rows, .cols = m->n_experts };
    m->hidden = (loami_node){ .rows = n, .cols = ffn };
    m->out = (loami_node){ .rows = n, .cols = dim };
    m->logits.data = loami_store_take(s, (size_t)m->rows * m->n_experts * sizeof(float));
    m->hidden.data = loami_store_take(s, (size_t)n * ffn * sizeof(float));
    m->out.data = loami_store_take(s, (size_t)n * dim * sizeof(float));
    m->p = loami_store_take(s, n * sizeof(float));
    m->chosen = loami_store_take(s, (5 * (size_t)n + 1) * sizeof(uint32_t));
    if (s->failed) return false;
    m->slot = m->chosen + n;
    m->row = m->slot + n;
    m->active = m->row + n;
    m->start = m->active + n;
    if (s->need_floats < m->n_experts) s->need_floats = m->n_experts;
    (void)from;
    return true;
}

static void give_back(loam_sub *s, mixture *m)
{
    loami_store_give(s, m->logits.data);
    loami_store_give(s, m->hidden.data);
    loami_store_give(s, m->out.data);
    loami_store_give(s, m->p);
    loami_store_give(s, m->chosen);
    for (uint32_t i = 0; i < m->hidden.n_ready; i++) loami_store_give(s, m->hidden.ready_raw[i]);
}

/* Room for the pairs' copies of the input; with one row there is nothing to sort. */
static void plan_spread(loam_sub *s, mixture *m, const loami_node *node, const loami_node *from)
{
    m->sorted = m->in;
    if (m->rows == 1) return;
    loami_ready *r = loami_note(s, sizeof *r);
    char *raw = loami_store_take(s, loami_ready_bytes(m->in, m->n_pairs, from->cols));
    loami_phase *p = add(s, run_spread, m->n_pairs, m, node);
    if (!r || !raw || !p) return;
    *r = *m->in;
    loami_ready_place(r, m->n_pairs, from->cols, raw);
    m->sorted = r;
    p->from = from;
}

void loami_plan_moe(loam_sub *s, loami_node *node)
{
    const loam_moe *moe = node->moe;
    const loam_norm *norm = NULL;
    const loami_node *from = loami_source(s, node->x, &norm);
    mixture *m = loami_note(s, sizeof *m);
    if (!m) return;
    *m = (mixture){ .moe = moe, .rows = from->rows, .n_pairs = from->rows * moe->top_k, .n_experts = moe->router->rows };
    if (!alloc(s, m, from)) return;
    uint32_t ffn = m->hidden.cols, dim = m->out.cols, experts = m->n_pairs < m->n_experts ? m->n_pairs : m->n_experts;
    uint32_t up = loami_chunk_rows(s, moe->gate_up, ffn, m->rows), down = loami_chunk_rows(s, moe->down, dim, m->rows);
    if (s->need_floats < (size_t)up * m->rows) s->need_floats = (size_t)up * m->rows;

    loami_plan_linear(s, &m->logits, node->x, moe->router);
    m->in = loami_plan_ready(s, &s->node[node->x], from, norm, moe->gate_up, true);
    add(s, run_route, m->rows, m, node);
    add(s, run_sort, 1, m, node);
    if (!m->in) return;
    plan_spread(s, m, node, from);
    loami_phase *p = add(s, run_hidden, experts * ((ffn + up - 1) / up), m, node);
    if (p) p->chunk_rows = up;
    m->mid = loami_plan_ready(s, &m->hidden, &m->hidden, NULL, moe->down, true);
    p = add(s, run_down, experts * ((dim + down - 1) / down), m, node);
    if (p) p->chunk_rows = down;
    add(s, run_sum, m->rows, m, node);
    give_back(s, m);
}
