/* Gemma 3's language model (Gemma Team 2025): five windowed layers with their own rope to one full layer, q/k norms. */
#include "base/half.h"
#include "model/families.h"

#include <math.h>

static int bind(loami_model *m, loam_err *err)
{
    const loami_config *c = &m->config;
    float per_head = 256, local_theta = 10000;
    uint32_t pattern = 6;
    loam_rope *local, *global;
    int rc = loami_json_float(c->json, "config.json", "query_pre_attn_scalar", 1e-3, 1e9, &per_head, err);
    if (rc >= 0) rc = loami_json_float(c->json, "config.json", "rope_local_base_freq", 1, 1e12, &local_theta, err);
    if (rc >= 0) rc = loami_json_u32(c->json, "config.json", "sliding_window_pattern", 1, 1024, &pattern, err);
    if (rc >= 0) rc = loami_rope_make(m, &local, c->head_dim, local_theta, NULL, err);
    if (rc >= 0) rc = loami_rope_make(m, &global, c->head_dim, c->rope_theta, loami_rope_scaling(c), err);
    if (rc >= 0) rc = loami_bind_ends(m, 1, err);
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) {
        loam_attn *attn = &m->layers[i].attn;
        bool sliding = (i + 1) % pattern != 0;
        rc = loami_bind_gemma_layer(m, i, sliding ? local : global, err);
        if (rc == 0) rc = loami_bind_qk_norm(m, i, c->head_dim, c->head_dim, 1, err);
        if (rc == 0) rc = loami_layer_window(c, i, sliding, &attn->window, err);
        attn->scale = 1 / sqrtf(per_head);
    }
    m->act = LOAM_ACT_GELU_TANH;
    m->embed_scale = loami_from_bf16(loami_to_bf16(sqrtf((float)c->dim))); /* rounded in all types, as it was trained */
    return rc;
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_gemma_block);
}

const loami_family loami_gemma3_text = { "gemma3_text", bind, forward };
