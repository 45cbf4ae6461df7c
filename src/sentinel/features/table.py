"""A table that finds a number by a key of 64 bits, and grows a little at a time.

This is extendible hashing (Fagin and others, 1979): a directory names, for every beginning of a hash, the segment whose
keys begin so. A segment that is full is split in two, which moves no key of any other, so no insertion is ever slow.
Inside a segment: open addressing with linear probing. Removal shifts the run back, so a table never degrades.

Hashes are salted: nobody who chooses keys can choose where they come to lie.
"""

import secrets
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.features.jit import entry, inlined
from sentinel.features.memory import reserve

FREE = np.uint64(0)
"""The key of a place that is free."""

SEGMENT, FULL = 512, 384
"""Places of a segment, and how many of them are taken before it is split."""

_MOST_DEPTH = 24  # six thousand million keys
_FREE = np.int64(0)
KEY, VALUE = range(2)
"""The columns of `places`."""

_DEPTH, _SEGMENTS, _HELD, _SALT = range(4)


class Table(NamedTuple):
    """Keys and their values.

    - `facts`: how many bits of a hash the directory looks at, how many segments there are, how many keys, the salt.
    - `directory`: the segment for every beginning of a hash.  `segments` (s, 2): how many bits the hashes in it share,
      how many of its places are taken.  `places` (s x SEGMENT, 2): key and value.
    """

    facts: NDArray[np.int64]
    directory: NDArray[np.int64]
    segments: NDArray[np.int64]
    places: NDArray[np.int64]


def empty_table() -> Table:
    """A table without keys."""
    facts = np.array([0, 1, 0, secrets.randbits(63)], np.int64)
    most = 1 << _MOST_DEPTH
    return Table(facts, reserve(np.int64, rows=most), reserve(np.int64, 2, rows=most), reserve(np.int64, 2))


def held(table: Table) -> int:
    """How many keys it has."""
    return int(table.facts[_HELD])


def bytes_of(table: Table) -> int:
    """The memory it has written to."""
    depth, segments = int(table.facts[_DEPTH]), int(table.facts[_SEGMENTS])
    return 8 * (1 << depth) + 16 * segments + places_bytes(table)


def places_bytes(table: Table) -> int:
    """The memory of `places` that it has written to."""
    return 16 * SEGMENT * int(table.facts[_SEGMENTS])


@inlined
def segments_of(table: Table) -> int:
    """How many segments it has."""
    return table.facts[_SEGMENTS]


@inlined
def is_empty(table: Table) -> bool:
    """Whether it has no key."""
    return table.facts[_HELD] == 0


@inlined
def has_room(table: Table, n: int) -> bool:
    """Whether n more keys surely fit into what is reserved."""
    segments = table.facts[_SEGMENTS] + 2 * n
    return segments * SEGMENT <= len(table.places) and segments <= len(table.segments)


@inlined
def hash_of(table: Table, key: np.uint64) -> np.uint64:
    """The salted hash of a key."""
    return mix(key, np.uint64(table.facts[_SALT]))


@inlined
def home(table: Table, hashed: np.uint64) -> int:
    """The place where the search for a key of this hash begins."""
    segment = table.directory[np.int64((hashed >> np.uint64(1)) >> np.uint64(63 - table.facts[_DEPTH]))]
    return segment * SEGMENT + np.int64(hashed & np.uint64(SEGMENT - 1))


@inlined
def locate(table: Table, key: np.uint64, hashed: np.uint64) -> int:
    """The place of a key, or the free one where it belongs."""
    place = home(table, hashed)
    base = place & ~(SEGMENT - 1)
    wanted = np.int64(key)
    while table.places[place, KEY] != wanted and table.places[place, KEY] != _FREE:
        place = base + ((place + 1) & (SEGMENT - 1))
    return place


@inlined
def is_free(table: Table, place: int) -> bool:
    """Whether no key has this place."""
    return table.places[place, KEY] == _FREE


@inlined
def put(table: Table, place: int, key: np.uint64, value: int) -> None:
    """Give a key the free place that `locate` found, or another value. No place is valid any longer."""
    is_new = table.places[place, KEY] == _FREE
    table.places[place, KEY] = np.int64(key)
    table.places[place, VALUE] = value
    if is_new:
        segment = place // SEGMENT
        table.facts[_HELD] += 1
        table.segments[segment, 1] += 1
        if table.segments[segment, 1] >= FULL:
            split(table, hash_of(table, key))


@inlined
def remove(table: Table, place: int) -> None:
    """Free a place and close the gap behind it."""
    base, mask, places = place & ~(SEGMENT - 1), SEGMENT - 1, table.places
    gap = place & mask
    probe = gap
    while True:
        probe = (probe + 1) & mask
        if places[base + probe, KEY] == _FREE:
            break
        begin = np.int64(hash_of(table, np.uint64(places[base + probe, KEY])) & np.uint64(mask))
        if ((probe - begin) & mask) >= ((probe - gap) & mask):
            places[base + gap, KEY] = places[base + probe, KEY]
            places[base + gap, VALUE] = places[base + probe, VALUE]
            gap = probe
    places[base + gap, KEY] = _FREE
    places[base + gap, VALUE] = 0
    table.segments[place // SEGMENT, 1] -= 1
    table.facts[_HELD] -= 1


@entry  # not inlined: it is called too seldom to make the kernel larger
def split(table: Table, hashed: np.uint64) -> None:
    """Split the segment of a hash: the keys whose next bit is set move to a new one."""
    facts, directory, places = table.facts, table.directory, table.places
    old = home(table, hashed) // SEGMENT
    depth = table.segments[old, 0]
    if depth == facts[_DEPTH]:
        if depth == _MOST_DEPTH:
            return
        for i in range((1 << depth) - 1, -1, -1):
            directory[2 * i] = directory[2 * i + 1] = directory[i]
        facts[_DEPTH] += 1
    new = facts[_SEGMENTS]
    facts[_SEGMENTS] += 1
    table.segments[old, 0] = table.segments[new, 0] = depth + 1
    shared = np.int64((hashed >> np.uint64(1)) >> np.uint64(63 - depth))  # the bits that all of them begin with
    half = 1 << (facts[_DEPTH] - depth - 1)
    for i in range((2 * shared + 1) * half, (2 * shared + 2) * half):
        directory[i] = new
    bit = np.uint64(1) << np.uint64(63 - depth)
    place = old * SEGMENT
    while place < (old + 1) * SEGMENT:
        key = np.uint64(places[place, KEY])
        own = hash_of(table, key)
        if key == FREE or (own & bit) == 0:
            place += 1
            continue
        value = places[place, VALUE]
        remove(table, place)  # what moves up into its place is looked at next
        target = locate(table, key, own)
        places[target, KEY], places[target, VALUE] = np.int64(key), value
        table.segments[new, 1] += 1
        facts[_HELD] += 1


@inlined
def mix(a: np.uint64, b: np.uint64) -> np.uint64:
    """One well-spread key of two numbers (the finaliser of splitmix64); never FREE."""
    x: Any = a ^ (b * np.uint64(0x9E3779B97F4A7C15))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return x if x != FREE else np.uint64(1)
