"""What the server makes of bytes: well-formed, malformed, slow, large, cut off."""

import json
import re
import socket
import threading
import time

import pytest

from servers import chat_bytes, events, read_all, read_answer, read_until


def error_of(answer):
    status, headers, body = answer
    assert headers["content-type"] == "application/json"
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return status, error


def parse(data):
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}, body


def test_keep_alive(server):
    with server.connect() as s:
        for i in range(5):
            s.sendall(chat_bytes(f"number {i} [fake echo=1]"))
            status, headers, body = read_answer(s)
            assert status == 200 and f"number {i}" in json.loads(body)["choices"][0]["message"]["content"]


def test_pipelined_requests_are_answered_in_order(server):
    with server.connect() as s:
        s.sendall(b"".join(chat_bytes(f"number {i} [fake echo=1 delay=1]") for i in range(8)))
        data, texts = b"", []
        for i in range(8):
            data = read_until(s, b"\r\n\r\n", data)
            head, _, rest = data.partition(b"\r\n\r\n")
            n = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(rest) < n:
                rest += s.recv(65536)
            texts.append(json.loads(rest[:n])["choices"][0]["message"]["content"])
            data = rest[n:]
        assert [f"number {i}" in t for i, t in enumerate(texts)] == [True] * 8


def test_many_pipelined_bytes_wait_in_the_kernel(server):
    """While an answer runs, what is sent ahead is neither lost nor read without a limit."""
    with server.connect() as s:
        s.sendall(chat_bytes("[fake tokens=20 delay=10]"))
        more = chat_bytes("x" * 180_000 + "[fake tokens=1]", connection="close")
        s.sendall(more)
        data = read_all(s)
        assert data.count(b"HTTP/1.1 200 OK") == 2


def test_chunked_body(server):
    body = json.dumps({"messages": [{"role": "user", "content": "chunks [fake echo=1]"}]}).encode()
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]) for i in range(0, len(body), 7))
    status, _, answer = server.raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                                   + pieces + b"0\r\n\r\n", close=False)
    assert status == 200 and b"chunks" in answer


def test_byte_by_byte(server):
    with server.connect() as s:
        for b in chat_bytes("slow [fake tokens=3]"):
            s.send(bytes([b]))
        assert read_answer(s)[0] == 200


