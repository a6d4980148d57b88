/* base/half.h: the short floating-point types as float. */
#ifndef LOAMI_HALF_H
#define LOAMI_HALF_H

#include <stdint.h>
#include <string.h>

static inline float loami_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t loami_to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float loami_from_bf16(uint16_t h)
{
    return loami_from_bits((uint32_t)h << 16);
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t loami_to_bf16(float f)
{
    uint32_t u = loami_to_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* IEEE 754 binary16. A subnormal half is a normal float: its value is scaled up from the mantissa. */
static inline float loami_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 0x3ff;
    if (exp == 31) return loami_from_bits(sign | 0x7f800000 | man << 13);
    if (exp) return loami_from_bits(sign | (exp + 112) << 23 | man << 13);
    return loami_from_bits(sign | loami_to_bits((float)man * 5.9604644775390625e-8f));
}

/* Round to nearest, ties to even; overflow becomes infinity. */
static inline uint16_t loami_to_f16(float f)
{
    uint32_t u = loami_to_bits(f), sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (u >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (u < 0x38800000) /* subnormal or zero: adding 0.5 rounds at the half's last place */
        return (uint16_t)(sign | (loami_to_bits(loami_from_bits(u) + 0.5f) - 0x3f000000));
    u += 0xfff + (u >> 13 & 1) - (112u << 23);
    return (uint16_t)(sign | u >> 13);
}

/* OCP FP8 e4m3 (no infinity; 0x7f and 0xff are NaN). */
static inline float loami_from_e4m3(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24, exp = b >> 3 & 15, man = b & 7;
    if (exp == 15 && man == 7) return loami_from_bits(sign | 0x7fc00000);
    if (exp) return loami_from_bits(sign | (exp + 120) << 23 | man << 20);
    return loami_from_bits(sign | loami_to_bits((float)man * 0.001953125f));
}

/* OCP e8m0: a power of two; 0xff is NaN. */
static inline float loami_from_e8m0(uint8_t b)
{
    return loami_from_bits(b == 0xff ? 0x7fc00000 : b ? (uint32_t)b << 23 : 0x00400000);
}

/* OCP FP4 e2m1. */
static inline float loami_from_e2m1(uint8_t code)
{
    static const float value[8] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6 };
    return code & 8 ? -value[code & 7] : value[code & 7];
}

#endif
