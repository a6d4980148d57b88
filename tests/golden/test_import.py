"""loam import: what a GGUF file says, and what the model folder says, is the same."""

import json
import pathlib
import re
import struct

import gguf
import mlx.core as mx
import numpy as np
import pytest
from tokenizers import Tokenizer

from golden import tiny, to_gguf

T = gguf.GGMLQuantizationType
FAMILIES = {**tiny.FAMILIES, **tiny.MORE_FAMILIES}
# what llama.cpp's converter would not make: its own scaling of the context, experts beside dense layers, biases outside attention
LEFT_OUT = {"ministral", "qwen3_moe-mixed"}
# what GGUF does not say and llama.cpp knows by heart: the tiny model must be as the published ones
KNOWN = {"gemma2": {"query_pre_attn_scalar": 32}, "gemma3_text": {"sliding_window_pattern": 6, "num_hidden_layers": 6},
         "llama-rope3": {"rope_scaling": dict(tiny.LLAMA3, original_max_position_embeddings=8192, factor=32.0)}}

EXACT = [T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.IQ4_NL, T.MXFP4]
NEAR = {T.Q2_K: 0.05, T.Q3_K: 0.02, T.Q4_K: 1e-3, T.Q5_K: 1e-3, T.Q6_K: 0.01, T.IQ4_XS: 1e-3}  # added error allowed, of the weights' size
HALVES = {T.Q4_0: (0,), T.Q4_1: (0, 2), T.Q5_0: (0,), T.Q5_1: (0, 2), T.Q8_0: (0,), T.IQ4_NL: (0,), T.Q2_K: (80, 82), T.Q3_K: (108,),
          T.Q4_K: (0, 2), T.Q5_K: (0, 2), T.Q6_K: (208,), T.IQ4_XS: (0,), T.MXFP4: ()}


def imported(loam, file, name, *more):
    out = loam("import", file, "--name", name, "--force", *more)
    return pathlib.Path(loam.json("show", name, "--json")["path"]), out.stdout


def numbers(folder):
    """{module or parameter: float32}, dequantised with float32 scales: nothing is rounded that the folder has."""
    weights = mx.load(str(folder / "model.safetensors"))
    quantisation = json.loads((folder / "config.json").read_text()).get("quantization", {})
    out = {}
    for name, w in weights.items():
        stem = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")):
            continue
        if stem + ".scales" not in weights:
            out[name] = np.array(w.astype(mx.float32))
            continue
        q = quantisation.get(stem, quantisation)
        how = dict(group_size=q["group_size"], bits=q["bits"], mode=q.get("mode", "affine"))
        if how["mode"] == "affine":
            w = mx.dequantize(w, weights[stem + ".scales"].astype(mx.float32), weights[stem + ".biases"].astype(mx.float32), **how)
        else:
            w = mx.dequantize(w, weights[stem + ".scales"], **how)
        out[name] = np.array(w.astype(mx.float32))
    return out


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in LEFT_OUT])
def test_families(loam, tiny_model, tmp_path, family):
    """Every weight in its place, and a config.json from which mlx_lm computes the same."""
    folder, reference = tiny_model(family, "f32")
    if family in KNOWN:
        folder = tiny.make(tmp_path / "known", {**FAMILIES[family], **KNOWN[family]}, tiny.STORAGES["f32"])
        reference = tiny.Reference(folder)
    values = to_gguf.convert(folder, tmp_path / "m.gguf")
    ours, _ = imported(loam, tmp_path / "m.gguf", "tiny-" + family)
    found = numbers(ours)
    assert found.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value, name)
    ids = np.random.default_rng(3).integers(1, 400, 160).tolist()
    far = tiny.distance(tiny.Reference(ours).logits(ids), reference.logits(ids))
    assert far < 1e-5, f"{family}: mlx_lm's logits from the imported folder differ by {far:.3g} deviations"


@pytest.mark.parametrize("type", [T.Q4_0, T.Q8_0], ids=lambda t: t.name)
@pytest.mark.parametrize("family", ["llama", "qwen3_moe", "gpt_oss"])
def test_packed_families(loam, tiny_model, tmp_path, family, type):
    """Rows in llama.cpp's order, and experts, when they are packed."""
    folder, _ = tiny_model(family, "f32")
    values = to_gguf.convert(folder, tmp_path / "m.gguf", type)
    ours, _ = imported(loam, tmp_path / "m.gguf", "tiny-packed")
    found = numbers(ours)
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value, name)
    tiny.Reference(ours).logits([1, 2, 3])


