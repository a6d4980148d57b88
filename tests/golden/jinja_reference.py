"""Chat templates as transformers renders them, and as loam does: many at a time through one process."""

import datetime
import functools
import json
import time

import jinja2
from transformers.utils import chat_template_utils

NOW = 1753000000  # what strftime_now prints, for both


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, tz)


chat_template_utils.datetime = FixedTime
compiled = functools.lru_cache(maxsize=None)(chat_template_utils._cached_compile_jinja_template)


class Raised:
    """A rendering that failed. own: the words of raise_exception, which must be the same; None for other errors."""

    def __init__(self, own, words):
        self.own, self.words = own, words

    def __eq__(self, other):
        return isinstance(other, Raised) and self.own == other.own

    def __repr__(self):
        return f"Raised({self.words!r})"


def reference(template, variables):
    try:
        return compiled(template).render(**json.loads(json.dumps(variables)))
    except Exception as e:
        # loam's messages have 499 bytes at most
        own = str(e).encode()[:499].decode(errors="ignore") if type(e) is jinja2.exceptions.TemplateError else None
        return Raised(own, f"{type(e).__name__}: {e}")


def render_all(loam, cases):
    """What loam makes of each (template, variables)."""
    lines = "".join(json.dumps({"template": t, "vars": v, "now": NOW}) + "\n" for t, v in cases)
    out = []
    for line in loam("template", "--json-lines", stdin=lines, timeout=600).stdout.split("\n")[:-1]:
        answer = json.loads(line)
        if isinstance(answer, str):
            out.append(answer)
        else:
            out.append(Raised(None if answer["error"].startswith("chat template, line ") else answer["error"], answer["error"]))
    assert len(out) == len(cases)
    return out


def differences(loam, cases, excused=lambda want, got: False):
    """The cases that loam renders otherwise than transformers."""
    wrong = []
    for (template, variables), got in zip(cases, render_all(loam, cases)):
        want = reference(template, variables)
        if want != got and not excused(want, got):
            wrong.append((template, variables, want, got))
    return wrong


def show(wrong, limit=10):
    def case(template, variables, want, got):
        where = ""
        if isinstance(want, str) and isinstance(got, str):
            at = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
            where = f"\n  first at {at}: {want[max(0, at - 40):at + 40]!r}\n       not {got[max(0, at - 40):at + 40]!r}"
            want, got = want[:300], got[:300]
        return f"{template[:300]!r}\n  vars {json.dumps(variables)[:600]}\n  want {want!r}\n  got  {got!r}{where}"

    return f"{len(wrong)} differ\n" + "\n".join(case(*w) for w in wrong[:limit])
