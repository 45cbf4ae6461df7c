"""Deadlines as they are declared; what cannot be meant is refused with the form that can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition
from sentinel.review.cases.deadlines import USUAL, read_deadlines


def test_the_usual_ones():
    found = read_deadlines(USUAL)
    hour = 3_600_000_000
    assert [(one.priority, one.within_us // hour, int(one.least)) for one in found.each] == [
        ("high", 1, 100), ("normal", 8, 10), ("low", 72, 0),
    ]  # fmt: skip
    assert found.longest_us == 72 * hour


@pytest.mark.parametrize(
    "text",
    ["", "high", "high:1h", "high:1h:5,low:2h:1", "high:1h:5,high:2h", "high:2h:5,low:1h", "high:1h:5,mid:2h:5,low:3h",
     "high:1h:x,low:2h", "high:1h:NaN,low:2h", "high:soon:5,low:2h", "high:0s:5,low:2h", "a b:1h:5,low:2h",
     "high:1h:5,low:2h,", "high:1h:inf,low:3h"],
)  # fmt: skip
def test_what_cannot_be_meant(text):
    if text == "high:1h":  # one for all
        assert read_deadlines(text).of(10**9, 2).priority == "high"
        return
    with pytest.raises(InvalidDefinition):
        read_deadlines(text)


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 6))
def test_more_to_lose_is_never_due_later(one, more, decimals):
    deadlines = read_deadlines("high:1h:250.50,normal:8h:0.01,low:3d")
    assert deadlines.of(one + more, decimals).within_us <= deadlines.of(one, decimals).within_us
