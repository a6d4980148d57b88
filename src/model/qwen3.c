/* Qwen3, dense (Yang et al. 2025): Llama's layers with a norm on each head of q and k. */
#include "model/families.h"

static int bind(loami_model *m, loam_err *err)
{
    const loami_config *c = &m->config;
    int rc = loami_bind_llama(m, false, err);
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) rc = loami_bind_qk_norm(m, i, c->head_dim, c->head_dim, 0, err);
    return rc;
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_llama_block);
}

const loami_family loami_qwen3 = { "qwen3", bind, forward };
