/* Several rows of activations against a panel of 16 rows. Pairs of products are added in 16 bits. Of codes below 16
 * a whole group of 32 fits there before the sums must go to 32 bits; 8-bit codes are stored less 128, and
 * |code| times the activation with the code's sign fits just so: 2 * 128 * 127 < 2^15. The 128 is in the bias. */
#include "substrate/cpu/x86/avx2.h"

#define EACH_ROW(X) X(0) X(1) X(2)
enum { TILE_ROWS = 3 };

/* gcc keeps sums of this type in registers, where it copies __m256i about. */
typedef int32_t int32x8 __attribute__((vector_size(32)));

INLINE __m256i quad_of(const int8_t *codes)
{
    int32_t v;
    memcpy(&v, codes, 4);
    return _mm256_set1_epi32(v);
}

/* y = base + (v0, v1), the first n numbers. */
INLINE void put(float *y, const float *base, __m256 v0, __m256 v1, uint32_t n)
{
    float v[NR];
    if (n == NR) {
        if (base) v0 = _mm256_add_ps(v0, _mm256_loadu_ps(base)), v1 = _mm256_add_ps(v1, _mm256_loadu_ps(base + 8));
        _mm256_storeu_ps(y, v0);
        _mm256_storeu_ps(y + 8, v1);
        return;
    }
    _mm256_storeu_ps(v, v0);
    _mm256_storeu_ps(v + 8, v1);
    for (uint32_t i = 0; i < n; i++) y[i] = base ? base[i] + v[i] : v[i];
}

/* 8 quads of 32 inputs added to 32-bit sums. */
#define SMALL(i)                                                                                                         \
    if (i < m) {                                                                                                         \
        __m256i v = quad_of(at + i * cs);                                                                                \
        h##i##0 = _mm256_add_epi16(h##i##0, _mm256_maddubs_epi16(w0, v));                                                \
        h##i##1 = _mm256_add_epi16(h##i##1, _mm256_maddubs_epi16(w1, v));                                                \
    }
#define WIDEN(i)                                                                                                         \
    if (i < m) {                                                                                                         \
        a##i##0 = (int32x8)_mm256_add_epi32((__m256i)a##i##0, _mm256_madd_epi16(h##i##0, one));                          \
        a##i##1 = (int32x8)_mm256_add_epi32((__m256i)a##i##1, _mm256_madd_epi16(h##i##1, one));                          \
    }
#define LARGE(i)                                                                                                         \
    if (i < m) {                                                                                                         \
        __m256i v = quad_of(at + i * cs);                                                                                \
        __m256i p0 = _mm256_maddubs_epi16(abs0, _mm256_sign_epi8(v, w0)), p1 = _mm256_maddubs_epi16(abs1, _mm256_sign_epi8(v, w1)); \
        a##i##0 = (int32x8)_mm256_add_epi32((__m256i)a##i##0, _mm256_madd_epi16(p0, one));                               \
        a##i##1 = (int32x8)_mm256_add_epi32((__m256i)a##i##1, _mm256_madd_epi16(p1, one));                               \
    }
#define AGAIN(i) h##i##0 = h##i##1 = _mm256_setzero_si256();
#define ZERO16(i) __m256i h##i##0 = _mm256_setzero_si256(), h##i##1 = h##i##0;

