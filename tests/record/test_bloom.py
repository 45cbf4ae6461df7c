"""A Bloom filter never denies a key that it was given, and seldom has one that it was not."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.features.jit import entry
from sentinel.record.bloom import BloomFilter, block_at, may_hold

KEYS = st.lists(st.integers(1, (1 << 64) - 1), max_size=200)


@entry
def held(bloom, blocks, keys):
    count = 0
    for key in keys:
        count += may_hold(block_at(bloom, blocks, key), key)
    return count


def count_of(bloom, keys):
    return held(np.uint64(bloom.words.ctypes.data), np.uint64(bloom.blocks), keys)


@settings(deadline=None)
@given(KEYS)
def test_what_was_added_is_never_denied(keys):
    bloom, keys = BloomFilter(len(keys)), np.array(keys, np.uint64)
    bloom.add(keys)
    assert count_of(bloom, keys) == len(keys)


def test_of_1000_others_996_are_denied():
    keys = np.random.default_rng(7).integers(1, 1 << 64, 300_000, np.uint64)
    bloom = BloomFilter(100_000)
    bloom.add(keys[:100_000])
    assert count_of(bloom, keys[100_000:]) < 0.005 * 200_000


def test_an_empty_one_denies_everything():
    assert count_of(BloomFilter(0), np.arange(1, 1000, dtype=np.uint64) << np.uint64(54)) == 0
