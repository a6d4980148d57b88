/* Keys and values into the cache, and attention over it.
 *
 * The cache is [layer][its group's pages][kv head]; of each head K codes, V codes (kern.h has their order; 16 or 8 bits), K scales and V scales
 * of LOAMI_PAGE tokens. Dimensions from head_dim to head_pad are 0.
 *
 * One job is a kv head and some rows of one sequence: all query heads that share the kv head go along, so each page
 * is read once for all of them. Softmax is taken online, page after page (Milakov and Gimelshein 2018; Dao et al.
 * 2022). Where there are fewer jobs than threads could use, the pages are shared out too, and whoever is the last
 * to finish puts the parts together. When all rows of each sequence fit into one job, it stores their keys and values
 * itself, and there is no store phase to wait for. */
#include "substrate/cpu/attend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERIES = 48,               /* of one job, or those of one row: their state and one page stay near */
    PART_PAGES = 4,             /* pages that are worth a job of their own */
    FIXED_PAGES = 16,           /* pages of every part, where they must not depend on the step */
};

static const float LOG2_E = 1.44269504f; /* scores are to base 2 */

typedef struct job {
    const loam_seq_rows *seq;
    uint32_t first, n;          /* of the sequence's rows */
    uint32_t page, page_end;
    uint32_t part, n_parts;     /* of the pages of these rows */
    uint32_t whole;             /* index of the rows' partial results and counters */
} job;

typedef struct attend {
    const job *job;
    bool stores;
    const float *cos_sin;       /* of the step's rows, when it stores */
    atomic_uint *left;          /* [wholes][n_kv] parts not yet done */
    float *partial;             /* [wholes][n_kv][parts_max][queries][head_pad + 2]: sums of values, maximum, sum */
    uint32_t parts_max;
    size_t part_floats;         /* of one partial result, of as many rows as a job has at most */
} attend;

/* A job's state: queries in order of row, then head. */
typedef struct state {
    float *out, *score;         /* [queries][head_pad], [queries][LOAMI_PAGE] */
    int16_t *q, *p;             /* [queries][head_pad], [queries][LOAMI_PAGE] */
    float *q_scale, *p_scale, *max, *rescale; /* [queries] */
    float *sum;                 /* [queries][LOAMI_SUMS] */
    float *head;                /* [head_dim * 3] */
    int16_t *wide;              /* [2][LOAMI_PAGE][head_pad], see loami_kv_open_head */
} state;

static size_t state_floats(size_t queries, uint32_t pad)
{
    return queries * (pad + LOAMI_PAGE + pad / 2 + LOAMI_PAGE / 2 + 4 + LOAMI_SUMS) + (3 + LOAMI_PAGE) * (size_t)pad;
}

static state state_in(float *at, size_t queries, uint32_t pad)
{
    state st = { .out = at };
    st.score = st.out + queries * pad;
    st.q = (int16_t *)(st.score + queries * LOAMI_PAGE);
    st.p = st.q + queries * pad;
    st.q_scale = (float *)(st.p + queries * LOAMI_PAGE);
    st.p_scale = st.q_scale + queries;
    st.max = st.p_scale + queries;
    st.rescale = st.max + queries;
    st.sum = st.rescale + queries;
    st.head = st.sum + queries * LOAMI_SUMS;
    st.wide = (int16_t *)(st.head + 3 * (size_t)pad);
    return st;
}

static void load_queries(const loam_sub *s, const loami_phase *p, const job *b, uint32_t kv, const state *st)
{
    const loam_heads *h = p->node->heads;
    const loam_attn *attn = p->node->attn;
    const attend *a = p->more;
    uint32_t share = h->n_q / h->n_kv, pad = s->head_pad, dim = h->head_dim;
    for (uint32_t r = 0; r < b->n; r++) {
        uint32_t row = b->seq->first_row + b->first + r;
        for (uint32_t j = 0; j < share; j++) {
            uint32_t i = r * share + j, head = kv * share + j;
            const float *x = p->from->data + (size_t)row * p->from->cols + (size_t)head * dim;
            int16_t *q = st->q + (size_t)i * pad;
            if (a->stores) {
                memcpy(st->head, x, dim * sizeof *x);
                loami_head_prepare(s, h, h->q_norm, a->cos_sin ? a->cos_sin + (size_t)row * h->rope->dims : NULL, st->head, 1);
                x = st->head;
            }
            s->k->quantise16(q, &st->q_scale[i], x, dim, s->k_top);
            memset(q + dim, 0, (pad - dim) * sizeof *q);
            st->q_scale[i] *= attn->scale * LOG2_E * (a->stores ? loami_q_growth(h, s->position[row]) : 1);
            st->max[i] = -INFINITY;
            memset(st->sum + (size_t)i * LOAMI_SUMS, 0, LOAMI_SUMS * sizeof(float));
        }
    }
    memset(st->out, 0, (size_t)b->n * share * pad * sizeof(float));
}

