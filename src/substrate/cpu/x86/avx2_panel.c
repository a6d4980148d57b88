/* Turning weights: 16 rows as they lie in the file become a panel in which 8 rows fill a register. 8-bit codes go in
 * less 128, signed: see avx2_tile.c. */
#include "substrate/cpu/x86/avx2.h"

INLINE void row_starts(const uint8_t *at[8], const uint8_t *base, size_t stride, uint32_t row, uint32_t n, uint32_t half)
{
    for (uint32_t r = 0; r < 8; r++) {
        uint32_t i = half * 8 + r;
        at[r] = base + (row + (i < n ? i : n - 1)) * stride;
    }
}

static void unpack_scales(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t g0, uint32_t n_groups)
{
    uint32_t size = w->scale == LOAMI_SCALE_F32 ? 4 : 2;
    for (uint32_t half = 0; half < NR / 8 && half * 8 < n; half++) {
        for (int bias = 0; bias < 2; bias++) {
            const uint8_t *at[8];
            float *out = (bias ? p->bias : p->scale) + half * 8;
            row_starts(at, bias ? w->biases : w->scales, w->scale_bytes, row, n, half);
            for (uint32_t g = 0; g < n_groups; g += 8) {
                __m256i t[8];
                for (int r = 0; r < 8; r++) {
                    const uint8_t *from = at[r] + (size_t)(g0 + g) * size;
                    t[r] = _mm256_castps_si256(load_scales(from, n_groups - g, w->scale));
                }
                transpose8(t);
                for (uint32_t i = 0; i < 8 && g + i < n_groups; i++) _mm256_storeu_si256((void *)(out + (size_t)(g + i) * NR), t[i]);
            }
        }
    }
}

/* 32 bytes of a row are 8 words of 4 even and 4 odd inputs. */
static void unpack4(uint8_t *out, const uint8_t *at[8], size_t offset, uint32_t bytes, bool fp4)
{
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i value = _mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    for (uint32_t i = 0; i < bytes; i += 32) {
        __m256i t[8];
        for (int r = 0; r < 8; r++) {
            uint8_t part[32] = { 0 };
            if (bytes - i < 32) memcpy(part, at[r] + offset + i, bytes - i);
            t[r] = _mm256_loadu_si256((const void *)(bytes - i < 32 ? part : at[r] + offset + i));
        }
        transpose8(t);
        for (int j = 0; j < 8; j++) {
            __m256i even = _mm256_and_si256(t[j], low), odd = _mm256_and_si256(_mm256_srli_epi16(t[j], 4), low);
            uint8_t *quad = out + ((size_t)i / 2 + j / 4 * 8 + j % 4) * NR * 4;
            if (fp4) even = _mm256_shuffle_epi8(value, even), odd = _mm256_shuffle_epi8(value, odd);
            _mm256_storeu_si256((void *)quad, even);
            _mm256_storeu_si256((void *)(quad + 4 * NR * 4), odd);
        }
    }
}

static void unpack8(uint8_t *out, const uint8_t *at[8], size_t offset, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 32) {
        __m256i t[8];
        for (int r = 0; r < 8; r++) {
            uint8_t part[32] = { 0 };
            if (bytes - i < 32) memcpy(part, at[r] + offset + i, bytes - i);
            t[r] = _mm256_loadu_si256((const void *)(bytes - i < 32 ? part : at[r] + offset + i));
        }
        transpose8(t);
        for (int j = 0; j < 8; j++)
            _mm256_storeu_si256((void *)(out + ((size_t)i / 4 + j) * NR * 4), _mm256_xor_si256(t[j], _mm256_set1_epi8(-128)));
    }
}

/* Any width: to bytes first. */
static void unpack_any(uint8_t *out, const loami_mat *w, uint32_t row, uint32_t n, uint32_t half, uint32_t k0, uint32_t k)
{
    uint8_t bytes[8][32];
    const uint8_t *at[8];
    for (uint32_t i = 0; i < k; i += 32) {
        for (uint32_t r = 0; r < 8; r++) {
            uint32_t from = half * 8 + r;
            loami_mat_codes(bytes[r], w, row + (from < n ? from : n - 1), k0 + i, 32);
            at[r] = bytes[r];
        }
        unpack8(out + (size_t)i * NR, at, 0, 32);
    }
}

