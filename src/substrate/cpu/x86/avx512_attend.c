/* Attention over one page of keys and values, for several queries at once, in 16-bit integers. */
#include "substrate/cpu/x86/avx512.h"

#include <math.h>
#include <string.h>

INLINE __m512i pair_of(const int16_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

void loami_avx512_quantise16(int16_t *codes, float *scale, const float *x, uint32_t n, uint32_t top)
{
    __m512 most16 = _mm512_setzero_ps();
    __mmask16 bad = 0;
    for (uint32_t i = 0; i < n; i += 16) {
        __mmask16 m = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xffff;
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        bad |= _mm512_fpclass_ps_mask(v, 0x99); /* NaN, infinite */
        most16 = _mm512_max_ps(most16, _mm512_abs_ps(v));
    }
    float most = _mm512_reduce_max_ps(most16), inv = !bad && most > 1e-35f ? (float)top / most : 0;
    *scale = inv > 0 ? most / (float)top : 0;
    __m512 inv16 = _mm512_set1_ps(inv);
    for (uint32_t i = 0; i < n; i += 16) {
        __mmask16 m = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xffff;
        __m512i c = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(bad ? 0 : m, x + i), inv16));
        _mm256_mask_storeu_epi16(codes + i, m, _mm512_cvtsepi32_epi16(c));
    }
}

/* ---- scores ------------------------------------------------------------------------------------------------------ */