/* Keys and values of the job's own rows and kv head. */
static void store_rows(const loam_sub *s, const loami_phase *p, const job *b, uint32_t kv, const state *st)
{
    const loam_heads *h = p->node->heads;
    const attend *a = p->more;
    uint32_t dim = h->head_dim;
    for (uint32_t r = 0; r < b->n; r++) {
        uint32_t row = b->seq->first_row + r;
        const float *in = p->from->data + (size_t)row * p->from->cols + (size_t)(h->n_q + kv) * dim;
        memcpy(st->head, in, dim * sizeof *in);
        loami_head_prepare(s, h, h->k_norm, a->cos_sin ? a->cos_sin + (size_t)row * h->rope->dims : NULL, st->head, 1);
        loami_kv_put(s, p->node->layer, b->seq, s->position[row], kv, st->head, in + (size_t)h->n_kv * dim, (int16_t *)(st->head + dim));
    }
}

/* Asks for half a page of one kv head, its keys or its values. Past the caches: a single row reads it but once. */
static void fetch_half(const loam_sub *s, const char *head, uint32_t half)
{
    enum { LINE = 64 };
    size_t n = head ? s->head_bytes / 2 : 0;
    for (size_t i = 0; i < n; i += LINE) __builtin_prefetch(head + half * n + i, 0, 0);
}

/* One page, whose first token is at position `start`, for the queries that see any of it. `ahead` is what to ask memory for
 * meanwhile, or NULL. */
static void attend_page(const loam_sub *s, const loami_phase *p, const job *b, const char *head, const char *ahead, uint32_t start,
                        const state *st)
{
    const loam_attn *attn = p->node->attn;
    uint32_t share = p->node->heads->n_q / p->node->heads->n_kv, pad = s->head_pad, pos0 = b->seq->n_past + b->first;
    uint32_t r0 = start > pos0 ? start - pos0 : 0, i0 = r0 * share, n = (b->n - r0) * share;
    uint32_t last = pos0 + b->n - 1 - start, tokens = last + 1 < LOAMI_PAGE ? last + 1 : LOAMI_PAGE;
    const loami_kv_view in = loami_kv_open_head(s, head, st->wide);
    const float *v_scale = in.v_scale;
    float v_top[LOAMI_PAGE + 1]; /* of the first so many tokens */

    v_top[0] = 0;
    for (uint32_t t = 0; t < tokens; t++) v_top[t + 1] = v_scale[t] > v_top[t] ? v_scale[t] : v_top[t];

    fetch_half(s, ahead, 0);
    s->k->scores(st->score + (size_t)i0 * LOAMI_PAGE, st->q + (size_t)i0 * pad, st->q_scale + i0, in.k, in.k_scale, n, pad);
    for (uint32_t i = i0; i < i0 + n; i++) {
        uint32_t pos = pos0 + i / share, lo = 0, hi = pos - start + 1 < LOAMI_PAGE ? pos - start + 1 : LOAMI_PAGE;
        if (attn->window && pos + 1 > attn->window + start) lo = pos + 1 - attn->window - start;
        if (lo > hi) lo = hi;
        st->rescale[i] = s->k->softmax(st->p + (size_t)i * LOAMI_PAGE, &st->p_scale[i], st->score + (size_t)i * LOAMI_PAGE, lo, hi,
                                       attn->softcap * LOG2_E, v_scale, v_top[hi], &st->max[i], st->sum + (size_t)i * LOAMI_SUMS);
    }
    fetch_half(s, ahead, 1);
    s->k->values(st->out + (size_t)i0 * pad, st->rescale + i0, st->p + (size_t)i0 * LOAMI_PAGE, st->p_scale + i0, in.v, n, tokens, pad);
}

static float total(const state *st, uint32_t i)
{
    float sum = 0;
    for (uint32_t j = 0; j < LOAMI_SUMS; j++) sum += st->sum[(size_t)i * LOAMI_SUMS + j];
    return sum;
}

