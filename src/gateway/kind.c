#include "gateway/config.h"

#include <string.h>

static const loami_kind kinds[] = {
    { "openai", "/v1/models", NULL, false, false, false },
    { "loam", "/health", "loam", true, true, false },
    { "vllm", "/health", "vllm", false, true, false },
    { "sglang", "/health", "sglang", false, true, false },
    { "llama.cpp", "/health", "llamacpp", false, false, true },
    { "ollama", "/api/version", "library", false, false, false },
    { "mlx_lm", "/health", NULL, false, false, false },
};

const loami_kind *loami_kind_find(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, name) == 0) return &kinds[i];
    return NULL;
}

const loami_kind *loami_kind_of_owner(const char *owner)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].owner && strcmp(kinds[i].owner, owner) == 0) return &kinds[i];
    return &kinds[0];
}
