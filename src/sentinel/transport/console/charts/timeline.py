"""A timeline: each decision at its time, as high as its amount."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sentinel.record.views import ListedDecision
from sentinel.review.whereabouts import Moment

WIDTH, HEIGHT = 760, 148
_LEFT, _RIGHT, _TOP, _BOTTOM = 12, 12, 12, 12
_MOST_STEPS = 3  # between lines
_APART = 6.0  # marks nearer than that cover each other
_LEAST_AMOUNT = 0.1


class Mark(NamedTuple):
    """A decision in the picture; `is_fraud` is None while not known.

    `covers` says how many stand at its place, itself among them: of these it is the newest one.
    """

    x: float
    y: float
    row: ListedDecision
    at_us: int
    is_fraud: bool | None
    covers: int = 1


class Line(NamedTuple):
    """A line at an amount."""

    y: float
    amount: float


class Timeline(NamedTuple):
    """Marks, the oldest first, so that the newest is on top; lines; and the times of the axis, from left to right."""

    marks: list[Mark]
    lines: list[Line]
    times_us: list[int]


def timeline_of(
    rows: Sequence[ListedDecision], moments: Mapping[int, Moment], frauds: Mapping[int, bool]
) -> Timeline | None:
    """None where there is no decision. Heights are logarithms, lines stand at powers of ten.

    A negative amount stands where a positive one of its size does, an unknown one at the bottom.
    """
    if not rows:
        return None
    times = [moments[one.position].at_us for one in rows]
    first, last = min(times), max(times)
    heights = [_height(one.amount) for one in rows]
    low, high = _bounds([one for one in heights if one is not None])

    def y_of(height: float | None) -> float:
        part = 0.0 if height is None else (height - low) / (high - low)
        return round(HEIGHT - _BOTTOM - part * (HEIGHT - _TOP - _BOTTOM), 1)

    def x_of(at_us: int) -> float:
        part = (at_us - first) / (last - first) if last > first else 0.5
        return round(_LEFT + part * (WIDTH - _LEFT - _RIGHT), 1)

    marks = [
        Mark(x_of(at), y_of(height), one, at, frauds.get(one.position))
        for one, at, height in zip(rows, times, heights, strict=True)
    ]
    powers = range(low, high + 1, max(math.ceil((high - low) / _MOST_STEPS), 1))
    lines = [Line(y_of(one), 10.0**one) for one in powers]
    middle = [(first + last) // 2] if last > first else []
    ends = [last] if last > first else []
    in_time = sorted(marks, key=lambda one: (one.at_us, one.row.position))
    return Timeline(_counted(in_time), lines, [first, *middle, *ends])


def _counted(marks: Sequence[Mark]) -> list[Mark]:
    """The same, and the last one at a place says how many are there."""
    newest: dict[tuple[float, float], int] = {}
    n: Counter[tuple[float, float]] = Counter()
    for number, one in enumerate(marks):
        where = one.x // _APART, one.y // _APART
        newest[where] = number
        n[where] += 1
    covering = {number: n[where] for where, number in newest.items()}
    return [one._replace(covers=covering.get(number, 1)) for number, one in enumerate(marks)]


def _height(amount: float | None) -> float | None:
    return None if amount is None else math.log10(max(abs(amount), _LEAST_AMOUNT))


def _bounds(heights: Sequence[float]) -> tuple[int, int]:
    """The powers of ten below and above all of them."""
    if not heights:
        return 0, 1
    low, high = math.floor(min(heights)), math.ceil(max(heights))
    return low, max(high, low + 1)
