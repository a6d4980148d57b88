"""The endpoints' contract: what is taken, what is refused and in which words, and the shape of answers."""

import json

import pytest

from servers import HELLO, refused, stream_of

# ---- shapes

def test_whole_answer(server):
    status, headers, body = server.chat("hello [fake tokens=12]")
    assert status == 200 and headers["Content-Type"] == "application/json"
    choice = body["choices"][0]
    assert body["object"] == "chat.completion" and body["id"].startswith("chatcmpl-") and body["model"] and body["created"] > 1.7e9
    assert choice == {"index": 0, "message": {"role": "assistant", "content": "abcdefghijab", "refusal": None}, "logprobs": None, "finish_reason": "length"}
    usage = body["usage"]
    assert usage["completion_tokens"] == 12 and usage["total_tokens"] == usage["prompt_tokens"] + 12
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}


def test_stream(server):
    chunks = stream_of(server, "[fake tokens=3]")
    assert [c["choices"][0]["delta"] for c in chunks] == [{"role": "assistant", "content": ""}, {"content": "a"}, {"content": "b"}, {"content": "c"}, {}]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * 4 + ["length"]
    assert all(c["object"] == "chat.completion.chunk" and c["id"] == chunks[0]["id"] and "usage" not in c for c in chunks)


def test_stream_usage(server):
    chunks = stream_of(server, "[fake tokens=3]", stream_options={"include_usage": True})
    assert [c["usage"] for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 3


def test_several_choices(server):
    _, _, body = server.chat("[fake tokens=5]", n=3)
    assert [c["index"] for c in body["choices"]] == [0, 1, 2] and body["usage"]["completion_tokens"] == 15
    chunks = stream_of(server, "[fake tokens=5]", n=3)
    for i in range(3):
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == i]
        assert "".join(c["delta"].get("content", "") for c in mine) == "abcde" and mine[-1]["finish_reason"] == "length"


def test_logprobs(server):
    _, _, body = server.chat("[fake tokens=2]", logprobs=True, top_logprobs=2)
    content = body["choices"][0]["logprobs"]["content"]
    assert [e["token"] for e in content] == ["a", "b"] and content[0]["bytes"] == [97] and content[0]["logprob"] == -0.5
    assert [t["token"] for t in content[1]["top_logprobs"]] == ["a", "b"]
    chunks = stream_of(server, "[fake tokens=2]", logprobs=True)
    assert [c["choices"][0]["logprobs"]["content"][0]["token"] for c in chunks[1:3]] == ["a", "b"]


def test_token_ids(server):
    _, _, body = server.chat("[fake tokens=3]", return_token_ids=True)
    assert body["choices"][0]["token_ids"] == [97, 98, 99]


def test_text_is_escaped(server):
    nasty = 'quote " backslash \\ newline \n tab \t bell \x07 </script>'
    assert nasty in server.chat(nasty + " [fake echo=1]")[2]["choices"][0]["message"]["content"]


def test_health_and_models(server):
    status, _, health = server.get("/health")
    assert status == 200 and health["status"] == "ok" and health["framework"] == "loam" and health["device"] == "fake"
    _, _, models = server.get("/v1/models")
    assert models["object"] == "list" and [m["id"] for m in models["data"]] == [health["model"]]
    _, _, one = server.get("/v1/models/" + health["model"])
    assert one == models["data"][0] and one["object"] == "model" and one["max_model_len"] == one["meta"]["context_length"] == 200000
    assert one["meta"]["quantization"] == {"mode": "affine", "bits": 4, "group_size": 64} and "bits_per_weight" in one["meta"]
    assert set(one["meta"]["capabilities"]) == {"completion", "embedding", "chat", "tools", "reasoning"} and one["meta"]["embedding_dimensions"] == 4
    refused(server.get("/v1/models/other"), 404, "model", "model_not_found")


# ---- reasoning and calls of tools

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}}]
CALLS = ('<think>hmm, let me see</think> B <tool_call>{"name": "f", "arguments": {"x": 1, "s": "e\\n\\"q\\""}}</tool_call>'
         '<tool_call>{"name": "g", "arguments": {}}</tool_call>')


