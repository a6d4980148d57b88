/* Gemma 2 (Gemma Team 2024): capped scores and logits, every other layer with a window. */
#include "model/families.h"

#include <math.h>

static int bind(loami_model *m, loam_err *err)
{
    const loami_config *c = &m->config;
    float attn_cap = 50, logit_cap = 30, per_head = 144;
    loam_rope *rope;
    int rc = loami_json_float(c->json, "config.json", "attn_logit_softcapping", 0, 1e9, &attn_cap, err);
    if (rc >= 0) rc = loami_json_float(c->json, "config.json", "final_logit_softcapping", 0, 1e9, &logit_cap, err);
    if (rc >= 0) rc = loami_json_float(c->json, "config.json", "query_pre_attn_scalar", 1e-3, 1e9, &per_head, err);
    if (rc >= 0) rc = loami_rope_make(m, &rope, c->head_dim, c->rope_theta, NULL, err);
    if (rc >= 0) rc = loami_bind_ends(m, 1, err);
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) {
        loam_attn *attn = &m->layers[i].attn;
        rc = loami_bind_gemma_layer(m, i, rope, err);
        if (rc == 0) rc = loami_layer_window(c, i, i % 2 == 0, &attn->window, err);
        attn->scale = 1 / sqrtf(per_head);
        attn->softcap = attn_cap;
    }
    if (rc < 0) return rc;
    m->act = LOAM_ACT_GELU_TANH;
    m->embed_scale = sqrtf((float)c->dim);
    m->logit_cap = logit_cap;
    return 0;
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_gemma_block);
}

const loami_family loami_gemma2 = { "gemma2", bind, forward };
