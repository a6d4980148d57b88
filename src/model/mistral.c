/* Mistral 7B (Jiang et al. 2023): Llama's layers, each with the same sliding window where the config has one. */
#include "model/families.h"

static int bind(loami_model *m, loam_err *err)
{
    return loami_bind_llama(m, true, err);
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_llama_block);
}

const loami_family loami_mistral = { "mistral", bind, forward };
