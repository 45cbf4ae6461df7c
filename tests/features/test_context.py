"""Events of the context: they are counted, and transactions only look."""

import numpy as np
import pytest
from streams import SCHEMA, as_columns, payment

from sentinel.errors import InvalidDefinition
from sentinel.events.columns import hash_text
from sentinel.events.schema import Schema
from sentinel.features import definitions as f
from sentinel.features.conditions import col
from sentinel.features.plan import FeaturePlan, compile_plan
from sentinel.features.store import MemoryStore

SECOND = 1_000_000
LOGINS = FeaturePlan(
    SCHEMA,
    (
        f.count(event="login", by="card", over="10s"),
        f.seconds_since("login", by="card"),
        f.is_first("channel", event="login", by="card", over="10s"),
        f.mean("amount", event="login", by="card", over="10s"),
    ),
    forget_after="20s",
)


def login(at, received=None, **fields):
    one = payment(0, at, received, **fields)
    del one["id"]
    return {**one, "context": "login"}


def rows(store, *events):
    return store.advance(as_columns(events)).rows.round(3).tolist()


def test_a_transaction_sees_what_came_before_it_and_counts_nothing():
    store, nan = MemoryStore(LOGINS), "nan"
    seen = rows(
        store,
        payment(0, 0, channel="web"),
        login(5 * SECOND, channel="web", amount=3),
        payment(1, 7 * SECOND, channel="web"),
        payment(2, 8 * SECOND, channel="chip"),
        payment(3, 15 * SECOND, channel="web"),
    )
    shown = [[nan if one != one else one for one in row] for row in seen]
    assert shown == [[0, nan, 1, nan], [1, 2, 0, 3], [1, 3, 1, 3], [0, 10, 1, nan]]


def test_a_key_that_only_transactions_have_is_not_remembered():
    store = MemoryStore(LOGINS)
    rows(store, *(payment(n, n, card=f"c{n}") for n in range(100)))
    assert store.keys() == 0
    assert store.groups == ["login:card"]
    assert store.export("login:card", np.array([hash_text("c1")], np.uint64)) == [b""]


def test_a_row_of_output_for_each_transaction_and_none_for_an_event():
    plan = FeaturePlan(SCHEMA, (f.count(by="card", over="10s"), f.count(event="login", by="card", over="10s")))
    store = MemoryStore(plan)
    assert rows(store, login(0)) == []
    assert rows(store, login(1), payment(0, 2), login(3), payment(1, 4), login(5)) == [[1, 2], [2, 3]]


def test_an_event_that_is_newer_than_the_transaction_counts_and_the_transaction_is_late():
    store = MemoryStore(LOGINS)
    store.advance(as_columns([login(9 * SECOND)]))
    found = store.advance(as_columns([payment(0, 8 * SECOND, received=9 * SECOND)]))
    assert found.rows[0, :2].tolist() == [1, 0]
    assert found.late.tolist() == [1]


def test_looking_at_a_key_does_not_keep_it():
    """Its horizon is `forget_after` and `max_late`, from when its last event arrived."""
    store = MemoryStore(LOGINS)
    found = rows(store, login(0), *(payment(n, n * 10 * SECOND) for n in (1, 2, 3)), payment(4, 30 * SECOND + 1))
    assert [row[1] for row in found[:3]] == [10, 20, 30]
    assert np.isnan(found[3][1])


def test_transactions_before_the_first_event_leave_no_row_that_two_keys_share():
    """They look at rows to free, in turn, once there are some."""
    store = MemoryStore(LOGINS)
    rows(store, *(payment(n, n * 3_600 * SECOND) for n in range(600)))
    late = 600 * 3_600 * SECOND
    rows(store, *(login(late + n, card=f"c{n}") for n in range(3)))
    found = rows(store, *(payment(1_000 + n, late + 9 * SECOND, card=f"c{n}") for n in range(3)))
    assert [row[0] for row in found] == [1, 1, 1]
    assert store.keys() == 3


def test_no_more_keys_are_followed_than_a_snapshot_can_hold():
    keys = tuple(f"k{n}" for n in range(81))
    features = tuple(f.count(by=key, over="1h") for key in keys)
    with pytest.raises(InvalidDefinition, match="follow more than 80 different keys and events"):
        compile_plan(FeaturePlan(Schema(keys=keys), features))


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (f.count(event="logon", by="card", over="1h"), "'logon' is no event of the schema; its events are login, refund"),
        (f.count(event="login", by="shop", over="1h"), "login events have no shop"),
        (f.distinct("shop", event="login", by="card", over="1h"), "login events have no shop"),
        (f.count(event="login", by="card", over="1h", where=col("risk") > 1), "login events have no risk"),
        (f.Feature(kind="fraud_count", name="x", by="card", over="1h", delay="1h", event="login"), "of transactions"),
        (f.Feature(kind="session_count", name="x", by="card", gap="1h", event="login"), "of transactions, not of an event"),
        (f.Feature(kind="session_count", name="x", by="card", gap="1h", where=col("risk") > 1), "takes no condition"),
        (f.Feature(kind="field", name="x", of="amount", event="login"), "of this transaction alone"),
        (f.count(by=("card", "card"), over="1h"), "'card' is named twice in its key"),
        (f.count(by=("card", "risk"), over="1h"), "'risk' is no key of the schema; its keys are card, shop, channel"),
        (f.count(by="channel", over="1h"), "'channel' is no key of the schema; its keys are card, shop"),
        (f.is_round("amount", to=0.001), "amount has 2 decimals, and `to` is 0.001"),
        (f.is_round("risk"), "'risk' is no exact number"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_by_name(feature, message):
    with pytest.raises(InvalidDefinition, match=message):
        compile_plan(FeaturePlan(SCHEMA, (feature,)))
