"""Several models in one server: loaded when they are asked for, gone when others need the memory, never in anyone's way."""

import threading
import time

import pytest

from servers import PATIENCE, chat_bytes, dechunk, events, read_all, read_until

MIB = 1 << 20


@pytest.fixture
def shelf(tmp_path):
    """shelf(a=60, b=60, ...): a folder of models for the fake engine, by the MiB that each takes; more files by file=."""
    folder = tmp_path / "shelf"

    def make(file=None, **models):
        for name, size in models.items():
            (folder / name).mkdir(parents=True)
            (folder / name / "config.json").write_text("{}")
            (folder / name / "bytes").write_text(str(size * MIB))
        for path, text in (file or {}).items():
            (folder / path).write_text(str(text))
        return folder

    return make


def states(server):
    status, _, body = server.get("/v1/models")
    assert status == 200
    return {m["id"]: m["state"] for m in body["data"]}


def until(what, true):
    end = time.monotonic() + PATIENCE
    while not (got := true()):
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.005)  # polls; nothing depends on its length
    return got


def ask(server, model, text="[fake tokens=2]", **more):
    return server.chat(text, model=model, **more)


def test_first_is_loaded_others_when_asked_for(start, shelf):
    folder = shelf(a=1, b=1, c=1)
    s = start("--model", folder / "b", "--model", folder / "c", model=folder / "a")
    assert states(s) == {"a": "loaded", "b": "not-loaded", "c": "not-loaded"}
    assert s.chat("hi")[2]["model"] == "a" and ask(s, "c")[2]["model"] == "c"
    assert states(s) == {"a": "loaded", "b": "not-loaded", "c": "loaded"}
    status, _, body = ask(s, "d")
    assert status == 404 and body["error"]["code"] == "model_not_found" and "/v1/models" in body["error"]["message"]
    for path, body in (("/tokenize", {"prompt": "abc"}), ("/v1/completions", {"prompt": "abc"}), ("/v1/score", {"prompt": "a", "continuation": "b"})):
        assert s.post(path, {**body, "model": "b"})[0] == 200, path
    assert set(states(s).values()) == {"loaded"}
    assert s.get("/v1/models/b")[2]["memory_bytes"] == MIB
    assert s.stop() == 0


def test_a_folder_of_models(start, shelf):
    """Every folder with a config.json, also below an owner's; nothing is loaded before it is asked for."""
    folder = shelf(**{"a": 1, "org/b": 1})
    (folder / "notes").mkdir()
    (folder / ".hidden").mkdir()
    s = start("--models-dir", folder, model=None)
    assert {k: v for k, v in states(s).items()} == {"a": "not-loaded", "org/b": "not-loaded", "b": "not-loaded"}
    assert s.health()["status"] == "ok" and s.health()["device"] is None and s.health()["models"] == []
    assert ask(s, "org/b")[0] == 200
    assert states(s)["org/b"] == "loaded" and states(s)["a"] == "not-loaded"
    assert [m["id"] for m in s.health()["models"]] == ["org/b"] and s.health()["device"] == "fake"
    assert s.stop() == 0


@pytest.mark.parametrize("args, words", [
    (["--models-dir", "{tmp}/nowhere"], "nowhere"),
    (["--models-dir", "{tmp}"], "no folder in it has a config.json"),
    (["--model", "{a}", "--pin", "zebra"], "--pin zebra: there is no model of this name"),
    (["--model", "{a}", "--model", "{a}"], "is there twice"),
    (["--model", "{a}", "--model", "{b}", "--served-model-name", "x"], "--served-model-name is for a server of one model"),
], ids=["absent", "empty", "pin", "twice", "served"])
def test_wrong_command_lines(start, shelf, tmp_path, args, words):
    (tmp_path / "empty").mkdir()
    folder = shelf(a=1, b=1)
    s = start(*[x.format(tmp=tmp_path / "empty", a=folder / "a", b=folder / "b") for x in args], model=None, ready=False)
    assert s.wait() == 1 and words in s.log()


