"""Versions of a table's rows: what is in force when, what is refused, and how long it is kept."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidInput, StorageProblem
from sentinel.events.reference_tables.declaration import LookupTable
from sentinel.events.reference_tables.versions import KEPT_US, Row, Tables, TableVersions, Told

EXACT = LookupTable(by="card", columns={"limit": "number"})
RANGES = LookupTable(by="bin", columns={"limit": "number"}, ranges="numbers")


def told(versions, rows, table=EXACT, now_us=1_000, received_us=None):
    draft = versions.draft([Told(*row) for row in rows], now_us)
    versions.check(draft, "cards", table)
    versions.put(draft.rows, now_us if received_us is None else received_us)
    return draft.rows


def test_the_newest_version_that_is_not_later_is_in_force():
    versions = TableVersions("exact")
    told(versions, [("c", 10, b"1"), ("c", 30, b"3"), ("c", 20, b"2"), ("c", 40, b""), ("c", 50, b"5")])
    at = {time: versions.values_at("c", time) for time in (9, 10, 19, 20, 30, 39, 40, 49, 50, 10**15)}
    assert at == {9: b"", 10: b"1", 19: b"1", 20: b"2", 30: b"3", 39: b"3", 40: b"", 49: b"", 50: b"5", 10**15: b"5"}
    assert versions.find("c", 25) == Row("c", 20, b"2")
    assert versions.find("c", 45) is None
    assert versions.find("d", 25) is None
    assert versions.values_at("d", 25) == b""
    assert list(versions.in_force(45)) == []
    assert list(versions.in_force(55)) == ["c"]


def test_what_is_told_again_changes_nothing():
    versions = TableVersions("exact")
    assert told(versions, [("c", 10, b"1"), ("c", 10, b"1")]) == [Row("c", 10, b"1")]
    assert told(versions, [("c", 10, b"1")]) == []
    assert told(versions, [("c", None, b"1")], now_us=99) == []  # it is in force
    assert told(versions, [("d", None, b"")], now_us=99) == []  # there is none to remove
    assert told(versions, [("c", None, b"2"), ("c", None, b"1")], now_us=100) == [
        Row("c", 100, b"2"),
        Row("c", 100, b"1"),
    ]
    assert told(versions, [("c", 10, b"7")]) == [Row("c", 10, b"7")]  # a correction
    assert (versions.n_versions, versions.nbytes, len(versions)) == (2, 4, 1)


def test_versions_are_kept_for_late_transactions_and_then_let_go():
    versions = TableVersions("exact")
    told(versions, [("c", 10, b"1"), ("c", 20, b"2"), ("gone", 5, b"1"), ("gone", 15, b"")], received_us=12)
    told(versions, [("d", 0, b"1")], received_us=20 + KEPT_US)
    assert versions.values_at("c", 15) == b"1"
    assert versions.values_at("gone", 7) == b""  # removed for so long
    told(versions, [("e", 0, b"1")], received_us=21 + KEPT_US)
    assert versions.values_at("c", 15) == b""
    assert versions.values_at("c", 10**18) == b"2"  # the newest stays for ever
    assert (len(versions), versions.n_versions) == (3, 3)


def test_what_is_told_of_long_ago_is_kept_as_long_as_other_things():
    versions = TableVersions("exact")
    told(versions, [("c", 10, b"1"), ("c", 30, b"3")], received_us=KEPT_US)
    told(versions, [("c", 20, b"2")], received_us=KEPT_US + 5)
    told(versions, [("d", 0, b"1")], received_us=2 * KEPT_US + 5)
    assert versions.values_at("c", 15) == b"1"
    told(versions, [("e", 0, b"1")], received_us=2 * KEPT_US + 6)
    assert [versions.values_at("c", when) for when in (15, 25, 35)] == [b"", b"", b"3"]


def test_what_is_let_go_of_at_once_is_bounded():
    versions = TableVersions("exact")
    told(versions, [(f"c{n}", when, b"1%d" % when) for n in range(500) for when in (1, 2)], received_us=2)
    before = versions.n_versions
    told(versions, [("d", 0, b"1")], received_us=KEPT_US + 10)
    assert 0 < before + 1 - versions.n_versions < 100
    for n in range(20):
        told(versions, [("d", 0, b"%d" % n)], received_us=KEPT_US + 10)
    assert versions.n_versions == len(versions) == 501


def test_more_than_is_allowed_is_refused():
    versions = TableVersions("exact")
    few = LookupTable(by="card", columns={"limit": "number"}, max_rows=2, max_bytes=7)
    told(versions, [("a", 1, b"1"), ("b", 1, b"1")], few)
    with pytest.raises(InvalidInput, match="3 versions of rows in 6 bytes; 2 in 7 are possible: raise max_rows"):
        told(versions, [("c", 1, b"1")], few)
    with pytest.raises(InvalidInput, match="2 versions of rows in 12 bytes"):
        told(versions, [("a", 1, b"1" * 9)], few)
    told(versions, [("a", 1, b"1" * 4)], few)


def test_ranges_may_follow_each_other_and_never_overlap():
    versions = TableVersions("numbers")
    told(versions, [("10-29", 5, b"1")], RANGES)
    with pytest.raises(
        InvalidInput, match=r"'20-20' and '10-29' of the table cards overlap.* in force at 1970-01-01T00:00:00.000009Z"
    ):
        told(versions, [("20-20", 9, b"1")], RANGES)
    with pytest.raises(InvalidInput, match="'0-99' and '10-29'"):
        told(versions, [("0-99", 1, b"1")], RANGES)  # it would be in force when the other one begins
    with pytest.raises(InvalidInput, match="overlap"):
        told(versions, [("50-60", 1, b"1"), ("60-61", 7, b"1")], RANGES)
    told(
        versions,
        [("0-99", 1, b"9"), ("0-99", 5, b""), ("10-29", 9, b""), ("10-19", 9, b"2"), ("20-29", 9, b"3")],
        RANGES,
    )
    found = {(n, t): versions.values_at(str(n), t) for n in (15, 25, 99) for t in (0, 1, 5, 9)}
    assert found == {
        (15, 0): b"", (15, 1): b"9", (15, 5): b"1", (15, 9): b"2",
        (25, 0): b"", (25, 1): b"9", (25, 5): b"1", (25, 9): b"3",
        (99, 0): b"", (99, 1): b"9", (99, 5): b"", (99, 9): b"",
    }  # fmt: skip
    assert versions.find("25", 7) == Row("10-29", 5, b"1")


ROWS = st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.sampled_from((b"", b"1", b"2")))
SPANS = st.tuples(st.integers(0, 7), st.integers(0, 3)).map(lambda one: f"{one[0]}-{one[0] + one[1]}")
RANGE_ROWS = st.tuples(SPANS, st.integers(0, 4), st.sampled_from((b"", b"1", b"2")))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(ROWS, max_size=4), max_size=5), st.sampled_from("ab"), st.integers(-1, 8))
def test_any_rows_are_found_as_by_a_scan(batches, text, time_us):
    versions = TableVersions("exact")
    for rows in batches:
        told(versions, rows)
    last = {(key, when): values for rows in batches for key, when, values in rows}
    expected = max(((when, values) for (key, when), values in last.items() if key == text and when <= time_us),
                   default=(0, b""))[1]  # fmt: skip
    assert versions.values_at(text, time_us) == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(RANGE_ROWS, max_size=3), max_size=6))
def test_any_ranges_are_taken_just_where_none_overlap_and_found_as_by_a_scan(batches):
    versions, taken = TableVersions("numbers"), {}

    def in_force(rows, number, time_us):
        found = []
        for key in {key for key, _ in rows}:
            low, high = map(int, key.split("-"))
            said = max(((when, one) for (other, when), one in rows.items() if other == key and when <= time_us),
                       default=(0, b""))[1]  # fmt: skip
            found += [said] if low <= number <= high and said else []
        return found

    for rows in batches:
        after = taken | {(key, when): values for key, when, values in rows}
        overlap = any(len(in_force(after, number, time)) > 1 for number in range(12) for time in range(5))
        try:
            told(versions, rows, RANGES)
            assert not overlap
            taken = after
        except InvalidInput:
            assert overlap
    for number in range(12):
        for time_us in range(-1, 6):
            assert [versions.values_at(str(number), time_us)] == (in_force(taken, number, time_us) or [b""])


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, max_size=8), st.integers(0, 2 * KEPT_US))
def test_tables_come_back_from_a_snapshot_as_they_were(rows, received_us):
    tables = Tables()
    told(tables.of("cards", "exact"), rows, received_us=received_us)
    told(tables.of("bins", "numbers"), [("1-5", 1, b"1"), ("7-9", 2, b"2")], RANGES)
    again = Tables()
    again.restore(tables.snapshot())
    one, other = tables.of("cards", "exact"), again.of("cards", "exact")
    assert (one.state(), one.n_versions, one.nbytes) == (other.state(), other.n_versions, other.nbytes)
    assert again.of("bins", "numbers").find("8", 5) == Row("7-9", 2, b"2")
    for later in (one, other):
        told(later, [("z", 0, b"1")], received_us=3 * KEPT_US)
    assert one.state() == other.state()


def test_a_damaged_snapshot_changes_nothing():
    tables = Tables()
    told(tables.of("cards", "exact"), [("c", 1, b"1")])
    for damaged in ({}, {"tables": tables.snapshot()["tables"][:-1]}, {"other": tables.snapshot()["tables"]}):
        with pytest.raises(StorageProblem, match="damaged"):
            tables.restore(damaged)
    assert tables.of("cards", "exact").values_at("c", 1) == b"1"


def test_a_table_that_is_found_otherwise_is_another_one():
    tables = Tables()
    told(tables.of("cards", "exact"), [("1", 1, b"1")])
    assert tables.of("cards", "numbers").values_at("1", 5) == b""


def test_a_row_has_so_many_versions_and_corrections_take_no_room():
    versions = TableVersions("exact")
    told(versions, [("c", n, b"%d" % n) for n in range(10_000)])
    with pytest.raises(InvalidInput, match="'c' of the table cards would have 10,001 versions"):
        told(versions, [("c", 10_001, b"1")])
    for n in range(300):
        told(versions, [("c", 5, b"%d" % n), ("d", 5, b"%d" % n), ("d", 6, b"")])
    assert versions.n_versions == 10_002
    assert len(versions._followed) < 20, "what waits to be let go of is bounded by the rows"
