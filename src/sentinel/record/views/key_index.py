"""By which keys decisions are found: a tree over millions of keys in any order is too slow to fill."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from sentinel.record.views import LAST
from sentinel.record.views.bucket_window import PLACE_BITS, BucketWindow
from sentinel.record.views.rows import Rows, hash_of
from sentinel.record.views.tables import Position, metadata

HASH_BITS = 22
"""Of a key's hash, how many bits are kept."""

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
        self._window = BucketWindow(
            lambda first, last: ranges_in(reader, "key_entries", (self._part, _PLACES), first, last)
        )

    def newest(self, before: int) -> int | None:
        """The newest bucket before this one that has any keys."""
        known = self._window.newest(before)
        if known is not None:
            return known
        end = min(before, _MOST_POSITIONS >> PLACE_BITS) << _BUCKET_BITS
        newest = "SELECT max(entry) FROM key_entries WHERE entry < ?"
        found = self._reader.execute(newest, (min(end, LAST),)).fetchone()[0]
        return None if found is None else int(found) >> _BUCKET_BITS

    def positions(self, bucket: int) -> set[int] | None:
        """Where in a bucket a key with this hash is."""
        return self._window.positions(bucket)


def ranges_in(reader: Driver, table: str, part: tuple[int, int], first: int, last: int) -> Iterator[int]:
    """The positions of entries of the buckets from `first` to `last`, in each those from `part` on, so many of them."""
    begins = [bucket << _BUCKET_BITS | part[0] for bucket in range(first, last + 1)]
    having = f"SELECT entry FROM {table} WHERE entry >= ? AND entry < ?"  # noqa: S608 - our own
    ends = [end for begin in begins for end in (begin, begin + part[1])]
    for (entry,) in reader.execute(" UNION ALL ".join([having] * len(begins)), ends):
        yield entry >> _BUCKET_BITS << PLACE_BITS | entry & (_PLACES - 1)


def first_entry(position: int) -> int:
    """Entries before this one are of buckets in which all positions are older than this one."""
    return position >> PLACE_BITS << _BUCKET_BITS
