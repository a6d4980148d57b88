/* gpt-oss (OpenAI 2025): experts in every layer, attention sinks, every other layer with a window. */
#include "model/families.h"

static int bind_layer(loami_model *m, uint32_t i, uint32_t n_experts, uint32_t top_k, const loam_rope *rope, loam_err *err)
{
    const loami_config *c = &m->config;
    loami_layer *L = &m->layers[i];
    loam_weight *sinks;
    int rc = loami_bind_norm(m, &L->attn_norm, i, "input_layernorm", c->dim, 0, err);
    if (rc == 0) rc = loami_bind_attention(m, i, rope, err);
    if (rc == 0) rc = loami_layer_window(c, i, i % 2 == 0, &L->attn.window, err);
    if (rc == 0) rc = loami_bind(m, &sinks, i, c->n_heads, 1, &(loami_part){ "self_attn.sinks", 1, 0, 0 }, 1, err);
    if (rc == 0) rc = loami_bind_norm(m, &L->ffn_norm, i, "post_attention_layernorm", c->dim, 0, err);
    if (rc < 0) return rc;
    L->attn.sinks = sinks;
    L->moe = (loam_moe){ .top_k = top_k, .how = LOAM_ROUTE_TOPK_SOFTMAX, .act = LOAM_ACT_SWIGLU_OAI };
    return loami_bind_experts(m, i, "mlp.router", "mlp.experts", n_experts, c->ffn_dim, err);
}

static int bind(loami_model *m, loam_err *err)
{
    const loami_config *c = &m->config;
    uint32_t n_experts = 128, top_k = 4;
    loam_rope *rope;
    int rc = loami_json_u32(c->json, "config.json", "num_local_experts", 1, 65536, &n_experts, err);
    if (rc >= 0) rc = loami_json_u32(c->json, "config.json", "num_experts_per_tok", 1, 65536, &top_k, err);
    if (rc >= 0) rc = loami_rope_make(m, &rope, c->head_dim, c->rope_theta, loami_rope_scaling(c), err);
    if (rc >= 0) rc = loami_bind_ends(m, 0, err);
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) rc = bind_layer(m, i, n_experts, top_k, rope, err);
    return rc;
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_llama_block);
}

const loami_family loami_gpt_oss = { "gpt_oss", bind, forward };
