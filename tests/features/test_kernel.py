"""The kernel against brute force: equal to the last bit, whatever arrives, in whatever batches."""

import importlib.util
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition
from sentinel.events.columns import EventColumns, Outcome, columns_of_outcomes, columns_of_transactions, concatenate
from sentinel.events.schema import Schema
from sentinel.features import definitions as f
from sentinel.features import layout
from sentinel.features.kernel import FREED_EVENTS, SWEEP_EVERY, SWEPT_ROWS
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore, pack, unpack

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

SCHEMA = Schema(
    keys=("card", "shop"),
    categories=("channel",),
    numbers=("risk",),
    exact={"points": 0},
    place=("latitude", "longitude"),
    optional=("shop", "channel", "risk", "points", "latitude", "longitude"),
    negative_amounts=True,
    max_ahead="5s",
    max_late="10s",
)
AHEAD_US = 5_000_000
WINDOWS = tuple(
    feature
    for over in ("3s", "10s", "1m")
    for by in ("card", "shop")
    for feature in (
        f.count(by=by, over=over),
        f.count(by=by, over=over, include_current=False),
        f.count(by=by, over=over, delay="5s"),
        f.total("amount", by=by, over=over),
        f.mean("amount", by=by, over=over, include_current=False),
        f.mean("points", by=by, over=over),
        f.mean("amount", by=by, over=over, delay="7s"),
        f.std("amount", by=by, over=over),
        f.std("points", by=by, over=over, delay="2s"),
        f.minimum("amount", by=by, over=over),
        f.maximum("amount", by=by, over=over),
        f.maximum("points", by=by, over=over, include_current=False),
        f.distinct("channel", by=by, over=over),
        f.fraud_count(by=by, over=over, delay="4s"),
        f.fraud_rate(by=by, over=over, delay="10s"),
    )
)
REST = (
    f.field("amount"),
    f.field("risk"),
    f.field("points"),
    f.category("channel"),
    f.hour_of_day(),
    f.day_of_week(),
    f.is_weekend(),
    f.is_night(6),
    f.distinct("shop", by="card", over="10s"),
    f.seconds_since_last(by="card"),
    f.last("amount", by="card"),
    f.last("points", by="shop"),
    f.distance_since_last(by="card"),
    f.speed_since_last(by="shop"),
    f.session_count(by="card", gap="3s"),
    f.session_total("points", by="card", gap="3s"),
    f.session_total("amount", by="card", gap="5s"),
    f.session_seconds(by="card", gap="3s"),
    f.ratio("amount", to=f.mean("amount", by="card", over="10s")),
    f.ratio(f.count(by="card", over="3s"), to=f.count(by="card", over="1m")),
)
PLAN = FeaturePlan(SCHEMA, WINDOWS + REST, {"channel": ("web", "chip")}, forget_after="75s")
HORIZON_US = 85_000_000

WEIRD_KEYS = ("a", "A", " ", "ключ", "🂡", "x" * 200, "0", "null", "a\x00b")
amounts = st.one_of(
    st.integers(-500, 500),
    st.sampled_from([0, 1, -1, 10**12, -(10**12), 10**12 - 1]),
).map(lambda cents: cents / 100)


@st.composite
def streams(draw, length=40):
    """Transactions with ties, late ones and ones ahead of their arrival, and outcomes of some of them in between."""
    events = []
    now = draw(st.sampled_from([0, 1_735_689_600_000_000, 86_399_000_000]))
    for i in range(draw(st.integers(1, length))):
        if events and draw(st.integers(0, 4)) == 0:
            outcome = {"outcome": f"t{draw(st.integers(0, i))}", "fraud": draw(st.booleans()), "received": now}
            events.append(outcome)
            continue
        now += draw(st.sampled_from([0, 0, 1, 999_999, 1_000_000, 2_000_000, 3_000_000, 9_000_000, 70_000_000,
                                     HORIZON_US, HORIZON_US + 1]))  # fmt: skip
        late = draw(st.sampled_from([0, 0, 0, 1, 1_000_000, 3_000_000, 10_000_000, 90_000_000]))
        ahead = draw(st.sampled_from([0, 0, 0, 1, AHEAD_US, AHEAD_US + 1, 10_000_000, 1_800_000_000, -(10**9)]))
        place = draw(st.sampled_from([(None, None), (48.137154, 11.576124), (-90.0, 180.0), (0.0, 0.0)]))
        events.append(
            {
                "id": f"t{i}",
                "time": max(now - late + ahead, 0),
                "received": now,
                "amount": draw(amounts),
                "points": draw(st.one_of(st.none(), st.integers(-(10**12), 10**12))),
                "latitude": place[0],
                "longitude": place[1],
                "risk": draw(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))),
                "card": draw(st.sampled_from(WEIRD_KEYS[:3])),
                "shop": draw(st.sampled_from((None, *WEIRD_KEYS[3:6]))),
                "channel": draw(st.sampled_from([None, "web", "chip", "fax", "telex"])),
            }
        )
    return events


