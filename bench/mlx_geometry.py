#!/usr/bin/env python3
"""Speed of true geometries on MLX's GPU: loam beside mlx-lm, each on random 4-bit weights (group 64), in one run.

    bench/mlx_geometry.py [--loam build/loam] [--peer] [--folder DIR] [--prompt 512] [--new 128] [--batches 1,8] 8b 32b 30b

Makes the model folders in DIR (18 GB for 32b: a memory disk does), runs `loam bench` on them at each batch, with --peer the
same through mlx-lm, and prints one line for each. Weights do not matter to speed; to experts only that they are spread.
"""
import argparse
import importlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import time

import numpy as np

COMMON = dict(rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=False, max_position_embeddings=32768,
              quantization=dict(group_size=64, bits=4), eos_token_id=0)
SHAPES = {  # from the config.json of each model's repository on the Hugging Face hub
    "32b": dict(model_type="qwen2", hidden_size=5120, num_hidden_layers=64, intermediate_size=27648, num_attention_heads=40,
                num_key_value_heads=8, vocab_size=152064),
    "8b": dict(model_type="qwen3", hidden_size=4096, num_hidden_layers=36, intermediate_size=12288, num_attention_heads=32,
               num_key_value_heads=8, head_dim=128, vocab_size=151936),
    "30b": dict(model_type="qwen3_moe", hidden_size=2048, num_hidden_layers=48, intermediate_size=6144, num_attention_heads=32,
                num_key_value_heads=4, head_dim=128, num_experts=128, num_experts_per_tok=8, decoder_sparse_step=1, mlp_only_layers=[],
                moe_intermediate_size=768, norm_topk_prob=True, vocab_size=151936),
}
SHAPES["tiny"] = dict(SHAPES["8b"], hidden_size=256, num_hidden_layers=2, intermediate_size=512, num_attention_heads=4, num_key_value_heads=2,
                      head_dim=64, vocab_size=1024)
SHAPES["tinymoe"] = dict(SHAPES["30b"], hidden_size=256, num_hidden_layers=2, intermediate_size=512, num_attention_heads=4, num_key_value_heads=2,
                         head_dim=64, vocab_size=1024, num_experts=16, num_experts_per_tok=4, moe_intermediate_size=128)
BLOCK = 1 << 26
bits = np.random.default_rng(1).integers(0, 256, BLOCK, dtype=np.uint8).tobytes()


