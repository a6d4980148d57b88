/* Attention over one page of keys and values, for several queries at once. */
#include "substrate/cpu/x86/avx512.h"

/* m queries against 64 tokens: the tokens fill four registers, a query's number is a broadcast. */
INLINE void score_rows(float *s, const float *q, const float *k, int m, uint32_t dim)
{
    __m512 acc[6][4];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < 4; j++) acc[i][j] = _mm512_setzero_ps();
    for (uint32_t d = 0; d < dim; d++) {
        __m512 t[4];
        for (int j = 0; j < 4; j++) t[j] = _mm512_loadu_ps(k + (size_t)d * LOAMI_PAGE + 16 * j);
        for (int i = 0; i < m; i++) {
            __m512 v = _mm512_set1_ps(q[(size_t)i * dim + d]);
            for (int j = 0; j < 4; j++) acc[i][j] = _mm512_fmadd_ps(v, t[j], acc[i][j]);
        }
    }
    for (int i = 0; i < m; i++)
        for (int j = 0; j < 4; j++) _mm512_storeu_ps(s + i * LOAMI_PAGE + 16 * j, acc[i][j]);
}

void loami_avx512_scores(float *s, const float *q, const float *k, uint32_t nq, uint32_t dim)
{
    for (uint32_t i = 0, h; i < nq; i += h) {
        float *to = s + (size_t)i * LOAMI_PAGE;
        const float *from = q + (size_t)i * dim;
        h = nq - i >= 6 ? 6 : nq - i;
        switch (h) {
        case 6: score_rows(to, from, k, 6, dim); break;
        case 5: score_rows(to, from, k, 5, dim); break;
        case 4: score_rows(to, from, k, 4, dim); break;
        case 3: score_rows(to, from, k, 3, dim); break;
        case 2: score_rows(to, from, k, 2, dim); break;
        default: score_rows(to, from, k, 1, dim); break;
        }
    }
}

/* m queries, nd * 16 of their dimensions. */
INLINE void value_rows(float *out, const float *rescale, const float *p, const float *v, int m, uint32_t n, uint32_t dim, int nd)
{
    __m512 acc[6][4];
    for (int i = 0; i < m; i++) {
        __m512 r = _mm512_set1_ps(rescale[i]);
        for (int j = 0; j < nd; j++) acc[i][j] = _mm512_mul_ps(r, _mm512_loadu_ps(out + (size_t)i * dim + 16 * j));
    }
    for (uint32_t t = 0; t < n; t++) {
        __m512 w[4];
        for (int j = 0; j < nd; j++) w[j] = _mm512_loadu_ps(v + (size_t)t * dim + 16 * j);
        for (int i = 0; i < m; i++) {
            __m512 x = _mm512_set1_ps(p[i * LOAMI_PAGE + t]);
            for (int j = 0; j < nd; j++) acc[i][j] = _mm512_fmadd_ps(x, w[j], acc[i][j]);
        }
    }
    for (int i = 0; i < m; i++)
        for (int j = 0; j < nd; j++) _mm512_storeu_ps(out + (size_t)i * dim + 16 * j, acc[i][j]);
}

INLINE void value_dims(float *out, const float *rescale, const float *p, const float *v, uint32_t m, uint32_t n, uint32_t dim, int nd)
{
    switch (m) {
    case 6: value_rows(out, rescale, p, v, 6, n, dim, nd); break;
    case 5: value_rows(out, rescale, p, v, 5, n, dim, nd); break;
    case 4: value_rows(out, rescale, p, v, 4, n, dim, nd); break;
    case 3: value_rows(out, rescale, p, v, 3, n, dim, nd); break;
    case 2: value_rows(out, rescale, p, v, 2, n, dim, nd); break;
    default: value_rows(out, rescale, p, v, 1, n, dim, nd); break;
    }
}

void loami_avx512_values(float *out, const float *rescale, const float *p, const float *v, uint32_t nq, uint32_t n, uint32_t dim)
{
    for (uint32_t i = 0, h; i < nq; i += h) {
        uint32_t d = 0;
        float *to = out + (size_t)i * dim;
        const float *from = p + (size_t)i * LOAMI_PAGE;
        h = nq - i >= 6 ? 6 : nq - i;
        for (; d + 64 <= dim; d += 64) value_dims(to + d, rescale + i, from, v + d, h, n, dim, 4);
        for (; d < dim; d += 16) value_dims(to + d, rescale + i, from, v + d, h, n, dim, 1);
    }
}
