/* Llama 2 and 3.x (Touvron et al. 2023; Grattafiori et al. 2024), SmolLM2, and the many that share their layers. */
#include "model/families.h"

static int bind(loami_model *m, loam_err *err)
{
    return loami_bind_llama(m, false, err);
}

static loam_tensor forward(const loami_model *m)
{
    return loami_decoder_forward(m, loami_llama_block);
}

const loami_family loami_llama = { "llama", bind, forward };
