"""Profiles: a key that travels as bytes gives the same bits as one that stays."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import PLAN, SCHEMA, as_columns, payment, same_bits, streams
from xxhash import xxh3_64_digest

from sentinel.errors import StorageProblem
from sentinel.events.columns import hash_text
from sentinel.features import definitions as f
from sentinel.features.plan import FeaturePlan
from sentinel.features.profile import read_profiles
from sentinel.features.profile_store import ProfileStore
from sentinel.features.store import MemoryStore

SMALL = FeaturePlan(SCHEMA, (f.total("amount", by="card", over="1m"),))
CARD = np.array([hash_text("a")], np.uint64)


def addressed(events):
    """The events, with the keys of its transaction in every outcome."""
    columns = as_columns(events)
    rows = {event["id"]: i for i, event in enumerate(events) if "id" in event}
    for i, event in enumerate(events):
        if event.get("outcome") in rows:
            columns.texts[i] = columns.texts[rows[event["outcome"]]]
    return columns


def batches_of(columns, sizes):
    begin, taken = 0, 0
    while begin < len(columns):
        size = sizes[taken % len(sizes)]
        yield columns.rows(slice(begin, begin + size))
        begin, taken = begin + size, taken + 1


@settings(max_examples=150, deadline=None)
@given(streams(), st.lists(st.integers(1, 9), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_staying_and_travelling_in_any_mixture_give_the_same_bits(events, sizes, random):
    columns = addressed(events)
    stays, travels = MemoryStore(PLAN), MemoryStore(PLAN)
    for batch in batches_of(columns, sizes):
        expected, got = stays.advance(batch), travels.advance(batch)
        assert same_bits(got.rows, expected.rows)
        assert (got.late == expected.late).all()
        assert (got.known == expected.known).all()
        for by in travels.groups:
            going = travels.keys_of(by)
            going = going[[random.random() < 0.5 for _ in going]]
            profiles = travels.export(by, going)
            if random.random() < 0.5:
                travels.drop(by, going)
            random.shuffle(profiles)
            travels.load(by, profiles)
    assert everything(travels) == everything(stays)


@settings(max_examples=150, deadline=None)
@given(streams(), st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_a_store_that_keeps_only_profiles_gives_the_same_bits(events, sizes):
    memory, profiles, columns = MemoryStore(PLAN), {}, addressed(events)
    store = ProfileStore(PLAN, profiles)
    for batch in batches_of(columns, sizes):
        expected, got = memory.advance(batch), store.advance(batch)
        assert same_bits(got.rows, expected.rows)
        assert (got.late == expected.late).all()
        assert (got.known == expected.known).all()
    assert store._memory.keys() == 0
    remembered = everything(memory)
    assert {key: profiles[key] for key in remembered} == remembered


@settings(max_examples=100, deadline=None)
@given(streams(), st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_what_is_known_by_profiles_is_what_a_store_says_and_changes_none_of_them(events, sizes):
    profiles, columns = {}, addressed(events)
    keeps, looks = ProfileStore(PLAN, profiles), ProfileStore(PLAN, {})
    for batch in batches_of(columns, sizes):
        before = dict(profiles)
        got = [looks.known_at(batch, profiles) for _ in range(2)]
        assert profiles == before
        expected = keeps.advance(batch)
        for one in got:
            assert same_bits(one.rows, expected.rows)
            assert (one.late == expected.late).all()
    assert looks._memory.keys() == 0


def everything(store):
    """What is remembered of every key, by field and hash."""
    return {
        (by, key): profile
        for by in store.groups
        for key, profile in zip(store.keys_of(by).tolist(), store.export(by, store.keys_of(by)), strict=True)
    }


def test_a_profile_is_the_same_whoever_makes_it():
    """Nothing in it comes from the process: it must be readable by one of next year's."""
    store = MemoryStore(SMALL)
    store.advance(as_columns([payment("other", 1, card="b"), payment(0, 1_700_000_000_000_000, amount=12.34)]))
    assert [one.hex() for one in store.export("card", CARD)] == [PROFILE]


PROFILE = "03835a62d7a55847ea1f4e961eb632c6e68080f2818389850600020000a41329e43cba"


def test_what_is_dropped_is_as_new_and_leaves_nothing_behind():
    store = MemoryStore(PLAN)
    store.advance(as_columns([payment(i, i * 100_000, shop="s", channel="web") for i in range(50)]))
    for by in store.groups:
        store.drop(by, store.keys_of(by))
    assert store.keys() == 0
    state = store._groups[0]
    assert [int(table.facts[2]) for table in (state.slots, state.values, state.ids)] == [0, 0, 0]
    again = as_columns([payment(99, 6_000_000, shop="s")])
    assert same_bits(store.advance(again).rows, MemoryStore(PLAN).advance(again).rows)


