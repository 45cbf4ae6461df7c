"""What narrows a search down, a bucket of positions at a time, the newest first.

Each sieve knows where in a bucket decisions may be that fit one condition. What is seen least goes first, for most
buckets end there; what is found is looked at in full all the same, so a sieve may let more through, and never less.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from sentinel.policy.thresholds import Action
from sentinel.record.views import LAST, DecisionQuery
from sentinel.record.views.amount_index import AmountSieve
from sentinel.record.views.bucket_window import PLACE_BITS, BucketWindow
from sentinel.record.views.key_index import Driver, KeySieve
from sentinel.record.views.tables import DEGRADED, NOT_APPROVED

_ENOUGH = 2
"""Positions in a bucket of which each is looked at rather than sieved further."""


class Sieve(Protocol):
    """One condition."""

    def newest(self, before: int) -> int | None:
        """The newest bucket before this one that may have decisions that fit; None where there is none."""

    def positions(self, bucket: int) -> set[int] | None:
        """Where in a bucket they may be; None where it cannot tell."""


class _RowSieve:
    """What an index over rows of a table finds."""

    def __init__(self, reader: Driver, table: str, condition: str, values: Sequence[str]) -> None:
        self._reader, self._values = reader, tuple(values)
        self._newest = f"SELECT max(position) FROM {table} WHERE {condition} AND position < ?"  # noqa: S608 - our own
        self._within = f"SELECT position FROM {table} WHERE {condition} AND position >= ? AND position < ?"  # noqa: S608
        self._window = BucketWindow(self._positions)

    def newest(self, before: int) -> int | None:
        """See Sieve."""
        known = self._window.newest(before)
        if known is not None:
            return known
        found = self._reader.execute(self._newest, (*self._values, min(before << PLACE_BITS, LAST))).fetchone()[0]
        return None if found is None else int(found) >> PLACE_BITS

    def positions(self, bucket: int) -> set[int] | None:
        """See Sieve."""
        return self._window.positions(bucket)

    def _positions(self, first: int, last: int) -> Iterator[int]:
        ends = first << PLACE_BITS, last + 1 << PLACE_BITS
        return (position for (position,) in self._reader.execute(self._within, (*self._values, *ends)))


def sieves_of(reader: Driver, query: DecisionQuery) -> list[Sieve]:
    """Those for a query; none where an index of its own, or any row, answers it."""
    found: list[Sieve] = [KeySieve(reader, name, value) for name, value in query.keys.items()]
    if query.rule is not None:
        found.append(_RowSieve(reader, "rule_hits", "rule = ?", [query.rule]))
    has_amount = query.least_amount is not None or query.most_amount is not None
    if (found or has_amount) and query.degraded:
        found.append(_RowSieve(reader, "decisions", str(DEGRADED), ()))
    if (found or has_amount) and query.action not in (None, Action.APPROVE):
        found.append(_RowSieve(reader, "decisions", f"{NOT_APPROVED} AND decision = ?", [str(query.action)]))
    if has_amount:
        found.append(AmountSieve(reader, query.least_amount, query.most_amount))
    return found


def sieved(sieves: Sequence[Sieve], span: tuple[int, int]) -> Iterator[tuple[int, int] | list[int]]:
    """Where in a span decisions may be, newest first: positions of a bucket, or a span to look through."""
    seen = dict.fromkeys(range(len(sieves)), 0)
    end = (span[1] - 1 >> PLACE_BITS) + 1
    while True:
        order = sorted(seen, key=seen.__getitem__)
        bucket = sieves[order[0]].newest(end)
        if bucket is None or bucket < span[0] >> PLACE_BITS:
            return
        found: set[int] | None = None
        for n in order:
            some = sieves[n].positions(bucket)
            if some is None:
                continue
            seen[n] += len(some)
            found = some if found is None else found & some
            if len(found) <= _ENOUGH:
                break
        if found is None:
            yield max(bucket << PLACE_BITS, span[0]), min(bucket + 1 << PLACE_BITS, span[1])
        else:
            yield sorted((one for one in found if span[0] <= one < span[1]), reverse=True)
        end = bucket
