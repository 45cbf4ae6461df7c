"""What is in several buckets is asked for at once: each question is a way to the database and back."""

from collections.abc import Callable, Iterable

PLACE_BITS = 14
"""Of a position, how many of its lower bits count within a bucket."""

MOST_BUCKETS = 32
"""Buckets of one question."""

_FEW = 1_000
"""Positions in an answer, up to which the next question is about twice as many buckets."""


class BucketWindow:
    """Positions of some buckets that follow each other, down from the one that was asked for.

    `ask(first, last)` finds the positions in the buckets from `first` to `last`. The first question is about one, for
    what is seen often is found there; where little is found the next ones are about more.
    """

    def __init__(self, ask: Callable[[int, int], Iterable[int]], oldest: int = 0) -> None:
        """Buckets before `oldest` are not asked for."""
        self._ask, self._oldest = ask, oldest
        self._first, self._end, self._width = 0, 0, 1
        self._found: dict[int, set[int]] = {}

    def positions(self, bucket: int) -> set[int]:
        """What is found in a bucket."""
        if not self._first <= bucket < self._end:
            self._look(bucket)
        return self._found.get(bucket, set())

    def newest(self, before: int) -> int | None:
        """The newest bucket before this one that may have something, as far as is known; None where nothing is.

        Of those that were asked for it is one with something in it, or the oldest of them.
        """
        if not self._first < before <= self._end:
            return None
        return max((one for one in self._found if one < before), default=self._first)

    def _look(self, bucket: int) -> None:
        first = max(bucket - self._width + 1, min(self._oldest, bucket))
        found: dict[int, set[int]] = {}
        n = 0
        for position in self._ask(first, bucket):
            found.setdefault(position >> PLACE_BITS, set()).add(position)
            n += 1
        self._first, self._end, self._found = first, bucket + 1, found
        self._width = min(2 * self._width, MOST_BUCKETS) if n <= _FEW else max(self._width // 4, 1)
