"""Rollouts: the split, gates at work, going back, mirroring, and what a killed gateway still knows."""

import http.client
import json
import os
import pathlib
import random
import signal
import subprocess
import threading
import time

import pytest

from conftest import COMMAND
from gw import until

LOAD = [*COMMAND[:-1], str(pathlib.Path(COMMAND[-1]).parent / "tests" / "gateway" / "load")]


def rollout(g, action=None, ok=True, **more):
    """An order to the gateway's rollout, or what it says about it."""
    if action is None:
        return g.get("/gateway/api/rollout?full=1").json["rollouts"][0]
    answer = g.post("/gateway/api/rollout", {"action": action, **more})
    assert (answer.status == 200) == ok, answer.body
    return answer.json


def start(g, to="b", running=True, **more):
    said = rollout(g, "start", **{"from": "a", "to": to, "min_requests": 10**9, "min_time_s": 0, **more})
    if running:
        until(lambda: rollout(g)["state"] == "running", "the new side is warm")
    return said


@pytest.fixture
def sides(fake, gateway):
    """a, the old side; b, the new one, which stands by; and their gateway."""
    a, b = fake("a", kind="vllm"), fake("b")
    return a, b, gateway(backends=[a.conf(), b.conf(standby=True)])


def seen(*fakes):
    return [f.seen()["requests"] for f in fakes]


def talk(g, texts, headers=None, **more):
    """A conversation: every answer goes back with the next message. The backends that answered."""
    messages, who = [], []
    for t in texts:
        messages.append({"role": "user", "content": t})
        r = g.post("/v1/chat/completions", {"messages": messages, "max_tokens": 3, **more}, headers=headers)
        assert r.status == 200, r.body
        who.append(r.backend)
        messages.append({"role": "assistant", "content": r.text})
    return who


# ---- the split

def load(g, requests):
    done = subprocess.run([*LOAD, "chaos", str(g.port), "connections=16", f"requests={requests}", "tokens=2"], stdout=subprocess.PIPE, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["answered"] == requests and not said["wrong"] and not said["broken"], said


@pytest.mark.heavy
@pytest.mark.parametrize("step", [10, 50])
def test_ten_thousand_requests_are_split_to_half_a_per_cent(fake, gateway, step):
    a, b = fake("a"), fake("b")
    g = gateway(backends=[a.conf(), b.conf(standby=True)], log="off")
    start(g, steps=[step, 100], warm=False, gate={"gates": {m: False for m in ("ttft", "ttft_high", "itl", "speed")}})  # two processes on a busy machine differ
    load(g, 10000)
    old, new = seen(a, b)
    assert old + new == 10000
    assert abs(new / 10000 - step / 100) <= 0.005, (old, new)
    assert rollout(g)["state"] == "running"


def test_a_backend_that_stands_by_gets_nothing_until_a_rollout(sides):
    a, b, g = sides
    for _ in range(20):
        assert g.chat().backend == "a"
    a.kill()
    g.until_state("a", "down", "failing")
    assert g.chat().status == 503
    assert seen(b) == [0]


def test_conversations_stay_where_they_began(sides):
    a, b, g = sides
    start(g, steps=[50, 100])
    sides_of = [talk(g, [f"question {i}", "and then?", "and then?", "why?"], temperature=0) for i in range(40)]
    assert all(len(set(who)) == 1 for who in sides_of)
    assert {who[0] for who in sides_of} == {"a", "b"}


def test_the_same_question_is_many_conversations(sides):
    """A first message that many clients send alike is drawn for each; their second ones find their sides again."""
    a, b, g = sides
    start(g, steps=[50, 100])
    who = [talk(g, ["hello", "more", "more"]) for _ in range(40)]  # answers differ: a seed is drawn for each
    assert all(len(set(w)) == 1 for w in who), who
    assert {w[0] for w in who} == {"a", "b"}


def test_streamed_conversations_stay_too(sides):
    a, b, g = sides
    start(g, steps=[50, 100])
    flips = 0
    for i in range(30):
        first = g.stream(f"hi {i % 3}", max_tokens=4)
        messages = [{"role": "user", "content": f"hi {i % 3}"}, {"role": "assistant", "content": first.text}, {"role": "user", "content": "on"}]
        flips += g.stream(messages=messages, max_tokens=4).backend != first.backend
    assert flips == 0


def test_sessions_stay_and_only_new_ones_move(sides):
    a, b, g = sides
    start(g, steps=[10, 50, 100])

    def sides_of(names, **how):
        return {n: g.chat(f"a question of {n}", headers={"X-Session-Id": n}).backend for n in names}

    early = [f"early-{i}" for i in range(60)]
    before = sides_of(early)
    assert sides_of(early) == before
    rollout(g, "promote")
    until(lambda: rollout(g)["per_cent"] == 50)
    assert sides_of(early) == before
    late = sides_of([f"late-{i}" for i in range(60)])
    assert sum(s == "b" for s in late.values()) > 20
    assert sides_of(early) == before


def test_what_began_before_stays_on_the_old_side(sides):
    a, b, g = sides
    start(g, steps=[99, 100])
    old = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]
    for i in range(10):
        old[0]["content"] = f"x {i}"
        assert g.chat(messages=old).backend == "a"
    assert "b" in {g.chat(f"new {i}").backend for i in range(10)}


