/* Ministral 3 (Mistral AI 2025): Llama's layers, some windowed; queries grow with the logarithm of their position. */
#include "model/families.h"

static int bind(loami_model *m, loam_err *err)
{
    const json_t *rope = json_object_get(m->config.json, "rope_parameters");
    float growth = 0;
    uint32_t every = 0;
    int rc = loami_bind_llama(m, false, err);
    if (rc >= 0) rc = loami_json_float(rope, "config.json: rope_parameters", "llama_4_scaling_beta", 0, 1e3, &growth, err);
    if (rc >= 0) rc = loami_json_u32(rope, "config.json: rope_parameters", "original_max_position_embeddings", 1, 1u << 30, &every, err);
    if (rc < 0) return rc;
    for (uint32_t i = 0; growth > 0 && i < m->config.n_layers; i++) {
        m->layers[i].heads.q_growth = growth;
        m->layers[i].heads.q_growth_tokens = every;
    }
    return 0;
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_llama_block);
}

const loami_family loami_ministral3 = { "ministral3", bind, forward };
