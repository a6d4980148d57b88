"""Every chat template that ../shared/data has, rendered by loam and by transformers: the same bytes, or an error in both."""

import pathlib

import pytest

from golden import conversations
from golden.jinja_reference import differences, show

TEMPLATES = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "templates"
FILES = sorted(TEMPLATES.glob("*.jinja"))


@pytest.mark.skipif(not FILES, reason="no ../shared/data/templates beside this checkout")
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_template(loam, file):
    text = file.read_text()
    cases = [(text, v) for v in [*conversations.cases(), *conversations.random_chats(file.stem, 40)]]
    wrong = differences(loam, cases)
    assert not wrong, show(wrong)
