/* Attention over one page of keys and values: as avx512_attend.c, with pairs multiplied and added, then summed. */
#include "substrate/cpu/x86/avx2.h"

INLINE __m256i pair_of(const int16_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

#define EACH_ROW(X) X(0) X(1)
#define START(i) __m256i a##i##0 = _mm256_setzero_si256(), a##i##1 = a##i##0, a##i##2 = a##i##0, a##i##3 = a##i##0;
#define PAIR(i)                                                                                                          \
    if (i < m) {                                                                                                         \
        __m256i v = pair_of(x + (size_t)i * xs);                                                                         \
        a##i##0 = _mm256_add_epi32(a##i##0, _mm256_madd_epi16(t0, v));                                                   \
        a##i##1 = _mm256_add_epi32(a##i##1, _mm256_madd_epi16(t1, v));                                                   \
        a##i##2 = _mm256_add_epi32(a##i##2, _mm256_madd_epi16(t2, v));                                                   \
        a##i##3 = _mm256_add_epi32(a##i##3, _mm256_madd_epi16(t3, v));                                                   \
    }

/* m (1 or 2) rows of pairs x, n of them, against 32 columns of pairs from w on; out is [m][4] registers. */
INLINE void dot_columns(__m256i out[2][4], const int16_t *x, size_t xs, const int16_t *w, size_t ws, uint32_t n, int m)
{
    EACH_ROW(START)
    do {
        __m256i t0 = _mm256_loadu_si256((const void *)w), t1 = _mm256_loadu_si256((const void *)(w + 16));
        __m256i t2 = _mm256_loadu_si256((const void *)(w + 32)), t3 = _mm256_loadu_si256((const void *)(w + 48));
        EACH_ROW(PAIR)
        w += ws;
        x += 2;
    } while (--n);
#define OUT(i) out[i][0] = a##i##0, out[i][1] = a##i##1, out[i][2] = a##i##2, out[i][3] = a##i##3;
    EACH_ROW(OUT)
}

void loami_avx2_scores(float *s, const int16_t *q, const float *q_scale, const int16_t *k, const float *k_scale, uint32_t nq, uint32_t dim)
{
    for (uint32_t i = 0; i < nq; i += 2) {
        int m = nq - i < 2 ? 1 : 2;
        for (uint32_t t = 0; t < LOAMI_PAGE; t += 32) {
            __m256i a[2][4];
            if (m == 2) dot_columns(a, q + (size_t)i * dim, dim, k + 2 * t, 2 * LOAMI_PAGE, dim / 2, 2);
            else dot_columns(a, q + (size_t)i * dim, dim, k + 2 * t, 2 * LOAMI_PAGE, dim / 2, 1);
            for (int r = 0; r < m; r++)
                for (int j = 0; j < 4; j++) {
                    __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(k_scale + t + 8 * j), _mm256_set1_ps(q_scale[i + r]));
                    _mm256_storeu_ps(s + (i + r) * LOAMI_PAGE + t + 8 * j, _mm256_mul_ps(_mm256_cvtepi32_ps(a[r][j]), scale));
                }
        }
    }
}

static void value_block(float *out, const float *rescale, const int16_t *p, const float *p_scale, const int16_t *v, int m, uint32_t n, uint32_t dim,
                        int columns)
{
    __m256i a[2][4];
    if (columns == 32) {
        if (m == 2) dot_columns(a, p, LOAMI_PAGE, v, 2 * dim, (n + 1) / 2, 2);
        else dot_columns(a, p, LOAMI_PAGE, v, 2 * dim, (n + 1) / 2, 1);
    } else {
        for (int r = 0; r < m; r++) {
            a[r][0] = a[r][1] = _mm256_setzero_si256();
            for (uint32_t t = 0; t < n; t += 2) {
                __m256i x = pair_of(p + r * LOAMI_PAGE + t);
                a[r][0] = _mm256_add_epi32(a[r][0], _mm256_madd_epi16(_mm256_loadu_si256((const void *)(v + (size_t)t * dim)), x));
                a[r][1] = _mm256_add_epi32(a[r][1], _mm256_madd_epi16(_mm256_loadu_si256((const void *)(v + (size_t)t * dim + 16)), x));
            }
        }
    }
    for (int r = 0; r < m; r++)
        for (int j = 0; j < columns / 8; j++) {
            float *at = out + (size_t)r * dim + 8 * j;
            __m256 old = _mm256_mul_ps(_mm256_set1_ps(rescale[r]), _mm256_loadu_ps(at));
            _mm256_storeu_ps(at, _mm256_fmadd_ps(_mm256_cvtepi32_ps(a[r][j]), _mm256_set1_ps(p_scale[r]), old));
        }
}

void loami_avx2_values(float *out, const float *rescale, const int16_t *p, const float *p_scale, const int16_t *v, uint32_t nq, uint32_t n,
                       uint32_t dim)
{
    for (uint32_t i = 0; i < nq; i += 2) {
        int m = nq - i < 2 ? 1 : 2;
        uint32_t d = 0;
        for (; d + 32 <= dim; d += 32) value_block(out + (size_t)i * dim + d, rescale + i, p + i * LOAMI_PAGE, p_scale + i, v + 2 * d, m, n, dim, 32);
        for (; d < dim; d += 16) value_block(out + (size_t)i * dim + d, rescale + i, p + i * LOAMI_PAGE, p_scale + i, v + 2 * d, m, n, dim, 16);
    }
}
