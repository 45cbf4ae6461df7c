"""The rule of retention: which segments of the log may be deleted, and what holds the next one back."""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple


class ClosedSegment(NamedTuple):
    """A segment that nothing is written to any more.

    It has the entries from position `base` up to `until`; the newest was received at `newest_us`, microseconds since
    1970. It takes `bytes` of the disk.
    """

    base: int
    until: int
    newest_us: int
    bytes: int


class Need(NamedTuple):
    """Somebody needs the log from `position` on, and nothing before it; `why` says so in words for an operator."""

    position: int
    why: str


class Plan(NamedTuple):
    """The segments that may go, the oldest first, and the needs that hold back others."""

    may_go: list[ClosedSegment]
    held_by: list[Need]


def old_among(closed: Iterable[ClosedSegment], before_us: int) -> list[ClosedSegment]:
    """The oldest segments, as far as everything in them was received before this moment."""
    return list(takewhile(lambda one: one.newest_us < before_us, closed))


def plan(old: Sequence[ClosedSegment], needs: Sequence[Need]) -> Plan:
    """Which of these segments, all of them old enough, may go: from the oldest on, as far as nobody needs them.

    >>> old = [ClosedSegment(1, 9, 0, 64), ClosedSegment(9, 20, 0, 64)]
    >>> plan(old, [Need(12, "the view has read up to position 12")])
    Plan(may_go=[ClosedSegment(base=1, until=9, newest_us=0, bytes=64)], held_by=[Need(position=12, \
why='the view has read up to position 12')])
    """
    may_go = list(takewhile(lambda one: all(one.until <= need.position for need in needs), old))
    return Plan(may_go, [need for need in needs if old and need.position < old[-1].until])