void loami_avx2_unpack(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k)
{
    uint32_t have = k < w->cols - k0 ? k : w->cols - k0, n_groups = have / w->group;
    const uint8_t *at[8];

    p->k = (have + 31) & ~31u;
    p->group = w->group;
    p->order = loami_mat_order(w);
    p->top = loami_mat_top(w);
    for (uint32_t half = 0; half < NR / 8 && half * 8 < n; half++) {
        uint8_t *out = p->codes + half * 32;
        row_starts(at, w->data, w->row_bytes, row, n, half);
        if (w->bits == 4) unpack4(out, at, k0 / 2, have / 2, w->code == LOAMI_CODE_FP4);
        else if (w->bits == 8) unpack8(out, at, k0, have);
        else unpack_any(out, w, row, n, half, k0, have);
    }
    if (w->biases) {
        unpack_scales(p, w, row, n, k0 / w->group, n_groups);
    } else {
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t g = 0; g < n_groups; g++) loami_mat_scale(w, row + r, k0 / w->group + g, &p->scale[g * NR + r], &p->bias[g * NR + r]);
    }
    for (uint32_t i = 0; w->bits != 4 && i < n_groups * NR; i++) p->bias[i] += 128 * p->scale[i];
    for (uint32_t i = n_groups * NR; i < p->k / w->group * NR; i++) p->scale[i] = p->bias[i] = 0;
}

void loami_avx2_dequant(float *out, const loami_mat *w, uint32_t row, uint32_t k0, uint32_t k)
{
    static const loami_scale as[] = { [LOAMI_CODE_F32] = LOAMI_SCALE_F32, [LOAMI_CODE_F16] = LOAMI_SCALE_F16, [LOAMI_CODE_BF16] = LOAMI_SCALE_BF16 };
    const uint8_t *p = w->data + row * w->row_bytes;
    if (w->code <= LOAMI_CODE_BF16) {
        const uint32_t size = w->code == LOAMI_CODE_F32 ? 4 : 2;
        for (uint32_t i = 0; i < k; i += 8) {
            float v[8];
            _mm256_storeu_ps(v, load_scales(p + (size_t)(k0 + i) * size, k - i, as[w->code]));
            memcpy(out + i, v, (k - i < 8 ? k - i : 8) * sizeof *v);
        }
        return;
    }
    if (w->code != LOAMI_CODE_INT || (w->bits != 4 && w->bits != 8) || k0 % 32 || k % 32) {
        loami_kern_scalar.dequant(out, w, row, k0, k);
        return;
    }
    for (uint32_t i = 0; i < k; i += 16) {
        float s, b;
        __m128i q;
        loami_mat_scale(w, row, (k0 + i) / w->group, &s, &b);
        if (w->bits == 8) {
            q = _mm_loadu_si128((const void *)(p + k0 + i));
        } else {
            __m128i v = _mm_loadl_epi64((const void *)(p + (k0 + i) / 2)), low = _mm_set1_epi8(15);
            q = _mm_unpacklo_epi8(_mm_and_si128(v, low), _mm_and_si128(_mm_srli_epi16(v, 4), low));
        }
        for (int j = 0; j < 2; j++) {
            __m256 f = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(j ? _mm_srli_si128(q, 8) : q));
            _mm256_storeu_ps(out + i + 8 * j, _mm256_add_ps(_mm256_mul_ps(f, _mm256_set1_ps(s)), _mm256_set1_ps(b)));
        }
    }
}

void loami_avx2_unpack_f(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k)
{
    float x[8][32];
    p->k = k < w->cols - k0 ? k : w->cols - k0;
    for (uint32_t half = 0; half < NR / 8 && half * 8 < n; half++) {
        for (uint32_t i = 0; i < p->k; i += 32) {
            uint32_t have = p->k - i < 32 ? p->k - i : 32;
            for (uint32_t r = 0; r < 8; r++) {
                uint32_t from = half * 8 + r;
                loami_avx2_dequant(x[r], w, row + (from < n ? from : n - 1), k0 + i, have);
            }
            for (uint32_t j = 0; j < have; j += 8) {
                __m256i t[8];
                for (int r = 0; r < 8; r++) t[r] = _mm256_loadu_si256((const void *)&x[r][j]);
                transpose8(t);
                for (uint32_t c = 0; c < 8 && j + c < have; c++)
                    _mm256_storeu_si256((void *)(p->floats + (size_t)(i + j + c) * NR + half * 8), t[c]);
            }
        }
    }
}
