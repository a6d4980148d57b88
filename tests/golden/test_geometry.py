"""Models that people run, in their true shapes: every width, head and expert as published; one layer, a small vocabulary.

The 4-bit weights are random codes with scales that keep the numbers tame, written straight in MLX's layout.
"""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes, save_config

from golden import tiny
from golden.test_families import WAYS, ids_text, prompt

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
COMMON = dict(num_hidden_layers=1, vocab_size=tiny.VOCAB, rms_norm_eps=1e-6, tie_word_embeddings=False)

# Widths from the config.json of each model's repository on the Hugging Face hub.
SHAPES = {
    "Qwen2.5-32B and Qwen2.5-Coder-32B": dict(COMMON, model_type="qwen2", hidden_size=5120, intermediate_size=27648, num_attention_heads=40,
                                              num_key_value_heads=8, rope_theta=1000000.0, max_position_embeddings=32768),
    "Qwen2.5-14B": dict(COMMON, model_type="qwen2", hidden_size=5120, intermediate_size=13824, num_attention_heads=40,
                        num_key_value_heads=8, rope_theta=1000000.0, max_position_embeddings=32768),
    "Llama-3.1-8B": dict(COMMON, model_type="llama", hidden_size=4096, intermediate_size=14336, num_attention_heads=32,
                         num_key_value_heads=8, rope_theta=500000.0, rope_scaling=LLAMA3, max_position_embeddings=131072, rms_norm_eps=1e-5),
}
MORE_SHAPES = {  # with tiny.MORE_FAMILIES
    "Qwen3-30B-A3B": dict(COMMON, model_type="qwen3_moe", hidden_size=2048, intermediate_size=6144, num_attention_heads=32,
                          num_key_value_heads=4, head_dim=128, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768,
                          decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=True, rope_theta=1000000.0, max_position_embeddings=40960),
}
GROUP = 64


def quantised(shape, rng):
    """Random 4-bit codes [.., out, in / 8 words], scales and biases [.., out, in / 64]: values around zero, deviation 1 / sqrt(in)."""
    *lead, cols = shape
    scale = rng.uniform(0.5, 1.5, (*lead, cols // GROUP)) / np.sqrt(21.25 * cols)  # of 0..15 the deviation is sqrt(21.25)
    codes = rng.integers(0, 1 << 32, (*lead, cols // 8), dtype=np.uint32)
    return mx.array(codes), mx.array(scale).astype(mx.bfloat16), mx.array(-7.5 * scale).astype(mx.bfloat16)


def make(folder, config):
    folder.mkdir()
    rng = np.random.default_rng(5)
    model_class, args_class = _get_classes(config)
    weights = {}
    for name, p in tree_flatten(model_class(args_class.from_dict(config)).parameters()):
        if name.endswith("weight") and p.ndim > 1 and not name.endswith("mlp.gate.weight"):
            base = name[:-len("weight")]
            weights[name], weights[base + "scales"], weights[base + "biases"] = quantised(p.shape, rng)
        else:
            weights[name] = mx.array(tiny.spread(name, p.shape, rng, config["model_type"])).astype(mx.bfloat16)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    save_config(dict(config, quantization={"bits": 4, "group_size": GROUP, "mode": "affine"}), folder / "config.json")
    tiny.make_tokenizer(folder)


@pytest.mark.heavy
@pytest.mark.parametrize("name", SHAPES)
def test_true_shape(loam, tmp_path, name):
    folder = tmp_path / "m"
    make(folder, SHAPES[name])
    ids = prompt(9, seed=2)
    theirs = tiny.Reference(folder, dequantise=False).logits(ids)[-1]
    for way in ("exact", "fast"):
        options, tolerance, _ = WAYS[way]
        ours = loam.json("logits", "--model", folder, "--tokens", ids_text(ids), "--json", *options)["logits"]
        far = tiny.distance(ours, theirs)
        assert far <= tolerance, f"{way}: logits differ by {far:.3g} deviations, allowed {tolerance:g}"
