/* One row of activations against rows of weights, and activations to codes. As avx512_dot.c, in registers half as
 * long and without a dot product instruction: bytes are multiplied and added in pairs to 16 bits, those to 32. */
#include "substrate/cpu/x86/ahead.h"
#include "substrate/cpu/x86/avx2.h"

#include <math.h>

enum { ROWS = 2 };

/* ---- activations to codes ------------------------------------------------------------------------------------ */

/* 32 codes in order. */
INLINE __m256i to_codes(const float *x, __m256 inv)
{
    __m256i c[4];
    for (int i = 0; i < 4; i++) c[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inv));
    __m256i v = _mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3]));
    return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* 32 codes: even ones, then odd ones. */
INLINE __m256i split32(__m256i c)
{
    const __m256i halves = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(c, halves), 0xd8);
}

INLINE int32_t sum_codes(__m256i c)
{
    __m256i s = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), c), _mm256_set1_epi16(1));
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
}

void loami_avx2_quantise(int8_t *codes, float *scale, float *sum, const float *x, uint32_t n, uint32_t group, loami_order order)
{
    if (group % 32) {
        loami_kern_scalar.quantise(codes, scale, sum, x, n, group, order);
        return;
    }
    const __m256 sign = _mm256_set1_ps(-0.0f);
    uint32_t n_groups = n / group, padded = (n + LOAMI_BLOCK - 1) / LOAMI_BLOCK * LOAMI_BLOCK;
    if (padded != n) memset(codes + padded - LOAMI_BLOCK, 0, LOAMI_BLOCK);
    for (uint32_t g = 0; g < n_groups; g++) {
        const float *at = x + (size_t)g * group;
        __m256 top8 = _mm256_setzero_ps();
        for (uint32_t i = 0; i < group; i += 8) top8 = _mm256_max_ps(top8, _mm256_andnot_ps(sign, _mm256_loadu_ps(at + i)));
        __m128 t = _mm_max_ps(_mm256_castps256_ps128(top8), _mm256_extractf128_ps(top8, 1));
        t = _mm_max_ps(t, _mm_movehl_ps(t, t));
        float top = _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t))), inv = top > 1e-35f && top < INFINITY ? 127 / top : 0;
        int32_t total = 0;
        for (uint32_t i = 0; i < group; i += 32) {
            uint32_t k = g * group + i;
            __m256i c = to_codes(at + i, _mm256_set1_ps(inv));
            total += sum_codes(c);
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
        sum[g] = scale[g] * (float)total;
    }
    for (uint32_t g = n_groups; g % 16; g++) scale[g] = sum[g] = 0;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

/* 32 bytes of codes with their activations, as 8 sums. 4-bit: 64 inputs; the odd ones' activations are 64 on. */
INLINE __m256i dot_block(__m256i q, const int8_t *x, int bits)
{
    if (bits == 4) {
        const __m256i low = _mm256_set1_epi8(15);
        __m256i even = _mm256_maddubs_epi16(_mm256_and_si256(q, low), _mm256_loadu_si256((const void *)x));
        __m256i odd = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(q, 4), low), _mm256_loadu_si256((const void *)(x + 64)));
        return _mm256_madd_epi16(_mm256_add_epi16(even, odd), _mm256_set1_epi16(1));
    }
    /* 8-bit codes fill a byte: pairs of products would not fit 16 bits, so to 16 bits first */
    __m256i a = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(q)), _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)x)));
    __m256i b = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(q, 1)), _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(x + 16))));
    return _mm256_add_epi32(a, b); /* which sum holds which inputs no longer follows their order, but stays in its group */
}

/* Of 8 groups' scales those that the 8 sums of block j want. 4-bit: 8 inputs a sum, in order. 8-bit: sums of the first
 * and the second half are added, so a block is one group. */
INLINE __m256i spread(int j, int group, int bits)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    if (bits == 8) return _mm256_set1_epi32(j * 32 / group);
    int shift = group == 32 ? 2 : group == 64 ? 3 : 4;
    return _mm256_srli_epi32(_mm256_add_epi32(lane, _mm256_set1_epi32(8 * j)), shift);
}

