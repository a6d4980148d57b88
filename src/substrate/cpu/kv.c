#include "substrate/cpu/attend.h"

#include <math.h>
#include <string.h>

char *loami_kv_head(const loam_sub *s, uint32_t layer, uint32_t page, uint32_t head)
{
    return s->layer[layer] + ((size_t)page * s->kv.n_kv + head) * s->head_bytes;
}

void loami_kv_put(const loam_sub *s, uint32_t layer, const loam_seq_rows *seq, uint32_t pos, uint32_t head, const float *k, const float *v,
                  int16_t *spare)
{
    uint32_t dim = s->kv.head_dim, pad = s->head_pad, t = pos % LOAMI_PAGE;
    size_t codes = (size_t)LOAMI_PAGE * pad;
    char *at = loami_kv_head(s, layer, loami_kv_pages_for(s, seq, layer)[pos / LOAMI_PAGE], head);
    bool small = s->kv.type == LOAM_KV_INT8;
    float *k_scale = (float *)(at + 2 * codes * (small ? sizeof(int8_t) : sizeof(int16_t))), *v_scale = k_scale + LOAMI_PAGE;

    s->k->quantise16(spare, &k_scale[t], k, dim, small ? INT8_MAX : s->k_top);
    for (uint32_t d = 0; d < dim && !small; d++) ((int16_t *)at)[loami_k_at(d, t)] = spare[d];
    for (uint32_t d = 0; d < dim && small; d++) ((int8_t *)at)[loami_k_at(d, t)] = (int8_t)spare[d];
    s->k->quantise16(spare, &v_scale[t], v, dim, small ? INT8_MAX : LOAMI_V_TOP);
    for (uint32_t d = 0; d < dim && !small; d++) ((int16_t *)at)[codes + loami_v_at(d, t, pad)] = spare[d];
    for (uint32_t d = 0; d < dim && small; d++) ((int8_t *)at)[codes + loami_v_at(d, t, pad)] = (int8_t)spare[d];
}

loami_kv_view loami_kv_open_head(const loam_sub *s, const char *head, int16_t *wide)
{
    size_t codes = (size_t)LOAMI_PAGE * s->head_pad;
    bool small = s->kv.type == LOAM_KV_INT8;
    const float *scales = (const float *)(head + 2 * codes * (small ? sizeof(int8_t) : sizeof(int16_t)));
    const int16_t *k = small ? wide : (const int16_t *)head;
    for (size_t i = 0; small && i < 2 * codes; i++) wide[i] = ((const int8_t *)head)[i];
    return (loami_kv_view){ k, k + codes, scales, scales + LOAMI_PAGE };
}

/* ---- rope ------------------------------------------------------------------------------------------------------- */

static void run_angles(loam_sub *s, const loami_phase *p, uint32_t row, loami_scratch *t)
{
    (void)t;
    const loami_angles *a = p->more;
    uint32_t half = a->rope->dims / 2;
    float *out = a->cos_sin + (size_t)row * 2 * half;
    for (uint32_t i = 0; i < half; i++) {
        double angle = (double)s->position[row] * a->rope->inv_freq[i];
        out[2 * i] = (float)(cos(angle) * a->rope->scale);
        out[2 * i + 1] = (float)(sin(angle) * a->rope->scale);
    }
}

const float *loami_angles_of(loam_sub *s, const loam_rope *rope)
{
    for (uint32_t i = 0; i < s->n_angles; i++)
        if (s->angles[i].rope == rope) return s->angles[i].cos_sin;
    if (s->n_angles == LOAMI_ROPES) {
        s->failed = "more kinds of rope in a model than the cpu substrate knows";
        return NULL;
    }
    loami_angles *a = &s->angles[s->n_angles++];
    a->rope = rope;
    a->cos_sin = loami_store_take(s, (size_t)s->batch->n_rows * rope->dims * sizeof(float));
    loami_phase *p = loami_phase_add(s, run_angles, s->batch->n_rows, &s->node[0]);
    if (p) p->more = a;
    return a->cos_sin;
}

static void rotate(const loam_rope *rope, const float *cos_sin, float *head)
{
    uint32_t half = rope->dims / 2;
    if (rope->interleaved) {
        for (uint32_t i = 0; i < half; i++) {
            float c = cos_sin[2 * i], n = cos_sin[2 * i + 1], x = head[2 * i], y = head[2 * i + 1];
            head[2 * i] = x * c - y * n;
            head[2 * i + 1] = x * n + y * c;
        }
        return;
    }
    for (uint32_t i = 0; i < half; i++) {
        float c = cos_sin[2 * i], n = cos_sin[2 * i + 1], x = head[i], y = head[i + half];
        head[i] = x * c - y * n;
        head[i + half] = x * n + y * c;
    }
}

