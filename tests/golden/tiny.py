"""Small models with random weights, made by mlx_lm itself, and what mlx_lm computes from them.

A model is a family (its shape, as mlx_lm's ModelArgs takes it) and a storage (number type, quantisation). The
weights are random but not meek: attention that prefers some positions, logits that are not flat, a few outlying
channels as trained models have them.
"""

import contextlib
import io
import json
import pathlib

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import _get_classes, dequantize_model, load_model, quantize_model, save_config, save_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

mx.set_default_device(mx.cpu)
mx.disable_compile()  # fused functions would need a C++ compiler at run time

VOCAB = 512

BASE = dict(hidden_size=128, num_hidden_layers=3, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=VOCAB, rms_norm_eps=1e-5, max_position_embeddings=1024, rope_theta=10000.0, tie_word_embeddings=False)

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}

FAMILIES = {
    "llama": dict(BASE, model_type="llama", head_dim=32),
    "llama-tied": dict(BASE, model_type="llama", tie_word_embeddings=True),
    "llama-rope3": dict(BASE, model_type="llama", rope_theta=500000.0, rope_scaling=LLAMA3),
    "llama-linear": dict(BASE, model_type="llama", rope_scaling={"type": "linear", "factor": 4.0}),
    "llama-bias": dict(BASE, model_type="llama", attention_bias=True, mlp_bias=True),
    "llama-wide-heads": dict(BASE, model_type="llama", head_dim=64, num_key_value_heads=1),
    "llama-mha": dict(BASE, model_type="llama", num_attention_heads=8, num_key_value_heads=8),
    "llama-odd-vocab": dict(BASE, model_type="llama", vocab_size=517),
    "qwen2": dict(BASE, model_type="qwen2", rms_norm_eps=1e-6, rope_theta=1000000.0),
    "qwen2-tied": dict(BASE, model_type="qwen2", rms_norm_eps=1e-6, rope_theta=1000000.0, tie_word_embeddings=True),
    "mistral": dict(BASE, model_type="mistral", head_dim=32, sliding_window=None),
}

# What comes after first light, by the same recipe.
MORE_FAMILIES = {
    "ministral": dict(BASE, model_type="ministral3", head_dim=32, sliding_window=48,
                      layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                      rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "llama_4_scaling_beta": 0.1,
                                       "original_max_position_embeddings": 64}),
    "qwen3": dict(BASE, model_type="qwen3", head_dim=64, rms_norm_eps=1e-6, rope_theta=1000000.0),
    "qwen3-tied": dict(BASE, model_type="qwen3", head_dim=32, rms_norm_eps=1e-6, rope_theta=1000000.0, tie_word_embeddings=True),
    "qwen3_moe": dict(BASE, model_type="qwen3_moe", head_dim=32, rms_norm_eps=1e-6, num_experts=8, num_experts_per_tok=2,
                      decoder_sparse_step=1, mlp_only_layers=[], moe_intermediate_size=128, norm_topk_prob=True),
    "qwen3_moe-mixed": dict(BASE, model_type="qwen3_moe", head_dim=32, rms_norm_eps=1e-6, num_experts=8, num_experts_per_tok=3,
                            decoder_sparse_step=1, mlp_only_layers=[0], moe_intermediate_size=128, norm_topk_prob=False),
    "gemma2": dict(BASE, model_type="gemma2", head_dim=32, rms_norm_eps=1e-6, tie_word_embeddings=True, query_pre_attn_scalar=48.0,
                   attn_logit_softcapping=50.0, final_logit_softcapping=30.0, sliding_window=4096),
    "gemma3_text": dict(BASE, model_type="gemma3_text", num_hidden_layers=4, head_dim=32, rms_norm_eps=1e-6, tie_word_embeddings=True,
                        query_pre_attn_scalar=32, sliding_window=48, sliding_window_pattern=3, rope_local_base_freq=10000.0,
                        rope_theta=1000000.0),
    "phi3": dict(BASE, model_type="phi3"),
    "phi3-longrope": dict(BASE, model_type="phi3", partial_rotary_factor=0.75, original_max_position_embeddings=128,
                          rope_scaling={"type": "longrope", "short_factor": [1.0 + 0.1 * i for i in range(12)],
                                        "long_factor": [1.0 + 0.5 * i for i in range(12)]}),
    "olmo2": dict(BASE, model_type="olmo2", rms_norm_eps=1e-6),
    "granite": dict(BASE, model_type="granite", logits_scaling=4.0, attention_multiplier=0.125, embedding_multiplier=1.5,
                    residual_multiplier=0.5, attention_bias=False, mlp_bias=False, tie_word_embeddings=True),
    "gpt_oss": dict(BASE, model_type="gpt_oss", num_hidden_layers=4, head_dim=32, num_local_experts=8, num_experts_per_tok=2,
                    sliding_window=48, layer_types=["sliding_attention", "full_attention"] * 2,
                    rope_scaling={"rope_type": "yarn", "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0,
                                  "original_max_position_embeddings": 64}),
    "smollm3": dict(BASE, model_type="smollm3", num_hidden_layers=4, no_rope_layer_interval=4, tie_word_embeddings=True),
}