def test_the_one_used_longest_ago_goes(start, shelf):
    s = start("--models-dir", shelf(a=40, b=40, c=40, d=40), "--memory-limit", 130 * MIB, model=None)
    for name in "abc":
        assert ask(s, name)[0] == 200
    assert ask(s, "a")[0] == 200
    assert ask(s, "d")[0] == 200
    assert states(s) == {"a": "loaded", "b": "not-loaded", "c": "loaded", "d": "loaded"}
    assert ask(s, "b")[0] == 200
    assert states(s) == {"a": "loaded", "b": "loaded", "c": "not-loaded", "d": "loaded"}
    assert s.stop() == 0


def test_a_pinned_one_stays(start, shelf):
    folder = shelf(a=60, b=60, c=60, huge=200)
    s = start("--models-dir", folder, "--pin", "a", "--memory-limit", 130 * MIB, model=None)
    assert states(s)["a"] == "loaded" and s.get("/v1/models/a")[2]["pinned"] is True
    for name in "bcbc":
        assert ask(s, name)[0] == 200
        assert states(s)["a"] == "loaded"
    status, headers, body = ask(s, "huge")
    assert status == 503 and body["error"]["code"] == "out_of_memory" and headers["Retry-After"]
    assert states(s)["a"] == "loaded" and ask(s, "b")[0] == 200
    assert s.stop() == 0


def test_never_over_the_limit(start, shelf):
    """Whatever is asked for by however many at once: what is loaded together always fits."""
    sizes = dict(a=50, b=30, c=70, d=20, e=90)
    s = start("--models-dir", shelf(**sizes), "--memory-limit", 100 * MIB, model=None)
    over, wrong, done = [], [], threading.Event()

    def watch():
        while not done.is_set():
            total = sum(m["memory_bytes"] for m in s.get("/v1/models")[2]["data"])
            if total > 100 * MIB:
                over.append(total)

    def client(k):
        for i in range(6):
            answer = ask(s, "abcde"[(k + i * (k + 1)) % 5], "[fake tokens=3 delay=1]")
            if answer[0] != 200:
                wrong.append(answer)

    watcher = threading.Thread(target=watch)
    clients = [threading.Thread(target=client, args=(k,)) for k in range(5)]
    for t in [watcher, *clients]:
        t.start()
    for t in clients:
        t.join()
    done.set()
    watcher.join()
    assert not wrong and not over
    assert s.stop() == 0


def test_loading_stalls_nobodys_stream(start, shelf):
    """A slow loading: another model's stream goes on, and the request that waits is answered."""
    folder = shelf(a=1, slow=1, file={"slow/load_ms": 1500})
    s = start("--model", folder / "slow", model=folder / "a")
    with s.connect() as stream:
        stream.sendall(chat_bytes("[fake tokens=100000 delay=5]", stream=True))
        read_until(stream, b'"content":"c"')
        answer = []
        waiting = threading.Thread(target=lambda: answer.append(ask(s, "slow")))
        waiting.start()
        until("the loading", lambda: states(s)["slow"] == "loading")
        got = 0
        while waiting.is_alive():
            got += stream.recv(65536).count(b'"content"')
        assert answer[0][0] == 200 and got > 50
    s.until("the stream's end", lambda h: h["running"] == 0)
    assert s.stop() == 0


def test_a_model_in_use_ends_its_requests_first(start, shelf):
    """Another one needs the room: the stream goes on to its end, new requests for it wait, nothing is lost."""
    s = start("--models-dir", shelf(a=60, b=60), "--memory-limit", 100 * MIB, model=None)
    with s.connect() as stream:
        stream.sendall(chat_bytes("[fake tokens=200 delay=5]", stream=True, model="a", connection="close"))
        data = read_until(stream, b'"content":"c"')
        answers = {}
        other = threading.Thread(target=lambda: answers.update(b=ask(s, "b")))
        other.start()
        until("a is to go", lambda: states(s)["a"] == "unloading")
        again = threading.Thread(target=lambda: answers.update(a=ask(s, "a")))
        again.start()
        chunks, done = events(dechunk(data + read_all(stream)))
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    assert done and text == "abcdefghij" * 20
    other.join()
    again.join()
    assert answers["a"][0] == 200 and answers["b"][0] == 200
    assert s.stop() == 0


