"""`loam gateway --sandbox`: it reaches its backends and nothing else."""

import ctypes
import json
import signal
import sys

import pytest

from conftest import COMMAND
from gw import until

pytestmark = pytest.mark.skipif(sys.platform != "linux" or len(COMMAND) > 1, reason="a sandbox of this system's own kernel is tried here")


@pytest.fixture
def sealed(loam, tmp_path, monkeypatch):
    monkeypatch.setitem(loam.env, "LOAM_SANDBOX", "true")
    monkeypatch.setitem(loam.env, "ASAN_OPTIONS", "detect_leaks=0")


def test_no_successor(sealed, fake, gateway, loam):
    g = gateway(fake("a"))
    done = loam("gateway", "restart", "--url", f"http://127.0.0.1:{g.port}", ok=False)
    assert done.returncode == 1 and "may not start a successor" in done.stderr
    g.process.send_signal(signal.SIGUSR2)
    until(lambda: "--sandbox forbids to start a successor" in g.log(), "the refusal")
    assert g.chat("hi").status == 200


def test_it_works_sealed(sealed, fake, gateway, tmp_path):
    a, late = fake("a"), fake("late")
    usage = tmp_path / "usage"
    usage.mkdir()
    g = gateway(a, usage_file=str(usage / "usage.sqlite"))
    assert "sandbox:" in g.log() and ("connections to the backends' ports alone" in g.log() or "NOT RESTRICTED" in g.log())
    assert g.chat("hi").status == 200
    until(lambda: (usage / "usage.sqlite").stat().st_size > 0, "the usage file")

    # a backend at a new port needs a new process, and that is said
    config = json.loads(g.path.read_text())
    config["backends"].append(late.conf())
    g.path.write_text(json.dumps(config))
    g.process.send_signal(signal.SIGHUP)
    until(lambda: "was read again" in g.log(), "reload")
    if ctypes.CDLL(None).syscall(444, None, 0, 1) >= 4:
        until(lambda: "--sandbox lets this process connect to the ports that it started with alone" in g.log(), "the warning")
        assert {g.chat("hi").backend for _ in range(6)} == {"a"}
