"""Structured output and forced tools with the official openai client, a real server and the real default model.

SmolLM2's own template knows no tools; its weights answer through Qwen2.5's way of calling them (Hermes' format), written here
as a template of our own.
"""

import json
import re
import shutil
import typing

import jsonschema
import openai
import pydantic
import pytest

from servers import Server, environment
from conftest import COMMAND

MODEL = "smollm2-135m-instruct"
HERMES = """{%- if tools %}<|im_start|>system
# Tools
<tools>{% for t in tools %}
{{ t | tojson }}{% endfor %}
</tools>
For each call return <tool_call>{"name": <function-name>, "arguments": <args-json-object>}</tool_call>.<|im_end|>
{% endif %}{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls %}<tool_call>
{{ c.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking %}<think>
{% endif %}{% endif %}{# </think> #}"""


@pytest.fixture(scope="module")
def client(smollm2, tmp_path_factory):
    s = Server(COMMAND, smollm2, "--port", 0, "--context", 2048, env=environment(tmp_path_factory.mktemp("home")))
    yield openai.OpenAI(base_url=s.url + "/v1", api_key="none", max_retries=0, timeout=120)
    assert s.stop() == 0


@pytest.fixture(scope="module")
def caller(smollm2, tmp_path_factory):
    """The same weights with a template that knows tools and reasoning."""
    folder = tmp_path_factory.mktemp("model") / "caller"
    shutil.copytree(smollm2, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(HERMES)
    s = Server(COMMAND, folder, "--port", 0, "--context", 2048, env=environment(tmp_path_factory.mktemp("home")))
    yield openai.OpenAI(base_url=s.url + "/v1", api_key="none", max_retries=0, timeout=120)
    assert s.stop() == 0


def ask(client, text="Describe Ann, a painter of 30 years.", **more):
    return client.chat.completions.create(**{"model": "default", "messages": [{"role": "user", "content": text}], "max_tokens": 160, "temperature": 0, **more})


class Place(pydantic.BaseModel):
    city: str = pydantic.Field(max_length=20)
    lat: float = pydantic.Field(ge=-90, le=90)


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=20)
    age: int = pydantic.Field(ge=0, le=150)
    mood: typing.Literal["happy", "sad"]
    hobbies: list[typing.Annotated[str, pydantic.Field(max_length=12)]] = pydantic.Field(max_length=2)
    home: Place | None


def test_parse_with_pydantic(client):
    done = client.chat.completions.parse(model=MODEL, messages=[{"role": "user", "content": "Describe Ann, a painter of 30 years."}], response_format=Person, temperature=0, max_tokens=200)
    person = done.choices[0].message.parsed
    assert isinstance(person, Person) and done.choices[0].finish_reason == "stop"
    assert json.loads(done.choices[0].message.content) == person.model_dump()


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_stream_of_it(client, temperature):
    with client.chat.completions.stream(model=MODEL, messages=[{"role": "user", "content": "Describe Bob."}], response_format=Person, temperature=temperature, seed=5, max_tokens=300) as stream:
        pieces = [e.delta for e in stream if e.type == "content.delta"]
        done = stream.get_final_completion().choices[0]
    assert len(pieces) > 5 and isinstance(done.message.parsed, Person) and done.finish_reason == "stop"
    assert Person.model_validate_json("".join(pieces)) == done.message.parsed


def test_json_object(client):
    schema = {"type": "object"}
    for seed in range(2):
        choice = ask(client, "Say something as JSON.", response_format={"type": "json_object"}, temperature=1.2, seed=seed, max_tokens=40).choices[0]
        if choice.finish_reason == "stop":
            jsonschema.validate(json.loads(choice.message.content), schema)
        else:
            assert choice.finish_reason == "length" and choice.message.content.startswith("{")


def test_regex_choice_and_grammar(client):
    several = ask(client, "A phone number?", extra_body={"guided_regex": r"\(\d{3}\) \d{3}-\d{4}"}, temperature=1, n=3, seed=1)
    assert all(re.fullmatch(r"\(\d{3}\) \d{3}-\d{4}", c.message.content) and c.finish_reason == "stop" for c in several.choices)
    assert ask(client, "Is the sky blue?", extra_body={"structured_outputs": {"choice": ["yes", "no", "perhaps"]}}).choices[0].message.content in ("yes", "no", "perhaps")
    sql = 'root ::= "SELECT " name ("," name){0,3} " FROM " name ";"\nname ::= [a-z]{1,8}'
    assert re.fullmatch(r"SELECT [a-z,]+ FROM [a-z]+;", ask(client, "SQL?", extra_body={"guided_grammar": sql}).choices[0].message.content)
    text = client.completions.create(model=MODEL, prompt="2 + 2 =", max_tokens=5, temperature=0, extra_body={"guided_json": {"type": "integer", "minimum": 0, "maximum": 9}})
    assert text.choices[0].text in list("0123456789") and text.choices[0].finish_reason == "stop"