def payment(i, time, received=None, **fields):
    """A transaction by hand, of card `a`; received when it happened unless said otherwise."""
    nothing = dict.fromkeys(("points", "latitude", "longitude", "risk", "shop", "channel"))
    received = time if received is None else received
    return {**nothing, "id": f"t{i}", "time": time, "received": received, "amount": 1.0, "card": "a", **fields}


def as_columns(events) -> EventColumns:
    to_columns = columns_of_transactions(SCHEMA)
    parts = []
    for event in events:
        if "outcome" in event:
            parts.append(columns_of_outcomes(SCHEMA, [Outcome(event["outcome"], event["fraud"], 0)], event["received"]))
        else:
            values = {SCHEMA.id: event["id"], SCHEMA.time: event["time"]}
            values |= {name: event[name] for name in SCHEMA.fields[2:]}
            parts.append(to_columns([SCHEMA.wire_type(**values)], event["received"]))
    return concatenate(parts)


def same_bits(a, b) -> bool:
    a, b = np.ascontiguousarray(a, np.float64), np.ascontiguousarray(b, np.float64)
    both_missing = np.isnan(a) & np.isnan(b)
    return a.shape == b.shape and bool(np.all((a.view(np.int64) == b.view(np.int64)) | both_missing))


def assert_same(plan, got, expected):
    expected = np.array(expected, dtype=np.float64).reshape(got.shape)
    for column, name in enumerate(plan.names):
        assert same_bits(got[:, column], expected[:, column]), (name, got[:, column], expected[:, column])


@settings(max_examples=300, deadline=None)
@given(streams())
def test_every_feature_equals_brute_force_to_the_last_bit(events):
    got = MemoryStore(PLAN).advance(as_columns(events)).rows
    assert_same(PLAN, got, oracle.replay(PLAN, events))


@settings(max_examples=100, deadline=None)
@given(streams(), st.lists(st.integers(1, 7), min_size=1, max_size=20))
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
@given(streams(), st.integers(0, 40))
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
    assert pack(copy.snapshot()) == pack(store.snapshot())


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

    # memory that is made ahead changes nothing
    ahead, plain, columns, rows, made = MemoryStore(plan), MemoryStore(plan), as_columns(events), [], 0
    for begin in range(0, len(columns), 100):
        rows.append(ahead.advance(columns.rows(slice(begin, begin + 100))).rows)
        plain.advance(columns.rows(slice(begin, begin + 100)))
        if ahead.grows_soon():
            ahead.make_room()
            made += 1
            assert not ahead.grows_soon()
    assert made > 3
    assert same_bits(np.concatenate(rows), got)
    assert pack(ahead.snapshot()) == pack(plain.snapshot())


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
    counters = store._groups[0].counters
    assert counters[layout.N_VALUES] <= store.keys()
    assert counters[layout.N_IDS] <= store.keys()


def test_a_key_with_many_events_is_freed_in_small_steps():
    plan = FeaturePlan(SCHEMA, (f.count(by="card", over="10s"),))
    store = MemoryStore(plan)
    store.advance(as_columns([payment(i, i) for i in range(1000)]))
    later = [payment(f"b{i}", 60_000_000 + i, card="b") for i in range(200)]
    for i, one in enumerate(later):
        store.advance(as_columns([one]))
        freed = 1000 + i + 1 - events_of(store)
        assert freed <= (i // SWEEP_EVERY + 1) * SWEPT_ROWS * (FREED_EVENTS + 1)
    assert store.keys() == 1
    assert events_of(store) == len(later)


def events_of(store):
    """How many events the first group holds."""
    state, free = store._groups[0], 0
    event = state.counters[layout.FREE_EVENT]
    while event != layout.NONE:
        free, event = free + 1, state.events[event, layout.NEXT]
    return state.counters[layout.N_EVENTS] - free


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


def test_a_session_cannot_outlast_what_is_remembered():
    with pytest.raises(InvalidDefinition, match="forget_after"):
        MemoryStore(FeaturePlan(SCHEMA, (f.session_count(by="card", gap="2d"),), forget_after="1d"))


def test_memory_made_too_late_is_made_anew_for_the_next_growth():
    store = MemoryStore(PLAN)
    store._spare["0.events"] = np.zeros((7, 1), np.int64)  # what a growth in the meantime has made useless
    assert not store.grows_soon()
    store._groups[0].counters[1] = len(store._groups[0].events) * 4 // 5
    assert store.grows_soon()
    store.make_room()
    assert not store.grows_soon()
