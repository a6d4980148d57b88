/* file/config.h: a model's config.json as numbers, checked. Fields that a family does not have keep their
 * zero. */
#ifndef LOAMI_CONFIG_H
#define LOAMI_CONFIG_H

#include "base/json.h"
#include "loam_substrate.h"

typedef struct loami_quant_config {
    loam_quant mode; /* LOAM_Q_NONE: not quantised */
    uint32_t bits, group;
} loami_quant_config;

typedef struct loami_config {
    json_t *root; /* the whole file; owned */
    json_t *json; /* the language model's object, for what only one family reads: root, or its "text_config"
                     where a model of several modalities nests it; belongs to root */
    char family[64]; /* json's model_type */
    uint32_t dim, n_layers, ffn_dim;
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t vocab, context; /* vocab_size; max_position_embeddings, 0 = not stated */
    float norm_eps;          /* rms_norm_eps (layer_norm_eps); 1e-5 if not stated, as in mlx-lm's families */
    float rope_theta;        /* also from "rope_parameters"; 10000 if not stated */
    bool tied; /* tie_word_embeddings: the embedding is the output matrix too; true if not stated */
    bool attn_bias, mlp_bias;
    loami_quant_config quant; /* the default of "quantization" */
} loami_config;

/* Reads dir/config.json. Values are checked to be possible (dims > 0, products that fit 32 bits), not to
 * match the weights: binding does that. */
int loami_config_open(loami_config *out, const char *dir, loam_err *err);
/* The same from n bytes of text; what names it in messages. */
int loami_config_parse(loami_config *out, const char *text, size_t n, const char *what, loam_err *err);
void loami_config_close(loami_config *c);

/* Quantisation of the tensor path ("model.layers.0.mlp.up_proj"): its own entry in "quantization", else the
 * default. An entry `false` is LOAM_Q_NONE. mlx-lm applies the default only where path.scales exists. */
int loami_config_quant(const loami_config *c, const char *path, loami_quant_config *out, loam_err *err);

/* "affine", "mxfp4", ... as config.json has it; NULL for LOAM_Q_NONE. */
const char *loami_quant_name(loam_quant mode);

/* The mode of that name with the bits and group size it has by default (affine: 4 bits, group 64; the others
 * have one choice only). False when there is none. */
bool loami_quant_find(loami_quant_config *out, const char *name);

/* Whether MLX packs weights so; says in words why not. */
int loami_quant_check(const loami_quant_config *q, const char *what, loam_err *err);

#endif