INLINE void dot_rows(float *y, const loami_mat *w, uint32_t row, int n, const int8_t *codes, const float *scale, const float *sum,
                     int bits, int group, loami_scale type)
{
    const int inputs = bits == 4 ? 64 : 32, blocks = 8 * group / inputs; /* blocks to 8 groups */
    const uint32_t scale_size = type == LOAMI_SCALE_F32 ? 4 : 2, n_groups = w->cols / group, n_blocks = (w->cols + inputs - 1) / inputs;
    const size_t ahead = rows_ahead(w->row_bytes, n);
    const uint8_t *q[ROWS], *s[ROWS], *b[ROWS];
    __m256 acc[ROWS], sa[ROWS];

    for (int r = 0; r < n; r++) {
        q[r] = w->data + (row + r) * w->row_bytes;
        s[r] = w->scales + (row + r) * w->scale_bytes;
        b[r] = w->biases + (row + r) * w->scale_bytes;
        acc[r] = _mm256_setzero_ps();
    }
    for (uint32_t g = 0, block = 0; g < n_groups; g += 8) {
        size_t later = ahead * w->scale_bytes + g * scale_size * (size_t)n;
        if (g % 16 == 0) {
            fetch_all(s[0] + later, 16 * scale_size * (size_t)n);
            fetch_all(b[0] + later, 16 * scale_size * (size_t)n);
        }
        __m256 a8 = _mm256_loadu_ps(scale + g), x8 = _mm256_loadu_ps(sum + g);
        for (int r = 0; r < n; r++) {
            sa[r] = _mm256_mul_ps(load_scales(s[r] + g * scale_size, n_groups - g, type), a8);
            acc[r] = _mm256_fmadd_ps(load_scales(b[r] + g * scale_size, n_groups - g, type), x8, acc[r]);
        }
        for (int j = 0; j < blocks && block < n_blocks; j++, block++) {
            const int8_t *x = codes + (bits == 4 ? block / 2 * 128 + block % 2 * 32 : block * 32);
            __m256i at = spread(j, group, bits);
            if (block % 2 == 0) fetch_lines(q[0], w->row_bytes, (size_t)block * 32, n);
            for (int r = 0; r < n; r++) {
                const uint8_t *from = q[r] + (size_t)block * 32;
                __m256i v;
                if (bits == 4 && group == 32 && (block + 1) * 32 > w->row_bytes) v = _mm256_zextsi128_si256(_mm_loadu_si128((const void *)from));
                else v = _mm256_loadu_si256((const void *)from);
                acc[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot_block(v, x, bits)), _mm256_permutevar8x32_ps(sa[r], at), acc[r]);
            }
        }
    }
    for (int r = 0; r < n; r++) y[r] = sum8(acc[r]);
}

#define ARGS y, w, row, n, codes, scale, sum
#define PARAMS float *y, const loami_mat *w, uint32_t row, uint32_t n, const int8_t *codes, const float *scale, const float *sum

INLINE void dot_all(PARAMS, int bits, int group, loami_scale type)
{
    uint32_t i = 0;
    for (; i + ROWS <= n; i += ROWS) dot_rows(y + i, w, row + i, ROWS, codes, scale, sum, bits, group, type);
    for (; i < n; i++) dot_rows(y + i, w, row + i, 1, codes, scale, sum, bits, group, type);
}

INLINE void dot_type(PARAMS, int bits, int group)
{
    switch (w->scale) {
    case LOAMI_SCALE_F16: dot_all(ARGS, bits, group, LOAMI_SCALE_F16); break;
    case LOAMI_SCALE_BF16: dot_all(ARGS, bits, group, LOAMI_SCALE_BF16); break;
    default: dot_all(ARGS, bits, group, LOAMI_SCALE_F32); break;
    }
}

void loami_avx2_dot4(PARAMS)
{
    if (w->group == 32) dot_type(ARGS, 4, 32);
    else if (w->group == 64) dot_type(ARGS, 4, 64);
    else dot_type(ARGS, 4, 128);
}

void loami_avx2_dot8(PARAMS)
{
    if (w->group == 32) dot_type(ARGS, 8, 32);
    else if (w->group == 64) dot_type(ARGS, 8, 64);
    else dot_type(ARGS, 8, 128);
}

void loami_avx2_dot_f(float *y, const loami_mat *w, uint32_t row, uint32_t n, const float *x)
{
    for (uint32_t r = 0; r < n; r++) {
        float v[64];
        __m256 acc0 = _mm256_setzero_ps(), acc1 = acc0;
        uint32_t i = 0;
        float rest = 0;
        for (; i + 64 <= w->cols; i += 64) {
            const uint8_t *from = w->data + (row + r) * w->row_bytes + (size_t)i * w->bits / 8;
            fetch_all(from + AHEAD, 8 * w->bits);
            loami_avx2_dequant(v, w, row + r, i, 64);
            for (int j = 0; j < 64; j += 16) {
                acc0 = _mm256_fmadd_ps(_mm256_loadu_ps(v + j), _mm256_loadu_ps(x + i + j), acc0);
                acc1 = _mm256_fmadd_ps(_mm256_loadu_ps(v + j + 8), _mm256_loadu_ps(x + i + j + 8), acc1);
            }
        }
        if (i < w->cols) loami_avx2_dequant(v, w, row + r, i, w->cols - i);
        for (uint32_t j = 0; i + j < w->cols; j++) rest += v[j] * x[i + j];
        y[r] = sum8(_mm256_add_ps(acc0, acc1)) + rest;
    }
}

void loami_avx2_ahead(const loami_mat *w, uint32_t row, uint32_t n)
{
    fetch_first(w, row, n, ROWS);
}
