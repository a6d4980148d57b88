/* Several rows of activations against a panel: prefill and batches. Up to MR rows of activations meet 32 rows of
 * weights in registers; an activation quad is one broadcast load for two multiply-adds. */
#include "substrate/cpu/x86/avx512.h"

#include <string.h>

INLINE __m512i quad_of(const int8_t *codes)
{
    int32_t v;
    memcpy(&v, codes, 4);
    return _mm512_set1_epi32(v);
}

/* y = base + (v0, v1), the first n numbers. */
INLINE void put(float *y, const float *base, __m512 v0, __m512 v1, uint32_t n)
{
    __mmask16 m0 = n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1), m1 = n >= 32 ? 0xffff : n > 16 ? (__mmask16)((1u << (n - 16)) - 1) : 0;
    if (base) {
        v0 = _mm512_add_ps(v0, _mm512_maskz_loadu_ps(m0, base));
        if (m1) v1 = _mm512_add_ps(v1, _mm512_maskz_loadu_ps(m1, base + 16));
    }
    _mm512_mask_storeu_ps(y, m0, v0);
    if (m1) _mm512_mask_storeu_ps(y + 16, m1, v1);
}

INLINE void tile_rows(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, int m, int group,
                      bool split)
{
    const size_t cs = x->code_stride, gs = x->group_stride;
    const __m512 zero = _mm512_setzero_ps();
    uint32_t k = 0, g = 0;
#define START(i) __m512 y##i##0 = zero, y##i##1 = zero;
    EACH_ROW(START)
    do {
#define CLEAR(i) int32x16 a##i##0 = { 0 }, a##i##1 = a##i##0;
        EACH_ROW(CLEAR)
        int unit = 0;
        do { /* 8 quads */
            const uint8_t *q = p->codes + (size_t)k * NR;
            const int8_t *codes = x->codes + (split ? (k & ~127u) + (k & 127) / 2 : k);
            UNROLL
            for (int j = 0; j < 8; j++) {
                __m512i w0 = _mm512_loadu_si512(q + j * NR * 4), w1 = _mm512_loadu_si512(q + j * NR * 4 + 64);
                const int8_t *at = codes + (split ? j % 4 * 4 + j / 4 * 64 : j * 4); /* SPLIT: 4 quads of even, 4 of odd inputs */
#define QUAD(i)                                                                                                          \
    if (i < m) {                                                                                                         \
        __m512i v = quad_of(at + i * cs);                                                                                \
        a##i##0 = dot_bytes(a##i##0, w0, v);                                                                   \
        a##i##1 = dot_bytes(a##i##1, w1, v);                                                                   \
    }
                EACH_ROW(QUAD)
            }
            k += 32;
        } while ((unit += 32) < group);
        __m512 s0 = _mm512_loadu_ps(p->scale + g * NR), s1 = _mm512_loadu_ps(p->scale + g * NR + 16);
        __m512 b0 = _mm512_loadu_ps(p->bias + g * NR), b1 = _mm512_loadu_ps(p->bias + g * NR + 16);
#define GROUP(i)                                                                                                         \
    if (i < m) {                                                                                                         \
        __m512 a = _mm512_set1_ps(x->scale[i * gs + g]), t = _mm512_set1_ps(x->sum[i * gs + g]);                         \
        y##i##0 = _mm512_fmadd_ps(to_float(a##i##0), _mm512_mul_ps(s0, a), y##i##0);                           \
        y##i##1 = _mm512_fmadd_ps(to_float(a##i##1), _mm512_mul_ps(s1, a), y##i##1);                           \
        y##i##0 = _mm512_fmadd_ps(b0, t, y##i##0);                                                                       \
        y##i##1 = _mm512_fmadd_ps(b1, t, y##i##1);                                                                       \
    }
        EACH_ROW(GROUP)
        g++;
    } while (k < p->k);
#define PUT(i) \
    if (i < m) put(y + i * stride, base ? base + i * stride : NULL, y##i##0, y##i##1, n);
    EACH_ROW(PUT)
}

#define TILE(M, G, S) tile_rows(y, base, stride, p, n, x, M, G, S)
#define HEIGHTS(NAME, G, S)                                                                                          \
    static void NAME(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m) \
    {                                                                                                                \
        switch (m) {                                                                                                 \
        case 1: TILE(1, G, S); break;                                                                                \
        case 2: TILE(2, G, S); break;                                                                                \
        case 3: TILE(3, G, S); break;                                                                                \
        case 4: TILE(4, G, S); break;                                                                                \
        case 5: TILE(5, G, S); break;                                                                                \
        default: TILE(6, G, S); break;                                                                               \
        }                                                                                                            \
    }

typedef void heights_fn(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m);

HEIGHTS(natural32, 32, false)
HEIGHTS(natural64, 64, false)
HEIGHTS(natural128, 128, false)
HEIGHTS(split32, 32, true)
HEIGHTS(split64, 64, true)
HEIGHTS(split128, 128, true)

/* nvfp4: two groups to 32 inputs, so quads 0, 1, 4, 5 and 2, 3, 6, 7. Rare: left to the compiler. */
static void split16(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m)
{
    for (uint32_t i = 0; i < m; i++) {
        __m512 out0 = _mm512_setzero_ps(), out1 = out0;
        for (uint32_t k = 0; k < p->k; k += 16) {
            const int8_t *codes = x->codes + i * x->code_stride + (k & ~127u) + (k & 127) / 2;
            const uint8_t *q = p->codes + ((size_t)(k & ~31u) / 4 + (k & 16) / 8) * NR * 4;
            __m512i acc0 = _mm512_setzero_si512(), acc1 = acc0;
            for (int j = 0; j < 4; j++) {
                __m512i v = quad_of(codes + j % 2 * 4 + j / 2 * 64);
                const uint8_t *at = q + (size_t)(j % 2 + j / 2 * 4) * NR * 4;
                acc0 = _mm512_dpbusd_epi32(acc0, _mm512_loadu_si512(at), v);
                acc1 = _mm512_dpbusd_epi32(acc1, _mm512_loadu_si512(at + 64), v);
            }
            size_t g = k / 16;
            __m512 a = _mm512_set1_ps(x->scale[i * x->group_stride + g]), t = _mm512_set1_ps(x->sum[i * x->group_stride + g]);
            out0 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc0), _mm512_mul_ps(_mm512_loadu_ps(p->scale + g * NR), a), out0);
            out1 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc1), _mm512_mul_ps(_mm512_loadu_ps(p->scale + g * NR + 16), a), out1);
            out0 = _mm512_fmadd_ps(_mm512_loadu_ps(p->bias + g * NR), t, out0);
            out1 = _mm512_fmadd_ps(_mm512_loadu_ps(p->bias + g * NR + 16), t, out1);
        }
        put(y + i * stride, base ? base + i * stride : NULL, out0, out1, n);
    }
}

