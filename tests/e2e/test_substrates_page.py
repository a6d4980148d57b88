"""docs/substrates.md: its example is built and run as it stands there."""

import json
import os
import pathlib
import re
import subprocess

import pytest

from conftest import SLOW

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "substrates.md").read_text()
TEST = ROOT / "build" / "tests" / "kern" / "test_loaded"


def blocks(language):
    return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.c").write_text(blocks("c")[0])
    command = next(line for line in blocks("sh")[0].splitlines() if line.startswith("cc "))
    made = folder / "mine.so"
    subprocess.run(command.replace("build/mine.so", str(made)).replace(" mine.c", f" {folder}/mine.c"), shell=True, check=True, cwd=ROOT)
    return made


def test_in_an_object_of_its_own(loam, smollm2, mine):
    ask = ["logits", "--model", smollm2, "--tokens", "1,2,3", "--json", "--substrate"]
    ours = json.loads(loam(*ask, "mine", env={"LOAM_MINE": str(mine)}).stdout)
    assert ours["logits"] == loam.json(*ask, "reference")["logits"]


@pytest.mark.skipif(SLOW or not TEST.exists(), reason="the C tests are not built")
def test_conformance(mine):
    run = subprocess.run([TEST], env={**os.environ, "LOAM_MINE": str(mine), "SUBSTRATE": "mine", "ONLY": "moe"}, capture_output=True, text=True)
    assert run.returncode == 0 and re.search(r"mine: [1-9]\d* cases, 0 refused, 0 failed", run.stdout + run.stderr)
    missing = subprocess.run([TEST], env={**os.environ, "LOAM_MINE": "/nonexistent", "SUBSTRATE": "mine"}, capture_output=True, text=True)
    assert missing.returncode != 0
