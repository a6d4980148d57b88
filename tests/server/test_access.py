"""Who may use the server: API keys and their limits, TLS, connections of one address."""

import hashlib
import http.client
import json
import re
import shutil
import signal
import ssl
import subprocess
import threading

import pytest

from servers import FAKE, chat_bytes, dechunk, events, read_all, read_answer, read_until

CHAT = {"messages": [{"role": "user", "content": "hi [fake tokens=5]"}]}


def line(name, key, *limits):
    return " ".join([name, hashlib.sha256(key.encode()).hexdigest(), *map(str, limits)]) + "\n"


def use(server, key=None, path="/v1/chat/completions", **headers):
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return server.post(path, CHAT, headers=headers) if path != "/health" else server.get(path, headers=headers)


def test_keys(start, tmp_path):
    file = tmp_path / "keys"
    file.write_text("# who may\n\n" + line("ann", "loam-a") + line("bob.2", "loam-b") + "\n")
    s = start("--api-key-file", file)
    for key in (None, "", "loam-x", "loam-a x", "Loam-a", "ann"):
        status, headers, body = use(s, key)
        assert status == 401 and headers["WWW-Authenticate"] == "Bearer" and body["error"]["code"] == "invalid_api_key", key
    assert use(s, Authorization="Basic bG9hbS1h")[0] == 401
    assert use(s, "loam-a")[0] == 200 and use(s, "loam-b")[0] == 200 and use(s, **{"X-API-Key": "loam-a"})[0] == 200
    assert s.get("/v1/models")[0] == 401 and s.get("/nothing")[0] == 401
    assert s.get("/health")[0] == 200 and s.get("/")[0] == 200 and s.get("/app.js")[0] == 200
    assert s.stop() == 0
    assert s.log().count(" key=ann ") == 2 and s.log().count(" key=bob.2 ") == 1 and "loam-" not in s.log()


def test_keys_are_read_again(start, tmp_path):
    file = tmp_path / "keys"
    file.write_text(line("ann", "loam-a"))
    s = start("--api-key-file", file)
    assert use(s, "loam-a")[0] == 200 and use(s, "loam-b")[0] == 401
    file.write_text(line("bob", "loam-b"))
    s.signal(signal.SIGHUP)
    while use(s, "loam-b")[0] != 200:
        pass
    assert use(s, "loam-a")[0] == 401
    file.write_text("bob what\n")
    s.signal(signal.SIGHUP)
    while "kept the old keys" not in s.log():
        pass
    assert use(s, "loam-b")[0] == 200
    assert s.stop() == 0


@pytest.mark.parametrize("text, words", [
    ("ann\n", "line 1: want NAME"), ("# x\nann zz\n", "line 2: a hash is"), ("a/b " + "0" * 64, "line 1: a name"),
    ("ann " + "0" * 64 + " many", "line 1: a limit"), ("ann " + "0" * 64 + " 1 2 3", "line 1: want NAME"), (None, "keys")])
def test_wrong_key_files(start, tmp_path, text, words):
    file = tmp_path / "keys"
    if text:
        file.write_text(text)
    s = start("--api-key-file", file, ready=False)
    assert s.wait() == 1 and words in s.log() and str(file) in s.log()


def test_limits(start, tmp_path):
    file = tmp_path / "keys"
    file.write_text(line("few", "loam-f", 3) + line("short", "loam-s", 0, 60) + line("free", "loam-0"))
    s = start("--api-key-file", file)
    assert [use(s, "loam-f")[0] for _ in range(4)] == [200, 200, 200, 429]
    status, headers, body = use(s, "loam-f")
    assert body["error"]["code"] == "rate_limit_exceeded" and 1 <= int(headers["Retry-After"]) <= 20
    first = use(s, "loam-s")
    assert first[0] == 200
    while first[0] == 200:
        used = first[2]["usage"]["total_tokens"]
        first = use(s, "loam-s")
    assert first[0] == 429 and used < 60
    assert all(use(s, "loam-0")[0] == 200 for _ in range(20)), "one key's limit is its own"


def test_one_key_from_the_environment(start):
    s = start(LOAM_API_KEY="secret words")
    assert use(s)[0] == 401 and use(s, "secret words")[0] == 200


def test_making_a_key(start, tmp_path):
    made = [subprocess.run([*FAKE, "key", "ann", "--requests", "5"], capture_output=True, text=True, check=True) for _ in range(2)]
    keys = [m.stderr.split()[7] for m in made]
    assert keys[0] != keys[1] and all(k.startswith("loam-") and len(k) == 45 for k in keys)
    file = tmp_path / "keys"
    file.write_text(made[0].stdout)
    s = start("--api-key-file", file)
    assert use(s, keys[0])[0] == 200 and use(s, keys[1])[0] == 401


def test_connections_of_one_address(start):
    s = start("--max-connections-per-address", 3)
    held = [s.connect() for _ in range(3)]
    for c in held:
        c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(c)[0] == 200
    with s.connect() as c:
        assert b"too_many_connections" in read_all(c)
    held[0].close()
    while b" 200 " not in s.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
        pass
    for c in held:
        c.close()


def test_silent_streams_get_comments(start):
    s = start("--keep-alive", 1)
    with s.connect() as c:
        c.sendall(chat_bytes("[fake tokens=2 prefill=2500]", stream=True, connection="close"))
        data = read_until(c, b": keep-alive\n\n")
        assert b'"role":"assistant"' in data and b'"content":"a"' not in data
        data += read_all(c)
    assert data.count(b": keep-alive") == 2 and b'"content":"b"' in data


