#include "store/pack.h"

#include "base/half.h"

#include <math.h>
#include <string.h>

enum { GROUP_MAX = 128 };

uint64_t loami_pack_code_bytes(const loami_quant_config *q, uint64_t cols)
{
    return cols * q->bits / 8;
}

uint64_t loami_pack_scale_bytes(const loami_quant_config *q, loam_dtype type, uint64_t cols)
{
    return cols / q->group * (q->mode != LOAM_Q_AFFINE ? 1 : type == LOAM_F32 ? 4 : 2);
}

float loami_round_to(loam_dtype type, float f)
{
    return type == LOAM_F16    ? loami_from_f16(loami_to_f16(f))
           : type == LOAM_BF16 ? loami_from_bf16(loami_to_bf16(f))
                               : f;
}

static void put(loam_dtype type, unsigned char *out, uint64_t i, float f)
{
    uint32_t u = type == LOAM_F16 ? loami_to_f16(f) : type == LOAM_BF16 ? loami_to_bf16(f) : loami_to_bits(f);
    uint64_t n = type == LOAM_F32 ? 4 : 2;
    for (uint64_t b = 0; b < n; b++) out[i * n + b] = (unsigned char)(u >> 8 * b);
}

/* Little end first: code i takes bits i * bits up to (i + 1) * bits. */
static unsigned char *put_codes(const uint8_t *code, uint32_t n, uint32_t bits, unsigned char *out)
{
    uint32_t held = 0, have = 0;
    for (uint32_t i = 0; i < n; i++) {
        held |= (uint32_t)code[i] << have;
        for (have += bits; have >= 8; have -= 8, held >>= 8) *out++ = (unsigned char)held;
    }
    return out;
}

/* To the nearest whole number, ties to even, of 0 <= x < 2^22: at this magnitude floats have no fraction
 * left. */
static uint8_t nearest(float x)
{
    const float shift = 12582912; /* 1.5 * 2^23 */
    return (uint8_t)(x + shift - shift);
}

static void affine_group(const loami_quant_config *q, const float *w, uint8_t *code, float *scale_out,
                         float *bias_out)
{
    float top = (float)((1u << q->bits) - 1), lo = w[0], hi = w[0];
    for (uint32_t i = 1; i < q->group; i++) {
        lo = w[i] < lo ? w[i] : lo;
        hi = w[i] > hi ? w[i] : hi;
    }
    bool low_end = fabsf(lo) > fabsf(hi);
    float scale = (hi - lo) / top, bias = 0, edge = low_end ? lo : hi;
    scale = scale > 1e-7f ? scale : 1e-7f;
    if (!low_end) scale = -scale;
    float steps = rintf(edge / scale);
    if (steps != 0) {
        scale = edge / steps;
        bias = edge;
    }
    for (uint32_t i = 0; i < q->group; i++) {
        float c = (w[i] - bias) / scale;
        c = c > 0 ? c : 0;
        code[i] = nearest(c < top ? c : top);
    }
    *scale_out = scale;
    *bias_out = bias;
}

/* ---- floating-point codes ------------------------------------------------------------------------------ */

/* OCP e4m3, to nearest even, too large numbers to the largest. */
static uint8_t to_e4m3(float f)
{
    uint32_t u = loami_to_bits(f), sign = u >> 24 & 0x80;
    u &= 0x7fffffff;
    if (u >= 543u << 21) return (uint8_t)(sign | 0x7e);
    if (u < 121u << 23) { /* subnormal: adding 2^14 rounds at the last place */
        float g = loami_from_bits(u) + loami_from_bits(141u << 23);
        return (uint8_t)(sign | (loami_to_bits(g) - (141u << 23)));
    }
    u += ((uint32_t)(7 - 127) << 23) + 0x7ffff + (u >> 20 & 1);
    return (uint8_t)(sign | u >> 20);
}

