"""`loam audit`: a clean server passes, and a server that does what it should not is caught at it."""

import json
import shutil
import socket
import subprocess
import sys

import pytest

from conftest import COMMAND
from servers import FAKE, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux" or len(COMMAND) > 1, reason="needs ptrace of this system's own kernel")


def audit(program, *args, home, **env):
    done = subprocess.run([*program, "audit", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                          env=environment(home, ASAN_OPTIONS="detect_leaks=0", TSAN_OPTIONS="report_signal_unsafe=0", **env))
    if done.returncode == 1 and "no program be traced" in done.stderr:
        pytest.skip("ptrace is forbidden here")
    return done


@pytest.mark.parametrize("sandbox", [[], ["--sandbox"]], ids=["plain", "sealed"])
def test_the_real_server_does_nothing_unexpected(smollm2, tmp_path, sandbox):
    done = audit(COMMAND, "--model", smollm2, "--duration", 1, "--json", *sandbox, home=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    said = json.loads(done.stdout)
    assert said["unexpected"] == 0 and said["requests"] > 0 and said["failed"] == 0
    seen = {(s["kind"], s["what"]) for s in said["seen"]}
    assert ("read", f"{smollm2}/config.json") in seen and [s for s in said["seen"] if s["kind"] == "exec"][0]["times"] == 1
    assert not [s for s in said["seen"] if s["kind"] == "connect"]


@pytest.fixture
def elsewhere(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # and nobody listens: it is refused at once
        yield s.getsockname()[1]


def test_planted_violations_are_caught(tmp_path, elsewhere):
    """The fake engine obeys prompts: it reads, writes, connects and starts a program."""
    model = tmp_path / "m"
    model.mkdir()
    stray, true = tmp_path / "stray", shutil.which("true")
    todo = ["open /etc/passwd", "open /nonesuch", f"write {stray}", f"connect {elsewhere}", f"exec {true}"]
    prompts = [w for t in todo for w in ("--prompt", f"[fake try=1]{t}")]
    done = audit(FAKE, "--model", model, "--duration", 1, *prompts, home=tmp_path)
    assert done.returncode == 1 and stray.exists()
    lines = [line for line in done.stdout.splitlines() if line.startswith("UNEXPECTED")]
    for kind, what in (("read", "/etc/passwd ("), ("read", "/nonesuch: No such file"), ("write", str(stray)), ("connect", f"127.0.0.1:{elsewhere}: Connection refused ("),
                       ("exec", f"{true} (")):
        assert any(line.split()[1] == kind and what in line for line in lines), (kind, what, done.stdout)
    # what is named is expected, and only that
    done = audit(FAKE, "--model", model, "--duration", 1, *prompts, "--json", "--allow", "/etc/passwd", "--allow", "/nonesuch", "--allow", stray,
                 "--allow", f"127.0.0.1:{elsewhere}", home=tmp_path)
    assert {s["what"] for s in json.loads(done.stdout)["seen"] if not s["expected"]} == {true} and done.returncode == 1


def test_the_sandbox_stops_them(tmp_path, elsewhere):
    model, stray = tmp_path / "m", tmp_path / "stray"
    model.mkdir()
    prompts = [w for t in (f"write {stray}", f"connect {elsewhere}", "exec /bin/true") for w in ("--prompt", f"[fake try=1]{t}")]
    done = audit(FAKE, "--model", model, "--duration", 1, *prompts, "--sandbox", home=tmp_path)
    assert done.returncode == 0 and not stray.exists(), done.stdout + done.stderr


def test_mistakes(loam, tmp_path):
    assert loam("audit", ok=False).returncode == 2
    done = loam("audit", "--model", "no-such-model", ok=False)
    assert done.returncode == 1 and "no-such-model" in done.stderr
    (tmp_path / "m").mkdir()
    done = audit(COMMAND, "--model", tmp_path / "m", home=tmp_path)
    assert done.returncode == 1 and "did not start" in done.stderr and "config.json" in done.stderr
