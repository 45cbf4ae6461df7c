"""The sums of days are what a look at every entry gives, in whatever pages they came; every database the same."""

from collections import defaultdict
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.events.schema import Schema
from sentinel.record.entries import Ruled, body_of, decided_in, schema_id
from sentinel.record.log import Kind, Record
from sentinel.record.views.counted import MOST_VALUES, Counted
from sentinel.record.views.rows import KeyReader, rows_of
from tests.record.views.test_views import RUNS, case, view

__all__ = ["case", "view"]
DAY_US = 86_400_000_000
SCHEMA = Schema(
    keys=("card", "shop"), categories=("currency", "country", "hidden"), secret=("hidden",), amount_decimals=2
)
OLD = Schema(keys=("card", "shop"), optional=("card", "shop"))
READERS = {schema_id(one): KeyReader(one) for one in (SCHEMA, OLD)}
ACTIONS = ("approve", "challenge", "review", "block")


def record_of(made, position, rows, received_us, schema=SCHEMA):
    """Decisions with further fields, and with rules that held."""
    record = made.decided_record(position, rows, received_us, schema=schema_id(schema))
    decided = decided_in(record)
    contents = []
    for content, row in zip(decided.contents, rows, strict=True):
        more = {name: row[name] for name in ("currency", "country") if row.get(name) is not None}
        contents.append(msgspec.json.encode(msgspec.json.decode(content) | more))
    ruled = [
        Ruled(n, 0, tuple(row.get("rules", ())), tuple(row.get("shadows", ())), True)
        for n, row in enumerate(rows)
        if row.get("rules") or row.get("shadows")
    ]
    return record._replace(body=body_of(msgspec.structs.replace(decided, contents=contents, ruled=ruled)))


def store(view, records):
    since = view.position.position
    view.project(rows_of(records, READERS.get), "log", since, now_us=5)


ROWS = st.fixed_dictionaries(
    {
        "amount": st.sampled_from([1.0, 2.5, 0.29]),
        "action": st.sampled_from(ACTIONS),
        "version": st.sampled_from(["v1", "v2"]),
        "variant": st.sampled_from([None, "a"]),
        "currency": st.sampled_from([None, "EUR", "USD"]),
        "country": st.sampled_from([None, "DE", "NL"]),
        "rules": st.sampled_from([(), ("r1",), ("r1", "r2")]),
        "shadows": st.sampled_from([(), ("s1",)]),
    }
)


