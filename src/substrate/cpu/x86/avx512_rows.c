/* Activations to codes, and activation functions. */
#include "substrate/cpu/x86/avx512.h"

#include <math.h>
#include <string.h>

/* ---- activations to codes ------------------------------------------------------------------------------------ */

/* 64 codes in order. */
INLINE __m512i to_codes(__m512 a, __m512 b, __m512 c, __m512 d)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i ab = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
    __m512i cd = _mm512_packs_epi32(_mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d));
    return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(ab, cd));
}

/* 64 codes: in the first half even ones, in the second odd ones. */
INLINE __m512i split64(__m512i c)
{
    const __m512i halves = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    return _mm512_permutexvar_epi64(order, _mm512_shuffle_epi8(c, halves));
}

INLINE __m512 largest(const float *x, uint32_t n)
{
    __m512 top = _mm512_abs_ps(_mm512_loadu_ps(x));
    for (uint32_t i = 16; i < n; i += 16) top = _mm512_max_ps(top, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
    return top;
}

/* Lane i of the result is the largest lane of r[i]: a tree of halves, so that 16 reductions cost hardly more than
 * two. */
INLINE __m512 largest16(__m512 r[16])
{
    __m512 a[8], b[4];
    UNROLL
    for (int i = 0; i < 8; i++) /* r[i] and r[i + 8]: quarters 0, 2 and 1, 3 together */
        a[i] = _mm512_max_ps(_mm512_shuffle_f32x4(r[i], r[i + 8], 0x44), _mm512_shuffle_f32x4(r[i], r[i + 8], 0xee));
    UNROLL
    for (int i = 0; i < 4; i++)
        b[i] = _mm512_max_ps(_mm512_shuffle_f32x4(a[i], a[i + 4], 0x88), _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd));
    /* b[i]: quarters are of r[i], r[i + 8], r[i + 4], r[i + 12]; now within quarters */
    __m512 c = _mm512_max_ps(_mm512_unpacklo_ps(b[0], b[1]), _mm512_unpackhi_ps(b[0], b[1]));
    __m512 d = _mm512_max_ps(_mm512_unpacklo_ps(b[2], b[3]), _mm512_unpackhi_ps(b[2], b[3]));
    __m512 e = _mm512_max_ps(_mm512_shuffle_ps(c, d, 0x44), _mm512_shuffle_ps(c, d, 0xee));
    const __m512i order = _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(order, e);
}

INLINE void quantise_groups(int8_t *codes, float *scale, float *sum, const float *x, uint32_t n, int group, bool split)
{
    const __m512i ones = _mm512_set1_epi8(1);
    uint32_t n_groups = n / group;
    for (uint32_t g = 0; g < n_groups; g += 16) {
        _Alignas(64) float inv[16];
        _Alignas(64) int32_t total[16] = { 0 };
        __m512 top[16];
        uint32_t have = n_groups - g < 16 ? n_groups - g : 16;
        const float *from = x + (size_t)g * group;
        for (uint32_t i = 0; i < 16; i++) top[i] = i < have ? largest(from + i * group, group) : _mm512_setzero_ps();
        __m512 tops = largest16(top);
        __mmask16 fine = _mm512_cmp_ps_mask(tops, _mm512_set1_ps(1e-35f), _CMP_GT_OQ) & _mm512_cmp_ps_mask(tops, _mm512_set1_ps(INFINITY), _CMP_LT_OQ);
        __mmask16 lost = _mm512_cmp_ps_mask(tops, _mm512_set1_ps(INFINITY), _CMP_NLT_UQ);
        __m512 s = _mm512_maskz_mul_ps(fine, tops, _mm512_set1_ps(1.0f / 127));
        s = _mm512_mask_mov_ps(s, lost, _mm512_set1_ps(NAN));
        _mm512_store_ps(inv, _mm512_maskz_div_ps(fine, _mm512_set1_ps(127), tops));
        for (uint32_t i = 0; i < have * group; i += 64) { /* may read and write on over a half block: see quantise */
            const float *at = from + i;
            __m512 ia = _mm512_set1_ps(inv[i / group]), ib = group == 32 ? _mm512_set1_ps(inv[i / group + 1 < 16 ? i / group + 1 : 15]) : ia;
            __m512i c;
            if (group == 32 && i + 64 > have * group)
                c = to_codes(_mm512_mul_ps(_mm512_loadu_ps(at), ia), _mm512_mul_ps(_mm512_loadu_ps(at + 16), ia), _mm512_setzero_ps(), _mm512_setzero_ps());
            else
                c = to_codes(_mm512_mul_ps(_mm512_loadu_ps(at), ia), _mm512_mul_ps(_mm512_loadu_ps(at + 16), ia),
                             _mm512_mul_ps(_mm512_loadu_ps(at + 32), ib), _mm512_mul_ps(_mm512_loadu_ps(at + 48), ib));
            __m512i t = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, c);
            __m256i low = _mm512_castsi512_si256(t), high = _mm512_extracti64x4_epi64(t, 1);
            if (group == 32) {
                __m256i h = _mm256_hadd_epi32(low, high); /* low pairs, high pairs in each half */
                h = _mm256_hadd_epi32(h, h);
                __m128i v = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
                total[i / 32] = _mm_cvtsi128_si32(v);
                if (i / 32 + 1 < 16) total[i / 32 + 1] = _mm_extract_epi32(v, 1);
            } else {
                total[i / group] += _mm512_reduce_add_epi32(t);
            }
            uint32_t k = g * group + i;
            if (!split) {
                _mm512_storeu_si512(codes + k, c);
            } else {
                int8_t *to = codes + (k & ~127u) + (k & 127) / 2;
                c = split64(c);
                _mm256_storeu_si256((void *)to, _mm512_castsi512_si256(c));
                _mm256_storeu_si256((void *)(to + 64), _mm512_extracti64x4_epi64(c, 1));
            }
        }
        _mm512_storeu_ps(scale + g, s);
        _mm512_storeu_ps(sum + g, _mm512_mul_ps(s, _mm512_cvtepi32_ps(_mm512_load_si512(total))));
    }
}

