#include "substrate/cpu/kern.h"

#include <immintrin.h>

#define LANES 8
#include "substrate/cpu/rows.inc"
#include "substrate/cpu/rows_attend.inc"

void loami_kern_avx2(loami_kern *k)
{
    k->norm = rows_norm;
    k->act = rows_act;
    k->axpy = rows_axpy;
    k->cap = rows_cap;
    k->softmax = rows_softmax;
    k->quantise16 = rows_quantise16;
}