def test_keys_stay_with_sticky_key(sides):
    a, b, g = sides
    start(g, steps=[50, 100], sticky="key")
    for k in range(12):
        who = {g.chat(f"question {i}", headers={"Authorization": f"Bearer key-{k}"}).backend for i in range(5)}
        assert len(who) == 1


# ---- gates

def drive(g, text, until_state, most=4000, workers=8, **more):
    """Sends requests until the rollout says so; how many it took."""
    state, count, lock = {"over": False}, [0], threading.Lock()

    def work():
        while not state["over"]:
            with lock:
                count[0] += 1
                n = count[0]
            if n > most:
                return
            g.stream(f"{n} {text}", max_tokens=2, **more)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for t in threads:
        t.start()
    try:
        while any(t.is_alive() for t in threads) and rollout(g)["state"] not in until_state:
            time.sleep(0.02)  # polls
    finally:
        state["over"] = True
        for t in threads:
            t.join()
    return count[0]


def test_errors_of_the_new_side_are_rolled_back_and_nobody_sees_them(sides):
    a, b, g = sides
    start(g, steps=[50, 100])
    b.tell(status=500, count=10**6)
    drive(g, "hello", {"rolled_back"})
    r = rollout(g)
    assert r["state"] == "rolled_back" and r["history"][-1]["by"] == "gate errors"
    assert "requests that fail" in r["why"]
    assert r["history"][-1]["figures"]["gates"][0]["closed"]
    assert g.status()["answers"][5] == 0
    n = seen(b)
    for i in range(30):
        assert g.chat(f"after {i}").backend == "a"
    assert seen(b) == n


@pytest.mark.heavy
def test_a_doubled_ttft_is_rolled_back(sides):
    a, b, g = sides
    start(g, steps=[30, 100])
    n = drive(g, "[fake prefill.a=15 prefill.b=45]", {"rolled_back"}, most=3000)
    r = rollout(g)
    assert r["state"] == "rolled_back", (n, r["figures"])
    assert r["history"][-1]["by"] in ("gate ttft", "gate ttft_high", "gate speed")


def test_a_good_one_goes_all_the_way_and_is_warmed(sides):
    a, b, g = sides
    for i in range(5):
        g.chat(f"system prompt {i}", max_tokens=50)
    start(g, steps=[50, 100], min_requests=30, running=False)
    until(lambda: b.seen()["requests"] >= 5, "prefixes are replayed")
    assert json.loads(b.seen()["last"])["max_tokens"] == 1
    drive(g, "hello", {"done"})
    r = rollout(g)
    assert r["state"] == "done" and r["per_cent"] == 100
    assert [e["event"] for e in r["history"]] == ["start", "step", "promote", "step", "done"]
    assert g.chat("new").backend == "b"
    assert rollout(g, "rollback")["rollout"]["state"] == "rolled_back"
    assert g.chat("newer").backend == "a"


# ---- going back

