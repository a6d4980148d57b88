"""Model folders as GGUF files, the way llama.cpp's converter (conversion/*.py) makes them: names and keys are those of
the gguf package, so that what loam knows of them is checked against another's knowledge."""

import json
import pathlib

import gguf
import mlx.core as mx
import numpy as np

T = gguf.GGMLQuantizationType
ARCHS = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3_moe": "qwen3moe", "gemma2": "gemma2",
         "gemma3_text": "gemma3", "phi3": "phi3", "olmo2": "olmo2", "granite": "granite", "gpt_oss": "gpt-oss", "smollm3": "smollm3",
         "ministral3": "mistral3"}
PERMUTED = {"llama", "granite", "smollm3", "mistral3"}


def permute(w, heads):
    """The halves of each head interleaved, as llama.cpp rotates neighbours."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama3_factors(config, dims):
    s = config["rope_scaling"]
    wave = 2 * np.pi * config["rope_theta"] ** (np.arange(0, dims, 2, dtype=np.float32) / dims)
    old = s["original_max_position_embeddings"]
    low, high = s["low_freq_factor"], s["high_freq_factor"]
    smooth = (old / wave - low) / (high - low)
    blend = 1 / ((1 - smooth) / s["factor"] + smooth)
    return np.where(wave < old / high, 1, np.where(wave > old / low, s["factor"], blend)).astype(np.float32)


def add_config(w, c, arch):
    heads = c["num_attention_heads"]
    head_dim = c.get("head_dim") or c["hidden_size"] // heads
    w.add_name("tiny")
    w.add_block_count(c["num_hidden_layers"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_vocab_size(c["vocab_size"])
    rope = c.get("rope_parameters") or {}
    w.add_rope_freq_base(c.get("rope_theta") or rope["rope_theta"])
    w.add_rope_dimension_count(int(head_dim * c.get("partial_rotary_factor", 1)))
    if c.get("head_dim"):
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if c.get("sliding_window"):
        w.add_sliding_window(c["sliding_window"])
    scaling = c.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(kind))
        w.add_rope_scaling_factor(scaling["factor"])
    if kind == "yarn":
        w.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        w.add_rope_scaling_yarn_beta_fast(scaling["beta_fast"])
        w.add_rope_scaling_yarn_beta_slow(scaling["beta_slow"])
    if kind == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(c, head_dim))
    if kind == "longrope":
        w.add_rope_scaling_orig_ctx_len(c["original_max_position_embeddings"])
        w.add_tensor("rope_factors_long.weight", np.array(scaling["long_factor"], np.float32))
        w.add_tensor("rope_factors_short.weight", np.array(scaling["short_factor"], np.float32))
    if arch == "granite":
        w.add_attention_scale(c["attention_multiplier"])
        w.add_embedding_scale(c["embedding_multiplier"])
        w.add_residual_scale(c["residual_multiplier"])
        w.add_logit_scale(c["logits_scaling"])
    if arch == "gemma2":
        w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        w.add_final_logit_softcapping(c["final_logit_softcapping"])
    if arch in ("qwen3moe", "gpt-oss"):
        w.add_expert_count(c.get("num_experts") or c["num_local_experts"])
        w.add_expert_used_count(c["num_experts_per_tok"])
        w.add_expert_feed_forward_length(c.get("moe_intermediate_size") or c["intermediate_size"])


def add_tokenizer(w, folder, vocab_size, template):
    """tokenizer.json's byte-level BPE, filled up to the matrix's height as the converter does."""
    t = json.loads((folder / "tokenizer.json").read_text())
    special = {a["id"]: a for a in t["added_tokens"]}
    by_id = {i: s for s, i in t["model"]["vocab"].items()}
    by_id.update({i: a["content"] for i, a in special.items()})
    types = [gguf.TokenType.CONTROL if special.get(i, {}).get("special") else gguf.TokenType.NORMAL if i in by_id else gguf.TokenType.UNUSED
             for i in range(vocab_size)]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([by_id.get(i, f"[PAD{i}]") for i in range(vocab_size)])
    w.add_token_types(types)
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]])
    w.add_eos_token_id(0)
    w.add_add_bos_token(False)
    if template:
        w.add_chat_template(template)


def store(w, name, value, qtype):
    value = np.ascontiguousarray(value, np.float32)
    if value.ndim < 2 or "norm" in name or "ffn_gate_inp" in name or name.endswith("bias") or qtype == T.F32:
        w.add_tensor(name, value)
        return value
    packed = gguf.quants.quantize(value, qtype)
    w.add_tensor(name, packed, raw_dtype=qtype)
    return gguf.quants.dequantize(packed, qtype)


def convert(folder, out, qtype=T.F32, template=None):
    """Writes out; returns {name in the folder: float32 value that the file has}."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    arch = ARCHS[config["model_type"]]
    w = gguf.GGUFWriter(out, arch)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch]), config["num_hidden_layers"])
    add_config(w, config, arch)
    add_tokenizer(w, folder, config["vocab_size"], template)
    kept = {}
    for name, value in mx.load(str(folder / "model.safetensors")).items():
        value = np.array(value.astype(mx.float32))
        hf = name.replace("switch_mlp", "experts").replace("self_attn.sinks", "self_attn.sinks.weight")
        if arch.startswith("gemma") and name.endswith("norm.weight"):
            value = value + np.float32(1)
        heads = config["num_attention_heads"] if "q_proj" in name else config["num_key_value_heads"]
        turn = arch in PERMUTED and ("q_proj" in name or "k_proj" in name)
        value = store(w, names.get_name(hf, try_suffixes=(".weight", ".bias")), permute(value, heads) if turn else value, qtype)
        if turn:  # back
            value = value.reshape(heads, value.shape[0] // heads // 2, 2, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)
        kept[name] = value - np.float32(1) if arch.startswith("gemma") and name.endswith("norm.weight") else value
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return kept
