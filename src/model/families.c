#include "model/families.h"

extern const loami_family loami_gemma2, loami_gemma3_text, loami_gpt_oss, loami_granite, loami_llama, loami_ministral3, loami_mistral, loami_olmo2,
    loami_phi3, loami_qwen2, loami_qwen3, loami_qwen3_moe, loami_smollm3;

const loami_family *const loami_families[] = {
    &loami_gemma2,
    &loami_gemma3_text,
    &loami_gpt_oss,
    &loami_granite,
    &loami_llama,
    &loami_ministral3,
    &loami_mistral,
    &loami_olmo2,
    &loami_phi3,
    &loami_qwen2,
    &loami_qwen3,
    &loami_qwen3_moe,
    &loami_smollm3,
    NULL,
};
