/* One row of activations against rows of weights: decoding. The weights are a stream from memory; everything else
 * stays in the first-level cache. Four rows at a time share each load of activations. */
#include "substrate/cpu/x86/ahead.h"
#include "substrate/cpu/x86/avx512.h"

enum { ROWS = 4 };

/* Per 64 bytes of 4-bit codes there are 128 / GROUP groups, side by side in the 16 sums; of 8-bit codes half as
 * many. spread(j) tells for block j which of 16 groups' scales each sum wants. */
INLINE __m512i spread(int j, int group, int bits)
{
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    int inputs_per_lane = bits == 4 ? 8 : 4, shift = 0;
    while (inputs_per_lane << shift < group) shift++;
    return _mm512_srli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(16 * j)), shift);
}

INLINE __m512i dot_block(const uint8_t *q, __mmask64 m, __m512i x0, __m512i x1, int bits)
{
    __m512i v = _mm512_maskz_loadu_epi8(m, q);
    if (bits == 8) return _mm512_dpbusd_epi32(_mm512_setzero_si512(), v, x0);
    const __m512i low = _mm512_set1_epi8(15);
    __m512i even = _mm512_and_si512(v, low), odd = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
    return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), even, x0), odd, x1);
}

INLINE void dot_rows(float *y, const loami_mat *w, uint32_t row, int n, const int8_t *codes, const float *scale, const float *sum,
                     int bits, int group, loami_scale type)
{
    const int inputs = bits == 4 ? 128 : 64, blocks = 16 * group / inputs; /* blocks to 16 groups */
    const uint32_t scale_size = type == LOAMI_SCALE_F32 ? 4 : 2, n_groups = w->cols / group;
    const uint32_t n_blocks = (w->cols + inputs - 1) / inputs, tail = w->row_bytes % 64;
    const size_t ahead = rows_ahead(w->row_bytes, n);
    const uint8_t *q[ROWS], *s[ROWS], *b[ROWS];
    __m512 acc[ROWS], sa[ROWS];

    for (int r = 0; r < n; r++) {
        q[r] = w->data + (row + r) * w->row_bytes;
        s[r] = w->scales + (row + r) * w->scale_bytes;
        b[r] = w->biases + (row + r) * w->scale_bytes;
        acc[r] = _mm512_setzero_ps();
    }
    for (uint32_t g = 0, block = 0; g < n_groups; g += 16) {
        __mmask16 have = n_groups - g < 16 ? (__mmask16)((1u << (n_groups - g)) - 1) : 0xffff;
        size_t later = ahead * w->scale_bytes + g * scale_size * (size_t)n;
        fetch_all(s[0] + later, 16 * scale_size * (size_t)n);
        fetch_all(b[0] + later, 16 * scale_size * (size_t)n);
        __m512 a16 = _mm512_loadu_ps(scale + g), x16 = _mm512_loadu_ps(sum + g);
        for (int r = 0; r < n; r++) {
            sa[r] = _mm512_mul_ps(load_scales(s[r] + g * scale_size, have, type), a16);
            acc[r] = _mm512_fmadd_ps(load_scales(b[r] + g * scale_size, have, type), x16, acc[r]);
        }
        for (int j = 0; j < blocks && block < n_blocks; j++, block++) {
            __mmask64 m = block + 1 == n_blocks && tail ? (1ull << tail) - 1 : ~0ull;
            __m512i x0 = _mm512_loadu_si512(codes + block * inputs), x1 = x0, at = spread(j, group, bits);
            if (bits == 4) x1 = _mm512_loadu_si512(codes + block * inputs + 64);
            fetch_lines(q[0], w->row_bytes, (size_t)block * LINE, n);
            for (int r = 0; r < n; r++) {
                __m512 d = _mm512_cvtepi32_ps(dot_block(q[r] + (size_t)block * 64, m, x0, x1, bits));
                acc[r] = _mm512_fmadd_ps(d, _mm512_permutexvar_ps(at, sa[r]), acc[r]);
            }
        }
    }
    for (int r = 0; r < n; r++) y[r] = _mm512_reduce_add_ps(acc[r]);
}

