/* substrate/cpu/x86/avx2.h: what the AVX2 files share. */
#ifndef LOAMI_AVX2_H
#define LOAMI_AVX2_H

#include "substrate/cpu/kern.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

enum { NR = 16 }; /* panel rows: two registers of 8 */

/* 8 scales or biases from p; n of them are there, the rest become 0. */
INLINE __m256 load_scales(const uint8_t *p, uint32_t n, loami_scale type)
{
    _Alignas(32) uint8_t part[32] = { 0 };
    uint32_t size = type == LOAMI_SCALE_F32 ? 4 : 2;
    if (n < 8) {
        memcpy(part, p, n * size);
        p = part;
    }
    if (type == LOAMI_SCALE_F32) return _mm256_loadu_ps((const float *)p);
    __m128i h = _mm_loadu_si128((const void *)p);
    if (type == LOAMI_SCALE_F16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE float sum8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* Transposes 8 rows of 8 32-bit words. */
INLINE void transpose8(__m256i r[8])
{
    __m256i t[8];
    for (int i = 0; i < 8; i += 4) {
        __m256i a = _mm256_unpacklo_epi32(r[i], r[i + 1]), b = _mm256_unpackhi_epi32(r[i], r[i + 1]);
        __m256i c = _mm256_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm256_unpackhi_epi32(r[i + 2], r[i + 3]);
        t[i] = _mm256_unpacklo_epi64(a, c);
        t[i + 1] = _mm256_unpackhi_epi64(a, c);
        t[i + 2] = _mm256_unpacklo_epi64(b, d);
        t[i + 3] = _mm256_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x31);
    }
}

/* avx2_dot.c, avx2_panel.c, avx2_tile.c, avx2_attend.c */
void loami_avx2_quantise(int8_t *codes, float *scale, float *sum, const float *x, uint32_t n, uint32_t group, loami_order order);
void loami_avx2_dot4(float *y, const loami_mat *w, uint32_t row, uint32_t n, const int8_t *codes, const float *scale, const float *sum);
void loami_avx2_dot8(float *y, const loami_mat *w, uint32_t row, uint32_t n, const int8_t *codes, const float *scale, const float *sum);
void loami_avx2_dot_f(float *y, const loami_mat *w, uint32_t row, uint32_t n, const float *x);
void loami_avx2_ahead(const loami_mat *w, uint32_t row, uint32_t n);
void loami_avx2_unpack(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k);
void loami_avx2_unpack_f(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k);
void loami_avx2_dequant(float *out, const loami_mat *w, uint32_t row, uint32_t k0, uint32_t k);
void loami_avx2_tile(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m);
void loami_avx2_tile_f(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const float *x, size_t x_stride, uint32_t m);
void loami_avx2_scores(float *s, const int16_t *q, const float *q_scale, const int16_t *k, const float *k_scale, uint32_t nq, uint32_t dim);
void loami_avx2_values(float *out, const float *rescale, const int16_t *p, const float *p_scale, const int16_t *v, uint32_t nq, uint32_t n,
                       uint32_t dim);

#endif
