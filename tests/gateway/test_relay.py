"""What a client sees when nothing goes wrong, or when it does something wrong itself."""

import json
import socket
import time

import openai
import pytest

from gw import until


def test_answers_of_both_kinds(pair):
    a, b, g = pair
    first, second = g.chat(max_tokens=3), g.chat(max_tokens=3)
    assert first.status == second.status == 200
    assert {first.backend, second.backend} == {"a", "b"}
    assert first.text.startswith(" 0.")
    s = g.stream(max_tokens=6, temperature=0)
    assert s.status == 200 and s.done and not s.errors and s.finish == "length"
    assert s.text == g.chat(max_tokens=6, temperature=0).text
    assert s.headers["Content-Type"] == "text/event-stream"
    t = g.open("hi", path="/v1/completions", max_tokens=4, temperature=0).read()
    assert t.done and t.text == s.text[:len(t.text)]


def test_the_openai_client_is_content(pair):
    _, _, g = pair
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{g.port}/v1", api_key="none", max_retries=0)
    assert [m.id for m in client.models.list()] == ["m"]
    assert client.models.retrieve("m").id == "m"
    r = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=2)
    assert r.usage.completion_tokens == 2
    chunks = list(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=3, stream=True,
                                                 stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 3
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such", messages=[])


def test_a_stream_is_passed_on_as_it_comes(pair):
    _, _, g = pair
    with g.open("[fake delay=60]", max_tokens=5) as s:
        begun = time.monotonic()
        s.until_text()
        early = time.monotonic() - begun
        s.read()
        assert early < (time.monotonic() - begun) / 2


def test_ids_that_only_the_gateway_asked_for_stay_with_it(pair):
    a, _, g = pair
    s = g.stream(max_tokens=5)
    assert b"token_ids" not in s.raw
    asked = g.stream(max_tokens=5, return_token_ids=True)
    ids = [i for e in asked.events for c in e["choices"] for i in c.get("token_ids", [])]
    assert ids == [0, 1, 2, 3, 4]
    assert '"return_token_ids":true' in a.seen()["last"]


def test_a_client_that_leaves_ends_the_work_at_once(pair):
    a, b, g = pair
    for streaming in (True, False):
        before = a.seen()["gone"] + b.seen()["gone"]
        s = socket.create_connection(("127.0.0.1", g.port))
        body = json.dumps({"messages": [{"role": "user", "content": "[fake delay=20]"}], "max_tokens": 1000, "stream": streaming}).encode()
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        until(lambda: a.seen()["running"] + b.seen()["running"] == 1, "the request is with a backend")
        left = time.monotonic()
        s.close()
        until(lambda: a.seen()["gone"] + b.seen()["gone"] == before + 1, "the backend was told")
        noticed = max(x.seen()["gone_s"] for x in (a, b))
        assert noticed - left < 0.1
    assert until(lambda: g.status()["inflight"] == 0)


def test_a_slow_reader_slows_itself_alone(pair):
    a, b, g = pair
    body = json.dumps({"messages": [{"role": "user", "content": "[fake]"}], "max_tokens": 200000, "stream": True}).encode()
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", g.port))
    slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    slow.recv(1000)
    for _ in range(4):
        begun = time.monotonic()
        assert g.stream(max_tokens=20).done
        assert time.monotonic() - begun < 5
    # 200,000 tokens are some 35 MB; a gateway that read on without its client would hold them
    with open(f"/proc/{g.process.pid}/status") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    assert rss < 60_000 or "asan" in str(g.loam), f"{rss} kB"
    slow.close()
    until(lambda: a.seen()["running"] + b.seen()["running"] == 0, "the backend stopped")


def test_what_a_client_does_wrong_is_said_in_openais_form(pair):
    _, _, g = pair
    for body, words in ((b"{", "JSON object"), (b"[1]", "JSON object"), (b'{"model":"m","model":"n"}', "twice"), (b'{"model":3}', "must be a string"),
                        (b'{"a":1 "b":2}', "not valid JSON")):
        r = g.post("/v1/chat/completions", body)
        assert r.status == 400 and words in r.error["message"], r.body
        assert set(r.error) == {"message", "type", "param", "code"}
    r = g.chat(model="no-such-model")
    assert r.status == 404 and r.error["code"] == "model_not_found" and "no-such-model" in r.error["message"]
    assert g.get("/v1/models/no-such").status == 404
    assert g.get("/nothing/here").status == 404


def test_a_backends_refusal_of_the_request_is_passed_on(pair):
    a, b, g = pair
    for x in (a, b):
        x.tell(status=422, count=1)
    r = g.chat()
    assert r.status == 422 and r.error["message"] == "Told to fail."
    assert a.seen()["requests"] + b.seen()["requests"] == 1  # and not tried elsewhere


def test_the_request_id_and_the_trace_travel(pair):
    a, b, g = pair
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    r = g.chat(headers={"X-Request-Id": "mine-1", "traceparent": trace})
    seen = next(s for s in (a.seen(), b.seen()) if s["requests"])
    assert r.headers["X-Request-Id"] == seen["id"] == "mine-1"
    assert seen["trace"].startswith("00-0af7651916cd43dd8448eb211c80319c-") and seen["trace"] != trace
    line = until(lambda: [x for x in g.lines() if x["id"] == "mine-1"])[0]
    assert line["backend"] == r.backend and line["status"] == 200 and line["pool"] == "default"
    g.chat(headers={"X-Request-Id": 'no"good'})
    assert until(lambda: [x for x in g.lines() if x["id"].startswith("req_") and x.get("backend")])


def test_headers_stay_where_they_belong(fake, gateway):
    a = fake("a")
    g = gateway(backends=[a.conf(api_key="sk-backend")])
    g.chat(headers={"Authorization": "Bearer of-the-client", "Cookie": "secret"})
    assert a.seen()["key"] == "Bearer sk-backend"


def test_aliases_and_names_at_the_backend(fake, gateway):
    a, b = fake("a", model="big-at-a"), fake("b", kind="vllm", model="small")
    g = gateway(backends=[a.conf(models={"big": "big-at-a"}), b.conf()], aliases={"gpt-4o": "big"})
    for asked in ("big", "gpt-4o"):
        assert g.chat(model=asked).backend == "a"
        assert '"model":"big-at-a"' in a.seen()["last"].replace(" ", "")
    assert g.chat(model="small").backend == "b"
    assert {m["id"] for m in g.get("/v1/models").json["data"]} == {"big", "gpt-4o", "small"}
    assert {b["name"]: b["kind"] for b in g.status()["backends"]} == {"a": "loam", "b": "vllm"}


def test_pools_and_their_fallbacks(fake, gateway):
    a, b = fake("a", model="big"), fake("b", model="small")
    g = gateway(a, b, pools=[{"name": "large", "backends": ["a"], "models": ["big"], "fallback": ["little"]},
                             {"name": "little", "backends": ["b"], "models": ["small"]}])
    assert g.chat(model="big").backend == "a"
    a.kill()
    r = g.chat(model="big")
    assert r.backend == "b" and '"model":"small"' in b.seen()["last"].replace(" ", "")
    b.kill()
    r = g.chat(model="big")
    assert r.status == 503 and '"large"' in r.error["message"]


def test_a_long_answer_that_is_no_stream_passes_whole(pair):
    _, _, g = pair
    r = g.chat(max_tokens=100_000, temperature=0)
    assert r.status == 200 and r.text.endswith("99999." + r.text[-3:]) and r.json["usage"]["completion_tokens"] == 100_000


def test_bodies_of_all_clients_share_one_budget(fake, gateway):
    mb = 1 << 20
    a = fake("a")
    g = gateway(a, limits={"body_bytes": 8 * mb, "all_bodies_bytes": 8 * mb})

    def half_sent(n):
        c = socket.create_connection(("127.0.0.1", g.port), 30)
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (n + 1) + b" " * n)
        return c

    with half_sent(6 * mb):
        until(lambda: g.metric("loam_gateway_held_bytes") >= 6 * mb)
        with half_sent(3 * mb) as second:
            answer = second.recv(65536)
            assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in answer and b"too_many_bytes" in answer
        assert g.chat(max_tokens=1).status == 200, "a small one is answered all the same"
    until(lambda: g.metric("loam_gateway_held_bytes") < mb)
