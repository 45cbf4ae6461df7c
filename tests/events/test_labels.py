"""Labels: the usual words are understood however they are written, and any other stops."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.events.cells import label_words
from sentinel.events.labels import FRAUD, LEGITIMATE, UNLABELLED, labels_of, meanings, word_of


def read(column, **given):
    words = label_words(column if isinstance(column, list) else pl.Series("y", column), "y")
    known = meanings(dict(words.drop_nulls().value_counts().iter_rows()), "y", given)
    return [None if word is None else known[word] for word in words]


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        ([True, False, None], [1, 0, None]),
        ([1, 0, None], [1, 0, None]),
        (pl.Series([1.0, 0.0, None]), [1, 0, None]),
        (pl.Series(["1.0", "0.0", "N/A"]), [1, 0, None]),
        (pl.Series(["Y", "n", ""]), [1, 0, None]),
        (pl.Series([" Yes", "NO ", "null"]), [1, 0, None]),
        (pl.Series(["Fraud", "Legit", "genuine"]), [1, 0, 0]),
        (pl.Series(["t", "F", "NaN"]), [1, 0, None]),
        (pl.Series(["fraud", "legit"], dtype=pl.Categorical), [1, 0]),
        (pl.Series([1, -1]), [1, 0]),
        (pl.Series(["+1", "-1.0"]), [1, 0]),
        (pl.Series([1, 0], dtype=pl.UInt8), [1, 0]),
        (pl.Series(["001", "000"]), [1, 0]),
        (pl.Series([None, None], dtype=pl.Null), [None, None]),
        ([1, "no", True, 0.0, None], [1, 0, 1, 0, None]),
    ],
)
def test_the_usual_words_are_understood(column, labels):
    assert read(column) == labels


@pytest.mark.parametrize(
    "column", [[1, 2], ["a", "b"], ["fraud", "maybe"], [0, 1, -1], [2], ["1.5", "0"], ["chargeback"], ["0", "1", "2"]]
)
def test_other_words_stop_and_all_are_named(column):
    with pytest.raises(DataProblem, match="--labels") as caught:
        read(column)
    assert all(repr(word_of(str(word))) in str(caught.value) for word in column)


@pytest.mark.parametrize(
    ("rows", "hint"),
    [
        ({"chargeback": 500, "ok": 500}, "chargeback=1,ok=0"),
        ({"1": 69, "2": 2_931}, "1=1,2=0"),
        ({"1": 2_931, "2": 69}, "1=0,2=1"),
        ({"1": 50, "2": 60}, "1=?,2=?"),
        ({"approved": 90, "declined by issuer": 10}, "approved=0,declined by issuer=1"),
        ({"fraud": 9, "maybe": 9}, "fraud=1,maybe=0"),
        ({"a": 5, "b": 100, "c": 900}, "a=?,b=?,c=?"),
        ({"fraud_confirmed": 5, "legitimate": 100, "pending": 900}, "fraud_confirmed=1,legitimate=0,pending=?"),
        ({"no chargeback": 9, "was chargeback": 9}, "no chargeback=0,was chargeback=1"),
        ({"7": 3_000}, "7=?"),
    ],
)
def test_what_is_proposed_is_right_or_cannot_be_pasted(rows, hint):
    with pytest.raises(DataProblem) as caught:
        meanings(rows, "y", {})
    assert f"--labels {hint!r}" in str(caught.value)
    if "?" in hint:
        with pytest.raises(InvalidDefinition):
            labels_of(hint)


def test_words_of_ones_own_are_said():
    assert read(["Chargeback", "ok", "2"], **{"chargeback": 1, "OK ": 0, "2": 0}) == [1, 0, 0]
    assert labels_of("charge back=1, ok=0,a=b=1") == {"charge back": 1, "ok": 0, "a=b": 1}
    for wrong in ("ok", "ok=2", "", "ok=yes"):
        with pytest.raises(InvalidDefinition, match="WORD=1"):
            labels_of(wrong)


@given(st.sampled_from(sorted(FRAUD | LEGITIMATE | UNLABELLED)), st.sampled_from(["", " ", "\t"]), st.booleans())
def test_case_and_blanks_do_not_matter(word, blank, is_upper):
    written = f"{blank}{word.upper() if is_upper else word}{blank}"
    expected = 1 if word in FRAUD else 0 if word in LEGITIMATE else None
    assert read(pl.Series([written])) == [expected]


def test_nobody_can_know_what_a_list_means():
    with pytest.raises(DataProblem, match="y holds list values"):
        read(pl.Series([[1], [0]]))
