/* What Gemma 2 and 3 share (Gemma Team 2024, 2025): norms of (1 + w) before and after each half of a layer. */
#include "model/families.h"

int loami_bind_gemma_layer(loami_model *m, uint32_t layer, const loam_rope *rope, loam_err *err)
{
    loami_layer *L = &m->layers[layer];
    const struct {
        loam_norm *norm;
        const char *path;
    } norms[] = { { &L->attn_norm, "input_layernorm" },
                  { &L->post_attn_norm, "post_attention_layernorm" },
                  { &L->ffn_norm, "pre_feedforward_layernorm" },
                  { &L->post_ffn_norm, "post_feedforward_layernorm" } };
    int rc = loami_bind_attention(m, layer, rope, err);
    for (size_t i = 0; rc == 0 && i < sizeof norms / sizeof norms[0]; i++)
        rc = loami_bind_norm(m, norms[i].norm, layer, norms[i].path, m->config.dim, 1, err);
    return rc < 0 ? rc : loami_bind_mlp(m, layer, err);
}

loam_tensor loami_gemma_block(const loami_model *m, uint32_t layer, loam_tensor x)
{
    const loami_machine *s = &m->machine;
    const loami_layer *L = &m->layers[layer];

    loam_tensor q = store(s, linear(s, norm(s, x, &L->attn_norm), L->qkv), layer, &L->heads);
    loam_tensor h = linear(s, attend(s, q, layer, &L->heads, &L->attn), L->o);
    x = add(s, x, norm(s, h, &L->post_attn_norm), 1);
    h = linear(s, glu(s, norm(s, x, &L->ffn_norm), L->gate_up, m->act), L->down);
    return add(s, x, norm(s, h, &L->post_ffn_norm), 1);
}
