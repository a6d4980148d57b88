"""What an answer tells of its prompt: log-probabilities, ids, an echo. The fake engine's tokens are bytes; each token of a
prompt has -1, is the second likeliest, and the likeliest are a, b, ..."""

import pytest

from servers import HELLO, chat_bytes, read_until, refused, stream_of


def entry(id, logprob, rank, text):
    return {str(id): {"logprob": logprob, "rank": rank, "decoded_token": text}}


def test_prompt_logprobs_of_a_completion(server):
    _, _, body = server.post("/v1/completions", {"prompt": ["hi", "x"], "prompt_logprobs": 2, "max_tokens": 1})
    first, second = body["choices"]
    assert first["prompt_logprobs"] == [None, {**entry(105, -1, 2, "i"), **entry(97, -0.5, 1, "a"), **entry(98, -1.5, 2, "b")}]
    assert second["prompt_logprobs"] == [None] and first["text"] == "a"
    _, _, body = server.post("/v1/completions", {"prompt": "ha", "prompt_logprobs": 1, "max_tokens": 1})
    assert body["choices"][0]["prompt_logprobs"] == [None, entry(97, -1, 2, "a")], "a token is there once"
    assert "prompt_logprobs" not in server.post("/v1/completions", {"prompt": "hi"})[2]["choices"][0]


def test_prompt_facts_of_a_chat(server):
    text = "<user>hello\n<assistant>"
    _, _, body = server.post("/v1/chat/completions", {"messages": HELLO, "prompt_logprobs": 0, "return_token_ids": True, "n": 2})
    assert body["prompt_token_ids"] == list(text.encode()) and len(body["choices"]) == 2
    assert body["prompt_logprobs"][:2] == [None, entry(ord("u"), -1, 2, "u")] and len(body["prompt_logprobs"]) == len(text)
    chunks = stream_of(server, "hello", prompt_logprobs=0, return_token_ids=True, n=2)
    assert chunks[0]["prompt_logprobs"] == body["prompt_logprobs"] and chunks[0]["prompt_token_ids"] == body["prompt_token_ids"]
    assert not any("prompt_logprobs" in c or "prompt_token_ids" in c for c in chunks[1:])


def test_echo_with_logprobs(server):
    """As evaluation programs ask for it: how likely the prompt itself is."""
    _, _, body = server.post("/v1/completions", {"prompt": "hé", "echo": True, "logprobs": 1, "max_tokens": 2})
    assert body["choices"][0]["text"] == "héab"
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["h", "\ufffd", "\ufffd", "a", "b"], "token_logprobs": [None, -1, -1, -0.5, -0.5],
        "top_logprobs": [None] + [{"a": -0.5}] * 4, "text_offset": [0, 1, 2, 2, 3]}
    chunks = stream_of(server, "", "/v1/completions", messages=None, prompt="xy", echo=True, logprobs=0, max_tokens=1)
    assert chunks[0]["choices"][0]["logprobs"] == {"tokens": ["x", "y"], "token_logprobs": [None, -1], "top_logprobs": [None, None], "text_offset": [0, 1]}
    assert chunks[1]["choices"][0]["logprobs"]["text_offset"] == [2]


def test_prompt_ids_of_a_completion_in_a_stream(server):
    chunks = stream_of(server, "", "/v1/completions", messages=None, prompt=["a", "b"], return_token_ids=True, max_tokens=1)
    assert [c["choices"][0]["prompt_token_ids"] for c in chunks if "prompt_token_ids" in c["choices"][0]] == [[97], [98]]


def test_a_continued_message_is_echoed(server):
    half = [*HELLO, {"role": "assistant", "content": [{"type": "text", "text": "The answer"}]}]
    how = {"continue_final_message": True, "max_tokens": 2}
    _, _, body = server.post("/v1/chat/completions", {"messages": half, "echo": True, **how})
    assert body["choices"][0]["message"]["content"] == "The answerab" and body["usage"]["completion_tokens"] == 2
    assert server.post("/v1/chat/completions", {"messages": half, **how})[2]["choices"][0]["message"]["content"] == "ab"
    chunks = stream_of(server, "", messages=half, echo=True, **how)
    assert [c["choices"][0]["delta"].get("content") for c in chunks] == ["The answer", "a", "b", None]
    _, _, body = server.post("/v1/chat/completions", {"messages": HELLO, "echo": True, "max_tokens": 2})
    assert body["choices"][0]["message"]["content"] == "ab", "a question is not part of the answer"


def test_a_prompt_that_does_not_fit_is_refused_before_it_is_scored(start):
    s = start("--context", 100)
    for more in ({"prompt_logprobs": 1}, {"echo": True, "logprobs": 1}):
        refused(s.post("/v1/completions", {"prompt": "x" * 200, **more}), 400, "prompt", "context_length_exceeded")


def test_leaving_while_the_prompt_is_scored(server):
    with server.connect() as s:
        s.sendall(chat_bytes("[fake tokens=100000 delay=5]", stream=True, prompt_logprobs=1))
        read_until(s, b'"content":"c"')
    server.until("the end", lambda h: h["running"] == 0)
