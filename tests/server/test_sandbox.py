"""`loam serve --sandbox`: what it forbids is tried from inside the server, while it goes on serving."""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from conftest import COMMAND
from servers import FAKE, Server, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux" or len(FAKE) > 1, reason="a sandbox of this system's own kernel is tried here")
NO_LEAKS = {"ASAN_OPTIONS": "detect_leaks=0", "LSAN_OPTIONS": "detect_leaks=0"}  # the leak checker forks at the end


def has_landlock():
    return ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


def attempt(server, what, headers=None):
    status, _, body = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": f"[fake try=1]{what}"}]}, headers=headers)
    assert status == 200, body
    return body["choices"][0]["message"]["content"]


def refused(said):
    return said in ("Operation not permitted", "Permission denied")


def test_without_it_all_is_allowed(start, tmp_path):
    s = start(**NO_LEAKS)
    assert attempt(s, "open /etc/passwd") == attempt(s, f"write {tmp_path}/x") == attempt(s, "exec /bin/true") == attempt(s, f"connect {s.port}") == "done"


def test_what_it_forbids(start, tmp_path, folder):
    (folder / "config.json").write_text("{}")
    s = start("--sandbox", **NO_LEAKS)
    for what in ("open /etc/passwd", f"open {folder}/config.json", f"write {tmp_path}/x", "exec /bin/true", f"connect {s.port}"):
        assert refused(attempt(s, what)), what
    assert not (tmp_path / "x").exists()
    said = s.log()
    assert "sandbox:" in said and "no connection is made, no program is started" in said and ("Landlock (version" in said) == has_landlock()
    assert s.chat("hello")[0] == 200 and s.stop() == 0


def test_files_that_are_read_again(start, tmp_path, folder):
    """SIGHUP works, also when the key file was replaced; what lies elsewhere stays out of reach."""
    keys = tmp_path / "etc"
    keys.mkdir()

    def key_line(name):
        made = subprocess.run([*FAKE, "key", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True)
        return re.search(r"again:  (\S+)", made.stderr)[1], made.stdout

    key, line = key_line("a")
    (keys / "keys").write_text(line)
    s = start("--sandbox", "--api-key-file", keys / "keys", **NO_LEAKS)
    bearer = {"Authorization": f"Bearer {key}"}
    if has_landlock():
        assert refused(attempt(s, "open /etc/passwd", bearer))
        assert attempt(s, f"open {keys}/keys", bearer) == "done"
    else:
        assert "NOT RESTRICTED" in s.log()
    assert refused(attempt(s, f"write {keys}/keys", bearer)) and refused(attempt(s, "exec /bin/true", bearer))
    other, line = key_line("b")
    (keys / "new").write_text(line)
    os.replace(keys / "new", keys / "keys")
    s.signal(signal.SIGHUP)
    s.until("the new key", lambda _: s.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]},
                                           headers={"Authorization": f"Bearer {other}"})[0] == 200)


def without_landlock():
    """In the child, before exec: landlock_create_ruleset fails as on a kernel that has none."""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    f = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(0x7fff0000)))
    assert lib.seccomp_rule_add(f, ctypes.c_uint32(0x00050000 | 38), 444, 0) == 0 and lib.seccomp_load(f) == 0


def test_a_kernel_without_landlock(folder, tmp_path):
    log = tmp_path / "log"
    with open(log, "w") as err:
        p = subprocess.Popen([*FAKE, "serve", "--model", folder, "--port", "0", "--sandbox"], stdout=subprocess.PIPE, stderr=err, text=True,
                             env=environment(tmp_path, **NO_LEAKS), preexec_fn=without_landlock)
    try:
        s = Server.__new__(Server)
        s.process, s.log_file = p, open(log)
        s.wait_ready()
        for what in ("open /etc/passwd", f"write {tmp_path}/x", "exec /bin/true", f"connect {s.port}"):
            assert refused(attempt(s, what)), what
        assert "this kernel has no Landlock; no file is opened" in s.log()
        assert s.stop() == 0
    finally:
        p.kill()
        p.wait()


def test_the_real_model(smollm2, tmp_path):
    s = Server(COMMAND, smollm2, "--port", 0, "--sandbox", "--kv-dir", tmp_path / "kv", env=environment(tmp_path, **NO_LEAKS))
    try:
        assert s.chat("Say hi. " * 60, max_tokens=8)[0] == 200 and s.get("/")[0] == 200
    finally:
        assert s.stop() == 0
    assert list((tmp_path / "kv").iterdir())  # pages of the prompt, for the next start


def test_models_on_demand(start, tmp_path):
    """They are loaded and asked after the seal; nothing else becomes readable, and the numbers of /metrics stay true."""
    models = tmp_path / "models"
    for name in ("a", "b"):
        (models / name).mkdir(parents=True)
        (models / name / "config.json").write_text("{}")
    s = start("--sandbox", "--models-dir", models, **NO_LEAKS)
    for name in ("a", "b"):
        status, _, body = s.post("/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": f"[fake try=1]open {models}/b/config.json"}]})
        assert status == 200 and body["choices"][0]["message"]["content"] == "done", body
    assert not has_landlock() or refused(attempt(s, "open /etc/passwd"))
    assert refused(attempt(s, f"write {models}/b/config.json")) and refused(attempt(s, "exec /bin/true"))
    memory = re.search(rb"^process_resident_memory_bytes (\S+)", s.get("/metrics")[2], re.M)
    assert float(memory[1]) > 1 << 20


def test_tells_the_service_manager(start, tmp_path):
    """READY once it answers, WATCHDOG again and again, STOPPING: sd_notify's protocol, from inside the sandbox."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        s = start("--sandbox", NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000", **NO_LEAKS)
        said = [manager.recv(100).decode() for _ in range(4)]
        assert said == ["READY=1"] + 3 * ["WATCHDOG=1"]
        assert s.stop() == 0
        while said[-1] != "STOPPING=1":
            said.append(manager.recv(100).decode())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0loam-test-" + tmp_path.name)
        manager.settimeout(30)
        s = start(NOTIFY_SOCKET="@loam-test-" + tmp_path.name, **NO_LEAKS)
        assert manager.recv(100) == b"READY=1"
    assert "nowhere" in (t := start(NOTIFY_SOCKET="/nowhere", **NO_LEAKS)).log() and t.chat("x")[0] == 200
