"""The server with the real engine and the real default model: what it says about itself is so."""

import hashlib
import json
import os
import random
import select
import shutil
import sys
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from conftest import COMMAND
from servers import Server, chat_bytes, environment, read_answer, read_until

WORDS = "The quick brown fox jumps over the lazy dog. "
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(smollm2, tmp_path_factory):
    s = Server(COMMAND, smollm2, "--port", 0, "--context", 2048, "--temp", 0, env=environment(tmp_path_factory.mktemp("home")))
    yield s
    assert s.until("the end of all work", lambda h: h["running"] == 0 and h["waiting"] == 0)["pages_used"] == 0
    assert s.stop() == 0


def metrics(server):
    return {(s.name, s.labels.get("finished_reason") or s.labels.get("state") or s.labels.get("le")): s.value
            for f in text_string_to_metric_families(server.get("/metrics")[2].decode()) for s in f.samples}


def test_health_follows_the_engine(server):
    with server.connect() as c:
        c.sendall(chat_bytes(WORDS * 150, stream=True, max_tokens=200, ignore_eos=True))
        assert server.until("prefill", lambda h: h["state"] == "prefill")["running"] == 1
        server.until("decode", lambda h: h["state"] == "decode")
    assert server.until("idle", lambda h: h["state"] == "idle")["status"] == "ok"


def test_metrics_are_the_engines(server):
    """Against what the answers themselves say."""
    before = metrics(server)
    usage = []
    for _ in range(2):
        status, _, body = server.chat("Count to five. " + WORDS * 10, max_tokens=12, ignore_eos=True)
        assert status == 200
        usage.append(body["usage"])
    server.until("the engine's last word", lambda h: h["state"] == "idle" and h["new_tokens"] == before["vllm:generation_tokens_total", None] + 24)
    after = metrics(server)

    def grew(name, label=None):
        return after[name, label] - before[name, label]

    prompt = sum(u["prompt_tokens"] for u in usage)
    cached = sum(u["prompt_tokens_details"]["cached_tokens"] for u in usage)
    assert cached > 0 and grew("vllm:prefix_cache_hits_total") == cached and grew("vllm:prefix_cache_queries_total") == prompt
    assert grew("vllm:prompt_tokens_total") == prompt and grew("loam_prompt_tokens_computed_total") == prompt - cached
    assert grew("vllm:iteration_tokens_total_sum") == prompt - cached + 22 and grew("vllm:iteration_tokens_total_count") == grew("loam_engine_steps_total")
    assert grew("vllm:generation_tokens_total") == 24
    assert grew("vllm:request_success_total", "length") == 2 and grew("vllm:time_to_first_token_seconds_count") == 2
    assert grew("vllm:inter_token_latency_seconds_count") == 22 and grew("vllm:inter_token_latency_seconds_sum") > 0
    assert grew("vllm:request_prefill_time_seconds_sum") > 0 and grew("vllm:request_decode_time_seconds_sum") > 0
    assert grew("vllm:e2e_request_latency_seconds_sum") >= grew("vllm:request_inference_time_seconds_sum")
    assert grew("loam_engine_steps_total") >= 24 and after["loam_model_memory_bytes", None] > 50 * MIB


def test_timeout(server):
    status, _, body = server.chat("Tell a long story.", max_tokens=1900, ignore_eos=True, timeout=0.3)
    assert status == 408 and body["error"]["code"] == "timeout"
    assert server.until("the end", lambda h: h["running"] == 0)["pages_used"] == 0


def test_clients_that_leave(server):
    """At random moments, many at once: every page comes back."""
    rng = random.Random(1)

    def client():
        for _ in range(12):
            with server.connect() as c:
                stream = rng.random() < 0.5
                c.sendall(chat_bytes(WORDS * rng.randint(1, 12), stream=stream, max_tokens=400, n=rng.choice([1, 1, 3])))
                if stream and rng.random() < 0.3:
                    c.recv(100)
                else:
                    threading.Event().wait(rng.random() * 0.2)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for t in clients:
        t.start()
    for t in clients:
        t.join()
    state = server.until("the end of all work", lambda h: h["running"] == 0 and h["waiting"] == 0)
    assert state["pages_used"] == 0 and server.chat("hi", max_tokens=2)[0] == 200


