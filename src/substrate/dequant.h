/* substrate/dequant.h: the numbers that a stored matrix stands for. The definition that fast kernels are tested
 * against. */
#ifndef LOAMI_DEQUANT_H
#define LOAMI_DEQUANT_H

#include "loam_substrate.h"

/* Bytes of one row of codes (or plain numbers), and of one row of scales. */
uint64_t loami_row_bytes(const loam_matrix *m);
uint64_t loami_scale_row_bytes(const loam_matrix *m);

/* Number i of an array of plain type (F32, F16, BF16); data may be unaligned. */
float loami_number_at(const void *data, loam_dtype type, uint64_t i);

/* Row `row` of expert `expert` as m->cols floats. */
void loami_dequant_row(const loam_matrix *m, uint32_t expert, uint32_t row, float *out);

/* bias[row] of expert, 0 when there is none. */
float loami_bias_at(const loam_matrix *m, uint32_t expert, uint32_t row);

/* Whether m is of a kind that dequant_row knows and its numbers fit together; the error names the tensor. */
int loami_matrix_check(const loam_matrix *m, loam_err *err);

#endif
