#include "substrate/reference/reference.h"
#include "base/err.h"
#include "substrate/groups.h"
#include "substrate/registry.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- open, weights, pages ------------------------------------------------------------------------------- */

static int ref_open(loam_sub **out, const loam_sub_options *options, loam_err *err)
{
    (void)options;
    loam_sub *s = calloc(1, sizeof *s);
    if (!s) return loami_fail_nomem(err);
    *out = s;
    return 0;
}

static void ref_close(loam_sub *s)
{
    if (!s) return;
    for (loam_weight *w = s->weights, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    loami_arena_free(&s->step);
    free(s->picks[0].ids);
    free(s->picks[1].ids);
    free(s->k);
    free(s->v);
    free(s->layer);
    free(s);
}

static void ref_info(const loam_sub *s, loam_sub_info *out)
{
    (void)s;
    *out = (loam_sub_info){ .page_tokens = LOAMI_REF_PAGE, .threads = 1, .rows = 512, .steady = true };
    snprintf(out->device, sizeof out->device, "cpu (reference)");
}

static int ref_weight(loam_sub *s, loam_weight **out, const loam_matrix *parts, uint32_t n_parts, loam_err *err)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        int rc = loami_matrix_check(&parts[i], err);
        if (rc < 0) return rc;
        if (parts[i].cols != parts[0].cols || parts[i].n_experts != parts[0].n_experts || parts[i].rows > UINT32_MAX - rows)
            return loami_fail(err, LOAM_E_FORMAT, "%s: its shape does not go with %s", parts[i].name, parts[0].name);
        rows += parts[i].rows;
    }
    loam_weight *w = calloc(1, sizeof *w + n_parts * sizeof *parts);
    if (!w) return loami_fail_nomem(err);
    *w = (loam_weight){ .next = s->weights, .n_parts = n_parts, .cols = parts[0].cols, .rows = rows };
    memcpy(w->part, parts, n_parts * sizeof *parts);
    *out = s->weights = w;
    return 0;
}

/* Keys or values of one page in one layer. */
static size_t page_floats(const loam_kv_config *c)
{
    return (size_t)LOAMI_REF_PAGE * c->n_kv * c->head_dim;
}

static uint64_t ref_kv_page_bytes(const loam_sub *s, const loam_kv_config *c, uint32_t group)
{
    (void)s;
    return 2 * (uint64_t)loami_kv_layers(c, group) * page_floats(c) * sizeof(float);
}

static int ref_kv_open(loam_sub *s, const loam_kv_config *config, uint64_t *bytes, loam_err *err)
{
    size_t per_page = page_floats(config), pages = loami_kv_pages(config), at = 0;
    if (!loami_kv_grouped(config)) return loami_fail(err, LOAM_E_UNSUPPORTED, "a KV cache of %u groups", config->n_groups);
    if (per_page && pages > SIZE_MAX / 8 / per_page) return loami_fail_nomem(err);
    free(s->k);
    free(s->v);
    free(s->layer);
    s->kv = *config;
    s->k = calloc(pages, per_page * sizeof(float));
    s->v = calloc(pages, per_page * sizeof(float));
    s->layer = calloc(config->n_layers, sizeof *s->layer);
    if (!s->k || !s->v || !s->layer) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < config->n_layers; at += loami_kv_pages_of(config, i++)) s->layer[i] = at;
    *bytes = 2 * pages * per_page * sizeof(float);
    return 0;
}

/* Layer by layer: keys, values. */
static bool ref_kv_read(loam_sub *s, uint32_t group, uint32_t page, void *bytes)
{
    size_t n = page_floats(&s->kv);
    float *out = bytes;
    for (uint32_t i = 0; i < s->kv.n_layers; i++) {
        if (loami_kv_group_of(&s->kv, i) != group) continue;
        memcpy(out, s->k + (s->layer[i] + page) * n, n * sizeof *out);
        memcpy(out + n, s->v + (s->layer[i] + page) * n, n * sizeof *out);
        out += 2 * n;
    }
    return true;
}

static bool ref_kv_write(loam_sub *s, uint32_t group, uint32_t page, const void *bytes)
{
    size_t n = page_floats(&s->kv);
    const float *in = bytes;
    for (uint32_t i = 0; i < s->kv.n_layers; i++) {
        if (loami_kv_group_of(&s->kv, i) != group) continue;
        memcpy(s->k + (s->layer[i] + page) * n, in, n * sizeof *in);
        memcpy(s->v + (s->layer[i] + page) * n, in + n, n * sizeof *in);
        in += 2 * n;
    }
    return true;
}

