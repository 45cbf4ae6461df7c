"""By which keys decisions are found: a tree over millions of keys in any order is too slow to fill."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from sentinel.record.views.rows import Rows, hash_of
from sentinel.record.views.search import Span
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


def positions_with(reader: Driver, keys: Mapping[str, str], span: Span) -> Iterator[list[int]]:
    """Where in a span decisions may have all of these keys: newest first, those of one bucket at a time."""
    parts = [hash_of(name, value) >> (64 - HASH_BITS) << PLACE_BITS for name, value in keys.items()]
    end = (min(span[1], _MOST_POSITIONS) - 1 >> PLACE_BITS) + 1
    seen: Counter[int] = Counter()
    newest = "SELECT max(entry) >> ? FROM key_entries WHERE entry <= ?"
    while (bucket := reader.execute(newest, (_BUCKET_BITS, (end << _BUCKET_BITS) - 1)).fetchone()[0]) is not None:
        if bucket < span[0] >> PLACE_BITS:
            return
        found: set[int] | None = None
        for part in sorted(parts, key=seen.__getitem__):  # what was seen least goes first: most buckets end there
            places = _places(reader, bucket << _BUCKET_BITS | part)
            seen[part] += len(places)
            found = places if found is None else found & places
            if not found:
                break
        first = bucket << PLACE_BITS
        yield sorted((first + place for place in found or () if span[0] <= first + place < span[1]), reverse=True)
        end = bucket


def _places(reader: Driver, begin: int) -> set[int]:
    having = reader.execute("SELECT entry FROM key_entries WHERE entry >= ? AND entry < ?", (begin, begin + _PLACES))
    return {entry - begin for (entry,) in having}


def first_entry(position: int) -> int:
    """Entries before this one are of buckets in which all positions are older than this one."""
    return position >> PLACE_BITS << _BUCKET_BITS
