"""/v1/embeddings: what is taken, what comes back. (Whether the numbers are right: tests/golden/test_embed.py.) The fake engine's
vector counts how many of a text's bytes leave each remainder of 4; 'a' is 97 and so leaves 1."""

import base64
import hashlib
import math
import struct

import pytest

from servers import refused


def embed(server, input, **more):
    status, _, body = server.post("/v1/embeddings", {"input": input, **more})
    assert status == 200, body
    return body


def test_shapes(server):
    body = embed(server, "ab")
    half = pytest.approx(math.sqrt(0.5))
    assert body["object"] == "list" and body["usage"] == {"prompt_tokens": 2, "total_tokens": 2} and body["model"]
    assert body["data"] == [{"object": "embedding", "index": 0, "embedding": [0, half, half, 0]}]
    body = embed(server, ["a", "b", "a"])
    assert [d["index"] for d in body["data"]] == [0, 1, 2] and [d["embedding"] for d in body["data"]] == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
    assert embed(server, [97, 98])["data"] == embed(server, "ab")["data"]
    assert [d["embedding"] for d in embed(server, [[97], [98]])["data"]] == [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert embed(server, "abb", pooling="last")["data"][0]["embedding"] == [0, 0, 1, 0]
    assert len(embed(server, ["a"] * 1000)["data"]) == 1000


def test_base64(server):
    data = embed(server, ["ab", "abc"], encoding_format="base64")["data"]
    for d, plain in zip(data, embed(server, ["ab", "abc"], encoding_format="float")["data"]):
        assert list(struct.unpack("<4f", base64.b64decode(d["embedding"], validate=True))) == pytest.approx(plain["embedding"], rel=1e-7)


def test_dimensions(server):
    """The first numbers, of length 1 again."""
    assert embed(server, "aabbc", dimensions=2)["data"][0]["embedding"] == [0, 1]
    assert embed(server, "abc", dimensions=3)["data"][0]["embedding"] == pytest.approx([0, math.sqrt(0.5), math.sqrt(0.5)])
    assert len(embed(server, "abc", dimensions=4)["data"][0]["embedding"]) == 4


@pytest.mark.parametrize("body, param", [
    ({}, "input"), ({"input": 5}, "input"), ({"input": []}, "input"), ({"input": ""}, "input"), ({"input": ["a", ""]}, "input[1]"), ({"input": ["a", 5]}, "input[1]"),
    ({"input": [1, "a"]}, "input[1]"), ({"input": [[]]}, "input[0]"), ({"input": ["a"] * 2049}, "input"), ({"input": ["a" * 1000] * 301}, "input"), ({"input": [-1]}, "input[0]"),
    ({"input": "a", "dimensions": 0}, "dimensions"), ({"input": "a", "dimensions": 5}, "dimensions"), ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ({"input": "a", "pooling": "max"}, "pooling"), ({"input": "a", "inptu": 1}, "inptu"), ({"input": "a", "user": 5}, "user"), ({"input": ["a", "b" * 200001]}, "input[1]"),
])
def test_refused(server, body, param):
    refused(server.post("/v1/embeddings", body), 400, param)


def test_another_model(server):
    refused(server.post("/v1/embeddings", {"input": "a", "model": "text-embedding-3-small"}), 404, "model", "model_not_found")


def test_tokens_are_charged_to_the_key(start, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"ann {hashlib.sha256(b'loam-a').hexdigest()} 0 100\n")
    s = start("--api-key-file", file)
    how = {"headers": {"Authorization": "Bearer loam-a"}}
    assert s.post("/v1/embeddings", {"input": "x" * 90}, **how)[0] == 200
    assert s.post("/v1/score", {"prompt": "x" * 100, "continuation": "y"}, **how)[0] == 200
    assert s.post("/v1/embeddings", {"input": "x"}, **how)[0] == 429
    assert s.stop() == 0 and "prompt_tokens=90" in s.log()
