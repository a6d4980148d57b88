"""Conversations of every shape that a client may send, for chat templates to render."""

import itertools
import random

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather at a place.\nIn °C or °F.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "Name of the city"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius", "description": "Unit"},
            "days": {"type": "integer", "description": "How many days", "minimum": 1},
            "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}, "required": ["lat"]},
            "tags": {"type": "array", "items": {"type": "string"}, "description": "Tags"},
            "either": {"type": ["string", "null"], "description": "Nullable"},
        }, "required": ["city"]},
        "return": {"type": "string", "description": "The weather"}}},
    {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}},
]
SIMPLE_TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather at a place", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "The city"}, "days": {"type": "integer", "description": "Days"}}, "required": ["city"]}}}]
ODD_TOOLS = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {
    "type": "object", "properties": {"x": {"oneOf": [{"type": "object", "default": {"a": 1}}, {"type": "string", "description": "d"}]},
                                     "y": {"type": "array", "items": {"type": "object", "properties": {"z": {"type": "boolean"}}}},
                                     "z": {"description": "no type"}}}}}]


def call(name, arguments, id="call00001"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


S = {"role": "system", "content": "You are terse."}
U = {"role": "user", "content": "Hello <there> & 'you' \"all\" {{ x }} {% if %}"}
A = {"role": "assistant", "content": "Hi! ünïcödé 你好 🎉"}
U2 = {"role": "user", "content": "  padded \n\n"}
THOUGHT = {"role": "assistant", "content": "<think>\nmany\nthoughts\n</think>\n\nThe answer is 4."}
REASONED = {"role": "assistant", "content": "4", "reasoning_content": "2 and 2\nis 4", "thinking": "2 and 2\nis 4", "reasoning": "2 and 2\nis 4"}
CALLED = {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"city": "Zürich", "days": 3, "where": {"lat": 1.5}, "ok": True, "none": None})]}
CALLED_NULL = {"role": "assistant", "content": None, "tool_calls": [call("now", {})]}
CALLED_TEXT = {"role": "assistant", "content": "Let me look.", "tool_calls": [call("get_weather", '{"city": "Oslo"}')]}
CALLED_TWO = {"role": "assistant", "content": "", "reasoning_content": "both", "thinking": "both", "tool_calls": [
    call("get_weather", {"city": "a\"b\\c\n"}, "abcdefghi"), call("now", {"l": [1, "x", {"y": []}], "e": {}}, "jklmnopqr")]}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": '{"t": 21.5}'}