static void ref_kv_copy(loam_sub *s, uint32_t group, uint32_t dst, uint32_t src, uint32_t n_tokens)
{
    size_t page = page_floats(&s->kv), n = page / LOAMI_REF_PAGE * n_tokens;
    for (uint32_t i = 0; i < s->kv.n_layers; i++) {
        if (loami_kv_group_of(&s->kv, i) != group) continue;
        memcpy(s->k + (s->layer[i] + dst) * page, s->k + (s->layer[i] + src) * page, n * sizeof(float));
        memcpy(s->v + (s->layer[i] + dst) * page, s->v + (s->layer[i] + src) * page, n * sizeof(float));
    }
}

/* ---- tensors of a step ---------------------------------------------------------------------------------- */

static void ref_begin(loam_sub *s, const loam_batch *b)
{
    loami_arena_restore(&s->step, (loami_arena_mark){ 0 });
    s->batch = b;
    s->n_tensors = 0;
    s->failed = NULL;
    if (b->tokens) s->n_picks = 0;
    s->tokens = b->tokens ? b->tokens : s->picks[0].ids;
}

loam_tensor loami_ref_new(loam_sub *s, uint32_t rows, uint32_t cols, float **data)
{
    *data = NULL;
    if (s->n_tensors < LOAMI_REF_TENSORS) *data = loami_arena_array(&s->step, (size_t)rows * cols, sizeof(float));
    if (!*data) {
        s->failed = "out of memory in a step";
        return LOAM_NO_TENSOR;
    }
    s->tensor[s->n_tensors] = (loami_ref_tensor){ rows, cols, *data };
    return s->n_tensors++;
}

const loami_ref_tensor *loami_ref_get(loam_sub *s, loam_tensor t)
{
    return t < s->n_tensors && !s->failed ? &s->tensor[t] : NULL;
}

static int ref_end(loam_sub *s, loam_err *err)
{
    s->batch = NULL;
    return s->failed ? loami_fail(err, LOAM_E_NOMEM, "%s", s->failed) : 0;
}

static const float *ref_read(loam_sub *s, loam_tensor x, uint32_t *rows, uint32_t *cols)
{
    const loami_ref_tensor *t = loami_ref_get(s, x);
    if (!t) return NULL;
    if (rows) *rows = t->rows;
    if (cols) *cols = t->cols;
    return t->data;
}

/* ---- operations ----------------------------------------------------------------------------------------- */

static loam_tensor ref_embed(loam_sub *s, const loam_weight *table, float scale)
{
    float *y;
    loam_tensor out = loami_ref_new(s, s->batch->n_rows, table->cols, &y);
    for (uint32_t r = 0; y && r < s->batch->n_rows; r++) {
        loami_dequant_row(&table->part[0], 0, (uint32_t)s->tokens[r], y + (size_t)r * table->cols);
        for (uint32_t i = 0; i < table->cols; i++) y[(size_t)r * table->cols + i] *= scale;
    }
    return out;
}

