/* substrate/cpu/kern.h: the kernels, as one table a kind of CPU.
 *
 * The scalar table is complete and is the slow twin that the others are tested against; faster tables are copies
 * of it with entries overwritten. All tables share the layouts below, but for panel_rows.
 *
 * Integer path (kernels.md has the arithmetic): weights w = s * q + b with unsigned codes q, activations x = a * c
 * with signed 8-bit codes c and one scale a for each of the weight's groups:
 *     y = sum over groups of  s * a * (q . c)  +  b * X,     X = a * sum of c
 * Float path: weights as floats, multiplied and added in float32. */
#ifndef LOAMI_KERN_H
#define LOAMI_KERN_H

#include "loam_substrate.h"

/* ---- weights --------------------------------------------------------------------------------------------- */

typedef enum loami_code { LOAMI_CODE_F32, LOAMI_CODE_F16, LOAMI_CODE_BF16, LOAMI_CODE_INT, LOAMI_CODE_FP4, LOAMI_CODE_FP8 } loami_code;
typedef enum loami_scale { LOAMI_SCALE_F32, LOAMI_SCALE_F16, LOAMI_SCALE_BF16, LOAMI_SCALE_E8M0, LOAMI_SCALE_E4M3 } loami_scale;

/* One matrix of one expert, rows as they lie in the file. */
typedef struct loami_mat {
    const uint8_t *data;        /* [rows] of row_bytes */
    const uint8_t *scales, *biases; /* [rows] of scale_bytes; biases NULL for the fp codes */
    size_t row_bytes, scale_bytes;
    uint32_t rows, cols;
    uint32_t bits, group;       /* group 0 when the weights are plain numbers */
    loami_code code;
    loami_scale scale;
} loami_mat;

/* The largest code; fp4's 16 values are 2 v + 12, see loami_mat_codes. */
static inline uint32_t loami_mat_top(const loami_mat *m)
{
    return m->code == LOAMI_CODE_FP4 ? 24 : (1u << m->bits) - 1;
}

/* Whether the integer path can take it: everything but plain numbers and 8-bit floats, which have no such codes. */
static inline bool loami_mat_is_int(const loami_mat *m)
{
    return m->code == LOAMI_CODE_INT || m->code == LOAMI_CODE_FP4;
}

/* ---- quantised activations -------------------------------------------------------------------------------- */

enum {
    LOAMI_BLOCK = 128,          /* inputs: rows of codes are padded with zeros to whole blocks */
    LOAMI_GROUP_MIN = 16,
};

/* The order of codes in a block. SPLIT is for 4-bit weights, where one byte holds two neighbours: first the 64
 * inputs with even numbers, then the 64 odd ones. */
typedef enum loami_order { LOAMI_NATURAL, LOAMI_SPLIT } loami_order;

static inline loami_order loami_mat_order(const loami_mat *m)
{
    return m->bits == 4 ? LOAMI_SPLIT : LOAMI_NATURAL;
}

typedef struct loami_acts {
    int8_t *codes;              /* [rows] of code_stride bytes */
    float *scale, *sum;         /* [rows] of group_stride floats: a and X of each group, zeros after the last */
    uint32_t code_stride, group_stride; /* multiples of LOAMI_BLOCK and of 16 */
} loami_acts;

/* ---- panels ------------------------------------------------------------------------------------------------- */

enum {
    LOAMI_PANEL_ROWS_MAX = 32,
    LOAMI_PANEL_K = 512,        /* inputs a panel holds at most: with its activations it stays in the first-level cache */
};

/* panel_rows rows of weights, turned so that their numbers for the same inputs lie side by side. */
typedef struct loami_panel {
    uint8_t *codes;             /* [k / 4][panel_rows][4]; SPLIT: of each 32 inputs first 4 quads of even ones,
                                   then 4 of odd ones */
    float *scale, *bias;        /* [k / group][panel_rows] */
    float *floats;              /* [k][panel_rows], float path */
    uint32_t k;                 /* a multiple of 32; codes beyond the matrix are 0 */
    uint32_t group, top;        /* top: the largest code there can be */
    loami_order order;
} loami_panel;

/* ---- attention ------------------------------------------------------------------------------------------------ */

enum { LOAMI_PAGE = 64 };       /* tokens a KV page holds */

/* Keys and values are 16-bit codes with one scale a token and head: as many bytes as f16, finer where it counts, and
 * integer multiply-adds take twice as many at a time as float ones. The largest code is chosen so that sums of
 * products of two codes stay within 32 bits: of dim products in q·k, of LOAMI_PAGE in p·v. */
enum { LOAMI_V_TOP = 4095, LOAMI_P_TOP = 8191, LOAMI_SUMS = 16 };
static inline uint32_t loami_k_top(uint32_t dim)
{
    uint32_t top = 8191;
    while ((uint64_t)top * top * dim > INT32_MAX) top--;
    return top;
}

/* Where dimension d of token t lies among a page's codes: pairs that are multiplied and added together are
 * neighbours. K is [dim / 2][LOAMI_PAGE][2], V is [LOAMI_PAGE / 2][dim][2]. */