def test_cut_off_by_length(client):
    choice = ask(client, response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": Person.model_json_schema()}}, max_tokens=6).choices[0]
    assert choice.finish_reason == "length" and choice.message.content.startswith("{")


def test_logprobs_are_the_models_own(client):
    """Each token of a held answer has the model's own log-probability, which the grammar does not change."""
    choice = ask(client, extra_body={"guided_choice": ["zebra", "quartz"]}, logprobs=True, top_logprobs=2).choices[0]
    assert "".join(c.token for c in choice.logprobs.content) == choice.message.content
    assert choice.logprobs.content[0].top_logprobs[0].logprob >= choice.logprobs.content[0].logprob


def test_ignore_eos_still_ends(client):
    choice = ask(client, "Yes or no?", extra_body={"guided_choice": ["yes", "no"], "ignore_eos": True}, max_tokens=50).choices[0]
    assert choice.message.content in ("yes", "no") and choice.finish_reason == "stop"


WEATHER = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 16}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["city", "days"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather of a city", "parameters": WEATHER}},
         {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}}]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize("temperature", [0, 1.5])
@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_forced_calls(caller, choice, temperature):
    got = ask(caller, "What is the weather in Paris?", tools=TOOLS, tool_choice=choice, temperature=temperature, seed=2, parallel_tool_calls=False).choices[0]
    assert got.finish_reason == "tool_calls" and len(got.message.tool_calls) == 1 and not got.message.content
    call = got.message.tool_calls[0]
    assert call.function.name in ("get_weather", "now") and call.id
    if choice == NAMED:
        assert call.function.name == "get_weather"
    jsonschema.validate(json.loads(call.function.arguments), WEATHER if call.function.name == "get_weather" else {"type": "object"})


def test_forced_calls_stream(caller):
    with caller.chat.completions.stream(model="default", messages=[{"role": "user", "content": "Weather in Rome?"}], tools=TOOLS, tool_choice=NAMED, temperature=0, max_tokens=120) as stream:
        deltas = [e for e in stream if e.type == "tool_calls.function.arguments.delta"]
        done = stream.get_final_completion().choices[0]
    assert len(deltas) > 2 and "".join(e.arguments_delta for e in deltas) == done.message.tool_calls[0].function.arguments
    jsonschema.validate(json.loads(done.message.tool_calls[0].function.arguments), WEATHER)


def test_reasoning_before_the_form(caller):
    got = ask(caller, "2 + 2?", extra_body={"guided_json": {"type": "integer", "minimum": 0, "maximum": 99}, "chat_template_kwargs": {"enable_thinking": True}}, max_tokens=60)
    choice = got.choices[0]
    reasoning = choice.message.model_extra.get("reasoning_content", "")
    if choice.finish_reason == "length":  # this small model may think for ever, but then there is no answer
        assert reasoning and not choice.message.content
    else:
        assert choice.message.content.strip().isdigit()
    plain = ask(caller, "2 + 2?", extra_body={"guided_json": {"type": "integer", "minimum": 0, "maximum": 99}}, max_tokens=8).choices[0]
    assert plain.message.content.isdigit()


def test_what_cannot_be_forced(client, caller):
    with pytest.raises(openai.BadRequestError, match="can be forced|can't be honoured|forced") as e:
        ask(client, tools=TOOLS, tool_choice="required")
    assert e.value.param == "tools"
    odd = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"not": {}}}}}}]
    with pytest.raises(openai.BadRequestError, match="/properties/x/not"):
        ask(caller, tools=odd, tool_choice="required")
    assert ask(caller, "hello", tools=odd, max_tokens=4).choices[0].finish_reason in ("length", "stop", "tool_calls")
    strict = [{"type": "function", "function": {**odd[0]["function"], "strict": True}}]
    with pytest.raises(openai.BadRequestError, match="/properties/x/not"):
        ask(caller, "hello", tools=strict)