def gather(chunks):
    """A streamed message, put together as clients do."""
    m = {"content": "", "reasoning_content": "", "tool_calls": []}
    for c in chunks:
        d = c["choices"][0]["delta"]
        m["content"] += d.get("content") or ""
        m["reasoning_content"] += d.get("reasoning_content") or ""
        assert d.get("reasoning_content") == d.get("reasoning")
        for t in d.get("tool_calls", []):
            if t["index"] == len(m["tool_calls"]):
                m["tool_calls"].append({"id": t["id"], "type": t["type"], "function": dict(t["function"])})
            else:
                m["tool_calls"][t["index"]]["function"]["arguments"] += t["function"]["arguments"]
    return m, chunks[-1]["choices"][0]["finish_reason"]


def test_calls_and_reasoning(server):
    _, _, body = server.chat("[fake say=1]" + CALLS, tools=TOOLS)
    choice = body["choices"][0]
    message = choice["message"]
    assert message["reasoning_content"] == message["reasoning"] == "hmm, let me see"
    assert message["content"].strip() == "B" and choice["finish_reason"] == "tool_calls"
    first, second = message["tool_calls"]
    assert first["type"] == "function" and len(first["id"]) == 9 and first["id"] != second["id"]
    assert first["function"]["name"] == "f" and json.loads(first["function"]["arguments"]) == {"x": 1, "s": 'e\n"q"'}
    assert second["function"] == {"name": "g", "arguments": "{}"}
    chunks = stream_of(server, "[fake say=1]" + CALLS, tools=TOOLS)
    streamed, reason = gather(chunks)
    ids = [t.pop("id") for t in streamed["tool_calls"]]
    assert len(set(ids)) == 2 and [len(i) for i in ids] == [9, 9] and reason == "tool_calls"
    assert streamed["tool_calls"] == [{k: v for k, v in t.items() if k != "id"} for t in message["tool_calls"]]
    assert streamed["content"] == message["content"] and streamed["reasoning_content"] == message["reasoning_content"]


def test_calls_need_tools(server):
    assert "<tool_call>" in server.chat("[fake say=1]" + CALLS)[2]["choices"][0]["message"]["content"]
    message = server.chat("[fake say=1]" + CALLS, tools=TOOLS, tool_choice="none")[2]["choices"][0]["message"]
    assert "<tool_call>" in message["content"] and "tool_calls" not in message


def test_one_call_at_most(server):
    for stream in (False, True):
        if stream:
            message, reason = gather(stream_of(server, "[fake say=1 delay=1]" + CALLS, tools=TOOLS, parallel_tool_calls=False))
        else:
            choice = server.chat("[fake say=1 delay=1]" + CALLS, tools=TOOLS, parallel_tool_calls=False)[2]["choices"][0]
            message, reason = choice["message"], choice["finish_reason"]
        assert [t["function"]["name"] for t in message["tool_calls"]] == ["f"] and reason == "tool_calls"


def test_reasoning_can_be_left_out(server):
    message = server.chat("[fake say=1]" + CALLS, include_reasoning=False)[2]["choices"][0]["message"]
    assert "reasoning_content" not in message and "hmm" not in message["content"]


# ---- what is refused

@pytest.mark.parametrize("field, value", [
    ("temperature", "warm"), ("temperature", -1), ("temperature", 1e9), ("top_p", 2), ("top_p", "x"), ("max_tokens", 0), ("max_tokens", -5),
    ("max_tokens", 2.5), ("max_tokens", "ten"), ("max_completion_tokens", 0), ("n", 0), ("n", 1000), ("n", True), ("stream", "yes"), ("stream", 1),
    ("seed", "x"), ("seed", 1.5), ("stop", 5), ("stop", [""]), ("stop", ""), ("top_k", -2), ("min_p", 1.5), ("presence_penalty", 3), ("frequency_penalty", "a"),
    ("repetition_penalty", 0), ("logit_bias", []), ("logprobs", 3), ("top_logprobs", 21), ("top_logprobs", -1), ("tools", {}), ("tool_choice", "maybe"),
    ("response_format", "text"), ("user", 5), ("metadata", "x"), ("model", 7), ("messages", "hello"), ("messages", []),
    ("messages", {}), ("chat_template_kwargs", []), ("add_generation_prompt", "no"), ("stream_options", True), ("stop_token_ids", ["a"]),
    ("stop_token_ids", [-1]), ("ignore_eos", 1), ("parallel_tool_calls", "x"), ("reasoning_effort", 3), ("service_tier", "gold"), ("modalities", ["audio"]),
    ("priority", 1.5), ("priority", 2**31), ("cache_salt", ""), ("cache_salt", 5), ("prompt_logprobs", -1), ("prompt_logprobs", 21), ("prompt_logprobs", True), ("echo", "yes"),
])
def test_wrong_values_name_their_field(server, field, value):
    error = refused(server.post("/v1/chat/completions", {"messages": HELLO, field: value}), 400, field if value != [""] else "stop[0]")
    assert f"'{error['param']}'" in error["message"]


