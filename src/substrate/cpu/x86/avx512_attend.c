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
    float most = _mm512_reduce_max_ps(most16), inv = !bad && most > 1e-30f ? (float)top / most : 0;
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

INLINE __m512 tanh16(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1);
    __m512 a = _mm512_abs_ps(x), e = exp2_16(_mm512_mul_ps(a, _mm512_set1_ps(-2 * 1.44269504f)));
    __m512 y = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e)), a2 = _mm512_mul_ps(a, a);
    __m512 p = _mm512_fmadd_ps(a2, _mm512_set1_ps(-17.0f / 315), _mm512_set1_ps(2.0f / 15));
    p = _mm512_fmadd_ps(p, a2, _mm512_set1_ps(-1.0f / 3));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, a2), a, a); /* near 0 the difference above loses digits */
    y = _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, _mm512_set1_ps(0.1f), _CMP_LT_OQ), y, p);
    return _mm512_or_ps(y, _mm512_and_ps(x, _mm512_set1_ps(-0.0f)));
}

/* 32 codes, in order. */
INLINE __m512i to_codes16(__m512 a, __m512 b)
{
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    return _mm512_permutexvar_epi64(order, _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b)));
}

float loami_avx512_softmax(int16_t *p, float *p_scale, float *s, uint32_t lo, uint32_t hi, float softcap, const float *v_scale, float v_top,
                           float *max, float *sum)
{
    __m512 x0 = _mm512_loadu_ps(s), x1 = _mm512_loadu_ps(s + 16), x2 = _mm512_loadu_ps(s + 32), x3 = _mm512_loadu_ps(s + 48);
    if (softcap != 0) {
        __m512 c = _mm512_set1_ps(softcap), inv = _mm512_set1_ps(1 / softcap);
        x0 = _mm512_mul_ps(tanh16(_mm512_mul_ps(x0, inv)), c);
        x1 = _mm512_mul_ps(tanh16(_mm512_mul_ps(x1, inv)), c);
        x2 = _mm512_mul_ps(tanh16(_mm512_mul_ps(x2, inv)), c);
        x3 = _mm512_mul_ps(tanh16(_mm512_mul_ps(x3, inv)), c);
    }
    uint64_t in = lo == 0 && hi == LOAMI_PAGE ? ~0ull : (hi < 64 ? (1ull << hi) - 1 : ~0ull) & (lo < 64 ? ~0ull << lo : 0);
    if (in != ~0ull) { /* what does not count must not be the maximum, nor, being anything, meet arithmetic */
        const __m512 none = _mm512_set1_ps(-INFINITY);
        x0 = _mm512_mask_blend_ps((__mmask16)in, none, x0);
        x1 = _mm512_mask_blend_ps((__mmask16)(in >> 16), none, x1);
        x2 = _mm512_mask_blend_ps((__mmask16)(in >> 32), none, x2);
        x3 = _mm512_mask_blend_ps((__mmask16)(in >> 48), none, x3);
    }
    float old = *max, here = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(x0, x1), _mm512_max_ps(x2, x3)));
    float top = here > old ? here : old, from = top == -INFINITY ? 0 : top;
    __m512 two = exp2_16(_mm512_sub_ps(_mm512_castps128_ps512(_mm_setr_ps(old, here, 0, 0)), _mm512_set1_ps(from)));
    float rescale = top == old ? 1 : _mm512_cvtss_f32(two), most = _mm_cvtss_f32(_mm_movehdup_ps(_mm512_castps512_ps128(two))) * v_top;
    float inv = most > 1e-30f ? LOAMI_P_TOP / most : 0;
    __m512 base = _mm512_set1_ps(from), inv16 = _mm512_set1_ps(inv);
    x0 = exp2_16(_mm512_sub_ps(x0, base));
    x1 = exp2_16(_mm512_sub_ps(x1, base));
    x2 = exp2_16(_mm512_sub_ps(x2, base));
    x3 = exp2_16(_mm512_sub_ps(x3, base));
    if (in != ~0ull) {
        x0 = _mm512_maskz_mov_ps((__mmask16)in, x0);
        x1 = _mm512_maskz_mov_ps((__mmask16)(in >> 16), x1);
        x2 = _mm512_maskz_mov_ps((__mmask16)(in >> 32), x2);
        x3 = _mm512_maskz_mov_ps((__mmask16)(in >> 48), x3);
    }
    __m512 total = _mm512_add_ps(_mm512_add_ps(x0, x1), _mm512_add_ps(x2, x3));
    _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_loadu_ps(sum), _mm512_set1_ps(rescale), total));
    x0 = _mm512_mul_ps(_mm512_mul_ps(x0, inv16), _mm512_loadu_ps(v_scale));
    x1 = _mm512_mul_ps(_mm512_mul_ps(x1, inv16), _mm512_loadu_ps(v_scale + 16));
    x2 = _mm512_mul_ps(_mm512_mul_ps(x2, inv16), _mm512_loadu_ps(v_scale + 32));
    x3 = _mm512_mul_ps(_mm512_mul_ps(x3, inv16), _mm512_loadu_ps(v_scale + 48));
    _mm512_storeu_si512(p, to_codes16(x0, x1));
    _mm512_storeu_si512(p + 32, to_codes16(x2, x3));
    *p_scale = most > 1e-30f ? most * (1.0f / LOAMI_P_TOP) : 0;
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
