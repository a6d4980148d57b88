"""`loam template`: a JSON object in, the prompt out, byte for byte."""

import json

import pytest

from golden import tiny


@pytest.fixture
def template(tmp_path):
    def write(text):
        path = tmp_path / "t.jinja"
        path.write_bytes(text.encode())
        return path

    return write


@pytest.mark.parametrize("text,variables,prompt", [
    ("{{ a }}", {"a": "x"}, b"x"), ("{{ a }}\n", {"a": "x\n"}, b"x\n"), ("", {}, b""), ("\u00e9{{ a }}", {"a": "\u4f60\U0001f389"}, "\u00e9\u4f60\U0001f389".encode()),
    ("{% for m in messages %}\n<{{ m.role }}>{{ m.content }}\n{% endfor %}", {"messages": [{"role": "user", "content": "a\0b"}]}, b"<user>a\0b\n"),
    ("a\r\nb\r\n", {}, b"a\nb"),
])
def test_bytes(loam, template, text, variables, prompt):
    done = loam("template", "--file", template(text), stdin=json.dumps(variables))
    assert done.raw == prompt and not done.stderr


@pytest.mark.parametrize("text,stdin,words", [
    ("{% if %}", "{}", "line 1"), ("{{ raise_exception('Roles must alternate') }}", "{}", "loam template: Roles must alternate\n"), ("{{ x.y }}", "{}", "'x' is undefined"),
    ("{{ raise_exception('two\nlines') }}", "{}", "two lines\n"),
    ("a", "[]", "object"), ("a", "", "JSON" ), ("a", "{", "line 1"), ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "{}", "steps"),
])
def test_errors_are_one_line(loam, template, text, stdin, words):
    done = loam("template", "--file", template(text), stdin=stdin, ok=False)
    assert done.returncode == 1 and not done.stdout and done.stderr.count("\n") == 1
    assert words in done.stderr or words == "JSON"


def test_a_file_that_is_not_there(loam, tmp_path):
    done = loam("template", "--file", tmp_path / "none.jinja", stdin="{}", ok=False)
    assert done.returncode == 1 and "none.jinja" in done.stderr


def test_usage(loam):
    for args in [(), ("--file", "a", "--model", "b")]:
        done = loam("template", *args, stdin="{}", ok=False)
        assert done.returncode == 2 and "--model" in done.stderr


def test_lines(loam, template):
    lines = [{"vars": {"a": 1}}, {"vars": {}, "template": "{{ raise_exception('no') }}"}, {"vars": {"a": "\u00e9\n"}}, {"vars": 5}, {"template": 5}, {"template": "{{ strftime_now('%Y') }}", "vars": {}, "now": 86400 * 366}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "{broken\n"
    out = [json.loads(line) for line in loam("template", "--file", template("<{{ a }}>"), "--json-lines", stdin=text).stdout.splitlines()]
    assert out[0] == "<1>" and out[1]["error"] == "no" and out[2] == "<\u00e9\n>" and out[5] == "1971"
    assert all("error" in out[i] for i in (3, 4, 6)) and len(out) == 7


def test_model(loam, tmp_path):
    folder = tiny.make(tmp_path / "m", tiny.FAMILIES["llama"], tiny.STORAGES["q4g64"])
    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text()) if config.exists() else {}
    settings["chat_template"] = [{"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}"}, {"name": "tool_use", "template": "tools {{ tools|length }}"}]
    settings["bos_token"] = {"content": "<s>"}
    config.write_text(json.dumps(settings))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    messages = [{"role": "user", "content": "hi"}]
    assert loam("template", "--model", folder, stdin=json.dumps({"messages": messages})).raw == b"<s>hi"
    assert loam("template", "--model", folder, stdin=json.dumps({"messages": messages, "bos_token": "B"})).raw == b"Bhi"
    assert loam("template", "--model", folder, stdin=json.dumps({"messages": messages, "tools": [1]})).raw == b"tools 1"
    del settings["chat_template"]
    config.write_text(json.dumps(settings))
    done = loam("template", "--model", folder, stdin=json.dumps({"messages": messages}), ok=False)
    assert done.returncode == 1 and "no chat template" in done.stderr
