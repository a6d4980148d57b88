#include "store/import.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846

typedef struct name_pair {
    const char *from, *to;
} name_pair;

/* A config.json under construction. */
typedef struct job {
    const loami_arch *arch;
    loami_gguf *g;
    json_t *json;
    uint32_t layers, dim, heads, kv_heads, head_dim, rope_dims;
    loam_err *err;
    int rc; /* the first failure; later steps do nothing */
} job;

struct loami_arch {
    const char *gguf;       /* general.architecture */
    const char *family;     /* model_type */
    const char *class_name; /* "architectures" */
    bool permuted;          /* rows of q and k are in the order of interleaved rotary pairs */
    bool one_more;          /* norms are stored as 1 + w */
    const name_pair *names; /* before the common ones; ends with { 0 } */
    void (*config)(job *j); /* what only this one has, or NULL */
};

/* ---- tensors ------------------------------------------------------------------------------------------- */

static const name_pair common[] = {
    { "attn_norm", "input_layernorm" },
    { "attn_q", "self_attn.q_proj" },
    { "attn_k", "self_attn.k_proj" },
    { "attn_v", "self_attn.v_proj" },
    { "attn_output", "self_attn.o_proj" },
    { "attn_qkv", "self_attn.qkv_proj" },
    { "attn_q_norm", "self_attn.q_norm" },
    { "attn_k_norm", "self_attn.k_norm" },
    { "ffn_norm", "post_attention_layernorm" },
    { "ffn_gate", "mlp.gate_proj" },
    { "ffn_up", "mlp.up_proj" },
    { "ffn_down", "mlp.down_proj" },
    { NULL, NULL },
};

static const name_pair outer[] = {
    { "token_embd", "model.embed_tokens" },
    { "output_norm", "model.norm" },
    { "output", "lm_head" },
    { NULL, NULL },
};

static const name_pair no_names[] = { { NULL, NULL } };

static const name_pair qwen3moe_names[] = {
    { "ffn_gate_inp", "mlp.gate" },
    { "ffn_gate_exps", "mlp.switch_mlp.gate_proj" },
    { "ffn_up_exps", "mlp.switch_mlp.up_proj" },
    { "ffn_down_exps", "mlp.switch_mlp.down_proj" },
    { NULL, NULL },
};

static const name_pair gemma_names[] = {
    { "post_attention_norm", "post_attention_layernorm" },
    { "ffn_norm", "pre_feedforward_layernorm" },
    { "post_ffw_norm", "post_feedforward_layernorm" },
    { NULL, NULL },
};

static const name_pair phi3_names[] = { { "ffn_up", "mlp.gate_up_proj" }, { NULL, NULL } };

static const name_pair olmo2_names[] = {
    { "post_attention_norm", "post_attention_layernorm" },
    { "post_ffw_norm", "post_feedforward_layernorm" },
    { NULL, NULL },
};

static const name_pair gpt_oss_names[] = {
    { "post_attention_norm", "post_attention_layernorm" },
    { "attn_sinks", "self_attn.sinks" },
    { "ffn_gate_inp", "mlp.router" },
    { "ffn_gate_exps", "mlp.experts.gate_proj" },
    { "ffn_up_exps", "mlp.experts.up_proj" },
    { "ffn_down_exps", "mlp.experts.down_proj" },
    { NULL, NULL },
};

static const char *find_name(const name_pair *names, const char *from)
{
    for (; names->from; names++)
        if (strcmp(names->from, from) == 0) return names->to;
    return NULL;
}

/* The architecture's key, "llama.block_count". */
static const char *key_of(const loami_arch *a, const char *key, char out[128])
{
    snprintf(out, 128, "%s.%s", a->gguf, key);
    return out;
}

static bool is_rope_table(const char *name)
{
    return strcmp(name, "rope_freqs.weight") == 0 || strncmp(name, "rope_factors_", 13) == 0;
}

static int unknown_tensor(const loami_gguf *g, const loami_arch *a, const char *name, loam_err *err)
{
    return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: tensor %s is no part of a %s model as loam knows it",
                      loami_gguf_what(g), name, a->gguf);
}