/* The nearest of e2m1's values, of two equally near ones the smaller; -0 is never chosen. */
static uint8_t to_e2m1(float f)
{
    static const float middle[7] = { 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5 };
    float a = fabsf(f);
    uint8_t n = 0;
    if (!(a <= 3e38f))
        return 0; /* the scale was too small for its type: MLX takes the first of equal distances */
    while (n < 7 && a > middle[n]) n++;
    return n && f < 0 ? n | 8 : n;
}

/* Divides the group by its scale, in the weights' type; returns the scale's byte. */
static uint8_t fp_scale(const loami_quant_config *q, loam_dtype type, const float *w, float *out)
{
    float most = 0, top = q->bits == 4 ? 6 : 448, scale;
    uint8_t byte;
    for (uint32_t i = 0; i < q->group; i++) most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    most = loami_round_to(type, most / top);
    if (q->mode == LOAM_Q_NVFP4) {
        byte = to_e4m3(most);
        scale = loami_round_to(type, loami_from_e4m3(byte));
    } else {
        float power = most == 0 ? 0 : ceilf(log2f(most));
        byte = (uint8_t)(int)(power + 127);
        scale = loami_round_to(type, exp2f(power));
    }
    for (uint32_t i = 0; i < q->group; i++) out[i] = loami_round_to(type, w[i] / scale);
    return byte;
}

static uint8_t fp_group(const loami_quant_config *q, loam_dtype type, const float *w, uint8_t *code)
{
    float x[GROUP_MAX];
    uint8_t scale = fp_scale(q, type, w, x);
    for (uint32_t i = 0; i < q->group; i++) code[i] = q->bits == 4 ? to_e2m1(x[i]) : to_e4m3(x[i]);
    return scale;
}

void loami_pack_row(const loami_quant_config *q, loam_dtype type, const float *row, uint64_t cols,
                    unsigned char *codes, unsigned char *scales, unsigned char *biases)
{
    uint8_t code[GROUP_MAX];
    for (uint64_t g = 0; g < cols / q->group; g++, row += q->group) {
        if (q->mode == LOAM_Q_AFFINE) {
            float scale, bias;
            affine_group(q, row, code, &scale, &bias);
            put(type, scales, g, scale);
            put(type, biases, g, bias);
        } else {
            scales[g] = fp_group(q, type, row, code);
        }
        codes = put_codes(code, q->group, q->bits, codes);
    }
}

/* ---- back ---------------------------------------------------------------------------------------------- */

float loami_number_of(loam_dtype type, const unsigned char *data, uint64_t i)
{
    uint16_t h;
    float f;
    if (type == LOAM_F32) return memcpy(&f, data + 4 * i, 4), f;
    memcpy(&h, data + 2 * i, 2);
    return type == LOAM_F16 ? loami_from_f16(h) : loami_from_bf16(h);
}

static uint32_t code_at(const unsigned char *codes, uint32_t bits, uint64_t i)
{
    uint64_t at = i * bits, shift = at & 7;
    uint32_t word = codes[at >> 3];
    if (shift + bits > 8) word |= (uint32_t)codes[(at >> 3) + 1] << 8;
    return word >> shift & ((1u << bits) - 1);
}

void loami_unpack_row(const loami_quant_config *q, loam_dtype type, const unsigned char *codes,
                      const unsigned char *scales, const unsigned char *biases, uint64_t cols, float *row)
{
    for (uint64_t i = 0; i < cols; i++) {
        uint64_t g = i / q->group;
        uint32_t code = code_at(codes, q->bits, i);
        if (q->mode == LOAM_Q_AFFINE) {
            row[i] = loami_number_of(type, scales, g) * (float)code + loami_number_of(type, biases, g);
        } else {
            float scale = q->mode == LOAM_Q_NVFP4 ? loami_from_e4m3(scales[g]) : loami_from_e8m0(scales[g]);
            row[i] = scale * (q->bits == 4 ? loami_from_e2m1((uint8_t)code) : loami_from_e4m3((uint8_t)code));
        }
    }
}
