#include "substrate/cpu/cpu.h"

bool loami_matrix_ints(const loam_sub *s, const loami_mat *mat)
{
    return !s->exact && loami_mat_is_int(mat);
}

static const loami_acts *acts_of(const loami_ready *in, const loami_mat *mat)
{
    for (uint32_t i = 0; i < in->n_formats; i++)
        if (in->format[i].order == loami_mat_order(mat) && in->format[i].group == mat->group) return &in->format[i].acts;
    return NULL;
}

/* The activations from row `row` and input k (a multiple of a block) on. */
static loami_acts acts_from(const loami_acts *a, uint32_t row, uint32_t k, uint32_t group)
{
    size_t g = (size_t)row * a->group_stride + k / group;
    return (loami_acts){ a->codes + (size_t)row * a->code_stride + k, a->scale + g, a->sum + g, a->code_stride, a->group_stride };
}

static bool is_dot(const loam_sub *s, const loami_mat *mat, uint32_t m)
{
    if (s->batch->steady) return false;
    if (!loami_matrix_ints(s, mat)) return m == 1 && !mat->group;
    return (m == 1 || m <= s->k->dots_max) && mat->code == LOAMI_CODE_INT && (mat->bits == 4 || mat->bits == 8);
}

static void multiply_ints(const loam_sub *s, loami_scratch *t, const loami_mat *mat, uint32_t row, uint32_t n, const loami_acts *acts,
                          uint32_t first, uint32_t m, float *y, const float *base, size_t stride)
{
    const loami_kern *k = s->k;
    if (is_dot(s, mat, m)) {
        loami_acts a = acts_from(acts, first, 0, mat->group);
        if (m == 1) (mat->bits == 4 ? k->dot4 : k->dot8)(y, mat, row, n, a.codes, a.scale, a.sum);
        else k->dots(y, stride, mat, row, n, &a, m);
        for (uint32_t j = 0; base && j < m; j++) k->axpy(y + j * stride, y + j * stride, base + j * stride, 1, n);
        return;
    }
    for (uint32_t r = 0; r < n; r += k->panel_rows) {
        uint32_t rows = n - r < k->panel_rows ? n - r : k->panel_rows;
        for (uint32_t at = 0; at < mat->cols; at += LOAMI_PANEL_K) {
            loami_acts a = acts_from(acts, first, at, mat->group);
            k->unpack(&t->panel, mat, row + r, rows, at, LOAMI_PANEL_K);
            k->tile(y + r, at ? y + r : base ? base + r : NULL, stride, &t->panel, rows, &a, m);
        }
    }
}

static void multiply_floats(const loam_sub *s, loami_scratch *t, const loami_mat *mat, uint32_t row, uint32_t n, const float *x, uint32_t m,
                            float *y, const float *base, size_t stride)
{
    const loami_kern *k = s->k;
    if (is_dot(s, mat, m)) {
        k->dot_f(y, mat, row, n, x);
        if (base) k->axpy(y, y, base, 1, n);
        return;
    }
    for (uint32_t r = 0; r < n; r += k->panel_rows) {
        uint32_t rows = n - r < k->panel_rows ? n - r : k->panel_rows;
        for (uint32_t at = 0; at < mat->cols; at += LOAMI_PANEL_K) {
            k->unpack_f(&t->panel, mat, row + r, rows, at, LOAMI_PANEL_K);
            k->tile_f(y + r, at ? y + r : base ? base + r : NULL, stride, &t->panel, rows, x + at, mat->cols, m);
        }
    }
}

void loami_matmul(const loam_sub *s, loami_scratch *t, const loam_weight *w, uint32_t expert, uint32_t row, uint32_t n, const loami_ready *in,
                  uint32_t first, uint32_t m, float *y, const float *base, size_t stride)
{
    for (uint32_t i = 0, start = 0; i < w->n_parts && n; start += w->part[i++].mat.rows) {
        const loami_part *part = &w->part[i];
        if (row - start >= part->mat.rows) continue;
        uint32_t r = row - start, here = part->mat.rows - r < n ? part->mat.rows - r : n;
        loami_mat mat = loami_part_mat(part, expert);
        if (loami_matrix_ints(s, &mat)) multiply_ints(s, t, &mat, r, here, acts_of(in, &mat), first, m, y, base, stride);
        else multiply_floats(s, t, &mat, r, here, in->x + (size_t)first * mat.cols, m, y, base, stride);
        if (part->bias) {
            const float *bias = part->bias + (size_t)expert * part->mat.rows + r;
            for (uint32_t j = 0; j < m; j++) s->k->axpy(y + j * stride, y + j * stride, bias, 1, here);
        }
        row += here;
        n -= here;
        y += here;
        if (base) base += here;
    }
}

