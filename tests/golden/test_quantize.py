"""loam quantize: the bytes that mx.quantize and mlx_lm.convert make."""

import contextlib
import io
import json
import pathlib
import shutil

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.convert import convert

from golden import tiny
from golden.test_import import numbers

FAMILIES = {**tiny.FAMILIES, **tiny.MORE_FAMILIES}
TYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
WAYS = [("affine", b, g) for b in (2, 3, 4, 5, 6, 8) for g in (32, 64, 128)] + [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]


def hostile(rng, rows, cols):
    """Rows of very different kinds."""
    w = rng.normal(0, 1, (rows, cols))
    blocks = rng.integers(0, 9, (rows, cols // 32)).repeat(32, 1)
    size = np.exp2(rng.integers(-18, 10, (rows, cols // 32)).repeat(32, 1))
    choices = [w, w * 1e-3, w * 1e-6, w * np.exp(rng.normal(0, 2, w.shape)), np.round(w * 4) / 4, np.zeros_like(w),
               np.broadcast_to(w[:, :1] * 0.37, w.shape), np.abs(w) + 2, w * size]
    w = np.choose(blocks, choices)
    return np.clip(w, -3e4, 3e4).astype(np.float32)


def write_model(folder, weights, **config):
    folder.mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(dict(tiny.BASE, model_type="llama", **config)))
    return folder


def read(folder):
    folder = pathlib.Path(folder)
    weights = {k: (np.array(v.view(mx.uint8) if v.ndim else v), v.dtype, v.shape) for k, v in mx.load(str(folder / "model.safetensors")).items()}
    return weights, json.loads((folder / "config.json").read_text())


def quantized(loam, folder, *options):
    loam("quantize", folder, "--name", "tiny-quantized", "--force", *options)
    return read(loam.json("show", "tiny-quantized", "--json")["path"])


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, (value, dtype, shape) in theirs.items():
        assert ours[name][1:] == (dtype, shape), name
        np.testing.assert_array_equal(ours[name][0], value, name)


@pytest.mark.parametrize("type", TYPES)
def test_packing(loam, tmp_path, type):
    """Every mode, on hostile numbers, bit for bit as mx.quantize."""
    rng = np.random.default_rng(5)
    w = mx.array(hostile(rng, 512, 256)).astype(TYPES[type])
    folder = write_model(tmp_path / "m", {"model.embed_tokens.weight": w, "model.norm.weight": mx.ones(256)}, torch_dtype=type)
    for mode, bits, group in WAYS:
        ours, config = quantized(loam, folder, "--mode", mode, "--bits", bits, "--group-size", group)
        packed = mx.quantize(w, group_size=group, bits=bits, mode=mode)
        for part, array in zip(("weight", "scales", "biases"), packed):
            np.testing.assert_array_equal(ours[f"model.embed_tokens.{part}"][0], np.array(array.view(mx.uint8)), f"{mode} {bits} {group} {part}")
        assert config["quantization"] == {"group_size": group, "bits": bits, "mode": mode} == config["quantization_config"]
        assert ours["model.norm.weight"][1] == TYPES[type]


def as_transformers(folder, out):
    """The folder as transformers keeps it: an expert a tensor."""
    shutil.copytree(folder, out)
    weights = {}
    for name, w in mx.load(str(out / "model.safetensors")).items():
        if "switch_mlp" in name:
            for i in range(w.shape[0]):
                weights[name.replace("switch_mlp", f"experts.{i}")] = w[i]
        else:
            weights[name] = w
    mx.save_safetensors(str(out / "model.safetensors"), weights, metadata={"format": "pt"})
    (out / "model.safetensors.index.json").unlink()
    return out


MODELS = [
    ("llama", "bf16", dict(q_bits=4, q_group_size=64)),
    ("llama-tied", "f16", dict(q_bits=8, q_group_size=32)),
    ("llama", "f32", dict(q_bits=3, q_group_size=128, dtype="float16")),
    ("llama", "bf16", dict(q_mode="mxfp4")),
    ("qwen2", "bf16", dict(quant_predicate="mixed_2_6", q_group_size=64)),
    ("qwen2-tied", "bf16", dict(quant_predicate="mixed_3_4", q_group_size=32)),
    ("llama-bias", "f16", dict(quant_predicate="mixed_3_6", q_group_size=64)),
    ("phi3", "bf16", dict(quant_predicate="mixed_4_6", q_group_size=64)),
    ("qwen3_moe", "bf16", dict(q_bits=4, q_group_size=64)),
    ("qwen3_moe-mixed", "bf16", dict(q_bits=6, q_group_size=32)),
    ("granite", "bf16", dict(q_mode="nvfp4")),
    ("gpt_oss", "bf16", dict(q_mode="mxfp8")),
    ("gemma3_text", "bf16", dict(q_bits=5, q_group_size=32)),
    ("olmo2", "f32", dict(q_bits=2, q_group_size=64)),
]


@pytest.mark.parametrize("family,storage,how", MODELS, ids=[f"{f}-{i}" for i, (f, _, _) in enumerate(MODELS)])
def test_as_mlx_lm_converts(loam, tmp_path, family, storage, how):
    """Whole models: the same tensors, names, types and "quantization"."""
    config = {**FAMILIES[family], **({"num_hidden_layers": 9} if "quant_predicate" in how else {})}
    source = as_transformers(tiny.make(tmp_path / "mlx", config, tiny.STORAGES[storage]), tmp_path / "hf")
    with contextlib.redirect_stdout(io.StringIO()):
        convert(str(source), str(tmp_path / "converted"), quantize=True, **how)
    theirs, their_config = read(tmp_path / "converted")
    flags = {"q_bits": "--bits", "q_group_size": "--group-size", "q_mode": "--mode", "quant_predicate": "--recipe", "dtype": "--dtype"}
    ours, our_config = quantized(loam, source, *(x for k, v in how.items() for x in (flags[k], v)))
    assert_same(ours, theirs)
    assert our_config["quantization"] == their_config["quantization"]
    path = pathlib.Path(loam.json("show", "tiny-quantized", "--json")["path"])
    assert (path / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    tiny.Reference(path).logits([1, 2, 3])


@pytest.mark.parametrize("options,word", [
    (["--bits", 7], "7 bits"), (["--group-size", 48], "48"), (["--mode", "mxfp4", "--bits", 8], "mxfp4"), (["--mode", "fp5"], "--mode"),
    (["--recipe", "mixed_9_9"], "mixed_9_9"), (["--recipe", "mixed_2_6", "--mode", "nvfp4"], "affine"), (["--dtype", "int8"], "int8")])
def test_refusals(loam, tiny_model, options, word):
    folder, _ = tiny_model("llama", "f32")
    done = loam("quantize", folder, "--name", "never", *options, ok=False)
    assert done.returncode in (1, 2) and word in done.stderr and done.stderr.count("\n") == 1
    assert loam("show", "never", ok=False).returncode == 1


@pytest.mark.parametrize("storage", ["q8g32", "q4g64-f32", "q3g64", "mxfp4", "nvfp4", "mixed-4-8"])
def test_quantised_again(loam, tiny_model, storage):
    """What is quantised already is unpacked and packed anew."""
    folder, _ = tiny_model("llama", storage)
    ours, config = quantized(loam, folder, "--bits", 5, "--group-size", 32)
    assert config["quantization"] == {"group_size": 32, "bits": 5, "mode": "affine"}
    type = mx.float32 if storage == "q4g64-f32" else mx.bfloat16
    for name, value in numbers(folder).items():
        value = mx.array(value).astype(type)
        if value.ndim < 2:
            continue
        stem = name.removesuffix(".weight")
        for part, array in zip(("weight", "scales", "biases"), mx.quantize(value, group_size=32, bits=5)):
            np.testing.assert_array_equal(ours[f"{stem}.{part}"][0], np.array(array.view(mx.uint8)), f"{stem}.{part}")


def test_refuses_what_does_not_fit(loam, tiny_model, tmp_path):
    """Codes and scales that disagree with config.json, or with one another."""
    folder, _ = tiny_model("llama", "q8g32")
    for i, change in enumerate((dict(bits=4), dict(group_size=64), dict(mode="mxfp8"))):
        bad = tmp_path / str(i)
        shutil.copytree(folder, bad)
        config = json.loads((bad / "config.json").read_text())
        config["quantization"].update(change)
        (bad / "config.json").write_text(json.dumps(config))
        done = loam("quantize", bad, "--name", "never", ok=False)
        assert done.returncode == 1 and "fit together" in done.stderr, done.stderr
