"""Who gets requests, and who is left alone: probes, breakers, busy backends, policies at work."""

import threading
import time

import pytest

from gw import until

PROBES = {"interval_s": 0.1, "timeout_s": 0.2, "fall": 2, "rise": 2, "slow_start_s": 0}


def shares(g, n=40, **how):
    counts = {}
    for _ in range(n):
        r = g.chat(**how)
        counts[r.backend] = counts.get(r.backend, 0) + 1
    return counts


def test_a_dead_backend_is_noticed_without_requests(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(a, b, health=PROBES)
    a.kill()
    g.until_state("a", "down")
    assert g.metric("loam_gateway_backend_up", backend="a") == 0
    before = g.backend("a")["requests"]
    assert shares(g, 6) == {"b": 6}
    assert g.backend("a")["requests"] == before  # nobody paid for finding out
    a.start()
    g.until_state("a", "up")
    assert set(shares(g, 6)) == {"a", "b"}


def test_what_a_backend_says_of_itself_counts_at_once(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(a, b, health={**PROBES, "fall": 100})
    a.tell(health=503)  # loading, or draining
    g.until_state("a", "down")
    a.tell(health=200)
    g.until_state("a", "up")


def test_busy_is_not_dead(fake, gateway):
    """A server whose probes are not answered while it works stays in; when it stops working, it goes."""
    a = fake("a")
    g = gateway(a, health={**PROBES, "busy_s": 60})
    a.tell(health_ms=5000)
    answers = []
    work = threading.Thread(target=lambda: answers.append(g.stream("[fake prefill=1500 delay=20]", max_tokens=40)))
    work.start()
    while work.is_alive():
        assert g.state("a") == "up" or not work.is_alive()
        time.sleep(0.02)  # looks now and then; nothing depends on its length
    assert answers[0].done
    g.until_state("a", "down")


def test_a_server_that_only_answers_probes_is_found_out(fake, gateway):
    """Fast failures attract no traffic, and end it: the breaker opens though every probe succeeds."""
    a, b = fake("a"), fake("b")
    g = gateway(a, b, policy="round_robin", breaker={"failures": 3, "open_s": 60})
    a.tell(status=500, count=10**6)
    counts = shares(g, 30)
    assert counts == {"b": 30}
    assert g.state("a") == "failing" and a.seen()["requests"] == 3
    assert g.metric("loam_gateway_backend_breaker_state", backend="a") == 1


def test_failing_fast_attracts_no_traffic(fake, gateway):
    """The default policy sends most where least is owed: one who fails at once must not look idle."""
    a, b = fake("a"), fake("b")
    g = gateway(a, b, breaker={"failures": 1000})
    a.tell(status=500, count=10**6)
    assert shares(g, 30) == {"b": 30}
    assert a.seen()["requests"] <= 3


def test_a_trial_is_one_request(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(a, b, policy="round_robin", breaker={"failures": 1, "open_s": 0.2, "open_max_s": 0.2})
    a.tell(status=500, count=1)
    shares(g, 4)
    until(lambda: g.state("a") == "failing" or a.seen()["requests"] > 0)
    a.tell(count=0)
    time.sleep(0.25)  # open_s
    answers = []
    workers = [threading.Thread(target=lambda: answers.append(g.chat("[fake prefill=300]").backend)) for _ in range(6)]
    for w in workers:
        w.start()
    until(lambda: a.seen()["running"] + b.seen()["running"] == 6)
    assert a.seen()["running"] == 1
    for w in workers:
        w.join()
    assert sorted(answers) == ["a"] + ["b"] * 5


def test_a_recovered_backend_warms_up(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(a, b, policy="round_robin", health={**PROBES, "rise": 1, "slow_start_s": 1000})
    a.kill()
    g.until_state("a", "down")
    a.start()
    g.until_state("a", "warming")
    counts = shares(g, 44)
    assert counts["a"] <= 6, counts


@pytest.mark.parametrize("policy", ["round_robin", "weighted", "least_outstanding_tokens"])
def test_traffic_is_split_as_the_policy_says(fake, gateway, policy):
    backends = [fake(n) for n in "abc"]
    g = gateway(backends=[b.conf(weight=w) for b, w in zip(backends, (1, 1, 2))], policy=policy)
    counts = shares(g, 40)
    assert counts == ({"a": 10, "b": 10, "c": 20} if policy == "weighted" else counts)
    if policy == "round_robin":
        assert sorted(counts.values()) == [13, 13, 14]
    if policy == "least_outstanding_tokens":
        assert set(counts) == {"c", "a", "b"} or counts["c"] >= 20


def test_long_prompts_weigh_more_than_short_ones(fake, gateway):
    a, b = fake("a"), fake("b")
    g = gateway(a, b)
    long = threading.Thread(target=lambda: g.chat("word " * 20000 + "[fake prefill=1500]"))
    long.start()
    busy = until(lambda: next((n for n in "ab" if g.backend(n)["inflight"]), None))
    assert g.backend(busy)["owed_tokens"] > 20000
    assert shares(g, 10) == {"b" if busy == "a" else "a": 10}
    long.join()
    assert g.backend(busy)["owed_tokens"] == 0


def test_conversations_stay_where_their_beginning_is(fake, gateway):
    backends = [fake(n) for n in "abc"]
    g = gateway(*backends, policy="prefix_affinity")
    homes = set()
    for talk in range(12):
        first = [{"role": "system", "content": f"You are number {talk}."}, {"role": "user", "content": "hello"}]
        home = g.chat(messages=first).backend
        homes.add(home)
        for _ in range(3):
            first += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "and now?"}]
            assert g.chat(messages=first).backend == home
    assert len(homes) == 3


@pytest.mark.parametrize("how", [lambda s: {"headers": {"X-Session-Id": s}}, lambda s: {"user": s}], ids=["header", "user"])
def test_sessions_stay(fake, gateway, how):
    backends = [fake(n) for n in "abc"]
    g = gateway(*backends, policy="session")
    homes = {s: g.chat(**how(s)).backend for s in map(str, range(12))}
    assert len(set(homes.values())) == 3
    assert all(g.chat("more", **how(s)).backend == home for s, home in homes.items())
    backends[0].kill()
    moved = {s: g.chat(**how(s)).backend for s in homes}
    assert all(moved[s] == home for s, home in homes.items() if home != "a")
    assert "a" not in moved.values()


def test_a_full_pool_makes_requests_wait_then_refuses(fake, gateway):
    a = fake("a")
    g = gateway(backends=[a.conf(max_inflight=2)], queue={"limit": 2, "wait_s": 20})
    answers = []
    workers = [threading.Thread(target=lambda: answers.append(g.chat("[fake prefill=400]"))) for _ in range(4)]
    for w in workers:
        w.start()
    until(lambda: g.status()["pools"][0]["queued"] == 2)
    assert g.metric("vllm:num_requests_waiting", pool="default") == 2
    r = g.chat()
    assert r.status == 429 and r.error["code"] == "queue_full" and '"default"' in r.error["message"] and r.headers["Retry-After"]
    for w in workers:
        w.join()
    assert [r.status for r in answers] == [200] * 4
    assert a.seen()["most_running"] == 2


def test_waiting_has_an_end_and_leaving_the_queue_too(fake, gateway):
    a = fake("a")
    g = gateway(backends=[a.conf(max_inflight=1)], queue={"limit": 5, "wait_s": 0.2})
    with g.open("[fake delay=50]", max_tokens=400) as s:
        s.until_text()
        r = g.chat()
        assert r.status == 429 and "within 0.2 seconds" in r.error["message"]
        s.close()
    until(lambda: g.chat().status == 200)