@pytest.mark.parametrize("field, value", [
    ("store", True), ("audio", {}), ("prediction", {}), ("web_search_options", {}),
    ("functions", []), ("function_call", "auto"), ("best_of", 2), ("use_beam_search", True), ("modalities", ["text", "audio"]),
])
def test_what_is_not_offered_is_refused_by_name(server, field, value):
    refused(server.post("/v1/chat/completions", {"messages": HELLO, field: value}), 400, field, "unsupported_parameter", f"'{field}'")


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
NOT = {"type": "object", "properties": {"a": {"items": {"not": {}}}}}


def json_schema(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, **more}}


@pytest.mark.parametrize("extra, param, words", [
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name", "Missing"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "Missing"),
    ({"response_format": json_schema(SCHEMA, colour=1)}, "response_format.json_schema.colour", "colour"),
    ({"response_format": json_schema(NOT)}, "response_format", '"/properties/a/items/not"'),
    ({"response_format": json_schema({"$ref": "#/$defs/x"})}, "response_format", '"/$ref": there is nothing'),
    ({"response_format": json_schema({"type": "integer", "minimum": 3, "maximum": 2})}, "response_format", "no text at all"),
    ({"guided_json": {"type": "text"}}, "guided_json", '"/type"'), ({"guided_regex": "(a"}, "guided_regex", "character 1"), ({"guided_regex": "a(?=b)"}, "guided_regex", "character 2"),
    ({"guided_choice": []}, "guided_choice", "array"), ({"guided_grammar": "root ::= a"}, "guided_grammar", "the rule a"), ({"guided_grammar": "x"}, "guided_grammar", "line 1"),
    ({"structured_outputs": {}}, "structured_outputs", "one of"), ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "contradict"),
    ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag", "tools"), ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "response_format", "contradict"), ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
    ({"tool_choice": "required"}, "tool_choice", "no tools"), ({"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": TOOLS}, "tool_choice", "'g'"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function", "Missing"), ({"tool_choice": {"type": "custom", "function": {}}}, "tool_choice.type", "function"),
])
def test_forms_that_cannot_be_honoured(server, extra, param, words):
    error = refused(server.post("/v1/chat/completions", {"messages": HELLO, **extra}), 400, param)
    assert words in error["message"]


@pytest.mark.parametrize("extra", [
    {"response_format": {"type": "json_object"}}, {"response_format": json_schema(SCHEMA, strict=True)}, {"response_format": json_schema(SCHEMA, strict=None, description="x")},
    {"guided_json": json.dumps(SCHEMA)}, {"guided_regex": "a+"}, {"guided_choice": ["a", "b"]}, {"guided_grammar": 'root ::= "a"'}, {"structured_outputs": {"json": SCHEMA}},
    {"structured_outputs": {"json_object": True}}, {"structured_outputs": {"choice": ["x"]}}, {"structured_outputs": {"grammar": "root ::= [a-z]+"}},
])
def test_forms_that_are_taken(server, extra):
    assert server.post("/v1/chat/completions", {"messages": HELLO, **extra})[0] == 200
    assert server.post("/v1/completions", {"prompt": "x", **extra})[0] == 200


def test_unknown_fields(server, start):
    refused(server.post("/v1/chat/completions", {"messages": HELLO, "tempratur": 1}), 400, "tempratur", "unknown_parameter")
    refused(server.post("/v1/chat/completions", {"messages": [{**HELLO[0], "colour": 1}]}), 400, "messages[0].colour", "unknown_parameter")
    assert start("--lenient").post("/v1/chat/completions", {"messages": HELLO, "tempratur": 1})[0] == 200