void loami_ref_norm_row(const loam_norm *norm, float *x, uint32_t n)
{
    double mean = 0, square = 0;
    if (norm->kind == LOAM_NORM_LAYER) {
        for (uint32_t i = 0; i < n; i++) mean += x[i];
        mean /= n;
    }
    for (uint32_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    double scale = 1 / sqrt(square / n + norm->eps);
    for (uint32_t i = 0; i < n; i++) {
        double w = 1, b = 0;
        if (norm->weight) {
            w = (double)loami_number_at(norm->weight->part[0].data, norm->weight->part[0].type, i) + norm->offset;
            b = norm->weight->part[0].bias ? loami_number_at(norm->weight->part[0].bias, norm->weight->part[0].bias_type, i) : 0;
        }
        x[i] = (float)((x[i] - mean) * scale * w + b);
    }
}

static loam_tensor ref_norm(loam_sub *s, loam_tensor x, const loam_norm *norm)
{
    const loami_ref_tensor *in = loami_ref_get(s, x);
    float *y;
    if (!in) return LOAM_NO_TENSOR;
    loam_tensor out = loami_ref_new(s, in->rows, in->cols, &y);
    if (!y) return out;
    memcpy(y, in->data, (size_t)in->rows * in->cols * sizeof *y);
    for (uint32_t r = 0; r < in->rows; r++) loami_ref_norm_row(norm, y + (size_t)r * in->cols, in->cols);
    return out;
}

static double dot(const float *a, const float *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* Dequantises each row of w once and lets every row of x meet it. */
static bool matmul(const loam_weight *w, uint32_t expert, const float *x, uint32_t n_x, float *y)
{
    float *row = malloc(w->cols * sizeof *row);
    if (!row) return false;
    uint32_t col = 0;
    for (uint32_t p = 0; p < w->n_parts; p++) {
        for (uint32_t r = 0; r < w->part[p].rows; r++, col++) {
            loami_dequant_row(&w->part[p], expert, r, row);
            for (uint32_t i = 0; i < n_x; i++)
                y[(size_t)i * w->rows + col] =
                    (float)(dot(row, x + (size_t)i * w->cols, w->cols) + loami_bias_at(&w->part[p], expert, r));
        }
    }
    free(row);
    return true;
}

bool loami_ref_matvec(const loam_weight *w, uint32_t expert, const float *x, float *y)
{
    return matmul(w, expert, x, 1, y);
}

static loam_tensor ref_linear(loam_sub *s, loam_tensor x, const loam_weight *w)
{
    const loami_ref_tensor *in = loami_ref_get(s, x);
    float *y;
    if (!in) return LOAM_NO_TENSOR;
    loam_tensor out = loami_ref_new(s, in->rows, w->rows, &y);
    if (y && !matmul(w, 0, in->data, in->rows, y)) s->failed = "out of memory in a step";
    return out;
}

float loami_ref_act(loam_act act, float g, float up)
{
    switch (act) {
    case LOAM_ACT_SILU: return (float)(g / (1 + exp(-(double)g)) * up);
    case LOAM_ACT_GELU: return (float)(0.5 * g * (1 + erf(g / sqrt(2.0))) * up);
    case LOAM_ACT_GELU_TANH: return (float)(0.5 * g * (1 + tanh(0.7978845608028654 * (g + 0.044715 * pow(g, 3)))) * up);
    case LOAM_ACT_SWIGLU_OAI: { /* gpt-oss: clamped at 7, sigmoid of 1.702 g, up shifted by one */
        double c = fmin(g, 7), u = fmax(-7, fmin(up, 7));
        return (float)(c / (1 + exp(-1.702 * c)) * (u + 1));
    }
    }
    return 0;
}

static loam_tensor ref_glu(loam_sub *s, loam_tensor x, const loam_weight *gate_up, loam_act act)
{
    const loami_ref_tensor *both = loami_ref_get(s, ref_linear(s, x, gate_up));
    float *y;
    if (!both) return LOAM_NO_TENSOR;
    uint32_t n = both->cols / 2;
    loam_tensor out = loami_ref_new(s, both->rows, n, &y);
    for (uint32_t r = 0; y && r < both->rows; r++) {
        const float *gate = both->data + (size_t)r * both->cols;
        for (uint32_t i = 0; i < n; i++) y[(size_t)r * n + i] = loami_ref_act(act, gate[i], gate[n + i]);
    }
    return out;
}

static loam_tensor ref_add(loam_sub *s, loam_tensor x, loam_tensor y, float y_scale)
{
    const loami_ref_tensor *a = loami_ref_get(s, x), *b = loami_ref_get(s, y);
    float *z;
    if (!a || !b) return LOAM_NO_TENSOR;
    loam_tensor out = loami_ref_new(s, a->rows, a->cols, &z);
    for (size_t i = 0; z && i < (size_t)a->rows * a->cols; i++) z[i] = a->data[i] + y_scale * b->data[i];
    return out;
}

static loam_tensor ref_cap(loam_sub *s, loam_tensor x, float scale, float cap)
{
    const loami_ref_tensor *in = loami_ref_get(s, x);
    float *y;
    if (!in) return LOAM_NO_TENSOR;
    loam_tensor out = loami_ref_new(s, in->rows, in->cols, &y);
    for (size_t i = 0; y && i < (size_t)in->rows * in->cols; i++) {
        y[i] = in->data[i] * scale;
        if (cap != 0) y[i] = (float)(cap * tanh((double)y[i] / cap));
    }
    return out;
}

static loam_tensor ref_gather(loam_sub *s, loam_tensor x)
{
    const loami_ref_tensor *in = loami_ref_get(s, x);
    float *y;
    if (!in) return LOAM_NO_TENSOR;
    loam_tensor out = loami_ref_new(s, s->batch->n_wanted, in->cols, &y);
    for (uint32_t r = 0; y && r < s->batch->n_wanted; r++)
        memcpy(y + (size_t)r * in->cols, in->data + (size_t)s->batch->wanted[r] * in->cols, in->cols * sizeof *y);
    return out;
}

const loam_substrate loami_reference = {
    .abi = LOAM_SUBSTRATE_ABI,
    .name = "reference",
    .open = ref_open,
    .close = ref_close,
    .info = ref_info,
    .weight = ref_weight,
    .kv_page_bytes = ref_kv_page_bytes,
    .kv_open = ref_kv_open,
    .kv_copy = ref_kv_copy,
    .kv_read = ref_kv_read,
    .kv_write = ref_kv_write,
    .begin = ref_begin,
    .embed = ref_embed,
    .norm = ref_norm,
    .linear = ref_linear,
    .glu = ref_glu,
    .add = ref_add,
    .cap = ref_cap,
    .store = loami_ref_store,
    .attend = loami_ref_attend,
    .moe = loami_ref_moe,
    .gather = ref_gather,
    .end = ref_end,
    .pick = loami_ref_pick,
    .launch = loami_ref_launch,
    .collect = loami_ref_collect,
    .read = ref_read,
};
