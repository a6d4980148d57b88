"""The command line keeps its manners: every command helps, names what is wrong in one line, and exits as it should."""

import json
import re
import shutil
import subprocess

import pytest

from conftest import COMMAND
from golden import tiny


def commands():
    text = subprocess.run([*COMMAND, "--help"], stdout=subprocess.PIPE, text=True).stdout
    return re.findall(r"^  (\w+) ", text, re.M)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("cli") / "m", tiny.FAMILIES["llama"], tiny.STORAGES["q4g64"])


def one_line(text):
    return text.endswith("\n") and text.count("\n") == 1


def test_help_and_version(loam):
    assert re.fullmatch(r"loam \d+\.\d+\.\d+\n", loam("--version").stdout)
    assert loam("--help").stdout == loam("help").stdout
    assert {"generate", "chat", "serve", "tokenize", "template", "logits", "perplexity", "bench", "import", "ls", "show", "rm"} <= set(commands())


def test_nothing_and_nonsense_are_usage_errors(loam):
    nothing = loam(ok=False)
    assert nothing.returncode == 2 and "Usage" in nothing.stderr and not nothing.stdout
    nonsense = loam("frobnicate", ok=False)
    assert nonsense.returncode == 2 and one_line(nonsense.stderr) and "frobnicate" in nonsense.stderr


@pytest.mark.parametrize("command", commands())
def test_every_command(loam, command):
    help = loam(command, "--help")
    assert help.stdout.startswith(f"loam {command}: ") and not help.stderr
    assert loam(command, "--version").stdout == loam("--version").stdout
    wrong = loam(command, "--frobnicate", ok=False)
    assert wrong.returncode == 2 and one_line(wrong.stderr) and "--frobnicate" in wrong.stderr and not wrong.stdout
    for flag in re.findall(r"(--[\w-]+) [A-Z0-9]", help.stdout):  # every option that takes a value misses one
        missing = loam(command, flag, ok=False)
        assert missing.returncode == 2 and one_line(missing.stderr) and flag in missing.stderr, flag


@pytest.mark.parametrize("args", [("generate", "--prompt", "x"), ("logits", "--tokens", "1"), ("bench",), ("show",), ("tokenize",)],
                         ids=lambda a: a[0])
def test_a_model_that_is_not_there(loam, args):
    model = ["no-such-model"] if args[0] == "show" else ["--model", "no-such-model"]
    done = loam(args[0], *model, *args[1:], ok=False)
    assert done.returncode == 1 and one_line(done.stderr) and "no-such-model" in done.stderr and not done.stdout


@pytest.mark.parametrize("args,word", [
    (("--tokens", ""), "tokens"), (("--tokens", "1,,2"), "tokens"), (("--tokens", "1,x"), "tokens"), (("--tokens", "512"), "512"),
    (("--tokens", "-1"), "tokens"), (("--tokens", "99999999999"), "tokens"), (("--tokens", ",".join(["1"] * 5000)), "context"),
])
def test_logits_refuses_ids(loam, model, args, word):
    done = loam("logits", "--model", model, *args, ok=False)
    assert done.returncode in (1, 2) and one_line(done.stderr) and word in done.stderr and not done.stdout


def test_generate_is_the_same_for_the_same_seed(loam, model):
    def text(seed, *more):
        return loam.json("generate", "--model", model, "--raw", "--prompt", "The quick", "--max-tokens", 24, "--temp", 1.0,
                         "--seed", seed, "--ignore-eos", "--json", *more)["tokens"]

    assert text(7) == text(7)
    assert text(7) != text(8)
    assert text(7, "--threads", 1) == text(7, "--threads", 2)


def test_verbose_and_json_agree(loam, model):
    args = ("generate", "--model", model, "--raw", "--prompt", "The quick", "--max-tokens", 12, "--temp", 0, "--ignore-eos")
    out = loam.json(*args, "--json")
    plain = loam(*args)
    verbose = loam(*args, "--verbose")
    assert len(out["tokens"]) == 12 and out["finish_reason"] == "length"
    assert out["completion_tokens"] == 12 and out["prompt_tokens"] > 0
    assert plain.stdout.rstrip("\n") == out["text"].rstrip("\n")
    assert re.search(r"12 tokens.*tokens?[-/ ]per[-/ ]sec|tok/s", verbose.stdout + verbose.stderr)


def test_bench_reports(loam, model):
    out = loam.json("bench", "--model", model, "-p", 200, "-n", 8, "--runs", 2, "--json")
    assert out["prompt_tps"] > 0 and out["generation_tps"] > 0
    assert out["cached_tokens"] == 0, "a run measured what an earlier one left in the cache"
    assert 0 < out["weight_bytes"] and 0 < out["peak_memory_bytes"]


def test_what_it_cannot_run_is_refused_by_name(loam, tmp_path, model):
    def refused(words, **changes):
        folder = tmp_path / "changed"
        shutil.copytree(model, folder)
        config = json.loads((folder / "config.json").read_text())
        config.update(changes)
        (folder / "config.json").write_text(json.dumps(config))
        done = loam("logits", "--model", folder, "--tokens", "1", ok=False)
        shutil.rmtree(folder)
        assert done.returncode == 1 and one_line(done.stderr) and words in done.stderr, done.stderr

    refused("frobnicator", model_type="frobnicator")
    refused("num_attention_heads", num_attention_heads=0)
    refused("hidden_size", hidden_size=-1)
    refused("vocab_size", vocab_size="many")
    refused("rope", rope_scaling={"type": "frobnicated", "factor": 2.0})
    refused("embed_tokens", hidden_size=192)         # the weights are of another shape
    refused("bits", quantization={"bits": 7, "group_size": 64})
