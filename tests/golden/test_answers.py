"""Real models' answers to ten fixed questions, as answers.py recorded them from mlx_lm.

A model that is not in the user's store is skipped, but for the default one, which every machine has that runs tests."""

import json
import subprocess

import pytest

from conftest import COMMAND
from golden import answers
from golden.test_families import check_greedy

# Where a choice may turn: what its margin may be at most is twice this. Measured: nowhere, and 0.043.
WAYS = {"exact": (["--exact"], 5e-3), "fast": ([], 0.1)}
MODELS = sorted(p.stem for p in answers.FOLDER.glob("*.json"))
SLOW = {"qwen2.5-coder-1.5b-instruct"}


@pytest.fixture(scope="session")
def folder():
    def find(name):
        done = subprocess.run([*COMMAND, "show", name, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if done.returncode != 0 and name in SLOW:
            pytest.skip(f"{name} is not in the store: make model MODEL={name}")
        assert done.returncode == 0, f"{name} is not in the store: run `make model`"
        return json.loads(done.stdout)["path"]

    return find


@pytest.mark.heavy
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_answers(loam, folder, near_tie, name, way):
    recorded = json.loads((answers.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert [a["question"] for a in recorded] == answers.QUESTIONS
    path, (options, tolerance) = folder(name), WAYS[way]
    for a in recorded:
        out = loam.json("generate", "--model", path, "--prompt", a["question"], "--max-tokens", answers.TOKENS, "--temp", 0, "--json", *options)
        assert out["prompt_tokens"] == a["prompt_tokens"]
        theirs = [(id, margin, 1.0) for id, margin in zip(a["ids"], a["margins"], strict=True)]
        check_greedy(out["tokens"], theirs, tolerance, near_tie, f"{name} {way}, {a['question']!r}")
        if out["tokens"] == [id for id in a["ids"] if id is not None]:
            assert out["text"] == a["text"]
