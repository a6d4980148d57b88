"""Random JSON Schemas: whatever the masks let through is valid, says python-jsonschema.

hypothesis makes the schemas (hypothesis-jsonschema makes values of a schema, and does not run with today's hypothesis); tests/golden/grammar.c makes texts by choosing at random
among what the masks allow, with SmolLM2's real vocabulary, and holds each mask against asking for its tokens one by one.
LOAM_SCHEMAS says how many (300).
"""

import collections
import json
import os
import re

import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

HOW_MANY = int(os.environ.get("LOAM_SCHEMAS", "300"))
LEAST_HONOURED = 0.5  # of schemas drawn at random, which say much that contradicts itself: 0.59 and 0.65 were seen


def walk(loam, model, cases, timeout=600):
    lines = "\n".join(json.dumps(c) for c in cases) + "\n"
    return [json.loads(line) for line in loam.helper("golden/grammar", model, stdin=lines, timeout=timeout).split("\n") if line]


NAMES = st.sampled_from(["a", "b", "name", "naïve \"key\"", "été", "x/y~z", ""])
SMALL, COUNT = st.integers(-1000, 1000), st.integers(0, 12)
BOUND = SMALL | st.floats(-100, 100, allow_nan=False) | st.decimals(-9, 9, places=2).map(float) | st.sampled_from([0, -1, 0.5, 10**15])
SCALAR = SMALL | st.text(max_size=6) | st.booleans() | st.none() | st.sampled_from([0.1, -2.5, 1e20])
PATTERNS = st.sampled_from(["^[a-z]+$", "^\\d{3}-\\d{4}$", "a|bc", "^(x|yy)*$", "^[^\"]{2,5}$", "\\S+@\\S+", "é.[\\n-~]", "^\\D\\W\\w*$"])
FORMATS = st.sampled_from(["date", "time", "date-time", "uuid", "email", "ipv4", "ipv6", "hostname", "uri", "duration"])
TYPES = ["null", "boolean", "string", "integer", "number", "object", "array"]


def just(must, **may):
    """Objects with all of must and some of may."""
    return st.fixed_dictionaries(must, optional=may)


def schemas(depth):
    """JSON Schemas, nested so deep."""
    kinds = [
        just({"type": st.sampled_from(TYPES)}),
        just({"type": st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True)}),
        just({"enum": st.lists(SCALAR, min_size=1, max_size=4)}),
        just({"const": SCALAR}),
        just({"type": st.just("string")}, minLength=COUNT, maxLength=COUNT),
        just({"type": st.just("string"), "pattern": PATTERNS}, minLength=COUNT, maxLength=COUNT),
        just({"type": st.just("string"), "format": FORMATS}, maxLength=st.integers(5, 60)),
        just({"type": st.sampled_from(["integer", "number"])}, minimum=BOUND, maximum=BOUND, exclusiveMinimum=BOUND, exclusiveMaximum=BOUND),
        just({"type": st.just("integer"), "multipleOf": st.integers(1, 30)}),
    ]
    if depth == 0:
        return st.one_of(kinds)
    inner = schemas(depth - 1)
    properties, required = st.dictionaries(NAMES, inner, max_size=4), st.lists(NAMES, max_size=3, unique=True)
    some = st.lists(inner, min_size=1, max_size=3)
    kinds += [
        just({"type": st.just("object"), "properties": properties}, required=required, minProperties=st.integers(0, 3)),
        just({"type": st.just("object")}, properties=properties, required=required, additionalProperties=inner | st.booleans(),
             minProperties=st.integers(0, 2), maxProperties=st.integers(2, 5)),
        just({"type": st.just("array"), "items": inner}, minItems=st.integers(0, 3), maxItems=st.integers(3, 9)),
        just({"type": st.just("array"), "prefixItems": some}, items=inner | st.booleans(), minItems=st.integers(0, 5), maxItems=COUNT),
        just({"anyOf": some}), just({"allOf": some}), just({"oneOf": some}),
        just({"properties": properties, "allOf": some}, type=st.just("object")),
        just({"properties": properties, "anyOf": some}, type=st.just("object"), required=required),
        just({"oneOf": some}, type=st.sampled_from(TYPES)),
    ]
    return st.one_of(kinds)


