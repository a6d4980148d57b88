/* Some rows of activations against rows of weights as they lie: a few streams. Memory is read once and in its own order, and turning
 * is done within quarters of registers: 8 shuffles for 4 rows, where a panel takes 64 for 16.
 *
 * Of 4 rows, 64 bytes each, the 4x4 words of every quarter are turned: then a register holds, quarter for quarter, words of the same
 * inputs of all 4 rows, and meets those inputs' codes, repeated in the quarter. A quarter never has inputs of two groups, so
 * sums are [quarter][row], and scales are laid out so. */
#include "substrate/cpu/x86/ahead.h"
#include "substrate/cpu/x86/avx512.h"

enum { ROWS = 4, ACTS = 8 };

#define EACH_ACT(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

/* [quarter][row] of four rows' numbers of 16 groups; `at` says which group each quarter wants. */
INLINE __m512 by_quarter(const __m512 of[ROWS], __m512i at)
{
    __m512 v = _mm512_permutexvar_ps(at, of[0]);
    v = _mm512_mask_permutexvar_ps(v, 0x2222, at, of[1]);
    v = _mm512_mask_permutexvar_ps(v, 0x4444, at, of[2]);
    return _mm512_mask_permutexvar_ps(v, 0x8888, at, of[3]);
}

/* Word j of 16 quarters' rows 0 to 3, for each j: within 128 bits a 4x4 transpose. */
INLINE void turn_quarters(__m512i t[ROWS])
{
    __m512i a = _mm512_unpacklo_epi32(t[0], t[1]), b = _mm512_unpackhi_epi32(t[0], t[1]);
    __m512i c = _mm512_unpacklo_epi32(t[2], t[3]), d = _mm512_unpackhi_epi32(t[2], t[3]);
    t[0] = _mm512_unpacklo_epi64(a, c);
    t[1] = _mm512_unpackhi_epi64(a, c);
    t[2] = _mm512_unpacklo_epi64(b, d);
    t[3] = _mm512_unpackhi_epi64(b, d);
}

/* 4 words of each quarter, one after the other, repeated in the quarter. */
INLINE int32x16 dot_words(__m512i w0, __m512i w1, __m512i w2, __m512i w3, __m512i x)
{
    int32x16 sum = { 0 };
    sum = dot_bytes(sum, w0, _mm512_shuffle_epi32(x, 0x00));
    sum = dot_bytes(sum, w1, _mm512_shuffle_epi32(x, 0x55));
    sum = dot_bytes(sum, w2, _mm512_shuffle_epi32(x, 0xaa));
    return dot_bytes(sum, w3, _mm512_shuffle_epi32(x, 0xff));
}

INLINE void put_rows(float *y, __m512 v)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    _mm_storeu_ps(y, _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
}

/* y[m][4] = 4 rows of weights from `row` on. */
INLINE void dots_rows(float *y, size_t stride, const loami_mat *w, uint32_t row, const loami_acts *x, int m, int bits)
{
    const uint32_t inputs = bits == 4 ? 128 : 64, per_quarter = inputs / 4, blocks = 16 * w->group / inputs;
    const uint32_t scale_size = w->scale == LOAMI_SCALE_F32 ? 4 : 2, n_groups = w->cols / w->group;
    const uint32_t n_blocks = (w->cols + inputs - 1) / inputs, tail = w->row_bytes % 64;
    const uint32_t shift = (uint32_t)__builtin_ctz(w->group / per_quarter);
    const __m512i quarter = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), low = _mm512_set1_epi8(15);
    const size_t ahead = rows_ahead(w->row_bytes, ROWS), cs = x->code_stride, gs = x->group_stride;
    const uint8_t *q = w->data + row * w->row_bytes, *s = w->scales + row * w->scale_bytes, *b = w->biases + row * w->scale_bytes;

