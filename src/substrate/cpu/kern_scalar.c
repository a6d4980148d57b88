#include "substrate/cpu/kern.h"
#include "base/half.h"
#include "substrate/dequant.h"

#include <math.h>
#include <string.h>

enum { PANEL_ROWS = 8 };

/* ---- reading weights --------------------------------------------------------------------------------------- */

void loami_mat_scale(const loami_mat *w, uint32_t row, uint32_t g, float *scale, float *bias)
{
    static const loam_dtype types[] = { [LOAMI_SCALE_F32] = LOAM_F32, [LOAMI_SCALE_F16] = LOAM_F16, [LOAMI_SCALE_BF16] = LOAM_BF16 };
    const uint8_t *s = w->scales + row * w->scale_bytes, *b = w->biases ? w->biases + row * w->scale_bytes : NULL;
    if (w->scale == LOAMI_SCALE_E8M0) *scale = loami_from_e8m0(s[g]);
    else if (w->scale == LOAMI_SCALE_E4M3) *scale = loami_from_e4m3(s[g]);
    else *scale = loami_number_at(s, types[w->scale], g);
    *bias = b ? loami_number_at(b, types[w->scale], g) : 0;
    if (w->code == LOAMI_CODE_FP4) { /* codes are 2 v + 12 */
        *bias = *scale * -6;
        *scale *= 0.5f;
    }
}

void loami_mat_codes(uint8_t *out, const loami_mat *w, uint32_t row, uint32_t k0, uint32_t k)
{
    static const uint8_t fp4[16] = { 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0 };
    const uint8_t *p = w->data + row * w->row_bytes;
    for (uint32_t i = 0; i < k; i++) {
        size_t at = (size_t)(k0 + i) * w->bits;
        uint32_t shift = at & 7, word = p[at >> 3];
        if (shift + w->bits > 8) word |= (uint32_t)p[(at >> 3) + 1] << 8;
        word = word >> shift & ((1u << w->bits) - 1);
        out[i] = w->code == LOAMI_CODE_FP4 ? fp4[word] : (uint8_t)word;
    }
}

static void dequant(float *out, const loami_mat *w, uint32_t row, uint32_t k0, uint32_t k)
{
    static const loam_dtype types[] = { [LOAMI_CODE_F32] = LOAM_F32, [LOAMI_CODE_F16] = LOAM_F16, [LOAMI_CODE_BF16] = LOAM_BF16 };
    const uint8_t *p = w->data + row * w->row_bytes;
    float s = 0, b = 0;
    for (uint32_t i = 0; i < k; i++) {
        if (!w->group) {
            out[i] = loami_number_at(p, types[w->code], k0 + i);
            continue;
        }
        if (i == 0 || (k0 + i) % w->group == 0) loami_mat_scale(w, row, (k0 + i) / w->group, &s, &b);
        if (w->code == LOAMI_CODE_FP8) {
            out[i] = s * loami_from_e4m3(p[k0 + i]);
        } else {
            uint8_t q;
            loami_mat_codes(&q, w, row, k0 + i, 1);
            out[i] = w->code == LOAMI_CODE_FP4 ? s * ((float)q - 12) : s * (float)q + b;
        }
    }
}

/* ---- integer path -------------------------------------------------------------------------------------------- */

