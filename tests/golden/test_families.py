"""Every family in every storage against mlx_lm: logits after prompts, and greedy text one token at a time.

Distances are the largest difference of a logit in standard deviations of the reference's logits.
"""

import os

import numpy as np
import pytest

from golden import tiny

# way of running -> options, the most a logit may be off, and what it may be typically (root mean square). The reference
# substrate and mlx_lm both add up float32, in another order. The fast one keeps keys and values in half precision, and
# without --exact rounds activations to 8 bits a group. About twice what is measured.
WAYS = {
    "reference": (["--substrate", "reference"], 5e-5, 2e-5),
    "exact": (["--substrate", "cpu", "--exact"], 1.5e-2, 4e-3),
    "fast": (["--substrate", "cpu"], 0.35, 0.1),
}
HAIR = {"fast": 2.5}  # times that for a mixture of experts, where rounding may choose another expert by a hair
if "LOAM_MLX" in os.environ:  # built beside the program: see tests/conftest.py. On a CPU it computes in float32
    WAYS["mlx"] = ["--substrate", "mlx", "--exact"], 1e-3, 1e-3

ALL = {**tiny.FAMILIES, **tiny.MORE_FAMILIES}
# Where the program is slow (an emulator, a sanitizer), these few stand for all.
CORE = {("llama", "q4g64"), ("llama-rope3", "bf16"), ("qwen2", "q8g64"), ("qwen3_moe", "q4g64")}


def cases():
    """Every family plain and in 4 bits, some in every storage, and those of CORE."""
    some = {(family, storage): None for family in ALL for storage in ("bf16", "q4g64")}
    some.update({(family, storage): None for family in ("llama", "qwen2-tied") for storage in tiny.STORAGES})
    some.update({(family, storage): None for family in ("llama", "qwen3_moe") for storage in tiny.MORE_STORAGES})
    some.update(dict.fromkeys(sorted(CORE)))
    return [pytest.param(*case, id="-".join(case), marks=[] if case in CORE else pytest.mark.heavy) for case in some]


CASES = cases()

# 1 token; less than any tile or page; a few pages and an odd end; past every sliding window of the families
LENGTHS = [1, 7, 45, 203]


def prompt(n, seed=0):
    return [int(i) for i in np.random.default_rng(1000 * seed + n).integers(1, tiny.VOCAB, n)]


def ids_text(ids):
    return ",".join(map(str, ids))


def allowed(way, family):
    options, most, typical = WAYS[way]
    hair = HAIR.get(way, 1) if any("experts" in key for key in ALL[family]) else 1
    return options, hair * most, hair * typical


def check_logits(loam, model, family, way):
    folder, reference = model
    options, most, typical = allowed(way, family)
    theirs = reference.logits(prompt(max(LENGTHS)))  # causal: a shorter prompt's logits are an earlier row
    for n in LENGTHS:
        ours = loam.json("logits", "--model", folder, "--tokens", ids_text(prompt(max(LENGTHS))[:n]), "--json", *options)["logits"]
        far, usual = tiny.distance(ours, theirs[n - 1]), tiny.distance(ours, theirs[n - 1], tiny.root_mean_square)
        assert far <= most and usual <= typical, (f"{n} tokens: logits differ by up to {far:.3g} deviations, typically {usual:.3g}; "
                                                  f"allowed {most:g}, {typical:g}")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family,storage", CASES)
def test_logits(loam, tiny_model, family, storage, way):
    check_logits(loam, tiny_model(family, storage), family, way)


def check_greedy(ours, theirs, tolerance, near_tie, where):
    """ours: ids. theirs: Reference.greedy. Two logits may each move by the tolerance before a choice may turn."""
    for k, (id, margin, deviation) in enumerate(theirs):
        if ours[k:k + 1] == ([] if id is None else [id]):
            continue
        have = ours[k] if k < len(ours) else "nothing"
        close = margin / deviation
        assert close <= 2 * tolerance, f"{where}: token {k} is {have}, the reference's {id} leads by {close:.3g} deviations"
        near_tie(f"{where}: token {k} is {have}, the reference's {id} leads by {close:.3g} deviations")
        return


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family,storage", CASES)
def test_batch(loam, tiny_model, near_tie, family, storage, way):
    """Requests of unequal lengths together: the prompt in slices, then one token a step for all that are left."""
    folder, reference = tiny_model(family, storage)
    options, tolerance, _ = allowed(way, family)
    jobs = [(prompt(n, seed=1), new) for n, new in ((3, 12), (61, 16), (1, 5), (130, 9), (17, 1))]
    out = loam.helper("golden/batch", folder, options[1], int("--exact" in options),
                      stdin="".join(f"{new} {' '.join(map(str, ids))}\n" for ids, new in jobs))
    lines = out.splitlines()
    assert len(lines) == len(jobs)
    for (ids, new), line in zip(jobs, lines):
        *steps, finish, n_prompt = line.split()
        got = [int(s.split(":")[0]) for s in steps]
        theirs = reference.greedy(ids, new)
        assert int(n_prompt) == len(ids) and int(finish) == (2 if len(got) == new else 1)  # LENGTH, STOP
        if way in HAIR and any("experts" in key for key in ALL[family]):
            continue  # one turned choice of an expert is worth deviations here; single operations bound it in tests/kern
        check_greedy(got, theirs, tolerance, near_tie, f"{family} {storage} {way}, prompt of {len(ids)}")
        check_logprobs(reference, ids, steps, got, tolerance)


def check_logprobs(reference, ids, steps, got, tolerance):
    """Whatever was chosen, its log-probability is the one that the reference gives this very text."""
    rows = reference.logits(ids + got[:-1])[len(ids) - 1:].astype(np.float64)
    for row, step, id in zip(rows, steps, got):
        top = row.max()
        theirs = row[id] - top - np.log(np.exp(row - top).sum())
        ours = float(step.split(":")[1])
        assert abs(ours - theirs) <= 2 * tolerance * row.std() + 1e-5, f"log-probability of {id} is {ours}, the reference's {theirs:.6f}"


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_generate(loam, tiny_model, near_tie, family):
    """The program's own way from text to text."""
    folder, reference = tiny_model(family, "q4g64")
    text = "The quick brown fox; Grüße aus Köln, naïve 東京!"
    theirs = reference.greedy(reference.tokenizer.encode(text).ids, 16)
    out = loam.json("generate", "--model", folder, "--prompt", text, "--max-tokens", 16, "--temp", 0, "--raw", "--json")
    check_greedy(out["tokens"], theirs, WAYS["fast"][1], near_tie, f"generate {family}")
    assert out["text"] == reference.tokenizer.decode(out["tokens"])