# name -> number type of what stays float, and how mlx_lm quantises the rest
STORAGES = {
    "f32": (mx.float32, None),
    "f16": (mx.float16, None),
    "bf16": (mx.bfloat16, None),
    "q4g32": (mx.bfloat16, dict(bits=4, group_size=32)),
    "q4g64": (mx.bfloat16, dict(bits=4, group_size=64)),
    "q4g128": (mx.bfloat16, dict(bits=4, group_size=128)),
    "q8g32": (mx.bfloat16, dict(bits=8, group_size=32)),
    "q8g64": (mx.bfloat16, dict(bits=8, group_size=64)),
    "q4g64-f16": (mx.float16, dict(bits=4, group_size=64)),
    "q4g64-f32": (mx.float32, dict(bits=4, group_size=64)),
}
MORE_STORAGES = {
    "q2g64": (mx.bfloat16, dict(bits=2, group_size=64)),
    "q3g64": (mx.bfloat16, dict(bits=3, group_size=64)),
    "q5g64": (mx.bfloat16, dict(bits=5, group_size=64)),
    "q6g64": (mx.bfloat16, dict(bits=6, group_size=64)),
    "mxfp4": (mx.bfloat16, dict(bits=4, group_size=32, mode="mxfp4")),
    "mxfp8": (mx.bfloat16, dict(bits=8, group_size=32, mode="mxfp8")),
    "nvfp4": (mx.bfloat16, dict(bits=4, group_size=16, mode="nvfp4")),
    # by layer, as mlx_lm's mixed recipes write it into config.json
    "mixed-4-8": (mx.bfloat16, dict(bits=4, group_size=64, quant_predicate=lambda path, m: (
        {"bits": 8, "group_size": 32} if "down_proj" in path or "v_proj" in path else "lm_head" not in path))),
}