def random_blocks(rng, type, rows, cols):
    """Blocks of any bits, but scales of a sane size."""
    weights, size = gguf.GGML_QUANT_SIZES[type]
    raw = rng.integers(0, 256, (rows, cols // weights, size), np.uint8)
    for at in HALVES[type]:
        d = rng.normal(0, 1e-3, (rows, cols // weights)).astype(np.float16)
        raw[:, :, at:at + 2] = d[..., None].view(np.uint8)
    if type == T.MXFP4:
        raw[:, :, 0] = rng.integers(110, 130, raw.shape[:2])
    return raw.reshape(rows, -1)


def write_types(file, type, rng):
    """A tiny llama whose matrices are random blocks of this type; returns their values."""
    c = dict(tiny.BASE, model_type="llama", hidden_size=256, num_hidden_layers=1, tie_word_embeddings=True)
    w = gguf.GGUFWriter(file, "llama")
    to_gguf.add_config(w, c, "llama")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([chr(33 + i) if i < 90 else "ab" if i == 90 else chr(0x100 + i) for i in range(512)])
    w.add_token_merges(["a b"])
    values = {}
    shapes = {"token_embd": (512, 256), "blk.0.attn_v": (128, 256), "blk.0.attn_output": (256, 256), "blk.0.ffn_gate": (256, 256),
              "blk.0.ffn_up": (256, 256), "blk.0.ffn_down": (256, 256)}
    for name, (rows, cols) in shapes.items():
        if type in HALVES:
            raw = random_blocks(rng, type, rows, cols)
        else:
            raw = gguf.quants.quantize(rng.normal(0, 1, (rows, cols)).astype(np.float32), type)
        w.add_tensor(name + ".weight", raw, raw_dtype=type)
        values[name] = gguf.quants.dequantize(raw, type)
    for name in ("blk.0.attn_q", "blk.0.attn_k"):
        w.add_tensor(name + ".weight", np.zeros((256 if name.endswith("q") else 128, 256), np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        w.add_tensor(name + ".weight", np.ones(256, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return values


HF = {"token_embd": "model.embed_tokens", "blk.0.attn_v": "model.layers.0.self_attn.v_proj", "blk.0.attn_output": "model.layers.0.self_attn.o_proj",
      "blk.0.ffn_gate": "model.layers.0.mlp.gate_proj", "blk.0.ffn_up": "model.layers.0.mlp.up_proj", "blk.0.ffn_down": "model.layers.0.mlp.down_proj"}


@pytest.mark.parametrize("type", EXACT, ids=lambda t: t.name)
def test_exact_types(loam, tmp_path, type):
    values = write_types(tmp_path / "m.gguf", type, np.random.default_rng(1))
    ours, said = imported(loam, tmp_path / "m.gguf", "tiny-type")
    found = numbers(ours)
    for name, value in values.items():
        np.testing.assert_array_equal(found[HF[name] + ".weight"], value, name)
    assert re.search(rf"^ *{type.name} .*: exact$", said, re.M), said
    if type in HALVES:
        tiny.Reference(ours).logits([1, 2, 3])


@pytest.mark.parametrize("type", NEAR, ids=lambda t: t.name)
def test_near_types(loam, tmp_path, type):
    """The error is small, and it is what loam says it is."""
    values = write_types(tmp_path / "m.gguf", type, np.random.default_rng(2))
    ours, said = imported(loam, tmp_path / "m.gguf", "tiny-type")
    found = numbers(ours)
    off = sum(((found[HF[n] + ".weight"].astype(np.float64) - v) ** 2).sum() for n, v in values.items())
    rel = (off / sum((v.astype(np.float64) ** 2).sum() for v in values.values())) ** 0.5
    assert rel <= NEAR[type], f"{type.name}: added error {rel:.3g}"
    told = float(re.search(rf"^ *{type.name} .*added error ([0-9.e+-]+) ", said, re.M)[1])
    assert told == pytest.approx(rel, rel=0.06), said


@pytest.mark.parametrize("type", [T.Q4_K, T.Q5_K, T.IQ4_XS], ids=lambda t: t.name)
def test_exact_option(loam, tmp_path, type):
    """--exact spends float32 scales, and no weight changes its value."""
    values = write_types(tmp_path / "m.gguf", type, np.random.default_rng(2))
    ours, said = imported(loam, tmp_path / "m.gguf", "tiny-type", "--exact")
    found = numbers(ours)
    for name, value in values.items():
        np.testing.assert_array_equal(found[HF[name] + ".weight"], value, name)
    tiny.Reference(ours).logits([1, 2, 3])


def write_part(whole, out, number, tensors):
    """One file of several, as llama-gguf-split makes them: the first has all the metadata."""
    reader = gguf.GGUFReader(whole)
    w = gguf.GGUFWriter(out, "llama")
    for field in reader.fields.values():
        if number == 0 and not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            w.add_key_value(field.name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    w.add_uint16("split.no", number)
    w.add_uint16("split.count", 3)
    w.add_int32("split.tensors.count", len(reader.tensors))
    for t in reader.tensors[tensors]:
        w.add_tensor(t.name, t.data, raw_dtype=t.tensor_type)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def test_split_files(loam, tmp_path):
    values = write_types(tmp_path / "m.gguf", T.Q4_0, np.random.default_rng(1))
    for i, tensors in enumerate((slice(0, 0), slice(0, 5), slice(5, None))):
        write_part(tmp_path / "m.gguf", tmp_path / f"m-{i + 1:05}-of-00003.gguf", i, tensors)
    ours, _ = imported(loam, tmp_path / "m-00001-of-00003.gguf", "tiny-type")
    found = numbers(ours)
    for name, value in values.items():
        np.testing.assert_array_equal(found[HF[name] + ".weight"], value, name)
    for wrong, word in (("m-00002-of-00003.gguf", "the first"), ("x.gguf", "does not end")):
        if not (tmp_path / wrong).exists():
            (tmp_path / wrong).write_bytes((tmp_path / "m-00001-of-00003.gguf").read_bytes())
        done = loam("import", tmp_path / wrong, "--name", "never", ok=False)
        assert done.returncode == 1 and word in done.stderr
    (tmp_path / "m-00003-of-00003.gguf").write_bytes((tmp_path / "m-00002-of-00003.gguf").read_bytes())
    assert "says it is file 2" in loam("import", tmp_path / "m-00001-of-00003.gguf", "--name", "never", ok=False).stderr
    (tmp_path / "m-00003-of-00003.gguf").unlink()
    assert "m-00003" in loam("import", tmp_path / "m-00001-of-00003.gguf", "--name", "never", ok=False).stderr


def test_large_scales(loam, tmp_path):
    """128 times the scale is beyond float16: then scales are float32, and still exact."""
    c = tmp_path / "m.gguf"
    rng = np.random.default_rng(4)
    old = rng.normal
    values = write_types(c, T.Q8_0, type("Loud", (), {"integers": rng.integers, "normal": lambda self, m, s, n: old(m, 5000, n)})())
    ours, _ = imported(loam, c, "tiny-type")
    found = numbers(ours)
    for name, value in values.items():
        np.testing.assert_array_equal(found[HF[name] + ".weight"], value, name)


VOCABS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "vocab"


def vocabulary_model(source, out):
    """A vocabulary without weights becomes a model: the same metadata, byte for byte, and a matrix of zeros."""
    data = source.read_bytes()
    key = b"tokenizer.ggml.tokens"
    (n,) = struct.unpack_from("<Q", data, data.index(key) + len(key) + 8)
    name = b"token_embd.weight"
    tensor = struct.pack("<Q", len(name)) + name + struct.pack("<IQQIQ", 2, 32, n, T.F16, 0)
    head = data[:8] + struct.pack("<Q", 1) + data[16:] + tensor
    out.write_bytes(head + bytes(-len(head) % 32) + bytes(64 * n))


@pytest.mark.skipif(not VOCABS.exists(), reason="no ../shared/data/vocab beside this checkout")
@pytest.mark.parametrize("vocab", ["llama-bpe", "llama-spm", "phi-3", "qwen2"])
def test_vocabularies(loam, tmp_path, vocab):
    """Published vocabularies: the ids that their own tokenizers give, from tokenizers and from loam."""
    source = VOCABS / f"ggml-vocab-{vocab}.gguf"
    vocabulary_model(source, tmp_path / "m.gguf")
    ours, _ = imported(loam, tmp_path / "m.gguf", "vocab-" + vocab)
    tokenizer = Tokenizer.from_file(str(ours / "tokenizer.json"))
    texts = pathlib.Path(f"{source}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = pathlib.Path(f"{source}.out").read_text().splitlines()
    assert len(lines) >= len(texts) - 1
    wrong = []
    for text, line in zip(texts, lines):
        want = [int(i) for i in line.split()]
        got = tokenizer.encode(text, add_special_tokens=False).ids
        if got != want:
            wrong.append((text, want, got))
    assert not wrong
    asked = "".join(json.dumps(t) + "\n" for t in texts)
    got = [json.loads(x) for x in loam("tokenize", "--model", ours, "--json-lines", "--no-special", stdin=asked).stdout.splitlines()]
    assert got == [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
