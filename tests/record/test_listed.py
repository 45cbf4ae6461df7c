"""What a list says of a moment is what was known then, however its entries are told; against going through them by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import InvalidInput
from sentinel.events.reference_tables.versions import LIST, LISTED_KEPT_US, TableVersions
from sentinel.events.times import iso
from sentinel.record.listed import Listing, entries_in, on_list, rows_of

TELLINGS = st.lists(
    st.tuples(
        st.sampled_from(["tell", "tell", "ask"]),
        st.integers(0, 4),  # how much later
        st.sampled_from("ab"),
        st.none() | st.integers(1, 9),  # from so much later
        st.none() | st.integers(1, 9),  # until so much after that
        st.booleans(),
    ),
    max_size=25,
)


def told_at(versions, one, received_us):
    rows = rows_of(versions, [one], received_us)
    versions.put(rows, received_us)
    return rows


def by_hand(tellings, key, time_us):
    """The newest telling that begins by then counts."""
    is_on = False
    for one, received_us in tellings:
        begin_us = received_us + 1 if one.from_us is None else one.from_us
        if one.key == key and begin_us <= time_us:
            is_on = not one.is_off and (one.until_us is None or time_us < one.until_us)
    return is_on


@given(TELLINGS)
def test_a_decision_finds_the_same_then_and_ever_after(steps):
    versions, tellings, asked, now_us = TableVersions(LIST), [], [], 100
    for step, later, key, begins, ends, is_off in steps:
        now_us += later
        if step == "ask":
            asked.append((key, now_us, bool(versions.values_at(key, now_us))))
            continue
        begin_us = None if begins is None else now_us + begins
        until_us = None if ends is None else (begin_us or now_us + 1) + ends
        one = Listing(key, "why", "anna", begin_us, until_us, is_off)
        told_at(versions, one, now_us)
        tellings.append((one, now_us))
    for key, time_us, was_on in asked:
        assert was_on == by_hand(tellings, key, time_us) == bool(versions.values_at(key, time_us))
    for key in "ab":
        for time_us in range(95, now_us + 30):
            assert on_list(versions, "l", [key], key, time_us).is_on == by_hand(tellings, key, time_us)


def test_what_is_said_already_is_no_row_and_another_reason_is():
    versions = TableVersions(LIST)
    assert len(told_at(versions, Listing("a", "stolen", "anna"), 5)) == 1
    assert told_at(versions, Listing("a", "stolen", "anna"), 9) == []
    assert len(told_at(versions, Listing("a", "found", "ben"), 9)) == 1
    told_at(versions, Listing("a", "", "ben", is_off=True), 20)
    assert told_at(versions, Listing("a", "", "ben", is_off=True), 30) == []
    periods = on_list(versions, "l", ["a"], "a", 7).periods
    assert [(one.since, one.until, one.reason, one.author) for one in periods] == [
        (iso(6), iso(10), "stolen", "anna"), (iso(10), iso(21), "found", "ben"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Listing("a", "", "x", from_us=5), "Expected a moment to come"),
        (Listing("a", "", "x", from_us=9, until_us=9), "after the entry begins"),
        (Listing("a", "", "x", until_us=6), "after the entry begins"),
    ],
)
def test_what_would_change_what_was_decided_is_refused(one, said):
    with pytest.raises(InvalidInput, match=said):
        rows_of(TableVersions(LIST), [one], 5)


def test_pages_have_what_is_on_it_now_and_an_ended_entry_is_kept_for_as_long_as_decisions_are_computed_again():
    versions = TableVersions(LIST)
    for n in range(7):
        told_at(versions, Listing(f"c{n}", "", "anna", until_us=50 if n == 2 else None), 5)
    first, after = entries_in(versions, 60, 0, 3)
    rest, end = entries_in(versions, 60, after, 9)
    assert [one["value"] for one in first + rest] == ["c0", "c1", "c3", "c4", "c5", "c6"]
    assert end is None
    told_at(versions, Listing("x", "", "anna"), LISTED_KEPT_US)
    assert versions.versions_of("c2")
    told_at(versions, Listing("y", "", "anna"), LISTED_KEPT_US + 99)
    assert not versions.versions_of("c2")
    assert versions.versions_of("c1")


def test_one_step_records_no_more_than_decisions_can_wait_for():
    """Each telling of a value says anew what is to be at every later moment, so that many of many are very many."""
    versions, now_us = TableVersions(LIST), 1_000
    for first in range(2):
        told = [Listing("card", "r", "anna", now_us + 10 * n - first) for n in range(1, 500)]
        if first:
            with pytest.raises(InvalidInput, match="tell fewer at once"):
                rows_of(versions, told, now_us)
        else:
            versions.put(rows_of(versions, told, now_us), now_us)
    many = [Listing("card", f"r{n % 2}", "anna", now_us + 100_000 + n) for n in range(510)]
    for one in many:
        versions.put(rows_of(versions, [one], now_us), now_us)
    with pytest.raises(InvalidInput, match="tell fewer periods"):
        rows_of(versions, [Listing("card", "r", "anna", now_us + 2)], now_us)
    versions.put(rows_of(versions, [Listing("card", "", "anna", is_off=True)], now_us), now_us)
    assert not any(versions.values_at("card", now_us + later) for later in range(0, 200_000, 7))
