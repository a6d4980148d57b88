"""What loam says of the machine and of what fits into it: show, fit, doctor, bench --bandwidth, du."""

import json
import re
import shlex
import socket
import subprocess

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes

from conftest import COMMAND, Loam
from fake_hub import FakeHub, Repo
from golden import tiny
from golden.test_geometry import MORE_SHAPES, SHAPES
from servers import FAKE, Server, environment

WHOLE = {  # layers and vocabulary, which the geometry tests shorten
    "qwen2.5-32b": ("Qwen2.5-32B and Qwen2.5-Coder-32B", 64, 152064, 4), "qwen2.5-32b-8bit": ("Qwen2.5-32B and Qwen2.5-Coder-32B", 64, 152064, 8),
    "qwen2.5-coder-32b": ("Qwen2.5-32B and Qwen2.5-Coder-32B", 64, 152064, 4), "qwen2.5-14b": ("Qwen2.5-14B", 48, 152064, 4),
    "llama-3.1-8b": ("Llama-3.1-8B", 32, 128256, 4), "qwen3-30b-a3b": ("Qwen3-30B-A3B", 48, 151936, 4),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("fit") / "m", tiny.FAMILIES["llama"], tiny.STORAGES["q4g64"])


@pytest.fixture
def home_of_smollm2(tmp_path):
    return environment(tmp_path)


@pytest.mark.parametrize("name", WHOLE)
def test_shapes_weigh_what_mlx_says(loam, name):
    """MLX's own quantised model of that shape, never made real, has as many bytes."""
    base, layers, vocab, bits = WHOLE[name]
    config = {**SHAPES, **MORE_SHAPES}[base] | {"num_hidden_layers": layers, "vocab_size": vocab}
    model_class, args_class = _get_classes(config)
    whole = model_class(args_class.from_dict(config))
    whole.set_dtype(mx.bfloat16)
    nn.quantize(whole, group_size=64, bits=bits)
    theirs = sum(p.nbytes for _, p in tree_flatten(whole.parameters()))
    told = loam("fit", name, "--machine", "m2-ultra-192", "--json").stdout
    assert json.loads(told)["weight_bytes"] == pytest.approx(theirs, rel=2e-3)


def test_the_expected_table(loam):
    """M1 Max: what was expected of it lies below what its bandwidth allows, and nobody claims to have measured it."""
    text = loam("fit", "--machine", "m1-max-64").stdout
    assert "computed, not measured" in text and "60-80, 15-20" in text and "expected" in text
    told = loam.json("fit", "--machine", "m1-max-64", "--json")
    assert told["figures"] == "computed, not measured" and not told["bandwidth_measured"]
    assert {m["name"] for m in told["models"]} == set(WHOLE)
    for m in told["models"]:
        assert m["fits"] and m["generation_tps_max"] == pytest.approx(400e9 / m["active_bytes"])
        if m["expected"]:
            assert m["generation_tps_max"] > int(re.search(r", (\d+)", m["expected"])[1]), m
    assert not all(m["fits"] for m in loam.json("fit", "--machine", "m1-max-32", "--json")["models"])


