/* Qwen2 and Qwen2.5 (Yang et al. 2024): Llama's layers with biases on q, k and v, which binding takes from the file. */
#include "model/families.h"

static int bind(loami_model *m, loam_err *err)
{
    return loami_bind_llama(m, false, err);
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_llama_block);
}

const loami_family loami_qwen2 = { "qwen2", bind, forward };
