"""The official openai client against a real server with the real default model: what its documentation does, works."""

import asyncio
import json

import openai
import pytest

from servers import Server, environment
from conftest import COMMAND

MODEL = "smollm2-135m-instruct"
ASK = [{"role": "user", "content": "Why is the sky blue? Answer in one sentence."}]


@pytest.fixture(scope="module")
def server(smollm2, tmp_path_factory):
    s = Server(COMMAND, smollm2, "--port", 0, "--context", 2048, env=environment(tmp_path_factory.mktemp("home")))
    yield s
    state = s.until("the end of all work", lambda h: h["running"] == 0 and h["waiting"] == 0)
    assert state["pages_used"] == 0, "nothing is left reserved"
    assert s.stop() == 0


@pytest.fixture(scope="module")
def exact(smollm2, tmp_path_factory):
    """With float activations: how rows are batched does not change a token."""
    s = Server(COMMAND, smollm2, "--port", 0, "--context", 1024, "--exact", env=environment(tmp_path_factory.mktemp("home")))
    yield s
    assert s.stop() == 0


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


def ask(client, messages=None, **more):
    return client.chat.completions.create(**{"model": MODEL, "messages": messages or ASK, "max_tokens": 24, "temperature": 0, **more})


@pytest.fixture(scope="module")
def greedy(client):
    return ask(client)


def test_chat(greedy):
    choice = greedy.choices[0]
    assert choice.message.role == "assistant" and len(choice.message.content) > 20 and choice.finish_reason in ("stop", "length")
    assert greedy.usage.completion_tokens <= 24 and greedy.usage.total_tokens == greedy.usage.prompt_tokens + greedy.usage.completion_tokens
    assert greedy.model == MODEL and greedy.usage.prompt_tokens_details.cached_tokens >= 0


def test_stream_gives_the_same_text(client, greedy):
    pieces, usage, reason = [], None, None
    for chunk in ask(client, stream=True, stream_options={"include_usage": True}):
        if chunk.choices:
            pieces.append(chunk.choices[0].delta.content or "")
            reason = chunk.choices[0].finish_reason or reason
        usage = chunk.usage or usage
    assert "".join(pieces) == greedy.choices[0].message.content and reason == greedy.choices[0].finish_reason
    assert usage.completion_tokens == greedy.usage.completion_tokens
    assert len([p for p in pieces if p]) > 10, "it streams"


def test_stream_helper(client, greedy):
    words = greedy.choices[0].message.content.split()
    with client.chat.completions.stream(model=MODEL, messages=ASK, max_tokens=24, temperature=0, stop=words[4]) as stream:
        text = "".join(e.delta for e in stream if e.type == "content.delta")
        final = stream.get_final_completion().choices[0]
    assert text == final.message.content == greedy.choices[0].message.content.partition(words[4])[0] and final.finish_reason == "stop"


async def gather(url, questions, **more):
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as c:
        async def one(i, text):
            r = await c.chat.completions.create(model="default", messages=[{"role": "user", "content": text}], temperature=0, stream=i % 2 == 0, **more)
            if i % 2:
                return r.choices[0].message.content
            return "".join([x.choices[0].delta.content or "" async for x in r])
        return await asyncio.gather(*(one(i, q) for i, q in enumerate(questions)))


def test_async_and_several_at_once(server):
    answers = asyncio.run(gather(server.url, ["Why is the sky blue?"] * 5, max_tokens=12))
    assert len(answers) == 5 and all(len(a) > 10 for a in answers)


def test_answers_do_not_mix(exact):
    """Each of several concurrent greedy requests gives what it gives alone. (With 8-bit activations a row in a batch is
    rounded otherwise than alone, and a near tie may fall the other way.)"""
    questions = ["Why is the sky blue?", "Name three colours.", "What is 2 + 2?", "Tell me about Rome.", "Hello!"]
    alone = [asyncio.run(gather(exact.url, [q], max_tokens=10))[0] for q in questions]
    assert asyncio.run(gather(exact.url, questions, max_tokens=10)) == alone and len(set(alone)) == 5


def test_stop(client, greedy):
    text = greedy.choices[0].message.content
    word = text[12:18]
    got = ask(client, stop=word).choices[0]
    assert got.message.content == text[:text.index(word)] and got.finish_reason == "stop"
    got = "".join(c.choices[0].delta.content or "" for c in ask(client, stop=["never said", word], stream=True))
    assert got == text[:text.index(word)]