@pytest.mark.parametrize("field, value", [
    ("user", "u1"), ("metadata", {"a": "b"}), ("safety_identifier", "x"), ("prompt_cache_key", "k"), ("store", False), ("service_tier", "auto"), ("n", 1), ("n", 1.0),
    ("temperature", 0), ("temperature", 2), ("top_p", 0), ("top_p", 1), ("top_k", -1), ("seed", -5), ("seed", 2**62), ("stop", ["a", "b"]), ("stop", None),
    ("max_tokens", None), ("logit_bias", {"50": -100, "51": 3.5}), ("tools", []), ("tool_choice", "none"), ("response_format", {"type": "text"}),
    ("modalities", ["text"]), ("reasoning_effort", "low"), ("chat_template_kwargs", {"enable_thinking": False}), ("min_tokens", 2), ("parallel_tool_calls", True),
    ("max_completion_tokens", 5), ("model", "default"), ("skip_special_tokens", False), ("priority", -5), ("cache_salt", "s"), ("prompt_logprobs", 0), ("echo", True),
])
def test_what_is_taken(server, field, value):
    assert server.post("/v1/chat/completions", {"messages": HELLO, field: value})[0] == 200


@pytest.mark.parametrize("more, param", [
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"), ({"max_tokens": 5, "min_tokens": 6}, "min_tokens"),
    ({"top_logprobs": 3}, "top_logprobs"), ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"), ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
    ({"logit_bias": {"x": 1}}, "logit_bias.x"), ({"logit_bias": {"5": 101}}, "logit_bias.5"), ({"stop": ["s"] * 17}, "stop"), ({"stop": ["a", 5]}, "stop[1]"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"), ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "description": 5}}]}, "tools[0].function.description"), ({"tools": [{"type": "x"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools[0].function.parameters"),
])
def test_wrong_inside(server, more, param):
    refused(server.post("/v1/chat/completions", {"messages": HELLO, **more}), 400, param)


@pytest.mark.parametrize("message, param", [
    ("hello", "messages[1]"), ({"content": "x"}, "messages[1].role"), ({"role": "user"}, "messages[1].content"), ({"role": "narrator", "content": "x"}, "messages[1].role"),
    ({"role": "user", "content": 5}, "messages[1].content"), ({"role": "user", "content": None}, "messages[1].content"),
    ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"), ({"role": "user", "content": ["x"]}, "messages[1].content[0].type"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}, "messages[1].content[0].type"),
    ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}, "messages[1].content[1].type"),
    ({"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{oops"}}]}, "messages[1].tool_calls[0].function.arguments"),
    ({"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}, "messages[1].tool_calls[0].function.name"),
])
def test_wrong_messages(server, message, param):
    refused(server.post("/v1/chat/completions", {"messages": [HELLO[0], message]}), 400, param)


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize("field, most, one_more", [
    ("messages", HELLO * 4096, HELLO * 4097), ("tools", [TOOL] * 256, [TOOL] * 257), ("stop", ["x"] * 16, ["x"] * 17), ("stop_token_ids", [5] * 64, [5] * 65),
    ("logit_bias", {str(i): 0 for i in range(1024)}, {str(i): 0 for i in range(1025)}), ("n", 32, 33), ("top_logprobs", 20, 21),
], ids=lambda v: v if isinstance(v, str) else "")
def test_everything_has_a_limit(server, field, most, one_more):
    body = {"messages": HELLO, "max_tokens": 1, "logprobs": True}
    assert server.post("/v1/chat/completions", {**body, field: most})[0] == 200
    refused(server.post("/v1/chat/completions", {**body, field: one_more}), 400, field, "invalid_value")