def random_schemas(n):
    found = []

    @seed(20)
    @settings(max_examples=n, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(schemas(2))
    def collect(schema):
        found.append(schema)

    collect()
    return list({json.dumps(s, sort_keys=True): s for s in found}.values())


def check(schema, text):
    """The reference's word on a text; numbers are read as any JSON reader reads them."""
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    validator.validate(json.loads(text))


WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 14}, "unit": {"type": "string", "enum": ["C", "F"]},
                                            "where": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"], "additionalProperties": False}},
           "required": ["city", "unit"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}, {"type": "function", "function": {"name": "now"}}]
PARAMETERS = {"get_weather": WEATHER, "now": {"type": "object", "maxProperties": 0}}
HINTS = {"qwen-coder": "\n</parameter>", "glm": "</arg_value>", "hunyuan": "</arg_value:opensource>", "seed": "</parameter>", "minimax-m2": "</parameter>", "harmony": "<|end|>"}
# Words that the families are known by (src/text/format.c), and what may not be forced.
FAMILIES = {
    "hermes": "<tool_call> </think>", "qwen-coder": "<tool_call><function=<parameter=", "llama": "<|start_header_id|>ipython", "glm": "<tool_call><arg_key></think>",
    "harmony": "<|channel|><|message|>", "mistral": "[TOOL_CALLS][/THINK]", "kimi": "<|tool_calls_section_begin|>", "deepseek": "<｜tool▁calls▁begin｜></think>",
    "cohere": "<|START_ACTION|><|END_THINKING|>", "solar": "<|tool_call:begin|><|tool_call:args|><|think|>", "functionary": "<function=<|python_tag|>",
    "apertus": "<|tools_prefix|><|inner_suffix|>", "gigachat": "function call<|role_sep|>", "nemotron": "<TOOLCALL></think>", "granite": "<|tool_call|></think>",
    "hunyuan": "<tool_call{}></think{}>:opensource", "seed": "<seed:tool_call></seed:think>", "minimax-m2": "<minimax:tool_call></think>",
}
NOT_FORCED = {"lfm2": "<|tool_list_start|>", "dsml": "｜DSML｜</think>", "minimax": "]<]minimax[>[</mm:think>", "muse": "<atem:function_calls><|message|>", "none": "plain"}


def read_back(loam, template, prompt, texts):
    lines = "\n".join(json.dumps({"template": template, "prompt": prompt, "tools": TOOLS, "pieces": [t]}) for t in texts) + "\n"
    return [json.loads(line) for line in loam.helper("golden/reply", stdin=lines).split("\n") if line]


@pytest.mark.parametrize("name", FAMILIES)
def test_forced_calls_are_read_back(loam, smollm2, name):
    """What the grammar of a family's calls lets through, the family's parser reads: known tools, arguments of their schema."""
    template, cases = FAMILIES[name], []
    prompt = "<|start|>assistant" if name == "harmony" else "user\n"
    for i in range(12):
        cases.append({"template": template, "prompt": prompt, "tools": TOOLS, "must_call": True, "seed": i, "most": 40, "ascii": True,
                      "one_call": i % 2 == 0, **({"tool": "get_weather"} if i % 3 == 0 else {}), **({"hint": HINTS[name]} if name in HINTS else {})})
    made = walk(loam, smollm2, cases)
    ended = [(c, got["text"]) for c, got in zip(cases, made, strict=True) if got.get("ended")]
    assert len(ended) >= 4, made
    for (case, text), read in zip(ended, read_back(loam, template, prompt, [t for _, t in ended]), strict=True):
        assert read["format"] == name and read["calls"], (text, read)
        assert not read["content"].strip(), (text, read)
        assert len(read["calls"]) == 1 or not case["one_call"], (text, read)
        for one in read["calls"]:
            assert one["name"] == case.get("tool", one["name"])
            jsonschema.validate(json.loads(one["arguments"]), PARAMETERS[one["name"]])


@pytest.mark.parametrize("name", NOT_FORCED)
def test_what_cannot_be_forced_says_so(loam, smollm2, name):
    got = walk(loam, smollm2, [{"template": NOT_FORCED[name], "prompt": "", "tools": TOOLS, "must_call": True}])[0]
    assert name in got["error"] and got["code"] == -5


