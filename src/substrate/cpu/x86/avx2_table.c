#include "substrate/cpu/x86/avx2.h"

#define LANES 8
#include "substrate/cpu/rows.inc"
#include "substrate/cpu/rows_attend.inc"

void loami_kern_avx2(loami_kern *k)
{
    k->panel_rows = NR;
    k->quantise = loami_avx2_quantise;
    k->dot4 = loami_avx2_dot4;
    k->dot8 = loami_avx2_dot8;
    k->dot_f = loami_avx2_dot_f;
    k->ahead = loami_avx2_ahead;
    k->unpack = loami_avx2_unpack;
    k->unpack_f = loami_avx2_unpack_f;
    k->dequant = loami_avx2_dequant;
    k->tile = loami_avx2_tile;
    k->tile_f = loami_avx2_tile_f;
    k->norm = rows_norm;
    k->act = rows_act;
    k->axpy = rows_axpy;
    k->cap = rows_cap;
    k->softmax = rows_softmax;
    k->quantise16 = rows_quantise16;
    k->scores = loami_avx2_scores;
    k->values = loami_avx2_values;
}