/* Writes a part's state away; true for the last of its parts, into whose state all the others then go. */
static bool join_parts(const loam_sub *s, const loami_phase *p, const job *b, uint32_t kv, const state *st)
{
    const attend *a = p->more;
    uint32_t pad = s->head_pad, n = b->n * (p->node->heads->n_q / p->node->heads->n_kv);
    size_t whole = (size_t)b->whole * p->node->heads->n_kv + kv, each = (size_t)n * (pad + 2);
    float *parts = a->partial + whole * a->parts_max * a->part_floats, *mine = parts + b->part * each;
    memcpy(mine, st->out, (size_t)n * pad * sizeof *mine);
    memcpy(mine + (size_t)n * pad, st->max, n * sizeof *mine);
    for (uint32_t i = 0; i < n; i++) mine[(size_t)n * (pad + 1) + i] = total(st, i);
    if (atomic_fetch_sub_explicit(&a->left[whole], 1, memory_order_acq_rel) != 1) return false;
    for (uint32_t i = 0; i < n; i++) { /* in order of parts, whoever does it: the sum must not depend on that */
        float *out = st->out + (size_t)i * pad, top = -INFINITY;
        for (uint32_t j = 0; j < b->n_parts; j++) top = fmaxf(top, parts[j * each + (size_t)n * pad + i]);
        float *sum = st->sum + (size_t)i * LOAMI_SUMS;
        st->max[i] = top;
        memset(sum, 0, LOAMI_SUMS * sizeof *sum);
        memset(out, 0, pad * sizeof *out);
        for (uint32_t j = 0; j < b->n_parts; j++) {
            const float *from = parts + j * each;
            float max = from[(size_t)n * pad + i], scale = max == top ? 1 : exp2f(max - top);
            s->k->axpy(out, out, from + (size_t)i * pad, scale, pad);
            sum[0] += scale * from[(size_t)n * (pad + 1) + i];
        }
    }
    return true;
}

/* What the sums of query i must be divided by: their total, and the sink's share, which has no value. */
static float divisor(const state *st, uint32_t i, const loam_weight *sinks, uint32_t head)
{
    return total(st, i) + (sinks ? exp2f(sinks->vector[head] * LOG2_E - st->max[i]) : 0);
}

static void run_attend(loam_sub *s, const loami_phase *p, uint32_t chunk, loami_scratch *t)
{
    const attend *a = p->more;
    const loam_heads *h = p->node->heads;
    const job *b = a->job + chunk / h->n_kv;
    uint32_t kv = chunk % h->n_kv, share = h->n_q / h->n_kv, pad = s->head_pad;
    const uint32_t *pages = loami_kv_pages_for(s, b->seq, p->node->layer);
    state st = state_in(t->floats, (size_t)b->n * share, pad);

    load_queries(s, p, b, kv, &st);
    if (a->stores && b->part + 1 == b->n_parts) store_rows(s, p, b, kv, &st);
    for (uint32_t page = b->page; page < b->page_end; page++) {
        /* with one row a page's work is short, and the next one would be waited for */
        const char *ahead = b->n == 1 && page + 1 < b->page_end ? loami_kv_head(s, p->node->layer, pages[page + 1], kv) : NULL;
        attend_page(s, p, b, loami_kv_head(s, p->node->layer, pages[page], kv), ahead, page * LOAMI_PAGE, &st);
    }
    if (b->n_parts > 1 && !join_parts(s, p, b, kv, &st)) return;
    for (uint32_t i = 0; i < b->n * share; i++) {
        size_t row = b->seq->first_row + b->first + i / share;
        uint32_t head = kv * share + i % share;
        float *y = p->y + row * p->node->cols + (size_t)head * h->head_dim;
        s->k->cap(y, st.out + (size_t)i * pad, 1 / divisor(&st, i, p->node->attn->sinks, head), 0, h->head_dim);
    }
}

/* ---- plan --------------------------------------------------------------------------------------------------------- */

/* How many parts the pages [from, end) of some rows are worth, when the step has n jobs without parts. Where results
 * must not depend on the rest of the step, parts are the same pages for every step. */
