"""The kernel against brute force: equal to the last bit, whatever arrives, in whatever batches."""

import math
import os
from pathlib import Path

import msgspec
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import AHEAD_US, ONE_IN_FIVE, PLAN, SCHEMA, as_columns, payment, same_bits, streams

from sentinel.errors import InvalidDefinition
from sentinel.events.columns import columns_of_transactions
from sentinel.features import definitions as f
from sentinel.features import layout
from sentinel.features.event_list import after, head
from sentinel.features.forgetting import FREED_EVENTS, NEW_KEY_WEIGHT, SWEEP_EVERY, SWEPT_ROWS
from sentinel.features.kernel import advance
from sentinel.features.packed import pack, unpack
from sentinel.features.plan import FeaturePlan
from sentinel.features.profile import read_profiles
from sentinel.features.store import MemoryStore
from sentinel.features.table import held


def assert_same(plan, got, expected):
    expected = np.array(expected, dtype=np.float64).reshape(got.shape)
    for column, name in enumerate(plan.names):
        assert same_bits(got[:, column], expected[:, column]), (name, got[:, column], expected[:, column])


@settings(max_examples=200, deadline=None)
@given(streams(again=ONE_IN_FIVE))
def test_every_feature_equals_brute_force_to_the_last_bit(events):
    got = MemoryStore(PLAN).advance(as_columns(events)).rows
    assert_same(PLAN, got, oracle.replay(PLAN, events))


def test_the_kernel_is_compiled_once_wherever_events_and_profiles_come_from():
    """From a file or the log they are read-only: another type of array to the compiler, and ten seconds of its work."""
    live, replayed, restored = MemoryStore(PLAN), MemoryStore(PLAN), MemoryStore(PLAN)
    events = as_columns([payment(i, i) for i in range(3)])
    rows = live.advance(events).rows
    events.ids.flags.writeable = events.labels.flags.writeable = False
    assert same_bits(replayed.advance(events).rows, rows)
    restored.restore(live.snapshot())
    restored.restore(unpack(pack(live.snapshot())))
    assert len(advance.signatures) == len(read_profiles.signatures) == 1


@settings(max_examples=100, deadline=None)
@given(streams(again=ONE_IN_FIVE), st.lists(st.integers(1, 7), min_size=1, max_size=20))
def test_batches_do_not_matter(events, sizes):
    columns = as_columns(events)
    at_once = MemoryStore(PLAN)
    whole = at_once.advance(columns)
    store, rows, late, begin = MemoryStore(PLAN), [], [], 0
    while begin < len(columns):
        size = sizes[len(rows) % len(sizes)]
        part = store.advance(columns.rows(slice(begin, begin + size)))
        rows.append(part.rows)
        late.append(part.late)
        begin += size
    assert same_bits(np.concatenate(rows), whole.rows)
    assert (np.concatenate(late) == whole.late).all()
    assert pack(store.snapshot()) == pack(at_once.snapshot())


@settings(max_examples=100, deadline=None)
@given(streams(again=ONE_IN_FIVE), st.integers(0, 40))
def test_a_restored_snapshot_goes_on_with_the_same_bits(events, cut):
    columns = as_columns(events)
    first, second = columns.rows(slice(0, cut)), columns.rows(slice(cut, None))
    store = MemoryStore(PLAN)
    store.advance(first)
    copy = MemoryStore(PLAN)
    copy.restore(unpack(pack(store.snapshot())))
    expected, got = store.advance(second), copy.advance(second)
    assert same_bits(got.rows, expected.rows)
    assert (got.late == expected.late).all()
    assert all_profiles(copy) == all_profiles(store)


def all_profiles(store):
    """What is remembered of every key."""
    return [sorted(store.export(by, store.keys_of(by))) for by in store.groups]


def test_a_long_stream_that_grows_every_table_equals_brute_force():
    rng = np.random.default_rng(7)
    features = (
        f.count(by="card", over="1m"),
        f.std("amount", by="card", over="1m"),
        f.minimum("amount", by="card", over="10s"),
        f.distinct("shop", by="card", over="1m"),
        f.fraud_rate(by="shop", over="30s", delay="10s"),
    )
    plan = FeaturePlan(msgspec.structs.replace(SCHEMA, max_late="1d"), features)
    events = []
    now = 0
    for i in range(6000):
        now += int(rng.integers(0, 300_000))
        events.append(
            payment(
                i,
                max(now - int(rng.integers(0, 2)) * int(rng.integers(0, 5_000_000)), 0),
                amount=int(rng.integers(1, 10**7)) / 100,
                card=f"card-{rng.integers(0, 3) if i % 2 else i}",
                shop=f"shop-{rng.integers(0, 40)}",
            )
        )
        if i % 5 == 0:
            events.append({"outcome": f"t{max(0, i - int(rng.integers(0, 300)))}", "fraud": True, "received": now})
    store = MemoryStore(plan)
    got = store.advance(as_columns(events)).rows
    assert store.keys() > 3000
    assert_same(plan, got[-300:], oracle_tail(plan, events, 300))


