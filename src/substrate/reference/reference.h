/* substrate/reference/reference.h: the substrate that is obviously right.
 *
 * It computes at once, in order, one number at a time: sums in double, values between operations in float32,
 * weights dequantised row by row as they are used. No cleverness: others are held against it. */
#ifndef LOAMI_REFERENCE_H
#define LOAMI_REFERENCE_H

#include "base/arena.h"
#include "substrate/dequant.h"

struct loam_weight {
    loam_weight *next;           /* all weights of a substrate, for close */
    uint32_t n_parts, cols, rows; /* rows: of all parts together */
    loam_matrix part[];          /* [n_parts] */
};

typedef struct loami_ref_tensor {
    uint32_t rows, cols;
    float *data;                 /* [rows][cols], of the step's arena */
} loami_ref_tensor;

typedef struct loami_ref_picks {
    int32_t *ids;                /* [n] */
    uint32_t n;
} loami_ref_picks;

enum { LOAMI_REF_TENSORS = 16384, LOAMI_REF_PAGE = 16 /* tokens: small, so that tests cross pages */ };

struct loam_sub {
    loam_weight *weights;
    loam_kv_config kv;
    float *k, *v;                /* [layer][its group's pages][page_tokens][n_kv][head_dim] */
    size_t *layer;               /* [kv.n_layers] pages before it */
    const loam_batch *batch;
    const int32_t *tokens;       /* [batch->n_rows] of the batch, or picked */
    loami_arena step;
    loami_ref_tensor tensor[LOAMI_REF_TENSORS];
    uint32_t n_tensors;
    const char *failed;          /* why this step is lost, or NULL */
    loami_ref_picks picks[2];    /* of the steps launched and not collected, and of this one */
    uint32_t n_picks;
};

/* A new tensor of this step, zeroed; LOAM_NO_TENSOR (and failed) when there is no memory. */
loam_tensor loami_ref_new(loam_sub *s, uint32_t rows, uint32_t cols, float **data);

/* The tensor, or NULL when an operation before it failed. */
const loami_ref_tensor *loami_ref_get(loam_sub *s, loam_tensor t);

/* y[w->rows] = W x + bias for one row of inputs; false when memory ran out. */
bool loami_ref_matvec(const loam_weight *w, uint32_t expert, const float *x, float *y);

/* Norms n numbers in place. */
void loami_ref_norm_row(const loam_norm *norm, float *x, uint32_t n);

float loami_ref_act(loam_act act, float gate, float up);

/* attention.c */
loam_tensor loami_ref_store(loam_sub *s, loam_tensor qkv, uint32_t layer, const loam_heads *heads);
loam_tensor loami_ref_attend(loam_sub *s, loam_tensor q, uint32_t layer, const loam_heads *heads, const loam_attn *attn);

/* pick.c */
void loami_ref_pick(loam_sub *s, loam_tensor x, const loam_pick *how);
int loami_ref_launch(loam_sub *s, loam_err *err);
int loami_ref_collect(loam_sub *s, int32_t *tokens, loam_err *err);

/* moe.c */
loam_tensor loami_ref_moe(loam_sub *s, loam_tensor x, const loam_moe *moe);

#endif