#define START(i) __m512 y##i = _mm512_setzero_ps();
    EACH_ACT(START)
    for (uint32_t g = 0, block = 0; g < n_groups; g += 16) {
        __mmask16 have = n_groups - g < 16 ? (__mmask16)((1u << (n_groups - g)) - 1) : 0xffff;
        size_t at = (size_t)g * scale_size, later = ahead * w->scale_bytes + at * ROWS;
        __m512 scale[ROWS], bias[ROWS];
        fetch_all(s + later, 16 * scale_size * ROWS);
        fetch_all(b + later, 16 * scale_size * ROWS);
        for (int r = 0; r < ROWS; r++) {
            scale[r] = load_scales(s + r * w->scale_bytes + at, have, w->scale);
            bias[r] = load_scales(b + r * w->scale_bytes + at, have, w->scale);
        }
        for (uint32_t j = 0; j < blocks && block < n_blocks; j++, block++) {
            __mmask64 in = block + 1 == n_blocks && tail ? (1ull << tail) - 1 : ~0ull;
            __m512i of = _mm512_add_epi32(quarter, _mm512_set1_epi32((int)(4 * j))), group = _mm512_srl_epi32(of, _mm_cvtsi32_si128((int)shift));
            __mmask16 first = _mm512_testn_epi32_mask(of, _mm512_set1_epi32((1 << shift) - 1)); /* a group's bias counts once */
            __m512i t[ROWS], odd[ROWS];
            fetch_lines(q, w->row_bytes, (size_t)block * LINE, ROWS);
            for (int r = 0; r < ROWS; r++) t[r] = _mm512_maskz_loadu_epi8(in, q + r * w->row_bytes + (size_t)block * 64);
            turn_quarters(t);
            for (int r = 0; r < ROWS && bits == 4; r++) {
                odd[r] = _mm512_and_si512(_mm512_srli_epi16(t[r], 4), low);
                t[r] = _mm512_and_si512(t[r], low);
            }
            __m512 sq = by_quarter(scale, group), bq = _mm512_maskz_mov_ps(first, by_quarter(bias, group));
            const int8_t *codes = x->codes + (size_t)block * inputs;
#define ACT(i)                                                                                                           \
    if (i < m) {                                                                                                         \
        int32x16 d = dot_words(t[0], t[1], t[2], t[3], _mm512_loadu_si512(codes + i * cs));                             \
        if (bits == 4) d += dot_words(odd[0], odd[1], odd[2], odd[3], _mm512_loadu_si512(codes + i * cs + 64));         \
        __m512 a = _mm512_permutexvar_ps(group, _mm512_loadu_ps(x->scale + i * gs + g));                                 \
        y##i = _mm512_fmadd_ps(to_float(d), _mm512_mul_ps(sq, a), y##i);                                                 \
        y##i = _mm512_fmadd_ps(bq, _mm512_permutexvar_ps(group, _mm512_loadu_ps(x->sum + i * gs + g)), y##i);           \
    }
            EACH_ACT(ACT)
        }
    }
#define PUT(i) \
    if (i < m) put_rows(y + i * stride, y##i);
    EACH_ACT(PUT)
}

#define DOTS(M) dots_rows(y, stride, w, row, x, M, bits)

INLINE void dots_height(float *y, size_t stride, const loami_mat *w, uint32_t row, const loami_acts *x, uint32_t m, int bits)
{
    switch (m) {
    case 1: DOTS(1); break;
    case 2: DOTS(2); break;
    case 3: DOTS(3); break;
    case 4: DOTS(4); break;
    case 5: DOTS(5); break;
    case 6: DOTS(6); break;
    case 7: DOTS(7); break;
    default: DOTS(8); break;
    }
}

static void dots4(float *y, size_t stride, const loami_mat *w, uint32_t row, const loami_acts *x, uint32_t m)
{
    dots_height(y, stride, w, row, x, m, 4);
}

static void dots8(float *y, size_t stride, const loami_mat *w, uint32_t row, const loami_acts *x, uint32_t m)
{
    dots_height(y, stride, w, row, x, m, 8);
}

void loami_avx512_dots(float *y, size_t stride, const loami_mat *w, uint32_t row, uint32_t n, const loami_acts *x, uint32_t m)
{
    uint32_t i = 0, heights = (m + ACTS - 1) / ACTS;
    for (; i + ROWS <= n; i += ROWS)
        for (uint32_t at = 0, left = heights, h; at < m; at += h, left--) { /* 10 rows are 5 and 5 */
            h = (m - at + left - 1) / left;
            loami_acts from = { x->codes + (size_t)at * x->code_stride, x->scale + (size_t)at * x->group_stride,
                                x->sum + (size_t)at * x->group_stride, x->code_stride, x->group_stride };
            (w->bits == 4 ? dots4 : dots8)(y + at * stride + i, stride, w, row + i, &from, h);
        }
    for (uint32_t j = 0; j < m && i < n; j++)
        (w->bits == 4 ? loami_avx512_dot4 : loami_avx512_dot8)(y + j * stride + i, w, row + i, n - i, x->codes + (size_t)j * x->code_stride,
                                                              x->scale + (size_t)j * x->group_stride, x->sum + (size_t)j * x->group_stride);
}