int loami_arch_target(const loami_arch *a, const loami_gguf *g, const loami_gguf_tensor *t, loami_target *out,
                      loam_err *err)
{
    char part[96], key[128];
    unsigned layer;
    int at = 0;
    const char *to, *rest = t->name, *dot = strrchr(t->name, '.');
    *out = (loami_target){ .skip = is_rope_table(t->name) };
    if (out->skip) return 0;
    bool inner = sscanf(t->name, "blk.%5u.%n", &layer, &at) == 1 && at > 0;
    if (inner) rest += at;
    out->suffix = dot && strcmp(dot, ".bias") == 0 ? ".bias" : ".weight";
    if (!dot || dot < rest || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0) ||
        dot - rest >= (long)sizeof part)
        return unknown_tensor(g, a, t->name, err);
    memcpy(part, rest, (size_t)(dot - rest));
    part[dot - rest] = 0;

    uint32_t layers = 0, heads = 0;
    if (loami_gguf_u32(g, key_of(a, "block_count", key), 1, 4096, &layers, err) < 0)
        return err ? err->code : LOAM_E_FORMAT;
    to = inner ? find_name(a->names, part) : find_name(outer, part);
    if (inner && !to) to = find_name(common, part);
    if (!to || (inner && layer >= layers)) return unknown_tensor(g, a, t->name, err);
    if (inner)
        snprintf(out->name, sizeof out->name, "model.layers.%u.%s", layer, to);
    else
        snprintf(out->name, sizeof out->name, "%s", to);

    bool q = strcmp(part, "attn_q") == 0, k = strcmp(part, "attn_k") == 0;
    if (a->permuted && inner && (q || k)) {
        if (loami_gguf_u32(g, key_of(a, "attention.head_count", key), 1, 4096, &heads, err) < 0)
            return err ? err->code : LOAM_E_FORMAT;
        if (k && loami_gguf_u32(g, key_of(a, "attention.head_count_kv", key), 1, 4096, &heads, err) < 0)
            return err ? err->code : LOAM_E_FORMAT;
        out->heads = heads;
    }
    size_t n = strlen(part);
    if (a->one_more && n >= 4 && strcmp(part + n - 4, "norm") == 0) out->subtract = 1;
    if (strcmp(to, "self_attn.sinks") == 0) out->suffix = "";
    return 0;
}

/* ---- config.json: reading and setting ------------------------------------------------------------------ */

static void fail(job *j, int rc)
{
    if (j->rc == 0) j->rc = rc;
}

static void set(job *j, const char *key, json_t *v)
{
    if (json_object_set_new(j->json, key, v) < 0) fail(j, loami_fail_nomem(j->err));
}

/* A whole number of the file; hi also bounds it. False when absent. */
static bool get_u32(job *j, const char *key, uint32_t hi, uint32_t *out)
{
    char name[128];
    if (j->rc < 0) return false;
    int rc = loami_gguf_u32(j->g, key_of(j->arch, key, name), 0, hi, out, j->err);
    if (rc < 0) fail(j, rc);
    return rc > 0;
}

static bool get_double(job *j, const char *key, double *out)
{
    char name[128];
    if (j->rc < 0) return false;
    int rc = loami_gguf_double(j->g, key_of(j->arch, key, name), -1e12, 1e12, out, j->err);
    if (rc < 0) fail(j, rc);
    return rc > 0;
}

static void missing(job *j, const char *key)
{
    char name[128];
    if (j->rc == 0)
        fail(j, loami_fail(j->err, LOAM_E_FORMAT, "%s: %s is missing", loami_gguf_what(j->g),
                           key_of(j->arch, key, name)));
}

/* A number that was float32 in the model: the shortest decimal that gives the same float32 back. */
static json_t *real(double d)
{
    char text[40];
    for (int digits = 6; digits < 10; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if ((float)strtod(text, NULL) == (float)d) break;
    }
    return json_real(strtod(text, NULL));
}