void loami_avx512_quantise(int8_t *codes, float *scale, float *sum, const float *x, uint32_t n, uint32_t group, loami_order order)
{
    bool split = order == LOAMI_SPLIT;
    uint32_t padded = (n + LOAMI_BLOCK - 1) / LOAMI_BLOCK * LOAMI_BLOCK;
    if (padded != n) memset(codes + padded - LOAMI_BLOCK, 0, LOAMI_BLOCK);
    switch (group) {
    case 32: split ? quantise_groups(codes, scale, sum, x, n, 32, true) : quantise_groups(codes, scale, sum, x, n, 32, false); break;
    case 64: split ? quantise_groups(codes, scale, sum, x, n, 64, true) : quantise_groups(codes, scale, sum, x, n, 64, false); break;
    case 128: split ? quantise_groups(codes, scale, sum, x, n, 128, true) : quantise_groups(codes, scale, sum, x, n, 128, false); break;
    default: loami_kern_scalar.quantise(codes, scale, sum, x, n, group, order); break;
    }
}

/* ---- activation functions ------------------------------------------------------------------------------------------ */

/* 1 / (1 + 2^-z), by an estimate and one step of Newton's: a division takes as long as the rest. */
INLINE __m512 sigmoid2(__m512 z)
{
    const __m512 one = _mm512_set1_ps(1), most = _mm512_set1_ps(126);
    __m512 d = _mm512_add_ps(one, exp2_16(_mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), z), most)));
    __m512 r = _mm512_rcp14_ps(d);
    return _mm512_mul_ps(r, _mm512_fnmadd_ps(d, r, _mm512_set1_ps(2)));
}

INLINE __m512 act16(__m512 g, __m512 u, loam_act act)
{
    const float log2e = 1.44269504f;
    if (act == LOAM_ACT_SILU) return _mm512_mul_ps(_mm512_mul_ps(g, u), sigmoid2(_mm512_mul_ps(g, _mm512_set1_ps(log2e))));
    if (act == LOAM_ACT_GELU_TANH) { /* 0.5 (1 + tanh z) = sigmoid 2z */
        __m512 g2 = _mm512_mul_ps(g, g), c = _mm512_fmadd_ps(g2, _mm512_set1_ps(1.5957691216f * log2e * 0.044715f), _mm512_set1_ps(1.5957691216f * log2e));
        return _mm512_mul_ps(_mm512_mul_ps(g, u), sigmoid2(_mm512_mul_ps(g, c)));
    }
    g = _mm512_min_ps(g, _mm512_set1_ps(7)); /* SWIGLU_OAI */
    u = _mm512_max_ps(_mm512_set1_ps(-7), _mm512_min_ps(u, _mm512_set1_ps(7)));
    __m512 s = sigmoid2(_mm512_mul_ps(g, _mm512_set1_ps(1.702f * log2e)));
    return _mm512_mul_ps(_mm512_mul_ps(g, s), _mm512_add_ps(u, _mm512_set1_ps(1)));
}

INLINE void act_all(float *y, const float *gate, const float *up, uint32_t n, loam_act act)
{
    for (uint32_t i = 0; i < n; i += 16) {
        __mmask16 m = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xffff;
        _mm512_mask_storeu_ps(y + i, m, act16(_mm512_maskz_loadu_ps(m, gate + i), _mm512_maskz_loadu_ps(m, up + i), act));
    }
}

void loami_avx512_act(float *y, const float *gate, const float *up, uint32_t n, loam_act act)
{
    switch (act) {
    case LOAM_ACT_SILU: act_all(y, gate, up, n, LOAM_ACT_SILU); break;
    case LOAM_ACT_GELU_TANH: act_all(y, gate, up, n, LOAM_ACT_GELU_TANH); break;
    case LOAM_ACT_SWIGLU_OAI: act_all(y, gate, up, n, LOAM_ACT_SWIGLU_OAI); break;
    case LOAM_ACT_GELU: break; /* the table's */
    }
}