/* m queries against 64 tokens: the tokens fill four registers, a query's pair of numbers is a broadcast. */
INLINE void score_rows(float *s, const int16_t *q, const float *q_scale, const int16_t *k, const float *k_scale, int m, uint32_t dim)
{
    uint32_t d = 0;
#define START(i) int32x16 a##i##0 = { 0 }, a##i##1 = a##i##0, a##i##2 = a##i##0, a##i##3 = a##i##0;
    EACH_ROW(START)
    do { /* at least once: with a test before it gcc keeps a second copy of all sums */
        __m512i t0 = _mm512_loadu_si512(k), t1 = _mm512_loadu_si512(k + 32), t2 = _mm512_loadu_si512(k + 64), t3 = _mm512_loadu_si512(k + 96);
#define PAIR(i)                                                                                                          \
    if (i < m) {                                                                                                         \
        __m512i v = pair_of(q + (size_t)i * dim + d);                                                                    \
        a##i##0 = dot_pairs(a##i##0, t0, v);                                                                   \
        a##i##1 = dot_pairs(a##i##1, t1, v);                                                                   \
        a##i##2 = dot_pairs(a##i##2, t2, v);                                                                   \
        a##i##3 = dot_pairs(a##i##3, t3, v);                                                                   \
    }
        EACH_ROW(PAIR)
        k += 2 * LOAMI_PAGE;
    } while ((d += 2) < dim);
    __m512 s0 = _mm512_loadu_ps(k_scale), s1 = _mm512_loadu_ps(k_scale + 16), s2 = _mm512_loadu_ps(k_scale + 32), s3 = _mm512_loadu_ps(k_scale + 48);
#define PUT(i)                                                                                                           \
    if (i < m) {                                                                                                         \
        __m512 qs = _mm512_set1_ps(q_scale[i]);                                                                          \
        _mm512_storeu_ps(s + i * LOAMI_PAGE, _mm512_mul_ps(to_float(a##i##0), _mm512_mul_ps(s0, qs)));         \
        _mm512_storeu_ps(s + i * LOAMI_PAGE + 16, _mm512_mul_ps(to_float(a##i##1), _mm512_mul_ps(s1, qs)));    \
        _mm512_storeu_ps(s + i * LOAMI_PAGE + 32, _mm512_mul_ps(to_float(a##i##2), _mm512_mul_ps(s2, qs)));    \
        _mm512_storeu_ps(s + i * LOAMI_PAGE + 48, _mm512_mul_ps(to_float(a##i##3), _mm512_mul_ps(s3, qs)));    \
    }
    EACH_ROW(PUT)
}

void loami_avx512_scores(float *s, const int16_t *q, const float *q_scale, const int16_t *k, const float *k_scale, uint32_t nq, uint32_t dim)
{
    for (uint32_t i = 0, h; i < nq; i += h) {
        float *to = s + (size_t)i * LOAMI_PAGE;
        const int16_t *from = q + (size_t)i * dim;
        h = nq - i >= TILE_ROWS ? TILE_ROWS : nq - i;
        switch (h) {
        case 6: score_rows(to, from, q_scale + i, k, k_scale, 6, dim); break;
        case 5: score_rows(to, from, q_scale + i, k, k_scale, 5, dim); break;
        case 4: score_rows(to, from, q_scale + i, k, k_scale, 4, dim); break;
        case 3: score_rows(to, from, q_scale + i, k, k_scale, 3, dim); break;
        case 2: score_rows(to, from, q_scale + i, k, k_scale, 2, dim); break;
        default: score_rows(to, from, q_scale + i, k, k_scale, 1, dim); break;
        }
    }
}

/* ---- softmax ----------------------------------------------------------------------------------------------------- */

/* exp(x) for x <= 0, relative error below 2e-7; -inf gives 0. The reduction is exact enough because x is: n log 2 is
 * subtracted in two parts. */
INLINE __m512 exp16(__m512 x)
{
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    n = _mm512_max_ps(n, _mm512_set1_ps(-160));
    x = _mm512_max_ps(x, _mm512_set1_ps(-110));
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.3981999507e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1)));
    return _mm512_scalef_ps(p, n);
}

INLINE __m512 tanh16(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1);
    __m512 a = _mm512_abs_ps(x), e = exp16(_mm512_mul_ps(a, _mm512_set1_ps(-2)));
    __m512 y = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e)), a2 = _mm512_mul_ps(a, a);
    __m512 p = _mm512_fmadd_ps(a2, _mm512_set1_ps(-17.0f / 315), _mm512_set1_ps(2.0f / 15));
    p = _mm512_fmadd_ps(p, a2, _mm512_set1_ps(-1.0f / 3));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, a2), a, a); /* near 0 the difference above loses digits */
    y = _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, _mm512_set1_ps(0.1f), _CMP_LT_OQ), y, p);
    return _mm512_or_ps(y, _mm512_and_ps(x, _mm512_set1_ps(-0.0f)));
}

float loami_avx512_softmax(int16_t *p, float *p_scale, float *s, uint32_t lo, uint32_t hi, float softcap, const float *v_scale, float *max,
                           float *sum)
{
    const __m512 none = _mm512_set1_ps(-INFINITY);
    __m512 x[4];
    UNROLL
    for (int j = 0; j < 4; j++) x[j] = _mm512_loadu_ps(s + 16 * j);
    if (softcap != 0) {
        UNROLL
        for (int j = 0; j < 4; j++) x[j] = _mm512_mul_ps(tanh16(_mm512_div_ps(x[j], _mm512_set1_ps(softcap))), _mm512_set1_ps(softcap));
    }
    if (lo > 0 || hi < LOAMI_PAGE) {
        uint64_t in = (hi < 64 ? (1ull << hi) - 1 : ~0ull) & (lo < 64 ? ~0ull << lo : 0);
        UNROLL
        for (int j = 0; j < 4; j++) x[j] = _mm512_mask_blend_ps((__mmask16)(in >> (16 * j)), none, x[j]);
    }
    float old = *max, top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3])));
    if (!(top > old)) top = old;
    __m512 from = _mm512_set1_ps(top == -INFINITY ? 0 : top), most16 = _mm512_setzero_ps(), total = _mm512_setzero_ps();
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512 e = exp16(_mm512_sub_ps(x[j], from));
        total = _mm512_add_ps(total, e);
        x[j] = _mm512_mul_ps(e, _mm512_loadu_ps(v_scale + 16 * j));
        most16 = _mm512_max_ps(most16, x[j]);
    }
    float most = _mm512_reduce_max_ps(most16), inv = most > 1e-35f ? LOAMI_P_TOP / most : 0;
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512i c = _mm512_cvtps_epi32(_mm512_mul_ps(x[j], _mm512_set1_ps(inv)));
        _mm256_storeu_si256((void *)(p + 16 * j), _mm512_cvtsepi32_epi16(c));
    }
    float rescale = old == top ? 1 : _mm512_cvtss_f32(exp16(_mm512_set1_ps(old - top)));
    *p_scale = inv > 0 ? most * (1.0f / LOAMI_P_TOP) : 0;
    *sum = *sum * rescale + _mm512_reduce_add_ps(total);
    *max = top;
    return rescale;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

