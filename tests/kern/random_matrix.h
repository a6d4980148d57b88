/* tests/kern/random_matrix.h: random matrices of every kind that the seam knows. */
#ifndef RANDOM_MATRIX_H
#define RANDOM_MATRIX_H

#include "loam_substrate.h"

typedef struct rnd {
    uint64_t state;
} rnd;

uint64_t rnd_next(rnd *r);                       /* splitmix64 */
uint32_t rnd_below(rnd *r, uint32_t n);
float rnd_float(rnd *r);                         /* about normal, sd 1, with an outlier now and then */

typedef struct matrix_kind {
    const char *name;
    loam_quant quant;
    uint32_t bits, group;
    loam_dtype type;
    float spread;                                /* size of the numbers; 0 = all zero */
} matrix_kind;

extern const matrix_kind matrix_kinds[];
extern const uint32_t n_matrix_kinds;

/* Fills *m with malloc'd bytes, misaligned on purpose; some groups have scale 0. */
void random_matrix(rnd *r, loam_matrix *m, const matrix_kind *k, uint32_t experts, uint32_t rows, uint32_t cols, bool bias);
void random_bias(rnd *r, loam_matrix *m, uint32_t n); /* n numbers of bias, F32 */
void random_matrix_free(loam_matrix *m);

#endif
