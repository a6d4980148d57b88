/* The tile of prefill with the matrix multiply instructions for 8-bit integers (ARMv8.6, Apple's M2): one of them multiplies
 * two rows of activations by two of weights, 8 inputs each, twice what a dot product instruction does. All else is the table's below. */
#include "substrate/cpu/kern.h"

#include <arm_neon.h>

#define INLINE static inline __attribute__((always_inline))

enum { NR = 8, TILE_ROWS = 4 };  /* NR: the panels are those of neon_body.inc */

static void (*below)(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m);

/* Of two vectors of 4 rows' quads: rows 0 and 1, or 2 and 3, with 8 inputs each. */
INLINE int8x16_t rows01(uint8x16_t a, uint8x16_t b)
{
    return vreinterpretq_s8_u32(vzip1q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}
INLINE int8x16_t rows23(uint8x16_t a, uint8x16_t b)
{
    return vreinterpretq_s8_u32(vzip2q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}

#define CLEAR(i) int32x4_t a##i##0 = vdupq_n_s32(0), a##i##1 = a##i##0, a##i##2 = a##i##0, a##i##3 = a##i##0;
#define ROW(i) float32x4_t y##i##0 = vdupq_n_f32(0), y##i##1 = y##i##0;
/* Activations of rows 2i and 2i + 1: x##i##0 has their inputs 0..7, x##i##1 8..15. */
#define LOAD(i)                                                                                                          \
    int64x2_t e##i = vreinterpretq_s64_s8(vld1q_s8(at[2 * i])), o##i = vreinterpretq_s64_s8(vld1q_s8(at[2 * i + 1]));    \
    int8x16_t x##i##0 = vreinterpretq_s8_s64(vzip1q_s64(e##i, o##i)), x##i##1 = vreinterpretq_s8_s64(vzip2q_s64(e##i, o##i));
#define MULTIPLY(i, half)                                                                                                \
    a##i##0 = vmmlaq_s32(a##i##0, x##i##half, w0);                                                                       \
    a##i##1 = vmmlaq_s32(a##i##1, x##i##half, w1);                                                                       \
    a##i##2 = vmmlaq_s32(a##i##2, x##i##half, w2);                                                                       \
    a##i##3 = vmmlaq_s32(a##i##3, x##i##half, w3);
#define HALF(half)                                                                                                       \
    {                                                                                                                    \
        const uint8_t *c = q + (half) * 2 * NR * 4;                                                                      \
        uint8x16_t c0 = vld1q_u8(c), c1 = vld1q_u8(c + 16), c2 = vld1q_u8(c + 32), c3 = vld1q_u8(c + 48);                \
        int8x16_t w0 = rows01(c0, c2), w1 = rows23(c0, c2), w2 = rows01(c1, c3), w3 = rows23(c1, c3);                    \
        MULTIPLY(0, half)                                                                                                \
        if (pairs == 2) { MULTIPLY(1, half) }                                                                            \
    }
/* Row r, of pair i: the low or high halves of its pair's sums. */
#define GROUP(r, i, half)                                                                                                \
    {                                                                                                                    \
        float a = x->scale[row[r] * gs + g], t = x->sum[row[r] * gs + g];                                                \
        int32x4_t lo = vcombine_s32(vget_##half##_s32(a##i##0), vget_##half##_s32(a##i##1));                             \
        int32x4_t hi = vcombine_s32(vget_##half##_s32(a##i##2), vget_##half##_s32(a##i##3));                             \
        y##r##0 = vfmaq_n_f32(vfmaq_f32(y##r##0, vcvtq_f32_s32(lo), vmulq_n_f32(s0, a)), b0, t);                         \
        y##r##1 = vfmaq_n_f32(vfmaq_f32(y##r##1, vcvtq_f32_s32(hi), vmulq_n_f32(s1, a)), b1, t);                         \
    }

INLINE void put(float *y, const float *base, float32x4_t v0, float32x4_t v1, uint32_t n)
{
    float v[NR];
    vst1q_f32(v, v0);
    vst1q_f32(v + 4, v1);
    for (uint32_t i = 0; i < n; i++) y[i] = base ? base[i] + v[i] : v[i];
}

/* 2 to 4 rows; those beyond m are the last one again, and thrown away. */
INLINE void tile_rows(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m, int pairs, bool split)
{
    const size_t cs = x->code_stride, gs = x->group_stride;
    size_t row[TILE_ROWS];
    for (uint32_t r = 0; r < TILE_ROWS; r++) row[r] = r < m ? r : m - 1;
    ROW(0) ROW(1) ROW(2) ROW(3)
    for (uint32_t k = 0, g = 0; k < p->k; g++) {
        CLEAR(0) CLEAR(1)
        uint32_t end = k + p->group;
        do { /* 32 inputs: twice 16 in the order that codes are in */
            const uint8_t *q = p->codes + (size_t)k * NR;
            const int8_t *from = x->codes + (split ? (k & ~127u) + (k & 127) / 2 : k);
            for (uint32_t part = 0; part < 2; part++, q += 4 * NR * 4, from += split ? 64 : 16) {
                const int8_t *at[TILE_ROWS] = { from + row[0] * cs, from + row[1] * cs, from + row[2] * cs, from + row[3] * cs };
                LOAD(0) LOAD(1)
                HALF(0) HALF(1)
            }
            k += 32;
        } while (k < end);
        float32x4_t s0 = vld1q_f32(p->scale + g * NR), s1 = vld1q_f32(p->scale + g * NR + 4);
        float32x4_t b0 = vld1q_f32(p->bias + g * NR), b1 = vld1q_f32(p->bias + g * NR + 4);
        GROUP(0, 0, low) GROUP(1, 0, high)
        if (pairs == 2) { GROUP(2, 1, low) GROUP(3, 1, high) }
    }
    const float32x4_t out[TILE_ROWS][2] = { { y00, y01 }, { y10, y11 }, { y20, y21 }, { y30, y31 } };
    for (uint32_t r = 0; r < m; r++) put(y + r * stride, base ? base + r * stride : NULL, out[r][0], out[r][1], n);
}

#define TILE(pairs) \
    (p->order == LOAMI_SPLIT ? tile_rows(y, base, stride, p, n, x, m, pairs, true) : tile_rows(y, base, stride, p, n, x, m, pairs, false))

static void tile_height(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m)
{
    if (m > 2) TILE(2);
    else TILE(1);
}

static void tile(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m)
{
    for (uint32_t i = 0; i < m; i += TILE_ROWS) {
        uint32_t h = m - i < TILE_ROWS ? m - i : TILE_ROWS;
        loami_acts at = { x->codes + (size_t)i * x->code_stride, x->scale + (size_t)i * x->group_stride,
                          x->sum + (size_t)i * x->group_stride, x->code_stride, x->group_stride };
        bool alone = h == 1 || p->group == 16; /* a group of 16 inputs ends in the middle of such 32 */
        (alone ? below : tile_height)(y + i * stride, base ? base + i * stride : NULL, stride, p, n, &at, h);
    }
}

void loami_kern_i8mm(loami_kern *k)
{
    below = k->tile;
    k->tile = tile;
}
