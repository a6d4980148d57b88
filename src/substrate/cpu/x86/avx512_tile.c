/* Several rows of activations against a panel: prefill and batches. Up to MR rows of activations meet 32 rows of
 * weights in registers; an activation quad is one broadcast load for two multiply-adds. */
#include "substrate/cpu/x86/avx512.h"

#include <string.h>

enum { MR = 6, MR_F = 12 };

INLINE __m512i quad_of(const int8_t *codes)
{
    int32_t v;
    memcpy(&v, codes, 4);
    return _mm512_set1_epi32(v);
}

INLINE void put(float *y, __m512 v, __mmask16 m, bool add)
{
    if (add) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, y));
    _mm512_mask_storeu_ps(y, m, v);
}

/* quads of one group, from quad j0 of the panel on, for m rows. A SPLIT panel interleaves 4 even quads and 4 odd
 * ones, which lie 64 codes apart in an activation row. */
INLINE void tile_group(__m512i acc[MR][2], const uint8_t *q, const int8_t *codes, size_t stride, int m, int quads, bool split)
{
    for (int i = 0; i < m; i++) acc[i][0] = acc[i][1] = _mm512_setzero_si512();
    for (int j = 0; j < quads; j++) {
        __m512i w0 = _mm512_loadu_si512(q + (size_t)j * NR * 4), w1 = _mm512_loadu_si512(q + (size_t)j * NR * 4 + 64);
        int at = split ? j / 8 * 16 + j % 4 * 4 + (j & 4) * 16 : j * 4;
        for (int i = 0; i < m; i++) {
            __m512i x = quad_of(codes + i * stride + at);
            acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], w0, x);
            acc[i][1] = _mm512_dpbusd_epi32(acc[i][1], w1, x);
        }
    }
}

INLINE void tile_rows(float *y, size_t y_stride, const loami_panel *p, uint32_t n, const loami_acts *x, int m, bool add, int group,
                      bool split)
{
    __m512 out[MR][2];
    __m512i acc[MR][2];
    __mmask16 m0 = n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1), m1 = n >= 32 ? 0xffff : n > 16 ? (__mmask16)((1u << (n - 16)) - 1) : 0;

    for (int i = 0; i < m; i++) out[i][0] = out[i][1] = _mm512_setzero_ps();
    for (uint32_t k = 0, g = 0; k < p->k; k += group, g++) {
        const int8_t *codes = x->codes + (split ? (k & ~127u) + (k & 127) / 2 : k);
        tile_group(acc, p->codes + (size_t)k * NR, codes, x->code_stride, m, group / 4, split);
        __m512 s0 = _mm512_loadu_ps(p->scale + g * NR), s1 = _mm512_loadu_ps(p->scale + g * NR + 16);
        __m512 b0 = _mm512_loadu_ps(p->bias + g * NR), b1 = _mm512_loadu_ps(p->bias + g * NR + 16);
        for (int i = 0; i < m; i++) {
            __m512 a = _mm512_set1_ps(x->scale[i * x->group_stride + g]), t = _mm512_set1_ps(x->sum[i * x->group_stride + g]);
            out[i][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i][0]), _mm512_mul_ps(s0, a), out[i][0]);
            out[i][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i][1]), _mm512_mul_ps(s1, a), out[i][1]);
            out[i][0] = _mm512_fmadd_ps(b0, t, out[i][0]);
            out[i][1] = _mm512_fmadd_ps(b1, t, out[i][1]);
        }
    }
    for (int i = 0; i < m; i++) {
        put(y + i * y_stride, out[i][0], m0, add);
        if (m1) put(y + i * y_stride + 16, out[i][1], m1, add);
    }
}

#define TILE(M, G, S) tile_rows(y, y_stride, p, n, x, M, add, G, S)
#define HEIGHTS(NAME, G, S)                                                                                          \
    static void NAME(float *y, size_t y_stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m, bool add) \
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

