"""Scores that are remembered for a moment, found by the bits of their vectors: a whole batch in one compiled call."""

import secrets
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sentinel.features.jit import entry, inlined

_NONE: Final = -1
_USED, _LIVE, _SEED = range(3)  # of the state
_UNTIL, _BUCKET, _NEXT, _NEWER, _OLDER = range(5)  # of an entry; those of one bucket are a list
"""All are in a ring by their use. The last of `entries` is no entry: it stands between the oldest and the newest."""

_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_HALF: Final = np.uint64(32)


class ScoreCache:
    """Scores by the bits of their vectors: the last `capacity` that were used, for `ttl_s` seconds each.

    Vectors are the rows of a contiguous float32 array (n, features). Use it from one thread.
    """

    def __init__(self, capacity: int, ttl_s: float) -> None:
        self.ttl_ns = max(round(ttl_s * 1e9), 0)
        self._capacity = max(capacity, 0) if self.ttl_ns else 0
        self._seed = secrets.randbits(63)  # so that nobody can choose vectors that are in each other's way
        self.begin(0)

    def __len__(self) -> int:
        """How many are kept, but for those that were found to be too old."""
        return int(self._state[_LIVE])

    def begin(self, features: int) -> None:
        """Forget all; from now on vectors have so many features."""
        n = self._capacity
        self._vectors = np.zeros((n, features), np.uint32)
        self._scores = np.zeros(n, np.float32)
        self._entries = np.full((n + 1, 5), _NONE, np.int64)
        self._entries[n, [_NEWER, _OLDER]] = n
        self._heads = np.full(1 << n.bit_length(), _NONE, np.int64)
        self._state = np.array([0, 0, self._seed], np.int64)
        none = np.empty((0, features), np.float32)
        self.find(none, 0)  # loads what is compiled
        self.put(none, np.empty(0, np.float32), 0)

    def find(self, rows: NDArray[np.float32], now_ns: int) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
        """The scores of vectors (n,), until when each is good (0 where none is known), and how many are known."""
        scores, until = np.empty(len(rows), np.float32), np.zeros(len(rows), np.int64)
        known = _find(
            self._vectors, self._scores, self._entries, self._heads, self._state, rows.view(np.uint32), scores, until,
            now_ns,
        )  # fmt: skip
        return scores, until, known

    def put(self, rows: NDArray[np.float32], scores: NDArray[np.float32], now_ns: int) -> None:
        """Remember scores (n,) of vectors; the least recently used make room."""
        if self._capacity:
            _put(
                self._vectors, self._scores, self._entries, self._heads, self._state, rows.view(np.uint32),
                scores.astype(np.float32, copy=False), now_ns + self.ttl_ns,
            )  # fmt: skip


@inlined
def _bucket_of(row: NDArray[np.uint32], heads: NDArray[np.int64], seed: int) -> int:
    mixed = np.uint64(seed)
    for k in range(len(row)):
        mixed = (mixed ^ np.uint64(row[k])) * _FACTOR
        mixed ^= mixed >> _HALF
    return int(np.int64(mixed) & (len(heads) - 1))


@inlined
def _in_bucket(
    vectors: NDArray[np.uint32], entries: NDArray[np.int64], heads: NDArray[np.int64], bucket: int,
    row: NDArray[np.uint32],
) -> int:  # fmt: skip
    """The entry of a vector, or none."""
    place: int = heads[bucket]
    while place != _NONE:
        same = True
        for k in range(len(row)):
            same &= vectors[place, k] == row[k]
        if same:
            break
        place = entries[place, _NEXT]
    return place


@inlined
def _take_from_bucket(entries: NDArray[np.int64], heads: NDArray[np.int64], place: int) -> None:
    bucket = entries[place, _BUCKET]
    if bucket == _NONE:
        return
    entries[place, _BUCKET] = _NONE
    other = heads[bucket]
    if other == place:
        heads[bucket] = entries[place, _NEXT]
        return
    while entries[other, _NEXT] != place:
        other = entries[other, _NEXT]
    entries[other, _NEXT] = entries[place, _NEXT]


@inlined
def _take_from_ring(entries: NDArray[np.int64], place: int) -> None:
    newer, older = entries[place, _NEWER], entries[place, _OLDER]
    entries[newer, _OLDER], entries[older, _NEWER] = older, newer


@inlined
def _put_behind(entries: NDArray[np.int64], place: int, newer: int) -> None:
    older = entries[newer, _OLDER]
    entries[place, _NEWER], entries[place, _OLDER] = newer, older
    entries[newer, _OLDER] = entries[older, _NEWER] = place


@entry
def _find(
    vectors: NDArray[np.uint32], scores: NDArray[np.float32], entries: NDArray[np.int64], heads: NDArray[np.int64],
    state: NDArray[np.int64], rows: NDArray[np.uint32], found: NDArray[np.float32], until: NDArray[np.int64],
    now: int,
) -> int:  # fmt: skip
    known, end = 0, len(entries) - 1
    for r in range(len(rows)):
        row = rows[r]
        place = _in_bucket(vectors, entries, heads, _bucket_of(row, heads, state[_SEED]), row)
        if place == _NONE:
            continue
        _take_from_ring(entries, place)
        if now > entries[place, _UNTIL]:  # its place is the next to be used again
            _take_from_bucket(entries, heads, place)
            _put_behind(entries, place, entries[end, _NEWER])
            state[_LIVE] -= 1
            continue
        _put_behind(entries, place, end)
        found[r], until[r] = scores[place], entries[place, _UNTIL]
        known += 1
    return known


@entry
def _put(
    vectors: NDArray[np.uint32], scores: NDArray[np.float32], entries: NDArray[np.int64], heads: NDArray[np.int64],
    state: NDArray[np.int64], rows: NDArray[np.uint32], new: NDArray[np.float32], until: int,
) -> None:  # fmt: skip
    end = len(entries) - 1
    for r in range(len(rows)):
        row = rows[r]
        bucket = _bucket_of(row, heads, state[_SEED])
        place = _in_bucket(vectors, entries, heads, bucket, row)
        if place != _NONE:
            _take_from_ring(entries, place)
        else:
            if state[_USED] < len(vectors):
                place = state[_USED]
                state[_USED] += 1
                state[_LIVE] += 1
            else:
                place = entries[end, _NEWER]
                state[_LIVE] += entries[place, _BUCKET] == _NONE
                _take_from_ring(entries, place)
                _take_from_bucket(entries, heads, place)
            for k in range(len(row)):
                vectors[place, k] = row[k]
            entries[place, _BUCKET], entries[place, _NEXT] = bucket, heads[bucket]
            heads[bucket] = place
        scores[place], entries[place, _UNTIL] = new[r], until
        _put_behind(entries, place, end)
