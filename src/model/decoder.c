#include "base/err.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int loami_bind_attention(loami_model *m, uint32_t layer, const loam_rope *rope, loam_err *err)
{
    const loami_config *c = &m->config;
    loami_layer *L = &m->layers[layer];
    uint32_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    const loami_part qkv[] = { { "self_attn.q_proj", q, 0, 0 }, { "self_attn.k_proj", kv, 0, 0 }, { "self_attn.v_proj", kv, 0, 0 } };
    const loami_part o = { "self_attn.o_proj", c->dim, 0, 0 };

    L->heads = (loam_heads){ .n_q = c->n_heads, .n_kv = c->n_kv_heads, .head_dim = c->head_dim, .rope = rope };
    L->attn = (loam_attn){ .scale = 1 / sqrtf((float)c->head_dim) };
    int rc = loami_bind(m, &L->qkv, layer, c->dim, 1, qkv, 3, err);
    return rc < 0 ? rc : loami_bind(m, &L->o, layer, q, 1, &o, 1, err);
}

int loami_bind_mlp(loami_model *m, uint32_t layer, loam_err *err)
{
    const loami_config *c = &m->config;
    loami_layer *L = &m->layers[layer];
    const loami_part gate_up[] = { { "mlp.gate_proj", c->ffn_dim, 0, 0 }, { "mlp.up_proj", c->ffn_dim, 0, 0 } };
    const loami_part down = { "mlp.down_proj", c->dim, 0, 0 };

    int rc = loami_bind(m, &L->gate_up, layer, c->dim, 1, gate_up, 2, err);
    return rc < 0 ? rc : loami_bind(m, &L->down, layer, c->ffn_dim, 1, &down, 1, err);
}

int loami_bind_llama_layer(loami_model *m, uint32_t layer, const loam_rope *rope, loam_err *err)
{
    loami_layer *L = &m->layers[layer];
    int rc = loami_bind_norm(m, &L->attn_norm, layer, "input_layernorm", m->config.dim, 0, err);
    if (rc == 0) rc = loami_bind_attention(m, layer, rope, err);
    if (rc == 0) rc = loami_bind_norm(m, &L->ffn_norm, layer, "post_attention_layernorm", m->config.dim, 0, err);
    return rc < 0 ? rc : loami_bind_mlp(m, layer, err);
}

int loami_bind_llama(loami_model *m, bool sliding, loam_err *err)
{
    const loami_config *c = &m->config;
    loam_rope *rope;
    int rc = loami_rope_make(m, &rope, c->head_dim, c->rope_theta, loami_rope_scaling(c), err);
    if (rc == 0) rc = loami_json_bool(c->json, "config.json", "rope_traditional", &rope->interleaved, err);
    if (rc >= 0) rc = loami_bind_ends(m, 0, err);
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) {
        rc = loami_bind_llama_layer(m, i, rope, err);
        if (rc == 0) rc = loami_layer_window(c, i, sliding, &m->layers[i].attn.window, err);
    }
    return rc;
}

int loami_bind_qk_norm(loami_model *m, uint32_t layer, uint32_t nq, uint32_t nk, float offset, loam_err *err)
{
    loami_layer *L = &m->layers[layer];
    int rc = loami_bind_norm(m, &L->q_norm, layer, "self_attn.q_norm", nq, offset, err);
    if (rc == 0) rc = loami_bind_norm(m, &L->k_norm, layer, "self_attn.k_norm", nk, offset, err);
    L->heads.q_norm = &L->q_norm;
    L->heads.k_norm = &L->k_norm;
    return rc;
}

int loami_bind_experts(loami_model *m, uint32_t layer, const char *router, const char *path, uint32_t n_experts, uint32_t ffn, loam_err *err)
{
    const uint32_t dim = m->config.dim;
    loam_moe *moe = &m->layers[layer].moe;
    loam_weight *w[3];
    char gate[128], up[128], down[128];
    snprintf(gate, sizeof gate, "%s.gate_proj", path);
    snprintf(up, sizeof up, "%s.up_proj", path);
    snprintf(down, sizeof down, "%s.down_proj", path);
    const loami_part choose = { router, n_experts, 0, 0 }, both[] = { { gate, ffn, 0, 0 }, { up, ffn, 0, 0 } }, out = { down, dim, 0, 0 };

    if (moe->top_k == 0 || moe->top_k > n_experts)
        return loami_fail(err, LOAM_E_FORMAT, "config.json: %u of %u experts a token", moe->top_k, n_experts);
    int rc = loami_bind(m, &w[0], layer, dim, 1, &choose, 1, err);
    if (rc == 0) rc = loami_bind(m, &w[1], layer, dim, n_experts, both, 2, err);
    if (rc == 0) rc = loami_bind(m, &w[2], layer, ffn, n_experts, &out, 1, err);
    if (rc < 0) return rc;
    moe->router = w[0];
    moe->gate_up = w[1];
    moe->down = w[2];
    return 0;
}

loam_tensor loami_llama_block(const loami_model *m, uint32_t layer, loam_tensor x)
{
    const loami_machine *s = &m->machine;
    const loami_layer *L = &m->layers[layer];

    loam_tensor h = norm(s, x, &L->attn_norm);
    loam_tensor q = store(s, linear(s, h, L->qkv), layer, &L->heads);
    x = add(s, x, linear(s, attend(s, q, layer, &L->heads, &L->attn), L->o), m->residual_scale);
    h = norm(s, x, &L->ffn_norm);
    h = L->moe.router ? moe(s, h, &L->moe) : linear(s, glu(s, h, L->gate_up, m->act), L->down);
    return add(s, x, h, m->residual_scale);
}

loam_tensor loami_decoder_forward(const loami_model *m, loam_tensor (*block)(const loami_model *m, uint32_t layer, loam_tensor x))
{
    const loami_machine *s = &m->machine;
    loam_tensor x = embed(s, m->embed, m->embed_scale);
    for (uint32_t i = 0; i < m->config.n_layers; i++) x = block(m, i, x);
    x = norm(s, gather(s, x), &m->final_norm);
    if (m->hidden) return x;
    x = linear(s, x, m->head);
    bool plain = m->logit_scale == 1 && m->logit_cap == 0;
    return plain ? x : cap(s, x, m->logit_scale, m->logit_cap);
}

int loami_layer_window(const loami_config *c, uint32_t layer, bool default_sliding, uint32_t *window, loam_err *err)
{
    const json_t *types = json_object_get(c->json, "layer_types");
    uint32_t size = 0;
    *window = 0;
    int rc = loami_json_u32(c->json, "config.json", "sliding_window", 1, 1u << 30, &size, err);
    if (rc < 0) return rc;
    bool sliding = default_sliding;
    if (json_is_array(types)) {
        const char *type = json_string_value(json_array_get(types, layer));
        if (!type) return loami_fail(err, LOAM_E_FORMAT, "config.json: \"layer_types\" has no string for layer %u", layer);
        sliding = strcmp(type, "sliding_attention") == 0;
        if (!sliding && strcmp(type, "full_attention") != 0)
            return loami_fail(err, LOAM_E_UNSUPPORTED, "config.json: layers of type \"%s\" are not supported", type);
    }
    if (sliding && size == 0) return default_sliding ? 0 : loami_fail(err, LOAM_E_FORMAT, "config.json: \"sliding_window\" is missing");
    if (sliding) *window = size;
    return 0;
}
