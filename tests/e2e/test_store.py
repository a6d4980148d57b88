"""Models come in, are listed, shown, verified and removed; what is wrong is refused, and leaves nothing behind."""

import hashlib
import json
import pathlib
import shlex
import struct
import subprocess

import mlx.core as mx
import numpy as np
import pytest

from conftest import COMMAND
from golden import tiny, to_gguf

TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("store") / "m", tiny.FAMILIES["llama"], tiny.STORAGES["f32"])


@pytest.fixture(scope="module")
def file(folder):
    to_gguf.convert(folder, folder.parent / "tiny.gguf", to_gguf.T.Q8_0, TEMPLATE)
    return folder.parent / "tiny.gguf"


def refused(loam, *args, code=1, env=None):
    done = loam(*args, ok=False, env=env)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1 and not done.stdout, done.stderr
    return done.stderr


def left(loam):
    """Everything in the store's folder."""
    models = loam.home / "loam" / "models"
    return sorted(p.name for p in models.iterdir()) if models.exists() else []


def names(loam):
    return {m["name"] for m in loam.json("ls", "--json")}


def test_in_and_out(loam, file):
    loam("import", file, "--name", "one")
    loam("import", file, "--name", "org/two:4b")
    assert {"one", "org/two:4b"} <= names(loam)
    assert "org/two:4b" in loam("ls").stdout
    told = loam.json("show", "org/two:4b", "--json")
    assert pathlib.Path(told["path"]).samefile(loam.home / "loam/models/org/two:4b")
    parameters = sum(w.size for w in mx.load(str(file.parent / "m" / "model.safetensors")).values())
    assert (told["family"], told["parameters"], told["context_length"]) == ("llama", parameters, 1024)
    assert told["quantisation"] == {"mode": "affine", "bits": 8, "group_size": 32}
    assert told["tensors"] == len(mx.load(told["path"] + "/model.safetensors"))
    assert loam.json("show", told["path"], "--json")["parameters"] == parameters
    assert "8-bit affine, group 32" in loam("show", "one").stdout
    loam("rm", "one", "org/two:4b")
    assert not {"one", "org/two:4b"} & names(loam)
    assert "org" not in left(loam)
    assert "one" in refused(loam, "rm", "one")


def test_names(loam, file):
    for name in ("../x", "/x", "a/b/c", "", ".x", "a b", "x" * 300):
        assert "name" in refused(loam, "import", file, "--name", name)
        refused(loam, "rm", name)
    loam("import", file)  # called as the file
    assert "tiny" in names(loam)
    assert "--force" in refused(loam, "import", file)
    loam("import", file, "--force")
    loam("rm", "tiny")
    refused(loam, "import", code=2)
    refused(loam, "import", file, "--all-from-ollama", code=2)
    assert "no-such" in refused(loam, "import", "no-such.gguf")


def key(name, kind, value):
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def text(s):
    return struct.pack("<Q", len(s)) + s


