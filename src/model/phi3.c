/* Phi-3 and Phi-4 (Abdin et al. 2024): Llama's layers with q, k, v and gate, up each stored as one matrix. */
#include "model/families.h"

#include <math.h>

static int bind_layer(loami_model *m, uint32_t i, const loam_rope *rope, loam_err *err)
{
    const loami_config *c = &m->config;
    loami_layer *L = &m->layers[i];
    uint32_t q = c->n_heads * c->head_dim, all = q + 2 * c->n_kv_heads * c->head_dim, ffn = c->ffn_dim;
    const loami_part qkv = { "self_attn.qkv_proj", all, 0, 0 }, o = { "self_attn.o_proj", c->dim, 0, 0 };
    const loami_part gate_up[] = { { "mlp.gate_up_proj", ffn, 0, 2 * ffn }, { "mlp.gate_up_proj", ffn, ffn, 2 * ffn } };
    const loami_part down = { "mlp.down_proj", c->dim, 0, 0 };

    L->heads = (loam_heads){ .n_q = c->n_heads, .n_kv = c->n_kv_heads, .head_dim = c->head_dim, .rope = rope };
    L->attn = (loam_attn){ .scale = 1 / sqrtf((float)c->head_dim) };
    int rc = loami_bind_norm(m, &L->attn_norm, i, "input_layernorm", c->dim, 0, err);
    if (rc == 0) rc = loami_bind(m, &L->qkv, i, c->dim, 1, &qkv, 1, err);
    if (rc == 0) rc = loami_bind(m, &L->o, i, q, 1, &o, 1, err);
    if (rc == 0) rc = loami_bind_norm(m, &L->ffn_norm, i, "post_attention_layernorm", c->dim, 0, err);
    if (rc == 0) rc = loami_bind(m, &L->gate_up, i, c->dim, 1, gate_up, 2, err);
    if (rc == 0) rc = loami_bind(m, &L->down, i, ffn, 1, &down, 1, err);
    return rc < 0 ? rc : loami_layer_window(c, i, true, &L->attn.window, err);
}

static int bind(loami_model *m, loam_err *err)
{
    const loami_config *c = &m->config;
    float part = 1;
    loam_rope *rope;
    int rc = loami_json_float(c->json, "config.json", "partial_rotary_factor", 0.01, 1, &part, err);
    if (rc >= 0) rc = loami_rope_make(m, &rope, (uint32_t)((float)c->head_dim * part), c->rope_theta, loami_rope_scaling(c), err);
    if (rc >= 0) rc = loami_bind_ends(m, 0, err);
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) rc = bind_layer(m, i, rope, err);
    return rc;
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_llama_block);
}

const loami_family loami_phi3 = { "phi3", bind, forward };