@st.composite
def histories(draw, made):
    """Records of decisions over some days, of outcomes of several tellers, and of outcomes that are taken back."""
    records, rows, told, position, received_us = [], {}, [], 1, 40 * DAY_US
    for n in range(draw(st.integers(1, 9))):
        received_us += draw(st.sampled_from([0, 1, DAY_US // 2, DAY_US]))
        kind = draw(st.sampled_from([Kind.DECIDED, Kind.DECIDED, Kind.OUTCOMES, Kind.OUTCOMES, Kind.REVOKED]))
        if kind == Kind.DECIDED or not rows:
            schema = draw(st.sampled_from([SCHEMA, SCHEMA, OLD]))
            batch = [one | {"id": f"t{n}-{m}"} for m, one in enumerate(draw(st.lists(ROWS, min_size=1, max_size=5)))]
            records.append(record_of(made, position, batch, received_us, schema))
            for m, one in enumerate(batch):
                rows[position + m] = one | {"day": received_us // DAY_US, "schema": schema}
        elif kind == Kind.OUTCOMES:
            some = [
                {
                    "id": rows[about]["id"], "about": about, "is_fraud": draw(st.booleans()),
                    "told_by": draw(st.sampled_from(["bank", "desk"])),
                }
                for about in draw(st.lists(st.sampled_from(sorted(rows)), min_size=1, max_size=4))
            ]  # fmt: skip
            records.append(made.outcomes_record(position, some, received_us))
            told += [one | {"position": position + m} for m, one in enumerate(some)]
        else:
            who = draw(st.sampled_from(["bank", "desk"]))
            mine = sorted({one["about"] for one in told if one["told_by"] == who})
            if not mine:
                continue
            records.append(made.revoked_record(position, [{"id": rows[one]["id"], "about": one} for one in mine], who))
            told = [one for one in told if one["told_by"] != who]
        position += records[-1].rows
    return SimpleNamespace(records=records, rows=rows, told=told)


def parts_of(row):
    """Part and value, as they are stored, that a decision belongs to."""
    found = [
        ("all", ""),
        ("model", f"={row['version']}"),
        ("variant", f"={row['variant']}" if row["variant"] else "missing"),
    ]
    if row["schema"] is SCHEMA:
        found += [(f"field:{one}", f"={row[one]}" if row[one] else "missing") for one in ("currency", "country")]
    return found + [("rule", f"={one}") for one in row["rules"]] + [("shadow", f"={one}") for one in row["shadows"]]


def by_hand(history, days, mature_before):
    """Part -> (day, value, unit, action) -> the sums, from each decision and all that was said of it."""
    found = defaultdict(lambda: defaultdict(lambda: [0] * 7))
    for position, row in history.rows.items():
        currency = row["currency"] if row["schema"] is SCHEMA else None
        unit, cents = (f"2 {currency}" if currency else "2"), round(row["amount"] * 100)
        said = [one for one in history.told if one["about"] == position]
        truth = said[-1]["is_fraud"] if said else None
        is_silent = truth is None and row["day"] < mature_before and row["action"] != "block"
        numbers = [
            1,
            cents,
            *((1, cents) if truth else (0, 0)),
            *((1, cents) if truth is False else (0, 0)),
            int(is_silent),
        ]
        for part, value in parts_of(row):
            sums = found[part][row["day"], value, unit, row["action"]]
            sums[:] = [a + b for a, b in zip(sums, numbers, strict=True)]
        newest = {one["told_by"]: one["is_fraud"] for one in said}
        for who in [who for who, is_fraud in newest.items() if is_fraud]:
            for part, day in (("source", row["day"]), ("told", 0)):  # outcomes of these tests bear a time of 1970
                sums = found[part][day, f"={who}", unit, row["action"]]
                sums[2:4] = sums[2] + 1, sums[3] + cents
    return {
        part: {key: tuple(one) for key, one in sums.items() if days[0] <= key[0] < days[1]}
        for part, sums in found.items()
    }


def not_empty(sums):
    return {key: one for key, one in sums.items() if any(one)}


@settings(max_examples=RUNS, deadline=None)
@given(data=st.data())
def test_the_sums_are_what_a_look_at_every_entry_gives(case, made, data):
    history = data.draw(histories(made))
    days, mature_before = (0, data.draw(st.integers(40, 50))), data.draw(st.integers(38, 46))
    with case() as one:
        left = list(history.records)
        while left:
            n = data.draw(st.integers(1, 4))
            store(one.view, left[:n])
            left = left[n:]
        expected = by_hand(history, days, mature_before)
        for part in ("all", "model", "variant", "rule", "shadow", "source", "told", "field:currency", "field:country"):
            sums = expected.get(part, {})
            by_day, by_value = defaultdict(lambda: [0] * 7), defaultdict(lambda: [0] * 7)
            for (day, value, unit, action), numbers in sums.items():
                for into, key in ((by_day, (day, unit, action)), (by_value, (value, unit, action))):
                    into[key] = [a + b for a, b in zip(into[key], numbers, strict=True)]
            if part not in ("source", "told"):  # of those there are frauds alone
                values = sorted({key[1] for key in sums})
                for value in values:
                    found = one.view.summed_by_day(part, days, mature_before, value)
                    alone = {
                        (day, unit, action): list(numbers)
                        for (day, its, unit, action), numbers in sums.items()
                        if its == value
                    }
                    assert {(row.day, row.unit, row.action): list(row[4:]) for row in found} == alone
                found = one.view.summed_by_day(part, days, mature_before)
                assert {(row.day, row.unit, row.action): list(row[4:]) for row in found} == dict(by_day)
            found = one.view.summed_by_value(part, days, mature_before)
            frauds = {(row.value, row.unit, row.action): list(row[4:10]) for row in found}
            assert not_empty(frauds) == not_empty({key: numbers[:6] for key, numbers in by_value.items()})


@settings(max_examples=max(RUNS // 3, 5), deadline=None)
@given(data=st.data())
def test_pruning_forgets_whole_days_and_no_part_of_one(case, made, data):
    history = data.draw(histories(made))
    before = data.draw(st.integers(1, max(history.rows) + 5))
    with case() as one:
        store(one.view, history.records)
        while one.view.prune(before):
            pass
        kept = [row["day"] for position, row in history.rows.items() if position >= before]
        first = min(kept) if kept else 0
        expected = by_hand(history, (first, 1_000), 0).get("all", {})
        found = one.view.summed_by_day("all", (0, 1_000), 0)
        if kept:
            assert {(row.day, "", row.unit, row.action): tuple(row[4:]) for row in found} == expected


def test_values_that_come_after_many_others_are_summed_together(view, made):
    rows = [{"id": str(n), "country": f"c{n}", "currency": "EUR"} for n in range(MOST_VALUES + 5)]
    store(view, [record_of(made, 1, rows[:60], DAY_US)])
    store(view, [record_of(made, 61, rows[60:], DAY_US)])
    store(view, [made.outcomes_record(1_000, [{"id": "102", "about": 103, "is_fraud": True}], DAY_US)])
    found = {one.value: one for one in view.summed_by_value("field:country", (0, 9), 0)}
    assert len(found) == MOST_VALUES + 1
    assert (found["other"].decisions, found["other"].frauds) == (5, 1)


def test_nothing_secret_is_summed_by_its_value(view, made):
    store(view, [record_of(made, 1, [{"id": "a", "currency": "EUR", "country": "DE"}], DAY_US)])
    assert view.sums_begin().counted == Counted(2, ("currency", "country"), "currency")
    assert view.summed_by_value("field:hidden", (0, 9), 0) == []


def test_decisions_from_before_there_were_sums_are_said_to_be_missing(case, made):
    with case() as one:
        view = one.view
        assert view.sums_begin() is None
        store(view, [record_of(made, 1, [{"id": "a"}], DAY_US)])
        with view._writing() as writer:  # as a view is that an older Sentinel filled
            for table in ("day_sums", "field_values", "schema_spans"):
                writer.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - of names above
        one.open_again()
        store(one.view, [record_of(made, 2, [{"id": "b"}], 2 * DAY_US)])
        store(one.view, [made.outcomes_record(3, [{"id": "a", "about": 1, "is_fraud": True}], 3 * DAY_US)])
        begin = one.view.sums_begin()
        assert (begin.received_us, begin.lacks_older) == (2 * DAY_US, True)
        (found,) = one.view.summed_by_day("all", (0, 9), 0)
        assert (found.day, found.decisions, found.frauds) == (2, 1, 0)


def test_amounts_that_are_not_known_have_no_unit(view, made):
    view.project(rows_of([made.decided_record(1, [{"id": "a"}], DAY_US, schema="unknown")], READERS.get), "log", 0, 1)
    assert [(one.unit, one.decisions, one.money) for one in view.summed_by_day("all", (0, 9), 0)] == [("", 1, 0)]


def test_an_amount_as_large_as_any_is_summed_to_the_unit(view, made):
    rows = [{"id": str(n), "amount": 9_999_999_999.99, "currency": "EUR"} for n in range(3)]
    store(view, [record_of(made, 1, rows, DAY_US)])
    assert [one.money for one in view.summed_by_day("all", (0, 9), 0)] == [3 * 999_999_999_999]


@pytest.mark.parametrize("value", [None, "", True, 7, "x" * 500])
def test_any_value_of_a_category_can_be_stored(view, made, value):
    record = made.decided_record(1, [{"id": "a"}], DAY_US, schema=schema_id(SCHEMA))
    decided = decided_in(record)
    content = msgspec.json.encode(msgspec.json.decode(decided.contents[0]) | {"country": value})
    body = body_of(msgspec.structs.replace(decided, contents=[content]))
    store(view, [Record(1, Kind.DECIDED, 1, DAY_US, body, b"chain")])
    assert sum(one.decisions for one in view.summed_by_value("field:country", (0, 9), 0)) == 1
