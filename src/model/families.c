#include "model/families.h"

extern const loami_family loami_llama, loami_mistral, loami_qwen2;

const loami_family *const loami_families[] = {
    &loami_llama,
    &loami_mistral,
    &loami_qwen2,
    NULL,
};
