"""Every command in docs/ is run: the ```sh blocks of a page, in order, in one shell with the real program and the real model.

A block whose line says more than `sh` is not run, and says why: "```sh not run: needs root", "```sh mac".
"""

import os
import pathlib
import re
import socket
import subprocess

import pytest

from conftest import COMMAND, ROOT, SLOW
from servers import environment

ELSEWHERE = {"migration"}  # needs several servers and a stand-in: tests/e2e/test_migration.py runs it
PAGES = sorted((ROOT / "docs").glob("*.md"))
WHY_NOT = re.compile(r"mac|not run: \S.+")


def blocks(page):
    """(info string after sh, text) of each shell block."""
    return re.findall(r"^```(?:sh|bash|console)(?: +([^\n]*))?\n(.*?)^```$", page.read_text(), re.M | re.S)


def free_ports(n):
    open_now = [socket.socket() for _ in range(n)]
    for s in open_now:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in open_now]
    for s in open_now:
        s.close()
    return ports


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_blocks_say_why_they_are_not_run(page):
    for why, text in blocks(page):
        assert not why or WHY_NOT.fullmatch(why), why
    assert page.read_text().count("```") % 2 == 0


@pytest.mark.skipif(len(COMMAND) > 1 or SLOW, reason="the real model is too slow here")
@pytest.mark.parametrize("page", [p for p in PAGES if p.stem not in ELSEWHERE and any(not why for why, _ in blocks(p))], ids=lambda p: p.stem)
def test_commands(page, smollm2, tmp_path):
    home = tmp_path / "loam" / "models"
    home.mkdir(parents=True)
    (home / "smollm2-135m-instruct").symlink_to(smollm2)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "deploy").symlink_to(ROOT / "deploy")
    script = "".join(text for why, text in blocks(page) if not why)
    for port in set(re.findall(r"(?<=[: ])8\d\d\d\b", script)):  # those of the page may be taken here
        script = re.sub(rf"(?<=[: ]){port}\b", str(free_ports(1)[0]), script)
    script = "set -eE -o pipefail\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\ntrap 'jobs -p | xargs -r kill 2>/dev/null || true; wait || true' EXIT\n" + script
    env = environment(tmp_path, PATH=f"{pathlib.Path(COMMAND[-1]).parent}:{os.environ['PATH']}")
    done = subprocess.run(["bash", "-m", "-c", script], cwd=tmp_path / "here", env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]


def test_links_lead_somewhere():
    for page in [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists() or target == "bench/results.json", f"{page.name}: {target}"  # made by `make bench`
