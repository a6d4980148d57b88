"""Calls of tools as the official openai client sees them. No model small enough for tests calls tools by itself, so a fake
engine says what one would."""

import asyncio

import openai
import pytest

CALL = '<think>Look it up.</think>Let me see. <tool_call>{"name": "weather", "arguments": {"city": "Bonn", "days": 3}}</tool_call>'
ASK = [{"role": "user", "content": "[fake say=1]" + CALL}]
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather in a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}}}
ARGUMENTS = '{"city": "Bonn", "days": 3}'


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def test_a_call_and_its_answer(client):
    message = client.chat.completions.create(model="default", messages=ASK, tools=[WEATHER]).choices[0]
    call = message.message.tool_calls[0]
    assert message.finish_reason == "tool_calls" and message.message.content == "Let me see." and call.type == "function"
    assert call.function.name == "weather" and call.function.arguments == ARGUMENTS
    assert message.message.model_extra["reasoning_content"] == message.message.model_extra["reasoning"] == "Look it up."
    after = [*ASK, message.message, {"role": "tool", "tool_call_id": call.id, "content": "Rain."}, {"role": "user", "content": "[fake tokens=3]"}]
    assert client.chat.completions.create(model="default", messages=after, tools=[WEATHER]).choices[0].message.content == "abc"


def test_the_streaming_helper_puts_calls_together(client):
    with client.chat.completions.stream(model="default", messages=ASK, tools=[WEATHER]) as stream:
        events = list(stream)
        final = stream.get_final_completion().choices[0]
    deltas = [e for e in events if e.type == "tool_calls.function.arguments.delta"]
    assert len(deltas) > 5 and "".join(e.arguments_delta for e in deltas) == ARGUMENTS, "they grow"
    done = [e for e in events if e.type == "tool_calls.function.arguments.done"]
    assert [(e.name, e.arguments) for e in done] == [("weather", ARGUMENTS)]
    assert final.finish_reason == "tool_calls" and final.message.tool_calls[0].function.arguments == ARGUMENTS


def test_async_chunks(server):
    async def read():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as c:
            return [chunk async for chunk in await c.chat.completions.create(model="default", messages=ASK, tools=[WEATHER], stream=True)]
    pieces = [t for c in asyncio.run(read()) for t in c.choices[0].delta.tool_calls or []]
    assert pieces[0].id and pieces[0].function.name == "weather" and all(p.index == 0 and not p.id for p in pieces[1:])
    assert "".join(p.function.arguments for p in pieces) == ARGUMENTS


def test_an_error_in_mid_stream_is_raised(client):
    stream = client.chat.completions.create(model="default", messages=[{"role": "user", "content": "[fake tokens=50 fail=3]"}], stream=True)
    got = []
    with pytest.raises(openai.APIError, match="the machine failed"):
        for chunk in stream:
            got.append(chunk.choices[0].delta.content)
    assert "".join(g or "" for g in got) == "abc"
