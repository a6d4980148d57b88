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


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


def test_embeddings(client):
    """The client asks for base64 unless told otherwise. Meaning shows even in vectors that nobody trained for it."""
    texts = ["The cat sat on the mat.", "A cat was sitting on a mat.", "Interest rates rose by a quarter of a point."]
    got = client.embeddings.create(model=MODEL, input=texts)
    vectors = [d.embedding for d in got.data]
    assert [len(v) for v in vectors] == [576] * 3 and all(cosine(v, v) == pytest.approx(1, abs=1e-5) for v in vectors)
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.05
    assert got.model == MODEL and got.usage.prompt_tokens == got.usage.total_tokens > 20
    plain = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float").data[0].embedding
    assert cosine(plain, vectors[0]) > 0.999
    short = client.embeddings.create(model=MODEL, input=texts[0], dimensions=64).data[0].embedding
    assert len(short) == 64 and cosine(short, short) == pytest.approx(1, abs=1e-5)
    with pytest.raises(openai.BadRequestError) as e:
        client.embeddings.create(model=MODEL, input=["x", "long " * 3000])
    assert e.value.param == "input[1]" and e.value.code == "context_length_exceeded"


def test_async_embeddings(server):
    async def embed():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as c:
            return await asyncio.gather(*(c.embeddings.create(model=MODEL, input=f"Text {i}") for i in range(6)))
    assert len({tuple(r.data[0].embedding) for r in asyncio.run(embed())}) == 6


def test_leaving_embeddings_stops_the_work(server):
    body = json.dumps({"input": ["Some words that take a while. " * 4] * 2000}).encode()
    before = server.health()["prompt_tokens"]
    with server.connect() as s:
        s.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        server.until("its start", lambda h: h["running"] > 0)
    assert server.post("/v1/embeddings", {"input": "next"})[0] == 200  # its turn comes when the other one is over
    assert server.health()["prompt_tokens"] - before < 2000 * 28 / 2


def test_async_stream_helper(server):
    async def stream():  # the helper takes an answer that was cut off for an error: let it end
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as c:
            async with c.chat.completions.stream(model=MODEL, messages=ASK, max_tokens=200, stop=["."], temperature=0, logprobs=True, top_logprobs=2) as s:
                events = [e async for e in s]
                return events, await s.get_final_completion()
    events, final = asyncio.run(stream())
    kinds = {e.type for e in events}
    assert {"chunk", "content.delta", "content.done", "logprobs.content.delta", "logprobs.content.done"} <= kinds
    assert "".join(e.delta for e in events if e.type == "content.delta") == final.choices[0].message.content
    assert len(final.choices[0].logprobs.content) > 5 and final.choices[0].finish_reason == "stop"


def test_raw_responses(client):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=2)
    assert raw.headers["x-request-id"].startswith("req_") and raw.parse().choices[0].message.role == "assistant"
    with client.chat.completions.with_streaming_response.create(model=MODEL, messages=ASK, max_tokens=3, stream=True) as raw:
        lines = [line for line in raw.iter_lines() if line]
    assert lines[-1] == "data: [DONE]" and lines[0].startswith("data: {")


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
        client.images.generate(model=MODEL, prompt="x")


def test_a_cache_salt_keeps_prompts_apart(client):
    messages = [{"role": "user", "content": "A beginning that is long enough to fill some pages of the cache. " * 12}]

    def cached(salt):
        return ask(client, messages, max_tokens=1, extra_body={"cache_salt": salt}).usage.prompt_tokens_details.cached_tokens
    assert cached("ann") == 0 and cached("ann") > 50 and cached("bob") == 0


def test_choices_of_one_prompt_are_no_cache(client):
    messages = [{"role": "user", "content": "Another beginning that is long enough to fill some pages of the cache. " * 12}]

    def cached():
        usage = ask(client, messages, max_tokens=1, n=4, extra_body={"cache_salt": "choices"}).usage
        return usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens
    first, again = cached(), cached()
    assert first[0] == 0 and 50 < again[0] < again[1] == first[1]


def test_stop_strings_after_the_prompt_was_scored(client, greedy):
    text = greedy.choices[0].message.content
    got = ask(client, stop=[text[12:18]], extra_body={"prompt_logprobs": 0})
    assert got.choices[0].message.content == text[:12] and got.choices[0].finish_reason == "stop" and len(got.model_extra["prompt_logprobs"]) > 20


def test_a_message_is_continued(client):
    half = [*ASK, {"role": "assistant", "content": "The sky is blue because"}]
    got = ask(client, half, extra_body={"continue_final_message": True, "echo": True}).choices[0].message.content
    assert got.startswith("The sky is blue because") and len(got) > 30


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
    # The same numbers by the other ways: a completion that echoes its prompt, and prompt_logprobs.
    ids = exact.post("/tokenize", {"messages": ASK})[2]["tokens"] + choice.model_extra["token_ids"]
    echo = client.completions.create(model="default", prompt=ids, echo=True, logprobs=2, max_tokens=1).choices[0].logprobs
    assert echo.token_logprobs[0] is None and echo.token_logprobs[-1 - len(said):-1] == pytest.approx(said, abs=0.01)
    given = client.completions.create(model="default", prompt=ids, max_tokens=1, extra_body={"prompt_logprobs": 1}).choices[0].model_extra["prompt_logprobs"]
    for id, logprob, place in zip(ids[-len(said):], said, given[-len(said):]):
        assert place[str(id)]["logprob"] == pytest.approx(logprob, abs=0.01) and place[str(id)]["rank"] == 1 and len(place) == 1
    worse = exact.post("/v1/score", {"messages": ASK, "continuation": "zebra xylophone qqq"})[2]
    assert worse["logprob"] / len(worse["tokens"]) < scored["logprob"] / len(scored["tokens"]) - 1
