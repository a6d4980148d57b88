"""`loam service`: what it writes, held against launchd's keys and systemd's own checker, and what it runs."""

import json
import os
import plistlib
import re
import shutil
import subprocess
import urllib.request

import pytest

from conftest import ROOT
from servers import FAKE, environment

# launchd.plist(5), those that a daemon has
APPLE = {
    "Label": str, "Disabled": bool, "UserName": str, "GroupName": str, "Program": str, "ProgramArguments": list, "KeepAlive": (bool, dict),
    "RunAtLoad": bool, "RootDirectory": str, "WorkingDirectory": str, "EnvironmentVariables": dict, "Umask": (int, str), "ExitTimeOut": int,
    "ThrottleInterval": int, "StandardInPath": str, "StandardOutPath": str, "StandardErrorPath": str, "SoftResourceLimits": dict,
    "HardResourceLimits": dict, "Nice": int, "ProcessType": str, "AbandonProcessGroup": bool, "LowPriorityIO": bool,
}
analyze = shutil.which("systemd-analyze")


def plist(loam, *args):
    return plistlib.loads(loam("service", "print", "--kind", "launchd", *args).raw)


def unit(loam, *args):
    return loam("service", "print", "--kind", "systemd", *args).stdout


def words(text, key):
    return [line.split("=", 1)[1] for line in text.splitlines() if line.startswith(key + "=")]


def test_launchd(loam, tmp_path):
    model = tmp_path / "a & b"
    model.mkdir()
    p = plist(loam, "--model", model, "--host", "0.0.0.0", "--port", 8000, "--user", "_loam", "--env", "A=<b> & c", "--env", "B=", "--program",
              "/usr/local/bin/loam", "--", "--max-running", "16")
    assert p["Label"] == "com.loam.server" and p["RunAtLoad"] is True and p["KeepAlive"] is True and p["UserName"] == "_loam"
    assert p["ProgramArguments"] == ["/usr/local/bin/loam", "serve", "--model", str(model), "--host", "0.0.0.0", "--port", "8000", "--sandbox",
                                     "--max-running", "16"]
    assert p["EnvironmentVariables"] == {"A": "<b> & c", "B": ""} and p["WorkingDirectory"] == "/"
    assert p["StandardOutPath"] == "/var/log/com.loam.server.log" and p["StandardErrorPath"] == "/var/log/com.loam.server.error.log"
    for key, value in p.items():
        assert key in APPLE and isinstance(value, APPLE[key]), key
    g = plist(loam, "--what", "gateway", "--config", "/etc/x.json", "--label", "org.example.gw", "--no-sandbox")
    assert g["Label"] == "org.example.gw" and g["ProgramArguments"][1:] == ["gateway", "--config", "/etc/x.json"]
    assert plist(loam, "--what", "gateway")["Label"] == "com.loam.gateway"


def test_systemd(loam, smollm2):
    text = unit(loam, "--model", smollm2, "--port", 8000, "--program", "/usr/bin/loam", "--env", 'A=b "c" 100%')
    assert words(text, "ExecStart") == [f"/usr/bin/loam serve --model {os.path.realpath(smollm2)} --port 8000 --sandbox"]
    assert words(text, "Type") == ["notify"] and int(words(text, "WatchdogSec")[0]) > 0 and words(text, "DynamicUser") == ["yes"]
    assert words(text, "ProtectSystem") == ["strict"] and words(text, "NoNewPrivileges") == ["yes"] and words(text, "CapabilityBoundingSet") == [""]
    assert 'Environment="A=b \\"c\\" 100%%"' in text and "BindReadOnlyPaths=" in text
    low = unit(loam, "--port", 443, "--user", "loam")
    assert words(low, "AmbientCapabilities") == ["CAP_NET_BIND_SERVICE"] and words(low, "User") == ["loam"] and not words(low, "DynamicUser")
    assert "--model" not in words(low, "ExecStart")[0]  # from the settings file


