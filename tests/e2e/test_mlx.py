"""The MLX substrate under the server and with its own settings. What its operations and models compute: tests/kern, tests/golden."""

import json
import os
import shutil
import socket
import time

import mlx.core as mx
import numpy as np
import pytest

from conftest import COMMAND, SLOW
from golden import tiny
from servers import Server, environment

pytestmark = pytest.mark.skipif("LOAM_MLX" not in os.environ or SLOW, reason="`make mlx` builds it, for this machine")
PROMPT = [int(i) for i in np.random.default_rng(3).integers(1, 390, 700)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("mlx") / "tiny", tiny.FAMILIES["llama"], tiny.STORAGES["q4g64"])


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    env = {**environment(tmp_path_factory.mktemp("home")), "LOAM_MLX": os.environ["LOAM_MLX"]}
    s = Server(COMMAND, model, "--port", 0, "--substrate", "mlx", "--exact", "--temp", 0, env=env)
    yield s
    assert s.stop() == 0


def ask(server, ids, **more):
    status, _, answer = server.request("POST", "/v1/completions", {"model": "tiny", "prompt": ids, "max_tokens": 8, "temperature": 0, **more})
    assert status == 200, answer
    return answer


def test_prefix_is_read_once(server):
    first = ask(server, PROMPT)
    again = ask(server, PROMPT)
    other = ask(server, PROMPT[:600] + [5, 6, 7])
    assert again["choices"][0]["text"] == first["choices"][0]["text"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= 640
    assert 512 <= other["usage"]["prompt_tokens_details"]["cached_tokens"] <= 600
    assert ask(server, PROMPT[:600] + [5, 6, 7], cache_salt="alone")["choices"][0]["text"] == other["choices"][0]["text"]


def test_client_that_leaves_in_prefill(server):
    """Its prompt is long; the next client's answer is as if it had never been there."""
    before = ask(server, PROMPT[:90], cache_salt="before")["choices"][0]["text"]
    body = json.dumps({"model": "tiny", "prompt": PROMPT + PROMPT[:200], "max_tokens": 64, "stream": True, "cache_salt": "gone"}).encode()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                      % (len(body), body))
    assert ask(server, PROMPT[:90], cache_salt="after")["choices"][0]["text"] == before
    end = time.monotonic() + 30
    while running(server):
        assert time.monotonic() < end, "what nobody reads any more still runs"
        time.sleep(0.05)


def metric(server, name):
    lines = [line for line in server.get("/metrics")[2].decode().splitlines() if line.startswith((name + " ", name + "{"))]
    assert lines, name
    return sum(float(line.split()[-1]) for line in lines)


def running(server):
    return metric(server, "vllm:num_requests_running")


def test_prompt_that_nobody_waits_for_is_not_run_to_its_end(model, tmp_path):
    """Its client leaves while the engine says that it reads the prompt, a dozen steps long."""
    long = [int(i) for i in np.random.default_rng(4).integers(1, 390, 6000)]
    shutil.copytree(model, tmp_path / "long")
    config = json.loads((tmp_path / "long" / "config.json").read_text())
    (tmp_path / "long" / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    s = Server(COMMAND, tmp_path / "long", "--port", 0, "--substrate", "mlx", env={**environment(tmp_path), "LOAM_MLX": os.environ["LOAM_MLX"]})
    try:
        body = json.dumps({"model": "long", "prompt": long, "max_tokens": 1, "stream": True}).encode()
        with socket.create_connection(("127.0.0.1", s.port)) as client:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                           % (len(body), body))
            end = time.monotonic() + 60
            while metric(s, "loam_prompt_tokens_computed_total") == 0:
                assert time.monotonic() < end, "no step of the prompt was ever run"
        while running(s):
            assert time.monotonic() < end, "what nobody reads any more still runs"
        assert 0 < metric(s, "loam_prompt_tokens_computed_total") < len(long) - 512
    finally:
        assert s.stop() == 0


@pytest.mark.parametrize("how", [{"temperature": 0}, {"temperature": 0.8, "top_p": 0.9, "seed": 7}, {"temperature": 1.2, "top_k": 20, "seed": 8}])
def test_tokens_chosen_on_the_device(server, how):
    """The host's choice, which log-probabilities need, is the same."""
    before = metric(server, "loam_engine_steps_ahead_total")
    ahead = ask(server, PROMPT[:50], max_tokens=40, ignore_eos=True, **how)["choices"][0]["text"]
    between = metric(server, "loam_engine_steps_ahead_total")
    alone = ask(server, PROMPT[:50], max_tokens=40, ignore_eos=True, logprobs=1, **how)["choices"][0]["text"]
    assert between >= before + 38 and metric(server, "loam_engine_steps_ahead_total") == between
    assert ahead == alone


def logits(loam, model, **env):
    return loam("logits", "--model", model, "--tokens", "5,6,7", "--json", "--substrate", "mlx", ok=False, env=env)


def test_recast_to_f16(loam, model):
    """What an M1 or M2 computes faster in: close to bfloat16's exact values."""
    exact = json.loads(logits(loam, model).stdout)["logits"]
    ours = json.loads(logits(loam, model, LOAM_MLX_TYPE="f16").stdout)["logits"]
    assert 0 < tiny.distance(ours, np.array(exact)) < 0.05


def test_recast_that_does_not_fit(loam, tmp_path):
    """bfloat16 reaches further than float16."""
    folder = tiny.make(tmp_path / "far", tiny.FAMILIES["llama"], tiny.STORAGES["bf16"])
    path = next(folder.glob("*.safetensors"))
    weights = mx.load(str(path))
    name = "model.layers.1.mlp.down_proj.weight"
    weights[name] = mx.where(mx.arange(weights[name].size).reshape(weights[name].shape) == 77, mx.array(1e5, mx.bfloat16), weights[name])
    mx.save_safetensors(str(tmp_path / "new.safetensors"), weights, {"format": "mlx"})
    shutil.move(tmp_path / "new.safetensors", path)
    assert logits(loam, folder).returncode == 0
    run = logits(loam, folder, LOAM_MLX_TYPE="f16")
    assert run.returncode == 1 and f"{name}: it has numbers that float16 does not" in run.stderr


def test_type_that_is_none(loam, model):
    run = logits(loam, model, LOAM_MLX_TYPE="int8")
    assert run.returncode == 1 and "LOAM_MLX_TYPE must be f16, bf16 or f32" in run.stderr
