#include "kern/random_matrix.h"
#include "base/half.h"
#include "substrate/dequant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t rnd_next(rnd *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint32_t rnd_below(rnd *r, uint32_t n)
{
    return (uint32_t)((rnd_next(r) >> 32) * n >> 32);
}

float rnd_float(rnd *r)
{
    float sum = -2;
    for (int i = 0; i < 4; i++) sum += (float)(rnd_next(r) >> 40) / (float)(1 << 24);
    sum *= 1.7320508f;
    return rnd_below(r, 500) ? sum : 8 * sum;
}

const matrix_kind matrix_kinds[] = {
    { "f32", LOAM_Q_NONE, 0, 0, LOAM_F32, 1 },
    { "f16", LOAM_Q_NONE, 0, 0, LOAM_F16, 1 },
    { "bf16", LOAM_Q_NONE, 0, 0, LOAM_BF16, 1 },
    { "4-bit/64 f16", LOAM_Q_AFFINE, 4, 64, LOAM_F16, 1 },
    { "4-bit/32 f16", LOAM_Q_AFFINE, 4, 32, LOAM_F16, 1 },
    { "4-bit/128 bf16", LOAM_Q_AFFINE, 4, 128, LOAM_BF16, 1 },
    { "4-bit/64 f32", LOAM_Q_AFFINE, 4, 64, LOAM_F32, 1 },
    { "4-bit/32 bf16", LOAM_Q_AFFINE, 4, 32, LOAM_BF16, 1 },
    { "8-bit/32 f16", LOAM_Q_AFFINE, 8, 32, LOAM_F16, 1 },
    { "8-bit/64 bf16", LOAM_Q_AFFINE, 8, 64, LOAM_BF16, 1 },
    { "8-bit/128 f32", LOAM_Q_AFFINE, 8, 128, LOAM_F32, 1 },
    { "2-bit/64 f16", LOAM_Q_AFFINE, 2, 64, LOAM_F16, 1 },
    { "3-bit/64 bf16", LOAM_Q_AFFINE, 3, 64, LOAM_BF16, 1 },
    { "5-bit/32 f16", LOAM_Q_AFFINE, 5, 32, LOAM_F16, 1 },
    { "6-bit/128 f32", LOAM_Q_AFFINE, 6, 128, LOAM_F32, 1 },
    { "mxfp4", LOAM_Q_MXFP4, 4, 32, LOAM_U8, 1 },
    { "mxfp8", LOAM_Q_MXFP8, 8, 32, LOAM_U8, 1 },
    { "nvfp4", LOAM_Q_NVFP4, 4, 16, LOAM_U8, 1 },
};
const uint32_t n_matrix_kinds = sizeof matrix_kinds / sizeof matrix_kinds[0];

enum { SKEW = 4 }; /* bytes off any alignment but that of a word */

static void *skewed(size_t n)
{
    char *p = calloc(1, n + SKEW + 1);
    if (!p) abort();
    return p + SKEW;
}

static void put_number(void *at, loam_dtype type, size_t i, float x)
{
    uint16_t h = type == LOAM_F16 ? loami_to_f16(x) : loami_to_bf16(x);
    if (type == LOAM_F32) memcpy((char *)at + 4 * i, &x, 4);
    else memcpy((char *)at + 2 * i, &h, 2);
}

static void fill_scales(rnd *r, loam_matrix *m, float spread, size_t n)
{
    char *scales = skewed(n * 4), *biases = skewed(n * 4);
    m->scales = scales;
    m->biases = m->quant == LOAM_Q_AFFINE ? biases : NULL;
    if (!m->biases) free(biases - SKEW);
    float top = (float)((1 << m->bits) - 1), size = spread / sqrtf((float)m->cols);
    for (size_t i = 0; i < n; i++) {
        float width = rnd_below(r, 40) ? size * (0.5f + fabsf(rnd_float(r))) : 0;
        if (m->quant == LOAM_Q_AFFINE) {
            float scale = 4 * width / top;
            put_number(scales, m->type, i, rnd_below(r, 8) ? scale : -scale);
            put_number(biases, m->type, i, -scale * top * (0.3f + 0.4f * (float)rnd_below(r, 1000) / 1000));
        } else if (m->quant == LOAM_Q_NVFP4) {
            scales[i] = (char)(0x18 + rnd_below(r, 24));
        } else {
            scales[i] = (char)(127 - 8 + rnd_below(r, 5));
        }
    }
}

void random_matrix(rnd *r, loam_matrix *m, const matrix_kind *k, uint32_t experts, uint32_t rows, uint32_t cols, bool bias)
{
    *m = (loam_matrix){ .name = "test", .n_experts = experts, .rows = rows, .cols = cols, .quant = k->quant, .bits = k->bits,
                        .group = k->group, .type = k->type };
    size_t n = (size_t)experts * rows, bytes = n * loami_row_bytes(m);
    unsigned char *data = skewed(bytes);
    m->data = data;
    if (k->quant == LOAM_Q_NONE) {
        float size = k->spread == 1 ? 3 / sqrtf((float)cols) : k->spread;
        bool vector = rows == 1 && k->spread == 1; /* a norm's, near 1 */
        for (size_t i = 0; i < n * cols; i++) put_number(data, k->type, i, vector ? 1 + 0.2f * rnd_float(r) : size * rnd_float(r));
    } else {
        for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)rnd_next(r);
        if (k->quant == LOAM_Q_MXFP8)
            for (size_t i = 0; i < bytes; i++)
                if ((data[i] & 0x7f) == 0x7f) data[i] ^= 1; /* NaN */
        fill_scales(r, m, k->spread, n * (cols / k->group));
    }
    if (bias) random_bias(r, m, (uint32_t)n);
}

void random_bias(rnd *r, loam_matrix *m, uint32_t n)
{
    float *b = skewed(n * sizeof *b);
    for (uint32_t i = 0; i < n; i++) put_number(b, LOAM_F32, i, rnd_float(r));
    m->bias = b;
    m->bias_type = LOAM_F32;
}

void random_matrix_free(loam_matrix *m)
{
    const void *p[] = { m->data, m->scales, m->biases, m->bias };
    for (int i = 0; i < 4; i++)
        if (p[i]) free((char *)p[i] - SKEW);
    *m = (loam_matrix){ 0 };
}
