"""A server's life: loading, two things at once, clients that leave or do not read, draining."""

import contextlib
import json
import os
import re
import signal
import threading
import time

import pytest

from servers import PATIENCE, FAKE, Server, chat_bytes, dechunk, environment, events, free_port, leave, read_all, read_answer, read_until


def test_loading_answers_at_once(start):
    s = start(port=free_port(), ready=False, LOAM_FAKE_LOAD_MS="1500").wait_listening()
    status, headers, body = s.get("/health")
    assert status == 503 and body["status"] == "loading" and body["framework"] == "loam" and body["device"] is None
    for answer in (s.chat("hi"), s.get("/v1/models")):
        assert answer[0] == 503 and answer[2]["error"]["code"] == "loading" and answer[1]["Retry-After"]
    assert s.get("/nothing")[0] == 404
    s.wait_ready()
    assert s.health()["status"] == "ok" and s.chat("hi")[0] == 200


def test_stopping_while_loading(start):
    s = start(port=free_port(), ready=False, LOAM_FAKE_LOAD_MS="60000").wait_listening()
    s.signal()
    assert s.wait() == 0


def test_failed_load_ends_the_program(start):
    s = start(ready=False, LOAM_FAKE_LOAD_FAIL="1")
    assert s.wait() == 1 and "not a model" in s.log()


def test_port_in_use(start):
    first = start()
    second = start(port=first.port, ready=False)
    assert second.wait() == 1
    assert f"port {first.port} of 127.0.0.1 is in use" in second.log()


@pytest.mark.parametrize("args, words", [
    (["--host", "203.0.113.7"], "not an address of this machine"),
    (["--port", "70000"], "from 0 to 65535"),
    (["--frobnicate"], "unknown option"),
    (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
])
def test_wrong_command_lines(start, args, words):
    s = start(*args, ready=False)
    assert s.wait() in (1, 2) and words in s.log() and len(s.log().splitlines()) == 1


def test_settings_come_from_flags_then_loam_then_mlx(folder, tmp_path):
    port = free_port()
    env = environment(tmp_path, LOAM_MODEL=str(folder), MLX_MODEL="/nowhere", MLX_PORT=str(port), MLX_MAX_TOKENS="3", LOAM_MAX_TOKENS="5")
    s = Server([*FAKE], folder, env=env)
    try:
        assert s.port == port
        assert s.chat("[fake tokens=50]")[2]["usage"]["completion_tokens"] == 5
    finally:
        assert s.stop() == 0
    s = Server([*FAKE], folder, "--max-tokens", 2, "--port", 0, env=env)
    try:
        assert s.port != port and s.chat("[fake tokens=50]")[2]["usage"]["completion_tokens"] == 2
    finally:
        assert s.stop() == 0
    s = Server([*FAKE], folder, env={**env, "LOAM_PORT": "eight"}, ready=False)
    assert s.wait() == 2 and "LOAM_PORT=eight" in s.log()
    s.process.stdout.close()


def test_two_at_once(server):
    """A long stream goes on while others come and go."""
    with server.connect() as long:
        long.sendall(chat_bytes("[fake tokens=100000 delay=2]", stream=True))
        data = read_until(long, b'"content":"c"')
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(server.chat("[fake tokens=5 delay=2]"))) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert [a[0] for a in answers] == [200] * 8
        assert server.health()["running"] == 1
        read_until(long, b'"content":"d"')
    server.until("the stream's end", lambda h: h["running"] == 0)


def test_a_large_prompt_does_not_stall_a_stream(server):
    """Parsing and rendering happen off the loop: tokens of another stream keep coming meanwhile."""
    with server.connect() as s:
        s.sendall(chat_bytes("[fake tokens=100000 delay=1]", stream=True))
        read_until(s, b'"content":"c"')
        big = [threading.Thread(target=server.chat, args=("x" * 150_000,)) for _ in range(6)]
        for t in big:
            t.start()
        worst, last = 0, time.monotonic()
        while any(t.is_alive() for t in big):
            assert s.recv(65536)
            now = time.monotonic()
            worst, last = max(worst, now - last), now
        assert worst < 1.0
    server.until("the stream's end", lambda h: h["running"] == 0)


