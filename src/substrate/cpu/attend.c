/* Keys and values into the cache, and attention over it.
 *
 * The cache is [layer][page][kv head] heads; of each, K turned: [head_pad][LOAMI_PAGE], so that 16 tokens fill a
 * register and no sum runs across one, then V: [LOAMI_PAGE][head_pad]. Dimensions from head_dim to head_pad are 0.
 * One job is a kv head and some rows of one sequence: all query heads that share the kv head go along, so each page
 * of keys and values is read once for all of them. Softmax is taken online, page after page (Milakov and Gimelshein
 * 2018; Dao et al. 2022). */
#include "substrate/cpu/cpu.h"
#include "base/half.h"
#include "substrate/dequant.h"

#include <math.h>
#include <string.h>

enum { QUERIES = 96 };          /* of one job, or those of one row: their state and one page stay in the L2 cache */

static uint16_t *cache_head(const loam_sub *s, uint32_t layer, uint32_t page, uint32_t head)
{
    size_t at = ((size_t)layer * s->kv.n_pages + page) * s->kv.n_kv + head;
    return s->cache + at * 2 * LOAMI_PAGE * s->head_pad;
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

/* The table of a rope for this step's rows, made once a step. */
static const float *angles_of(loam_sub *s, const loam_rope *rope)
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
    uint32_t half = rope->dims / 2, step = rope->interleaved ? 2 : 1, across = rope->interleaved ? 1 : half;
    for (uint32_t i = 0; i < half; i++) {
        float *a = head + (size_t)i * step, *b = a + across, c = cos_sin[2 * i], n = cos_sin[2 * i + 1], x = *a, y = *b;
        *a = x * c - y * n;
        *b = x * n + y * c;
    }
}

/* ---- store -------------------------------------------------------------------------------------------------------- */

typedef struct store_job {
    const float *cos_sin;
    const loam_seq_rows *const *seq; /* [rows] */
} store_job;

/* Norms and rotates n heads that lie side by side. */
static void prepare(const loam_sub *s, const loam_heads *h, const loam_norm *norm, const float *cos_sin, float *x, uint32_t n)
{
    const loam_weight *w = norm ? norm->weight : NULL;
    uint32_t over = w ? w->cols : h->head_dim;
    for (uint32_t i = 0; norm && i < n * h->head_dim; i += over)
        s->k->norm(x + i, x + i, w ? w->vector : NULL, w ? w->vector_bias : NULL, over, norm);
    for (uint32_t i = 0; cos_sin && i < n; i++) rotate(h->rope, cos_sin, x + (size_t)i * h->head_dim);
}

static void run_store(loam_sub *s, const loami_phase *p, uint32_t row, loami_scratch *t)
{
    const store_job *job = p->more;
    const loam_heads *h = p->node->heads;
    const loam_seq_rows *seq = job->seq[row];
    uint32_t dim = h->head_dim, nq = h->n_q * dim, nkv = h->n_kv * dim, pos = s->position[row], at = pos % LOAMI_PAGE;
    const float *in = p->from->data + (size_t)row * p->from->cols;
    const float *cos_sin = job->cos_sin ? job->cos_sin + (size_t)row * h->rope->dims : NULL;
    float *q = p->y + (size_t)row * nq, *kv = t->floats;
    uint16_t *half = (uint16_t *)(kv + 2 * nkv);

    memcpy(q, in, nq * sizeof *q);
    memcpy(kv, in + nq, 2 * nkv * sizeof *kv);
    prepare(s, h, h->q_norm, cos_sin, q, h->n_q);
    prepare(s, h, h->k_norm, cos_sin, kv, h->n_kv);
    s->k->to_f16(half, kv, 2 * nkv);
    for (uint32_t i = 0; i < h->n_kv; i++) {
        uint16_t *k = cache_head(s, p->node->layer, seq->pages[pos / LOAMI_PAGE], i), *v = k + (size_t)LOAMI_PAGE * s->head_pad;
        for (uint32_t d = 0; d < dim; d++) k[(size_t)d * LOAMI_PAGE + at] = half[i * dim + d];
        memcpy(v + (size_t)at * s->head_pad, half + nkv + i * dim, dim * sizeof *v);
    }
}