static void copy_u32(job *j, const char *from, const char *to, bool needed)
{
    uint32_t v;
    if (get_u32(j, from, 1u << 30, &v))
        set(j, to, json_integer(v));
    else if (needed)
        missing(j, from);
}

static void copy_real(job *j, const char *from, const char *to, bool needed)
{
    double v;
    if (get_double(j, from, &v))
        set(j, to, real(v));
    else if (needed)
        missing(j, from);
}

static bool has_tensor(const job *j, const char *name)
{
    return loami_gguf_find(j->g, name) != NULL;
}

/* ---- config.json: rotary scaling ----------------------------------------------------------------------- */

/* Llama 3.1's factor of frequency i of n. */
static double llama3_factor(double base, uint32_t i, uint32_t n, double factor, double low, double high,
                            double old)
{
    double wave = 2 * PI * pow(base, (double)i / n);
    if (wave < old / high) return 1;
    if (wave > old / low) return factor;
    double smooth = (old / wave - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
}

/* GGUF has the factors worked out; config.json has the rule. Finds the rule that gives these factors. */
static void scaling_llama3(job *j, const loami_gguf_tensor *t)
{
    static const double olds[] = { 8192, 4096, 16384, 32768, 65536, 131072, 2048 }, highs[] = { 4, 8, 2 },
                        lows[] = { 1 };
    double base = json_number_value(json_object_get(j->json, "rope_theta")), factor = 1;
    uint32_t n = (uint32_t)t->shape[0];
    loami_gguf_value v = { .kind = LOAMI_GGUF_F32, .n = n, .data = t->data };
    if (t->type != LOAMI_GGUF_T_F32 || t->n_dims != 1 || n != j->rope_dims / 2) {
        fail(j, loami_fail(j->err, LOAM_E_FORMAT, "%s: rope_freqs.weight must have %u float32 numbers",
                           loami_gguf_what(j->g), j->rope_dims / 2));
        return;
    }
    for (uint32_t i = 0; i < n; i++) factor = fmax(factor, loami_gguf_number(&v, i));
    for (size_t o = 0; o < sizeof olds / sizeof *olds; o++) {
        for (size_t h = 0; h < sizeof highs / sizeof *highs; h++) {
            double worst = 0;
            for (uint32_t i = 0; i < n; i++)
                worst = fmax(worst, fabs(llama3_factor(base, i, n, factor, lows[0], highs[h], olds[o]) /
                                             loami_gguf_number(&v, i) -
                                         1));
            if (!(worst < 1e-4)) continue;
            set(j, "rope_scaling",
                json_pack("{s:s,s:o,s:f,s:f,s:I}", "rope_type", "llama3", "factor", real(factor),
                          "low_freq_factor", lows[0], "high_freq_factor", highs[h],
                          "original_max_position_embeddings", (json_int_t)olds[o]));
            return;
        }
    }
    fail(j, loami_fail(j->err, LOAM_E_UNSUPPORTED,
                       "%s: rope_freqs.weight follows no rule that config.json could name",
                       loami_gguf_what(j->g)));
}

static json_t *floats_of(const loami_gguf_tensor *t)
{
    json_t *list = json_array();
    loami_gguf_value v = { .kind = LOAMI_GGUF_F32, .n = t->shape[0], .data = t->data };
    for (uint64_t i = 0; t->type == LOAMI_GGUF_T_F32 && i < v.n && i < 4096; i++)
        json_array_append_new(list, real(loami_gguf_number(&v, i)));
    return list;
}

/* Phi-3's long contexts. */
static void scaling_longrope(job *j)
{
    const loami_gguf_tensor *l = loami_gguf_find(j->g, "rope_factors_long.weight"),
                            *s = loami_gguf_find(j->g, "rope_factors_short.weight");
    uint32_t old = 0;
    if (!l || !s || !get_u32(j, "rope.scaling.original_context_length", 1u << 30, &old)) {
        missing(j, "rope.scaling.original_context_length");
        return;
    }
    set(j, "original_max_position_embeddings", json_integer(old));
    set(j, "rope_scaling",
        json_pack("{s:s,s:o,s:o}", "type", "longrope", "long_factor", floats_of(l), "short_factor",
                  floats_of(s)));
}

static void scaling(job *j)
{
    const loami_gguf_tensor *freqs = loami_gguf_find(j->g, "rope_freqs.weight");
    const char *type = "none";
    char key[128];
    double factor = 1, v;
    uint32_t old;
    if (j->rc < 0) return;
    if (freqs) {
        scaling_llama3(j, freqs);
        return;
    }
    if (has_tensor(j, "rope_factors_long.weight")) {
        scaling_longrope(j);
        return;
    }
    int rc = loami_gguf_string(j->g, key_of(j->arch, "rope.scaling.type", key), &type, j->err);
    if (rc < 0) fail(j, rc);
    if (strcmp(type, "none") == 0 || !get_double(j, "rope.scaling.factor", &factor) || factor == 1) return;
    if (strcmp(type, "linear") != 0 && strcmp(type, "yarn") != 0) {
        fail(j, loami_fail(j->err, LOAM_E_UNSUPPORTED, "%s: rotary scaling \"%.32s\" is not supported",
                           loami_gguf_what(j->g), type));
        return;
    }
    json_t *o = json_pack("{s:s,s:s,s:o}", "rope_type", type, "type", type, "factor", real(factor));
    if (strcmp(type, "yarn") == 0) {
        if (get_u32(j, "rope.scaling.original_context_length", 1u << 30, &old))
            json_object_set_new(o, "original_max_position_embeddings", json_integer(old));
        if (get_double(j, "rope.scaling.yarn_beta_fast", &v)) json_object_set_new(o, "beta_fast", real(v));
        if (get_double(j, "rope.scaling.yarn_beta_slow", &v)) json_object_set_new(o, "beta_slow", real(v));
    }
    set(j, "rope_scaling", o);
}

/* ---- config.json: families ----------------------------------------------------------------------------- */

static void config_llama(job *j)
{
    uint32_t experts = 0;
    if (get_u32(j, "expert_count", 1u << 20, &experts) && experts > 0)
        fail(j, loami_fail(j->err, LOAM_E_UNSUPPORTED, "%s: llama with %u experts (Mixtral) is not supported",
                           loami_gguf_what(j->g), experts));
    set(j, "attention_bias", json_boolean(has_tensor(j, "blk.0.attn_q.bias")));
    set(j, "mlp_bias", json_boolean(has_tensor(j, "blk.0.ffn_gate.bias")));
}

static void config_qwen3moe(job *j)
{
    copy_u32(j, "expert_count", "num_experts", true);
    copy_u32(j, "expert_used_count", "num_experts_per_tok", true);
    copy_u32(j, "expert_feed_forward_length", "moe_intermediate_size", true);
    set(j, "decoder_sparse_step", json_integer(1));
    set(j, "mlp_only_layers", json_array());
    set(j, "norm_topk_prob", json_true());
}

/* The attention's scale is no part of the file: the largest of each generation divides by dim / heads. */
static void config_gemma(job *j, uint32_t largest_layers)
{
    uint32_t scalar = j->layers == largest_layers && j->heads ? j->dim / j->heads : j->head_dim;
    set(j, "query_pre_attn_scalar", json_integer(scalar));
    set(j, "hidden_activation", json_string("gelu_pytorch_tanh"));
    copy_u32(j, "attention.sliding_window", "sliding_window", false);
}

static void config_gemma2(job *j)
{
    config_gemma(j, 46);
    copy_real(j, "attn_logit_softcapping", "attn_logit_softcapping", false);
    copy_real(j, "final_logit_softcapping", "final_logit_softcapping", false);
}

static void config_gemma3(job *j)
{
    double local = 10000;
    config_gemma(j, 62);
    get_double(j, "rope.freq_base_swa", &local);
    set(j, "rope_local_base_freq", real(local));
    set(j, "sliding_window_pattern", json_integer(6));
}

static void config_phi3(job *j)
{
    if (j->head_dim && j->rope_dims != j->head_dim)
        set(j, "partial_rotary_factor", real((double)j->rope_dims / j->head_dim));
    copy_u32(j, "attention.sliding_window", "sliding_window", false);
}

static void config_granite(job *j)
{
    config_llama(j);
    copy_real(j, "attention.scale", "attention_multiplier", true);
    copy_real(j, "embedding_scale", "embedding_multiplier", true);
    copy_real(j, "residual_scale", "residual_multiplier", true);
    copy_real(j, "logit_scale", "logits_scaling", true);
}

static void config_gpt_oss(job *j)
{
    json_t *types = json_array();
    copy_u32(j, "expert_count", "num_local_experts", true);
    copy_u32(j, "expert_used_count", "num_experts_per_tok", true);
    copy_u32(j, "expert_feed_forward_length", "intermediate_size", true);
    copy_u32(j, "attention.sliding_window", "sliding_window", true);
    for (uint32_t i = 0; i < j->layers; i++)
        json_array_append_new(types, json_string(i % 2 ? "full_attention" : "sliding_attention"));
    set(j, "layer_types", types);
}

static void config_olmo2(job *j)
{
    uint32_t window;
    if (get_u32(j, "attention.sliding_window", 1u << 30, &window) && window)
        fail(j,
             loami_fail(j->err, LOAM_E_UNSUPPORTED,
                        "%s: olmo2 with a sliding window (OLMo 3) is not supported", loami_gguf_what(j->g)));
    set(j, "attention_bias", json_false());
}

/* Mistral Small 3.1 is a Llama; Ministral 3 has a temperature of its own in attention. */
static void config_mistral3(job *j)
{
    double beta, all, factor = 1, fast = 32, slow = 1;
    uint32_t old = 0;
    config_llama(j);
    if (!get_double(j, "attention.temperature_scale", &beta)) return;
    if (!get_double(j, "rope.scaling.yarn_log_multiplier", &all))
        missing(j, "rope.scaling.yarn_log_multiplier");
    if (!get_u32(j, "rope.scaling.original_context_length", 1u << 30, &old))
        missing(j, "rope.scaling.original_context_length");
    get_double(j, "rope.scaling.factor", &factor);
    get_double(j, "rope.scaling.yarn_beta_fast", &fast);
    get_double(j, "rope.scaling.yarn_beta_slow", &slow);
    if (j->rc < 0) return;
    set(j, "model_type", json_string("ministral3"));
    set(j, "architectures", json_pack("[s]", "Ministral3ForCausalLM"));
    json_object_del(j->json, "rope_scaling");
    set(j, "rope_parameters",
        json_pack("{s:s,s:s,s:O,s:o,s:o,s:o,s:I,s:f,s:o,s:o}", "rope_type", "yarn", "type", "yarn",
                  "rope_theta", json_object_get(j->json, "rope_theta"), "factor", real(factor), "beta_fast",
                  real(fast), "beta_slow", real(slow), "original_max_position_embeddings", (json_int_t)old,
                  "mscale", 1.0, "mscale_all_dim", real(all), "llama_4_scaling_beta", real(beta)));
}

static const loami_arch archs[] = {
    { "llama", "llama", "LlamaForCausalLM", true, false, no_names, config_llama },
    { "smollm3", "smollm3", "SmolLM3ForCausalLM", true, false, no_names, config_llama },
    { "granite", "granite", "GraniteForCausalLM", true, false, no_names, config_granite },
    { "mistral3", "llama", "LlamaForCausalLM", true, false, no_names, config_mistral3 },
    { "qwen2", "qwen2", "Qwen2ForCausalLM", false, false, no_names, NULL },
    { "qwen3", "qwen3", "Qwen3ForCausalLM", false, false, no_names, NULL },
    { "qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM", false, false, qwen3moe_names, config_qwen3moe },
    { "gemma2", "gemma2", "Gemma2ForCausalLM", false, true, gemma_names, config_gemma2 },
    { "gemma3", "gemma3_text", "Gemma3ForCausalLM", false, true, gemma_names, config_gemma3 },
    { "phi3", "phi3", "Phi3ForCausalLM", false, false, phi3_names, config_phi3 },
    { "olmo2", "olmo2", "Olmo2ForCausalLM", false, false, olmo2_names, config_olmo2 },
    { "gpt-oss", "gpt_oss", "GptOssForCausalLM", false, false, gpt_oss_names, config_gpt_oss },
};

int loami_arch_find(const loami_arch **out, loami_gguf *g, loam_err *err)
{
    const char *name = NULL;
    int rc = loami_gguf_string(g, "general.architecture", &name, err);
    if (rc < 0) return rc;
    if (!name)
        return loami_fail(err, LOAM_E_FORMAT, "%s: general.architecture is missing", loami_gguf_what(g));
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        if (strcmp(archs[i].gguf, name) == 0) {
            *out = &archs[i];
            return 0;
        }
    }
    return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: models of architecture \"%.64s\" are not supported",
                      loami_gguf_what(g), name);
}

