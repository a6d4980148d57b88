#include "store/known.h"

#include <strings.h>

/* Shapes as in their config.json; the tests hold those that mlx_lm builds against them. */
#define QUANT(bits) "\"quantization\":{\"group_size\":64,\"bits\":" #bits "}"
#define QWEN2_32B(bits)                                                                                       \
    "{\"model_type\":\"qwen2\",\"hidden_size\":5120,\"num_hidden_layers\":64,\"intermediate_size\":27648,"         \
    "\"num_attention_heads\":40,\"num_key_value_heads\":8,\"vocab_size\":152064,\"tie_word_embeddings\":false,"    \
    "\"rms_norm_eps\":1e-6,\"max_position_embeddings\":32768," QUANT(bits) "}"
#define QWEN2_14B                                                                                             \
    "{\"model_type\":\"qwen2\",\"hidden_size\":5120,\"num_hidden_layers\":48,\"intermediate_size\":13824,"         \
    "\"num_attention_heads\":40,\"num_key_value_heads\":8,\"vocab_size\":152064,\"tie_word_embeddings\":false,"    \
    "\"rms_norm_eps\":1e-6,\"max_position_embeddings\":32768," QUANT(4) "}"
#define LLAMA3_8B                                                                                             \
    "{\"model_type\":\"llama\",\"hidden_size\":4096,\"num_hidden_layers\":32,\"intermediate_size\":14336,"         \
    "\"num_attention_heads\":32,\"num_key_value_heads\":8,\"vocab_size\":128256,\"tie_word_embeddings\":false,"    \
    "\"rms_norm_eps\":1e-5,\"max_position_embeddings\":131072," QUANT(4) "}"
#define QWEN3_30B                                                                                             \
    "{\"model_type\":\"qwen3_moe\",\"hidden_size\":2048,\"num_hidden_layers\":48,\"intermediate_size\":6144,"      \
    "\"num_attention_heads\":32,\"num_key_value_heads\":4,\"head_dim\":128,\"vocab_size\":151936,"                \
    "\"tie_word_embeddings\":false,\"rms_norm_eps\":1e-6,\"max_position_embeddings\":40960,"                     \
    "\"num_experts\":128,\"num_experts_per_tok\":8,\"moe_intermediate_size\":768,\"norm_topk_prob\":true,"        \
    "\"decoder_sparse_step\":1,\"mlp_only_layers\":[]," QUANT(4) "}"

const loami_known loami_known_models[] = {
    { "qwen2.5-32b", "mlx-community/Qwen2.5-32B-Instruct-4bit", "Qwen2.5-32B 4-bit", QWEN2_32B(4), "60-80, 15-20", false },
    { "qwen2.5-32b-8bit", "mlx-community/Qwen2.5-32B-Instruct-8bit", "Qwen2.5-32B 8-bit", QWEN2_32B(8), "95, 10", false },
    { "qwen2.5-14b", "mlx-community/Qwen2.5-14B-Instruct-4bit", "Qwen2.5-14B 4-bit", QWEN2_14B, "100+, 30+", false },
    { "qwen2.5-coder-32b", "mlx-community/Qwen2.5-Coder-32B-Instruct-4bit", "Qwen2.5-Coder-32B 4-bit", QWEN2_32B(4), NULL, false },
    { "llama-3.1-8b", "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit", "Llama-3.1-8B 4-bit", LLAMA3_8B, "150+, 40+", false },
    { "llama-3.2-8b", "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit", "Llama-3.1-8B 4-bit", LLAMA3_8B, NULL, true },
    { "qwen3-30b-a3b", "mlx-community/Qwen3-30B-A3B-4bit", "Qwen3-30B-A3B 4-bit", QWEN3_30B, "80+, 25+", false },
    { "qwen3-30b", "mlx-community/Qwen3-30B-A3B-4bit", "Qwen3-30B-A3B 4-bit", QWEN3_30B, NULL, true },
    { "qwen3-30b-moe", "mlx-community/Qwen3-30B-A3B-4bit", "Qwen3-30B-A3B 4-bit", QWEN3_30B, NULL, true },
    { NULL, NULL, NULL, NULL, NULL, false },
};

const loami_known *loami_known_find(const char *name)
{
    for (const loami_known *k = loami_known_models; k->name; k++)
        if (strcasecmp(name, k->name) == 0 || strcasecmp(name, k->id) == 0) return k;
    return NULL;
}
