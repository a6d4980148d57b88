"""bench --url, compare and validate, against servers that are as fast, as slow and as broken as they are told to be."""

import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "gateway"))
from gw import Gateway, fake  # noqa: E402, F401 (a fixture)


@pytest.fixture
def slow_prompts(tmp_path):
    """Prompts that make one backend slow: slow_prompts("b", delay=20)."""
    def make(who, **how):
        path = tmp_path / f"prompts-{who}.jsonl"
        marks = " ".join(f"{k}.{who}={v}" for k, v in how.items())
        path.write_text("".join(json.dumps({"prompt": f"question {i} [fake prefill=5 delay=2 {marks}]"}) + "\n" for i in range(4)))
        return path

    return make


# ---- bench

def test_bench_measures_the_five_prompts(loam, fake, tmp_path):
    f = fake("a")
    said = loam.json("bench", "--url", f.url + "/v1", "--json", "--svg", tmp_path / "b.svg")
    assert [a["prompt"] for a in said["answers"]] == [
        "Explain quantum computing in simple terms", "Write a Python function to sort a list", "What is the Seven Generations principle?",
        "Describe the architecture of a neural network", "How does photosynthesis work?"]
    assert all(a["ok"] and a["tokens"] == 200 for a in said["answers"])
    assert said["average_tok_s"] == pytest.approx(sum(a["tok_s"] for a in said["answers"]) / 5)
    assert f.seen()["requests"] == 6  # the warm-up too
    ET.parse(tmp_path / "b.svg")


def test_bench_knows_the_pace(loam, fake, slow_prompts):
    f = fake("a")
    said = loam.json("bench", "--url", f.url, "--json", "--max-tokens", "20", "--prompts", slow_prompts("a", prefill=100, delay=10))
    assert said["ttft_s"]["p50"] >= 0.1
    assert said["itl_s"]["p50"] >= 0.009
    assert said["tok_s"]["p50"] <= 20 / 0.29


def test_bench_asks_at_once_and_counts_all(loam, fake):
    f = fake("a")
    said = loam.json("bench", "--url", f.url, "--json", "--concurrency", "8", "--requests", "40", "--max-tokens", "5")
    assert said["requests"] == 40 and said["failed"] == 0 and f.seen()["requests"] == 41


def test_bench_fails_below_the_target(loam, fake, slow_prompts):
    f = fake("a")
    prompts = slow_prompts("a", delay=100)
    args = ["bench", "--url", f.url, "--prompts", prompts, "--max-tokens", "4", "--target", "20"]
    assert "missed" in (done := loam(*args, ok=False)).stdout and done.returncode == 1
    assert loam("bench", "--url", f.url, "--max-tokens", "20", "--target", "20").returncode == 0
    f.tell(status=500, count=1)
    assert loam("bench", "--url", f.url, ok=False).returncode == 1


def test_bench_names_what_is_not_there(loam, fake):
    f = fake("a")
    f.kill()
    done = loam("bench", "--url", f.url, ok=False)
    assert done.returncode == 1 and "no answer from" in done.stderr
    assert "http://" in loam("bench", "--url", "nowhere", ok=False).stderr


# ---- compare

def test_compare_finds_two_alike_no_worse(loam, fake, slow_prompts, tmp_path):
    a, b = fake("a"), fake("b")
    page = tmp_path / "c.html"
    said = loam("compare", a.url, b.url, "-n", "6", "--max-tokens", "12", "--prompts", slow_prompts("nobody", delay=1), "--html", page,
                "--ttft-factor", "3", "--speed-factor", "3")
    assert "B is no worse than A." in said.stdout and "24 of 24 the same" in said.stdout
    text = page.read_text()
    assert text.count("<svg") == 3 and "question 3" in text
    assert not re.findall(r"(?:src|href)=|@import|url\(", text)  # it asks for nothing
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        ET.fromstring(svg)


def test_compare_finds_a_slow_one_worse(loam, fake, slow_prompts):
    a, b = fake("a"), fake("b")
    done = loam("compare", a.url, b.url, "-n", "3", "--max-tokens", "5", "--prompts", slow_prompts("b", prefill=120, delay=20), "--json", ok=False)
    said = json.loads(done.stdout)
    assert done.returncode == 1 and not said["no_worse"] and said["ttft"]["mean"] > 3 and not said["ttft"]["fine"]
    done = loam("compare", b.url, a.url, "-n", "3", "--max-tokens", "5", "--prompts", slow_prompts("b", prefill=120, delay=20))
    assert "B is no worse" in done.stdout


