#include "substrate/reference/reference.h"
#include "substrate/groups.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where a sequence's token at `pos` keeps its keys (or values) of one layer: [n_kv][head_dim]. */
static float *cache_at(const loam_sub *s, float *cache, uint32_t layer, const loam_seq_rows *seq, uint32_t pos)
{
    size_t row = (size_t)s->kv.n_kv * s->kv.head_dim;
    size_t page = s->layer[layer] + seq->pages[loami_kv_group_of(&s->kv, layer)][pos / LOAMI_REF_PAGE];
    return cache + (page * LOAMI_REF_PAGE + pos % LOAMI_REF_PAGE) * row;
}

static void rotate(const loam_rope *rope, float *head, uint32_t pos)
{
    uint32_t half = rope->dims / 2;
    for (uint32_t i = 0; i < half; i++) {
        double angle = (double)pos * rope->inv_freq[i], c = cos(angle) * rope->scale, sn = sin(angle) * rope->scale;
        float *a = rope->interleaved ? &head[2 * i] : &head[i];
        float *b = rope->interleaved ? &head[2 * i + 1] : &head[i + half];
        double x = *a, y = *b;
        *a = (float)(x * c - y * sn);
        *b = (float)(x * sn + y * c);
    }
}

/* Norms and rotates n heads that lie side by side. */
static void prepare(const loam_heads *heads, const loam_norm *norm, float *x, uint32_t n, uint32_t pos)
{
    if (norm && norm->weight->cols != heads->head_dim) loami_ref_norm_row(norm, x, n * heads->head_dim);
    for (uint32_t h = 0; h < n; h++) {
        float *head = x + (size_t)h * heads->head_dim;
        if (norm && norm->weight->cols == heads->head_dim) loami_ref_norm_row(norm, head, heads->head_dim);
        if (heads->rope) rotate(heads->rope, head, pos);
    }
}

static void grow(const loam_heads *heads, float *q, size_t n, uint32_t pos)
{
    double by = 1 + heads->q_growth * log(1 + floor((double)pos / heads->q_growth_tokens));
    for (size_t i = 0; i < n; i++) q[i] = (float)(q[i] * by);
}

/* Hadamard's matrix of 2 n rows is that of n rows four times, the last time negative. */
static void hadamard(float *x, uint32_t n)
{
    if (n == 1) return;
    for (uint32_t i = 0; i < n / 2; i++) {
        float a = x[i], b = x[i + n / 2];
        x[i] = a + b;
        x[i + n / 2] = a - b;
    }
    hadamard(x, n / 2);
    hadamard(x + n / 2, n / 2);
}

/* Heads of keys or queries, before 8-bit codes are made of keys: see LOAM_KV_INT8. */
static void turn(float *x, uint32_t n_heads, uint32_t head_dim)
{
    uint32_t all = n_heads * head_dim, n = head_dim & (~head_dim + 1);
    for (uint32_t at = 0; at < all; at += n) hadamard(x + at, n);
    for (uint32_t i = 0; i < all; i++) x[i] = (float)(x[i] / sqrt(n));
}

