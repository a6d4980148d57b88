#include "substrate/cpu/x86/avx512.h"

#define LANES 16
#include "substrate/cpu/rows.inc"

/* ---- activations to codes ------------------------------------------------------------------------------------ */

/* 16 floats to 16 codes. */
INLINE __m128i to_codes(__m512 v, __m512 inv)
{
    return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v, inv)));
}

/* 32 codes: even ones, then odd ones. */
INLINE __m256i split32(__m256i c)
{
    const __m256i halves = _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9,
                                            11, 13, 15);
    return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(c, halves), 0xd8);
}

static void quantise(int8_t *codes, float *scale, float *sum, const float *x, uint32_t n, uint32_t group, loami_order order)
{
    if (group % 32) {
        loami_kern_scalar.quantise(codes, scale, sum, x, n, group, order);
        return;
    }
    uint32_t n_groups = n / group, padded = (n + LOAMI_BLOCK - 1) / LOAMI_BLOCK * LOAMI_BLOCK;
    if (padded != n) memset(codes + padded - LOAMI_BLOCK, 0, LOAMI_BLOCK);
    for (uint32_t g = 0; g < n_groups; g++) {
        const float *at = x + (size_t)g * group;
        __m512 top16 = _mm512_abs_ps(_mm512_loadu_ps(at));
        for (uint32_t i = 16; i < group; i += 16) top16 = _mm512_max_ps(top16, _mm512_abs_ps(_mm512_loadu_ps(at + i)));
        float top = _mm512_reduce_max_ps(top16), inv = top > 1e-35f && top < INFINITY ? 127 / top : 0;
        __m512 inv16 = _mm512_set1_ps(inv);
        __m512i total = _mm512_setzero_si512();
        for (uint32_t i = 0; i < group; i += 32) {
            uint32_t k = g * group + i;
            __m256i c = _mm256_set_m128i(to_codes(_mm512_loadu_ps(at + i + 16), inv16), to_codes(_mm512_loadu_ps(at + i), inv16));
            total = _mm512_dpbusd_epi32(total, _mm512_set1_epi8(1), _mm512_zextsi256_si512(c));
            if (order == LOAMI_NATURAL) {
                _mm256_storeu_si256((void *)(codes + k), c);
            } else {
                int8_t *to = codes + (k & ~127u) + (k & 127) / 2;
                c = split32(c);
                _mm_storeu_si128((void *)to, _mm256_castsi256_si128(c));
                _mm_storeu_si128((void *)(to + 64), _mm256_extracti128_si256(c, 1));
            }
        }
        scale[g] = inv > 0 ? top / 127 : top < INFINITY ? 0 : NAN;
        sum[g] = scale[g] * (float)_mm512_reduce_add_epi32(total);
    }
    for (uint32_t g = n_groups; g % 16; g++) scale[g] = sum[g] = 0;
}

void loami_kern_avx512(loami_kern *k)
{
    k->panel_rows = NR;
    k->quantise = quantise;
    k->dot4 = loami_avx512_dot4;
    k->dot8 = loami_avx512_dot8;
    k->dot_f = loami_avx512_dot_f;
    k->unpack = loami_avx512_unpack;
    k->unpack_f = loami_avx512_unpack_f;
    k->dequant = loami_avx512_dequant;
    k->tile = loami_avx512_tile;
    k->tile_f = loami_avx512_tile_f;
    k->norm = rows_norm;
    k->act = rows_act;
    k->axpy = rows_axpy;
    k->cap = rows_cap;
    k->quantise16 = loami_avx512_quantise16;
    k->softmax = loami_avx512_softmax;
    k->scores = loami_avx512_scores;
    k->values = loami_avx512_values;
}