def test_memory_that_is_taken_ahead_changes_nothing(monkeypatch):
    monkeypatch.setattr("sentinel.features.store._LEAST_AHEAD", 32 << 20)
    plan = FeaturePlan(SCHEMA, (f.total("amount", by="card", over="1m"), f.distinct("shop", by="card", over="1m")))
    ahead, plain = MemoryStore(plan), MemoryStore(plan)
    for batch in range(20):
        events = as_columns([payment(i, i, card=f"c{i}", shop="s") for i in range(100 * batch, 100 * batch + 100)])
        ahead.make_room()
        assert same_bits(ahead.advance(events).rows, plain.advance(events).rows)
    assert pack(ahead.snapshot()) == pack(plain.snapshot())
    assert len(ahead._taken) == 6
    assert all(taken >= 32 << 20 for taken in ahead._taken.values())
    assert ahead.nbytes() == plain.nbytes() < 1 << 20


def test_a_store_that_is_used_no_more_gives_its_memory_back():
    plan = FeaturePlan(SCHEMA, (f.total("amount", by="card", over="1m"),))
    store, n = MemoryStore(plan), 100_000
    keys = np.arange(1, n + 1, dtype=np.uint64)
    one = as_columns([payment(0, 1)])
    many = one.rows(np.zeros(n, np.int64))
    many.texts[:, SCHEMA.texts.index("card")] = keys
    store.advance(many)
    before, size = resident_bytes(), store.nbytes()
    assert size > 10_000_000
    store.give_back()
    assert before - resident_bytes() > size // 2


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def oracle_tail(plan, events, n):
    """The last n rows by brute force, over the last 2,500 events: more than any window holds."""
    return oracle.replay(plan, events[-2500:])[-n:]


def test_distance_and_speed_equal_brute_force():
    plan = FeaturePlan(SCHEMA, (f.distance_since_last(by="card"), f.speed_since_last(by="card")))
    places = [(48.137154, 11.576124), (52.520008, 13.404954), (-33.8688, 151.2093), (-33.8688, 151.2093), (None, None)]
    events = [
        payment(i, i * 600_000_000, latitude=latitude, longitude=longitude)
        for i, (latitude, longitude) in enumerate(places)
    ]
    got = MemoryStore(plan).advance(as_columns(events)).rows
    assert_same(plan, got, oracle.replay(plan, events))
    assert math.isnan(got[0, 0])
    assert got[1, 0] == pytest.approx(504.3, abs=0.1)  # Munich to Berlin
    assert got[2, 1] == pytest.approx(got[2, 0] * 6)  # ten minutes


def test_an_event_later_than_its_key_counts_at_the_clock_and_says_late():
    plan = FeaturePlan(SCHEMA, (f.count(by="card", over="10s"), f.seconds_since_last(by="card")))
    times = [100_000_000, 95_000_000, 89_000_000, 109_000_000]
    events = [payment(i, time) for i, time in enumerate(times)]
    got = MemoryStore(plan).advance(as_columns(events))
    assert got.rows[:, 0].tolist() == [1, 2, 2, 3]  # 89 s is outside (90, 100]; at 109 s 100 s and 95 s stay
    assert got.late.tolist() == [0, 1, 1, 0]
    assert got.rows[1:, 1].tolist() == [0, 0, 9]


def test_a_payment_that_claims_to_be_later_does_not_hide_the_ones_after_it():
    plan = FeaturePlan(SCHEMA, (f.count(by="card", over="1m"), f.hour_of_day()))
    half_an_hour, hour = 1_800_000_000, 3_600_000_000
    events = [payment(0, hour + half_an_hour, received=hour - AHEAD_US)]
    events += [payment(i, hour + i * 1_000_000) for i in range(1, 21)]
    events += [payment(21, 2 * hour, received=hour + 21_000_000)]
    got = MemoryStore(plan).advance(as_columns(events)).rows
    assert got[:, 0].tolist() == list(range(1, 23))
    assert got[[0, 21], 1].tolist() == [1, 2]  # parts of the time are its own
    assert_same(plan, got, oracle.replay(plan, events))


def test_memory_stays_flat_once_the_windows_are_full():
    plan = FeaturePlan(SCHEMA, (f.std("amount", by="card", over="10s"), f.distinct("channel", by="card", over="10s")))
    store = MemoryStore(plan)
    to_columns = columns_of_transactions(SCHEMA)
    sizes = []
    for i in range(20):
        batch = [
            SCHEMA.wire_type(
                transaction_id=f"{i}-{j}", event_time=(i * 1000 + j) * 20_000, amount=1.5, card=f"c{j % 7}",
                channel=f"v{j % 50}",
            )
            for j in range(1000)
        ]  # fmt: skip
        store.advance(to_columns(batch, 10**12))
        sizes.append(store.nbytes())
    assert sizes[3:] == [sizes[3]] * len(sizes[3:])


ONCE = (
    f.count(by="card", over="10s"), f.maximum("amount", by="card", over="10s"), f.seconds_since_last(by="card"),
    f.distinct("channel", by="card", over="10s"), f.fraud_rate(by="card", over="10s", delay="5s"),
)  # fmt: skip