/* ---- config.json: what all have ------------------------------------------------------------------------ */

static void shapes(job *j)
{
    uint32_t value_dim;
    const loami_gguf_tensor *embed = loami_gguf_find(j->g, "token_embd.weight");
    if (!get_u32(j, "block_count", 4096, &j->layers)) missing(j, "block_count");
    if (!get_u32(j, "embedding_length", 1u << 20, &j->dim)) missing(j, "embedding_length");
    if (!get_u32(j, "attention.head_count", 4096, &j->heads) || j->heads == 0)
        missing(j, "attention.head_count");
    j->kv_heads = j->heads;
    get_u32(j, "attention.head_count_kv", 4096, &j->kv_heads);
    if (j->rc < 0) return;
    j->head_dim = j->dim / j->heads;
    j->rope_dims = 0;
    get_u32(j, "rope.dimension_count", 1u << 16, &j->rope_dims);
    if (j->arch->permuted && j->rope_dims) j->head_dim = j->rope_dims;
    get_u32(j, "attention.key_length", 1u << 16, &j->head_dim);
    if (!j->rope_dims) j->rope_dims = j->head_dim;
    if (get_u32(j, "attention.value_length", 1u << 16, &value_dim) && value_dim != j->head_dim)
        fail(j, loami_fail(j->err, LOAM_E_UNSUPPORTED,
                           "%s: keys of %u and values of %u numbers a head are not supported",
                           loami_gguf_what(j->g), j->head_dim, value_dim));
    if (!embed && j->rc == 0)
        fail(j, loami_fail(j->err, LOAM_E_FORMAT,
                           "%s: has no tensor token_embd.weight: a vocabulary alone is no model",
                           loami_gguf_what(j->g)));
    if (j->rc < 0) return;
    set(j, "hidden_size", json_integer(j->dim));
    set(j, "num_hidden_layers", json_integer(j->layers));
    set(j, "num_attention_heads", json_integer(j->heads));
    set(j, "num_key_value_heads", json_integer(j->kv_heads));
    set(j, "head_dim", json_integer(j->head_dim));
    set(j, "vocab_size", json_integer((json_int_t)embed->shape[1]));
}

int loami_arch_config(const loami_arch *a, loami_gguf *g, json_t **out, loam_err *err)
{
    double theta = 10000;
    job j = { .arch = a, .g = g, .json = json_object(), .err = err };
    set(&j, "architectures", json_pack("[s]", a->class_name));
    set(&j, "model_type", json_string(a->family));
    shapes(&j);
    copy_u32(&j, "feed_forward_length", "intermediate_size", false);
    copy_u32(&j, "context_length", "max_position_embeddings", true);
    copy_real(&j, "attention.layer_norm_rms_epsilon", "rms_norm_eps", true);
    get_double(&j, "rope.freq_base", &theta);
    set(&j, "rope_theta", real(theta));
    set(&j, "tie_word_embeddings", json_boolean(!has_tensor(&j, "output.weight")));
    scaling(&j);
    if (a->config) a->config(&j);
    if (j.rc < 0)
        json_decref(j.json);
    else
        *out = j.json;
    return j.rc;
}