static void quantise(int8_t *codes, float *scale, float *sum, const float *x, uint32_t n, uint32_t group, loami_order order)
{
    uint32_t n_groups = n / group;
    memset(codes, 0, (n + LOAMI_BLOCK - 1) / LOAMI_BLOCK * LOAMI_BLOCK);
    for (uint32_t g = 0; g < n_groups; g++) {
        float top = 0;
        int32_t total = 0;
        for (uint32_t i = g * group; i < (g + 1) * group; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
        float inv = top > 1e-35f && top < INFINITY ? 127 / top : 0;
        for (uint32_t i = g * group; i < (g + 1) * group; i++) {
            float v = x[i] * inv;
            int8_t c = v == v ? (int8_t)lrintf(v) : 0;
            codes[loami_code_at(i, order)] = c;
            total += c;
        }
        scale[g] = inv > 0 ? top / 127 : top < INFINITY ? 0 : NAN;
        sum[g] = scale[g] * (float)total;
    }
    for (uint32_t g = n_groups; g % 16; g++) scale[g] = sum[g] = 0;
}

static void dot(float *y, const loami_mat *w, uint32_t row, uint32_t n, const int8_t *codes, const float *scale, const float *sum)
{
    for (uint32_t r = 0; r < n; r++) {
        y[r] = 0;
        for (uint32_t g = 0; g < w->cols / w->group; g++) {
            uint8_t q[128];
            int32_t qx = 0;
            float s, b;
            loami_mat_codes(q, w, row + r, g * w->group, w->group);
            for (uint32_t i = 0; i < w->group; i++) qx += q[i] * codes[loami_code_at(g * w->group + i, loami_mat_order(w))];
            loami_mat_scale(w, row + r, g, &s, &b);
            y[r] += s * scale[g] * (float)qx + b * sum[g];
        }
    }
}

static void dots(float *y, size_t stride, const loami_mat *w, uint32_t row, uint32_t n, const loami_acts *x, uint32_t m)
{
    for (uint32_t i = 0; i < m; i++)
        dot(y + i * stride, w, row, n, x->codes + (size_t)i * x->code_stride, x->scale + (size_t)i * x->group_stride,
            x->sum + (size_t)i * x->group_stride);
}

static void unpack(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k)
{
    uint32_t have = k < w->cols - k0 ? k : w->cols - k0;
    p->k = (have + 31) & ~31u;
    p->group = w->group;
    p->order = loami_mat_order(w);
    p->top = loami_mat_top(w);
    for (uint32_t r = 0; r < n; r++) {
        uint8_t q[32];
        for (uint32_t i = 0; i < p->k; i += 32) {
            uint32_t left = have - i < 32 ? have - i : 32;
            memset(q, 0, sizeof q);
            loami_mat_codes(q, w, row + r, k0 + i, left);
            for (uint32_t j = 0; j < 32; j++) {
                uint32_t quad = p->order == LOAMI_SPLIT ? (j & 1) * 4 + j / 8 : j / 4, in = p->order == LOAMI_SPLIT ? j / 2 % 4 : j % 4;
                p->codes[((size_t)(i / 4 + quad) * PANEL_ROWS + r) * 4 + in] = q[j];
            }
        }
        for (uint32_t g = 0; g < have / w->group; g++)
            loami_mat_scale(w, row + r, k0 / w->group + g, &p->scale[g * PANEL_ROWS + r], &p->bias[g * PANEL_ROWS + r]);
    }
}

/* Where a panel's quad of inputs lies in a row of activation codes. */
static uint32_t quad_at(uint32_t quad, loami_order order)
{
    uint32_t i = quad / 8 * 32, j = quad % 8;
    return order == LOAMI_NATURAL ? i + 4 * j : (i & ~127u) + (i & 127) / 2 + j % 4 * 4 + j / 4 * 64;
}

static void tile(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m)
{
    for (uint32_t i = 0; i < m; i++) {
        const int8_t *codes = x->codes + (size_t)i * x->code_stride;
        const float *scale = x->scale + (size_t)i * x->group_stride, *sum = x->sum + (size_t)i * x->group_stride;
        for (uint32_t r = 0; r < n; r++) {
            int32_t qx[LOAMI_PANEL_K / LOAMI_GROUP_MIN] = { 0 };
            float total = base ? base[i * stride + r] : 0;
            for (uint32_t j = 0; j < p->k / 4; j++) {
                const uint8_t *q = p->codes + ((size_t)j * PANEL_ROWS + r) * 4;
                const int8_t *c = codes + quad_at(j, p->order);
                uint32_t first = p->order == LOAMI_SPLIT ? j / 8 * 32 + j % 4 * 8 : j * 4;
                qx[first / p->group] += q[0] * c[0] + q[1] * c[1] + q[2] * c[2] + q[3] * c[3];
            }
            for (uint32_t g = 0; g < p->k / p->group; g++)
                total += p->scale[g * PANEL_ROWS + r] * scale[g] * (float)qx[g] + p->bias[g * PANEL_ROWS + r] * sum[g];
            y[i * stride + r] = total;
        }
    }
}

/* ---- float path ------------------------------------------------------------------------------------------------- */

static void unpack_f(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k)
{
    float x[LOAMI_PANEL_K];
    p->k = k < w->cols - k0 ? k : w->cols - k0;
    for (uint32_t r = 0; r < n; r++) {
        dequant(x, w, row + r, k0, p->k);
        for (uint32_t i = 0; i < p->k; i++) p->floats[(size_t)i * PANEL_ROWS + r] = x[i];
    }
}

static void tile_f(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const float *x, size_t x_stride, uint32_t m)
{
    for (uint32_t i = 0; i < m; i++) {
        for (uint32_t r = 0; r < n; r++) {
            float total = base ? base[i * stride + r] : 0;
            for (uint32_t j = 0; j < p->k; j++) total += x[i * x_stride + j] * p->floats[(size_t)j * PANEL_ROWS + r];
            y[i * stride + r] = total;
        }
    }
}

static void dot_f(float *y, const loami_mat *w, uint32_t row, uint32_t n, const float *x)
{
    for (uint32_t r = 0; r < n; r++) {
        float total = 0, v[64];
        for (uint32_t i = 0; i < w->cols; i += 64) {
            uint32_t left = w->cols - i < 64 ? w->cols - i : 64;
            dequant(v, w, row + r, i, left);
            for (uint32_t j = 0; j < left; j++) total += v[j] * x[i + j];
        }
        y[r] = total;
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

static void norm(float *y, const float *x, const float *w, const float *b, uint32_t n, const loam_norm *how)
{
    double mean = 0, square = 0;
    for (uint32_t i = 0; i < n && how->kind == LOAM_NORM_LAYER; i++) mean += x[i] / (double)n;
    for (uint32_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    double scale = 1 / sqrt(square / n + how->eps);
    for (uint32_t i = 0; i < n; i++)
        y[i] = (float)((x[i] - mean) * scale * (w ? (double)w[i] + how->offset : 1) + (b ? b[i] : 0));
}

static float act1(loam_act kind, double g, double up)
{
    switch (kind) {
    case LOAM_ACT_SILU: return (float)(g / (1 + exp(-g)) * up);
    case LOAM_ACT_GELU: return (float)(0.5 * g * (1 + erf(g / sqrt(2.0))) * up);
    case LOAM_ACT_GELU_TANH: return (float)(0.5 * g * (1 + tanh(0.7978845608028654 * (g + 0.044715 * g * g * g))) * up);
    case LOAM_ACT_SWIGLU_OAI: {
        double c = g < 7 ? g : 7, u = up < -7 ? -7 : up < 7 ? up : 7;
        return (float)(c / (1 + exp(-1.702 * c)) * (u + 1));
    }
    }
    return 0;
}

static void act(float *y, const float *gate, const float *up, uint32_t n, loam_act kind)
{
    for (uint32_t i = 0; i < n; i++) y[i] = act1(kind, gate[i], up[i]);
}

static void axpy(float *y, const float *a, const float *b, float scale, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) y[i] = a[i] + scale * b[i];
}

static void cap(float *y, const float *x, float scale, float limit, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) y[i] = limit != 0 ? limit * tanhf(x[i] * scale / limit) : x[i] * scale;
}

/* ---- attention ---------------------------------------------------------------------------------------------------- */

static void quantise16(int16_t *codes, float *scale, const float *x, uint32_t n, uint32_t top)
{
    float most = 0;
    for (uint32_t i = 0; i < n; i++) most = !(fabsf(x[i]) <= most) ? fabsf(x[i]) : most; /* a NaN stays */
    float inv = most > 1e-30f && most < INFINITY ? (float)top / most : 0;
    for (uint32_t i = 0; i < n; i++) codes[i] = inv > 0 ? (int16_t)lrintf(x[i] * inv) : 0;
    *scale = inv > 0 ? most / (float)top : 0;
}

static void scores(float *s, const int16_t *q, const float *q_scale, const int16_t *k, const float *k_scale, uint32_t nq, uint32_t dim)
{
    for (uint32_t i = 0; i < nq; i++) {
        for (uint32_t t = 0; t < LOAMI_PAGE; t++) {
            int32_t total = 0;
            for (uint32_t d = 0; d < dim; d++) total += q[i * dim + d] * k[loami_k_at(d, t)];
            s[i * LOAMI_PAGE + t] = (float)total * (k_scale[t] * q_scale[i]);
        }
    }
}

static float softmax(int16_t *p, float *p_scale, float *s, uint32_t lo, uint32_t hi, float softcap, const float *v_scale, float v_top,
                     float *max, float *sum)
{
    float old = *max, here = -INFINITY;
    for (uint32_t t = lo; t < hi; t++) {
        if (softcap != 0) s[t] = softcap * tanhf(s[t] / softcap);
        if (s[t] > here) here = s[t];
    }
    float top = here > old ? here : old, rescale = top == old ? 1 : exp2f(old - top);
    float most = lo < hi ? exp2f(here - top) * v_top : 0, inv = most > 1e-30f ? LOAMI_P_TOP / most : 0;
    for (uint32_t j = 0; j < LOAMI_SUMS; j++) sum[j] *= rescale;
    for (uint32_t t = 0; t < LOAMI_PAGE; t++) {
        float e = t < lo || t >= hi ? 0 : exp2f(s[t] - top);
        sum[t % LOAMI_SUMS] += e;
        p[t] = e > 0 ? (int16_t)lrintf(e * v_scale[t] * inv) : 0;
    }
    *p_scale = inv > 0 ? most / LOAMI_P_TOP : 0;
    *max = top;
    return rescale;
}

static void values(float *out, const float *rescale, const int16_t *p, const float *p_scale, const int16_t *v, uint32_t nq, uint32_t n,
                   uint32_t dim)
{
    for (uint32_t i = 0; i < nq; i++) {
        for (uint32_t d = 0; d < dim; d++) {
            int32_t total = 0;
            for (uint32_t t = 0; t < n; t++) total += p[i * LOAMI_PAGE + t] * v[loami_v_at(d, t, dim)];
            out[i * dim + d] = out[i * dim + d] * rescale[i] + (float)total * p_scale[i];
        }
    }
}

const loami_kern loami_kern_scalar = {
    .name = "scalar",
    .panel_rows = PANEL_ROWS,
    .quantise = quantise,
    .dot4 = dot,
    .dot8 = dot,
    .dots = dots,
    .unpack = unpack,
    .tile = tile,
    .dequant = dequant,
    .unpack_f = unpack_f,
    .tile_f = tile_f,
    .dot_f = dot_f,
    .norm = norm,
    .act = act,
    .axpy = axpy,
    .cap = cap,
    .quantise16 = quantise16,
    .scores = scores,
    .softmax = softmax,
    .values = values,
};