def test_text_with_calls_in_it(loam, smollm2):
    """Under "auto" text is free until a call begins; then the call is one."""
    form = {"template": "<tool_call>", "prompt": "", "tools": TOOLS}
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "x", "unit": "C"}}\n</tool_call>'
    takes = {"Hello <tool> {": True, f"Let me look. {call}": True, f"{call}\n{call} done": True, "<tool_call>\n{}": False, call.replace("get_weather", "nope"): False, call[:-3]: False}
    got = walk(loam, smollm2, [{**form, "text": t} for t in takes])
    assert {t: g["takes"] for t, g in zip(takes, got, strict=True)} == takes
    assert not walk(loam, smollm2, [{**form, "one_call": True, "text": call + call}])[0]["takes"]


def test_reasoning_comes_first(loam, smollm2):
    form = {"template": "</think>", "content": '%json {"type": "integer"}'}
    cases = [("user\n", "12", True), ("user\n", "<think>\nhm { </thin\n</think>\n\n12", True), ("user\n", "<think>x</think>no", False), ("a <think>\n", "x y</think>7", True),
             ("a <think>\n", "7", False), ("a <think>\n\n</think>\n\n", "7", True), ("a <think>\n\n</think>\n\n", "<think>", False)]
    got = walk(loam, smollm2, [{**form, "prompt": p, "text": t} for p, t, _ in cases])
    assert [g["takes"] for g in got] == [want for _, _, want in cases]


REGEXES = ["[a-c]+x?", "(ab|a)(c|bcd)*", "a{2,4}b{0,1}c{3}", "(?:x|yz){2,}", "[^abc]{1,3}", "\\d+(?:\\.\\d*)?", "(?P<n>a*)b|c", "[\\w.-]+@[\\w-]+", "(a|b)*abb", "\\s*[+-]?\\d{1,3}",
           "a|b|", "[]a-]+", "(?:a?){3}a{3}", "x(?:ab{1,2}?c)*?y", ".a.", "\\x41\\u00e9\\.", "^(a|^b)$", "(a+)+b", "é|[à-ü]{2}", "a{300}|b{2}", "{x}|a{,2}"]


@pytest.mark.parametrize("regex", REGEXES)
def test_regular_expressions_are_pythons(loam, smollm2, regex):
    """Texts by the masks match; and of random texts the same are taken."""
    alphabet = "abcdxyz019.-+@ {}é,&]A\n"

    @seed(3)
    @settings(max_examples=80, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(st.text(alphabet, max_size=7) | st.from_regex(re.compile(regex, re.ASCII), fullmatch=True, alphabet=st.sampled_from(alphabet + "bcàü")))
    def collect(text):
        texts.add(text)

    texts = set()
    collect()
    texts = sorted(texts)
    cases = [{"kind": "regex", "source": regex, "seed": i, "most": 8} for i in range(8)] + [{"kind": "regex", "source": regex, "text": t} for t in texts]
    made = walk(loam, smollm2, cases)
    for got in made[:8]:
        assert not got["stuck"] and (not got["ended"] or re.fullmatch(regex, got["text"])), got
    assert {t: g["takes"] for t, g in zip(texts, made[8:], strict=True)} == {t: bool(re.fullmatch(regex, t, re.ASCII)) for t in texts}


@pytest.mark.heavy
def test_random_schemas(loam, smollm2):
    schemas = random_schemas(HOW_MANY)
    assert len(schemas) > HOW_MANY * 0.6
    made = walk(loam, smollm2, [{"kind": "json_schema", "source": s, "seed": i, "most": 60} for i, s in enumerate(schemas)])
    why, valid = collections.Counter(), 0
    for schema, got in zip(schemas, made, strict=True):
        if "error" in got:
            assert got["error"] == "no text at all can satisfy it" or '"/' in got["error"], got["error"]
            why[got["error"].rpartition('": ')[2][:60]] += 1
            continue
        assert not got["stuck"], (schema, got)
        if got["ended"]:
            check(schema, got["text"])
            valid += 1
        else:
            why["did not end"] += 1
    print(f"{len(schemas)} schemas, {valid} valid texts;", dict(why))
    assert why["did not end"] <= len(schemas) * 0.05  # of 60 tokens drawn at random
    assert valid >= len(schemas) * LEAST_HONOURED