void loami_glu_rows(const loam_sub *s, loami_scratch *t, const loam_weight *w, uint32_t expert, loam_act act, uint32_t row, uint32_t n,
                    const loami_ready *in, uint32_t first, uint32_t m, float *y, size_t y_stride)
{
    float *up = t->floats;      /* [m][n] */
    loami_matmul(s, t, w, expert, row, n, in, first, m, y, NULL, y_stride);
    loami_matmul(s, t, w, expert, w->rows / 2 + row, n, in, first, m, up, NULL, n);
    for (uint32_t j = 0; j < m; j++) s->k->act(y + j * y_stride, y + j * y_stride, up + (size_t)j * n, n, act);
}

/* ---- phases ----------------------------------------------------------------------------------------------------- */

/* The phase's input made ready: shared, or this thread's own, made at its first chunk. */
static const loami_ready *input(loam_sub *s, const loami_phase *p, loami_scratch *t)
{
    if (p->ready) return p->ready;
    loami_ready want = { 0 };
    loami_ready_want(s, &want, p->w);
    if (t->ready_from == p->from && t->ready_norm == p->norm && t->ready_step == s->step && loami_ready_covers(&t->ready, &want))
        return &t->ready;
    uint32_t cols = p->from->cols;
    loami_ready_place(&want, p->rows, cols, t->ready_raw);
    for (uint32_t r = 0; r < p->rows; r++) loami_ready_row(s, &want, r, p->from->data + (size_t)r * cols, cols, p->norm, t->floats);
    t->ready = want;
    t->ready_from = p->from;
    t->ready_norm = p->norm;
    t->ready_step = s->step;
    return &t->ready;
}

static void run_ready(loam_sub *s, const loami_phase *p, uint32_t chunk, loami_scratch *t)
{
    uint32_t row = chunk * p->chunk_rows, end = row + p->chunk_rows < p->rows ? row + p->chunk_rows : p->rows, cols = p->from->cols;
    for (; row < end; row++) loami_ready_row(s, p->ready, row, p->from->data + (size_t)row * cols, cols, p->norm, t->floats);
}

const loami_ready *loami_plan_ready(loam_sub *s, loami_node *as, const loami_node *from, const loam_norm *norm, const loam_weight *w,
                                    bool always)
{
    enum { ROWS = 4 };
    loami_ready want = { 0 };
    loami_ready_want(s, &want, w);
    if (norm && s->need_floats < from->cols) s->need_floats = from->cols;
    size_t bytes = loami_ready_bytes(&want, from->rows, from->cols);
    if (from->rows <= LOAMI_FEW && !always) {
        if (s->need_ready < bytes) s->need_ready = bytes;
        return NULL;
    }
    for (uint32_t i = 0; i < as->n_ready; i++)
        if (loami_ready_covers(as->ready[i], &want)) return as->ready[i];
    loami_ready *r = loami_note(s, sizeof *r);
    char *memory = loami_store_take(s, bytes);
    loami_phase *p = loami_phase_add(s, run_ready, (from->rows + ROWS - 1) / ROWS, from);
    if (!r || !memory || !p) return NULL;
    *r = want;
    loami_ready_place(r, from->rows, from->cols, memory);
    if (as->n_ready < LOAMI_FORMATS) {
        as->ready[as->n_ready] = r;
        as->ready_raw[as->n_ready++] = memory;
    }
    p->from = from;
    p->norm = norm;
    p->ready = r;
    p->chunk_rows = ROWS;
    return r;
}

void loami_chunk_ahead(const loam_sub *s, const loami_phase *p, uint32_t chunk)
{
    uint32_t row = chunk * p->chunk_rows, i = 0;
    while (i < p->w->n_parts && row >= p->w->part[i].mat.rows) row -= p->w->part[i++].mat.rows;
    if (i == p->w->n_parts || !s->k->ahead || !is_dot(s, &p->w->part[i].mat, p->rows)) return;
    uint32_t left = p->w->part[i].mat.rows - row;
    s->k->ahead(&p->w->part[i].mat, row, left < p->chunk_rows ? left : p->chunk_rows);
}