static uint32_t parts_of(const loam_sub *s, uint32_t from, uint32_t end, uint32_t n)
{
    enum { EACH = 4 };          /* jobs a thread should get, to even them out */
    if (s->batch->steady) return (end - 1) / FIXED_PAGES - from / FIXED_PAGES + 1;
    uint32_t want = n < s->threads * EACH ? (s->threads * EACH + n - 1) / n : 1, most = (end - from) / PART_PAGES;
    return want < most ? want : most ? most : 1;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The pages of part j; those from `own` on, which this step writes, stay together in the last one. */
static void part_pages(const loam_sub *s, uint32_t from, uint32_t end, uint32_t own, uint32_t parts, uint32_t j, job *to)
{
    uint32_t step = s->batch->steady ? FIXED_PAGES : (end - from + parts - 1) / parts, first = s->batch->steady ? from / step * step : from;
    if (s->batch->steady) own = end;
    uint32_t p0 = least(first + j * step, own), p1 = least(first + (j + 1) * step, own);
    to->page = p0 < from ? from : least(p0, end);
    to->page_end = j + 1 == parts ? end : p1 < to->page ? to->page : p1;
}

/* Lists the jobs; with `to` NULL only counts them. Returns how many; *wholes and *parts_max are set. */
static uint32_t list_jobs(const loam_sub *s, const loami_node *node, uint32_t each, uint32_t n_blocks, job *to, uint32_t *wholes,
                          uint32_t *parts_max)
{
    const loam_batch *b = s->batch;
    uint32_t n = 0, window = node->attn->window;
    *wholes = 0;
    *parts_max = 1;
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        const loam_seq_rows *seq = &b->seqs[i];
        for (uint32_t r = 0; r < seq->n_rows; r += each, ++*wholes) {
            uint32_t rows = least(seq->n_rows - r, each), pos = seq->n_past + r;
            uint32_t from = loami_window_from(window, pos) / LOAMI_PAGE, end = (pos + rows - 1) / LOAMI_PAGE + 1;
            uint32_t own = seq->n_past / LOAMI_PAGE > from ? seq->n_past / LOAMI_PAGE : from;
            uint32_t parts = parts_of(s, from, end, n_blocks * node->heads->n_kv);
            if (parts > *parts_max) *parts_max = parts;
            for (uint32_t j = 0; j < parts; j++, n++) {
                if (!to) continue;
                to[n] = (job){ .seq = seq, .first = r, .n = rows, .part = j, .n_parts = parts, .whole = *wholes };
                part_pages(s, from, end, own, parts, j, &to[n]);
            }
        }
    }
    return n;
}

static bool one_job_each(const loam_sub *s, uint32_t each)
{
    for (uint32_t i = 0; i < s->batch->n_seqs; i++)
        if (s->batch->seqs[i].n_rows > each) return false;
    return true;
}

static bool is_own_norm(const loam_norm *norm, uint32_t dim)
{
    return !norm || !norm->weight || norm->weight->cols == dim;
}

static uint32_t rows_a_job(const loam_heads *h)
{
    uint32_t share = h->n_q / h->n_kv;
    return share < QUERIES ? QUERIES / share : 1;
}

bool loami_attend_stores(const loam_sub *s, const loami_node *store, const loami_node *attend)
{
    const loam_heads *h = store->heads;
    return !s->batch->steady && store->taken == 1 && store->layer == attend->layer && store->heads == attend->heads && is_own_norm(h->q_norm, h->head_dim) &&
           is_own_norm(h->k_norm, h->head_dim) && one_job_each(s, rows_a_job(h));
}

void loami_plan_attend(loam_sub *s, loami_node *node)
{
    const loam_norm *none = NULL;
    const loam_heads *h = node->heads;
    const loami_node *from = loami_source(s, node->x, &none);
    const loami_node *store = &s->node[node->x];
    uint32_t share = h->n_q / h->n_kv, each = rows_a_job(h), blocks = 0, wholes, parts_max;
    for (uint32_t i = 0; i < s->batch->n_seqs; i++) blocks += (s->batch->seqs[i].n_rows + each - 1) / each;
    attend *a = loami_note(s, sizeof *a);
    uint32_t n = list_jobs(s, node, each, blocks, NULL, &wholes, &parts_max);
    job *jobs = loami_note(s, n * sizeof *jobs);
    if (!a || !jobs) return;
    list_jobs(s, node, each, blocks, jobs, &wholes, &parts_max);
    *a = (attend){ .job = jobs, .stores = store->op == LOAMI_STORE && store->inlined, .parts_max = parts_max };
    if (a->stores && h->rope && h->rope->dims) a->cos_sin = loami_angles_of(s, h->rope);
    if (parts_max > 1) {
        size_t n_wholes = (size_t)wholes * h->n_kv;
        a->part_floats = (size_t)each * share * (s->head_pad + 2);
        a->left = loami_note(s, n_wholes * sizeof *a->left);
        a->partial = loami_store_take(s, n_wholes * parts_max * a->part_floats * sizeof(float));
        if (!a->left || !a->partial) return;
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t kv = 0; kv < h->n_kv; kv++) atomic_init(&a->left[(size_t)jobs[i].whole * h->n_kv + kv], jobs[i].n_parts);
        loami_store_give(s, a->partial);
    }
    loami_phase *p = loami_phase_add(s, run_attend, n * h->n_kv, node);
    if (!p) return;
    size_t floats = state_floats((size_t)each * share, s->head_pad);
    if (s->need_floats < floats) s->need_floats = floats;
    p->from = from;
    p->more = a;
}
