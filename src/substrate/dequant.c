#include "substrate/dequant.h"
#include "base/err.h"
#include "base/half.h"

#include <string.h>

uint64_t loami_row_bytes(const loam_matrix *m)
{
    if (m->quant != LOAM_Q_NONE) return (uint64_t)m->cols * m->bits / 8;
    return (uint64_t)m->cols * (m->type == LOAM_F32 ? 4 : 2);
}

uint64_t loami_scale_row_bytes(const loam_matrix *m)
{
    if (m->quant == LOAM_Q_NONE) return 0;
    uint32_t each = m->quant != LOAM_Q_AFFINE ? 1 : m->type == LOAM_F32 ? 4 : 2;
    return (uint64_t)m->cols / m->group * each;
}

float loami_number_at(const void *data, loam_dtype type, uint64_t i)
{
    const char *p = data;
    uint16_t h;
    float f;
    if (type == LOAM_F32) {
        memcpy(&f, p + 4 * i, 4);
        return f;
    }
    memcpy(&h, p + 2 * i, 2);
    return type == LOAM_F16 ? loami_from_f16(h) : loami_from_bf16(h);
}

float loami_bias_at(const loam_matrix *m, uint32_t expert, uint32_t row)
{
    return m->bias ? loami_number_at(m->bias, m->bias_type, (uint64_t)expert * m->rows + row) : 0;
}

/* Code i of a row: MLX packs codes of any width as one little-endian stream of bits. */
static uint32_t code_at(const uint8_t *row, uint32_t bits, uint32_t i)
{
    uint64_t at = (uint64_t)i * bits;
    uint32_t shift = at & 7;
    uint32_t word = row[at >> 3];
    if (shift + bits > 8) word |= (uint32_t)row[(at >> 3) + 1] << 8;
    return word >> shift & ((1u << bits) - 1);
}

void loami_dequant_row(const loam_matrix *m, uint32_t expert, uint32_t row, float *out)
{
    uint64_t at = (uint64_t)expert * m->rows + row;
    const uint8_t *codes = (const uint8_t *)m->data + at * loami_row_bytes(m);

    for (uint32_t i = 0; i < m->cols; i++) {
        if (m->quant == LOAM_Q_NONE) {
            out[i] = loami_number_at(codes, m->type, i);
            continue;
        }
        uint64_t g = at * (m->cols / m->group) + i / m->group;
        uint32_t q = code_at(codes, m->bits, i);
        const uint8_t *scale_bytes = m->scales;
        switch (m->quant) {
        case LOAM_Q_AFFINE:
            out[i] = loami_number_at(m->scales, m->type, g) * (float)q + loami_number_at(m->biases, m->type, g);
            break;
        case LOAM_Q_MXFP4: out[i] = loami_from_e8m0(scale_bytes[g]) * loami_from_e2m1((uint8_t)q); break;
        case LOAM_Q_MXFP8: out[i] = loami_from_e8m0(scale_bytes[g]) * loami_from_e4m3((uint8_t)q); break;
        case LOAM_Q_NVFP4: out[i] = loami_from_e4m3(scale_bytes[g]) * loami_from_e2m1((uint8_t)q); break;
        case LOAM_Q_NONE: break;
        }
    }
}

static bool is_float(loam_dtype t)
{
    return t == LOAM_F32 || t == LOAM_F16 || t == LOAM_BF16;
}

int loami_matrix_check(const loam_matrix *m, loam_err *err)
{
    static const struct {
        loam_quant quant;
        const char *name;
        uint32_t bits, group;   /* 0: see affine */
    } modes[] = {
        { LOAM_Q_AFFINE, "affine", 0, 0 },
        { LOAM_Q_MXFP4, "mxfp4", 4, 32 },
        { LOAM_Q_MXFP8, "mxfp8", 8, 32 },
        { LOAM_Q_NVFP4, "nvfp4", 4, 16 },
    };
    if (!m->rows || !m->cols || !m->n_experts)
        return loami_fail(err, LOAM_E_FORMAT, "%s: an empty matrix", m->name);
    if (m->bias && !is_float(m->bias_type)) return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: bias is not a float type", m->name);
    if (m->quant == LOAM_Q_NONE) {
        if (is_float(m->type)) return 0;
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: a plain weight must be F32, F16 or BF16", m->name);
    }
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (modes[i].quant != m->quant) continue;
        bool affine = m->quant == LOAM_Q_AFFINE;
        bool bits_ok = affine ? (m->bits >= 2 && m->bits <= 8 && m->bits != 7) : m->bits == modes[i].bits;
        bool group_ok = affine ? (m->group == 32 || m->group == 64 || m->group == 128) : m->group == modes[i].group;
        if (!bits_ok || !group_ok)
            return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: %s with %u bits and group %u", m->name, modes[i].name, m->bits, m->group);
        if (affine && !is_float(m->type)) return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: scales must be F32, F16 or BF16", m->name);
        if (m->cols % m->group || m->cols * (uint64_t)m->bits % 32)
            return loami_fail(err, LOAM_E_FORMAT, "%s: %u inputs are no multiple of group %u", m->name, m->cols, m->group);
        if (!m->scales || (affine && !m->biases)) return loami_fail(err, LOAM_E_FORMAT, "%s: scales or biases are missing", m->name);
        return 0;
    }
    return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: unknown quantisation mode", m->name);
}
