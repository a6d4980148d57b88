/* Turning weights: 32 rows as they lie in the file become a panel in which 16 rows fill a register. */
#include "substrate/cpu/x86/avx512.h"

#include <string.h>

/* Rows beyond n repeat the last one, so that no load leaves the matrix. */
INLINE void row_starts(const uint8_t *at[16], const uint8_t *base, size_t stride, uint32_t row, uint32_t n, uint32_t half)
{
    for (uint32_t r = 0; r < 16; r++) {
        uint32_t i = half * 16 + r;
        at[r] = base + (row + (i < n ? i : n - 1)) * stride;
    }
}

/* ---- scales ---------------------------------------------------------------------------------------------------- */

INLINE void turn_scales(float *out, const uint8_t *at[16], uint32_t g0, uint32_t n_groups, loami_scale type)
{
    uint32_t size = type == LOAMI_SCALE_F32 ? 4 : 2;
    size_t ahead = NR * (size_t)(at[1] - at[0]);
    for (uint32_t g = 0; g < n_groups; g += 16) {
        __mmask16 m = n_groups - g < 16 ? (__mmask16)((1u << (n_groups - g)) - 1) : 0xffff;
        __m512i t[16];
        for (int r = 0; r < 16; r++) {
            const uint8_t *from = at[r] + (size_t)(g0 + g) * size;
            t[r] = _mm512_castps_si512(load_scales(from, m, type));
            _mm_prefetch((const char *)(from + ahead), _MM_HINT_T0);
        }
        transpose16(t);
        for (uint32_t i = 0; i < 16 && g + i < n_groups; i++) _mm512_storeu_si512(out + (size_t)(g + i) * NR, t[i]);
    }
}

static void unpack_scales(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t g0, uint32_t n_groups)
{
    const uint8_t *at[16];
    for (uint32_t half = 0; half < NR / 16 && half * 16 < n; half++) {
        for (int bias = 0; bias < 2; bias++) {
            float *out = (bias ? p->bias : p->scale) + half * 16;
            row_starts(at, bias ? w->biases : w->scales, w->scale_bytes, row, n, half);
            switch (w->scale) {
            case LOAMI_SCALE_F16: turn_scales(out, at, g0, n_groups, LOAMI_SCALE_F16); break;
            case LOAMI_SCALE_BF16: turn_scales(out, at, g0, n_groups, LOAMI_SCALE_BF16); break;
            default: turn_scales(out, at, g0, n_groups, LOAMI_SCALE_F32); break;
            }
        }
    }
}

static void unpack_fp_scales(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t g0, uint32_t n_groups)
{
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t g = 0; g < n_groups; g++) loami_mat_scale(w, row + r, g0 + g, &p->scale[g * NR + r], &p->bias[g * NR + r]);
}

/* ---- codes ------------------------------------------------------------------------------------------------------- */

INLINE void load_words(__m512i t[16], const uint8_t *at[16], size_t offset, uint32_t left)
{
    __mmask64 m = left < 64 ? (1ull << left) - 1 : ~0ull;
    size_t ahead = NR * (size_t)(at[1] - at[0]);
    for (int r = 0; r < 16; r++) {
        t[r] = _mm512_maskz_loadu_epi8(m, at[r] + offset);
        _mm_prefetch((const char *)(at[r] + offset + ahead), _MM_HINT_T1); /* the next panel's, 32 rows on */
    }
}

/* 64 bytes of a row are 16 words of 4 even and 4 odd inputs. */
INLINE void unpack4(uint8_t *out, const uint8_t *at[16], size_t offset, uint32_t bytes, bool fp4)
{
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i value = _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    for (uint32_t i = 0; i < bytes; i += 64) {
        __m512i t[16];
        load_words(t, at, offset + i, bytes - i);
        transpose16(t);
        for (int j = 0; j < 16; j++) {
            __m512i even = _mm512_and_si512(t[j], low), odd = _mm512_and_si512(_mm512_srli_epi16(t[j], 4), low);
            uint8_t *quad = out + ((size_t)i / 2 + j / 4 * 8 + j % 4) * NR * 4;
            if (fp4) even = _mm512_shuffle_epi8(value, even), odd = _mm512_shuffle_epi8(value, odd);
            _mm512_storeu_si512(quad, even);
            _mm512_storeu_si512(quad + 4 * NR * 4, odd);
        }
    }
}

INLINE void unpack8(uint8_t *out, const uint8_t *at[16], size_t offset, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 64) {
        __m512i t[16];
        load_words(t, at, offset + i, bytes - i);
        transpose16(t);
        for (int j = 0; j < 16; j++) _mm512_storeu_si512(out + ((size_t)i / 4 + j) * NR * 4, t[j]);
    }
}