/* Whether a phase reads w as a stream. */
static bool is_stream(const loam_sub *s, const loam_weight *w, uint32_t m)
{
    return m == 1 || is_dot(s, &w->part[0].mat, m);
}

/* Rows of weights in a chunk: of panels one's, otherwise some 32 kB of weights, but so that each thread gets several. */
uint32_t loami_chunk_rows(const loam_sub *s, const loam_weight *w, uint32_t rows, uint32_t m)
{
    enum { BYTES = 32 * 1024, EACH = 4 };
    uint32_t panel = s->k->panel_rows, unit = panel < 16 ? 16 : panel;
    if (!is_stream(s, w, m)) return panel;
    size_t bytes = w->part[0].mat.row_bytes + 2 * w->part[0].mat.scale_bytes;
    uint32_t by_bytes = (uint32_t)(BYTES / bytes), by_share = rows / (s->threads * EACH), n = by_bytes < by_share ? by_bytes : by_share;
    return n < unit ? unit : n / unit * unit;
}

static void run_linear(loam_sub *s, const loami_phase *p, uint32_t chunk, loami_scratch *t)
{
    uint32_t row = chunk * p->chunk_rows, n = p->w->rows - row < p->chunk_rows ? p->w->rows - row : p->chunk_rows;
    float *y = p->y + row;
    size_t stride = p->node->cols;
    bool plain = p->scale == 1; /* then the other operand is what the sums start from */
    loami_matmul(s, t, p->w, 0, row, n, input(s, p, t), 0, p->rows, y, p->other && plain ? p->other + row : NULL, stride);
    for (uint32_t j = 0; p->other && !plain && j < p->rows; j++) {
        float *at = y + j * stride;
        const float *other = p->other + row + j * stride;
        if (p->other_first) s->k->axpy(at, other, at, p->scale, n);
        else s->k->axpy(at, at, other, p->scale, n);
    }
}

loami_phase *loami_plan_linear(loam_sub *s, const loami_node *node, loam_tensor x, const loam_weight *w)
{
    const loam_norm *norm = NULL;
    const loami_node *from = loami_source(s, x, &norm);
    const loami_ready *ready = loami_plan_ready(s, &s->node[x], from, norm, w, false);
    uint32_t chunk = loami_chunk_rows(s, w, w->rows, from->rows);
    loami_phase *p = loami_phase_add(s, run_linear, (w->rows + chunk - 1) / chunk, node);
    if (!p) return NULL;
    p->from = from;
    p->norm = norm;
    p->ready = ready;
    p->w = w;
    p->chunk_rows = chunk;
    p->rows = from->rows;
    p->streams = is_stream(s, w, from->rows);
    return p;
}

static void run_glu(loam_sub *s, const loami_phase *p, uint32_t chunk, loami_scratch *t)
{
    uint32_t row = chunk * p->chunk_rows, half = p->w->rows / 2, n = half - row < p->chunk_rows ? half - row : p->chunk_rows;
    const loami_ready *in = input(s, p, t);
    loami_glu_rows(s, t, p->w, 0, p->node->act, row, n, in, 0, p->rows, p->y + row, half);
}

void loami_plan_glu(loam_sub *s, loami_node *node)
{
    const loam_weight *w = node->w;
    const loam_norm *norm = NULL;
    const loami_node *from = loami_source(s, node->x, &norm);
    const loami_ready *ready = loami_plan_ready(s, &s->node[node->x], from, norm, w, false);
    uint32_t chunk = loami_chunk_rows(s, w, w->rows / 2, from->rows);
    size_t floats = (size_t)chunk * from->rows;
    loami_phase *p = loami_phase_add(s, run_glu, (w->rows / 2 + chunk - 1) / chunk, node);
    if (!p) return;
    if (s->need_floats < floats) s->need_floats = floats;
    p->from = from;
    p->norm = norm;
    p->ready = ready;
    p->w = w;
    p->chunk_rows = chunk;
    p->rows = from->rows;
    p->streams = is_stream(s, w, from->rows);
}