def test_fit_foretells_what_the_engine_takes(loam, model):
    """Weights and KV cache to the byte, with the context in whole pages."""
    told = loam.json("fit", model, "--context", 256, "--parallel", 3, "--json")
    took = loam.json("bench", "-m", model, "-c", 256, "-p", 8, "-n", 4, "-r", 1, "--streams", 3, "--substrate", "cpu", "--json")
    assert (told["weight_bytes"], told["kv_bytes"]) == (took["weight_bytes"], took["kv_bytes"])
    assert told["active_bytes"] == pytest.approx(took["active_bytes"], rel=1e-2)
    assert told["fits"] and told["total_bytes"] == told["weight_bytes"] + told["kv_bytes"] + told["scratch_bytes"]
    shown = loam.json("show", model, "--json")
    assert shown["kv_token_bytes"] * 256 * 3 == told["kv_bytes"] and shown["active_bytes"] == told["active_bytes"]
    assert "it fits" in loam("show", model).stdout


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "gpt_oss"])
def test_fit_knows_which_layers_have_windows(loam, tmp_path, family):
    config = dict(tiny.FAMILIES.get(family) or tiny.MORE_FAMILIES[family], sliding_window=48, max_position_embeddings=2048)
    made = tiny.make(tmp_path / family, config, next(iter(tiny.STORAGES.values())))
    for context, parallel in ((2048, 1), (1024, 3), (128, 2)):
        told = loam.json("fit", made, "--context", context, "--parallel", parallel, "--json")
        took = loam.json("bench", "-m", made, "-c", context, "-p", 8, "-n", 4, "-r", 1, "--streams", parallel, "--substrate", "cpu", "--json")
        assert told["kv_bytes"] == took["kv_bytes"]
        if context == 2048:
            assert told["kv_bytes"] < 0.9 * told["kv_token_bytes"] * context


def test_scratch_is_about_right(loam, smollm2, home_of_smollm2):
    """What steps need with the default context, as the engine says once it has rehearsed them."""
    server = Server(COMMAND, smollm2, "--port", 0, "--substrate", "cpu", env=home_of_smollm2)
    try:
        took = float(re.search(r"memory_bytes\{.*?\} (\d+)", server.get("/metrics")[2].decode())[1])
    finally:
        assert server.stop() == 0
    told = loam.json("fit", smollm2, "--json")
    assert told["scratch_bytes"] == pytest.approx(took - told["weight_bytes"] - told["kv_bytes"], rel=0.35)
    assert loam.json("fit", smollm2, "--kv-type", "int8", "--json")["kv_bytes"] < 0.6 * told["kv_bytes"]


def test_what_would_fit_instead(loam):
    def refused(*args):
        done = loam("fit", *args, "--bandwidth", 400, ok=False)
        assert done.returncode == 1 and "it does not fit" in done.stdout, done.stdout + done.stderr
        return done.stdout

    text = refused("qwen2.5-32b", "--memory", "32G")
    context, parallel = map(int, re.search(r"would fit: --context (\d+) --parallel (\d+)", text).groups())
    assert loam("fit", "qwen2.5-32b", "--memory", "32G", "--context", context, "--parallel", parallel).returncode == 0
    assert loam("fit", "qwen2.5-32b", "--memory", "32G", "--context", context + 256, "--parallel", parallel, ok=False).returncode == 1
    assert "4 bits" in refused("qwen2.5-32b-8bit", "--memory", "32GiB")
    assert "loam pull llama-3.1-8b" in refused("qwen2.5-32b", "--memory", "12g", "--parallel", 1)
    assert "smaller" in refused("qwen2.5-32b", "--memory", "1G")


def test_fit_says_what_is_wrong(loam, model):
    for args, word, code in ((["--machine", "pdp-11"], "m1-max-64", 2), (["--memory", "lots"], "64G", 2), (["--memory", "-1G"], "64G", 2),
                             (["--memory", "64Q"], "64G", 2), (["none/such"], "no model", 1), ([model, "--context", 99999], "99999", 2)):
        done = loam("fit", *args, ok=False)
        assert done.returncode == code and word in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_doctor(loam, tmp_path):
    told = loam.json("doctor", "--quick", "--json")
    checks = {}
    for c in told["checks"]:
        checks.setdefault(c["check"], []).append(c)
        assert c["status"] in ("ok", "warn", "fail") and c["message"] and (c["status"] == "ok" or c["do"]), c
    assert told["ok"] and {"version", "system", "processor", "memory", "power", "port", "cache", "store", "models", "bandwidth", "substrate",
                           "default"} <= set(checks)
    assert "matmul" not in checks and checks["memory"][0]["bytes"] > 1e8 and checks["bandwidth"][0]["read_gb_per_s"] > 0.1
    here = {c["substrate"]: c for c in checks["substrate"]}
    assert here["cpu"]["here"] and here["reference"]["here"] and (here["mlx"]["here"] or "mlx" in here["mlx"]["why"])
    text = loam("doctor", "--quick").stdout
    assert re.search(r"^ok +version +loam \d", text, re.M) and re.search(r"\d+ ok, \d+ to look at, 0 wrong", text)