/* What 8-bit codes with one scale would give back. */
static void round_to_codes(float *x, uint32_t n)
{
    float most = 0;
    for (uint32_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    for (uint32_t i = 0; most > 0 && i < n; i++) x[i] = roundf(x[i] / most * 127) * most / 127;
}

loam_tensor loami_ref_store(loam_sub *s, loam_tensor qkv, uint32_t layer, const loam_heads *heads)
{
    const loami_ref_tensor *in = loami_ref_get(s, qkv);
    size_t nq = (size_t)heads->n_q * heads->head_dim, nkv = (size_t)heads->n_kv * heads->head_dim;
    float *q;
    if (!in) return LOAM_NO_TENSOR;
    loam_tensor out = loami_ref_new(s, in->rows, (uint32_t)nq, &q);
    if (!q) return out;
    for (uint32_t i = 0; i < s->batch->n_seqs; i++) {
        const loam_seq_rows *seq = &s->batch->seqs[i];
        for (uint32_t j = 0; j < seq->n_rows; j++) {
            uint32_t pos = seq->n_past + j;
            const float *row = in->data + (size_t)(seq->first_row + j) * in->cols;
            float *to = q + (seq->first_row + j) * nq;
            float *k = cache_at(s, s->k, layer, seq, pos), *v = cache_at(s, s->v, layer, seq, pos);
            memcpy(to, row, nq * sizeof *to);
            memcpy(k, row + nq, nkv * sizeof *k);
            memcpy(v, row + nq + nkv, nkv * sizeof *v);
            prepare(heads, heads->q_norm, to, heads->n_q, pos);
            if (heads->q_growth_tokens) grow(heads, to, nq, pos);
            prepare(heads, heads->k_norm, k, heads->n_kv, pos);
            if (s->kv.type != LOAM_KV_INT8) continue;
            turn(to, heads->n_q, heads->head_dim);
            turn(k, heads->n_kv, heads->head_dim);
            for (uint32_t h = 0; h < heads->n_kv; h++) {
                round_to_codes(k + (size_t)h * heads->head_dim, heads->head_dim);
                round_to_codes(v + (size_t)h * heads->head_dim, heads->head_dim);
            }
        }
    }
    return out;
}

/* One head of one position: softmax(scale * q·k) v over positions [from, pos]. score has room for them. */
static void attend_head(loam_sub *s, const loam_seq_rows *seq, uint32_t pos, uint32_t layer, uint32_t h, const loam_heads *heads,
                        const loam_attn *attn, const float *q, float *out, double *score)
{
    uint32_t d = heads->head_dim, kv = h / (heads->n_q / heads->n_kv);
    uint32_t from = loami_window_from(attn->window, pos);
    double top = attn->sinks ? loami_number_at(attn->sinks->part[0].data, attn->sinks->part[0].type, h) : -INFINITY;
    double sink = top, sum = 0;

    for (uint32_t t = from; t <= pos; t++) {
        const float *k = cache_at(s, s->k, layer, seq, t) + (size_t)kv * d;
        double x = 0;
        for (uint32_t i = 0; i < d; i++) x += (double)q[i] * k[i];
        x *= attn->scale;
        if (attn->softcap != 0) x = attn->softcap * tanh(x / attn->softcap);
        score[t] = x;
        if (x > top) top = x;
    }
    for (uint32_t t = from; t <= pos; t++) sum += score[t] = exp(score[t] - top);
    if (attn->sinks) sum += exp(sink - top);
    for (uint32_t i = 0; i < d; i++) {
        double x = 0;
        for (uint32_t t = from; t <= pos; t++) x += score[t] / sum * (cache_at(s, s->v, layer, seq, t) + (size_t)kv * d)[i];
        out[i] = (float)x;
    }
}

loam_tensor loami_ref_attend(loam_sub *s, loam_tensor q, uint32_t layer, const loam_heads *heads, const loam_attn *attn)
{
    const loami_ref_tensor *in = loami_ref_get(s, q);
    float *y;
    if (!in) return LOAM_NO_TENSOR;
    loam_tensor out = loami_ref_new(s, in->rows, in->cols, &y);
    for (uint32_t i = 0; y && i < s->batch->n_seqs; i++) {
        const loam_seq_rows *seq = &s->batch->seqs[i];
        double *score = malloc((seq->n_past + seq->n_rows) * sizeof *score);
        if (!score) {
            s->failed = "out of memory in a step";
            return LOAM_NO_TENSOR;
        }
        for (uint32_t j = 0; j < seq->n_rows; j++) {
            for (uint32_t h = 0; h < heads->n_q; h++) {
                size_t at = (size_t)(seq->first_row + j) * in->cols + (size_t)h * heads->head_dim;
                attend_head(s, seq, seq->n_past + j, layer, h, heads, attn, in->data + at, y + at, score);
            }
        }
        free(score);
    }
    return out;
}
