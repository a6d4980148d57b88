/* Qwen3 with experts (Yang et al. 2025): Qwen3's attention, and in all or some layers a mixture of experts. */
#include "model/families.h"

typedef struct experts {
    uint32_t n, top_k, ffn, every;
    bool renormalise;
} experts;

static int read_experts(const loami_config *c, experts *x, loam_err *err)
{
    *x = (experts){ .every = 1 };
    int rc = loami_json_u32(c->json, "config.json", "num_experts", 0, 65536, &x->n, err);
    if (rc >= 0) rc = loami_json_u32(c->json, "config.json", "num_experts_per_tok", 1, 65536, &x->top_k, err);
    if (rc >= 0) rc = loami_json_u32(c->json, "config.json", "moe_intermediate_size", 1, 1u << 24, &x->ffn, err);
    if (rc >= 0) rc = loami_json_u32(c->json, "config.json", "decoder_sparse_step", 1, 65536, &x->every, err);
    if (rc >= 0) rc = loami_json_bool(c->json, "config.json", "norm_topk_prob", &x->renormalise, err);
    return rc < 0 ? rc : 0;
}

static bool is_sparse(const loami_config *c, const experts *x, uint32_t layer)
{
    const json_t *dense = json_object_get(c->json, "mlp_only_layers");
    for (size_t i = 0; i < json_array_size(dense); i++)
        if (json_integer_value(json_array_get(dense, i)) == (json_int_t)layer) return false;
    return x->n > 0 && (layer + 1) % x->every == 0;
}

static int bind_layer(loami_model *m, uint32_t i, const experts *x, const loam_rope *rope, loam_err *err)
{
    const loami_config *c = &m->config;
    loami_layer *L = &m->layers[i];
    int rc = loami_bind_norm(m, &L->attn_norm, i, "input_layernorm", c->dim, 0, err);
    if (rc == 0) rc = loami_bind_attention(m, i, rope, err);
    if (rc == 0) rc = loami_bind_qk_norm(m, i, c->head_dim, c->head_dim, 0, err);
    if (rc == 0) rc = loami_bind_norm(m, &L->ffn_norm, i, "post_attention_layernorm", c->dim, 0, err);
    if (rc < 0 || !is_sparse(c, x, i)) return rc < 0 ? rc : loami_bind_mlp(m, i, err);
    L->moe = (loam_moe){ .top_k = x->top_k, .how = LOAM_ROUTE_SOFTMAX_TOPK, .renormalise = x->renormalise };
    return loami_bind_experts(m, i, "mlp.gate", "mlp.switch_mlp", x->n, x->ffn, err);
}

static int bind(loami_model *m, loam_err *err)
{
    const loami_config *c = &m->config;
    experts x;
    loam_rope *rope;
    int rc = read_experts(c, &x, err);
    if (rc == 0) rc = loami_rope_make(m, &rope, c->head_dim, c->rope_theta, loami_rope_scaling(c), err);
    if (rc == 0) rc = loami_bind_ends(m, 0, err);
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) rc = bind_layer(m, i, &x, rope, err);
    return rc;
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_llama_block);
}

const loami_family loami_qwen3_moe = { "qwen3_moe", bind, forward };