INLINE void put_values(float *at, int32x16 v, __m512 scale, __m512 rescale)
{
    _mm512_storeu_ps(at, _mm512_fmadd_ps(to_float(v), scale, _mm512_mul_ps(rescale, _mm512_loadu_ps(at))));
}

/* m queries, nd (1 or 4) times 16 of their dimensions. */
INLINE void value_rows(float *out, const float *rescale, const int16_t *p, const float *p_scale, const int16_t *v, int m, uint32_t n,
                       uint32_t dim, int nd)
{
    const __m512i zero = _mm512_setzero_si512();
    uint32_t t = 0;
    EACH_ROW(START)
    do {
        __m512i w0 = _mm512_loadu_si512(v), w1 = zero, w2 = zero, w3 = zero;
        if (nd > 1) w1 = _mm512_loadu_si512(v + 32), w2 = _mm512_loadu_si512(v + 64), w3 = _mm512_loadu_si512(v + 96);
#define TOKENS(i)                                                                                                        \
    if (i < m) {                                                                                                         \
        __m512i x = pair_of(p + i * LOAMI_PAGE + t);                                                                     \
        a##i##0 = dot_pairs(a##i##0, w0, x);                                                                   \
        if (nd > 1) {                                                                                                    \
            a##i##1 = dot_pairs(a##i##1, w1, x);                                                               \
            a##i##2 = dot_pairs(a##i##2, w2, x);                                                               \
            a##i##3 = dot_pairs(a##i##3, w3, x);                                                               \
        }                                                                                                                \
    }
        EACH_ROW(TOKENS)
        v += 2 * dim;
    } while ((t += 2) < n);
#define ADD_TO(i)                                                                                                        \
    if (i < m) {                                                                                                         \
        float *at = out + (size_t)i * dim;                                                                               \
        __m512 ps = _mm512_set1_ps(p_scale[i]), r = _mm512_set1_ps(rescale[i]);                                          \
        put_values(at, a##i##0, ps, r);                                                                                  \
        if (nd > 1) put_values(at + 16, a##i##1, ps, r), put_values(at + 32, a##i##2, ps, r), put_values(at + 48, a##i##3, ps, r); \
    }
    EACH_ROW(ADD_TO)
}

INLINE void value_dims(float *out, const float *rescale, const int16_t *p, const float *p_scale, const int16_t *v, uint32_t m, uint32_t n,
                       uint32_t dim, int nd)
{
    switch (m) {
    case 6: value_rows(out, rescale, p, p_scale, v, 6, n, dim, nd); break;
    case 5: value_rows(out, rescale, p, p_scale, v, 5, n, dim, nd); break;
    case 4: value_rows(out, rescale, p, p_scale, v, 4, n, dim, nd); break;
    case 3: value_rows(out, rescale, p, p_scale, v, 3, n, dim, nd); break;
    case 2: value_rows(out, rescale, p, p_scale, v, 2, n, dim, nd); break;
    default: value_rows(out, rescale, p, p_scale, v, 1, n, dim, nd); break;
    }
}

void loami_avx512_values(float *out, const float *rescale, const int16_t *p, const float *p_scale, const int16_t *v, uint32_t nq, uint32_t n,
                         uint32_t dim)
{
    for (uint32_t i = 0, h; i < nq; i += h) {
        uint32_t d = 0;
        float *to = out + (size_t)i * dim;
        const int16_t *from = p + (size_t)i * LOAMI_PAGE;
        h = nq - i >= TILE_ROWS ? TILE_ROWS : nq - i;
        for (; d + 64 <= dim; d += 64) value_dims(to + d, rescale + i, from, p_scale + i, v + 2 * d, h, n, dim, 4);
        for (; d < dim; d += 16) value_dims(to + d, rescale + i, from, p_scale + i, v + 2 * d, h, n, dim, 1);
    }
}