@pytest.mark.parametrize("hard", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("when", ["prefill", "decode"])
def test_client_leaves(server, when, stream, hard):
    """Work ends when its client is gone: before the answer begins, and in it, whether it streams or not."""
    s = server.connect()
    s.sendall(chat_bytes("[fake tokens=100000 %s]" % ("prefill=100000" if when == "prefill" else "delay=5"), stream=stream))
    before = server.until("the start", lambda h: h["running"] == 1)
    if when == "decode":
        server.until("tokens", lambda h: h["new_tokens"] > before["new_tokens"])
    leave(s, hard)
    server.until("the end", lambda h: h["running"] == 0)
    assert server.chat("[fake tokens=2]")[0] == 200


def test_clients_leave_with_a_request_half_sent(server):
    for cut in (10, 100, 150):
        s = server.connect()
        s.sendall(chat_bytes("hello")[:cut])
        s.close()
    with server.connect() as s:
        s.sendall(chat_bytes("hello [fake delay=3]") + b"GET /heal")
        assert read_answer(s)[0] == 200
    assert server.health()["status"] == "ok"


def test_slow_reader_stops_its_own_stream_only(server):
    """A client that does not read: the engine is not asked for more than buffers hold, others go on, then it catches up."""
    with server.connect(receive_buffer=65536) as slow:
        slow.sendall(chat_bytes("[fake tokens=60000]", stream=True, connection="close"))
        last = -1
        while (now := server.health()["new_tokens"]) != last:  # it comes to rest by itself
            last = now
            assert server.chat("[fake tokens=1]")[0] == 200
            last += 1
        assert server.health()["running"] == 1
        chunks, done = events(dechunk(read_all(slow)))
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
        assert done and text == ("abcdefghij" * 6000)


def test_failure_before_and_in_a_stream(server):
    status, _, body = server.chat("[fake tokens=50 fail=3]")
    assert status == 500 and "the machine failed" in body["error"]["message"]
    with server.connect() as s:
        s.sendall(chat_bytes("[fake tokens=50 fail=3]", stream=True, connection="close"))
        chunks, done = events(dechunk(read_all(s)))
    assert done and chunks[-1]["error"]["type"] == "server_error"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]) == "abc"


def test_full_queue(server):
    status, headers, body = server.chat("[fake busy=1]")
    assert status == 429 and headers["Retry-After"] and body["error"]["code"] == "queue_full"


def test_drain(start):
    """SIGTERM: running answers end, new connections are refused, new requests on open ones get 503, exit 0."""
    s = start()
    streaming, whole, idle, kept = (s.connect() for _ in range(4))
    kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    read_answer(kept)
    streaming.sendall(chat_bytes("[fake tokens=300 delay=5]", stream=True))
    whole.sendall(chat_bytes("[fake tokens=300 delay=5]"))
    data = read_until(streaming, b'"content":"c"')
    s.until("both", lambda h: h["running"] == 2)
    kept.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
    s.signal()
    end = time.monotonic() + PATIENCE
    while True:
        try:
            s.connect().close()
            assert time.monotonic() < end
        except (ConnectionRefusedError, ConnectionResetError):
            break
    data += read_all(streaming)
    assert b"[DONE]" in data and data.count(b'"content":"') == 301
    assert read_answer(whole)[0] == 200
    assert s.wait() == 0
    for c in (streaming, whole, idle, kept):
        c.close()


def test_drain_refuses_new_requests_on_open_connections(start):
    s = start()
    running, open_ = s.connect(), s.connect()
    running.sendall(chat_bytes("[fake tokens=5000 delay=5]", stream=True))
    read_until(running, b'"content":"c"')
    head, _, body = chat_bytes("hello").partition(b"\r\n\r\n")
    open_.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert b" 100 " in read_until(open_, b"\r\n\r\n")  # begun, so not idle, and the server knows
    s.signal()
    while True:  # until the listener is gone the drain has not begun
        try:
            s.connect().close()
        except (ConnectionRefusedError, ConnectionResetError):
            break
    open_.sendall(body)
    status, headers, body = read_answer(open_)
    assert status == 503 and headers["connection"] == "close" and json.loads(body)["error"]["code"] == "shutting_down"
    running.close()
    assert s.wait() == 0


def test_who_connects_without_a_pause_keeps_nobody_from_their_turn(start):
    s = start()
    ending = threading.Event()

    def storm():
        while not ending.is_set():
            with contextlib.suppress(OSError):
                s.connect().close()

    storms = [threading.Thread(target=storm) for _ in range(3)]
    for t in storms:
        t.start()
    try:
        for _ in range(20):
            assert s.get("/livez")[0] == 200
        s.signal()
        assert s.wait() == 0
    finally:
        ending.set()
        for t in storms:
            t.join()