INLINE void dot_all(float *y, const loami_mat *w, uint32_t row, uint32_t n, const int8_t *codes, const float *scale, const float *sum,
                    int bits, int group, loami_scale type)
{
    uint32_t i = 0;
    for (; i + ROWS <= n; i += ROWS) dot_rows(y + i, w, row + i, ROWS, codes, scale, sum, bits, group, type);
    for (; i < n; i++) dot_rows(y + i, w, row + i, 1, codes, scale, sum, bits, group, type);
}

#define ARGS y, w, row, n, codes, scale, sum
#define PARAMS float *y, const loami_mat *w, uint32_t row, uint32_t n, const int8_t *codes, const float *scale, const float *sum

INLINE void dot_type(PARAMS, int bits, int group)
{
    switch (w->scale) {
    case LOAMI_SCALE_F16: dot_all(ARGS, bits, group, LOAMI_SCALE_F16); break;
    case LOAMI_SCALE_BF16: dot_all(ARGS, bits, group, LOAMI_SCALE_BF16); break;
    default: dot_all(ARGS, bits, group, LOAMI_SCALE_F32); break;
    }
}

void loami_avx512_dot4(PARAMS)
{
    if (w->group == 32) dot_type(ARGS, 4, 32);
    else if (w->group == 64) dot_type(ARGS, 4, 64);
    else dot_type(ARGS, 4, 128);
}

void loami_avx512_dot8(PARAMS)
{
    if (w->group == 32) dot_type(ARGS, 8, 32);
    else if (w->group == 64) dot_type(ARGS, 8, 64);
    else dot_type(ARGS, 8, 128);
}

/* ---- plain weights ------------------------------------------------------------------------------------------ */

INLINE __m512 load_plain(const uint8_t *p, __mmask16 m, loami_code code)
{
    return load_scales(p, m, code == LOAMI_CODE_F32 ? LOAMI_SCALE_F32 : code == LOAMI_CODE_F16 ? LOAMI_SCALE_F16 : LOAMI_SCALE_BF16);
}

INLINE void plain_rows(float *y, const loami_mat *w, uint32_t row, int n, const float *x, loami_code code)
{
    const uint32_t size = code == LOAMI_CODE_F32 ? 4 : 2;
    __m512 acc[ROWS];
    for (int r = 0; r < n; r++) acc[r] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < w->cols; i += 16) {
        __mmask16 m = w->cols - i < 16 ? (__mmask16)((1u << (w->cols - i)) - 1) : 0xffff;
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        if (i * size % LINE == 0) fetch_lines(w->data + row * w->row_bytes, w->row_bytes, (size_t)i * size, n);
        for (int r = 0; r < n; r++)
            acc[r] = _mm512_fmadd_ps(load_plain(w->data + (row + r) * w->row_bytes + (size_t)i * size, m, code), v, acc[r]);
    }
    for (int r = 0; r < n; r++) y[r] = _mm512_reduce_add_ps(acc[r]);
}

INLINE void plain_all(float *y, const loami_mat *w, uint32_t row, uint32_t n, const float *x, loami_code code)
{
    uint32_t i = 0;
    for (; i + ROWS <= n; i += ROWS) plain_rows(y + i, w, row + i, ROWS, x, code);
    for (; i < n; i++) plain_rows(y + i, w, row + i, 1, x, code);
}

void loami_avx512_dot_f(float *y, const loami_mat *w, uint32_t row, uint32_t n, const float *x)
{
    switch (w->code) {
    case LOAMI_CODE_F32: plain_all(y, w, row, n, x, LOAMI_CODE_F32); break;
    case LOAMI_CODE_F16: plain_all(y, w, row, n, x, LOAMI_CODE_F16); break;
    case LOAMI_CODE_BF16: plain_all(y, w, row, n, x, LOAMI_CODE_BF16); break;
    default: loami_kern_scalar.dot_f(y, w, row, n, x); break;
    }
}

void loami_avx512_ahead(const loami_mat *w, uint32_t row, uint32_t n)
{
    fetch_first(w, row, n, ROWS);
}