typedef void heights_fn(float *y, size_t y_stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m, bool add);

HEIGHTS(natural32, 32, false)
HEIGHTS(natural64, 64, false)
HEIGHTS(natural128, 128, false)
HEIGHTS(split32, 32, true)
HEIGHTS(split64, 64, true)
HEIGHTS(split128, 128, true)

/* nvfp4: two groups to 32 inputs, so quads 0, 1, 4, 5 and 2, 3, 6, 7. Rare: left to the compiler. */
static void split16(float *y, size_t y_stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m, bool add)
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
        put(y + i * y_stride, out0, n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1), add);
        if (n > 16) put(y + i * y_stride + 16, out1, n >= 32 ? 0xffff : (__mmask16)((1u << (n - 16)) - 1), add);
    }
}

void loami_avx512_tile(float *y, size_t y_stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m, bool add)
{
    bool split = p->order == LOAMI_SPLIT;
    heights_fn *tile = p->group == 32 ? (split ? split32 : natural32) : p->group == 64 ? (split ? split64 : natural64)
                       : p->group == 128 ? (split ? split128 : natural128) : split16;
    if (tile == split16) {
        split16(y, y_stride, p, n, x, m, add);
        return;
    }
    for (uint32_t i = 0, left = m; left;) {
        uint32_t h = left <= MR ? left : left < 2 * MR ? (left + 1) / 2 : MR; /* 7 rows are 4 and 3, not 6 and 1 */
        loami_acts at = { x->codes + (size_t)i * x->code_stride, x->scale + (size_t)i * x->group_stride,
                          x->sum + (size_t)i * x->group_stride, x->code_stride, x->group_stride };
        tile(y + i * y_stride, y_stride, p, n, &at, h, add);
        i += h;
        left -= h;
    }
}

/* ---- floats -------------------------------------------------------------------------------------------------------- */

INLINE void float_rows(float *y, size_t y_stride, const loami_panel *p, uint32_t n, const float *x, size_t x_stride, int m, bool add)
{
    __m512 out[MR_F][2];
    __mmask16 m0 = n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1), m1 = n >= 32 ? 0xffff : n > 16 ? (__mmask16)((1u << (n - 16)) - 1) : 0;

    for (int i = 0; i < m; i++) out[i][0] = out[i][1] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < p->k; k++) {
        __m512 w0 = _mm512_loadu_ps(p->floats + (size_t)k * NR), w1 = _mm512_loadu_ps(p->floats + (size_t)k * NR + 16);
        for (int i = 0; i < m; i++) {
            __m512 v = _mm512_set1_ps(x[i * x_stride + k]);
            out[i][0] = _mm512_fmadd_ps(w0, v, out[i][0]);
            out[i][1] = _mm512_fmadd_ps(w1, v, out[i][1]);
        }
    }
    for (int i = 0; i < m; i++) {
        put(y + i * y_stride, out[i][0], m0, add);
        if (m1) put(y + i * y_stride + 16, out[i][1], m1, add);
    }
}

void loami_avx512_tile_f(float *y, size_t y_stride, const loami_panel *p, uint32_t n, const float *x, size_t x_stride, uint32_t m, bool add)
{
    while (m) {
        uint32_t h = m >= 12 ? 12 : m >= 8 ? 8 : m >= 4 ? 4 : m >= 2 ? 2 : 1;
        switch (h) {
        case 12: float_rows(y, y_stride, p, n, x, x_stride, 12, add); break;
        case 8: float_rows(y, y_stride, p, n, x, x_stride, 8, add); break;
        case 4: float_rows(y, y_stride, p, n, x, x_stride, 4, add); break;
        case 2: float_rows(y, y_stride, p, n, x, x_stride, 2, add); break;
        default: float_rows(y, y_stride, p, n, x, x_stride, 1, add); break;
        }
        y += h * y_stride;
        x += h * x_stride;
        m -= h;
    }
}
