"""The same pools for other proxies; HAProxy's file is run by the real haproxy where there is one."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from gw import Http, free_port, until

CONFIG = {
    "listen": "127.0.0.1:8080",
    "backends": [{"name": "a", "url": "http://10.0.0.1:8000", "kind": "loam", "weight": 3, "max_inflight": 8, "api_key": "sk-secret"},
                 {"name": "b", "url": "https://mac.lan/v1", "kind": "loam", "tls": {"verify": False}},
                 {"name": "c", "url": "http://[fd00::1]:11434", "kind": "ollama"}],
    "pools": [{"name": "big", "backends": ["a", "b"], "models": ["qwen \"32b\""], "policy": "weighted", "fallback": ["rest"]},
              {"name": "near", "backends": ["a", "b"], "models": ["near"], "policy": "prefix_affinity"},
              {"name": "rest", "backends": ["c"], "policy": "session"}],
    "aliases": {"gpt-4o": "qwen \"32b\""},
    "keys": [{"name": "team-a", "key": "sk-team-a-key"}],
}


@pytest.fixture
def config(tmp_path):
    f = tmp_path / "gateway.json"
    f.write_text(json.dumps(CONFIG))
    return f


@pytest.fixture
def haproxy():
    return shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin") or pytest.skip("haproxy is not installed (Debian: apt-get install haproxy)")


def check(haproxy, file):
    done = subprocess.run([haproxy, "-c", "-f", file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={"LOAM_KEY_TEAM_A": "x", "LOAM_KEY_A": "y"})
    assert done.returncode == 0 and "ALERT" not in done.stdout and "WARNING" not in done.stdout, done.stdout


def test_haproxy_takes_all_of_it(loam, config, haproxy, tmp_path):
    text = loam("gateway", "export", "--config", config, "--format", "haproxy").stdout
    assert "sk-secret" not in text and "sk-team-a-key" not in text
    f = tmp_path / "haproxy.cfg"
    f.write_text(text.replace("mac.lan", "127.0.0.1"))  # it resolves names when it starts
    check(haproxy, f)


def test_a_backend_that_stands_by_gets_nothing_elsewhere_either(loam, tmp_path):
    config = tmp_path / "gateway.json"
    config.write_text(json.dumps({"backends": [{"name": "a", "url": "http://127.0.0.1:1"}, {"name": "b", "url": "http://127.0.0.1:2", "standby": True}]}))
    lines = [line for line in loam("gateway", "export", "--config", config, "--format", "haproxy").stdout.splitlines() if line.startswith("    server ")]
    assert [(" disabled" in line) for line in lines] == [False, True]
    envoy = loam("gateway", "export", "--config", config, "--format", "envoy").stdout
    assert "port_value: 1 " in envoy and "port_value: 2 " not in envoy


def test_the_real_haproxy_serves_with_it(loam, fake, haproxy, tmp_path):
    a, b, c = fake("a"), fake("b"), fake("c", model="small")
    port = free_port()
    config = tmp_path / "gateway.json"
    config.write_text(json.dumps({"listen": f"127.0.0.1:{port}", "backends": [x.conf(kind="loam") for x in (a, b, c)],
                                  "health": {"interval_s": 0.1, "rise": 1, "fall": 1, "slow_start_s": 0},
                                  "pools": [{"name": "all", "backends": ["a", "b"], "policy": "round_robin"},
                                            {"name": "small", "backends": ["c"], "models": ["small"]}]}))
    f = tmp_path / "haproxy.cfg"
    f.write_text(loam("gateway", "export", "--config", config, "--format", "haproxy").stdout)
    check(haproxy, f)
    process = subprocess.Popen([haproxy, "-db", "-f", f], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        h = Http()
        h.port = port

        def up():
            try:
                return h.chat().status == 200
            except OSError:
                return False

        until(up)
        assert h.chat(model="small").status == 200 and c.seen()["requests"] == 1
        before = a.seen()["requests"], b.seen()["requests"]
        for _ in range(10):
            assert h.stream(model="m").done
        assert (a.seen()["requests"] - before[0], b.seen()["requests"] - before[1]) == (5, 5)
        a.kill()
        for _ in range(6):
            assert h.chat().status == 200
        b.kill()
        r = until(lambda: (r := h.chat()).status == 503 and r)
        assert "No healthy MLX backends" in r.error["message"]
    finally:
        process.terminate()
        process.wait()


def test_envoy_and_kubernetes_are_yaml_with_all_backends(loam, config):
    yaml = pytest.importorskip("yaml")
    envoy = yaml.safe_load(loam("gateway", "export", "--config", config, "--format", "envoy").stdout)
    clusters = {c["name"]: c for c in envoy["static_resources"]["clusters"]}
    assert set(clusters) == {"pool_big", "pool_near", "pool_rest"}
    found = [e["endpoint"]["address"]["socket_address"] for e in clusters["pool_big"]["load_assignment"]["endpoints"][0]["lb_endpoints"]]
    assert found == [{"address": "10.0.0.1", "port_value": 8000}, {"address": "mac.lan", "port_value": 443}]
    hcm = envoy["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = hcm["route_config"]["virtual_hosts"][0]["routes"]
    assert [r["route"]["cluster"] for r in routes] == ["pool_big", "pool_near", "pool_rest"]
    assert routes[0]["match"]["headers"][0]["string_match"]["exact"] == 'qwen "32b"'
    parts = list(yaml.safe_load_all(loam("gateway", "export", "--config", config, "--format", "k8s").stdout))
    assert [p["kind"] for p in parts] == ["Secret", "Deployment", "Service", "PodDisruptionBudget"]
    spec = parts[1]["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > 600
    assert spec["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/ready"
    inner = json.loads(parts[0]["stringData"]["gateway.json"])
    assert [p["name"] for p in inner["pools"]] == ["big", "near", "rest"] and "sk-secret" not in str(inner)


def test_the_exported_configuration_is_one(loam, config, tmp_path):
    text = loam("gateway", "export", "--config", config, "--format", "k8s").stdout
    body = text.split("gateway.json: |\n")[1].split("---")[0]
    f = tmp_path / "inner.json"
    f.write_text(body)
    assert "3 backends, 3 pools" in loam("gateway", "--config", f, "--check").stdout


@pytest.mark.parametrize("file, form", [("haproxy.cfg", "haproxy"), ("envoy.yaml", "envoy"), ("kubernetes.yaml", "k8s")])
def test_the_files_in_deploy_are_made_from_its_gateway_json(loam, file, form):
    deploy = pathlib.Path(__file__).resolve().parents[2] / "deploy"
    made = loam("gateway", "export", "--config", deploy / "gateway.json", "--format", form).stdout
    assert made == (deploy / file).read_text(), f"make it again: loam gateway export --config deploy/gateway.json --format {form} > deploy/{file}"


def test_an_unknown_format_is_named(loam, config):
    r = loam("gateway", "export", "--config", config, "--format", "nginx", ok=False)
    assert r.returncode == 2 and "haproxy, envoy or k8s" in r.stderr