/* Any width: to bytes first. */
static void unpack_any(uint8_t *out, const loami_mat *w, uint32_t row, uint32_t n, uint32_t half, uint32_t k0, uint32_t k)
{
    _Alignas(64) uint8_t bytes[16][64];
    const uint8_t *at[16];
    for (uint32_t i = 0; i < k; i += 64) {
        uint32_t have = k - i < 64 ? k - i : 64;
        for (uint32_t r = 0; r < 16; r++) {
            uint32_t from = half * 16 + r;
            loami_mat_codes(bytes[r], w, row + (from < n ? from : n - 1), k0 + i, have);
            at[r] = bytes[r];
        }
        unpack8(out + (size_t)i * NR, at, 0, have);
    }
}

void loami_avx512_unpack(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k)
{
    uint32_t have = k < w->cols - k0 ? k : w->cols - k0;
    const uint8_t *at[16];

    p->k = (have + 31) & ~31u;
    p->group = w->group;
    p->order = loami_mat_order(w);
    p->top = loami_mat_top(w);
    for (uint32_t half = 0; half < NR / 16 && half * 16 < n; half++) {
        uint8_t *out = p->codes + half * 64;
        row_starts(at, w->data, w->row_bytes, row, n, half);
        if (w->bits == 4 && w->code == LOAMI_CODE_INT) unpack4(out, at, k0 / 2, have / 2, false);
        else if (w->bits == 4) unpack4(out, at, k0 / 2, have / 2, true);
        else if (w->bits == 8) unpack8(out, at, k0, have);
        else unpack_any(out, w, row, n, half, k0, have);
    }
    if (w->biases) unpack_scales(p, w, row, n, k0 / w->group, have / w->group);
    else unpack_fp_scales(p, w, row, n, k0 / w->group, have / w->group);
    for (uint32_t g = have / w->group; g < p->k / w->group; g++) {
        memset(p->scale + g * NR, 0, NR * sizeof(float));
        memset(p->bias + g * NR, 0, NR * sizeof(float));
    }
}

/* ---- floats -------------------------------------------------------------------------------------------------------- */

void loami_avx512_dequant(float *out, const loami_mat *w, uint32_t row, uint32_t k0, uint32_t k)
{
    const uint8_t *p = w->data + row * w->row_bytes;
    if (w->code <= LOAMI_CODE_BF16) {
        const uint32_t size = w->code == LOAMI_CODE_F32 ? 4 : 2;
        for (uint32_t i = 0; i < k; i += 16) {
            __mmask16 m = k - i < 16 ? (__mmask16)((1u << (k - i)) - 1) : 0xffff;
            const uint8_t *at = p + (size_t)(k0 + i) * size;
            __m512 v = w->code == LOAMI_CODE_F32   ? load_scales(at, m, LOAMI_SCALE_F32)
                       : w->code == LOAMI_CODE_F16 ? load_scales(at, m, LOAMI_SCALE_F16)
                                                   : load_scales(at, m, LOAMI_SCALE_BF16);
            _mm512_mask_storeu_ps(out + i, m, v);
        }
        return;
    }
    if (w->code != LOAMI_CODE_INT || (w->bits != 4 && w->bits != 8) || k0 % 32 || k % 32) {
        loami_kern_scalar.dequant(out, w, row, k0, k);
        return;
    }
    for (uint32_t i = 0; i < k; i += 32) {
        float s, b;
        loami_mat_scale(w, row, (k0 + i) / w->group, &s, &b);
        __m256i q;
        if (w->bits == 8) {
            q = _mm256_loadu_si256((const void *)(p + k0 + i));
        } else {
            __m128i v = _mm_loadu_si128((const void *)(p + (k0 + i) / 2)), low = _mm_set1_epi8(15);
            __m128i even = _mm_and_si128(v, low), odd = _mm_and_si128(_mm_srli_epi16(v, 4), low);
            q = _mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd));
        }
        for (int j = 0; j < 2; j++) {
            __m512 f = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(j ? _mm256_extracti128_si256(q, 1) : _mm256_castsi256_si128(q)));
            _mm512_storeu_ps(out + i + 16 * j, _mm512_add_ps(_mm512_mul_ps(f, _mm512_set1_ps(s)), _mm512_set1_ps(b)));
        }
    }
}

void loami_avx512_unpack_f(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k)
{
    _Alignas(64) float x[16][64];
    p->k = k < w->cols - k0 ? k : w->cols - k0;
    for (uint32_t half = 0; half < NR / 16 && half * 16 < n; half++) {
        for (uint32_t i = 0; i < p->k; i += 64) {
            uint32_t have = p->k - i < 64 ? p->k - i : 64;
            for (uint32_t r = 0; r < 16; r++) {
                uint32_t from = half * 16 + r;
                loami_avx512_dequant(x[r], w, row + (from < n ? from : n - 1), k0 + i, have);
            }
            for (uint32_t j = 0; j < have; j += 16) {
                __m512i t[16];
                for (int r = 0; r < 16; r++) t[r] = _mm512_load_si512(&x[r][j]);
                transpose16(t);
                for (uint32_t c = 0; c < 16 && j + c < have; c++)
                    _mm512_storeu_si512(p->floats + (size_t)(i + j + c) * NR + half * 16, t[c]);
            }
        }
    }
}