def test_messages_reach_the_template(server):
    messages = [
        {"role": "developer", "content": "dev"}, {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None, "function_call": None,
         "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"}, {"role": "user", "name": "ann", "content": "end"},
    ]
    _, _, body = server.post("/apply-template", {"messages": messages})
    assert body == {"prompt": "<system>dev\n<user>one\ntwo\n<assistant>\n<tool>42\n<user>end\n<assistant>"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert "<tools>" in server.post("/apply-template", {"messages": HELLO, "tools": tools})[2]["prompt"]
    assert "<tools>" not in server.post("/apply-template", {"messages": HELLO, "tools": tools, "tool_choice": "none"})[2]["prompt"]
    assert server.post("/apply-template", {"messages": HELLO, "add_generation_prompt": False})[2]["prompt"] == "<user>hello\n"
    half = [*HELLO, {"role": "assistant", "content": "The answer is "}]
    assert server.post("/apply-template", {"messages": half, "continue_final_message": True})[2]["prompt"] == "<user>hello\n<assistant>The answer is "


def test_template_speaks_for_itself(server):
    error = refused(server.post("/v1/chat/completions", {"messages": HELLO, "chat_template_kwargs": {"complain": "roles must alternate"}}), 400, "messages", "template_error")
    assert error["message"] == "roles must alternate"


def test_models_and_names(start):
    s = start("--served-model-name", "first", "--served-model-name", "second/name")
    assert [m["id"] for m in s.get("/v1/models")[2]["data"]][:2] == ["first", "second/name"]
    assert s.get("/v1/models/second%2Fname")[2]["id"] == "second/name" == s.get("/v1/models/second/name")[2]["id"]
    assert s.chat(model="second/name")[2]["model"] == "second/name" and s.chat()[2]["model"] == "first"
    refused(s.chat(model="gpt-4"), 404, "model", "model_not_found", "gpt-4")


def test_prompt_too_long(start):
    s = start("--context", 500)
    refused(s.chat("x" * 1000), 400, "messages", "context_length_exceeded")
    refused(s.post("/v1/completions", {"prompt": "x" * 1000}), 400, "prompt", "context_length_exceeded")


@pytest.mark.parametrize("text", [
    b"", b"{", b"[]", b"5", b"null", b'{"messages":[}', b'{"messages":[],}', b'{"a":1}{"b":2}', b'{"messages":"\xff"}', b"\x00", b'{"a":"\\u0000"}', b'{"a":"\\ud800"}',
    b'{"seed":1e999}', b'{"seed":NaN}', b'{"seed":123456789012345678901234567890}', b'{"model":"a","model":"b"}', b"[" * 100_000, b'{"a":' * 100_000,
    b'{"messages":' + b"[" * 3000 + b"]" * 3000 + b"}",
], ids=lambda t: repr(t[:24]))
def test_not_json(server, text):
    status, _, body = server.post("/v1/chat/completions", text)
    assert status == 400 and body["error"]["code"] in ("invalid_json", "unknown_parameter", "invalid_value"), body
    assert server.health()["status"] == "ok"


# ---- text completions and tokens

def test_completions(server):
    _, _, body = server.post("/v1/completions", {"prompt": "one [fake tokens=4]"})
    assert body["object"] == "text_completion" and body["choices"][0]["text"] == "abcd" and body["choices"][0]["finish_reason"] == "length"
    _, _, body = server.post("/v1/completions", {"prompt": ["a", "bc", "[fake tokens=30]"], "n": 2, "echo": True})
    assert [c["text"] for c in body["choices"]] == ["aabcdefgh"] * 2 + ["bcabcdefgh"] * 2 + ["[fake tokens=30]abcdefghijabcdef"] * 2
    assert body["usage"]["prompt_tokens"] == 19
    _, _, body = server.post("/v1/completions", {"prompt": [104, 105], "echo": True})
    assert body["choices"][0]["text"] == "hiabcdefgh"
    _, _, body = server.post("/v1/completions", {"prompt": [[104], [105]], "max_tokens": 1, "logprobs": 2})
    assert body["choices"][1]["logprobs"] == {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "b": -1.5}], "text_offset": [0]}
    chunks = stream_of(server, "", "/v1/completions", messages=None, prompt="[fake tokens=3]", echo=True)
    assert [c["choices"][0]["text"] for c in chunks] == ["[fake tokens=3]", "a", "b", "c", ""]
    chunks = stream_of(server, "", "/v1/completions", messages=None, prompt="[fake tokens=3]", logprobs=1)
    assert [c["choices"][0]["logprobs"]["text_offset"] for c in chunks] == [[0], [1], [2], []]


