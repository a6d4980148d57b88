/* SmolLM3 (Hugging Face 2025): Llama's layers, some of them without rotary embedding. */
#include "model/families.h"

#include <string.h>

static int bind(loami_model *m, loam_err *err)
{
    const loami_config *c = &m->config;
    const json_t *ropes = json_object_get(c->json, "no_rope_layers"); /* 1: this layer does have rope */
    uint32_t every = 4;
    int rc = loami_json_u32(c->json, "config.json", "no_rope_layer_interval", 1, 65536, &every, err);
    if (rc >= 0) rc = loami_bind_llama(m, false, err);
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) {
        bool rope = (i + 1) % every != 0;
        if (json_is_array(ropes)) rope = json_integer_value(json_array_get(ropes, i)) != 0;
        if (!rope) m->layers[i].heads.rope = NULL;
    }
    return rc;
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_llama_block);
}

const loami_family loami_smollm3 = { "smollm3", bind, forward };