def test_rollback_takes_under_a_second_and_streams_end_where_they_are(sides):
    a, b, g = sides
    start(g, steps=[100])
    with g.open("[fake delay=40]", max_tokens=30) as s:
        s.until_text()
        assert s.backend == "b"
        begin = time.monotonic()
        g_said = rollout(g, "rollback")
        assert time.monotonic() - begin < 1
        assert g_said["rollout"]["state"] == "rolled_back"
        n = seen(b)
        for i in range(20):
            assert g.chat(f"question {i}").backend == "a"
        s.read()
        assert s.done and not s.errors and s.finish == "length"
    assert seen(b) == n
    assert a.seen()["resumed"] == 0


def test_a_hard_rollback_moves_streams_and_their_text_goes_on(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(backends=[a.conf(), b.conf(standby=True)])
    want = g.stream("[fake delay=1]", max_tokens=40, temperature=0).text
    start(g, steps=[100])
    with g.open("[fake delay.b=40]", max_tokens=40, temperature=0) as s:
        s.until_text()
        assert rollout(g, "rollback", hard=True)["moved"] == 1
        s.read()
        assert s.done and not s.errors and s.text == want
    assert a.seen()["resumed"] == 1
    assert b.seen()["gone"] == 1


def test_a_hard_rollback_leaves_what_nobody_can_continue(sides):
    a, b, g = sides
    start(g, steps=[100])
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    with g.open("[fake delay=30]", max_tokens=20, tools=tools, n=2) as s:
        s.until_text()
        said = rollout(g, "rollback", hard=True)
        assert (said["moved"], said["left"]) == (0, 1)
        s.read()
        assert s.done and not s.errors


def test_conversations_of_the_new_side_go_on_on_the_old_one(sides):
    a, b, g = sides
    start(g, steps=[100])
    first = g.chat("hello", max_tokens=3)
    assert first.backend == "b"
    rollout(g, "rollback")
    again = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": first.text}, {"role": "user", "content": "on"}]
    assert g.chat(messages=again).backend == "a"


def test_a_dead_old_side_does_not_open_the_new_one_after_a_rollback(sides):
    a, b, g = sides
    start(g, steps=[50, 100])
    rollout(g, "rollback")
    a.kill()
    g.until_state("a", "down", "failing")
    assert g.chat().status == 503
    assert seen(b) == [0]


def test_a_dead_new_side_costs_no_answer(sides):
    a, b, g = sides
    start(g, steps=[50, 100])
    b.kill()
    for i in range(60):
        assert g.chat(f"question {i}").status == 200
    until(lambda: rollout(g)["state"] == "rolled_back", "the gates saw it")


# ---- orders

def test_pause_promote_resume_forget(sides):
    a, b, g = sides
    start(g, steps=[10, 100])
    rollout(g, "pause")
    step = rollout(g)["step"]
    for i in range(5):
        g.chat(f"x {i}")
    assert (rollout(g)["state"], rollout(g)["step"]) == ("paused", step)
    assert "error" in rollout(g, "pause", ok=False)
    rollout(g, "resume")
    rollout(g, "promote")
    until(lambda: rollout(g)["per_cent"] == 100)
    rollout(g, "promote")
    assert rollout(g)["state"] == "done"
    assert "error" in rollout(g, "promote", ok=False)
    rollout(g, "forget")
    assert rollout(g)["state"] == "none"
    assert [e["event"] for e in rollout(g)["history"]][-1] == "forget"
    assert g.chat().backend == "a"  # the other one stands by again


@pytest.mark.parametrize("wrong, words", [
    ({"from": "a"}, "from"), ({"from": "a", "to": "nobody"}, "nobody"), ({"from": "a", "to": "a"}, "both sides"), ({"from": "vllm", "to": "loam", "steps": [50, 10]}, "rise"),
    ({"from": "a", "to": "b", "steps": [10, 50]}, "100"), ({"from": "a", "to": "b", "gate": {"gates": {"ttfb": {}}}}, "ttft"), ({"from": "a", "to": "b", "speed": 1}, "unknown field"),
    ({"from": "a", "to": "b", "min_requests": -1}, "min_requests"), ({"from": "a", "to": "b", "sticky": "shoe"}, "sticky")])
def test_wrong_orders_are_refused_in_words(sides, wrong, words):
    g = sides[2]
    answer = g.post("/gateway/api/rollout", {"action": "start", **wrong})
    assert answer.status == 400 and words in answer.error["message"], answer.body
    assert rollout(g)["state"] == "none"


def test_only_an_administrator_may(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(backends=[a.conf(), b.conf(standby=True)], admin_key="secret-admin-key", ready=False)
    assert g.get("/gateway/api/rollout").status in (401, 403)
    assert g.post("/gateway/api/rollout", {"action": "start", "from": "a", "to": "b"}).status in (401, 403)


def test_the_command_does_all_of_it(loam, sides, tmp_path):
    a, b, g = sides
    url = f"http://127.0.0.1:{g.port}"
    gate = tmp_path / "gate.json"
    gate.write_text(json.dumps({"false_alarms": 0.01, "gates": {"errors": {"increase": 0.02}, "ttft": {"factor": 1.5}, "longer": False}}))
    said = loam("rollout", "start", "--url", url, "--from", "vllm", "--to", "loam", "--steps", "10,50,100", "--min-requests", "100000", "--min-time", "1h", "--gate", gate).stdout
    assert said.startswith("default: ")
    until(lambda: rollout(g)["state"] == "running")
    plan = rollout(g)["plan"]
    assert plan["from"] == ["a"] and plan["to"] == ["b"] and plan["min_time_s"] == 3600 and plan["gate"]["gates"]["longer"] is False
    for i in range(30):
        g.chat(f"question {i}")
    said = loam("rollout", "status", "--url", url).stdout
    assert "running, 10 %" in said and "[10 %] 50 % 100 %" in said and "ttft" in said and "longer" not in said
    loam("rollout", "pause", "--url", url)
    loam("rollout", "resume", "--url", url)
    loam("rollout", "promote", "--url", url)
    until(lambda: rollout(g)["per_cent"] == 50)
    assert "rolled_back" in loam("rollout", "rollback", "--url", url, "--hard", "--why", "a test").stdout
    said = loam("rollout", "history", "--url", url).stdout
    assert [line.split()[2] for line in said.splitlines()] == ["start", "step", "pause", "resume", "promote", "step", "rollback"]
    assert "a test" in said
    assert json.loads(loam("rollout", "status", "--url", url, "--json").stdout)["rollouts"][0]["state"] == "rolled_back"
    loam("rollout", "report", "--url", url, "--html", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "<svg" in page and "rollback" in page and "http://" not in page.replace("http://www.w3.org/", "")
    assert loam("rollout", "start", "--url", url, "--from", "x", "--to", "b", ok=False).returncode == 1
    assert loam("rollout", "begin", ok=False).returncode == 2


# ---- a gateway that is killed

def restart(loam, g):
    """The same gateway once more, after kill -9."""
    g.process.kill()
    g.process.wait()
    g.process.stdout.close()
    g.process = loam.start("gateway", "--config", g.path, stdout=subprocess.PIPE, stderr=g.log_file, text=True)
    g.port = int(g.process.stdout.readline().rsplit(":", 1)[1])
    return g


def test_sides_and_state_survive_kill_9(loam, sides):
    a, b, g = sides
    start(g, steps=[50, 100])
    names = [f"s{i}" for i in range(40)]
    before = {n: g.chat(n, headers={"X-Session-Id": n}).backend for n in names}
    talks = [(i, g.chat(f"question {i}", max_tokens=3)) for i in range(20)]
    restart(loam, g).ready()
    until(lambda: rollout(g)["state"] == "running")
    assert {n: g.chat(n, headers={"X-Session-Id": n}).backend for n in names} == before
    for i, first in talks:
        again = [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": first.text}, {"role": "user", "content": "on"}]
        assert g.chat(messages=again).backend == first.backend
    rollout(g, "rollback")
    restart(loam, g).ready()
    n = seen(b)
    assert rollout(g)["state"] == "rolled_back"
    for i in range(10):
        assert g.chat(f"after {i}").backend == "a"
    assert seen(b) == n


@pytest.mark.heavy
def test_killed_in_a_loop_the_state_is_always_a_whole_one(loam, sides):
    """Orders come while the gateway is killed at random instants: what was confirmed is there after, and nothing that
    was not ordered."""
    a, b, g = sides
    rng = random.Random(8)
    orders = 0
    for _ in range(25):
        confirmed, stop = [], threading.Event()

        def command():
            nonlocal orders
            while not stop.is_set():
                try:
                    r = g.get("/gateway/api/rollout").json["rollouts"][0]
                    what = {"running": rng.choice(["pause", "promote", "rollback"]), "paused": rng.choice(["resume", "rollback"]), "warming": "pause"}.get(r["state"], "start")
                    more = {"from": "a", "to": "b", "steps": [10, 20, 30, 50, 100], "min_requests": 10**9} if what == "start" else {}
                    answer = g.post("/gateway/api/rollout", {"action": what, **more})
                    if answer.status == 200:
                        confirmed.append((what, answer.json["rollout"]["state"], answer.json["rollout"]["step"]))
                        orders += 1
                except (OSError, ValueError, http.client.HTTPException):
                    pass  # it was killed

        t = threading.Thread(target=command)
        t.start()
        time.sleep(rng.uniform(0.01, 0.12))  # the instant of the kill, at random on purpose
        os.kill(g.process.pid, signal.SIGKILL)
        stop.set()
        t.join()
        restart(loam, g)
        r = rollout(g)
        events = [e["event"] for e in r["history"]]
        if confirmed:
            what, state, step = confirmed[-1]
            names = {"start": "start", "pause": "pause", "promote": ("promote", "done"), "rollback": "rollback", "resume": "resume"}[what]
            recent = events[-6:]
            assert any(n in recent for n in ([names] if isinstance(names, str) else names)), (confirmed[-1], recent)
        assert r["state"] in ("none", "warming", "running", "paused", "rolled_back", "done")
        assert len(events) < 3 * orders + 60
        file = next(pathlib.Path(f"{g.path}.rollout").glob("*.json"), None)
        if file:
            assert json.loads(file.read_text())["version"] == 1
    assert orders > 20
    g.ready()


def test_a_damaged_state_is_refused_in_words(loam, fake, tmp_path):
    f = fake("a")
    config = tmp_path / "gateway.json"
    config.write_text(json.dumps({"listen": "127.0.0.1:0", "backends": [f.conf()]}))
    folder = tmp_path / "gateway.json.rollout"
    folder.mkdir()
    (folder / "default.json").write_text('{"version":1,"state":"flying"}')
    said = loam("gateway", "--config", config, ok=False)
    assert said.returncode == 1 and "default.json" in said.stderr and "remove it" in said.stderr


def test_a_successor_goes_on_with_the_rollout(loam, sides):
    a, b, g = sides
    start(g, steps=[50, 100])
    before = {n: g.chat(n, headers={"X-Session-Id": n}).backend for n in map(str, range(20))}
    pid = g.get("/gateway/api/rollout").headers
    loam("gateway", "restart", "--url", f"http://127.0.0.1:{g.port}")
    until(lambda: g.status()["uptime_s"] < 5 and g.status()["requests"] < 20, "the successor answers")
    assert {n: g.chat(n, headers={"X-Session-Id": n}).backend for n in before} == before, pid
    rollout(g, "rollback")
    n = seen(b)
    for i in range(10):
        assert g.chat(f"after {i}").backend == "a"
    assert seen(b) == n


# ---- mirroring

def test_mirrored_requests_are_scored_and_cost_the_client_nothing(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(backends=[a.conf(), b.conf(standby=True)])
    start(g, steps=[0, 100], shadow=1, shadow_running=8)
    for i in range(20):
        begin = time.monotonic()
        assert g.chat(f"question {i} [fake delay.b=30]", max_tokens=4, temperature=0).backend == "a"
        assert time.monotonic() - begin < 10
    until(lambda: rollout(g)["shadows"]["n"] + rollout(g)["shadows"]["over_budget"] >= 20, "all are mirrored or left out")
    h = rollout(g)["shadows"]
    assert h["n"] >= 8 and h["same"] == h["greedy"] == h["n"] and h["failed"] == 0
    assert abs(h["length_ratio"] / h["n"] - 1) < 1e-6
    assert json.loads(b.seen()["last"])["stream"] is False


def test_mirroring_keeps_to_its_budget(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(backends=[a.conf(), b.conf(standby=True)])
    start(g, steps=[0, 100], shadow=1, shadow_running=1, shadow_tokens_per_minute=1)
    for i in range(10):
        g.chat(f"question {i}", max_tokens=4)
    h = rollout(g)["shadows"]
    assert h["sent"] == 0 and h["over_budget"] == 10
