"""Embeddings against mlx_lm: the final norm's output of every token, pooled and scaled to length 1."""

import json

import numpy as np
import pytest

import mlx.core as mx

from golden import tiny
from golden.test_families import WAYS, prompt

# The least cosine to the reference, and the most a number may be off, in deviations of the vector's numbers. About twice
# what is measured.
CLOSE = {"reference": (1 - 1e-10, 5e-5), "exact": (1 - 1e-6, 1e-2), "fast": (0.996, 0.7), "mlx": (1 - 1e-6, 5e-3)}
LENGTHS = [1, 7, 203, 45, 130, 2] + [9] * 20  # several steps; more texts than are ahead in the queue


def reference_vector(reference, ids, pooling):
    hidden = np.array(reference.model.model(mx.array([ids])))[0].astype(np.float64)
    v = hidden.mean(axis=0) if pooling == "MEAN" else hidden[-1]
    return v / np.linalg.norm(v)


def vectors(loam, folder, texts, pooling, way):
    options = WAYS[way][0]
    out = loam.helper("golden/embed", folder, options[1], int("--exact" in options), pooling,
                      stdin="".join(" ".join(map(str, ids)) + "\n" for ids in texts))
    return [np.array(line.split(), np.float64) for line in out.splitlines()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pooling", ["MEAN", "LAST"])
@pytest.mark.parametrize("family, storage", [("llama", "q4g64"), ("gemma3_text", "bf16"), ("granite", "bf16"), ("qwen3", "q4g64")])
def test_embeddings(loam, tiny_model, family, storage, pooling, way):
    folder, reference = tiny_model(family, storage)
    texts = [prompt(n, seed=i) for i, n in enumerate(LENGTHS)]
    ours = vectors(loam, folder, texts, pooling, way)
    assert len(ours) == len(texts)
    least, most = CLOSE[way]
    for ids, v in zip(texts, ours):
        theirs = reference_vector(reference, ids, pooling)
        assert v.shape == theirs.shape and abs(np.linalg.norm(v) - 1) < 1e-5
        cosine, off = v @ theirs / np.linalg.norm(v), np.abs(v - theirs).max() / theirs.std()
        assert cosine >= least and off <= most, f"{len(ids)} tokens: cosine {cosine:.8f}, off by {off:.3g} deviations"


def test_the_model_says_how_it_is_pooled(loam, tiny_model, tmp_path):
    """sentence-transformers' 1_Pooling/config.json, as embedding models have it."""
    folder, reference = tiny_model("llama", "bf16")
    link = tmp_path / "model"
    link.mkdir()
    for f in folder.iterdir():
        (link / f.name).symlink_to(f)
    ids = prompt(30)
    for config, pooling in ((None, "MEAN"), ({"pooling_mode_lasttoken": True}, "LAST"), ({"pooling_mode_mean_tokens": True}, "MEAN")):
        if config:
            (link / "1_Pooling").mkdir(exist_ok=True)
            (link / "1_Pooling" / "config.json").write_text(json.dumps(config))
        assert np.abs(vectors(loam, link, [ids], "MODEL", "reference")[0] - reference_vector(reference, ids, pooling)).max() < 1e-5
    (link / "1_Pooling" / "config.json").write_text("{oops")
    done = loam("logits", "--model", link, "--tokens", "1,2", ok=False)
    assert done.returncode != 0 and "1_Pooling/config.json" in done.stderr
