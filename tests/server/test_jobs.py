"""Embeddings, scores and prompts' log-probabilities on their way through the engine: who leaves, who is late, who waits, how a
server ends. As for answers (test_life.py), whose endings they share. The fake engine takes prefill=MS a text."""

import json
import re

import pytest

from servers import leave, read_answer, refused

PATHS = ["/v1/embeddings", "/v1/score", "/v1/completions"]


def body_of(path, how, **more):
    text = f"[fake {how}]"
    return {"/v1/embeddings": {"input": [text, "more"]}, "/v1/score": {"prompt": text, "continuation": "x"},
            "/v1/completions": {"prompt": [text, "more"], "prompt_logprobs": 1, "max_tokens": 1}}[path] | more


def begin(server, path, how, **more):
    """A connection on which the request was sent."""
    body = json.dumps(body_of(path, how, **more)).encode()
    s = server.connect()
    s.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return s


def counted(server, path, how):
    name = {"/v1/embeddings": "loam_embedding_requests_total", "/v1/score": "loam_score_requests_total"}.get(path, "vllm:request_success_total")
    text = server.get("/metrics")[2].decode()
    return int(re.search(rf'^{name}{{[^}}]*finished_reason="{how}"}} (\d+)$', text, re.M)[1])


def counter(server, name):
    return float(re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", server.get("/metrics")[2].decode(), re.M)[1])


@pytest.mark.parametrize("hard", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize("path", PATHS)
def test_client_leaves(server, path, hard):
    before = counted(server, path, "abort")
    s = begin(server, path, "prefill=100000")
    server.until("the start", lambda h: h["running"] == 1)
    leave(s, hard)
    server.until("the end", lambda h: h["running"] == 0)
    assert counted(server, path, "abort") == before + 1


def test_nobody_waits_for_anybody(server):
    """More of them than threads that could be blocked; and one more is answered beside them."""
    held = [begin(server, path, "prefill=100000") for path in PATHS * 4]
    server.until("all of them", lambda h: h["running"] == len(held))
    for path in PATHS:
        assert server.post(path, body_of(path, "prefill=1"))[0] == 200
    assert server.chat("hello")[0] == 200
    for s in held:
        s.close()
    server.until("the end", lambda h: h["running"] == 0)


@pytest.mark.parametrize("path", [*PATHS, "/v1/chat/completions"])
def test_timeouts_are_those_of_answers(server, start, path):
    def late(server, **how):
        more = how.pop("more", {})
        if path == "/v1/chat/completions":
            body = {"messages": [{"role": "user", "content": "[fake prefill=100000]"}], **more}
        else:
            body = body_of(path, "prefill=100000", **more)
        return refused(server.post(path, body, **how), 408, None, "timeout")

    before = counter(server, "loam_request_timeouts_total")
    late(server, more={"timeout": 0.05})
    late(server, headers={"X-Request-Timeout": "0.05"})
    assert counter(server, "loam_request_timeouts_total") == before + 2
    late(start("--answer-timeout", 1))
    refused(server.post(path, body_of(path, "") if path in PATHS else {"messages": []}, headers={"X-Request-Timeout": "soon"}), 400, "X-Request-Timeout")


def test_answers_count_among_what_requests_may_hold(start):
    """A vector of the fake engine is four numbers, with their text 72 bytes: 2000 of them are more than the limit, 1500 leave no room for 500 more."""
    def texts(n, first=""):
        return {"input": [f"[fake {first}]"] + ["x"] * (n - 1)}

    s = start("--max-body", 65536, "--body-memory", 140000)
    refused(s.post("/v1/embeddings", texts(2000)), 413, None, "request_too_large")
    assert s.post("/v1/embeddings", texts(1500))[0] == 200
    held = begin(s, "/v1/embeddings", "", **texts(1500, "prefill=100000"))
    s.until("it waits", lambda h: h["running"] > 0)
    refused(s.post("/v1/embeddings", texts(500)), 503, None, "too_many_bytes")
    assert s.post("/v1/embeddings", texts(2))[0] == 200
    held.close()
    s.until("the end", lambda h: h["running"] == 0)
    assert s.post("/v1/embeddings", texts(500))[0] == 200 and counter(s, "loam_http_held_bytes") < 16384


@pytest.mark.parametrize("path", PATHS)
def test_limits_are_checked(server, path):
    for wrong in ({"timeout": 0}, {"timeout": "1"}, {"priority": 0.5}, {"priority": 1 << 31}):
        refused(server.post(path, body_of(path, "", **wrong)), 400, next(iter(wrong)))
    assert server.post(path, body_of(path, "", timeout=60, priority=-3))[0] == 200


@pytest.mark.parametrize("path", PATHS)
def test_full_queue(server, path):
    before = counter(server, "loam_requests_refused_total")
    status, headers, body = server.post(path, body_of(path, "busy=7"))
    assert status == 429 and headers["Retry-After"] == "7" and body["error"]["code"] == "queue_full"
    assert counter(server, "loam_requests_refused_total") == before + 1


@pytest.mark.parametrize("path", PATHS)
def test_failure(server, path):
    before = counted(server, path, "error")
    status, _, body = server.post(path, body_of(path, "fail=1"))
    assert status == 500 and "the machine failed" in body["error"]["message"]
    assert counted(server, path, "error") == before + 1


@pytest.mark.parametrize("path", PATHS)
def test_too_long(start, path):
    s = start("--context", 20)
    body = body_of(path, "", **({"input": ["a", "b" * 30]} if path == "/v1/embeddings" else {"prompt": "b" * 30}))
    refused(s.post(path, body), 400, "input[1]" if path == "/v1/embeddings" else "prompt", "context_length_exceeded")


def test_drain_lets_them_end(start):
    s = start()
    held = [begin(s, path, "prefill=700") for path in PATHS]
    s.until("all of them", lambda h: h["running"] == len(held))
    s.signal()
    assert [read_answer(c)[0] for c in held] == [200] * len(held)
    assert s.wait() == 0


def test_drain_timeout_ends_them(start):
    s = start("--drain-timeout", 1)
    held = [begin(s, path, "prefill=100000") for path in PATHS]
    s.until("all of them", lambda h: h["running"] == len(held))
    s.signal()
    for c in held:
        status, _, body = read_answer(c)
        assert status == 503 and json.loads(body)["error"]["code"] == "shutting_down"
    assert s.wait() == 0


def test_drain_does_not_wait_for_an_engine_that_hangs(start):
    s = start("--drain-timeout", 1)
    c = begin(s, "/v1/embeddings", "hang=100000")
    s.until("it hangs", lambda h: h["running"] == 1)
    s.signal()
    assert s.wait() == 1 and "does not end" in s.log()
    c.close()


def test_metrics_and_log(start):
    s = start("--log-json")
    for path in PATHS[:2]:
        assert s.post(path, body_of(path, "prefill=20"))[0] == 200
        assert counted(s, path, "stop") == 1
    text = s.get("/metrics")[2].decode()
    for name, least in ("loam_embedding_latency_seconds", 0.04), ("loam_score_latency_seconds", 0.02):
        assert float(re.search(rf"^{name}_sum{{.*}} (\S+)$", text, re.M)[1]) >= least
        assert re.search(rf"^{name}_count{{.*}} 1$", text, re.M)
    assert counter(s, "vllm:e2e_request_latency_seconds_count") == 0, "nor are they among answers"
    c = begin(s, "/v1/embeddings", "prefill=100000")
    s.until("the start", lambda h: h["running"] == 1)
    c.close()
    s.until("the end", lambda h: h["running"] == 0)
    assert s.stop() == 0
    lines = [json.loads(line) for line in s.log().splitlines() if line.startswith("{")]
    first, second, third = [line for line in lines if line.get("path") in PATHS]
    n = len("[fake prefill=20]")
    assert first["finish"] == second["finish"] == "stop" and first["prompt_tokens"] == n + 4 and second["prompt_tokens"] == n + 1
    assert first["model"] and first["queue_s"] >= 0 and first["prefill_s"] >= 0.04
    assert third["finish"] == "gone" and "prefill_s" not in third


def test_a_model_that_loads_for_too_long(start, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    (tmp_path / "second" / "load_ms").write_text("600")
    s = start("--model", tmp_path / "first", "--model", tmp_path / "second", model=None)
    for path in [*PATHS[:2], "/tokenize"]:
        body = {"prompt": "x"} if path == "/tokenize" else body_of(path, "")
        refused(s.post(path, {**body, "model": "second"}, headers={"X-Request-Timeout": "0.05"}), 408, None, "timeout")
    assert s.stop() == 0
