/* store/pack.h: rows of weights quantised exactly as MLX does on a CPU (mlx.core.quantize).
 *
 * Affine: scale = range / (2^bits - 1), signed so that the end of larger magnitude is met exactly by a whole
 * code; code = round((w - bias) / scale), ties to even. The fp modes divide by the power of two that cuts
 * nothing off (mxfp4, mxfp8) or by an e4m3 number (nvfp4) and take the nearest value; intermediate results
 * are rounded to the weights' own type, as there. What MLX leaves undefined (weights that are not finite) is
 * undefined here. */
#ifndef LOAMI_PACK_H
#define LOAMI_PACK_H

#include "file/config.h"

/* Bytes of a row's codes, and of its scales (and, affine, again of its biases, of the weights' type). cols is
 * a multiple of q->group. */
uint64_t loami_pack_code_bytes(const loami_quant_config *q, uint64_t cols);
uint64_t loami_pack_scale_bytes(const loami_quant_config *q, loam_dtype type, uint64_t cols);

/* One row: cols numbers of type F32, F16 or BF16 as floats that this type holds exactly. */
void loami_pack_row(const loami_quant_config *q, loam_dtype type, const float *row, uint64_t cols,
                    unsigned char *codes, unsigned char *scales, unsigned char *biases);

/* The other way: cols weights of a packed row as floats. type: of scales and biases; the fp modes have bytes.
 */
void loami_unpack_row(const loami_quant_config *q, loam_dtype type, const unsigned char *codes,
                      const unsigned char *scales, const unsigned char *biases, uint64_t cols, float *row);

/* Number i of an array of type, which may be unaligned. */
float loami_number_of(loam_dtype type, const unsigned char *data, uint64_t i);

/* f rounded to type, ties to even. */
float loami_round_to(loam_dtype type, float f);

#endif
