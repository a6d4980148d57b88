"""docs/migration.md, command by command: two loam servers, a stand-in for vLLM, and the gateway.

What is replaced before a block runs is listed in Place.real; everything else is as it is printed there."""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "gateway"))
from conftest import COMMAND, ROOT  # noqa: E402
from gw import Fake, Http, free_port, until  # noqa: E402

MODEL = "smollm2-135m-instruct"
# A prompt's mark makes the stand-in about as slow as a real model here.
PACE = "[fake prefill=250 delay=40]"

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(len(COMMAND) > 1, reason="no emulation")]


class Place:
    """Where the commands run: a folder, the programs, and ports for the document's addresses."""

    def __init__(self, folder, old):
        self.folder, self.old = folder, old
        self.ports = {"sasass": free_port(), "sasass2": free_port(), "gate": free_port()}
        self.servers, self.processes = [], {}
        self.env = {**os.environ, "PATH": f"{pathlib.Path(COMMAND[-1]).parent}:{os.environ['PATH']}"}
        self.said, self.n = {}, 0

    def real(self, text):
        """The document's words in this place."""
        for was, now in [
                ("http://redfin:8000", self.old.url), ("http://redfin:8080", f"http://127.0.0.1:{self.ports['gate']}"),
                ("http://sasass:8000", f"http://127.0.0.1:{self.ports['sasass']}"), ("http://sasass2:8000", f"http://127.0.0.1:{self.ports['sasass2']}"),
                ("0.0.0.0:8080", f"127.0.0.1:{self.ports['gate']}"), ("Qwen/Qwen2.5-32B-Instruct-AWQ", self.old.model), ("qwen2.5-32b-4bit", MODEL),
                ("ssh sasass2 sudo launchctl bootout system/loam", f"kill $(cat {self.folder}/sasass2.pid)"),
                ("ssh sasass2 sudo launchctl bootstrap system /Library/LaunchDaemons/loam.plist", f"touch {self.folder}/start-again"),
                ("--target 20", "--target 0.1"), ("-n 5 --html", "-n 1 --max-tokens 12 --html"), ("bench --url", "bench --max-tokens 12 --url"),
                ("validate --url", "validate --max-tokens 12 --url"), ("--min-requests 500", "--min-requests 8"), ("--min-time 1h", "--min-time 1s"),
                ('"factor": 1.25', '"factor": 90'), ('"factor": 1.5', '"factor": 90'), ("--shadow 0.05", "--shadow 0.3")]:
            text = text.replace(was, now)
        return text

    def serve(self, name):
        port = self.ports[name]
        p = subprocess.Popen([*COMMAND, "serve", "--model", MODEL, "--host", "127.0.0.1", "--port", str(port), "--threads", "1", "--context", "1024", "-q"],
                             stdout=subprocess.PIPE, text=True, env=self.env)
        assert "http://" in p.stdout.readline()
        self.processes[name] = p
        (self.folder / f"{name}.pid").write_text(str(p.pid))

    def gateway(self):
        p = subprocess.Popen([*COMMAND, "gateway", "--config", "gateway.json"], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self.env)
        assert "http://" in p.stdout.readline()
        self.processes["gateway"] = p

    def line(self, command):
        """One command of the document. Servers stay."""
        if command.startswith("loam serve"):
            assert re.fullmatch(r"loam serve --model \$MODEL --host 0.0.0.0 --port 8000 # on (sasass2?)", command)
            self.serve(command.rsplit(" ", 1)[1])
            return
        if command == "loam gateway --config gateway.json":
            self.gateway()
            until(lambda: all(b["state"] == "up" for b in self.gate.get("/gateway/api/status").json["backends"]))
            return
        if re.match(r"[A-Z0-9]+=", command):
            name, value = self.real(command).split("=", 1)
            self.env[name] = value
            return
        done = subprocess.run(["bash", "-c", self.real(command)], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=120)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        self.n += 1
        self.said[" ".join(command.split()[:3])] = done.stdout

    @property
    def gate(self):
        h = Http()
        h.port = self.ports["gate"]
        return h

    def end(self):
        for p in self.processes.values():
            p.terminate()
        for p in self.processes.values():
            p.wait(30)
            p.stdout.close()