def test_doctor_finds_what_is_wrong(loam, tmp_path, model):
    file = tmp_path / "file"
    file.write_text("")
    done = loam("doctor", "--quick", "--json", ok=False, env={"LOAM_HOME": str(file / "home"), "HF_HUB_CACHE": str(file / "hub")})
    told = json.loads(done.stdout)
    assert done.returncode == 1 and not told["ok"]
    assert any(c["status"] == "fail" and "HF_HUB_CACHE" in c["do"] for c in told["checks"] if c["check"] == "cache")
    here = loam.json("doctor", "--quick", "--json", ok=False, env={"LOAM_SUBSTRATE": "abacus"})
    assert any(c["check"] == "default" and c["status"] == "fail" for c in here["checks"])


def test_doctor_knows_who_has_the_port(loam, model):
    """Another program is a warning, a loam is not."""
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", 8080))
        s.listen()
    except OSError:
        pytest.skip("port 8080 is taken by something else already")
    with s:
        s.settimeout(60)
        p = loam.start("doctor", "--quick", "--json", stdout=subprocess.PIPE, text=True)
        c, _ = s.accept()
        c.close()
        port = [c for c in json.loads(p.communicate()[0])["checks"] if c.get("port") == 8080]
        assert port[0]["status"] == "warn" and "--port" in port[0]["do"]


@pytest.mark.heavy
def test_doctor_multiplies(loam):
    checks = [c for c in loam.json("doctor", "--json")["checks"] if c["check"] == "matmul"]
    assert {"cpu", "reference"} <= {c["substrate"] for c in checks}
    for c in checks:
        assert c["status"] == "ok" and c["tflops"] == pytest.approx(2 * c["n"] ** 3 * c["runs"] / c["seconds"] / 1e12, rel=1e-6) and c["runs"] >= 1


def test_bandwidth(loam):
    assert loam.json("bench", "--bandwidth", "--json")["read_gb_per_s"] > 0.1


def test_bandwidth_in_turns_with_a_model(loam, smollm2):
    run = ["bench", "-m", smollm2, "-p", 8, "-n", 8, "-r", 2, "--json"]
    told = loam.json(*run, "--bandwidth")
    assert told["read_gb_per_s"] > 0.1 and told["generation_tps"] > 0
    assert loam.json(*run)["read_gb_per_s"] == 0


def test_du_and_unfinished(loam, tmp_path, model):
    """What is on the disk, whole or not, and how the unfinished goes."""
    here = Loam(tmp_path)
    hub = FakeHub()
    big = bytes(300000)
    hub.repos["org/m"] = Repo({"config.json": b"{}", "model.safetensors": big})
    hub.fault("status", "Expires", times=99, code=404)
    env = {"HF_ENDPOINT": hub.url}
    here("pull", "org/m", "--part-bytes", 65536, env=env, ok=False)
    told = here.json("du", "--json")
    assert told["models"][0]["name"] == "org/m" and told["unfinished_bytes"] > 0 and told["free_bytes"] > 0
    assert "loam rm --unfinished" in here("du").stdout
    here("rm", "--unfinished")
    assert here.json("du", "--json")["unfinished_bytes"] == 0
    hub.faults.clear()
    here("pull", "org/m", env=env)
    hub.close()
    told = here.json("du", "--json")
    assert told["bytes"] >= len(big) and told["unfinished_bytes"] == 0
    here("rm", "org/m")
    assert here.json("du", "--json")["models"] == []
    assert "which MODEL" in here("rm", ok=False).stderr
