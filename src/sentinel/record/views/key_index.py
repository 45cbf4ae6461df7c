"""By which keys decisions are found: a tree over millions of keys in any order is too slow to fill."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from sentinel.record.views import LAST
from sentinel.record.views.rows import Rows, hash_of
from sentinel.record.views.tables import Position, metadata

PLACE_BITS, HASH_BITS = 14, 22
"""Of a position, how many of its lower bits count within a bucket; of a key's hash, how many are kept."""

_BUCKET_BITS, _PLACES = PLACE_BITS + HASH_BITS, 1 << PLACE_BITS
_MOST_POSITIONS = 1 << (63 - HASH_BITS)

key_entries = sa.Table("key_entries", metadata, sa.Column("entry", Position, primary_key=True, autoincrement=False))
"""One number for each key of a decision: its bucket (the upper bits of the position), the key's hash, its place in it.

All that is new goes into the newest bucket, which is small; a search takes one after the other. Keys may share a hash.
"""


class Driver(Protocol):
    """A connection below SQLAlchemy, with `?` for values: what is done often goes past it, as that costs half."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Any:
        """A cursor with the rows."""

    def executemany(self, statement: str, values: Iterable[Any], /) -> Any:
        """The same for many values."""


def entries_of(rows: Rows) -> NDArray[np.int64]:
    """The entries of some rows (n,), in order: a tree takes them more quickly then."""
    if not rows.keyed:
        return np.empty(0, np.int64)
    hashes, positions = map(np.concatenate, zip(*rows.keyed, strict=True))
    kept = (hashes >> np.uint64(64 - HASH_BITS)).astype(np.int64)
    return np.unique(positions >> PLACE_BITS << _BUCKET_BITS | kept << PLACE_BITS | positions & (_PLACES - 1))


class KeySieve:
    """Decisions that may have a key."""

    def __init__(self, reader: Driver, name: str, value: str) -> None:
        self._reader = reader
        self._part = hash_of(name, value) >> (64 - HASH_BITS) << PLACE_BITS

    def newest(self, before: int) -> int | None:
        """The newest bucket before this one that has any keys."""
        end = min(before, _MOST_POSITIONS >> PLACE_BITS) << _BUCKET_BITS
        newest = "SELECT max(entry) FROM key_entries WHERE entry < ?"
        found = self._reader.execute(newest, (min(end, LAST),)).fetchone()[0]
        return None if found is None else int(found) >> _BUCKET_BITS

    def positions(self, bucket: int) -> set[int] | None:
        """Where in a bucket a key with this hash is."""
        begin = bucket << _BUCKET_BITS | self._part
        having = "SELECT entry FROM key_entries WHERE entry >= ? AND entry < ?"
        first = bucket << PLACE_BITS
        return {first + entry - begin for (entry,) in self._reader.execute(having, (begin, begin + _PLACES))}


def first_entry(position: int) -> int:
    """Entries before this one are of buckets in which all positions are older than this one."""
    return position >> PLACE_BITS << _BUCKET_BITS
