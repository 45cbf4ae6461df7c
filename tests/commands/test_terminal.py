"""What is printed can all be seen, and reads back as what it was."""

import json

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from sentinel.commands.terminal import as_json, shown, visible


@given(st.text())
def test_all_of_a_text_is_printable_and_none_of_it_is_markup(text):
    assert visible(text).isprintable()
    assert Text.from_markup(f"{shown(text)}[bold]").plain == visible(text)


@given(st.recursive(st.text() | st.integers(-9, 9), lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
def test_json_can_be_seen_and_says_the_same(value):
    assert as_json(value).isprintable()
    assert json.loads(as_json(value)) == value