def test_drain_timeout_ends_what_still_runs(start):
    s = start("--drain-timeout", 1)
    with s.connect() as c:
        c.sendall(chat_bytes("[fake tokens=1000000 delay=20]", stream=True, connection="close"))
        data = read_until(c, b'"content":"c"')
        s.signal()
        chunks, done = events(dechunk(data + read_all(c)))
        assert done and chunks[-1]["error"]["code"] == "shutting_down"
    assert s.wait() == 0


def test_drain_does_not_wait_for_an_engine_that_hangs(start):
    s = start("--drain-timeout", 1)
    with s.connect() as c:
        c.sendall(chat_bytes("[fake hang=100000]"))
        s.until("it hangs", lambda h: h["running"] == 1)
        s.signal()
        assert s.wait() == 1
    assert "does not end" in s.log()


def test_second_signal_exits_at_once(start):
    s = start()
    with s.connect() as c:
        c.sendall(chat_bytes("[fake tokens=1000000 delay=20]", stream=True))
        read_until(c, b'"content":"c"')
        s.signal(signal.SIGINT)
        while True:
            try:
                s.connect().close()
            except (ConnectionRefusedError, ConnectionResetError):
                break
        s.signal(signal.SIGINT)
        assert s.wait() == 130


@pytest.mark.heavy  # a sanitizer has threads of its own
@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
def test_idle_costs_nothing(start):
    """No tick: between requests the process does not run at all, whatever connections are open."""
    s = start()
    held = [s.connect() for _ in range(20)]
    s.chat("hello")
    while state(s.process.pid) != "S":
        pass
    before = switches(s.process.pid)
    threading.Event().wait(1.0)
    assert switches(s.process.pid) - before <= 2
    for c in held:
        c.close()


def state(pid):
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]


def switches(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        for line in open(f"/proc/{pid}/task/{task}/status"):
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


@pytest.mark.heavy
@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
def test_500_idle_clients_cost_nearly_nothing(start):
    """Memory of each below 32 KiB, no CPU at all, and those who are active are answered as before."""
    s = start("--max-connections", 600)
    pid = s.process.pid
    assert s.chat("hello")[0] == 200
    before = resident(pid)
    held = []
    for _ in range(500):
        held.append(s.connect())
        held[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(held[-1])[0] == 200
    assert (resident(pid) - before) / 500 < 32 * 1024
    while state(pid) != "S":
        pass
    quiet = switches(pid)
    threading.Event().wait(1.0)
    assert switches(pid) - quiet <= 2
    answers = []
    active = [threading.Thread(target=lambda: answers.append(s.chat("[fake tokens=50 delay=2]"))) for _ in range(8)]
    for t in active:
        t.start()
    for t in active:
        t.join()
    assert [a[0] for a in answers] == [200] * 8
    for c in held:
        c.close()
    assert s.stop() == 0


def resident(pid):
    return int(open(f"/proc/{pid}/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")


def ask_often(s, n, path):
    """n answers 404 to requests whose lines in the log are long; returns how many came."""
    request = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path
    with s.connect() as c:
        for _ in range(n):
            c.sendall(request)
            assert read_answer(c)[0] == 404
    return n


@pytest.mark.parametrize("json_log", [True, False])
def test_a_log_that_nobody_reads_stops_nothing(folder, tmp_path, json_log):
    reading, writing = os.pipe()
    s = Server(FAKE, folder, "--port", 0, *["--log-json"] * json_log, env=environment(tmp_path), stderr=writing)
    os.close(writing)
    try:
        n = ask_often(s, 6000, b"x" * 199)
        lost = int(re.search(rb"^loam_log_lines_lost_total (\d+)$", s.get("/metrics")[2], re.M)[1])
        assert 0 < lost < n, "it keeps what fits, and counts the rest"
        with os.fdopen(reading, "rb") as log:
            lines = iter(log.readline, b"")
            before, told = 0, None
            for line in lines:
                told = re.search(rb"(\d+) lines lost", line)
                if told:
                    break
                before += b"xxx" in line
            assert told, "the reader learns of it"
            assert before + int(told[1]) in (n, n + 1), "every line was read or counted; the one of /metrics too"
            ask_often(s, 1, b"late")
            assert b"/late" in next(lines), "and what comes then is there again"
            assert s.stop() == 0
    finally:
        s.process.kill()
        s.process.wait()


def test_a_log_that_nobody_reads_does_not_keep_the_server_from_ending(folder, tmp_path):
    reading, writing = os.pipe()
    s = Server(FAKE, folder, "--port", 0, env=environment(tmp_path), stderr=writing)
    os.close(writing)
    ask_often(s, 1000, b"x" * 199)
    assert s.stop() == 0
    os.close(reading)
