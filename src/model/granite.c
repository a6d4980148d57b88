/* Granite 3 (IBM 2024): Llama's layers with multipliers on embedding, attention, residuals and logits. */
#include "model/families.h"

static int bind(loami_model *m, loam_err *err)
{
    const loami_config *c = &m->config;
    float attention = 1, logits = 1;
    int rc = loami_bind_llama(m, false, err);
    if (rc >= 0) rc = loami_json_float(c->json, "config.json", "embedding_multiplier", -1e6, 1e6, &m->embed_scale, err);
    if (rc >= 0) rc = loami_json_float(c->json, "config.json", "residual_multiplier", -1e6, 1e6, &m->residual_scale, err);
    if (rc >= 0) rc = loami_json_float(c->json, "config.json", "attention_multiplier", 0, 1e6, &attention, err);
    if (rc >= 0) rc = loami_json_float(c->json, "config.json", "logits_scaling", 1e-6, 1e6, &logits, err);
    if (rc < 0) return rc;
    for (uint32_t i = 0; i < c->n_layers; i++) m->layers[i].attn.scale = attention;
    m->logit_scale = 1 / logits;
    return 0;
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_llama_block);
}

const loami_family loami_granite = { "granite", bind, forward };
