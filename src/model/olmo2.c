/* OLMo 2 (OLMo Team 2025): norms after each half instead of before, and over all of q and all of k. */
#include "model/families.h"

static int bind(loami_model *m, loam_err *err)
{
    const loami_config *c = &m->config;
    loam_rope *rope;
    int rc = loami_rope_make(m, &rope, c->head_dim, c->rope_theta, loami_rope_scaling(c), err);
    if (rc == 0) rc = loami_bind_ends(m, 0, err);
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) {
        loami_layer *L = &m->layers[i];
        rc = loami_bind_attention(m, i, rope, err);
        if (rc == 0) rc = loami_bind_qk_norm(m, i, c->n_heads * c->head_dim, c->n_kv_heads * c->head_dim, 0, err);
        if (rc == 0) rc = loami_bind_norm(m, &L->post_attn_norm, i, "post_attention_layernorm", c->dim, 0, err);
        if (rc == 0) rc = loami_bind_norm(m, &L->post_ffn_norm, i, "post_feedforward_layernorm", c->dim, 0, err);
        if (rc == 0) rc = loami_bind_mlp(m, i, err);
    }
    return rc;
}

static loam_tensor block(const loami_model *m, uint32_t layer, loam_tensor x)
{
    const loami_machine *s = &m->machine;
    const loami_layer *L = &m->layers[layer];

    loam_tensor q = store(s, linear(s, x, L->qkv), layer, &L->heads);
    loam_tensor h = linear(s, attend(s, q, layer, &L->heads, &L->attn), L->o);
    x = add(s, x, norm(s, h, &L->post_attn_norm), 1);
    h = linear(s, glu(s, x, L->gate_up, m->act), L->down);
    return add(s, x, norm(s, h, &L->post_ffn_norm), 1);
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, block);
}

const loami_family loami_olmo2 = { "olmo2", bind, forward };