@pytest.mark.skipif(not analyze, reason="systemd is not here")
@pytest.mark.parametrize("what", ["serve", "gateway"])
def test_systemd_accepts_it(loam, tmp_path, what):
    path = tmp_path / "loam-test.service"
    path.write_text(unit(loam, "--what", what, "--program", "/bin/true", "--env", "A=b c"))
    done = subprocess.run([analyze, "verify", "--man=no", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = [line for line in done.stdout.splitlines() if "loam-test" in line]
    assert done.returncode == 0 and not said, done.stdout
    done = subprocess.run([analyze, "security", "--offline=yes", "--no-pager", "--threshold=25", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-400:]


@pytest.mark.skipif(not shutil.which("systemctl"), reason="systemd is not here")
def test_install_into_a_root(loam, tmp_path, smollm2):
    """systemctl itself enables it in a system that is not running."""
    args = ("--kind", "systemd", "--root", tmp_path, "--label", "loam-test")
    loam("service", "install", *args, "--model", smollm2)
    file = tmp_path / "etc/systemd/system/loam-test.service"
    wanted = tmp_path / "etc/systemd/system/multi-user.target.wants/loam-test.service"
    assert "[Service]" in file.read_text() and wanted.is_symlink()
    loam("service", "uninstall", *args)
    assert not file.exists() and not wanted.is_symlink()
    again = loam("service", "uninstall", *args, ok=False)
    assert again.returncode == 1 and "not installed" in again.stderr


def test_install_for_launchd_into_a_root(loam, tmp_path, smollm2):
    loam("service", "install", "--kind", "launchd", "--root", tmp_path, "--model", smollm2)
    assert plistlib.loads((tmp_path / "Library/LaunchDaemons/com.loam.server.plist").read_bytes())["Label"] == "com.loam.server"
    loam("service", "uninstall", "--kind", "launchd", "--root", tmp_path)
    assert not (tmp_path / "Library/LaunchDaemons/com.loam.server.plist").exists()


def test_it_runs_the_managers_own_programs(loam, tmp_path):
    """A fake journalctl that tells what it was asked, and fails when it is told to."""
    fake = tmp_path / "journalctl"
    fake.write_text("#!/bin/sh\necho \"$@\"\nexit ${FAKE_EXIT:-0}\n")
    fake.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{loam.env['PATH']}"}
    done = loam("service", "logs", "--kind", "systemd", "--follow", env=env)
    assert done.stdout == "--no-pager -n 100 -u loam -f\n"
    assert loam("service", "logs", "--kind", "systemd", env={**env, "FAKE_EXIT": "3"}, ok=False).returncode == 1


@pytest.mark.parametrize("args,word", [
    (("--label", "a/b"), "a/b"), (("--label", ""), "label"), (("--label", "-x"), "-x"), (("--env", "nonsense"), "nonsense"), (("--env", "=x"), "=x"),
    (("--env", "A=b\nExecStart=x"), "control character"), (("--user", "a b"), "a b"), (("--kind", "upstart"), "upstart"), (("--what", "chat"), "chat"),
    (("--program", "loam"), "absolute"), (("--", "--host=a\nb"), "control character"),
])
def test_mistakes(loam, args, word):
    kind = () if "--kind" in args else ("--kind", "systemd")
    done = loam("service", "print", *kind, *args, ok=False)
    assert done.returncode in (1, 2) and word in done.stderr and not done.stdout


def test_install_wants_a_model_that_is_there(loam, tmp_path):
    done = loam("service", "install", "--kind", "systemd", "--root", tmp_path, "--model", "no-such-model", ok=False)
    assert done.returncode == 1 and "no-such-model" in done.stderr and not list(tmp_path.iterdir())


def test_start_script(tmp_path):
    """The script that the seed's service runs, with the seed's variables, and the fake engine in the model's place."""
    (tmp_path / "m").mkdir()
    env = environment(tmp_path, MLX_MODEL=str(tmp_path / "m"), MLX_HOST="127.0.0.1", MLX_PORT="0", LOAM=FAKE[-1], ASAN_OPTIONS="detect_leaks=0")
    if len(FAKE) > 1:
        pytest.skip("emulated")
    p = subprocess.Popen([ROOT / "deploy/start_loam.sh", "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        url = re.search(r"(http://\S+)$", p.stdout.readline().strip())[1]
        with urllib.request.urlopen(f"{url}/health", timeout=30) as r:
            assert json.load(r)["status"] == "ok"
        p.terminate()
        assert p.wait(30) == 0
    finally:
        p.kill()
        p.communicate()