@pytest.mark.parametrize("path", ["key", "cert"])
def test_tls_files_that_are_none(start, tmp_path, path):
    (tmp_path / "cert").write_text("nonsense")
    s = start("--tls-cert", tmp_path / "cert", "--tls-key", tmp_path / "cert", ready=False)
    assert s.wait() == 1 and str(tmp_path / "cert") in s.log()


@pytest.fixture
def certificate(tmp_path):
    """certificate(name) -> (cert file, key file), self-signed."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make a certificate")

    def make(name):
        cert, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                       check=True, capture_output=True)
        return cert, key
    return make


def https(server, cert, body=None, path="/v1/chat/completions"):
    context = ssl.create_default_context(cafile=str(cert))
    c = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=30)
    c.connect()
    name = dict(x[0] for x in c.sock.getpeercert()["subject"])["commonName"]
    c.request("POST" if body else "GET", path, json.dumps(body) if body else None)
    r = c.getresponse()
    data = r.read()
    c.close()
    return r.status, data, name


def test_tls(start, certificate, tmp_path):
    cert, key = certificate("first")
    s = start("--tls-cert", cert, "--tls-key", key)
    assert s.scheme == "https"
    status, data, name = https(s, cert, CHAT)
    assert status == 200 and json.loads(data)["choices"][0]["message"]["content"] == "abcde" and name == "first"
    chunks, done = events(https(s, cert, {**CHAT, "stream": True})[1])
    assert done and len(chunks) == 7
    assert https(s, cert, {**CHAT, "x" * 100_000: 1})[0] == 400

    # Plain HTTP on that port, handshakes that never end and clients that leave: only their own trouble.
    assert b"200" not in s.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    half = s.connect()
    half.sendall(b"\x16\x03\x01")
    context = ssl.create_default_context(cafile=str(cert))
    with context.wrap_socket(s.connect(), server_hostname="127.0.0.1") as c:
        c.sendall(chat_bytes("[fake tokens=100000 delay=5]", stream=True))
        read_until(c, b'"content":"c"')
    while json.loads(https(s, cert, path="/health")[1])["running"]:
        pass
    half.close()

    # A slow reader over TLS pauses its stream, too.
    with context.wrap_socket(s.connect(), server_hostname="127.0.0.1") as c:
        c.sendall(chat_bytes("[fake tokens=60000]", stream=True, connection="close"))
        last = -1
        while (now := json.loads(https(s, cert, path="/health")[1])["new_tokens"]) != last:
            last = now
        assert now < 60000 + 200
        data = read_all(c)
        assert data.count(b'"content":"j"') == 6000 and b"[DONE]" in data

    # A new certificate is taken up without a restart; a broken one is not.
    fresh, fresh_key = certificate("second")
    shutil.copy(fresh, cert), shutil.copy(fresh_key, key)
    s.signal(signal.SIGHUP)
    while True:
        try:
            if https(s, fresh, path="/health")[2] == "second":
                break
        except ssl.SSLError:
            pass
    cert.write_text("nonsense")
    s.signal(signal.SIGHUP)
    while "kept the old certificate" not in s.log():
        pass
    assert https(s, fresh, path="/health")[0] == 200
    assert s.stop() == 0


def test_tls_streams_are_whole(start, certificate):
    """Several full-speed streams at once: not a byte is missing at their ends."""
    cert, key = certificate("first")
    s = start("--tls-cert", cert, "--tls-key", key)
    context, wrong = ssl.create_default_context(cafile=str(cert)), []

    def read_streams():
        for _ in range(3):
            with context.wrap_socket(s.connect(), server_hostname="127.0.0.1") as c:
                c.sendall(chat_bytes("[fake tokens=20000]", stream=True, connection="close"))
                chunks, done = events(dechunk(read_all(c)))
            if not done or "".join(x["choices"][0]["delta"].get("content", "") for x in chunks) != "abcdefghij" * 2000:
                wrong.append(len(chunks))

    threads = [threading.Thread(target=read_streams) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_tls_refusals_are_readable(start, certificate):
    cert, key = certificate("first")
    s = start("--tls-cert", cert, "--tls-key", key, "--max-body", 5000)
    status, data, _ = https(s, cert, {"messages": [{"role": "user", "content": "x" * 6000}]})
    assert status == 413 and json.loads(data)["error"]["code"] == "request_too_large"


def test_tls_refuses_what_does_not_fit_beside_others(start, certificate):
    cert, key = certificate("first")
    s = start("--tls-cert", cert, "--tls-key", key, "--max-body", 1 << 20, "--body-memory", 1 << 20)
    context = ssl.create_default_context(cafile=str(cert))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with context.wrap_socket(s.connect(), server_hostname="127.0.0.1") as first, context.wrap_socket(s.connect(), server_hostname="127.0.0.1") as second:
        first.sendall(head + b" " * 600_000)
        while float(re.search(r"^loam_http_held_bytes (\S+)$", https(s, cert, path="/metrics")[1].decode(), re.M)[1]) < 600_000:
            pass
        second.sendall(head + b" " * 999_999)
        answer = read_all(second)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"too_many_bytes" in answer and b"Retry-After: " in answer
    assert https(s, cert, path="/health")[0] == 200