void loami_plan_store(loam_sub *s, loami_node *node)
{
    const loam_norm *none = NULL;
    const loam_heads *h = node->heads;
    const loam_batch *b = s->batch;
    const loami_node *from = loami_source(s, node->x, &none);
    const float *cos_sin = h->rope && h->rope->dims ? angles_of(s, h->rope) : NULL;
    store_job *job = loami_note(s, sizeof *job + b->n_rows * sizeof *job->seq);
    loami_phase *p = loami_phase_add(s, run_store, node->rows, node);
    if (!p || !job) return;
    const loam_seq_rows **seq = (const loam_seq_rows **)(job + 1);
    for (uint32_t i = 0; i < b->n_seqs; i++)
        for (uint32_t r = 0; r < b->seqs[i].n_rows; r++) seq[b->seqs[i].first_row + r] = &b->seqs[i];
    *job = (store_job){ cos_sin, seq };
    size_t floats = (size_t)3 * h->n_kv * h->head_dim;
    if (s->need_floats < floats) s->need_floats = floats;
    p->from = from;
    p->more = job;
}

/* ---- attend ---------------------------------------------------------------------------------------------------------- */

typedef struct block {          /* rows of one sequence */
    const loam_seq_rows *seq;
    uint32_t first, n;          /* of the sequence's rows */
} block;

/* A job's state: queries in order of row, then head. */
typedef struct state {
    float *q, *out;             /* [queries][head_pad] */
    float *score;               /* [queries][LOAMI_PAGE] */
    float *kv;                  /* [LOAMI_PAGE][head_pad] one page's keys, then its values */
    float *max, *sum, *rescale; /* [queries] */
} state;

static size_t state_floats(size_t queries, uint32_t pad)
{
    return queries * (2 * pad + LOAMI_PAGE + 3) + (size_t)LOAMI_PAGE * pad;
}

static state state_in(float *at, size_t queries, uint32_t pad)
{
    state st = { .q = at };
    st.out = st.q + queries * pad;
    st.score = st.out + queries * pad;
    st.kv = st.score + queries * LOAMI_PAGE;
    st.max = st.kv + (size_t)LOAMI_PAGE * pad;
    st.sum = st.max + queries;
    st.rescale = st.sum + queries;
    return st;
}

static void load_queries(const loam_sub *s, const loami_phase *p, const block *b, uint32_t kv, const state *st)
{
    const loam_heads *h = p->node->heads;
    const loam_attn *attn = p->node->attn;
    uint32_t share = h->n_q / h->n_kv, pad = s->head_pad;
    for (uint32_t r = 0; r < b->n; r++) {
        for (uint32_t j = 0; j < share; j++) {
            uint32_t i = r * share + j, head = kv * share + j;
            const float *from = p->from->data + (size_t)(b->seq->first_row + b->first + r) * p->from->cols + (size_t)head * h->head_dim;
            float *q = st->q + (size_t)i * pad;
            s->k->cap(q, from, attn->scale, 0, h->head_dim);
            for (uint32_t d = h->head_dim; d < pad; d++) q[d] = 0;
            st->max[i] = attn->sinks ? attn->sinks->vector[head] : -INFINITY;
            st->sum[i] = attn->sinks ? 1 : 0;
        }
    }
    memset(st->out, 0, (size_t)b->n * share * pad * sizeof(float));
}