@pytest.mark.parametrize("byte", range(30))
def test_a_damaged_profile_is_refused(byte):
    store = MemoryStore(SMALL)
    store.advance(as_columns([payment(0, 0), payment(1, 9)]))
    [profile] = store.export("card", CARD)
    damaged = bytearray(profile)
    damaged[byte % len(profile)] ^= 16
    other = MemoryStore(SMALL)
    with pytest.raises(StorageProblem, match=r"damaged|another"):
        other.load("card", [profile, bytes(damaged)])
    assert other.keys() == 0


ANOTHER = {
    "reach": FeaturePlan(SCHEMA, (f.total("amount", by="card", over="2m"),)),
    "decimals": FeaturePlan(msgspec.structs.replace(SCHEMA, amount_decimals=3), SMALL.features),
    "field": FeaturePlan(SCHEMA, (f.total("points", by="card", over="1m"),)),
    "name": FeaturePlan(
        msgspec.structs.replace(SCHEMA, amount="paid", events={}), (f.total("paid", by="card", over="1m"),)
    ),
    "what is kept": FeaturePlan(SCHEMA, (*SMALL.features, f.last("amount", by="card"))),
}


def test_profiles_that_hold_labels_are_of_what_the_plan_trusts():
    labelled = FeaturePlan(SCHEMA, (f.fraud_count(by="card", over="1m", delay="1s"),))
    picky = msgspec.structs.replace(labelled, trusts=("bank",))
    store = MemoryStore(labelled)
    store.advance(as_columns([payment(0, 0)]))
    with pytest.raises(StorageProblem, match="another feature plan"):
        MemoryStore(picky).load("card", store.export("card", CARD))
    store = MemoryStore(SMALL)
    store.advance(as_columns([payment(0, 0)]))
    MemoryStore(msgspec.structs.replace(SMALL, trusts=("bank",))).load("card", store.export("card", CARD))


@pytest.mark.parametrize("plan", ANOTHER.values(), ids=ANOTHER)
def test_a_profile_of_another_plan_is_refused(plan):
    store = MemoryStore(SMALL)
    store.advance(as_columns([payment(0, 0)]))
    with pytest.raises(StorageProblem, match="another feature plan"):
        MemoryStore(plan).load("card", store.export("card", CARD))


def test_a_profile_is_read_by_a_plan_with_other_windows_that_follow_from_it():
    store = MemoryStore(SMALL)
    events = as_columns([payment(i, i * 10_000_000, amount=i) for i in range(9)])
    store.advance(events.rows(slice(0, 6)))
    plan = FeaturePlan(SCHEMA, (f.maximum("amount", by="card", over="20s"), f.std("amount", by="card", over="1m")))
    other, whole = MemoryStore(plan), MemoryStore(plan)
    other._fingerprints = store._fingerprints  # `maximum` keeps more of an event; what is written is the same
    other.load("card", store.export("card", CARD))
    assert same_bits(other.advance(events.rows(slice(6, 9))).rows, whole.advance(events).rows[6:])


def test_a_profile_that_is_longer_than_it_says_is_refused():
    store = MemoryStore(SMALL)
    store.advance(as_columns([payment(0, 0), payment(1, 0, card="b")]))
    first, second = store.export("card", store.keys_of("card"))
    longer = first[:-4] + second[13:-4]
    forged = longer + xxh3_64_digest(longer)[:4]
    with pytest.raises(StorageProblem, match="damaged"):
        MemoryStore(SMALL).load("card", [forged])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_can_harm_the_state(data):
    """Whoever can write to Redis can make checksums too."""
    store, twin = MemoryStore(PLAN), MemoryStore(PLAN)
    before = as_columns([payment(i, i * 1_000_000, shop="s") for i in range(5)])
    store.advance(before)
    twin.advance(before)
    for plan, state in zip(store.compiled.groups, store._groups, strict=True):
        read_profiles(plan, state, np.frombuffer(data, np.uint8), 0, np.zeros(0, np.int64), 100)
    after = as_columns([payment(9, 6_000_000, card="b", shop="t")])
    assert same_bits(store.advance(after).rows, twin.advance(after).rows)


def test_a_profile_that_is_refused_takes_nothing_out_of_windows_it_never_entered():
    store, n = MemoryStore(PLAN), 300
    store.advance(as_columns([payment(i, i * 1_000, channel="web", shop="s") for i in range(n)]))
    by = store.groups.index("card")
    plan, state = store.compiled.groups[by], store._groups[by]
    [profile] = store.export("card", CARD)
    store.drop("card", CARD)
    before = [table.facts[:3].tolist() for table in (state.slots, state.values, state.ids)]
    body = np.frombuffer(profile[9:-4], np.uint8)
    for cut in range(20, len(body), 7):
        read_profiles(plan, state, body[:cut], 0, np.zeros(0, np.int64), 1)
        assert [table.facts[:3].tolist() for table in (state.slots, state.values, state.ids)] == before
    assert store.keys_of("card").tolist() == []