RESULT2 = {"role": "tool", "name": "now", "tool_call_id": "abcdefghi", "content": "12:00"}
RESULT3 = {"role": "tool", "name": "now", "tool_call_id": "jklmnopqr", "content": "12:01"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": "this?"}]}
IMAGE = {"role": "user", "content": [{"type": "image", "image": "x.png"}, {"type": "image_url", "image_url": {"url": "u"}}, {"type": "text", "text": "Describe"}]}
EMPTY = {"role": "user", "content": ""}
DEVELOPER = {"role": "developer", "content": "Developer says."}

CHATS = {
    "user": [U], "system": [S, U], "turns": [S, U, A, U2], "no-system-turns": [U, A, U2, A, U], "assistant-last": [U, A],
    "assistant-last-system": [S, U, A], "thought": [U, THOUGHT, U2], "thought-last": [S, U, THOUGHT], "reasoned": [U, REASONED, U2],
    "reasoned-last": [U, REASONED], "called": [U, CALLED], "called-result": [S, U, CALLED, RESULT], "called-answered": [U, CALLED, RESULT, A],
    "called-answered-more": [S, U, CALLED, RESULT, A, U2], "called-null": [U, CALLED_NULL, RESULT], "called-text": [U, CALLED_TEXT, RESULT],
    "called-two": [U, CALLED_TWO, RESULT2, RESULT3], "called-two-answered": [S, U, CALLED_TWO, RESULT2, RESULT3, REASONED, U2],
    "called-twice": [U, CALLED, RESULT, CALLED_NULL, RESULT, A], "parts": [S, PARTS], "image": [IMAGE], "image-turns": [IMAGE, A, PARTS],
    "empty": [EMPTY], "empty-system": [{"role": "system", "content": ""}, U], "empty-assistant": [U, {"role": "assistant", "content": ""}, U],
    "null-assistant": [U, {"role": "assistant", "content": None}, U], "no-content": [U, {"role": "assistant"}, U2],
    "no-messages": [], "only-system": [S], "only-assistant": [A], "two-users": [U, U2], "two-assistants": [U, A, A], "system-later": [U, A, S, U2],
    "two-systems": [S, S, U], "developer": [DEVELOPER, U], "odd-role": [{"role": "narrator", "content": "Once"}, U], "tool-first": [RESULT, U],
    "tool-only": [U, RESULT], "no-role": [{"content": "x"}], "text-is-number": [{"role": "user", "content": 5}],
    "system-parts": [{"role": "system", "content": [{"type": "text", "text": "Sys"}]}, U],
    "tool-parts": [U, CALLED, {"role": "tool", "tool_call_id": "call00001", "content": [{"type": "text", "text": "part"}]}],
    "channel": [U, {"role": "assistant", "content": "<|channel|>analysis<|message|>x"}, U],
    "think-switch": [{"role": "system", "content": "/no_think be good"}, {"role": "user", "content": "/think hm"}],
    "long": [m for _ in range(6) for m in (U, A)] + [U],
    "named": [{"role": "user", "name": "bob", "content": "hi"}],
    "plan": [U, {"role": "assistant", "content": "after", "tool_plan": "I will", "tool_calls": CALLED["tool_calls"]}, RESULT],
    "bare-call": [U, {"role": "assistant", "content": "", "tool_calls": [{"name": "now", "arguments": {}}]}, RESULT],
}

EXTRAS = [
    {}, {"enable_thinking": True}, {"enable_thinking": False}, {"thinking": True}, {"reasoning_effort": "high"}, {"reasoning_effort": "low"},
    {"tool_choice": "none"}, {"documents": [{"title": "T", "text": "Body", "doc_id": 1, "content": "c"}]}, {"thinking_budget": 512},
    {"thinking_budget": 0}, {"builtin_tools": ["browser", "python"]}, {"model_identity": "I am."}, {"date_string": "1 Jan 2025"},
    {"controls": {"length": "short", "citations": True}}, {"response_format": {"type": "object"}}, {"enable_citations": True},
    {"xml_tools": ["def f(): pass"]}, {"python_tools": ["def g(): pass"]}, {"custom_tools": TOOLS}, {"tools_in_user_message": False},
    {"preserve_thinking": True, "preserved_thinking": True, "keep_past_thinking": True}, {"think_render_option": "all"},
    {"continue_final_message": True}, {"deliberation": True, "capabilities": None}, {"is_training": True},
    {"use_json_tooldef": True}, {"system_prompt": "P", "model_identity": None}, {"drop_thinking": False, "thinking": True},
    {"tools": None}, {"builtin_tools": ["code_interpreter", "web_search"]}, {"safety_mode": "strict"},
]

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def cases(extra_everywhere=False):
    """Variables for a template: every chat with and without tools, a prompt and the options."""
    for (name, chat), tools, prompt in itertools.product(CHATS.items(), (None, TOOLS), (True, False)):
        v = {"messages": chat, "add_generation_prompt": prompt, **TOKENS}
        yield {**v, "tools": tools} if tools else v
    for name in ("turns", "called-two-answered", "thought", "user") if not extra_everywhere else CHATS:
        for extra, tools in itertools.product(EXTRAS, (None, TOOLS)):
            v = {"messages": CHATS[name], "add_generation_prompt": True, **TOKENS}
            if tools:
                v["tools"] = tools
            yield {**v, **extra}
    for chat in CHATS.values():
        yield {"messages": chat, "tools": SIMPLE_TOOLS, "add_generation_prompt": True, **TOKENS}
    yield {"messages": CHATS["turns"], "tools": ODD_TOOLS, **TOKENS}
    yield {"messages": CHATS["called"], "tools": [], **TOKENS}
    yield {"messages": CHATS["turns"]}
    yield {}


def random_chats(seed, n):
    """Chats put together at random."""
    rng = random.Random(seed)
    pool = [S, U, A, U2, THOUGHT, REASONED, CALLED, CALLED_NULL, CALLED_TEXT, CALLED_TWO, RESULT, RESULT2, PARTS, IMAGE, EMPTY, DEVELOPER]
    for _ in range(n):
        chat = [rng.choice(pool) for _ in range(rng.randint(1, 7))]
        if rng.random() < 0.8:
            chat.insert(0, U)
        v = {"messages": chat, "add_generation_prompt": rng.random() < 0.5, **TOKENS, **rng.choice(EXTRAS)}
        if rng.random() < 0.5:
            v["tools"] = rng.choice([TOOLS, SIMPLE_TOOLS, ODD_TOOLS])
        yield v
