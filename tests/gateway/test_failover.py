"""Backends that fail, and clients that don't notice, or are told the truth."""

import time

import pytest

from gw import until


def test_nobody_there(fake, gateway):
    a = fake("a")
    g = gateway(a, pools=[{"name": "macs", "backends": ["a"]}])
    a.kill()
    g.until_state("a", "down")
    r = g.chat()
    assert r.status == 503 and "No healthy MLX backends" in r.error["message"] and '"macs"' in r.error["message"]
    assert int(r.headers["Retry-After"]) >= 1
    assert g.get("/ready").status == 503 and g.get("/health").status == 200
    a.start()
    g.until_state("a", "up", "warming")
    assert g.chat().status == 200 and g.get("/ready").status == 200


def test_failover_before_the_first_byte_is_unseen(pair):
    a, b, g = pair
    a.kill()
    for _ in range(6):
        assert g.chat().backend == "b"
        assert g.stream().done
    assert b.seen()["requests"] == 12


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_an_error_of_one_is_another_ones_answer(pair, status):
    a, b, g = pair
    a.tell(status=status, count=100, retry_after=3)
    for _ in range(4):
        r = g.chat()
        assert r.status == 200 and r.backend == "b"


def test_time_that_is_over_is_over_everywhere(pair):
    """408 is loam's own word for a request's time limit: another backend would only take as long again."""
    a, b, g = pair
    for x in (a, b):
        x.tell(status=408, count=100)
    for _ in range(10):
        r = g.chat()
        assert r.status == 408 and r.error["message"] == "Told to fail."
    assert a.seen()["requests"] + b.seen()["requests"] == 10
    for x in (a, b):
        x.tell(count=0)
    assert {g.chat().backend for _ in range(4)} == {"a", "b"}


def test_each_backend_is_tried_once(pair):
    a, b, g = pair
    a.tell(status=500, count=100)
    b.tell(status=500, count=100)
    r = g.chat()
    assert r.status == 500 and r.error["message"] == "Told to fail."
    assert a.seen()["requests"] == b.seen()["requests"] == 1
    # A request that nobody can answer is at fault itself: it may not put all of them out of action.
    for _ in range(10):
        g.chat()
    a.tell(count=0)
    b.tell(count=0)
    assert g.chat().status == 200


def test_a_busy_backends_words_arrive_if_all_are_busy(pair):
    a, b, g = pair
    for x in (a, b):
        x.tell(status=429, count=1, retry_after=7)
    r = g.chat()
    assert r.status == 429 and r.headers["Retry-After"] == "7"


def test_what_may_have_an_effect_is_not_repeated(pair):
    a, b, g = pair
    for x in (a, b):
        x.tell(hang=1, count=1)
    s = g.post  # /v1/responses may be stored by the backend
    import threading
    answer = []
    t = threading.Thread(target=lambda: answer.append(s("/v1/responses", {"input": "x"})))
    t.start()
    victim = until(lambda: next((x for x in (a, b) if x.seen()["requests"]), None))
    victim.kill()
    t.join()
    assert answer[0].status == 502 and "may have had an effect" in answer[0].error["message"]
    assert [x for x in (a, b) if x is not victim][0].seen()["requests"] == 0


DEATHS = ["die.a=7", "cut.a=7", "error.a=7", "stop.a=1 cut.a=8"]


@pytest.mark.parametrize("accident", DEATHS)
@pytest.mark.parametrize("how", [{"temperature": 0}, {"seed": 77}, {}], ids=["greedy", "seed", "free"])
def test_a_stream_survives_its_backend_exactly(pair, accident, how):
    a, b, g = pair
    prompt = f"tell me [fake delay=2 {accident}]"
    s = g.stream(prompt, max_tokens=30, stream_options={"include_usage": True}, **how)
    if s.backend == "b":  # it was b's turn
        s = g.stream(prompt, max_tokens=30, stream_options={"include_usage": True}, **how)
    assert s.backend == "a" and s.done and not s.errors, s.raw
    assert b.seen()["resumed"] == 1
    assert [int(w.split(".")[0]) for w in s.text.split()] == list(range(30))
    seed = how.get("seed")
    if how:
        assert s.text == b.chat("tell me", max_tokens=30, **how).text
    else:  # the gateway chose one; it travelled
        import json
        seed = json.loads(b.seen()["last"])["seed"]
        assert s.text == b.chat("tell me", max_tokens=30, seed=seed).text
    heads = {(e["id"], e["created"], e["model"]) for e in s.events}
    assert len(heads) == 1
    assert sum("role" in c["delta"] for e in s.events for c in e["choices"]) == 1
    assert s.usage["completion_tokens"] == 30 and s.finish == "length"
    assert b"token_ids" not in s.raw