def test_expect_100_continue(server):
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    with server.connect() as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert read_until(s, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        s.sendall(body)
        assert read_answer(s)[0] == 200


@pytest.mark.parametrize("data, status", [
    (b"nonsense\r\n\r\n", 400),
    (b"GET / HTTP/9.9\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n", 400),
    (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
    (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: twelve\r\n\r\n", 400),
    (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 413),
    (b"GET /health HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 400),
    (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", 400),
    (b"BREW /coffee HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    (b"GET /health HTTP/1.1\r\nHost: localhost\r\nExpect: miracles\r\nContent-Length: 3\r\n\r\nabc", 417),
    (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\nGET /health HTTP/1.1\r\n\r\n", 400),
], ids=lambda v: v[:40].decode("latin-1").replace("\r\n", " ") if isinstance(v, bytes) else str(v))
def test_malformed_is_a_json_error_and_the_end_of_the_connection(server, data, status):
    answer = server.raw(data)
    assert answer.count(b"HTTP/1.1 ") == 1, "one answer, and nothing that followed was taken for a request"
    got, error = error_of(parse(answer))
    assert got in (status, 400)
    assert b"<html" not in answer.lower()
    assert server.health()["status"] == "ok"


def test_the_start_of_a_body_is_not_a_second_request(server):
    """Two lengths that contradict each other must not let a body be read as a request (smuggling)."""
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = server.raw(b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(hidden) + hidden
                        + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b'"object":"list"' not in answer


@pytest.mark.parametrize("method, path, status, allow", [
    ("GET", "/nothing/here", 404, None),
    ("GET", "/v1/chat/completions", 405, "POST"),
    ("DELETE", "/v1/models", 405, "GET"),
    ("PATCH", "/health", 405, "GET"),
    ("TRACE", "/health", 405, "GET"),
    ("POST", "/v1/models/default", 405, "GET"),
])
def test_paths_and_methods(server, method, path, status, allow):
    got, headers, body = server.request(method, path)
    assert got == status and body["error"]["message"]
    if allow:
        assert allow in headers["Allow"].split(", ")


def test_options_names_the_methods(server):
    status, headers, _ = server.request("OPTIONS", "/v1/chat/completions")
    assert status == 204 and "POST" in headers["Allow"] and "Access-Control-Allow-Origin" not in headers


def test_head_is_get_without_a_body(server):
    answer = server.raw(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    status, headers, body = parse(answer)
    assert status == 200 and int(headers["content-length"]) > 50 and body == b""


def test_http_1_0(server):
    whole = server.raw(chat_bytes("[fake tokens=3]").replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"keep-alive", b"close"))
    assert b'"abc"' in whole
    stream = server.raw(chat_bytes("[fake tokens=3]", stream=True).replace(b"HTTP/1.1", b"HTTP/1.0"))
    head, _, body = stream.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower() and b"content-length" not in head.lower()
    chunks, done = events(body)
    assert done and "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "abc"


def test_body_too_large(start):
    s = start("--max-body", 100_000)
    status, _, body = s.post("/v1/chat/completions", b"x" * 100_001)
    assert status == 413 and "100000" in body["error"]["message"]
    assert s.post("/v1/chat/completions", b" " * 20_000_000)[0] == 413, "even far larger ones can read the answer"
    with s.connect() as c:
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        c.sendall(b"186a1\r\n" + b"x" * 100_001 + b"\r\n")
        assert read_answer(c)[0] == 413
    assert s.chat("x" * 90_000)[0] == 200


def test_slow_loris(start):
    """A request must arrive in time, however steadily it trickles; a silent connection must go, too."""
    s = start("--request-timeout", 1, "--idle-timeout", 1)
    before = time.monotonic()
    trickle, silent, kept = s.connect(), s.connect(), s.connect()
    kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert read_answer(kept)[0] == 200
    trickle.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
    trickle.settimeout(0.05)
    answer = b""
    while not answer and time.monotonic() < before + 20:
        try:
            trickle.send(b"x")
            answer = trickle.recv(65536)
        except socket.timeout:
            pass
    assert b" 408 " in answer and b'"code":"request_timeout"' in answer
    assert b" 408 " in read_all(silent), "nothing was ever said"
    assert read_all(kept) == b"", "idle after its request"
    assert 0.9 < time.monotonic() - before < 15
    for c in (trickle, silent, kept):
        c.close()


def test_too_many_connections(start):
    s = start("--max-connections", 5)
    held = [s.connect() for _ in range(5)]
    for c in held:  # each is there before the next comes
        c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(c)[0] == 200
    with s.connect() as c:
        status, error = error_of(parse(read_all(c)))
        assert status == 503 and error["code"] == "too_many_connections"
    held[0].sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b'\nloam_http_refused_total{code="503"} 1\n' in read_answer(held[0])[2], "who never came to a handler counts"
    for c in held:
        c.close()
    while b" 200 " not in s.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
        pass


def test_request_ids_differ_and_are_logged(start):
    s = start()
    ids = {s.get("/health")[1]["X-Request-Id"] for _ in range(20)}
    assert s.stop() == 0
    assert len(ids) == 20 and all(i in s.log() for i in ids)


def test_log_has_no_prompt_and_no_forged_line(start):
    s = start("--log-json")
    s.chat("a secret prompt")
    s.raw(b'GET /x%0aforged\x1b[2J" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    assert s.stop() == 0
    lines = [json.loads(line) for line in s.log().splitlines()]
    assert len(lines) == 2
    assert "secret" not in s.log() and "\x1b" not in s.log()
    assert lines[0]["status"] == 200 and lines[0]["new_tokens"] == 8 and lines[0]["finish"] == "length"


def test_query_is_allowed_and_not_logged(start):
    s = start()
    assert s.get("/health?token=hush")[0] == 200
    assert s.stop() == 0
    assert "hush" not in s.log() and "/health 200" in s.log()


def half_sent(s, n, chunked=False):
    """A request of which n bytes of the body have come, and more is owed; the server has refused it, or has them."""
    c = s.connect()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    try:
        if chunked:
            c.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"1000\r\n" + b" " * 4096 + b"\r\n") * (n // 4096))
        else:
            c.sendall(head + b"Content-Length: %d\r\n\r\n" % (n + 1) + b" " * n)
    except ConnectionError:
        pass  # refused before the end
    return c


def held_bytes(s):
    return int(re.search(rb"^loam_http_held_bytes (\S+)$", s.get("/metrics")[2], re.M)[1])


def resident_mb(s):
    with open(f"/proc/{s.process.pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1]) // 1024


@pytest.mark.parametrize("chunked", [False, True])
def test_all_bodies_share_one_budget(start, chunked):
    mb = 1 << 20
    s = start("--max-body", 16 * mb, "--body-memory", 40 * mb)
    held = [half_sent(s, 12 * mb, chunked) for _ in range(3)]
    s.until("all bodies are there", lambda _: held_bytes(s) >= 36 * mb)
    refused = half_sent(s, 12 * mb, chunked)
    status, headers, body = read_answer(refused)
    error = json.loads(body)["error"]
    assert status == 503 and error["code"] == "too_many_bytes" and str(40 * mb) in error["message"]
    assert int(headers["retry-after"]) >= 1 and headers["connection"] == "close" and read_all(refused) == b""
    refused.close()
    assert s.chat("small ones are answered all the same")[0] == 200
    for c in held:
        c.close()
    s.until("the budget is free again", lambda _: held_bytes(s) < mb)
    assert s.chat("x" * 8 * mb)[0] in (200, 400), "a large one fits again; what the engine makes of it is another matter"


def test_a_body_of_many_values_is_counted_as_what_they_take(start):
    s = start("--body-memory", 40 << 20)
    before = resident_mb(s)
    status, _, body = s.post("/v1/completions", b'{"prompt":[' + b"1," * (2 << 20) + b"1]}")
    assert status == 413 and body["error"]["code"] == "request_too_large" and resident_mb(s) < before + 40
    text = ',{"[:' * (1 << 20) + 'a\\"'
    assert s.chat(text)[0] == 400, "in a string they are letters: too long for the context is what is wrong with it"


def test_many_at_once_do_not_refuse_each_other_all(start):
    """Who does not fit gives its memory back at once, and the others get theirs."""
    mb = 1 << 20
    s = start("--body-memory", 32 * mb)
    answers = []
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 10 * mb}]}).encode()

    def ask():
        try:
            answers.append(s.post("/v1/chat/completions", body)[0])
        except ConnectionError:
            answers.append(503)  # it was refused, and still sent when the server would not wait any more

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(answers) == 8 and answers.count(400) >= 3, "as many as fit were taken; what the engine says of them is another matter"
    s.until("the budget is free again", lambda _: held_bytes(s) < mb)


@pytest.mark.heavy  # sanitizers keep freed memory for a while
def test_memory_of_bodies_goes_back(start):
    """Neither clients that left nor connections that stay open keep what their requests took."""
    mb = 1 << 20
    s = start()
    before = resident_mb(s)
    gone = [half_sent(s, 12 * mb, chunked=i % 2) for i in range(8)]
    s.until("all bodies are there", lambda _: held_bytes(s) >= 90 * mb)
    assert resident_mb(s) > before + 80
    for c in gone:
        c.close()
    kept = [s.connect() for _ in range(8)]
    for c in kept:
        c.sendall(chat_bytes("x" * 4 * mb))
    for c in kept:
        assert read_answer(c)[0] in (200, 400)
    s.until("memory is back with the system", lambda h: resident_mb(s) < before + 20)
    for c in kept:
        c.close()
