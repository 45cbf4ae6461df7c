"""The cache of scores against a plain list of all that was put in and asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.serve.vectors.score_cache import ScoreCache

ROWS = np.array([[0, 0], [-0.0, 0], [0, -0.0], [np.nan, 1], [1, np.nan], [1, 1], [2, 1], [np.inf, 5]], np.float32)
"""Vectors that are told apart by their bits, by some of them only there."""

keys = st.integers(0, len(ROWS) - 1)
steps = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 3]), st.sampled_from(["find", "put"]), st.lists(keys, max_size=6)),
    max_size=60,
)


def cache_of(capacity, ttl_s):
    cache = ScoreCache(capacity, ttl_s)
    cache.begin(2)
    return cache


def found(cache, places, now):
    scores, until, known = cache.find(ROWS[places], now)
    assert known == np.count_nonzero(until)
    return [float(score) if end else None for score, end in zip(scores, until, strict=True)]


def put(cache, places, scores, now):
    cache.put(ROWS[places], np.array(scores, np.float32), now)


@settings(deadline=None)  # the first example compiles
@given(st.integers(1, 6), steps)
def test_the_cache_does_what_a_list_of_all_uses_says(capacity, steps):
    cache, kept, now = cache_of(capacity, 4e-9), [], 1  # kept: (key, score, put at), the least recently used first
    for wait, what, places in steps:
        now += wait
        if what == "find":
            expected = []
            for key in places:
                known = next((one for one in kept if one[0] == key), None)
                kept = [one for one in kept if one[0] != key]
                good = known is not None and now - known[2] <= 4
                kept += [known] if good else []
                expected.append(known[1] if good else None)
            assert found(cache, places, now) == expected
        else:
            scores = [float(now * 10 + n) for n in range(len(places))]
            put(cache, places, scores, now)
            for key, score in zip(places, scores, strict=True):
                kept = [*(one for one in kept if one[0] != key), (key, score, now)][-capacity:]
        assert len(cache) == len(kept)


def test_what_was_used_last_stays_longest():
    cache = cache_of(2, 1.0)
    put(cache, [3, 4], [0.25, 0.5], 0)
    assert found(cache, [3], 1) == [0.25]
    put(cache, [5], [0.75], 2)
    assert found(cache, [3, 4, 5], 3) == [0.25, None, 0.75]


def test_many_more_than_it_holds_go_in_and_the_last_are_found():
    rng = np.random.default_rng(5)
    rows, scores = rng.normal(size=(30_000, 13)).astype(np.float32), rng.random(30_000).astype(np.float32)
    cache = ScoreCache(1000, 10.0)
    cache.begin(13)
    for begin in range(0, len(rows), 75):
        part = slice(begin, begin + 75)
        assert cache.find(rows[part], begin)[2] == 0
        cache.put(rows[part], scores[part], begin)
    assert len(cache) == 1000
    again, _, known = cache.find(rows[-1000:], len(rows))
    assert known == 1000
    assert again.tobytes() == scores[-1000:].tobytes()
    assert cache.find(rows[:-1000], len(rows))[2] == 0


@pytest.mark.parametrize(("capacity", "ttl_s"), [(0, 10.0), (10, 0.0), (-1, 1.0)])
def test_without_room_or_time_nothing_is_kept(capacity, ttl_s):
    cache = cache_of(capacity, ttl_s)
    put(cache, [1, 2], [0.5, 0.5], 0)
    assert (len(cache), found(cache, [1, 2], 0)) == (0, [None, None])


def test_to_begin_anew_forgets_all():
    cache = cache_of(3, 1.0)
    put(cache, [1, 2], [0.5, 0.5], 0)
    cache.begin(2)
    assert (len(cache), found(cache, [1, 2], 0)) == (0, [None, None])
