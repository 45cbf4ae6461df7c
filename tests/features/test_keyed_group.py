"""A group that is handed the profile of one key and one event at a time knows the same to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from streams import PLAN, as_columns, payment, same_bits, streams
from test_profiles import addressed

from sentinel.errors import StorageProblem
from sentinel.events.columns import NO_TEXT, TRANSACTION
from sentinel.features.keyed_group import KeyedGroup
from sentinel.features.store import MemoryStore

EMPTY = MemoryStore(PLAN)
GROUPS = [KeyedGroup(PLAN, EMPTY, by) for by in EMPTY.groups]


def one_by_one(columns, groups=GROUPS):
    """Rows, `late` and `known` of events that go from group to group, each with a profile by key."""
    profiles: list[dict[int, bytes]] = [{} for _ in groups]
    rows, late, known = [], [], []
    for n in range(len(columns)):
        packed = groups[0].cells.pack_columns(columns.rows(slice(n, n + 1)))
        for group, kept in zip(groups, profiles, strict=True):
            key = group.key_of(packed)
            packed, profile = group.take(packed, kept.get(key, b"") if key != NO_TEXT else b"")
            if profile:
                kept[key] = profile
            else:
                kept.pop(key, None)
        cells = groups[0].cells
        cells.read(packed)
        known.append(int(cells.known[0]))
        if columns.kinds[n] == TRANSACTION:
            rows.append(cells.features()[0].copy())
            late.append(int(cells.late[0]))
    return np.array(rows).reshape(-1, len(PLAN.features)), late, known


@settings(max_examples=100, deadline=None)
@given(streams())
def test_event_by_event_and_key_by_key_the_bits_are_those_of_one_store(events):
    columns = addressed(events)
    expected = MemoryStore(PLAN).advance(columns)
    rows, late, known = one_by_one(columns)
    assert same_bits(rows, expected.rows)
    assert late == expected.late.tolist()
    assert known == expected.known.tolist()


def test_a_profile_may_grow_beyond_the_room_that_was_made_for_it():
    columns = as_columns([payment(i, i * 1_000, shop="s", channel="web") for i in range(3_000)])
    rows, _, _ = one_by_one(columns)
    assert same_bits(rows, MemoryStore(PLAN).advance(columns).rows)


def test_a_damaged_profile_is_refused_and_one_of_another_key_too():
    by_card = GROUPS[0]
    first, other = (by_card.cells.pack_columns(as_columns([payment(1, 1, card=card)])) for card in "ab")
    _, profile = by_card.take(first, b"")
    with pytest.raises(StorageProblem, match="damaged"):
        by_card.take(first, profile[:-1] + bytes([profile[-1] ^ 1]))
    with pytest.raises(StorageProblem, match="damaged"):
        KeyedGroup(PLAN, EMPTY, by_card.by).take(other, profile)
