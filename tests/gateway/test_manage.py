"""Running it: drain, reload, restart, keys, limits, usage, metrics."""

import json
import os
import signal
import socket
import threading
import time

import pytest

from gw import until

ADMIN = "the-admin-key"


class Load:
    """Clients that ask all the time, each on a connection of its own; failures are kept."""

    def __init__(self, g, n=4, streams=True, **how):
        self.g, self.how, self.streams = g, how, streams
        self.answers, self.failures, self.ending = 0, [], False
        self.workers = [threading.Thread(target=self.run) for _ in range(n)]

    def run(self):
        while not self.ending:
            try:
                if self.streams:
                    s = self.g.stream("[fake delay=3]", max_tokens=8, temperature=0, **self.how)
                    good = s.status == 200 and s.done and not s.errors and len(s.text.split()) == 8
                    what = s.raw
                else:
                    r = self.g.chat(max_tokens=4, **self.how)
                    good, what = r.status == 200, r.body
            except OSError as e:
                good, what = False, repr(e)
            self.answers += 1
            if not good:
                self.failures.append(what)

    def __enter__(self):
        for w in self.workers:
            w.start()
        return self

    def __exit__(self, *_):
        self.ending = True
        for w in self.workers:
            w.join()

    def more(self, n=20):
        target = self.answers + n
        until(lambda: self.answers >= target or self.failures)


def test_drain_finishes_streams_and_takes_no_new_ones(pair, loam):
    a, b, g = pair
    with g.open("[fake delay=20]", max_tokens=30) as s:
        s.until_text()
        busy = s.backend
        said = loam.json("gateway", "drain", busy, "--url", f"http://127.0.0.1:{g.port}")
        assert said == {"backend": busy, "state": "draining", "inflight": 1}
        for _ in range(4):
            assert g.chat().backend != busy
        assert g.state(busy) == "draining"
        assert s.read().done and len(s.text.split()) == 30
    until(lambda: g.state(busy) == "drained")
    table = loam("gateway", "status", "--url", f"http://127.0.0.1:{g.port}").stdout
    assert "drained" in table and "pool default: round_robin" in table
    loam("gateway", "undrain", busy, "--url", f"http://127.0.0.1:{g.port}")
    assert busy in {g.chat().backend for _ in range(4)}
    r = loam("gateway", "drain", "nobody", "--url", f"http://127.0.0.1:{g.port}", ok=False)
    assert r.returncode == 1 and 'no backend named "nobody"' in r.stderr


def test_a_rolling_restart_of_the_backends_fails_nothing(fake, gateway):
    backends = [fake(n) for n in "abc"]
    g = gateway(*backends)
    with Load(g) as load:
        for x in backends:
            load.more()
            x.kill(signal.SIGTERM)  # it drains, as loam serve does
            load.more()
            x.start()
            g.until_state(x.name, "up", "warming")
        load.more()
    assert load.failures == []


def test_backends_killed_in_turn_fail_nothing(fake, gateway):
    backends = [fake(n) for n in "abc"]
    g = gateway(*backends)
    with Load(g, n=6) as load:
        for x in backends * 2:
            load.more()
            x.kill()
            load.more()
            x.start()
            g.until_state(x.name, "up", "warming")
    assert load.failures == []
    assert sum(b["resumed_to"] for b in g.status()["backends"]) > 0


def test_reload_keeps_streams_and_what_is_known(fake, gateway):
    a, b, c = fake("a"), fake("b"), fake("c")
    g = gateway(a, b, policy="round_robin")
    with g.open("[fake delay=20]", max_tokens=40) as s:
        s.until_text()
        keeps, goes = (a, b) if s.backend == "b" else (b, a)
        known = g.backend(keeps.name)["requests"]
        g.write({**g.config, "listen": g.config["listen"], "backends": [keeps.conf(), c.conf()]})
        g.process.send_signal(signal.SIGHUP)
        until(lambda: {x["name"] for x in g.status()["backends"]} == {keeps.name, "c"})
        assert g.backend(keeps.name)["requests"] == known
        assert {g.chat().backend for _ in range(6)} == {keeps.name, "c"}
        assert s.read().done and len(s.text.split()) == 40  # from a backend that is no longer configured
    until(lambda: "read again" in g.log())
    g.path.write_text('{"backends": [{"name": "x"}]}')
    g.process.send_signal(signal.SIGHUP)
    until(lambda: "was not read again" in g.log())
    assert '"url" is missing' in g.log() and g.chat().status == 200
    g.write({**g.config, "listen": "127.0.0.1:1"})
    r = g.post("/gateway/api/reload")
    assert r.status == 400 and '"listen" cannot change' in r.error["message"]


