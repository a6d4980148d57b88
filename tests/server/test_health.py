"""Health that says what is: what the engine does and since when, and that it hangs when it hangs."""

import threading

import pytest

from servers import chat_bytes, free_port, read_all, read_until


def test_states(server):
    h = server.health()
    assert (h["status"], h["framework"], h["device"], h["state"]) == ("ok", "loam", "fake", "idle") and h["model"] and h["since"] >= 0
    with server.connect() as s:
        s.sendall(chat_bytes("[fake tokens=100000 delay=5 prefill=700]", stream=True))
        h = server.until("prefill", lambda h: h["state"] == "prefill")
        later = server.until("time passing", lambda h: h["state"] == "prefill" and h["since"] > 0.2)
        assert later["since"] > h["since"] and later["models"][0]["state"] == "prefill"
        server.until("decode", lambda h: h["state"] == "decode")
    server.until("idle", lambda h: h["state"] == "idle" and h["running"] == 0)
    assert server.get("/livez")[0] == 200 and server.get("/readyz")[0] == 200


def test_loading_lives_but_is_not_ready(start):
    s = start(ready=False, port=free_port(), LOAM_FAKE_LOAD_MS="1000").wait_listening()
    assert s.get("/livez")[0] == 200
    status, headers, body = s.get("/readyz")
    assert status == 503 and body == {"status": "loading"} and headers["Retry-After"]
    h = s.health()
    assert h["status"] == "loading" and "state" not in h
    s.wait_ready()
    assert s.get("/readyz")[0] == 200


def test_stalled(start):
    """A step that does not end: 503 on all three, and 200 again when it has ended after all."""
    s = start("--stall-timeout", 1)
    with s.connect() as c:
        c.sendall(chat_bytes("[fake hang=4000 tokens=2]", connection="close"))
        h = s.until("a stall", lambda h: h["status"] == "stalled")
        assert h["state"] == "stalled" and h["since"] >= 1
        for path in ("/health", "/livez", "/readyz"):
            assert s.get(path)[0] == 503, path
        assert b"stalled" in s.get("/metrics")[2]
        assert b"200 OK" in read_all(c)
    s.until("recovery", lambda h: h["status"] == "ok" and h["state"] == "idle")
    assert s.get("/livez")[0] == 200
    assert s.log().count("stalled: model ") == 1
    assert s.stop() == 0


@pytest.mark.parametrize("flags, env", [(["--exit-on-stall"], {}), ([], {"NOTIFY_SOCKET": "/nowhere"}), ([], {"XPC_SERVICE_NAME": "com.loam.server"})],
                         ids=["flag", "systemd", "launchd"])
def test_stall_ends_the_program(start, flags, env):
    s = start("--stall-timeout", 1, *flags, **env)
    with s.connect() as c:
        c.sendall(chat_bytes("[fake hang=100000]"))
        assert s.wait() == 1
    assert "stalled: model " in s.log() and "the program ends" in s.log()


def test_stall_ends_the_program_when_nobody_waits_any_more(start):
    s = start("--stall-timeout", 2, "--exit-on-stall")
    with s.connect() as c:
        c.sendall(chat_bytes("[fake hang=100000]"))
        s.until("it hangs", lambda h: h["running"] == 1 and h["state"] != "idle")
    assert s.wait() == 1
    assert "stalled: model " in s.log() and "the program ends" in s.log()


def test_busy_is_not_stalled(start):
    """Long prompts and many steps are work, not a stall; nor is an engine that idles."""
    s = start("--stall-timeout", 1, "--exit-on-stall")
    assert s.chat("[fake prefill=2500 tokens=2]")[0] == 200
    assert s.chat("[fake tokens=300 delay=8]")[0] == 200
    threading.Event().wait(1.5)  # longer than the limit, idle
    assert s.health()["status"] == "ok" and s.stop() == 0


def test_draining_is_not_ready(start):
    s = start()
    with s.connect() as stream, s.connect() as c:
        stream.sendall(chat_bytes("[fake tokens=400 delay=5]", stream=True, connection="close"))
        read_until(stream, b'"content":"c"')
        c.sendall(b"GET /readyz HTTP/1.1\r\n")  # begun, so that the drain leaves it
        s.until("both", lambda h: h["running"] == 1)
        s.signal()
        read_until_closed_to_others(s)
        c.sendall(b"Host: localhost\r\n\r\n")
        assert b'{"status":"draining"}' in read_all(c)
        read_all(stream)
    assert s.wait() == 0


def read_until_closed_to_others(s):
    while True:
        try:
            s.connect().close()
        except (ConnectionRefusedError, ConnectionResetError):
            return
