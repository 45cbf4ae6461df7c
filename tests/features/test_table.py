"""The table against a dictionary, and against someone who chooses the keys."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numba import njit

from sentinel.features import table as t


@njit
def put(table, key, value):
    t.put(table, t.locate(table, key, t.hash_of(table, key)), key, value)


@njit
def get(table, key):
    place = t.locate(table, key, t.hash_of(table, key))
    return -1 if t.is_free(table, place) else table.places[place, t.VALUE]


@njit
def remove(table, key):
    t.remove(table, t.locate(table, key, t.hash_of(table, key)))


@njit
def put_many(table, keys):
    """The most places that any key lies behind the one where its search begins."""
    for i in range(len(keys)):
        t.put(table, t.locate(table, keys[i], t.hash_of(table, keys[i])), keys[i], i + 1)
    farthest = 0
    for i in range(len(keys)):
        hashed = t.hash_of(table, keys[i])
        behind = (t.locate(table, keys[i], hashed) - t.home(table, hashed)) % t.SEGMENT
        farthest = max(farthest, behind)
    return farthest


def key_of(number):
    return np.uint64(number)


class LikeADictionary(RuleBasedStateMachine):
    """Many keys are put and removed at a time, so that segments are split and runs go round their ends."""

    def __init__(self):
        super().__init__()
        self.table, self.model = t.empty_table(), {}

    @rule(first=st.integers(1, 4000), n=st.integers(1, 1500), value=st.integers(0, 2**40))
    def put(self, first, n, value):
        for number in range(first, first + n):
            put(self.table, key_of(number), value)
            self.model[number] = value

    @rule(first=st.integers(1, 4000), n=st.integers(1, 1500))
    def remove(self, first, n):
        for number in range(first, first + n):
            if self.model.pop(number, None) is not None:
                remove(self.table, key_of(number))

    @invariant()
    def holds_the_same(self):
        assert t.held(self.table) == len(self.model)
        assert all(get(self.table, key_of(number)) == self.model.get(number, -1) for number in range(1, 6000, 7))
        assert all(get(self.table, key_of(number)) == value for number, value in self.model.items())


LikeADictionary.TestCase.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
TestLikeADictionary = LikeADictionary.TestCase


def test_keys_that_are_chosen_to_collide_do_not_collide():
    """Each of these ends in the same bits, and begins with the same ones."""
    keys = (np.arange(1, 50_001, dtype=np.uint64) << np.uint64(20)) | np.uint64(0xF000_0000_0000_0001)
    assert put_many(t.empty_table(), keys) < 150
    assert t.hash_of(t.empty_table(), keys[0]) != t.hash_of(t.empty_table(), keys[0])


def test_memory_follows_what_it_holds():
    table = t.empty_table()
    assert t.bytes_of(table) < 10_000
    put_many(table, np.arange(1, 1_000_001, dtype=np.uint64))
    assert t.held(table) == 1_000_000
    assert 16 / 0.75 < t.bytes_of(table) / 1_000_000 < 40