def test_reload_moves_who_waits(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(backends=[a.conf(max_inflight=1)], queue={"limit": 9, "wait_s": 60})
    with g.open("[fake delay=50]", max_tokens=600) as s:
        s.until_text()
        answer = []
        t = threading.Thread(target=lambda: answer.append(g.chat()))
        t.start()
        until(lambda: g.status()["pools"][0]["queued"] == 1)
        g.write({**g.config, "backends": [a.conf(max_inflight=1), b.conf()]})
        assert g.post("/gateway/api/reload").status == 200
        t.join()
        assert answer[0].status == 200 and answer[0].backend == "b"
        s.close()


def test_its_own_restart_refuses_nobody_and_cuts_nothing(fake, gateway, loam):
    a, b = fake("a"), fake("b")
    g = gateway(a, b)
    old = g.process.pid
    pids = []
    with Load(g, n=4) as load, Load(g, n=2, streams=False) as small, g.open("[fake delay=30]", max_tokens=120) as s:
        s.until_text()
        for _ in range(2):
            load.more()
            loam("gateway", "restart", "--url", f"http://127.0.0.1:{g.port}")
            until(lambda: g.log().count("a successor has taken over") == len(pids) + 1)
            load.more()
            pids.append(g.log())
        assert s.read().done and len(s.text.split()) == 120
    assert load.failures == [] and small.failures == []
    assert g.process.wait(30) == 0  # the first one is gone, with its last stream
    assert g.chat().status == 200 and g.get("/health").status == 200
    done = os.popen(f"ss -ltnpH 'sport = :{g.port}'").read() if os.path.exists("/usr/bin/ss") else ""
    assert f"pid={old}," not in done
    end_successor(g)


def end_successor(g):
    """The process that listens now is a grandchild: it is told over the network to go."""
    import subprocess
    found = subprocess.run(["pgrep", "-f", f"gateway --config {g.path}"], stdout=subprocess.PIPE, text=True).stdout.split()
    for pid in found:
        os.kill(int(pid), signal.SIGTERM)
    until(lambda: refused(g.port))


def refused(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


def test_a_successor_that_cannot_start_changes_nothing(pair):
    _, _, g = pair
    g.path.write_text("{")
    g.post("/gateway/api/restart")
    until(lambda: "g.json" in g.log() or "line 1" in g.log())
    assert g.chat().status == 200 and "taken over" not in g.log()


def test_drain_of_the_gateway_itself_lets_streams_end(pair):
    _, _, g = pair
    with g.open("[fake delay=20]", max_tokens=30) as s:
        s.until_text()
        g.process.send_signal(signal.SIGTERM)
        until(lambda: refused(g.port))
        assert s.read().done and len(s.text.split()) == 30
    assert g.process.wait(30) == 0


def test_streams_that_outlast_the_drain_end_with_an_error(fake, gateway):
    g = gateway(fake("a"), timeouts={"drain_s": 1})
    with g.open("[fake delay=50]", max_tokens=2000) as s:
        s.until_text()
        g.process.send_signal(signal.SIGTERM)
        s.read()
        assert s.errors and "shutting down" in s.errors[0]["message"]
    assert g.process.wait(30) == 0


def test_check_says_what_is_wrong(loam, tmp_path):
    f = tmp_path / "g.json"
    f.write_text('{"backends":[{"name":"a","url":"http://127.0.0.1:1"}]}')
    assert "1 backends" in loam("gateway", "--config", f, "--check").stdout
    f.write_text('{"backends":[{"name":"a","url":"http://127.0.0.1:1","wieght":2}]}')
    r = loam("gateway", "--config", f, "--check", ok=False)
    assert r.returncode == 1 and 'backends[0]: unknown field "wieght"' in r.stderr
    r = loam("gateway", "--config", tmp_path / "none.json", ok=False)
    assert r.returncode == 1 and "none.json" in r.stderr


# ---- who may ------------------------------------------------------------------------------------------------


def bearer(key):
    return {"headers": {"Authorization": f"Bearer {key}"}}


def test_keys_and_their_limits(fake, gateway):
    a = fake("a")
    g = gateway(a, keys=[{"name": "few", "key": "sk-few-requests", "requests_per_minute": 3},
                         {"name": "short", "key": "sk-few-tokens", "tokens_per_minute": 60},
                         {"name": "one", "key": "sk-one-model", "models": ["other"]}])
    assert g.chat().status == 401 and g.chat(**bearer("sk-few-requestz")).status == 401
    assert g.get("/v1/models").status == 401 and g.get("/v1/models", **bearer("sk-few-requests")).status == 200
    for left in (2, 1, 0):
        r = g.chat(**bearer("sk-few-requests"))
        assert r.status == 200 and r.headers["X-RateLimit-Remaining-Requests"] == str(left)
    r = g.chat(**bearer("sk-few-requests"))
    assert r.status == 429 and r.error["code"] == "rate_limit_exceeded" and 10 <= int(r.headers["Retry-After"]) <= 21
    assert g.stream(max_tokens=100, **bearer("sk-few-tokens")).done
    r = g.chat(**bearer("sk-few-tokens"))
    assert r.status == 429 and "tokens" in r.error["message"]
    assert g.chat(model="m", **bearer("sk-one-model")).status == 403
    assert "Bearer" not in a.seen()["key"]  # keys of clients end at the gateway
    anthropic = g.post("/v1/chat/completions", {"model": "m"}, headers={"x-api-key": "sk-one-model"})
    assert anthropic.status == 403


def test_usage_is_kept_by_key_model_and_day(fake, gateway, loam, tmp_path):
    a = fake("a")
    db = tmp_path / "usage.db"
    g = gateway(a, usage_file=str(db), keys=[{"name": n, "key": f"sk-key-{n}"} for n in ("x", "y")])
    g.chat(model="m", max_tokens=5, **bearer("sk-key-x"))
    s = g.stream(model="m", max_tokens=7, **bearer("sk-key-x"))
    assert s.usage is None  # asked for by the gateway, not by the client
    g.stream(model="m", max_tokens=9, stream_options={"include_usage": True}, **bearer("sk-key-y"))
    s = g.stream("[fake delay=2 cut=3]", model="m", max_tokens=9, **bearer("sk-key-y"))
    assert s.errors
    rows = until(lambda: [r for r in [loam.json("gateway", "usage", "--file", db, "--by", "key,model", "--json")] if sum(x["requests"] for x in r) == 4])[0]
    by = {r["key"]: r for r in rows}
    assert by["x"]["requests"] == 2 and by["x"]["answer_tokens"] == 12 and by["x"]["failed"] == 0
    assert by["y"]["requests"] == 2 and by["y"]["answer_tokens"] >= 11 and by["y"]["failed"] == 1
    table = loam("gateway", "usage", "--config", g.path, "--by", "key,model,day", "--days", "2").stdout
    assert table.splitlines()[0].split()[:3] == ["key", "model", "day"] and len(table.splitlines()) == 3
    r = loam("gateway", "usage", "--file", db, "--by", "key;DROP", ok=False)
    assert r.returncode == 1 and "key, model, day" in r.stderr


def test_managing_needs_the_admin_key(fake, gateway, loam):
    g = gateway(fake("a"), admin_key=ADMIN)
    for method, path in (("GET", "status"), ("POST", "drain"), ("POST", "undrain"), ("POST", "reload"), ("POST", "restart")):
        r = g.request(method, f"/gateway/api/{path}", b"{}" if method == "POST" else None)
        assert r.status == 401, path
    url = f"http://127.0.0.1:{g.port}"
    assert loam("gateway", "status", "--url", url, ok=False).returncode == 1
    assert loam("gateway", "status", "--url", url, env={"LOAM_ADMIN_KEY": ADMIN}).stdout
    assert loam.json("gateway", "status", "--url", url, "--json", env={"LOAM_ADMIN_KEY": ADMIN})["backends"][0]["name"] == "a"


# ---- what it tells --------------------------------------------------------------------------------------------


def test_metrics_are_prometheus_and_count_right(pair):
    a, b, g = pair
    for _ in range(6):
        g.stream(max_tokens=5)
    text = g.get("/metrics").body.decode()
    seen = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name not in seen and kind in ("counter", "gauge", "histogram")
            seen.add(name)
        elif not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            float(value)
            base = name.split("{")[0]
            assert base in seen or base.rsplit("_", 1)[0] in seen, line
    assert sum(g.metric("loam_gateway_backend_requests_total", backend=n) for n in "ab") == 6
    assert sum(g.metric("vllm:time_to_first_token_seconds_count", backend=n) for n in "ab") == 6
    assert sum(g.metric("vllm:generation_tokens_total", backend=n) for n in "ab") == 30
    assert g.metric("loam_gateway_answers_total", **{"class": "2xx"}) == 6
    a.kill()
    g.chat(), g.chat()
    until(lambda: g.metric("loam_gateway_backend_failures_total", backend="a", kind="unreached") >= 1 or g.state("a") == "down")


def test_the_access_log_is_json_lines(pair):
    _, _, g = pair
    g.stream(max_tokens=5)
    line = until(lambda: [x for x in g.lines() if x["path"] == "/v1/chat/completions"])[0]
    assert line["status"] == 200 and line["tokens"] == 5 and line["tries"] == 1 and 0 < line["ttft"] < line["seconds"] + 1
    assert json.dumps(line) and time.strptime(line["time"][:19], "%Y-%m-%dT%H:%M:%S")


@pytest.mark.parametrize("log", ["text", "off"])
def test_other_logs(fake, gateway, log):
    g = gateway(fake("a"), log=log)
    g.chat()
    if log == "text":
        until(lambda: "backend=a" in g.log(), "the line")  # it is written after the answer is out
    assert g.stop() == 0 and ("backend=a" in g.log()) == (log == "text")