def test_compare_counts_failures(loam, fake, slow_prompts):
    a, b = fake("a"), fake("b")
    prompts = slow_prompts("b", cut=2)
    done = loam("compare", a.url, b.url, "-n", "1", "--max-tokens", "5", "--prompts", prompts, ok=False)
    assert done.returncode == 1 and "failed" in done.stdout and "B is not shown" in done.stdout


def test_a_wrong_prompts_file_is_named(loam, fake, tmp_path):
    f = fake("a")
    bad = tmp_path / "p.jsonl"
    bad.write_text('hello\n{"prompts": 1}\n')
    assert "p.jsonl:2" in loam("compare", f.url, f.url, "--prompts", bad, ok=False).stderr


# ---- validate

FAST = {"interval_s": 0.1, "timeout_s": 0.5, "slow_start_s": 0, "fall": 2, "rise": 1}


def test_validate_ticks_all_off_when_all_holds(loam, fake, tmp_path):
    a, b = fake("a"), fake("b")
    g = Gateway(loam, tmp_path, {"health": FAST, "policy": "round_robin", "backends": [a.conf(), b.conf()], "log": "off"}).ready()
    url = f"http://127.0.0.1:{g.port}"
    try:
        stop = f"kill -9 {a.process.pid}"
        done = loam("validate", "--url", a.url, "--gateway", url, "--max-tokens", "20", "--json", ok=False, stdin="")
        said = {c["check"]: c for c in json.loads(done.stdout)["checks"]}
        assert done.returncode == 1 and "nobody agreed" in said["failover"]["words"] and said["rollout"]["outcome"] == "fails"
        assert [said[k]["outcome"] for k in ("model", "health", "chat", "streaming", "speed", "gateway", "balance")] == ["holds"] * 7
        assert g.post("/gateway/api/rollout", {"action": "start", "from": "a", "to": "b", "steps": [100], "min_requests": 0, "min_time_s": 0, "warm": False}).status == 200
        assert g.post("/gateway/api/rollout", {"action": "promote"}).status in (200, 400)
        done = loam("validate", "--url", b.url, "--gateway", url, "--max-tokens", "20", "--json", "--yes", "--stop", stop, ok=False)
        said = {c["check"]: c for c in json.loads(done.stdout)["checks"]}
        assert said["rollout"]["outcome"] == "holds" and "done" in said["rollout"]["words"]
        assert said["failover"]["outcome"] == "holds", said["failover"]
    finally:
        g.stop()


def test_validate_asks_before_it_stops_anything(loam, fake, tmp_path):
    a, b = fake("a"), fake("b")
    g = Gateway(loam, tmp_path, {"health": FAST, "policy": "round_robin", "backends": [a.conf(), b.conf()], "log": "off"}).ready()
    args = ["validate", "--url", a.url, "--gateway", f"http://127.0.0.1:{g.port}", "--max-tokens", "20", "--stop", f"kill -9 {b.process.pid}"]
    try:
        for answer, held in (("n", False), ("y", True)):
            ours, theirs = pty.openpty()
            p = loam.start(*args, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            os.write(ours, f"{answer}\n".encode())
            out, err = p.communicate(timeout=60)
            os.close(ours)
            os.close(theirs)
            assert "Go on? [y/N]" in err and ("[x] Failover" in out) == held, (out, err)
            assert (b.process.poll() is not None) == held
    finally:
        g.stop()


def test_validate_fails_on_what_does_not_hold(loam, fake, tmp_path):
    a = fake("a")
    g = Gateway(loam, tmp_path, {"health": FAST, "backends": [a.conf()], "log": "off"}).ready()
    try:
        done = loam("validate", "--url", a.url, "--gateway", f"http://127.0.0.1:{g.port}", "--max-tokens", "20", "--yes", "--stop", "false", ok=False)
        assert done.returncode == 1
        assert "[ ] Load balancing" in done.stdout and "were answered by a" in done.stdout
        assert "[ ] Failover" in done.stdout and "the command failed" in done.stdout
        assert "[x] Streaming" in done.stdout
    finally:
        g.stop()
    a.kill()
    done = loam("validate", "--url", a.url, ok=False)
    assert done.returncode == 1 and "[ ] Model" in done.stdout and "0 of 5 hold" in done.stdout
    assert loam("validate", ok=False).returncode == 2