/* One page, whose first token is at position `start`, for the queries that see any of it. */
static void attend_page(const loam_sub *s, const loami_phase *p, const block *b, const uint16_t *k, uint32_t start, const state *st)
{
    const loam_attn *attn = p->node->attn;
    uint32_t share = p->node->heads->n_q / p->node->heads->n_kv, pad = s->head_pad, pos0 = b->seq->n_past + b->first;
    uint32_t r0 = start > pos0 ? start - pos0 : 0, i0 = r0 * share, n = (b->n - r0) * share;
    uint32_t last = pos0 + b->n - 1 - start, tokens = last + 1 < LOAMI_PAGE ? last + 1 : LOAMI_PAGE;

    s->k->from_f16(st->kv, k, LOAMI_PAGE * pad);
    s->k->scores(st->score + (size_t)i0 * LOAMI_PAGE, st->q + (size_t)i0 * pad, st->kv, n, pad);
    for (uint32_t i = i0; i < i0 + n; i++) {
        uint32_t pos = pos0 + i / share, lo = 0, hi = pos - start + 1 < LOAMI_PAGE ? pos - start + 1 : LOAMI_PAGE;
        if (attn->window && pos + 1 > attn->window + start) lo = pos + 1 - attn->window - start;
        if (lo > hi) lo = hi;
        st->rescale[i] = s->k->softmax(st->score + (size_t)i * LOAMI_PAGE, lo, hi, attn->softcap, &st->max[i], &st->sum[i]);
    }
    s->k->from_f16(st->kv, k + (size_t)LOAMI_PAGE * pad, tokens * pad);
    s->k->values(st->out + (size_t)i0 * pad, st->rescale + i0, st->score + (size_t)i0 * LOAMI_PAGE, st->kv, n, tokens, pad);
}

static void run_attend(loam_sub *s, const loami_phase *p, uint32_t chunk, loami_scratch *t)
{
    const loam_heads *h = p->node->heads;
    const loam_attn *attn = p->node->attn;
    const block *b = (const block *)p->more + chunk / h->n_kv;
    uint32_t kv = chunk % h->n_kv, share = h->n_q / h->n_kv, pad = s->head_pad, pos0 = b->seq->n_past + b->first;
    uint32_t from = attn->window && pos0 + 1 > attn->window ? pos0 + 1 - attn->window : 0;
    state st = state_in(t->floats, (size_t)b->n * share, pad);

    load_queries(s, p, b, kv, &st);
    for (uint32_t page = from / LOAMI_PAGE; page <= (pos0 + b->n - 1) / LOAMI_PAGE; page++)
        attend_page(s, p, b, cache_head(s, p->node->layer, b->seq->pages[page], kv), page * LOAMI_PAGE, &st);
    for (uint32_t i = 0; i < b->n * share; i++) {
        size_t row = b->seq->first_row + b->first + i / share;
        float *y = p->y + row * p->node->cols + (size_t)(kv * share + i % share) * h->head_dim;
        s->k->cap(y, st.out + (size_t)i * pad, 1 / st.sum[i], 0, h->head_dim);
    }
}

void loami_plan_attend(loam_sub *s, loami_node *node)
{
    const loam_norm *none = NULL;
    const loam_batch *b = s->batch;
    const loami_node *from = loami_source(s, node->x, &none);
    uint32_t share = node->heads->n_q / node->heads->n_kv, each = share < QUERIES ? QUERIES / share : 1, n = 0;
    for (uint32_t i = 0; i < b->n_seqs; i++) n += (b->seqs[i].n_rows + each - 1) / each;
    block *blocks = loami_note(s, n * sizeof *blocks);
    loami_phase *p = loami_phase_add(s, run_attend, n * node->heads->n_kv, node);
    if (!p || !blocks) return;
    n = 0;
    for (uint32_t i = 0; i < b->n_seqs; i++)
        for (uint32_t r = 0; r < b->seqs[i].n_rows; r += each)
            blocks[n++] = (block){ &b->seqs[i], r, b->seqs[i].n_rows - r < each ? b->seqs[i].n_rows - r : each };
    size_t floats = state_floats((size_t)each * share, s->head_pad);
    if (s->need_floats < floats) s->need_floats = floats;
    p->from = from;
    p->more = blocks;
}
