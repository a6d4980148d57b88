"""What a template writes for a past answer, the parser reads back: text, reasoning, the same calls.

The template renders a conversation up to the question, and the same with the answer; what the second has more is what
the model would have said. It is cut into two pieces and into single characters.
"""

import json
import os

import pytest

from golden import conversations as c
from golden.jinja_reference import Raised, reference
from golden.test_templates import FILES

ENDS = ["<|im_end|>", "</s>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<|role_end|>", "<|assistant_end|>",
        "<seed:eos>", "</assistant>", "[e~[", "<｜hy_eos:opensource｜>", "<SPECIAL_12>", "<|return|>", "<|end|>\n", "<end_of_turn>", "<|eot|>"]

# What each template is known by, and what of an answer it writes at all.
EXPECTED = {
    "Apertus-8B-Instruct": "apertus", "ByteDance-Seed-OSS": "seed", "CohereForAI-c4ai-command-r7b-12-2024-tool_use": "cohere", "GigaChat3-10B-A1.8B": "gigachat",
    "HuggingFaceTB-SmolLM3-3B": "none", "Kimi-K2-Instruct": "kimi", "LFM2-8B-A1B": "lfm2", "MiMo-VL": "hermes", "MiniMax-M3": "minimax", "NVIDIA-Nemotron-Nano-v2": "nemotron",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": "hermes", "Qwen-QwQ-32B": "hermes", "Qwen-Qwen2.5-7B-Instruct": "hermes", "Qwen-Qwen3-0.6B": "hermes", "Qwen3-Coder": "qwen-coder",
    "Spark2.5": "glm", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "deepseek", "deepseek-ai-DeepSeek-V4-Flash-0731": "dsml", "google-gemma-2-2b-it": "none",
    "ibm-granite-granite-3.3-2B-Instruct": "granite", "inclusionai-ling-3.0-flash": "glm", "meetkai-functionary-medium-v3.1": "functionary", "meta-llama-Llama-3.1-8B-Instruct": "llama",
    "meta-llama-Llama-3.2-3B-Instruct": "llama", "microsoft-Phi-3.5-mini-instruct": "none", "mistralai-Ministral-3-14B-Reasoning-2512": "mistral", "mistralai-Mistral-Nemo-Instruct-2407": "mistral",
    "muse-glimmer": "muse", "openai-gpt-oss-120b": "harmony", "poolside-Laguna-S-2.1": "glm", "tencent-Hy3": "hunyuan", "upstage-Solar-Open-100B": "solar",
}
NO_CALLS = {"none", "lfm2", "granite"}                     # the template has no way to write a past call
# Kimi's template appends to a list, which transformers' sandbox forbids: rendered without that line.
UNSAFE = ("{%- set _ = tool_response_queue.ids.append(formatted_id) -%}", "")

WEATHER = c.call("get_weather", {"city": "Zürich \"x\"", "days": 3, "where": {"lat": 1.5}, "tags": ["a", "b"]}, "call00001")
NOW = c.call("now", {}, "call00002")
CITY = c.call("get_weather", {"city": "a < b {c} & 你好\nline two"}, "abcdefghi")
TEXT = "Let me see: {\"a\": 1} <b> and [x]."
ANSWERS = {
    "text": {"content": TEXT},
    "one": {"content": "", "tool_calls": [WEATHER]},
    "empty": {"content": "", "tool_calls": [NOW]},
    "lines": {"content": "", "tool_calls": [CITY]},
    "two": {"content": "", "tool_calls": [WEATHER, NOW]},
    "text-and-call": {"content": "Let me look.", "tool_calls": [CITY]},
    "reasoned": {"content": "It is 4.", "reasoning_content": "2 and 2.\n\nSo 4"},
    "reasoned-call": {"content": "", "reasoning_content": "I need\nthe weather", "tool_calls": [WEATHER]},
}


def said(template, answer, extra):
    """The prompt and the answer's text, or None where the template does not write such an answer."""
    for tools in (c.TOOLS, c.SIMPLE_TOOLS):
        v = {**c.TOKENS, "tools": tools, "enable_thinking": True, "thinking": True, "drop_thinking": False, **extra}
        prompt = reference(template, {**v, "messages": [c.U], "add_generation_prompt": True})
        whole = reference(template, {**v, "messages": [c.U, answer], "add_generation_prompt": False})
        if isinstance(prompt, str) and isinstance(whole, str):
            break
    else:
        return None
    same = len(os.path.commonprefix([prompt, whole]))
    if same < len(prompt):                                 # not within a marker that both have the beginning of
        line = whole.rfind("\n", 0, same) + 1
        while whole.count("<", line, same) > whole.count(">", line, same):
            same = whole.rfind("<", 0, same)
    text = whole[same:]
    ends = [i for i in (text.find(e) for e in ENDS) if i >= 0]
    return whole[:same], text[:min(ends)] if ends else text


def take_apart(loam, requests):
    lines = "".join(json.dumps(r) + "\n" for r in requests)
    return [json.loads(line) for line in loam.helper("golden/reply", stdin=lines).split("\n")[:-1]]


def cuts(text, every):
    yield [text]
    yield list(text)
    for i in range(1, len(text), every):
        yield [text[:i], text[i:]]


def cases(template):
    for name, answer in ANSWERS.items():
        answer = {"role": "assistant", **answer}
        if "reasoning_content" in answer:
            answer["reasoning"] = answer["thinking"] = answer["reasoning_content"]
        for extra in ({}, {"preserve_thinking": True, "preserved_thinking": True, "reasoning_effort": "high"}):
            both = said(template, answer, extra)
            if both:
                yield name, answer, *both
                break


def calls_of(answer):
    return [(call["function"]["name"], call["function"]["arguments"]) for call in answer.get("tool_calls", [])]


@pytest.mark.skipif(not FILES, reason="no ../shared/data/templates beside this checkout")
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_round_trip(loam, file):
    template = file.read_text().replace(*UNSAFE)
    kind = EXPECTED[file.stem]
    seen = set()
    for name, answer, prompt, text in cases(template):
        rendered = [part for part in (answer["content"], answer.get("reasoning_content")) if part and part in text]
        want_calls = calls_of(answer)
        written = [call for call in want_calls if call[0] in text]
        if kind in NO_CALLS and want_calls:
            continue
        want_calls = written if len(written) < len(want_calls) else want_calls
        pieces = [*cuts(text, 1 if name == "one" else 5)]
        requests = [{"template": template, "prompt": prompt, "tools": c.TOOLS, "pieces": p} for p in pieces]
        results = take_apart(loam, requests)
        first = results[0]
        assert first["format"] == kind
        for cut, other in zip(pieces, results):
            assert other == first, cut
        assert [(call["name"], json.loads(call["arguments"])) for call in first["calls"]] == want_calls, text
        if answer["content"] != first["reasoning"].strip(): # a template may write text as reasoning
            assert first["content"] == (answer["content"] if answer["content"] in rendered else ""), text
        if answer.get("reasoning_content") in rendered:
            assert first["reasoning"] == answer["reasoning_content"], text
            seen.add("reasoning")
        seen.add(name)
        if kind not in ("none",):                          # without tools nothing is a call, and nothing is lost
            off = take_apart(loam, [{"template": template, "prompt": prompt, "tools": None, "pieces": [text]}])[0]
            assert not off["calls"]
    assert "text" in seen
    if kind not in NO_CALLS:
        assert {"one", "empty"} & seen