def test_a_stream_survives_several_deaths(fake, gateway):
    names = "abcd"
    backends = [fake(n) for n in names]
    g = gateway(*backends, policy="round_robin")
    s = g.stream("[fake delay=2 die.a=5 die.b=5 die.c=5]", max_tokens=20, temperature=0)
    assert s.done and not s.errors
    assert s.text == backends[3].chat("x", max_tokens=20, temperature=0).text


def test_death_at_every_place(fake, gateway):
    """Whatever has arrived when the backend dies: before the first token, between two, after the last."""
    b = fake("b")
    whole = b.chat("x", max_tokens=9, temperature=0).text
    a = fake("a")
    g = gateway(a, b, policy="weighted")
    for at in range(0, 10):
        if at:
            a.tell(count=0)
        s = g.stream(f"[fake cut.a={at or 99} cut.b=0]", max_tokens=9, temperature=0)
        t = g.stream(f"[fake cut.a={at or 99}]", max_tokens=9, temperature=0)
        for x in (s, t):
            assert x.done and not x.errors and x.text == whole and x.finish == "length"


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llama.cpp"])
def test_other_servers_continue_by_words(fake, gateway, kind):
    a, b = fake("a", kind=kind), fake("b", kind=kind)
    g = gateway(a, b)
    s = g.stream("[fake delay=2 die.a=3 die.b=0]", max_tokens=12, temperature=0, stream_options={"include_usage": True})
    if s.backend == "b":
        s = g.stream("[fake delay=2 die.a=3]", max_tokens=12, temperature=0, stream_options={"include_usage": True})
    assert s.done and not s.errors, s.raw
    assert [int(w.split(".")[0]) for w in s.text.split()] == list(range(12))
    assert s.usage["completion_tokens"] == 12
    assert s.usage["total_tokens"] == s.usage["prompt_tokens"] + s.usage["completion_tokens"]


def test_completions_continue_on_any_server(fake, gateway):
    a, b = fake("a", kind="openai"), fake("b", kind="openai")
    g = gateway(a, b)
    for _ in range(2):
        s = g.open("Once [fake delay=2 cut.a=3]", path="/v1/completions", max_tokens=12, temperature=0).read()
        assert s.done and not s.errors
        assert [int(w.split(".")[0]) for w in s.text.split()] == list(range(12))


@pytest.mark.parametrize("why", ["kind", "tools", "n", "off"])
def test_what_cannot_be_continued_ends_with_an_error_event(fake, gateway, why):
    kind = "openai" if why == "kind" else "vllm" if why == "tools" else "loam"
    a, b = fake("a", kind=kind), fake("b", kind=kind)
    g = gateway(a, b, policy="round_robin", resume=why != "off")
    more = {"tools": [{"type": "function", "function": {"name": "f"}}]} if why == "tools" else {"n": 2} if why == "n" else {}
    g.chat()
    g.chat()
    s = g.stream("[fake delay=2 die=7]", max_tokens=12, temperature=0, **more)
    assert s.status == 200 and s.text and len(s.errors) == 1 and s.done
    assert "lost in the middle" in s.errors[0]["message"] and s.errors[0]["type"] == "server_error"


def test_a_stall_is_a_death(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(a, b, policy="round_robin", timeouts={"idle_s": 0.3})
    g.stream() if g.chat().backend == "a" else None
    for _ in range(2):
        s = g.stream("[fake delay=2 stall.a=4]", max_tokens=9, temperature=0)
        assert s.done and not s.errors and len(s.text.split()) == 9


def test_a_late_first_byte_is_another_ones(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(a, b, policy="round_robin", timeouts={"first_byte_s": 0.3})
    a.tell(hang=1, count=9)
    for _ in range(3):
        assert g.chat().backend == "b"


def test_hedging_sends_short_requests_twice_if_the_first_is_late(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(a, b, policy="round_robin", hedge={"after_s": 0.05, "max_tokens": 16})
    for _ in range(4):
        begun = time.monotonic()
        r = g.chat("[fake delay.a=1000]", max_tokens=8)
        assert r.status == 200 and r.backend == "b" and time.monotonic() - begun < 5
    assert g.backend("b")["hedges"] >= 1
    until(lambda: a.seen()["running"] == 0, "the loser was cancelled")
    g.chat("[fake delay=40]", max_tokens=17)  # too long for it
    assert a.seen()["requests"] + b.seen()["requests"] <= 9
