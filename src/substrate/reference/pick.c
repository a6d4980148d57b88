#include "substrate/reference/reference.h"
#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct weighed {
    double weight;
    uint32_t id;
} weighed;

static int by_weight(const void *a, const void *b)
{
    const weighed *x = a, *y = b;
    if (x->weight != y->weight) return x->weight > y->weight ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static int by_id(const void *a, const void *b)
{
    const weighed *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static double sum(const weighed *w, uint32_t n)
{
    double total = 0;
    for (uint32_t i = 0; i < n; i++) total += w[i].weight;
    return total;
}

static uint32_t largest(const float *x, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[at]) at = i;
    return at;
}

/* w[n]: room. */
static uint32_t choose(const float *x, uint32_t n, const loam_pick *how, weighed *w)
{
    uint32_t top = largest(x, n), left = 0;
    if (!(how->temperature > 0)) return top;
    for (uint32_t i = 0; i < n; i++) {
        double weight = exp(((double)x[i] - x[top]) / how->temperature);
        if (weight >= how->min_p) w[left++] = (weighed){ weight, i };
    }
    qsort(w, left, sizeof *w, by_weight);
    if (how->top_k && how->top_k < left) left = how->top_k;
    if (how->top_p > 0 && how->top_p < 1) {
        double enough = how->top_p * sum(w, left), so_far = 0;
        uint32_t few = 0;
        while (few < left && so_far < enough) so_far += w[few++].weight;
        left = few;
    }
    qsort(w, left, sizeof *w, by_id);
    double mark = how->draw * sum(w, left), so_far = 0;
    for (uint32_t i = 0; i < left; i++)
        if ((so_far += w[i].weight) > mark) return w[i].id;
    return left ? w[left - 1].id : top;
}

/* Computed at once, as everything here is: a step under way is one that nobody has collected yet. */
void loami_ref_pick(loam_sub *s, loam_tensor x, const loam_pick *how)
{
    const loami_ref_tensor *in = loami_ref_get(s, x);
    loami_ref_picks *out = &s->picks[s->n_picks];
    if (!in || s->failed) return;
    weighed *room = loami_arena_array(&s->step, in->cols, sizeof *room);
    int32_t *ids = realloc(out->ids, in->rows * sizeof *ids);
    if (ids) out->ids = ids;
    if (!room || !ids) {
        s->failed = "out of memory in a step";
        return;
    }
    out->n = in->rows;
    for (uint32_t r = 0; r < in->rows; r++) ids[r] = (int32_t)choose(in->data + (size_t)r * in->cols, in->cols, &how[r], room);
}

int loami_ref_launch(loam_sub *s, loam_err *err)
{
    s->batch = NULL;
    if (s->failed) return loami_fail(err, LOAM_E_NOMEM, "%s", s->failed);
    s->n_picks++;
    return 0;
}

int loami_ref_collect(loam_sub *s, int32_t *tokens, loam_err *err)
{
    loami_ref_picks first = s->picks[0];
    if (s->n_picks == 0) return loami_fail(err, LOAM_E_MACHINE, "no step is under way");
    memcpy(tokens, first.ids, first.n * sizeof *tokens);
    s->picks[0] = s->picks[1];
    s->picks[1] = first;         /* its memory */
    s->n_picks--;
    return 0;
}
