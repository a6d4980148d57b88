"""What every Python test shares: the program under test, and a home of its own for it.

LOAM is the command line of the program (a sanitizer's build, or `qemu-aarch64 build-aarch64/loam`); `make` sets
it. Nothing here reaches beyond this machine.
"""

import json
import os
import pathlib
import shlex
import subprocess

import pytest

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND = shlex.split(os.environ.get("LOAM", str(ROOT / "build" / "loam")))
COMMAND[-1] = str((pathlib.Path.cwd() / COMMAND[-1]).resolve())
for built in [p for p in map(pathlib.Path(COMMAND[-1]).with_name, ("mlx.so", "mlx.dylib")) if p.exists()]:
    os.environ["LOAM_MLX"] = str(built)  # the programs of the tests' own are not beside it
SLOW = len(COMMAND) > 1 or pathlib.Path(COMMAND[-1]).parent.name in ("build-asan", "build-tsan")


class Loam:
    """Runs the program: loam("ls", "--json"), loam.json("show", model)."""

    def __init__(self, home):
        self.home = home
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("LOAM_", "MLX_", "HF_")) or k in ("LOAM_CPU", "LOAM_MLX")}
        self.env.update(LOAM_HOME=str(home / "loam"), HF_HOME=str(home / "hf"), XDG_CONFIG_HOME=str(home / "config"), LC_ALL="C.UTF-8")

    def __call__(self, *args, stdin=None, ok=True, env=None, timeout=120):
        """The finished process, with stdout and stderr as text. stdin: text or bytes. ok: it must exit 0."""
        if isinstance(stdin, str):
            stdin = stdin.encode()
        done = subprocess.run([*COMMAND, *map(str, args)], input=stdin if stdin is not None else b"", timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**self.env, **(env or {})})
        done.raw = done.stdout
        done.stdout = done.stdout.decode("utf-8", "replace")
        done.stderr = done.stderr.decode("utf-8", "replace")
        if ok and done.returncode != 0:
            pytest.fail(f"loam {shlex.join(map(str, args))} exited {done.returncode}: {done.stderr[-4000:]}", pytrace=False)
        return done

    def json(self, *args, **how):
        return json.loads(self(*args, **how).stdout)

    def helper(self, name, *args, stdin="", timeout=120):
        """Runs a C program of the tests' own, tests/NAME.c, built beside the program under test; its stdout."""
        program = pathlib.Path(COMMAND[-1]).parent / "tests" / name
        done = subprocess.run([*COMMAND[:-1], program, *map(str, args)], input=stdin, text=True, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env)
        assert done.returncode == 0, f"{name} exited {done.returncode}: {done.stderr[-4000:]}"
        return done.stdout

    def start(self, *args, env=None, **how):
        """A running process (subprocess.Popen), for servers and chats; the caller ends it."""
        return subprocess.Popen([*COMMAND, *map(str, args)], env={**self.env, **(env or {})}, **how)


@pytest.fixture(scope="session")
def loam(tmp_path_factory):
    return Loam(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def smollm2(loam):
    """The folder of the real default model, as `make model` put it into the user's store."""
    done = subprocess.run([*COMMAND, "show", "smollm2-135m-instruct", "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        pytest.fail("the default model is not in the store: run `make model`", pytrace=False)
    return json.loads(done.stdout)["path"]


def pytest_collection_modifyitems(config, items):
    if SLOW:
        left_out = [i for i in items if i.get_closest_marker("heavy")]
        items[:] = [i for i in items if not i.get_closest_marker("heavy")]
        config.hook.pytest_deselected(items=left_out)