static inline size_t loami_k_at(uint32_t d, uint32_t t)
{
    return ((size_t)(d / 2) * LOAMI_PAGE + t) * 2 + d % 2;
}
static inline size_t loami_v_at(uint32_t d, uint32_t t, uint32_t dim)
{
    return ((size_t)(t / 2) * dim + d) * 2 + t % 2;
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

typedef struct loami_kern {
    const char *name;           /* "avx512" */
    uint32_t panel_rows;

    /* One row of n floats to codes, scales and sums; codes up to code_stride and groups up to a multiple of 16 are
     * filled with zeros. Numbers too small for a float's reciprocal become 0. */
    void (*quantise)(int8_t *codes, float *scale, float *sum, const float *x, uint32_t n, uint32_t group, loami_order order);

    /* y[n] = rows [row, row + n) of a 4- or 8-bit CODE_INT matrix times one row of activations. */
    void (*dot4)(float *y, const loami_mat *w, uint32_t row, uint32_t n, const int8_t *codes, const float *scale, const float *sum);
    void (*dot8)(float *y, const loami_mat *w, uint32_t row, uint32_t n, const int8_t *codes, const float *scale, const float *sum);

    /* y[m][n], rows `stride` apart: the same for m rows of activations, of which weights are read once and as they lie. Of up to
     * dots_max rows (0: never) that is faster than panels. */
    void (*dots)(float *y, size_t stride, const loami_mat *w, uint32_t row, uint32_t n, const loami_acts *x, uint32_t m);
    uint32_t dots_max;

    /* Fills p with rows [row, row + n), inputs [k0, k0 + p->k rounded down to what there is). n may be less than
     * panel_rows: the rest is then anything. k0 is a multiple of LOAMI_BLOCK. Sets p->k, group and order. */
    void (*unpack)(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k);

    /* y[m][n] = base + m rows of activations (from the panel's first input on) times the panel. base is NULL for 0,
     * or laid out as y, which it may be. */
    void (*tile)(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const loami_acts *x, uint32_t m);

    /* Weights as floats: out[k] = inputs [k0, k0 + k) of a row. Any code. */
    void (*dequant)(float *out, const loami_mat *w, uint32_t row, uint32_t k0, uint32_t k);

    /* The same for panels of floats. */
    void (*unpack_f)(loami_panel *p, const loami_mat *w, uint32_t row, uint32_t n, uint32_t k0, uint32_t k);
    void (*tile_f)(float *y, const float *base, size_t stride, const loami_panel *p, uint32_t n, const float *x, size_t x_stride, uint32_t m);

    /* y[n] = rows of a plain matrix times x. */
    void (*dot_f)(float *y, const loami_mat *w, uint32_t row, uint32_t n, const float *x);

    /* Asks memory for what those three read first of rows [row, row + n): done before a wait, it hides the memory's answer. NULL: none. */
    void (*ahead)(const loami_mat *w, uint32_t row, uint32_t n);

    /* y = normed x; w and b [n] or NULL. In place is fine. */
    void (*norm)(float *y, const float *x, const float *w, const float *b, uint32_t n, const loam_norm *norm);
    void (*act)(float *y, const float *gate, const float *up, uint32_t n, loam_act act); /* y may be gate */
    void (*axpy)(float *y, const float *a, const float *b, float scale, uint32_t n);     /* y = a + scale * b */
    void (*cap)(float *y, const float *x, float scale, float cap, uint32_t n);

    /* n floats to codes of at most top and their scale; all 0 when one of them is not finite. */
    void (*quantise16)(int16_t *codes, float *scale, const float *x, uint32_t n, uint32_t top);

    /* s[nq][LOAMI_PAGE] = q_scale * k_scale * (q[nq][dim] . k); dim is a multiple of 16. */
    void (*scores)(float *s, const int16_t *q, const float *q_scale, const int16_t *k, const float *k_scale, uint32_t nq, uint32_t dim);

    /* Online softmax, to base 2, of one query: of s[LOAMI_PAGE], after the softcap unless that is 0, the numbers
     * [lo, hi) count. p * *p_scale becomes 2^(s - max) * v_scale, 0 outside; v_top is the largest v_scale of [0, hi).
     * *max and sum[LOAMI_SUMS] (partial sums of 2^(s - max)) go on. The return value is what sums of values so far
     * must be multiplied by. s is lost. */
    float (*softmax)(int16_t *p, float *p_scale, float *s, uint32_t lo, uint32_t hi, float softcap, const float *v_scale, float v_top,
                     float *max, float *sum);

    /* out[nq][dim] = rescale * out + p_scale * (p[nq][LOAMI_PAGE] . v), the first n tokens. */
    void (*values)(float *out, const float *rescale, const int16_t *p, const float *p_scale, const int16_t *v, uint32_t nq, uint32_t n,
                   uint32_t dim);
} loami_kern;

extern const loami_kern loami_kern_scalar;

/* The table for this machine, capped by cap ("scalar", "avx2", "avx512", "neon", "dotprod", "i8mm"; NULL = LOAM_CPU or no cap).
 * Static; never NULL. */
const loami_kern *loami_kern_pick(const char *cap);

/* Overwrite what their instruction set does better; each lives in its ISA's folder. */
void loami_kern_avx2(loami_kern *k);
void loami_kern_avx512(loami_kern *k);
void loami_kern_neon(loami_kern *k);
void loami_kern_dotprod(loami_kern *k);
void loami_kern_i8mm(loami_kern *k);

/* kern_scalar.c: help for tables. Scale and bias of group g of a row; the unsigned codes [k0, k0 + k) of a row, so
 * that w = scale * code + bias holds for the fp4 codes as well. */
void loami_mat_scale(const loami_mat *w, uint32_t row, uint32_t g, float *scale, float *bias);
void loami_mat_codes(uint8_t *out, const loami_mat *w, uint32_t row, uint32_t k0, uint32_t k);

/* Where input i lies within its row of codes. */
static inline uint32_t loami_code_at(uint32_t i, loami_order order)
{
    return order == LOAMI_NATURAL ? i : (i & ~127u) + (i & 1) * 64 + (i & 127) / 2;
}

#endif