def test_one_keys_prompts_are_not_anothers(smollm2, tmp_path):
    """The prefix cache of one API key tells nobody else what its prompts were; nor does another cache_salt."""
    keys = tmp_path / "keys"
    keys.write_text("".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n" for name in ("ann", "bob")))
    s = Server(COMMAND, smollm2, "--port", 0, "--context", 512, "--api-key-file", keys, env=environment(tmp_path))

    def cached(key, **more):
        body = {"messages": [{"role": "user", "content": WORDS * 12}], "max_tokens": 1, **more}
        answer = s.post("/v1/chat/completions", body, headers={"Authorization": f"Bearer {key}"})
        assert answer[0] == 200
        return answer[2]["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert [cached("ann"), cached("bob")] == [0, 0]
    assert cached("ann") > 50 and cached("bob") > 50
    assert cached("ann", cache_salt="x") == 0 and cached("ann", cache_salt="x") > 50 and cached("bob", cache_salt="x") == 0
    assert s.stop() == 0


def embed_bytes(n_texts, text, **headers):
    body = json.dumps({"input": [text] * n_texts}).encode()
    head = "".join(f"{k}: {v}\r\n" for k, v in {"Host": "localhost", "Content-Type": "application/json", "Content-Length": len(body), **headers}.items())
    return f"POST /v1/embeddings HTTP/1.1\r\n{head}\r\n".encode() + body


def test_a_large_embedding_keeps_nobody_away_and_ends_with_its_client(smollm2, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n" for name in ("ann", "bob")))
    s = Server(COMMAND, smollm2, "--port", 0, "--context", 2048, "--api-key-file", keys, env=environment(tmp_path))
    bob = {"headers": {"Authorization": "Bearer bob"}}
    with s.connect() as ann:
        ann.sendall(embed_bytes(150, WORDS * 150, Authorization="Bearer ann"))
        s.until("the start", lambda h: h["prompt_tokens"] > 0)
        for path, body in (("/v1/embeddings", {"input": "hello"}), ("/v1/score", {"prompt": "hello", "continuation": " world"})):
            assert s.post(path, body, **bob)[0] == 200
        assert not select.select([ann], [], [], 0)[0] and s.health()["running"] >= 1, "ann's goes on"
        before = metrics(s)["loam_engine_steps_total", None]
    state = s.until("the end of all work", lambda h: h["running"] == 0 and h["waiting"] == 0)
    assert state["pages_used"] == 0 and state["prompt_tokens"] < 150 * 1500 / 2
    assert metrics(s)["loam_engine_steps_total", None] - before <= 8  # one that ran, and those between counting and leaving
    late = s.post("/v1/embeddings", {"input": [WORDS * 150] * 100, "timeout": 0.3}, **bob)
    assert late[0] == 408 and late[2]["error"]["code"] == "timeout"
    with s.connect() as c:
        c.sendall(embed_bytes(3, WORDS * 60, Authorization="Bearer ann"))
        s.until("the start", lambda h: h["running"] >= 1)
        s.signal()
        assert read_answer(c)[0] == 200
    assert s.wait() == 0


@pytest.fixture(scope="module")
def three(smollm2, tmp_path_factory):
    """A folder of three models, which are one."""
    folder = tmp_path_factory.mktemp("three")
    for name in ("one", "two", "three"):
        shutil.copytree(smollm2, folder / name, symlinks=False)
    return folder


def test_models_take_turns_under_the_limit(three, tmp_path, loam):
    """Two of three fit: whatever is asked for, they stay under the limit, answer alike, and are as they were when they are
    loaded again. `loam ps` tells."""
    s = Server(COMMAND, None, "--port", 0, "--models-dir", three, "--context", 512, "--max-running", 4, "--temp", 0, "--memory-limit", 430 * MIB,
               env=environment(tmp_path))
    texts, loaded = set(), 0
    for name in ("one", "two", "three", "one", "three", "two"):
        status, _, body = s.chat("Why is the sky blue?", model=name, max_tokens=8)
        assert status == 200, body
        texts.add(body["choices"][0]["message"]["content"])
        models = s.get("/v1/models")[2]["data"]
        assert sum(m["memory_bytes"] for m in models) <= 430 * MIB
        loaded = max(loaded, sum(m["state"] == "loaded" for m in models))
    assert len(texts) == 1 and loaded == 2 and metrics(s)["loam_model_unloads_total", None] >= 2
    table = loam("ps", "--url", s.url).stdout.splitlines()
    assert table[0].split()[:3] == ["NAME", "STATE", "MEMORY"] and len(table) == 4
    assert sorted(line.split()[1] for line in table[1:]) == ["loaded", "loaded", "not-loaded"]
    assert {m["id"] for m in loam.json("ps", "--url", s.url, "--json")} == {"one", "two", "three"}
    assert s.stop() == 0
    done = loam("ps", "--url", s.url, ok=False)
    assert done.returncode == 1 and "is loam serve running there?" in done.stderr


def test_loading_beside_a_stream(three, tmp_path):
    """With real weights: while the second model loads, the first one's stream goes on."""
    s = Server(COMMAND, three / "one", "--port", 0, "--model", three / "two", "--context", 1024, env=environment(tmp_path))
    with s.connect() as c:
        c.sendall(chat_bytes("Tell a story.", stream=True, max_tokens=900, ignore_eos=True))
        read_until(c, b'"content":"')
        answer = []
        other = threading.Thread(target=lambda: answer.append(s.chat("hi", model="two", max_tokens=2)))
        other.start()
        got = 0
        while other.is_alive():
            got += c.recv(65536).count(b'"content":"')
        assert answer[0][0] == 200 and got > 0
    assert s.stop() == 0
    assert json.dumps(answer[0][2])


def status_of(pid, thread=None):
    """What Linux says of a process or thread, numbers alone; memory in bytes."""
    with open(f"/proc/{pid}/status" if thread is None else f"/proc/{pid}/task/{thread}/status") as f:
        fields = (line.split() for line in f)
        return {w[0].rstrip(":"): int(w[1]) * (1024 if w[-1] == "kB" else 1) for w in fields if len(w) > 1 and w[1].isdigit()}


@pytest.mark.heavy  # sanitizers have memory of their own
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_limit_is_the_processs(smollm2, tmp_path):
    """What the system counts, not what we do. Beside weights, KV cache and steps there are the program, the tokenizer and
    requests: 32 MiB are theirs. Prompts of more tokens than there are pages have been everywhere in the cache."""
    limit, beside = 250 * MIB, 32 * MIB
    s = Server(COMMAND, smollm2, "--port", 0, "--memory-limit", limit, "--context", 2048, "--threads", 2, env=environment(tmp_path))
    answers = []

    def ask(seed):
        words = random.Random(seed)
        answers.append(s.chat(" ".join(words.choice(WORDS.split()) for _ in range(1000)), max_tokens=8)[0])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == [200] * 16
    told = metrics(s)["loam_model_memory_bytes", None]
    most = status_of(s.process.pid)["VmHWM"]
    assert told <= limit and most <= limit + beside
    assert most >= limit * 0.9, "the cache was really written to: otherwise this says nothing"
    assert s.stop() == 0


@pytest.mark.heavy  # a sanitizer has threads of its own
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_server_uses_no_processor(server):
    """After work, with its compute threads there. CPU time and wake-ups are the process's own: a busy machine adds to neither.
    Two ticks (20 ms) of three seconds and ten wake-ups are let pass: a timer may fall into them. One that polled every
    100 ms, or a thread that span, would not."""
    assert server.chat("Say something.", max_tokens=30, ignore_eos=True)[0] == 200
    server.until("idle", lambda h: h["state"] == "idle")
    pid = server.process.pid

    def used():
        with open(f"/proc/{pid}/stat") as f:
            times = f.read().rsplit(")", 1)[1].split()
        waked = [status_of(pid, t)["voluntary_ctxt_switches"] for t in os.listdir(f"/proc/{pid}/task")]
        return int(times[11]) + int(times[12]), sum(waked), len(waked)

    ticks, waked, n_threads = used()
    end = time.monotonic() + 3
    while (left := end - time.monotonic()) > 0:
        time.sleep(left)  # the window that is measured
    ticks_after, waked_after, _ = used()
    assert n_threads > 4
    assert ticks_after - ticks <= 2 and waked_after - waked <= 10