@pytest.mark.parametrize("change,word", [
    (lambda d: b"", "not a GGUF"), (lambda d: d[:100], "cut off"), (lambda d: d[:-1], "end of the file"), (lambda d: d[:len(d) // 2], "end of the file"),
    (lambda d: b"PK" + d[2:], "not a GGUF"), (lambda d: d.replace(b"llama", b"llana"), "llana"),
    (lambda d: d.replace(b"llama.block_count", b"llama.blocc_count"), "block_count"),
    (lambda d: d.replace(b"blk.0.attn_q.weight", b"blk.0.attn_x.weight"), "attn_x"),
    (lambda d: d.replace(b"blk.2.attn_q.weight", b"blk.9.attn_q.weight"), "blk.9"),
    (lambda d: d.replace(b"gpt2", b"wpm2"), "wpm2"), (lambda d: d.replace(b"gpt-2", b"gpt-9"), "gpt-9"),
    (lambda d: d.replace(b"tokenizer.ggml.merges", b"tokenizer.ggml.mergez"), "merges"),
    (lambda d: d.replace(b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz"), "tokens"),
    (lambda d: d.replace(text(b"the"), text(b"\xff\xfe\xfd")), "not text"),
    (lambda d: d.replace(text(b"token_embd.weight"), text(b"token_embx.weight")), "token_embd"),
])
def test_bad_files(loam, file, tmp_path, change, word):
    (tmp_path / "bad.gguf").write_bytes(change(file.read_bytes()))
    before = left(loam)
    assert word in refused(loam, "import", tmp_path / "bad.gguf", "--name", "bad")
    assert left(loam) == before


def test_full_disk(loam, file):
    """Any file that cannot be written in full is an error, and the folder goes."""
    before = left(loam)
    for kilobytes in (0, 10, 400):
        command = f"trap '' XFSZ; ulimit -f {kilobytes}; exec {shlex.join(COMMAND)} import {shlex.quote(str(file))} --name full"
        done = subprocess.run(["bash", "-c", command], env=loam.env, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and "cannot write" in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert left(loam) == before


# ---- Ollama


def put_blob(store, data):
    digest = hashlib.sha256(data).hexdigest()
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    (store / "blobs" / f"sha256-{digest}").write_bytes(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def put_model(store, name, *layers):
    kind = "application/vnd.ollama.image."
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **put_blob(store, b"{}")},
                "layers": [{"mediaType": kind + k, **(put_blob(store, v) if isinstance(v, bytes) else v)} for k, v in layers]}
    path = store / "manifests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))


@pytest.fixture
def ollama(file, tmp_path):
    store = tmp_path / "ollama"
    model = file.read_bytes()
    put_model(store, "registry.ollama.ai/library/tinyllama/latest", ("model", model), ("template", b"{{ .Prompt }}"), ("license", b"MIT"),
              ("system", b"Be brief."), ("params", json.dumps({"temperature": 0.7, "top_p": 0.9, "repeat_penalty": 1.1, "stop": ["<|end|>"],
                                                               "num_ctx": 4096}).encode()))
    put_model(store, "registry.ollama.ai/library/tinyllama/8b-q8", ("model", model))
    put_model(store, "hf.co/someone/Tiny-GGUF/Q8_0", ("model", model))
    put_model(store, "registry.ollama.ai/me/tuned/v1", ("model", model), ("adapter", b"lora"))
    return store


def test_ollama(loam, ollama):
    env = {"OLLAMA_MODELS": str(ollama)}
    loam("import", "ollama:tinyllama", env=env)
    path = pathlib.Path(loam.json("show", "tinyllama", "--json")["path"])
    generation = json.loads((path / "generation_config.json").read_text())
    assert generation == {"eos_token_id": 0, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1, "stop_strings": ["<|end|>"], "do_sample": True}
    assert (path / "ollama_template.txt").read_text() == "{{ .Prompt }}"
    assert (path / "ollama_system.txt").read_text() == "Be brief."
    assert json.loads((path / "ollama_params.json").read_text())["num_ctx"] == 4096
    assert json.loads((path / "loam.json").read_text())["source"] == "ollama:tinyllama"
    asked = json.dumps({"messages": [{"role": "user", "content": "Hi"}]})
    assert loam("template", "--model", "tinyllama", stdin=asked).stdout == "[user]Hi"  # the GGUF's own, not Ollama's
    loam("import", "ollama:tinyllama:8b-q8", env=env)
    loam("import", "ollama:hf.co/someone/Tiny-GGUF:Q8_0", "--name", "renamed", env=env)
    assert {"tinyllama", "tinyllama:8b-q8", "renamed"} <= names(loam)
    loam("rm", "tinyllama", "tinyllama:8b-q8", "renamed")


def test_all_from_ollama(loam, ollama):
    done = loam("import", "--all-from-ollama", env={"OLLAMA_MODELS": str(ollama)}, ok=False)
    assert done.returncode == 1 and "adapter" in done.stderr  # and yet the others are there
    assert {"tinyllama", "tinyllama:8b-q8", "someone/Tiny-GGUF:Q8_0"} <= names(loam)
    again = loam("import", "--all-from-ollama", env={"OLLAMA_MODELS": str(ollama)}, ok=False)
    assert again.stdout.count("already") == 3
    loam("rm", "tinyllama", "tinyllama:8b-q8", "someone/Tiny-GGUF:Q8_0")


def test_ollama_refusals(loam, ollama, tmp_path):
    env = {"OLLAMA_MODELS": str(ollama)}
    before = left(loam)
    for name in ("nothing", "tinyllama:70b", "../../x", "a/../b", "x:y:z", "", ":", "/x"):
        refused(loam, "import", "ollama:" + name, env=env)
    library = "registry.ollama.ai/library/"
    evil = {"digest": "sha256:../../../../etc/passwd", "size": 1}
    put_model(ollama, library + "evil/latest", ("model", evil))
    assert "digest" in refused(loam, "import", "ollama:evil", env=env)
    gone = {"digest": "sha256:" + "0" * 64, "size": 1}
    put_model(ollama, library + "gone/latest", ("model", gone))
    assert "pull" in refused(loam, "import", "ollama:gone", env=env)
    good = put_blob(ollama, b"GGUF or not")
    (ollama / "blobs" / good["digest"].replace(":", "-")).write_bytes(b"GGUF or nut")
    put_model(ollama, library + "damaged/latest", ("model", good))
    assert "damaged" in refused(loam, "import", "ollama:damaged", env=env)
    put_model(ollama, library + "short/latest", ("model", {**good, "size": 5}))
    assert "should have 5" in refused(loam, "import", "ollama:short", env=env)
    put_model(ollama, library + "empty/latest", ("template", b"x"))
    assert "no weights" in refused(loam, "import", "ollama:empty", env=env)
    (ollama / "manifests" / library / "broken").mkdir()
    (ollama / "manifests" / library / "broken" / "latest").write_text("{")
    refused(loam, "import", "ollama:broken", env=env)
    assert "OLLAMA_MODELS" in refused(loam, "import", "--all-from-ollama", env={"OLLAMA_MODELS": str(tmp_path / "none")})
    assert left(loam) == before


# ---- verify


@pytest.fixture
def model(loam, file):
    loam("import", file, "--name", "checked", "--force")
    yield pathlib.Path(loam.json("show", "checked", "--json")["path"])
    loam("rm", "checked")


def failed(loam, check):
    done = loam("verify", "checked", "--json", ok=False)
    checks = json.loads(done.stdout)["checks"]
    assert done.returncode == 1 and [c["check"] for c in checks if not c["ok"]] == [check], checks
    return checks[-1]["message"]


def test_verify(loam, model):
    told = loam.json("verify", "checked", "--json")
    assert told["ok"] and [c["check"] for c in told["checks"]] == ["hashes", "tensors", "tokenizer", "template", "logits"]
    assert loam("verify", "checked").stdout.count(" ok: ") == 5


def test_verify_finds_what_changed(loam, model):
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "SHA-256" in failed(loam, "hashes")


def test_verify_finds_shapes(loam, model):
    (model / "loam.json").unlink()
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "intermediate_size": 288}))
    failed(loam, "tensors")


def test_verify_finds_numbers_that_are_none(loam, model):
    (model / "loam.json").unlink()
    weights = mx.load(str(model / "model.safetensors"))
    weights["model.norm.weight"][3] = float("nan")
    mx.save_safetensors(str(model / "model.safetensors"), weights)
    assert "model.norm.weight: number 3" in failed(loam, "tensors")


def test_verify_finds_templates(loam, model):
    (model / "loam.json").unlink()
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "{{ raise_exception('no') }}"}))
    assert "no" in failed(loam, "template")
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "{{ bos_token }}"}))
    assert "not in the prompt" in failed(loam, "template")