def spread(name, shape, rng, family):
    """Random numbers for one parameter, of a size that a trained model might have."""
    if name.endswith("norm.weight"):
        w = rng.normal(0.0, 0.1, shape) + (0.0 if family.startswith("gemma") else 1.0)
        outliers = rng.integers(0, shape[-1], max(1, shape[-1] // 64))
        w[..., outliers] *= 4.0
        return w
    if name.endswith("sinks"):
        return rng.normal(0.0, 1.0, shape)
    if name.endswith("bias"):
        w = rng.normal(0.0, 0.3, shape)
        if "k_proj" in name:
            w[..., rng.integers(0, shape[-1], 2)] += 8.0
        return w
    if "embed_tokens" in name:
        return rng.normal(0.0, 1.0 / np.sqrt(shape[-1]) if family.startswith("gemma") else 0.5, shape)
    if "router" in name or name.endswith("mlp.gate.weight"):
        return rng.normal(0.0, 8.0 / np.sqrt(shape[-1]), shape)  # a clear choice: between near equals rounding would choose
    gain = 2.5 if "lm_head" in name else 1.2 if "q_proj" in name or "k_proj" in name or "qkv" in name else 1.0
    return rng.normal(0.0, gain / np.sqrt(shape[-1]), shape)


def make_tokenizer(folder):
    """A byte-level BPE trained on a few sentences, smaller than the models' vocabularies, without a chat template."""
    text = ["The quick brown fox jumps over the lazy dog while the rain in Spain stays mainly in the plain.",
            "She sells sea shells by the sea shore; the shells she sells are surely seashells.",
            "for (int i = 0; i < n; i++) sum += a[i] * b[i];", "Grüße aus Köln, naïve café, 東京 и Москва."]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(text * 4, trainers.BpeTrainer(
        vocab_size=VOCAB - 64, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": None,
        "clean_up_tokenization_spaces": False, "model_max_length": 1024}))


def make(folder, config, storage, seed=1):
    """Writes a model folder in MLX format. config: as config.json has it. storage: a value of STORAGES."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    dtype, quantisation = storage
    config = dict(config, eos_token_id=0)
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    rng = np.random.default_rng(seed)
    weights = {k: mx.array(spread(k, v.shape, rng, config["model_type"]).astype(np.float32)).astype(dtype)
               for k, v in tree_flatten(model.parameters())}
    if config["tie_word_embeddings"]:
        weights.pop("lm_head.weight", None)
        if "lm_head" in model:
            model.sanitize(weights)  # gemma3_text takes its own out when the weights have none
    model.update(tree_unflatten(list(weights.items())))
    if quantisation:
        with contextlib.redirect_stdout(io.StringIO()):
            model, config = quantize_model(model, config, **{"quant_predicate": None, **quantisation})
    save_model(folder, model)
    save_config(config, folder / "config.json")
    make_tokenizer(folder)
    return folder


class Product(nn.Module):
    """nn.Linear, and an embedding as the output matrix, with numpy's matrix product: mlx's own takes minutes on a CPU."""

    def __init__(self, module):
        super().__init__()
        self.weight = module.weight
        self.bias = module.get("bias")
        self._matrix = np.array(module.weight).T

    def __call__(self, x):
        y = mx.array(np.matmul(np.array(x), self._matrix))
        return y if self.bias is None else y + self.bias

    def as_linear(self, x):
        return self(x)


class Table(Product):
    def __call__(self, x):
        return self.weight[x]

    def as_linear(self, x):
        return Product.__call__(self, x)


def with_fast_products(model):
    kinds = {nn.Linear: Product, nn.Embedding: Table}
    model.update_modules(tree_unflatten([(name, kinds[type(m)](m)) for name, m in model.named_modules() if type(m) in kinds]))
    return model


class Reference:
    """mlx_lm on the weights of a model folder in float32, dequantised at once, or where they are used (slower, smaller)."""

    def __init__(self, folder, dequantise=True):
        model, _ = load_model(pathlib.Path(folder))
        model.set_dtype(mx.float32)  # scales first: weights are then made in float32 and not rounded to their type
        if dequantise:
            model = dequantize_model(model)
            model.set_dtype(mx.float32)
            model = with_fast_products(model)
        self.model = model
        self.tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))

    def logits(self, ids):
        """[len(ids), vocab]: after each of the ids."""
        return np.array(self.model(mx.array([ids])))[0]

    def greedy(self, ids, n, end=0):
        """n tokens one at a time through the cache: [(id, margin of its logit over the second, logits' deviation)]. The end
        of text is the last, with None for its id."""
        cache = make_prompt_cache(self.model)
        out, feed = [], list(ids)
        for _ in range(n):
            row = np.array(self.model(mx.array([feed]), cache=cache))[0, -1]
            second, best = np.partition(row, -2)[-2:]
            id = int(row.argmax())
            out.append((id if id != end else None, float(best - second), float(row.std())))
            if id == end:
                break
            feed = [id]
        return out


def root_mean_square(x):
    return np.sqrt((x ** 2).mean())


def distance(ours, theirs, of=np.max):
    """Largest (or, say, typical) difference, in standard deviations of the reference's logits."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"{ours.shape} logits, the reference has {theirs.shape}"
    return float(of(np.abs(ours - theirs)) / theirs.std()) if np.isfinite(ours).all() else float("inf")
