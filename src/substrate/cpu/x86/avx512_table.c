#include "substrate/cpu/x86/avx512.h"

#define LANES 16
#include "substrate/cpu/rows.inc"

static void act(float *y, const float *gate, const float *up, uint32_t n, loam_act kind)
{
    (kind == LOAM_ACT_GELU ? rows_act : loami_avx512_act)(y, gate, up, n, kind);
}

void loami_kern_avx512(loami_kern *k)
{
    k->panel_rows = NR;
    k->quantise = loami_avx512_quantise;
    k->dot4 = loami_avx512_dot4;
    k->dot8 = loami_avx512_dot8;
    k->dots = loami_avx512_dots;
    k->dots_max = 8;
    k->dot_f = loami_avx512_dot_f;
    k->ahead = loami_avx512_ahead;
    k->unpack = loami_avx512_unpack;
    k->unpack_f = loami_avx512_unpack_f;
    k->dequant = loami_avx512_dequant;
    k->tile = loami_avx512_tile;
    k->tile_f = loami_avx512_tile_f;
    k->norm = rows_norm;
    k->act = act;
    k->axpy = rows_axpy;
    k->cap = rows_cap;
    k->quantise16 = loami_avx512_quantise16;
    k->softmax = loami_avx512_softmax;
    k->scores = loami_avx512_scores;
    k->values = loami_avx512_values;
}