def test_verify_compares_logits(loam, model, folder):
    """Goldens of mlx_lm's own are met; one that is off is named."""
    reference = tiny.Reference(model)
    cases = []
    for ids in ([1, 2, 3], [5], list(range(7, 47))):
        row = reference.logits(ids)[-1]
        cases.append({"tokens": ids, "logits": [[int(i), float(row[i])] for i in np.argsort(-row)[:10]]})
    goldens = {"version": 1, "source": "mlx_lm", "tolerance": 1e-2, "cases": cases}
    (model / "goldens.json").write_text(json.dumps(goldens))
    assert "3 cases" in loam.json("verify", "checked", "--json")["checks"][-1]["message"]
    off = cases[1]["logits"][4]
    off[1] += 0.5
    (model / "goldens.json").write_text(json.dumps(goldens))
    assert f"case 1: token {off[0]} " in failed(loam, "logits")
    for bad in ("{}", '{"cases": [{"tokens": []}]}', '{"cases": [{"tokens": [1]}]}', '{"cases": [{"tokens": [99999], "logits": [[0, 1]]}]}',
                '{"cases": [{"tokens": [1], "logits": [[-1, 0]]}]}', "["):
        (model / "goldens.json").write_text(bad)
        failed(loam, "logits")


def test_verify_records(loam, model):
    loam("verify", "checked", "--record")
    assert len(json.loads((model / "goldens.json").read_text())["cases"]) == 3
    assert "3 cases, " in loam.json("verify", "checked", "--json")["checks"][-1]["message"]


def test_hugging_face_cache(loam, folder):
    """A hub model is found by its id, listed and removed, and verified by the names of its blobs."""
    repo = loam.home / "hf" / "hub" / "models--mlx-community--tiny"
    snapshot = repo / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc123")
    for source in folder.iterdir():
        data = source.read_bytes()
        blob = repo / "blobs" / (hashlib.sha256(data).hexdigest() if source.suffix == ".safetensors" else hashlib.sha1(data).hexdigest())
        blob.write_bytes(data)
        (snapshot / source.name).symlink_to(pathlib.Path("../../blobs") / blob.name)
    assert "mlx-community/tiny" in names(loam)
    assert loam.json("show", "mlx-community/tiny", "--json")["family"] == "llama"
    told = loam.json("verify", "mlx-community/tiny", "--json", ok=False)
    assert told["checks"][0] == {"check": "hashes", "ok": True, "message": "1 file as recorded"}
    loam("rm", "mlx-community/tiny")
    assert not repo.exists()