def test_time_to_live(start, shelf):
    folder = shelf(a=1, b=1, kept=1)
    s = start("--models-dir", folder, "--model-ttl", 1, "--pin", "kept", model=None)
    with s.connect() as stream:
        stream.sendall(chat_bytes("[fake tokens=100000 delay=20]", stream=True, model="a"))
        read_until(stream, b'"content":"c"')
        assert ask(s, "b")[0] == 200
        until("b's end", lambda: states(s)["b"] == "not-loaded")
        assert states(s) == {"a": "loaded", "b": "not-loaded", "kept": "loaded"}
    until("a's end", lambda: states(s)["a"] == "not-loaded")
    assert states(s)["kept"] == "loaded"
    assert ask(s, "b")[0] == 200
    assert s.stop() == 0


def test_a_loading_that_fails(start, shelf):
    """Says why, to all who wait; the server goes on; soon after it is tried again."""
    folder = shelf(a=1, bad=1, file={"bad/fail": "", "bad/load_ms": 300})
    s = start("--models-dir", folder, model=None)
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(ask(s, "bad"))) for _ in range(3)]
    for t in clients:
        t.start()
    for t in clients:
        t.join()
    for status, _, body in answers:
        assert status == 500 and body["error"]["code"] == "model_load_failed" and "not a model" in body["error"]["message"]
    assert ask(s, "a")[0] == 200 and states(s)["bad"] == "not-loaded"
    (folder / "bad" / "fail").unlink()
    until("another try", lambda: ask(s, "bad")[0] == 200)
    assert s.stop() == 0


def test_clients_that_leave_while_a_model_loads(start, shelf):
    folder = shelf(a=1, slow=1, file={"slow/load_ms": 800})
    s = start("--model", folder / "slow", model=folder / "a")
    for stream in (True, False):
        with s.connect() as c:
            c.sendall(chat_bytes("hi", stream=stream, model="slow"))
            until("the loading", lambda: s.get("/v1/models/slow")[2]["requests"] == 1)
    until("nobody waits", lambda: s.get("/v1/models/slow")[2]["requests"] == 0)
    assert ask(s, "slow")[0] == 200
    assert s.stop() == 0


def test_timeout_while_a_model_loads(start, shelf):
    folder = shelf(a=1, slow=1, file={"slow/load_ms": 3000})
    s = start("--model", folder / "slow", model=folder / "a")
    for how in (dict(timeout=0.2), dict()):
        status, _, body = s.post("/v1/chat/completions", {"model": "slow", "messages": [{"role": "user", "content": "x"}], **how},
                                 headers={} if how else {"X-Request-Timeout": "0.2"})
        assert status == 408 and body["error"]["code"] == "timeout" and "not loaded yet" in body["error"]["message"]
    assert ask(s, "slow")[0] == 200
    assert s.stop() == 0


def test_drain_while_requests_wait_for_a_model(start, shelf):
    folder = shelf(a=60, b=60)
    s = start("--models-dir", folder, "--memory-limit", 100 * MIB, "--drain-timeout", 1, model=None)
    with s.connect() as held, s.connect() as waiting:
        held.sendall(chat_bytes("[fake tokens=100000 delay=20]", stream=True, model="a", connection="close"))
        read_until(held, b'"content":"c"')
        waiting.sendall(chat_bytes("hi", model="b", connection="close"))
        until("b waits", lambda: s.get("/v1/models/b")[2]["requests"] == 1)
        s.signal()
        assert b"shutting_down" in read_all(waiting)
        assert b"shutting_down" in read_all(held)
    assert s.wait() == 0


def test_first_model_fails_to_load(start, shelf):
    folder = shelf(a=1, b=1, file={"a/fail": ""})
    s = start("--model", folder / "b", model=folder / "a", ready=False)
    assert s.wait() == 1 and "not a model" in s.log()