void loami_avx512_tile(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m)
{
    bool split = p->order == LOAMI_SPLIT;
    heights_fn *tile = p->group == 32 ? (split ? split32 : natural32) : p->group == 64 ? (split ? split64 : natural64)
                       : p->group == 128 ? (split ? split128 : natural128) : split16;
    if (tile == split16) {
        split16(y, base, stride, p, n, x, m);
        return;
    }
    for (uint32_t i = 0, left = m; left;) {
        uint32_t h = left <= TILE_ROWS ? left : left < 2 * TILE_ROWS ? (left + 1) / 2 : TILE_ROWS; /* 7 rows are 4 and 3, not 6 and 1 */
        loami_acts at = { x->codes + (size_t)i * x->code_stride, x->scale + (size_t)i * x->group_stride,
                          x->sum + (size_t)i * x->group_stride, x->code_stride, x->group_stride };
        tile(y + i * stride, base ? base + i * stride : NULL, stride, p, n, &at, h);
        i += h;
        left -= h;
    }
}

/* ---- floats -------------------------------------------------------------------------------------------------------- */

INLINE void float_rows(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const float *x, size_t xs, int m)
{
    const __m512 zero = _mm512_setzero_ps();
    uint32_t k = 0;
    EACH_ROW(START)
    do {
        __m512 w0 = _mm512_loadu_ps(p->floats + (size_t)k * NR), w1 = _mm512_loadu_ps(p->floats + (size_t)k * NR + 16);
#define INPUT(i)                                                                                                         \
    if (i < m) {                                                                                                         \
        __m512 v = _mm512_set1_ps(x[i * xs + k]);                                                                        \
        y##i##0 = _mm512_fmadd_ps(w0, v, y##i##0);                                                                       \
        y##i##1 = _mm512_fmadd_ps(w1, v, y##i##1);                                                                       \
    }
        EACH_ROW(INPUT)
    } while (++k < p->k);
    EACH_ROW(PUT)
}

void loami_avx512_tile_f(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const float *x, size_t x_stride,
                         uint32_t m)
{
    while (m) {
        uint32_t h = m < TILE_ROWS ? m : TILE_ROWS;
        switch (h) {
        case 6: float_rows(y, base, stride, p, n, x, x_stride, 6); break;
        case 5: float_rows(y, base, stride, p, n, x, x_stride, 5); break;
        case 4: float_rows(y, base, stride, p, n, x, x_stride, 4); break;
        case 3: float_rows(y, base, stride, p, n, x, x_stride, 3); break;
        case 2: float_rows(y, base, stride, p, n, x, x_stride, 2); break;
        default: float_rows(y, base, stride, p, n, x, x_stride, 1); break;
        }
        y += h * stride;
        x += h * x_stride;
        if (base) base += h * stride;
        m -= h;
    }
}