def test_keys_that_are_seen_once_leave_nothing_behind():
    plan = FeaturePlan(SCHEMA, ONCE, forget_after="20s")
    store, sizes, horizon_s = MemoryStore(plan), [], 30
    for minute in range(40):
        seconds = np.arange(60 * minute, 60 * minute + 60, 0.05)
        payments = [payment(f"{at}", int(at * 1e6), card=f"card-{at}", channel="web") for at in seconds]
        store.advance(as_columns(payments))
        sizes.append(store.nbytes())
        assert store.keys() <= 2 * horizon_s * 20
    assert sizes[3:] == [sizes[3]] * len(sizes[3:])
    assert store.keys() + store.forgotten() == 40 * 60 * 20
    state = store._groups[0]
    assert held(state.values) <= store.keys()
    assert held(state.ids) <= store.keys()


@pytest.mark.parametrize("regulars", [0, 50])
def test_what_a_snapshot_brought_and_what_came_once_is_freed_whoever_comes_then(regulars):
    """Rows are filled behind the one that is looked at next, or by nobody: neither may end the looking."""
    plan = FeaturePlan(SCHEMA, ONCE, forget_after="20s")
    store, restored = MemoryStore(plan), MemoryStore(plan)
    store.advance(as_columns([payment(f"a{i}", i, card=f"a{i}") for i in range(3000)]))
    restored.restore(store.snapshot())
    seconds = np.arange(86_400, 86_400 + 600, 0.1)
    cards = [f"b{n % regulars if regulars else n}" for n in range(len(seconds))]
    restored.advance(
        as_columns([payment(f"b{at}", int(at * 1e6), card=c) for at, c in zip(seconds, cards, strict=True)])
    )
    assert restored.keys() <= (3 * 30 * 10 if regulars == 0 else 50 + 3000 - 6000 // SWEEP_EVERY * SWEPT_ROWS + 64)


def test_a_key_with_many_events_is_freed_in_small_steps():
    plan = FeaturePlan(SCHEMA, (f.count(by="card", over="10s"),))
    store = MemoryStore(plan)
    store.advance(as_columns([payment(i, i) for i in range(1000)]))
    later = [payment(f"b{i}", 60_000_000 + i, card=f"b{i}") for i in range(400)]
    for i, one in enumerate(later):
        store.advance(as_columns([one]))
        freed = 1000 + i + 1 - events_of(store)
        assert freed <= ((NEW_KEY_WEIGHT + 1) * i // SWEEP_EVERY + 1) * SWEPT_ROWS * (FREED_EVENTS + 1)
    assert store.keys() == len(later)
    assert events_of(store) == len(later)


def events_of(store):
    """How many events the first group holds."""
    plan, state = store.compiled.groups[0], store._groups[0]
    rows = state.keys[: state.counters[layout.N_KEYS]]
    alive = rows[rows[:, layout.HEARD] != layout.NEVER]
    return int(sum(n_events(plan, state, cells) for cells in alive))


def n_events(plan, state, cells):
    n, event = 0, head(plan, cells)
    while event != layout.NONE:
        n, event = n + 1, after(plan, state, cells, event)
    return n


@pytest.mark.parametrize("others", [0, 50])
def test_an_outcome_of_a_forgotten_key_is_not_known_whether_its_row_was_freed_or_not(others):
    plan = FeaturePlan(SCHEMA, (f.fraud_count(by="card", over="1m", delay="5s"),), forget_after="1s")
    store, horizon = MemoryStore(plan), 75_000_000
    others_later = [payment(f"o{i}", horizon + 1, card=f"other-{i}") for i in range(others)]
    outcome = {"outcome": "t0", "fraud": True}
    store.advance(as_columns([payment(0, 0)]))
    assert store.advance(as_columns([{**outcome, "received": horizon}])).known.tolist() == [1]
    if others_later:
        store.advance(as_columns(others_later))
    assert store.keys() == (others or 1)
    assert store.advance(as_columns([{**outcome, "received": horizon + 1}])).known.tolist() == [0]


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(payment(0, 0, received=71_000_000, shop="s"), id="too old to be counted"),
        pytest.param(payment(0, 71_000_000), id="without the key"),
    ],
)
def test_an_outcome_is_about_the_newest_transaction_of_its_id_although_that_is_not_counted(again):
    plan = FeaturePlan(SCHEMA, (f.fraud_count(by="shop", over="1m", delay="5s"),))
    store = MemoryStore(plan)
    outcome = {"outcome": "t0", "fraud": True, "received": 72_000_000}
    events = [payment(0, 70_000_000, shop="s"), again, outcome, payment(1, 80_000_000, shop="s")]
    rows = store.advance(as_columns(events)).rows
    assert rows[-1].tolist() == [0.0] == oracle.replay(plan, events)[-1]


def test_a_session_cannot_outlast_what_is_remembered():
    with pytest.raises(InvalidDefinition, match="forget_after"):
        MemoryStore(FeaturePlan(SCHEMA, (f.session_count(by="card", gap="2d"),), forget_after="1d"))
