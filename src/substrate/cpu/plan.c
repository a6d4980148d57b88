#include "substrate/cpu/attend.h"



loami_node *loami_source(loam_sub *s, loam_tensor t, const loam_norm **norm)
{
    loami_node *n = &s->node[t];
    while (n->inlined && n->op != LOAMI_LINEAR) {
        if (n->op == LOAMI_NORM) *norm = n->norm;
        n = &s->node[n->x];
    }
    return n;
}

/* ---- what needs not be made --------------------------------------------------------------------------------------- */

static void count(loam_sub *s, loam_tensor t, loami_op by)
{
    if (t == LOAM_NO_TENSOR) return;
    s->node[t].taken++;
    s->node[t].left++;
    s->node[t].takers |= 1u << by;
}

static bool is_all_rows(const loam_sub *s, const loami_node *gather)
{
    return gather->rows == s->node[gather->x].rows; /* wanted rows ascend, so they are all */
}

/* A linear whose only taker is this add. */
static bool can_join(const loam_sub *s, loam_tensor t, loam_tensor other)
{
    return t != other && s->node[t].op == LOAMI_LINEAR && s->node[t].taken == 1;
}

static void inline_nodes(loam_sub *s)
{
    const uint32_t matrices = 1u << LOAMI_LINEAR | 1u << LOAMI_GLU | 1u << LOAMI_MOE;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        loami_node *n = &s->node[i];
        count(s, n->x, n->op);
        count(s, n->y, n->op);
    }
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        loami_node *n = &s->node[i];
        if (n->op == LOAMI_NORM) n->inlined = n->taken && !(n->takers & ~matrices);
        else if (n->op == LOAMI_GATHER) n->inlined = n->taken && is_all_rows(s, n);
        else if (n->op == LOAMI_ATTEND && s->node[n->x].op == LOAMI_STORE) s->node[n->x].inlined = loami_attend_stores(s, &s->node[n->x], n);
        else if (n->op == LOAMI_ADD && can_join(s, n->y, n->x)) s->node[n->y].inlined = true;
        else if (n->op == LOAMI_ADD && can_join(s, n->x, n->y)) s->node[n->x].inlined = true;
    }
}

/* ---- phases in order --------------------------------------------------------------------------------------------- */

/* One taker of t has been planned: after the last one its memory is free for tensors of later phases. */
static void let_go(loam_sub *s, loam_tensor t)
{
    if (t == LOAM_NO_TENSOR) return;
    loami_node *n = &s->node[t];
    if (--n->left) return;
    for (uint32_t i = 0; i < n->n_ready; i++) loami_store_give(s, n->ready_raw[i]);
    if (n->inlined) {
        let_go(s, n->x);
    } else {
        loami_store_give(s, n->data);
        n->gone = true;
    }
}

static void plan_add(loam_sub *s, loami_node *node)
{
    const loam_norm *none = NULL;
    loami_node *x = &s->node[node->x], *y = &s->node[node->y];
    bool join_y = y->op == LOAMI_LINEAR && y->inlined, join_x = !join_y && x->op == LOAMI_LINEAR && x->inlined;
    if (!join_x && !join_y) {
        loami_plan_rows(s, node);
        return;
    }
    const loami_node *linear = join_y ? y : x, *other = loami_source(s, join_y ? node->x : node->y, &none);
    loami_phase *p = loami_plan_linear(s, node, linear->x, linear->w);
    if (!p) return;
    p->other = other->data;
    p->other_first = join_y;
    p->scale = node->scale;
}

static void plan_node(loam_sub *s, loami_node *n)
{
    switch (n->op) {
    case LOAMI_LINEAR: loami_plan_linear(s, n, n->x, n->w); break;
    case LOAMI_GLU: loami_plan_glu(s, n); break;
    case LOAMI_STORE: loami_plan_store(s, n); break;
    case LOAMI_ATTEND: loami_plan_attend(s, n); break;
    case LOAMI_MOE: loami_plan_moe(s, n); break;
    case LOAMI_ADD: plan_add(s, n); break;
    default: loami_plan_rows(s, n); break;
    }
}

/* The position of each row in its sequence. */
static void positions(loam_sub *s)
{
    const loam_batch *b = s->batch;
    s->position = loami_note(s, b->n_rows * sizeof *s->position);
    for (uint32_t i = 0; s->position && i < b->n_seqs; i++)
        for (uint32_t r = 0; r < b->seqs[i].n_rows; r++) s->position[b->seqs[i].first_row + r] = b->seqs[i].n_past + r;
}

void loami_plan(loam_sub *s)
{
    positions(s);
    inline_nodes(s);
    for (uint32_t i = 0; i < s->n_nodes && !s->failed; i++) {
        loami_node *n = &s->node[i];
        if (n->inlined) continue;
        n->data = loami_store_take(s, (size_t)n->rows * n->cols * sizeof(float));
        if (!n->data) return;
        plan_node(s, n);
        let_go(s, n->x);
        let_go(s, n->y);
    }
}
