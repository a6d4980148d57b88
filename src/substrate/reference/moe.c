#include "substrate/reference/reference.h"

#include <math.h>
#include <stdlib.h>

/* Chooses the k largest of n logits (ties: the first) and their probabilities. */
static void route(const loam_moe *moe, const float *logit, uint32_t n, uint32_t *chosen, double *p)
{
    double top = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < moe->top_k; i++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t e = 0; e < n; e++) {
            bool taken = false;
            for (uint32_t j = 0; j < i; j++) taken |= chosen[j] == e;
            if (!taken && (best == UINT32_MAX || logit[e] > logit[best])) best = e;
        }
        chosen[i] = best;
        if (logit[best] > top) top = logit[best];
    }
    for (uint32_t e = 0; e < n && moe->how == LOAM_ROUTE_SOFTMAX_TOPK; e++) sum += exp(logit[e] - top);
    for (uint32_t i = 0; i < moe->top_k && moe->how == LOAM_ROUTE_TOPK_SOFTMAX; i++) sum += exp(logit[chosen[i]] - top);
    for (uint32_t i = 0; i < moe->top_k; i++) p[i] = exp(logit[chosen[i]] - top) / sum;
    if (!moe->renormalise) return;
    sum = 0;
    for (uint32_t i = 0; i < moe->top_k; i++) sum += p[i];
    for (uint32_t i = 0; i < moe->top_k; i++) p[i] /= sum;
}

static bool moe_row(const loam_moe *moe, const float *x, float *y)
{
    uint32_t n_experts = moe->router->rows, both = moe->gate_up->rows, n = both / 2, dim = moe->down->rows;
    float *logit = malloc(n_experts * sizeof *logit), *hidden = malloc(both * sizeof *hidden), *part = malloc(dim * sizeof *part);
    uint32_t *chosen = malloc(moe->top_k * sizeof *chosen);
    double *p = malloc(moe->top_k * sizeof *p);
    bool ok = logit && hidden && part && chosen && p && loami_ref_matvec(moe->router, 0, x, logit);

    if (ok) route(moe, logit, n_experts, chosen, p);
    for (uint32_t i = 0; ok && i < moe->top_k; i++) {
        ok = loami_ref_matvec(moe->gate_up, chosen[i], x, hidden);
        for (uint32_t j = 0; ok && j < n; j++) hidden[j] = loami_ref_act(moe->act, hidden[j], hidden[n + j]);
        ok = ok && loami_ref_matvec(moe->down, chosen[i], hidden, part);
        for (uint32_t j = 0; ok && j < dim; j++) y[j] += (float)(p[i] * part[j]);
    }
    free(logit);
    free(hidden);
    free(part);
    free(chosen);
    free(p);
    return ok;
}

loam_tensor loami_ref_moe(loam_sub *s, loam_tensor x, const loam_moe *moe)
{
    const loami_ref_tensor *in = loami_ref_get(s, x);
    float *y;
    if (!in) return LOAM_NO_TENSOR;
    loam_tensor out = loami_ref_new(s, in->rows, in->cols, &y);
    for (uint32_t r = 0; y && r < in->rows; r++)
        if (!moe_row(moe, in->data + (size_t)r * in->cols, y + (size_t)r * in->cols)) s->failed = "out of memory in a step";
    return out;
}