def bf16(x):
    return (np.asarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def repeat(unit, n):
    """n bytes of unit over and over."""
    for at in range(0, n, len(unit)):
        yield unit[:min(len(unit), n - at)]


def tensors(c):
    """(name, dtype, shape, bytes in pieces) of a model of shape c."""
    dim, kv, ffn = c["hidden_size"], c["num_key_value_heads"], c["intermediate_size"]
    heads, head = c["num_attention_heads"], c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    rng = np.random.default_rng(2)

    def plain(name, *shape, spread=None):
        values = bf16(np.ones(4096) if spread is None else rng.normal(0, spread, 1 << 16)).tobytes()
        yield name + ".weight", "BF16", shape, repeat(values, 2 * int(np.prod(shape)))

    def quantised(name, *shape):
        *rows, cols = shape
        scale = 1 / (4.6 * cols ** 0.5)
        n = int(np.prod(rows)) * cols
        yield name + ".weight", "U32", (*rows, cols // 8), repeat(bits, n // 2)
        yield name + ".scales", "BF16", (*rows, cols // 64), repeat(bf16(np.full(4096, scale)).tobytes(), n // 32)
        yield name + ".biases", "BF16", (*rows, cols // 64), repeat(bf16(np.full(4096, -7.5 * scale)).tobytes(), n // 32)

    yield from quantised("model.embed_tokens", c["vocab_size"], dim)
    yield from quantised("lm_head", c["vocab_size"], dim)
    yield from plain("model.norm", dim)
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        yield from plain(at + "input_layernorm", dim)
        yield from plain(at + "post_attention_layernorm", dim)
        for name, rows in ("q", heads * head), ("k", kv * head), ("v", kv * head):
            yield from quantised(at + f"self_attn.{name}_proj", rows, dim)
            if c["model_type"] == "qwen2":
                yield at + f"self_attn.{name}_proj.bias", "BF16", (rows,), repeat(bf16(rng.normal(0, 1, 4096)).tobytes(), 2 * rows)
        yield from quantised(at + "self_attn.o_proj", dim, heads * head)
        if c["model_type"].startswith("qwen3"):
            yield from plain(at + "self_attn.q_norm", head)
            yield from plain(at + "self_attn.k_norm", head)
        if c.get("num_experts"):
            yield from plain(at + "mlp.gate", c["num_experts"], dim, spread=2 / dim ** 0.5)
            wide = c["moe_intermediate_size"]
            for name, shape in ("gate", (wide, dim)), ("up", (wide, dim)), ("down", (dim, wide)):
                yield from quantised(at + f"mlp.switch_mlp.{name}_proj", c["num_experts"], *shape)
        else:
            for name, shape in ("gate", (ffn, dim)), ("up", (ffn, dim)), ("down", (dim, ffn)):
                yield from quantised(at + f"mlp.{name}_proj", *shape)


def make(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    c = {**COMMON, **SHAPES[name]}
    (folder / "config.json").write_text(json.dumps(c))
    size = {"U32": 4, "BF16": 2}
    header, at = {}, 0
    for tensor, dtype, shape, _ in tensors(c):
        end = at + int(np.prod(shape)) * size[dtype]
        header[tensor] = dict(dtype=dtype, shape=shape, data_offsets=[at, end])
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb", buffering=0) as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for *_, pieces in tensors(c):
            for piece in pieces:
                f.write(piece)
    return c


def run_loam(a, folder, name, batch, env):
    command = [a.loam, "bench", "--model", folder, "--substrate", "mlx", "-p", a.prompt, "-n", a.new, "-s", batch, "-r", 3, "--json"]
    done = subprocess.run([str(x) for x in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **env})
    if done.returncode:
        return print(f"{name} batch {batch}: loam exited {done.returncode}: {done.stderr.strip()[-600:]}", flush=True)
    print(f"{name} batch {batch} loam {done.stdout.strip()}", flush=True)


def run_peer(name, batches, n_prompt, n_new):
    """As mlx_lm generates: the prompt through the cache, then a token a step, the next one begun before this one is done."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.models.cache import make_prompt_cache

    shape = {k: v for k, v in {**COMMON, **SHAPES[name]}.items() if k not in ("quantization", "eos_token_id")}
    module = importlib.import_module("mlx_lm.models." + shape["model_type"])
    model = module.Model(module.ModelArgs.from_dict(shape))
    model.set_dtype(mx.bfloat16)
    nn.quantize(model, group_size=64, bits=4, class_predicate=lambda path, m: hasattr(m, "to_quantized") and not path.endswith("mlp.gate"))
    mx.eval(model.parameters())
    for batch in batches:
        ids = mx.random.randint(0, 1000, (batch, n_prompt))
        prefill, decode = [], []
        for _ in range(3):
            cache = make_prompt_cache(model)
            mx.eval(ids)
            start = time.perf_counter()
            for at in range(0, n_prompt - 1, 2048):
                model(ids[:, at:min(at + 2048, n_prompt - 1)], cache=cache)
                mx.eval([c.state for c in cache])
            token = mx.argmax(model(ids[:, -1:], cache=cache)[:, -1], -1)[:, None]
            mx.eval(token)
            first = time.perf_counter()
            for _ in range(n_new - 1):
                following = mx.argmax(model(token, cache=cache)[:, -1], -1)[:, None]
                mx.async_eval(following)
                mx.eval(token)
                token = following
            mx.eval(token)
            prefill.append(batch * n_prompt / (first - start))
            decode.append(batch * (n_new - 1) / (time.perf_counter() - first))
        print(f"{name} batch {batch} mlx-lm prompt {np.median(prefill):.1f} generation {np.median(decode):.1f} tok/s", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="+", choices=SHAPES)
    p.add_argument("--loam", default="build/loam")
    p.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/dev/shm/loam-geometry"))
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--new", type=int, default=128)
    p.add_argument("--batches", default="1,8")
    p.add_argument("--peer", action="store_true", help="mlx-lm too")
    p.add_argument("--only-peer", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("--env", default="", help="A=1,B=2 for loam")
    a = p.parse_args()
    batches = [int(b) for b in a.batches.split(",")]
    for name in a.names:
        if a.only_peer:
            run_peer(name, batches, a.prompt, a.new)
            continue
        folder = a.folder / name
        start = time.perf_counter()
        make(folder, name)
        print(f"{name}: made in {time.perf_counter() - start:.0f} s", flush=True)
        for batch in batches:
            run_loam(a, folder, name, batch, dict(x.split("=") for x in a.env.split(",") if x))
        shutil.rmtree(folder)
        if a.peer:  # a process of its own: what it leaves on the GPU goes with it
            for batch in batches:
                subprocess.run([sys.executable, __file__, "--only-peer", "--prompt", str(a.prompt), "--new", str(a.new), "--batches", str(batch), name])


if __name__ == "__main__":
    main()
