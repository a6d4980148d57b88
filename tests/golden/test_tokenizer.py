"""Token ids and texts, against `tokenizers` on the same tokenizer.json: identical, on real and on hostile strings.

LOAM_LONG=1 takes 100,000 strings a real vocabulary instead of 20,000."""

import json
import os
import random

import pytest
from tokenizers import Tokenizer

from golden import texts, vocabs

LONG = os.environ.get("LOAM_LONG") == "1"
STRINGS = {"real": 100_000 if LONG else 20_000, "trained": 20_000 if LONG else 1_500}
NAMES = [*vocabs.GGUF, *vocabs.TRAINED]


class Pair:
    """The reference and loam on one file."""

    def __init__(self, loam, path):
        self.loam, self.path = loam, path
        self.reference = Tokenizer.from_file(str(path))
        self.reference.no_truncation()
        self.special = [t.content for t in self.reference.get_added_tokens_decoder().values()]

    def lines(self, values, *flags):
        out = self.loam("tokenize", "--tokenizer", self.path, "--json-lines", *flags, stdin="\n".join(map(json.dumps, values)), timeout=600)
        return [json.loads(line) for line in out.stdout.split("\n")[:-1]]


@pytest.fixture(scope="session")
def pair(loam, tmp_path_factory):
    made = {}
    folder = tmp_path_factory.mktemp("tokenizers")

    def get(name):
        if name not in made:
            if name in vocabs.GGUF and not vocabs.SHARED.is_dir():
                pytest.skip(f"no real vocabularies beside the checkout ({vocabs.SHARED.name})")
            path = folder / f"{name}.json"
            {**vocabs.GGUF, **vocabs.TRAINED}[name](path)
            made[name] = Pair(loam, path)
        return made[name]

    return get


def differences(inputs, got, want):
    assert len(got) == len(want) == len(inputs)
    wrong = [(i, g, w) for i, g, w in zip(inputs, got, want) if g != w]
    return f"{len(wrong)} of {len(inputs)} differ, the shortest: %r\n  loam      %r\n  reference %r" % min(wrong, key=lambda d: len(d[0])) if wrong else None


def strings(name, p):
    return texts.hostile(STRINGS["real" if name in vocabs.GGUF else "trained"], p.special)


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_the_references(pair, name):
    p = pair(name)
    inputs = strings(name, p)
    for special, flags in ((True, []), (False, ["--no-special"])):
        want = [e.ids for e in p.reference.encode_batch(inputs, add_special_tokens=special)]
        assert not (wrong := differences(inputs, p.lines(inputs, *flags), want)), wrong


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_the_references(pair, name):
    p = pair(name)
    rng = random.Random(2)
    size = p.reference.get_vocab_size()
    inputs = [e.ids for e in p.reference.encode_batch(strings(name, p)[:5000])]
    inputs += [[rng.randrange(size + 5) for _ in range(rng.randint(1, 12))] for _ in range(2000)]
    inputs = [ids for ids in inputs if ids]  # of nothing, some decoders of the reference fail
    for skip, flags in ((False, []), (True, ["--no-special"])):
        want = p.reference.decode_batch(inputs, skip_special_tokens=skip)
        assert not (wrong := differences(inputs, p.lines(inputs, "--decode", *flags), want)), wrong


@pytest.mark.parametrize("name", NAMES)
def test_streams_are_the_references_texts(pair, name):
    """Piece by piece, whole characters each. Where byte tokens make no text, the reference takes back what was shown."""
    p = pair(name)
    rng = random.Random(3)
    size = p.reference.get_vocab_size()
    inputs = [e.ids for e in p.reference.encode_batch(strings(name, p)[:2000])] + [[rng.randrange(size) for _ in range(12)] for _ in range(500)]
    inputs = [ids for ids in inputs if ids]
    want = p.reference.decode_batch(inputs, skip_special_tokens=False)
    lines = p.loam.helper("golden/detok", p.path, stdin="\n".join(map(json.dumps, inputs)), timeout=600).split("\n")[:-1]
    rows = [(i, json.loads(g), w) for i, g, w in zip(inputs, lines, want, strict=True)]
    if "ByteFallback" in json.dumps(json.loads(p.path.read_text(encoding="utf-8"))["decoder"]):
        rows = [(i, g, w) for i, g, w in rows if g == w or "\ufffd" not in w or "\ufffd" not in g]
    assert not (wrong := differences(*zip(*rows))), wrong


@pytest.mark.parametrize("name", ["llama-bpe", "qwen2", "llama-spm", "phi-3"])
def test_ids_are_llama_cpps(pair, name):
    """The .inp/.out pairs beside the vocabularies: what the original tokenizers gave."""
    p = pair(name)
    inputs = (vocabs.SHARED / f"ggml-vocab-{name}.gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")[:-1]
    want = [[int(i) for i in line.split()] for line in (vocabs.SHARED / f"ggml-vocab-{name}.gguf.out").read_text().splitlines()]
    assert not (wrong := differences(inputs, p.lines(inputs, "--no-special"), want)), wrong
