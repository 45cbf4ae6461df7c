"""By which amounts decisions are found: as keys are, with the first bits of the amount in the place of a hash."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from sentinel.record.views import LAST
from sentinel.record.views.bucket_window import PLACE_BITS, BucketWindow
from sentinel.record.views.key_index import HASH_BITS, Driver, ranges_in
from sentinel.record.views.tables import Position, metadata

_BUCKET_BITS, _PLACES = PLACE_BITS + HASH_BITS, 1 << PLACE_BITS
_SIGN = np.uint32(1 << 31)

amount_entries = sa.Table(
    "amount_entries", metadata, sa.Column("entry", Position, primary_key=True, autoincrement=False)
)
"""One number for each amount: the bucket of its position, what the amount begins with, its place in the bucket.

Within a bucket they are in the order of amounts, so a range of amounts is a range of entries.
"""


def codes_of(amounts: NDArray[np.float64]) -> NDArray[np.int64]:
    """The first bits of amounts (n,), in their order: no greater amount has a lesser one.

    >>> codes_of(np.array([-2.0, -1.0, 0.0, 1.0, 1.0001, 2.0])).tolist()
    [1048575, 1056767, 2097152, 3137536, 3137536, 3145728]
    """
    with np.errstate(over="ignore"):
        bits = (amounts + 0.0).astype(np.float32).view(np.uint32)
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered >> np.uint32(32 - HASH_BITS)).astype(np.int64)


def entries_of(decisions: Sequence[Sequence[Any]], amount: int) -> list[int]:
    """The entries of rows of decisions, in order; `amount` is the place of the amount in a row, that of positions 0."""
    known = [(row[0], row[amount]) for row in decisions if row[amount] is not None]
    if not known:
        return []
    positions = np.array([position for position, _ in known], np.int64)
    codes = codes_of(np.array([value for _, value in known], np.float64))
    found: list[int] = np.sort(
        positions >> PLACE_BITS << _BUCKET_BITS | codes << PLACE_BITS | positions & (_PLACES - 1)
    ).tolist()
    return found


class AmountSieve:
    """Decisions with an amount in a range. Buckets from before there were entries cannot be told."""

    def __init__(self, reader: Driver, least: float | None, most: float | None) -> None:
        self._reader = reader
        ends = np.array([-np.inf if least is None else least, np.inf if most is None else most])
        oldest = reader.execute("SELECT min(entry) FROM amount_entries").fetchone()[0]
        self._oldest = None if oldest is None else int(oldest) >> _BUCKET_BITS
        begins = 0 if self._oldest is None else self._oldest + 1  # before it some may have no entry
        least_code, most_code = codes_of(ends).tolist()
        part = least_code << PLACE_BITS, (most_code - least_code + 1) << PLACE_BITS
        self._window = BucketWindow(lambda first, last: ranges_in(reader, "amount_entries", part, first, last), begins)

    def newest(self, before: int) -> int | None:
        """See Sieve."""
        known = self._window.newest(before)
        if known is not None:
            return known
        newest = "SELECT max(position) FROM decisions WHERE position < ?"
        found = self._reader.execute(newest, (min(before << PLACE_BITS, LAST),)).fetchone()[0]
        return None if found is None else int(found) >> PLACE_BITS

    def positions(self, bucket: int) -> set[int] | None:
        """See Sieve."""
        if self._oldest is None or bucket <= self._oldest:
            return None  # a part of it may have none
        return self._window.positions(bucket)
