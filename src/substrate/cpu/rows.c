#include "substrate/cpu/cpu.h"

#include <string.h>

/* Operations that take one row after the other. */

static const float *row_of(const loami_node *n, uint32_t row)
{
    return n->data + (size_t)row * n->cols;
}

static void embed_row(loam_sub *s, const loami_phase *p, uint32_t row, float *y)
{
    loami_mat mat = loami_part_mat(&p->w->part[0], 0);
    s->k->dequant(y, &mat, (uint32_t)s->batch->tokens[row], 0, mat.cols);
    if (p->scale != 1) s->k->cap(y, y, p->scale, 0, mat.cols);
}

static void norm_row(loam_sub *s, const loami_phase *p, uint32_t row, float *y)
{
    const loam_weight *w = p->norm->weight;
    s->k->norm(y, row_of(p->from, row), w ? w->vector : NULL, w ? w->vector_bias : NULL, p->node->cols, p->norm);
}

static void add_row(loam_sub *s, const loami_phase *p, uint32_t row, float *y)
{
    s->k->axpy(y, row_of(p->from, row), p->other + (size_t)row * p->node->cols, p->scale, p->node->cols);
}

static void cap_row(loam_sub *s, const loami_phase *p, uint32_t row, float *y)
{
    s->k->cap(y, row_of(p->from, row), p->scale, p->node->cap, p->node->cols);
}

static void gather_row(loam_sub *s, const loami_phase *p, uint32_t row, float *y)
{
    memcpy(y, row_of(p->from, s->batch->wanted[row]), p->node->cols * sizeof *y);
}

typedef void row_fn(loam_sub *s, const loami_phase *p, uint32_t row, float *y);

static row_fn *const by_op[] = {
    [LOAMI_EMBED] = embed_row, [LOAMI_NORM] = norm_row, [LOAMI_ADD] = add_row, [LOAMI_CAP] = cap_row, [LOAMI_GATHER] = gather_row,
};

static void run_rows(loam_sub *s, const loami_phase *p, uint32_t chunk, loami_scratch *t)
{
    (void)t;
    uint32_t row = chunk * p->chunk_rows, end = row + p->chunk_rows < p->rows ? row + p->chunk_rows : p->rows;
    for (; row < end; row++) by_op[p->node->op](s, p, row, p->y + (size_t)row * p->node->cols);
}

void loami_plan_rows(loam_sub *s, loami_node *node)
{
    enum { FLOATS = 4096 };     /* in a chunk, or one row */
    const loam_norm *none = NULL;
    uint32_t each = node->cols < FLOATS ? FLOATS / node->cols : 1;
    const loami_node *from = node->x != LOAM_NO_TENSOR ? loami_source(s, node->x, &none) : NULL;
    const loami_node *other = node->y != LOAM_NO_TENSOR ? loami_source(s, node->y, &none) : NULL;
    loami_phase *p = loami_phase_add(s, run_rows, (node->rows + each - 1) / each, node);
    if (!p) return;
    p->from = from;
    p->other = other ? other->data : NULL;
    p->norm = node->norm;
    p->w = node->w;
    p->scale = node->scale;
    p->chunk_rows = each;
}
