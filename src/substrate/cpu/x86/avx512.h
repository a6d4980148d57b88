/* substrate/cpu/x86/avx512.h: what the AVX-512 files share. */
#ifndef LOAMI_AVX512_H
#define LOAMI_AVX512_H

#include "substrate/cpu/kern.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* Before a loop with few turns of straight code. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* Tiles of up to 6 rows keep their sums in variables of their own, named by row and column: an array of registers is
 * one that compilers like to put into memory. X(i) is code for row i, under `if (i < m)` with a constant m. */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)
enum { TILE_ROWS = 6 };

/* Sums are kept in this type: gcc 12 spills every turn when a loop carries __m512i through instructions on 32-bit
 * lanes. */
typedef int32_t int32x16 __attribute__((vector_size(64)));

INLINE int32x16 dot_bytes(int32x16 sum, __m512i u, __m512i s)
{
    return (int32x16)_mm512_dpbusd_epi32((__m512i)sum, u, s);
}

INLINE int32x16 dot_pairs(int32x16 sum, __m512i a, __m512i b)
{
    return (int32x16)_mm512_dpwssd_epi32((__m512i)sum, a, b);
}

INLINE __m512 to_float(int32x16 v)
{
    return _mm512_cvtepi32_ps((__m512i)v);
}

enum { NR = 32 }; /* panel rows: two registers of 16 */

/* 16 scales or biases from p, those outside m 0. */
INLINE __m512 load_scales(const uint8_t *p, __mmask16 m, loami_scale type)
{
    if (type == LOAMI_SCALE_F32) return _mm512_maskz_loadu_ps(m, p);
    __m256i h = _mm256_maskz_loadu_epi16(m, p);
    if (type == LOAMI_SCALE_F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* 2^x for x <= 127, relative error below 3e-7; below -125 some number below 2^-124. The integer part is added to the
 * exponent, the rest is a polynomial. */
INLINE __m512 exp2_16(__m512 x)
{
    const __m512 magic = _mm512_set1_ps(12582912.0f); /* 1.5 * 2^23: adding it leaves the rounded integer in the low bits */
    x = _mm512_max_ps(x, _mm512_set1_ps(-125));
    __m512 n = _mm512_add_ps(x, magic), r = _mm512_sub_ps(x, _mm512_sub_ps(n, magic));
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(1.3333558e-3f), r, _mm512_set1_ps(9.6181291e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(n), 23)));
}

/* Transposes 16 rows of 16 32-bit words. */
INLINE void transpose16(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 4) { /* 4x4 within each 128-bit lane */
        __m512i a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int j = 0; j < 4; j++) { /* then lanes */
        __m512i a = _mm512_shuffle_i32x4(t[j], t[j + 4], 0x44), b = _mm512_shuffle_i32x4(t[j], t[j + 4], 0xee);
        __m512i c = _mm512_shuffle_i32x4(t[j + 8], t[j + 12], 0x44), d = _mm512_shuffle_i32x4(t[j + 8], t[j + 12], 0xee);
        r[j] = _mm512_shuffle_i32x4(a, c, 0x88);
        r[j + 4] = _mm512_shuffle_i32x4(a, c, 0xdd);
        r[j + 8] = _mm512_shuffle_i32x4(b, d, 0x88);
        r[j + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

/* avx512_dot.c, avx512_dots.c, avx512_panel.c, avx512_tile.c, avx512_attend.c */
void loami_avx512_dot4(float *y, const loami_mat *w, uint32_t row, uint32_t n, const int8_t *codes, const float *scale, const float *sum);
void loami_avx512_dot8(float *y, const loami_mat *w, uint32_t row, uint32_t n, const int8_t *codes, const float *scale, const float *sum);
void loami_avx512_dots(float *y, size_t stride, const loami_mat *w, uint32_t row, uint32_t n, const loami_acts *x, uint32_t m);
void loami_avx512_dot_f(float *y, const loami_mat *w, uint32_t row, uint32_t n, const float *x);
void loami_avx512_ahead(const loami_mat *w, uint32_t row, uint32_t n);
void loami_avx512_unpack(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k);
void loami_avx512_unpack_f(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k);
void loami_avx512_dequant(float *out, const loami_mat *w, uint32_t row, uint32_t k0, uint32_t k);
void loami_avx512_tile(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m);
void loami_avx512_tile_f(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const float *x, size_t x_stride,
                         uint32_t m);
void loami_avx512_quantise16(int16_t *codes, float *scale, const float *x, uint32_t n, uint32_t top);
void loami_avx512_scores(float *s, const int16_t *q, const float *q_scale, const int16_t *k, const float *k_scale, uint32_t nq, uint32_t dim);
float loami_avx512_softmax(int16_t *p, float *p_scale, float *s, uint32_t lo, uint32_t hi, float softcap, const float *v_scale, float v_top,
                           float *max, float *sum);
void loami_avx512_quantise(int8_t *codes, float *scale, float *sum, const float *x, uint32_t n, uint32_t group, loami_order order);
void loami_avx512_act(float *y, const float *gate, const float *up, uint32_t n, loam_act act);
void loami_avx512_values(float *out, const float *rescale, const int16_t *p, const float *p_scale, const int16_t *v, uint32_t nq, uint32_t n,
                         uint32_t dim);

#endif