def test_seed_and_n(client):
    how = dict(temperature=1.0, max_tokens=12, seed=7, n=2)
    first, second = ask(client, **how), ask(client, **how)
    texts = [c.message.content for c in first.choices]
    assert texts == [c.message.content for c in second.choices] and texts[0] != texts[1]
    assert ask(client, temperature=1.0, max_tokens=12, seed=8).choices[0].message.content not in texts


def test_logprobs(client, greedy):
    choice = ask(client, logprobs=True, top_logprobs=3).choices[0]
    content = choice.logprobs.content
    assert "".join(c.token for c in content if c.token[0] != "<") == choice.message.content == greedy.choices[0].message.content
    for c in content:
        assert c.logprob <= 0 and len(c.top_logprobs) == 3 and bytes(c.bytes).decode() == c.token
        assert c.top_logprobs[0].logprob == pytest.approx(c.logprob, abs=1e-4), "greedy takes the likeliest"
        assert c.top_logprobs[0].logprob >= c.top_logprobs[1].logprob >= c.top_logprobs[2].logprob


def test_logit_bias_forbids(client, server, greedy):
    ids = ask(client, extra_body={"return_token_ids": True}).choices[0].model_extra["token_ids"]
    assert server.post("/detokenize", {"tokens": ids})[2]["prompt"].startswith(greedy.choices[0].message.content[:20])
    got = ask(client, logit_bias={str(ids[0]): -100}, extra_body={"return_token_ids": True}).choices[0]
    assert got.model_extra["token_ids"][0] != ids[0]


def test_unicode_in_and_out(client):
    """Emoji are several tokens: no piece of the stream has half a character."""
    messages = [{"role": "user", "content": "Repeat exactly: 😀é漢字🏴‍☠️ 😀é漢字🏴‍☠️"}]
    whole = ask(client, messages, max_tokens=40).choices[0].message.content
    pieces = [c.choices[0].delta.content or "" for c in ask(client, messages, max_tokens=40, stream=True)]
    assert "".join(pieces) == whole
    assert not any("\ufffd" in p for p in pieces[:-2])


def test_completions(client):
    got = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0, echo=True)
    assert got.choices[0].text.startswith("The capital of France is") and got.usage.completion_tokens == 8
    streamed = "".join(c.choices[0].text for c in client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0, stream=True))
    assert got.choices[0].text == "The capital of France is" + streamed


def test_models(client):
    assert MODEL in [m.id for m in client.models.list()]
    assert client.models.retrieve(MODEL).object == "model"


def test_errors_are_the_clients_own(client):
    with pytest.raises(openai.BadRequestError) as e:
        ask(client, temperature=-1)
    assert e.value.param == "temperature" and e.value.code == "invalid_value" and e.value.request_id.startswith("req_")
    with pytest.raises(openai.NotFoundError) as e:
        ask(client, model="gpt-4o")
    assert e.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as e:
        ask(client, [{"role": "user", "content": "long " * 3000}])
    assert e.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as e:
        ask(client, extra_body={"surprise": 1})
    assert e.value.param == "surprise"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="x")


def test_leaving_a_stream_stops_the_work(client, server):
    stream = ask(client, stream=True, max_tokens=1500, extra_body={"ignore_eos": True})
    next(iter(stream))
    server.until("its start", lambda h: h["running"] == 1)
    stream.close()
    assert server.until("the end", lambda h: h["running"] == 0)["pages_used"] == 0


def test_conversation_goes_on(client):
    """What an answer holds can be sent back as it came."""
    message = ask(client, max_tokens=8).choices[0].message
    messages = [*ASK, message.model_dump(), {"role": "user", "content": [{"type": "text", "text": "Go on."}]}]
    assert ask(client, messages, max_tokens=4).usage.prompt_tokens > 40
    assert json.dumps(message.model_dump())


def test_score_agrees_with_what_was_said(exact):
    """The log-probabilities of a greedy answer, given as a continuation, are those it had when it was made."""
    client = openai.OpenAI(base_url=exact.url + "/v1", api_key="none", max_retries=0)
    choice = ask(client, logprobs=True, max_tokens=10, extra_body={"return_token_ids": True}).choices[0]
    said = [c.logprob for c in choice.logprobs.content]
    status, _, scored = exact.post("/v1/score", {"messages": ASK, "continuation": choice.model_extra["token_ids"]})
    assert status == 200 and scored["token_logprobs"] == pytest.approx(said, abs=0.01)
    assert scored["logprob"] == pytest.approx(sum(scored["token_logprobs"]), abs=1e-3)
    worse = exact.post("/v1/score", {"messages": ASK, "continuation": "zebra xylophone qqq"})[2]
    assert worse["logprob"] / len(worse["tokens"]) < scored["logprob"] / len(scored["tokens"]) - 1
