/* model/model.h: a model bound to a substrate: config, weights, and the family that knows its forward pass.
 *
 * A family is one file named after config.json's model_type. It binds each layer's weights and describes its
 * attention (bind), and it strings operations together (forward). It never asks which substrate it runs on. */
#ifndef LOAMI_MODEL_H
#define LOAMI_MODEL_H

#include "base/arena.h"
#include "file/config.h"
#include "file/safetensors.h"
#include "model/ops.h"

/* What a decoder layer may have; a family uses the fields it needs. */
typedef struct loami_layer {
    loam_norm attn_norm, ffn_norm;           /* before attention and feed-forward */
    loam_norm post_attn_norm, post_ffn_norm; /* after them (Gemma, OLMo 2) */
    loam_norm q_norm, k_norm;
    loam_weight *qkv;                        /* q, k, v side by side */
    loam_weight *o;
    loam_weight *gate_up, *down;
    loam_heads heads;
    loam_attn attn;
    loam_moe moe;                            /* router NULL: a dense layer */
} loami_layer;

typedef struct loami_model loami_model;

typedef struct loami_family {
    const char *model_type;
    int (*bind)(loami_model *m, loam_err *err);
    loam_tensor (*forward)(const loami_model *m); /* the wanted rows' logits [n_wanted][vocab] of the step begun, or see
                                                     loami_model.hidden */
} loami_family;

struct loami_model {
    loami_config config;
    const loami_family *family;
    loami_machine machine;
    loami_weights *weights;
    loam_weight *embed, *head;   /* head is embed when tied */
    loam_norm final_norm;
    loami_layer *layers;         /* [config.n_layers] */
    float embed_scale;           /* of the embedding: 1 unless the family says otherwise */
    float residual_scale;        /* of what is added to the residual stream: likewise */
    float logit_scale, logit_cap; /* see loam_substrate.cap: 1 and 0 */
    loam_act act;
    bool hidden;                 /* forward gives the final norm's output [n_wanted][dim], not logits. Between steps */
    loami_arena arena;           /* layers, names, rope tables */
    uint64_t parameters, weight_bytes, active_bytes;
};

/* Opens the folder's config and weights, finds the family by model_type, binds everything to an open substrate
 * (borrowed). LOAM_E_UNSUPPORTED names what can't be run. */
int loami_model_open(loami_model **out, const char *dir, loami_machine machine, loam_err *err);
void loami_model_close(loami_model *m);

/* A number that other weights or another config would not have (identity.c). Reads a little of every tensor. */
uint64_t loami_model_identity(const loami_model *m);

/* ---- binding, for family files (bind.c) ----------------------------------------------------------------- */

/* One matrix to bind: path is the name in the file without ".weight" (or the whole name, where it has no such end). */
typedef struct loami_part {
    const char *path;            /* "self_attn.q_proj" below the layer, or whole when layer is LOAMI_NO_LAYER */
    uint32_t rows;
    uint32_t first, of;          /* rows [first, first + rows) of a tensor with `of` rows; of 0: the whole */
} loami_part;

#define LOAMI_NO_LAYER UINT32_MAX

/* Binds parts side by side as one weight of cols inputs and n_experts (1: ordinary). Quantised or plain as the
 * file has it; ".bias" is taken along where there is one. A missing tensor or a wrong shape is LOAM_E_FORMAT. */
int loami_bind(loami_model *m, loam_weight **out, uint32_t layer, uint32_t cols, uint32_t n_experts, const loami_part *parts,
               uint32_t n_parts, loam_err *err);

/* Binds a vector as a norm: eps from the config, offset as given. */
int loami_bind_norm(loami_model *m, loam_norm *out, uint32_t layer, const char *path, uint32_t n, float offset, loam_err *err);

/* Embedding, final norm ("model.norm") and head (lm_head, or the embedding when tied or absent). */
int loami_bind_ends(loami_model *m, float norm_offset, loam_err *err);

/* ---- parts that families share (decoder.c) -------------------------------------------------------------- */

/* Binds what a Llama-like layer has: input_layernorm, q/k/v/o projections, post_attention_layernorm,
 * gate/up/down; heads and attention scale from the config, rope from its rope settings. */
int loami_bind_llama_layer(loami_model *m, uint32_t layer, const loam_rope *rope, loam_err *err);
int loami_bind_llama(loami_model *m, bool sliding, loam_err *err); /* ends, rope, and every layer like that; see
                                                                      loami_layer_window for sliding */
int loami_bind_attention(loami_model *m, uint32_t layer, const loam_rope *rope, loam_err *err);
int loami_bind_mlp(loami_model *m, uint32_t layer, loam_err *err);

/* q_norm and k_norm of nq and nk numbers: head_dim each for a norm a head, or all heads' together. */
int loami_bind_qk_norm(loami_model *m, uint32_t layer, uint32_t nq, uint32_t nk, float offset, loam_err *err);

/* Experts "PATH.gate_proj", ".up_proj", ".down_proj" of ffn inner size, stacked, and their router; L->moe's top_k must be
 * set before. */
int loami_bind_experts(loami_model *m, uint32_t layer, const char *router, const char *path, uint32_t n_experts, uint32_t ffn, loam_err *err);

/* x + attention(norm x), then + feed-forward(norm x): the block of Llama and its kin. */
loam_tensor loami_llama_block(const loami_model *m, uint32_t layer, loam_tensor x);

/* Gemma's block: norms before and after both halves. */
loam_tensor loami_gemma_block(const loami_model *m, uint32_t layer, loam_tensor x);
int loami_bind_gemma_layer(loami_model *m, uint32_t layer, const loam_rope *rope, loam_err *err);

/* Embedding, `block` for every layer, final norm, and unless m->hidden the head. */
loam_tensor loami_decoder_forward(const loami_model *m, loam_tensor (*block)(const loami_model *m, uint32_t layer, loam_tensor x));

/* The window of a layer, 0 = full attention: from layer_types and sliding_window; where there are no layer_types,
 * every layer slides if default_sliding (and the config has a window), otherwise none does. */
int loami_layer_window(const loami_config *c, uint32_t layer, bool default_sliding, uint32_t *window, loam_err *err);

/* ---- rotary embedding (rope.c) --------------------------------------------------------------------------- */

/* A rope of `dims` from base theta and the config's rope_scaling (or rope_parameters): default, linear, llama3,
 * yarn, longrope. An unknown type is refused by name. The tables are the model's. */
int loami_rope_make(loami_model *m, loam_rope **out, uint32_t dims, float theta, const json_t *scaling, loam_err *err);

/* The config's own scaling object, or NULL. */
const json_t *loami_rope_scaling(const loami_config *c);

#endif