INLINE void tile_rows(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, int m, int group,
                      bool split)
{
    const size_t cs = x->code_stride, gs = x->group_stride;
    const __m256i one = _mm256_set1_epi16(1);
    uint32_t k = 0, g = 0;
#define START(i) __m256 y##i##0 = _mm256_setzero_ps(), y##i##1 = y##i##0;
    EACH_ROW(START)
    do {
#define CLEAR(i) int32x8 a##i##0 = { 0 }, a##i##1 = a##i##0;
        EACH_ROW(CLEAR)
        int unit = 0;
        do {
            const uint8_t *q = p->codes + (size_t)k * NR;
            const int8_t *codes = x->codes + (split ? (k & ~127u) + (k & 127) / 2 : k);
            EACH_ROW(ZERO16)
            UNROLL
            for (int j = 0; j < 8; j++) {
                /* nvfp4, two groups to 32 inputs: this turn's quads are 0, 1, 4, 5 or 2, 3, 6, 7 */
                if (group == 16 && (j / 2 % 2 != (int)(k / 16 % 2))) continue;
                const int8_t *at = codes + (split ? j % 4 * 4 + j / 4 * 64 : j * 4) - (group == 16 ? k / 16 % 2 * 8 : 0);
                const uint8_t *from = q + j * NR * 4 - (group == 16 ? k / 16 % 2 * 16 * NR : 0);
                __m256i w0 = _mm256_loadu_si256((const void *)from), w1 = _mm256_loadu_si256((const void *)(from + 32));
                if (split) {
                    EACH_ROW(SMALL)
                    if (j == 3 && p->top > 15) { /* 8 quads of fp4's 24 would not fit */
                        EACH_ROW(WIDEN)
                        EACH_ROW(AGAIN)
                    }
                } else {
                    __m256i abs0 = _mm256_abs_epi8(w0), abs1 = _mm256_abs_epi8(w1);
                    EACH_ROW(LARGE)
                }
            }
            if (split) {
                EACH_ROW(WIDEN)
            }
            unit += group == 16 ? 16 : 32;
            k += group == 16 ? 16 : 32;
        } while (unit < group);
        __m256 s0 = _mm256_loadu_ps(p->scale + g * NR), s1 = _mm256_loadu_ps(p->scale + g * NR + 8);
        __m256 b0 = _mm256_loadu_ps(p->bias + g * NR), b1 = _mm256_loadu_ps(p->bias + g * NR + 8);
#define GROUP(i)                                                                                                         \
    if (i < m) {                                                                                                         \
        __m256 a = _mm256_set1_ps(x->scale[i * gs + g]), t = _mm256_set1_ps(x->sum[i * gs + g]);                         \
        y##i##0 = _mm256_fmadd_ps(_mm256_cvtepi32_ps((__m256i)a##i##0), _mm256_mul_ps(s0, a), y##i##0);                  \
        y##i##1 = _mm256_fmadd_ps(_mm256_cvtepi32_ps((__m256i)a##i##1), _mm256_mul_ps(s1, a), y##i##1);                  \
        y##i##0 = _mm256_fmadd_ps(b0, t, y##i##0);                                                                       \
        y##i##1 = _mm256_fmadd_ps(b1, t, y##i##1);                                                                       \
    }
        EACH_ROW(GROUP)
        g++;
    } while (k < p->k);
#define PUT(i) \
    if (i < m) put(y + i * stride, base ? base + i * stride : NULL, y##i##0, y##i##1, n);
    EACH_ROW(PUT)
}

#define TILE(M, G, S) tile_rows(y, base, stride, p, n, x, M, G, S)
#define HEIGHTS(NAME, G, S)                                                                                              \
    static void NAME(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m) \
    {                                                                                                                    \
        if (m == 1) TILE(1, G, S);                                                                                       \
        else if (m == 2) TILE(2, G, S);                                                                                  \
        else TILE(3, G, S);                                                                                              \
    }

typedef void heights_fn(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m);

HEIGHTS(natural32, 32, false)
HEIGHTS(natural64, 64, false)
HEIGHTS(natural128, 128, false)
HEIGHTS(split16, 16, true)
HEIGHTS(split32, 32, true)
HEIGHTS(split64, 64, true)
HEIGHTS(split128, 128, true)

void loami_avx2_tile(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m)
{
    bool split = p->order == LOAMI_SPLIT;
    heights_fn *tile = p->group == 16 ? split16 : p->group == 32 ? (split ? split32 : natural32) : p->group == 64 ? (split ? split64 : natural64)
                       : (split ? split128 : natural128);
    for (uint32_t i = 0, left = m; left;) {
        uint32_t h = left == 4 ? 2 : left < TILE_ROWS ? left : TILE_ROWS;
        loami_acts at = { x->codes + (size_t)i * x->code_stride, x->scale + (size_t)i * x->group_stride,
                          x->sum + (size_t)i * x->group_stride, x->code_stride, x->group_stride };
        tile(y + i * stride, base ? base + i * stride : NULL, stride, p, n, &at, h);
        i += h;
        left -= h;
    }
}

/* ---- floats -------------------------------------------------------------------------------------------------------- */

#define EACH_FLOAT_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)

INLINE void float_rows(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const float *x, size_t xs, int m)
{
    uint32_t k = 0;
    EACH_FLOAT_ROW(START)
    do {
        __m256 w0 = _mm256_loadu_ps(p->floats + (size_t)k * NR), w1 = _mm256_loadu_ps(p->floats + (size_t)k * NR + 8);
#define INPUT(i)                                                                                                         \
    if (i < m) {                                                                                                         \
        __m256 v = _mm256_set1_ps(x[i * xs + k]);                                                                        \
        y##i##0 = _mm256_fmadd_ps(w0, v, y##i##0);                                                                       \
        y##i##1 = _mm256_fmadd_ps(w1, v, y##i##1);                                                                       \
    }
        EACH_FLOAT_ROW(INPUT)
    } while (++k < p->k);
    EACH_FLOAT_ROW(PUT)
}

void loami_avx2_tile_f(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const float *x, size_t x_stride, uint32_t m)
{
    while (m) {
        uint32_t h = m >= 6 ? 6 : m >= 3 ? 3 : 1;
        if (h == 6) float_rows(y, base, stride, p, n, x, x_stride, 6);
        else if (h == 3) float_rows(y, base, stride, p, n, x, x_stride, 3);
        else float_rows(y, base, stride, p, n, x, x_stride, 1);
        y += h * stride;
        x += h * x_stride;
        if (base) base += h * stride;
        m -= h;
    }
}
