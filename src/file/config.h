/* file/config.h: a model's config.json as numbers, checked. Fields that a family does not have keep their zero. */
#ifndef LOAMI_CONFIG_H
#define LOAMI_CONFIG_H

#include "base/json.h"
#include "loam_substrate.h"

typedef struct loami_quant_config {
    loam_quant mode;          /* LOAM_Q_NONE: not quantised */
    uint32_t bits, group;
} loami_quant_config;

typedef struct loami_config {
    json_t *json;             /* the whole file, for what only one family reads */
    char family[64];          /* model_type */
    uint32_t dim, n_layers, ffn_dim;
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t vocab, context;  /* vocab_size, max_position_embeddings */
    float norm_eps;
    float rope_theta;
    bool tied;                /* tie_word_embeddings: the embedding is the output matrix too */
    bool attn_bias, mlp_bias;
    loami_quant_config quant; /* the default of "quantization" */
} loami_config;

/* Reads dir/config.json. Values are checked to be possible (dims > 0, products that fit 32 bits), not to match
 * the weights: binding does that. */
int loami_config_open(loami_config *out, const char *dir, loam_err *err);
void loami_config_close(loami_config *c);

/* Quantisation of the tensor path ("model.layers.0.mlp.up_proj"): its own entry in "quantization", else the
 * default. An entry `false` is LOAM_Q_NONE. */
int loami_config_quant(const loami_config *c, const char *path, loami_quant_config *out, loam_err *err);

#endif
