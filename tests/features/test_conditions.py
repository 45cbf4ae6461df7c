"""Conditions against brute force, what of them is kept, and what is refused."""

import msgspec
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import PLAN, SCHEMA, as_columns, payment

from sentinel.errors import InvalidDefinition
from sentinel.events.schema import Schema
from sentinel.features import definitions as f
from sentinel.features.conditions import col
from sentinel.features.derived import derive
from sentinel.features.derived_plan import MOST_CONDITIONS, DerivedColumns
from sentinel.features.plan import FeaturePlan, compile_plan
from sentinel.features.store import MemoryStore

NO_FORMER = np.empty((0, len(SCHEMA.texts)), np.uint64)
TEXTS = ("ok", "declined", "other", "", "7", "true")
NUMBERS = (0, 1, -1, 0.005, 1.005, 0.1 + 0.2, 12.34, -3, 10**12, -(10**30), 1e-7)


@st.composite
def comparisons(draw):
    if draw(st.booleans()):
        text, value = col(draw(st.sampled_from(["status", "shop"]))), draw(st.sampled_from(TEXTS))
        asked = [
            text == value,
            text != value,
            text.is_missing(),
            text.is_in(*draw(st.lists(st.sampled_from(TEXTS), min_size=1))),
        ]
    else:
        number, value = col(draw(st.sampled_from(["amount", "points", "risk"]))), draw(st.sampled_from(NUMBERS))
        among = number.is_in(*draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4)))
        asked = [number == value, number != value, number < value, number <= value, number > value, number >= value]
        asked += [number.is_missing(), among]
    return draw(st.sampled_from(asked))


conditions = st.recursive(
    comparisons(), lambda one: st.one_of(st.tuples(one, one).map(lambda pair: pair[0] & pair[1]),
                                         st.tuples(one, one).map(lambda pair: pair[0] | pair[1]), one.map(lambda it: ~it)),
)  # fmt: skip
values = st.one_of(st.none(), st.sampled_from([one for one in NUMBERS if abs(one) <= 10**12]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(conditions, min_size=1, max_size=6),
    st.lists(st.tuples(values, values, values, st.sampled_from([None, *TEXTS])), min_size=1, max_size=6),
)
def test_a_condition_is_what_python_says_of_the_fields(wanted, rows):
    events = [
        payment(n, n, amount=round(amount or 0, 2), points=points and round(points), risk=risk, status=status or None)
        for n, (amount, points, risk, status) in enumerate(rows)
    ]
    derived = DerivedColumns(SCHEMA)
    places = [derived.condition(where) for where in wanted]
    found = derive(derived.plan(), as_columns(events), NO_FORMER)[0][:, derived.bits]
    expected = [[oracle.holds(PLAN, where, event) for where in wanted] for event in events]
    assert [[bool(bits >> place & 1) for place in places] for bits in found.tolist()] == expected
    assert msgspec.json.decode(msgspec.json.encode(wanted), type=list[type(wanted[0])]) == wanted


def test_numbers_of_fields_that_are_texts_are_compared_as_they_are_sent():
    assert (col("flag") == True).values == ("true",)  # noqa: E712
    plan = FeaturePlan(SCHEMA, (f.count(by="card", over="1m", where=col("status").is_in(7, True)),))
    events = [payment(n, n, status=status) for n, status in enumerate(["7", "true", "7.0", None])]
    assert MemoryStore(plan).advance(as_columns(events)).rows[:, 0].tolist() == [1, 2, 2, 2]


def test_a_feature_without_a_condition_is_written_as_ever():
    written = b'{"kind":"count","name":"count_by_card_1h","by":"card","over":"1h"}'
    assert msgspec.json.encode(f.count(by="card", over="1h")) == written
    made = f.count(by=("card", "shop"), over="1h", where=(col("amount") > 9.5) & ~col("status").is_in("ok", "no way"))
    assert made.name == "count_by_card_and_shop_1h_where_amount_above_9_5_and_not_status_in_ok_no_way"
    assert msgspec.json.decode(msgspec.json.encode(made), type=f.Feature) == made


def test_as_many_conditions_as_a_number_has_bits():
    features = tuple(
        f.count(by="card", over="1m", where=col("amount") >= n).named(f"from_{n}") for n in range(MOST_CONDITIONS)
    )
    got = MemoryStore(FeaturePlan(SCHEMA, features)).advance(
        as_columns([payment(0, 0, amount=63), payment(1, 1, amount=2)])
    )
    assert got.rows.tolist() == [[1.0] * 64, [2.0] * 3 + [1.0] * 61]
    one_more = f.count(by="shop", over="1m", where=col("amount") < 0)
    with pytest.raises(InvalidDefinition, match="more than 64 different conditions"):
        compile_plan(FeaturePlan(SCHEMA, (*features, one_more)))


SECRET = Schema(keys=("card",), secret=("card",))


@pytest.mark.parametrize(
    ("schema", "where", "message"),
    [
        (SCHEMA, col("sttaus") == "declined", r"'sttaus', which is no field of the schema \(card, shop"),
        (SCHEMA, col("status") < 3, "status asks <, and it is a text"),
        (SCHEMA, col("status") == 3.5, "compares it with a number, and it is a text"),
        (SCHEMA, col("amount") == "much", "the text 'much', and it is a number"),
        (SCHEMA, col("status").is_in(), "compares it with 0 values"),
        (SECRET, col("card") == "4000", r"card, which is hashed; only is_missing\(\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(schema, where, message):
    with pytest.raises(InvalidDefinition, match=message):
        compile_plan(FeaturePlan(schema, (f.count(by="card", over="1h", where=where),)))


def test_a_condition_has_no_truth_of_its_own_and_compares_with_what_can_be_sent():
    with pytest.raises(InvalidDefinition, match=r"combined by & \| ~"):
        _ = (col("amount") > 1) and (col("amount") < 9)
    with pytest.raises(InvalidDefinition, match=r"write col\('status'\).is_missing\(\)"):
        _ = col("status") == None  # noqa: E711
    with pytest.raises(InvalidDefinition, match="with nan; compare it with a text or a finite number"):
        _ = col("amount") > float("nan")


def test_conditions_that_are_nested_too_deeply_are_refused():
    where = col("amount") > 1
    for _ in range(59):
        where = ~where
    compile_plan(FeaturePlan(SCHEMA, (f.count(by="card", over="1h", where=where).named("deep"),)))
    with pytest.raises(InvalidDefinition, match="nested in more than 60 others"):
        where = ~where