def commands(block):
    """A block's commands; a here-document is one."""
    lines, out = block.strip().split("\n"), []
    while lines:
        line = lines.pop(0)
        if "<<'END'" in line:
            while True:
                line += "\n" + lines[0]
                if lines.pop(0) == "END":
                    break
        out.append(line)
    return out


class Traffic:
    """Clients that go on asking while the rollout runs; every answer must come."""

    def __init__(self, place):
        self.place, self.over, self.failed, self.n = place, False, [], 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.work) for _ in range(6)]

    def work(self):
        while not self.over:
            with self.lock:
                self.n += 1
                n = self.n
            r = self.place.gate.post("/v1/chat/completions", {"model": "qwen2.5-32b", "max_tokens": 2, "temperature": 0, "messages": [{"role": "user", "content": f"Question {n} {PACE}"}]})
            if r.status != 200:
                self.failed.append(r.body)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over = True
        for t in self.threads:
            t.join()


def state(place):
    return next(r for r in place.gate.get("/gateway/api/rollout?full=1").json["rollouts"] if r["pool"] == "production")


@pytest.fixture
def place(tmp_path, smollm2):
    old = Fake("redfin", kind="vllm", model="Qwen/Qwen2.5-32B-Instruct-AWQ")
    p = Place(tmp_path, old)
    p.env.pop("LOAM_API_KEY", None)
    yield p
    p.end()
    old.stop()


def start_again(place):
    """What the document's command does over ssh."""
    if (place.folder / "start-again").exists():
        (place.folder / "start-again").unlink()
        place.processes["sasass2"].wait(30)
        place.processes["sasass2"].stdout.close()
        place.serve("sasass2")


def test_every_command_of_the_migration(place):
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "migration.md").read_text(), re.M | re.S)
    traffic = None
    try:
        for block in blocks:
            for command in commands(block):
                if "--shadow" in command:
                    traffic = Traffic(place).__enter__()
                if command.startswith("loam rollout history"):
                    end = time.monotonic() + 180
                    while state(place)["state"] != "done":
                        assert time.monotonic() < end and state(place)["state"] != "rolled_back", state(place)
                        time.sleep(0.1)  # polls
                    traffic.__exit__()
                place.line(command)
                start_again(place)
                if command.startswith("loam rollout rollback"):
                    assert state(place)["state"] == "rolled_back"
    finally:
        if traffic:
            traffic.__exit__()
    check(place, traffic)


def check(place, traffic):
    assert place.n >= 22
    assert traffic.failed == []
    r = state(place)
    events = [e["event"] for e in r["history"] if e["event"] not in ("pause", "resume")]
    at = events.index("rollback")
    assert events[0] == "start" and events[at + 1:] == ["start", "step", "promote", "step", "promote", "step", "done"]
    assert r["plan"]["from"] == ["redfin"] and sorted(r["plan"]["to"]) == ["sasass", "sasass2"]
    assert "9 of 9 hold" in place.said["loam validate --url"]
    page = (place.folder / "rollout.html").read_text()
    assert page.count("<svg") >= 1 and "Pool production" in page
    assert r["shadows"]["n"] > 0 and r["shadows"]["scored"] > 0 and r["shadows"]["logprob"] < 0
    assert (place.folder / "compare.html").read_text().count("<svg") == 3
    assert json.loads((place.folder / "bench-sasass.json").read_text())["failed"] == 0
    assert "redfin" in place.said["loam gateway usage"] and "sasass" in place.said["loam gateway usage"]
    assert next(b for b in place.gate.get("/gateway/api/status").json["backends"] if b["name"] == "redfin")["draining"]
