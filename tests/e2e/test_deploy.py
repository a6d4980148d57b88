"""What deploy/ and the packages hold, by the tools that will read it."""

import json
import pathlib
import re
import shutil
import subprocess
import urllib.request

import pytest

from conftest import COMMAND, ROOT
from servers import FAKE, Server, environment

DEPLOY = ROOT / "deploy"
promtool = shutil.which("promtool")
NAME = re.compile(r"\b((?:vllm:|loam_)[a-z0-9_:]+)")


def names_in(expressions):
    """Metrics' names in PromQL; a histogram's by its own."""
    return {re.sub(r"_(bucket|sum|count)$", "", n) for e in expressions for n in NAME.findall(e)}


def exposed(text):
    return set(re.findall(r"^# TYPE (\S+) ", text, re.M))


def dashboard_expressions():
    board = json.loads((DEPLOY / "grafana.json").read_text())
    return [t["expr"] for p in board["panels"] for t in p.get("targets", [])] + [v["query"]["query"] for v in board["templating"]["list"]
                                                                                if v["type"] == "query"]


def rule_expressions():
    text = (DEPLOY / "prometheus-rules.yaml").read_text()
    return re.findall(r"expr: (?:>-\n)?((?:.*\n)+?)(?= +(?:for|labels|- |record|alert)|\Z)", text)


@pytest.fixture(scope="module")
def server_names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("m")
    s = Server(FAKE, folder, "--port", 0, env=environment(folder))
    try:
        assert s.chat("hi")[0] == 200
        return exposed(s.get("/metrics")[2].decode())
    finally:
        s.stop()


@pytest.fixture(scope="module")
def gateway_names(loam, tmp_path_factory):
    folder = tmp_path_factory.mktemp("g")
    s = Server(FAKE, folder, "--port", 0, env=environment(folder))
    (folder / "gateway.json").write_text(json.dumps({"listen": "127.0.0.1:0", "backends": [{"name": "a", "url": s.url}]}))
    g = loam.start("gateway", "--config", folder / "gateway.json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = re.search(r"(http://\S+)$", g.stdout.readline().strip())[1]
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as r:
            return exposed(r.read().decode())
    finally:
        g.terminate()
        assert g.wait(30) == 0
        g.stdout.close()
        s.stop()


@pytest.mark.parametrize("expressions", [dashboard_expressions, rule_expressions], ids=["dashboard", "rules"])
def test_every_name_is_exposed(expressions, server_names, gateway_names):
    wanted = names_in(expressions()) - {"loam:ttft_seconds:p95", "loam:generation_tokens:rate5m"}
    assert len(wanted) > 10
    assert wanted - server_names - gateway_names == set()


def test_the_gateways_names_are_exposed(gateway_names):
    """Also where the server's cannot be looked at."""
    wanted = {n for n in names_in(dashboard_expressions() + rule_expressions()) if n.startswith("loam_gateway_")}
    assert len(wanted) > 10 and wanted <= gateway_names


def test_the_dashboard_holds_together():
    board = json.loads((DEPLOY / "grafana.json").read_text())
    ids = [p["id"] for p in board["panels"]]
    variables = {v["name"] for v in board["templating"]["list"]}
    assert len(ids) == len(set(ids)) and board["uid"] and board["title"]
    for e in dashboard_expressions():
        assert set(re.findall(r"\$(\w+)", e)) <= variables | {"__rate_interval"}, e
    taken = set()
    for p in board["panels"]:
        g = p["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert g["x"] + g["w"] <= 24 and not cells & taken, p["title"]
        taken |= cells


@pytest.mark.skipif(not promtool, reason="promtool is not here (apt-get install prometheus)")
def test_promtool(tmp_path):
    for how, file in (("check", "prometheus-rules.yaml"), ("test", "prometheus-rules.test.yaml")):
        done = subprocess.run([promtool, how, "rules", file], cwd=DEPLOY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
    # the dashboard's expressions, as rules, so that promtool parses them
    rules = [{"record": f"x:y{i}", "expr": re.sub(r"\$__rate_interval", "5m", e)} for i, e in enumerate(dashboard_expressions())
             if not e.startswith("label_values")]
    (tmp_path / "r.yaml").write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", "--lint=none", tmp_path / "r.yaml"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_example_settings(loam, tmp_path):
    """Every line of the example, its comment mark taken off, is a setting."""
    text = re.sub(r"^# (?=[\w-]+ = )", "", (DEPLOY / "loam.conf").read_text(), flags=re.M)
    (tmp_path / "loam.conf").write_text(text)
    held = loam.json("config", "--json", "serve", env={"LOAM_SETTINGS": str(tmp_path / "loam.conf")})
    assert {o["name"]: o["value"] for o in held}["model"] == "qwen2.5-32b"
    held = loam.json("config", "--json", "gateway", env={"LOAM_SETTINGS": str(tmp_path / "loam.conf")})
    assert {o["name"]: o["value"] for o in held}["config"] == "/etc/loam/gateway.json"


@pytest.mark.skipif(not shutil.which("ruby"), reason="ruby is not here")
def test_formula():
    assert subprocess.run(["ruby", "-c", DEPLOY / "loam.rb"], stdout=subprocess.PIPE).returncode == 0


@pytest.mark.skipif(not shutil.which("dpkg-deb") or len(COMMAND) > 1, reason="dpkg-deb is not here")
def test_debian_package(loam, tmp_path):
    build = pathlib.Path(COMMAND[-1]).parent
    if build.name != "build":
        pytest.skip("a build with a sanitizer is not packaged")
    env = {**loam.env, "BUILD": str(build)}
    subprocess.run([ROOT / "tools/deb", COMMAND[-1], tmp_path / "out"], cwd=ROOT, check=True, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    library, program = sorted((tmp_path / "out").glob("*.deb"), key=lambda p: p.name)
    field = lambda deb, name: subprocess.run(["dpkg-deb", "-f", deb, name], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    assert field(program, "Package") == "loam" and field(library, "Package") == "libloam-dev"
    assert {"libcurl4", "libjansson4", "libseccomp2"} <= {d.split()[0] for d in field(program, "Depends").split(", ")}
    root = tmp_path / "root"
    subprocess.run(["dpkg", "-x", program, root], check=True)
    subprocess.run(["dpkg", "-x", library, root], check=True)
    assert subprocess.run([root / "usr/bin/loam", "--version"], stdout=subprocess.PIPE, text=True).stdout == loam("--version").stdout
    for path in ("usr/share/man/man1/loam-serve.1.gz", "usr/share/bash-completion/completions/loam", "usr/lib/systemd/system/loam.service",
                 "usr/lib/systemd/system/loam-gateway.service", "etc/loam/loam.conf", "usr/include/loam.h", "usr/lib/libloam.a",
                 "usr/share/doc/loam/copyright", "usr/share/doc/loam/changelog.Debian.gz"):
        assert (root / path).is_file(), path
    assert "ExecStart=/usr/bin/loam serve --sandbox\n" in (root / "usr/lib/systemd/system/loam.service").read_text()
    if shutil.which("lintian"):
        done = subprocess.run(["lintian", "--fail-on", "error", "--suppress-tags", "bogus-mail-host,bogus-mail-host-in-debian-changelog", program, library],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