/* See LOAM_KV_INT8: n log n sums instead of n n. */
static void turn(float *x, uint32_t head_dim)
{
    uint32_t n = head_dim & (~head_dim + 1);
    float by = 1 / sqrtf((float)n);
    for (uint32_t step = 1; step < n; step *= 2)
        for (uint32_t i = 0; i < head_dim; i += 2 * step)
            for (uint32_t j = i; j < i + step; j++) {
                float a = x[j], b = x[j + step];
                x[j] = a + b;
                x[j + step] = a - b;
            }
    for (uint32_t i = 0; i < head_dim; i++) x[i] *= by;
}

void loami_head_prepare(const loam_sub *s, const loam_heads *h, const loam_norm *norm, const float *cos_sin, float *x, uint32_t n)
{
    const loam_weight *w = norm ? norm->weight : NULL;
    uint32_t over = w ? w->cols : h->head_dim;
    for (uint32_t i = 0; norm && i < n * h->head_dim; i += over)
        s->k->norm(x + i, x + i, w ? w->vector : NULL, w ? w->vector_bias : NULL, over, norm);
    for (uint32_t i = 0; cos_sin && i < n; i++) rotate(h->rope, cos_sin, x + (size_t)i * h->head_dim);
    for (uint32_t i = 0; s->kv.type == LOAM_KV_INT8 && i < n; i++) turn(x + (size_t)i * h->head_dim, h->head_dim);
}

float loami_q_growth(const loam_heads *h, uint32_t pos)
{
    return h->q_growth_tokens ? (float)(1 + h->q_growth * log(1 + floor((double)pos / h->q_growth_tokens))) : 1;
}

/* ---- store -------------------------------------------------------------------------------------------------------- */

typedef struct store {
    const float *cos_sin;
    const loam_seq_rows **seq;  /* [rows] */
} store;

static void run_store(loam_sub *s, const loami_phase *p, uint32_t row, loami_scratch *t)
{
    const store *job = p->more;
    const loam_heads *h = p->node->heads;
    uint32_t dim = h->head_dim, nq = h->n_q * dim, nkv = h->n_kv * dim;
    const float *in = p->from->data + (size_t)row * p->from->cols;
    const float *cos_sin = job->cos_sin ? job->cos_sin + (size_t)row * h->rope->dims : NULL;
    float *q = p->y + (size_t)row * nq, *k = t->floats;

    memcpy(q, in, nq * sizeof *q);
    memcpy(k, in + nq, nkv * sizeof *k);
    loami_head_prepare(s, h, h->q_norm, cos_sin, q, h->n_q);
    if (h->q_growth_tokens) s->k->cap(q, q, loami_q_growth(h, s->position[row]), 0, nq);
    loami_head_prepare(s, h, h->k_norm, cos_sin, k, h->n_kv);
    for (uint32_t i = 0; i < h->n_kv; i++)
        loami_kv_put(s, p->node->layer, job->seq[row], s->position[row], i, k + i * dim, in + nq + nkv + i * dim, (int16_t *)(k + nkv));
}

void loami_plan_store(loam_sub *s, loami_node *node)
{
    const loam_norm *none = NULL;
    const loam_heads *h = node->heads;
    const loam_batch *b = s->batch;
    const loami_node *from = loami_source(s, node->x, &none);
    const float *cos_sin = h->rope && h->rope->dims ? loami_angles_of(s, h->rope) : NULL;
    store *job = loami_note(s, sizeof *job + b->n_rows * sizeof *job->seq);
    loami_phase *p = loami_phase_add(s, run_store, node->rows, node);
    if (!p || !job) return;
    *job = (store){ cos_sin, (const loam_seq_rows **)(job + 1) };
    for (uint32_t i = 0; i < b->n_seqs; i++)
        for (uint32_t r = 0; r < b->seqs[i].n_rows; r++) job->seq[b->seqs[i].first_row + r] = &b->seqs[i];
    size_t floats = (size_t)(h->n_kv + 1) * h->head_dim;
    if (s->need_floats < floats) s->need_floats = floats;
    p->from = from;
    p->more = job;
}
