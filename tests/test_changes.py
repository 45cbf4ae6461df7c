"""The changes are in a form that a release can cut, and the notes of a release are what they said."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("changes", ROOT / ".ci" / "changes.py")
changes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(changes)
DAY = "2031-02-03"
TEXT = "# Changes\n\n## Unreleased\n\n- One.\n- Two,\n  which goes on.\n"


def test_the_changes_of_this_repository_can_be_cut():
    text = changes.CHANGES.read_text()
    cut = changes.cut(text, "99.0.0", DAY)
    unreleased = text.split("\n## Unreleased\n")[1].partition("\n## ")[0].strip() + "\n"
    assert changes.notes(cut, "99.0.0") == unreleased


def test_a_cut_leaves_room_for_the_next_and_keeps_what_was_before():
    first = changes.cut(TEXT, "1.0.0", DAY)
    with pytest.raises(changes.NotInForm, match="nothing is unreleased"):
        changes.cut(first, "1.0.1", DAY)
    second = changes.cut(first.replace("## Unreleased\n", "## Unreleased\n\n- Three.\n"), "1.1.0rc1", DAY)
    assert changes.notes(second, "1.1.0rc1") == "- Three.\n"
    assert changes.notes(second, "1.0.0") == "- One.\n- Two,\n  which goes on.\n"


@pytest.mark.parametrize(
    ("text", "version", "said"),
    [
        (TEXT, "v1.0.0", "is no version"),
        (changes.cut(TEXT, "1.0.0", DAY), "1.0.0", "already"),
        ("# Changes\n", "1.0.0", "one heading"),
        (TEXT + "\n## Unreleased\n", "1.0.0", "one heading"),
    ],
)
def test_what_is_not_in_form_is_not_cut(text, version, said):
    with pytest.raises(changes.NotInForm, match=said):
        changes.cut(text, version, DAY)


def test_a_version_without_a_word_has_no_notes():
    with pytest.raises(changes.NotInForm, match=r"cut 1\.0\.0"):
        changes.notes(TEXT, "1.0.0")
