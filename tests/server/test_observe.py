"""What can be seen from outside: /metrics as Prometheus reads it, and the access log."""

import json
import re
import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from conftest import COMMAND, ROOT
from servers import chat_bytes, read_until


def scrape(server):
    status, headers, body = server.get("/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return body.decode()


def families(text):
    return {f.name: f for f in text_string_to_metric_families(text)}


def value(text, name, **labels):
    found = [s.value for f in text_string_to_metric_families(text) for s in f.samples
             if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_names_and_types(server):
    """vLLM's names where it has one: what dashboards and routers look for."""
    got = families(scrape(server))
    for name, kind in {"vllm:num_requests_running": "gauge", "vllm:num_requests_waiting": "gauge", "vllm:kv_cache_usage_perc": "gauge",
                       "vllm:prefix_cache_queries": "counter", "vllm:prefix_cache_hits": "counter", "vllm:num_preemptions": "counter", "vllm:iteration_tokens_total": "histogram",
                       "vllm:prompt_tokens": "counter", "vllm:generation_tokens": "counter", "vllm:request_success": "counter",
                       "vllm:time_to_first_token_seconds": "histogram", "vllm:inter_token_latency_seconds": "histogram",
                       "vllm:e2e_request_latency_seconds": "histogram", "vllm:request_queue_time_seconds": "histogram",
                       "vllm:request_prefill_time_seconds": "histogram", "vllm:request_decode_time_seconds": "histogram",
                       "vllm:request_inference_time_seconds": "histogram", "vllm:request_params_n": "histogram",
                       "loam_engine_state": "gauge", "process_resident_memory_bytes": "gauge"}.items():
        assert got[name].type == kind and got[name].documentation, name
    model = server.health()["model"]
    assert all(s.labels["model_name"] == model for f in got.values() if f.name.startswith("vllm:") for s in f.samples)
    assert value(scrape(server), "process_resident_memory_bytes") > 1e6


def test_histograms_are_consistent(server):
    server.chat("[fake tokens=5 delay=2]")
    for f in families(scrape(server)).values():
        if f.type != "histogram":
            continue
        buckets = [(float(s.labels["le"]), s.value) for s in f.samples if s.name.endswith("_bucket")]
        count = [s.value for s in f.samples if s.name.endswith("_count")]
        assert buckets == sorted(buckets) and buckets[-1] == (float("inf"), count[0]), f.name


def test_they_count(server):
    before = scrape(server)
    assert server.chat("[fake tokens=6 delay=20]", max_tokens=50)[0] == 200
    assert server.chat("[fake tokens=50]", max_tokens=3)[0] == 200
    assert server.chat("[fake tokens=9 fail=2]")[0] == 500
    assert server.chat("[fake busy=3]")[0] == 429
    with server.connect() as s:
        s.sendall(chat_bytes("[fake tokens=100000 delay=5]", stream=True))
        read_until(s, b'"content":"c"')
        now = scrape(server)
        assert value(now, "vllm:num_requests_running") == 1
        assert value(now, "loam_engine_state", state="decode") == 1 and value(now, "loam_engine_state", state="idle") == 0
    server.until("the stream's end", lambda h: h["running"] == 0)
    after = scrape(server)

    def grew(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    assert grew("vllm:request_success_total", finished_reason="error") == 1
    assert grew("vllm:request_success_total", finished_reason="abort") == 1
    assert grew("vllm:request_success_total", finished_reason="length") + grew("vllm:request_success_total", finished_reason="stop") == 2
    assert grew("loam_requests_refused_total") == 1 and grew("loam_http_refused_total", code="429") == 1
    assert grew("vllm:time_to_first_token_seconds_count") == 4 and grew("vllm:e2e_request_latency_seconds_count") == 2
    assert grew("vllm:inter_token_latency_seconds_count") >= 5 + 2 + 1
    assert grew("vllm:inter_token_latency_seconds_sum") > 5 * 0.019
    assert grew("vllm:generation_tokens_total") >= 6 + 3 + 2 and grew("vllm:prompt_tokens_total") > 0
    assert grew("vllm:request_params_max_tokens_count") == 2
    assert grew("loam_http_clients_gone_total") == 1


def test_counters_outlive_the_model(start):
    s = start("--model-ttl", 1)
    s.chat("[fake tokens=7]")
    while s.get("/v1/models")[2]["data"][0]["state"] != "not-loaded":
        pass
    text = scrape(s)
    assert value(text, "vllm:generation_tokens_total") == 7 and value(text, "loam_model_loaded") == 0
    s.chat("[fake tokens=7]")
    text = scrape(s)
    assert value(text, "vllm:generation_tokens_total") == 14 and value(text, "loam_model_loads_total") == 2
    assert s.stop() == 0


def test_a_model_with_a_strange_name(start):
    s = start("--served-model-name", 'a "b" \\ c')
    assert value(scrape(s), "loam_model_loaded", model_name='a "b" \\ c') == 1
    s.chat("hi")
    assert s.stop() == 0


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not here")
def test_promtool_has_no_complaint(server):
    done = subprocess.run(["promtool", "check", "metrics"], input=scrape(server), text=True, capture_output=True)
    # Its wishes for names do not bind vLLM's.
    assert [line for line in done.stderr.splitlines() if not line.startswith("vllm:")] == [], done.stderr


def test_metrics_and_probes_need_no_key(start):
    s = start(LOAM_API_KEY="k")
    for path in ("/metrics", "/health", "/livez", "/readyz"):
        assert s.get(path)[0] == 200, path
    assert s.get("/v1/models")[0] == 401
    assert s.stop() == 0


# ---- the log -----------------------------------------------------------------------------------------------------


def lines(server):
    return [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]


def test_request_ids(server):
    """Taken if it looks like one, made otherwise; the answer has it, and so has an error."""
    def sent(given, path="/health"):
        return server.get(path, headers={"X-Request-Id": given} if given else {})[1]["X-Request-Id"]

    assert sent("abc-1.2:3_X") == "abc-1.2:3_X" and sent("abc-1", "/nothing") == "abc-1"
    for strange in (None, "a b", 'a"b', "x" * 65, "ä"):
        got = sent(strange and strange.encode("utf-8").decode("latin-1"))
        assert got.startswith("req_") and got != sent(None)


def test_json_log(start):
    s = start("--log-json", LOAM_API_KEY="secret")
    auth = {"Authorization": "Bearer secret"}
    body = {"messages": [{"role": "user", "content": "a quiet word [fake tokens=4 delay=10]"}]}
    assert s.post("/v1/chat/completions", body, headers={**auth, "X-Request-Id": "mine"})[0] == 200
    assert s.post("/v1/chat/completions", {**body, "stream": True}, headers=auth)[0] == 200
    assert s.get('/no"where\\', headers=auth)[0] == 404
    assert s.stop() == 0
    first, second = [x for x in lines(s) if x["path"] == "/v1/chat/completions"]
    assert first["id"] == "mine" and second["id"].startswith("req_")
    for x in (first, second):
        assert x["key"] == "env" and x["status"] == 200 and x["method"] == "POST" and x["peer"] == "127.0.0.1"
        assert x["new_tokens"] == 4 and x["prompt_tokens"] > 10 and x["finish"] in ("stop", "length") and x["model"]
        assert 0 < x["ttft_s"] <= x["seconds"] and x["decode_s"] >= 0.02 and x["queue_s"] >= 0
    assert "quiet" not in s.log() and "secret" not in s.log()


def test_prompts_in_the_log_when_asked_for(start):
    s = start("--log-json", "--log-prompts")
    s.chat('a "quiet"\nword')
    assert s.stop() == 0
    prompt, access = lines(s)[-2:]
    assert prompt["id"] == access["id"] and 'a "quiet"\nword' in prompt["prompt"]


# ---- limits of time ------------------------------------------------------------------------------------------------


def test_timeouts(start):
    """The least of field, header and server's own; before the answer a 408, in a stream an error event."""
    s = start("--answer-timeout", 2)
    slow = "[fake tokens=100000 delay=20]"
    for headers, more in (({}, {"timeout": 0.2}), ({"X-Request-Timeout": "0.2"}, {}), ({"X-Request-Timeout": "0.2"}, {"timeout": 100}), ({}, {})):
        status, _, body = s.post("/v1/chat/completions", {"messages": [{"role": "user", "content": slow}], **more}, headers=headers)
        assert status == 408 and body["error"]["code"] == "timeout", (headers, more, body)
    status, _, body = s.chat(slow, stream=True, timeout=0.3)
    assert status == 200 and b'"content":"c"' in body and b'"code":"timeout"' in body and body.endswith(b"data: [DONE]\n\n")
    s.until("the end of all", lambda h: h["running"] == 0)
    assert value(scrape(s), "loam_request_timeouts_total") == 5
    assert s.chat("[fake tokens=3]", timeout=30)[0] == 200
    for wrong in (0, -1, "1", 1e9, True):
        status, _, body = s.chat("x", timeout=wrong)
        assert status == 400 and body["error"]["param"] == "timeout", wrong
    for wrong in ("0", "-1", "soon", "1s", "inf", "nan"):
        status, _, body = s.get("/health")[:1] and s.post("/v1/chat/completions", {"messages": []}, headers={"X-Request-Timeout": wrong})
        assert status == 400 and body["error"]["param"] == "X-Request-Timeout", wrong
    assert s.stop() == 0


def test_retry_after_is_the_engines(server):
    for seconds, want in ((1, "1"), (17, "17"), (100000, "3600")):
        status, headers, body = server.chat(f"[fake busy={seconds}]")
        assert status == 429 and headers["Retry-After"] == want and body["error"]["code"] == "queue_full"


def test_more_answers_at_once_than_there_are_places_for_is_no_429(start):
    s = start("--max-running", 1, "--max-queued", 2)
    assert s.chat("[fake tokens=2]", n=3)[0] == 200
    status, headers, body = s.chat("[fake tokens=2]", n=4)
    assert status == 400 and body["error"]["code"] == "too_many_choices" and body["error"]["param"] == "n" and "Retry-After" not in headers
    assert " 4 " in body["error"]["message"] and " 3 " in body["error"]["message"]
    status, _, body = s.post("/v1/completions", {"prompt": ["a"] * 4, "max_tokens": 2})
    assert status == 400 and body["error"]["param"] == "prompt"


def test_priority_and_salt_are_checked(server):
    assert server.chat("x", priority=-5, cache_salt="mine")[0] == 200
    for name, wrong in (("priority", "high"), ("priority", 1.5), ("priority", 1 << 40), ("cache_salt", ""), ("cache_salt", 7)):
        status, _, body = server.chat("x", **{name: wrong})
        assert status == 400 and body["error"]["param"] == name


# ---- the documentation ---------------------------------------------------------------------------------------------


def test_docs_name_what_is_there(server):
    """Every flag in docs/serving.md is one, and so is every metric."""
    text = (ROOT / "docs" / "serving.md").read_text()
    helps = "".join(subprocess.run([*COMMAND, c, "--help"], capture_output=True, text=True).stdout for c in ("serve", "ps"))
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S) + "".join(re.findall(r"^loam (?:serve|ps).*$", text, re.M))
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose)) - {"--help"}
    assert len(flags) > 25 and not [f for f in flags if not re.search(rf"{f}\b", helps)]
    names = {s.name for f in families(scrape(server)).values() for s in f.samples}
    named = set(re.findall(r"`((?:vllm:|loam_|process_)[a-z0-9_]+)", text))
    assert len(named) > 40 and not [n for n in named if n not in names and n + "_bucket" not in names]