@pytest.mark.parametrize("body, param", [
    ({}, "prompt"), ({"prompt": 5}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": ""}, "prompt"), ({"prompt": ["a", 5]}, "prompt[1]"), ({"prompt": [1, "a"]}, "prompt[1]"),
    ({"prompt": [-1]}, "prompt[0]"), ({"prompt": [99999]}, "prompt"), ({"prompt": ["a"] * 65}, "prompt"), ({"prompt": ["a"] * 20, "n": 10}, "n"), ({"prompt": "a", "suffix": "b"}, "suffix"),
    ({"prompt": "a", "logprobs": True}, "logprobs"), ({"prompt": "a", "messages": []}, "messages"), ({"prompt": [[]]}, "prompt[0]"),
])
def test_wrong_completions(server, body, param):
    refused(server.post("/v1/completions", body), 400, param)


def test_tokenize(server):
    assert server.post("/tokenize", {"prompt": "hé"})[2] == {"tokens": [104, 195, 169], "count": 3, "max_model_len": 200000}
    assert server.post("/tokenize", {"content": "hi", "return_token_strs": True})[2]["token_strs"] == ["h", "i"]
    assert server.post("/tokenize", {"messages": HELLO})[2]["count"] == len("<user>hello\n<assistant>")
    assert server.post("/detokenize", {"tokens": [104, 105]})[2] == {"prompt": "hi", "content": "hi"}
    refused(server.post("/tokenize", {}), 400, "prompt")
    refused(server.post("/tokenize", {"prompt": "a", "messages": HELLO}), 400, "prompt")
    refused(server.post("/detokenize", {"tokens": [104, "x"]}), 400, "tokens[1]")
    refused(server.post("/detokenize", {"tokens": [99999]}), 400, "tokens")
    refused(server.post("/detokenize", {}), 400, "tokens", "missing_required_parameter")


def test_score(server):
    _, _, body = server.post("/v1/score", {"prompt": "one ", "continuation": "two"})
    assert body["tokens"] == ["t", "w", "o"] and body["token_ids"] == [116, 119, 111] and body["token_logprobs"] == [-1, -1, -1] and body["logprob"] == -3
    assert body["usage"]["prompt_tokens"] == 7
    assert server.post("/v1/score", {"messages": HELLO, "continuation": [104, 105]})[2]["tokens"] == ["h", "i"]
    refused(server.post("/v1/score", {"prompt": "a"}), 400, "continuation", "missing_required_parameter")
    refused(server.post("/v1/score", {"continuation": "a"}), 400, "prompt")
    refused(server.post("/v1/score", {"prompt": "a", "continuation": ""}), 400, "continuation")
    refused(server.post("/v1/score", {"prompt": "", "continuation": "a"}), 400, "prompt")
    refused(server.post("/v1/score", {"prompt": "a", "continuation": 5}), 400, "continuation")


# ---- browsers

def test_host_header_against_rebinding(server, start):
    for host in ("localhost", "127.0.0.1:8000", "[::1]:80", "LOCALHOST:1", "app.localhost", "127.9.9.9"):
        assert server.get("/health", headers={"Host": host})[0] == 200, host
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.5", "", "[::1", "0x7f.1"):
        refused(server.get("/health", headers={"Host": host}), 403, None, "host_not_allowed")
    assert b" 403 " in server.raw(b"GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert start("--allow-host", "my.box").get("/health", headers={"Host": "my.box:80"})[0] == 200


def test_origin(server, start):
    own = f"http://127.0.0.1:{server.port}"
    body = {"messages": HELLO}
    assert server.post("/v1/chat/completions", body, headers={"Origin": own})[0] == 200
    for origin in ("http://evil.example", "null", "https://127.0.0.1", f"http://127.0.0.1:{server.port + 1}"):
        refused(server.post("/v1/chat/completions", body, headers={"Origin": origin}), 403, None, "origin_not_allowed")
    status, headers, _ = server.get("/health", headers={"Origin": "http://evil.example"})
    assert status == 200 and "Access-Control-Allow-Origin" not in headers
    s = start("--cors-origin", "https://app.example")
    status, headers, _ = s.post("/v1/chat/completions", body, headers={"Origin": "https://app.example"})
    assert status == 200 and headers["Access-Control-Allow-Origin"] == "https://app.example" and headers["Vary"] == "Origin"
    status, headers, _ = s.request("OPTIONS", "/v1/chat/completions", headers={"Origin": "https://app.example", "Access-Control-Request-Headers": "x-a, authorization"})
    assert status == 204 and "POST" in headers["Access-Control-Allow-Methods"] and headers["Access-Control-Allow-Headers"] == "x-a, authorization"
    assert s.request("OPTIONS", "/v1/chat/completions", headers={"Origin": "https://evil.example"})[0] == 403
