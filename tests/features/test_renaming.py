"""A text that is hashed with another key goes on as if nothing had happened, to the last bit."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import AHEAD_US, HORIZON_US, PLAN, SCHEMA, as_columns, payment, same_bits, streams

from sentinel.errors import StorageProblem
from sentinel.events.columns import hash_text
from sentinel.features import definitions as f
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

HASHED = ("card", "shop", "channel")
COLUMNS = {name: column for column, name in enumerate(SCHEMA.texts)}
LATE_US = 10_000_000
REMEMBERED = msgspec.structs.replace(PLAN, features=tuple(one for one in PLAN.features if one != f.category("channel")))


def named(events, prefix):
    return [
        {name: prefix + value if name in HASHED and value is not None else value for name, value in event.items()}
        for event in events
    ]


def former_of(events, prefix):
    """What the texts of these events were before: those of `prefix`, where they have any."""
    names = np.zeros((len(events), len(COLUMNS)), np.uint64)
    for n, event in enumerate(events):
        for name in HASHED:
            if event.get(name) is not None:
                names[n, COLUMNS[name]] = hash_text(prefix + event[name])
    return names


def batches(n, sizes):
    begin, taken = 0, 0
    while begin < n:
        size = sizes[taken % len(sizes)]
        yield slice(begin, begin + size)
        begin, taken = begin + size, taken + 1


def restarted(store):
    again = MemoryStore(store.plan)
    again.restore(store.snapshot())
    return again


def assert_goes_on(plan, events, rotated, taken_out, sizes, restarts):
    """From the event `rotated` on texts are hashed anew, and until `taken_out` with what they were before."""
    new = as_columns([*events[:rotated], *named(events[rotated:], "new ")])
    plain, former = as_columns(events), former_of(events, "")
    former[:rotated] = former[taken_out:] = 0
    expected_of, store = MemoryStore(plan), MemoryStore(plan)
    for number, which in enumerate(batches(len(events), sizes)):
        expected = expected_of.advance(plain.rows(which))
        got = store.advance(new.rows(which), former[which] if former[which].any() else None)
        assert same_bits(got.rows, expected.rows)
        assert (got.late == expected.late).all()
        assert (got.known == expected.known).all()
        if number in restarts:
            store = restarted(store)
    assert restarted(store).keys() == restarted(expected_of).keys()
    return store


@settings(max_examples=150, deadline=None)
@given(streams(), st.data())
def test_a_stream_with_another_hash_key_from_anywhere_on_gives_the_same_bits(events, data):
    rotated = data.draw(st.integers(0, len(events)))
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=9))
    restarts = data.draw(st.sets(st.integers(0, 40)))
    assert_goes_on(PLAN, events, rotated, len(events), sizes, restarts)


PAUSES = st.sampled_from([0, 1_000_000, 9_000_000, 20_000_000, 50_000_000])
SHOPS, CHANNELS = st.sampled_from([None, "s"]), st.sampled_from(["web", "chip"])
EARLY_OR_LATE = st.sampled_from([0, 0, 0, AHEAD_US, -1_000_000, -LATE_US])


@settings(max_examples=150, deadline=None)
@given(streams(60), st.data())
def test_the_former_key_can_be_taken_out_once_the_horizon_has_passed(events, data):
    """As far as nothing comes later than `max_late`; a category has the code that was learned, of its former name."""
    now_us = 0
    for event in events:  # busy keys: their windows are never empty
        now_us += data.draw(PAUSES)
        event["received"] = now_us
        if "time" in event:
            event |= {"card": "a", "shop": data.draw(SHOPS), "channel": data.draw(CHANNELS)}
            event["time"] = now_us + data.draw(EARLY_OR_LATE)
    rotated = data.draw(st.integers(0, len(events) - 1))
    last_us = events[max(rotated - 1, 0)]["received"]
    taken_out = next((n for n, one in enumerate(events) if one["received"] > last_us + HORIZON_US), len(events))
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=9))
    restarts = data.draw(st.sets(st.integers(0, 60)))
    assert_goes_on(REMEMBERED, events, rotated, max(taken_out, rotated), sizes, restarts)


DISTINCT = FeaturePlan(SCHEMA, (f.distinct("card", by="shop", over="10s"), f.count(by="card", over="1m")))


def renamed(store, i, time, name, former, **fields):
    """Take a payment whose card has a name, and had another one before."""
    event = payment(i, time, card=name, shop="s", **fields)
    names = np.zeros((1, len(COLUMNS)), np.uint64)
    names[0, COLUMNS["card"]] = hash_text(former) if former else 0
    return store.advance(as_columns([event]), names if former else None).rows[0].tolist()


def test_the_profile_is_found_under_the_new_name_and_no_longer_under_the_former_one():
    store = MemoryStore(DISTINCT)
    assert renamed(store, 0, 0, "one", None) == [1, 1]
    assert renamed(store, 1, 1_000_000, "two", "one") == [1, 2]
    was, is_now = store.export("card", np.array([hash_text("one"), hash_text("two")], np.uint64))
    assert was == b""
    assert is_now
    assert renamed(store, 2, 2_000_000, "one", None) == [1, 1]  # it is a card of its own by now


def test_a_name_can_follow_one_that_followed_another():
    store = MemoryStore(DISTINCT)
    for n, (name, former) in enumerate([("one", None), ("two", "one"), ("three", "two"), ("three", None)]):
        assert renamed(store, n, n * 8_000_000, name, former) == [1, n + 1]
        store = restarted(store)


def test_a_key_that_has_a_profile_under_its_new_name_keeps_it():
    """As one that a model trained with the new key knows from its history."""
    store = MemoryStore(DISTINCT)
    for n, name in enumerate(["new", "new", "old"]):
        renamed(store, n, n, name, None)
    assert renamed(store, 3, 3, "new", "old") == [2, 3]


def test_former_names_are_forgotten_as_keys_are():
    store = MemoryStore(DISTINCT)
    renamed(store, 0, 0, "one", None)
    renamed(store, 1, 1_000_000, "two", "one")
    assert len(store.snapshot()["1.names"] if "1.names" in store.snapshot() else store.snapshot()["0.names"]) == 3
    later_us = 10 * 86_400_000_000
    for n in range(300):
        renamed(store, 10 + n, later_us + n * 20_000_000, f"other {n}", None)
    assert not [name for name in store.snapshot() if name.endswith("names")]
    assert sum(int(state.names.facts[2]) for state in store._groups) == 0


@pytest.mark.parametrize("names", [[1], [0, 1, 1], [2, 1, 1], [3, 0, 1], [3, 1, 2**62], [3, 1, 1.0]])
def test_former_names_that_cannot_be_any_are_refused(names):
    store = MemoryStore(DISTINCT)
    renamed(store, 0, 0, "one", None)
    taken = store.snapshot() | {"0.names": np.array(names)}
    with pytest.raises(StorageProblem, match="former names"):
        MemoryStore(DISTINCT).restore(taken)
