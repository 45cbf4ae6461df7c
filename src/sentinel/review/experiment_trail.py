"""The trail of an experiment: how the intervals of its comparison narrowed while it was counted."""

from typing import NamedTuple

import msgspec

from sentinel.policy.experiment import Comparison, Tally

METRICS = Comparison.__struct_fields__
MOST_POINTS = 120


class Interval(msgspec.Struct, frozen=True):
    """The difference b - a of one metric at every point, and its bounds (k,); None while there was too little."""

    difference: list[float | None]
    low: list[float | None]
    high: list[float | None]


class Trail(msgspec.Struct, frozen=True):
    """At k points: when (microseconds since 1970), how many decisions of each variant, and the intervals by metric."""

    at_us: list[int]
    decisions_a: list[int]
    decisions_b: list[int]
    metrics: dict[str, Interval]


class _Point(NamedTuple):
    at_us: int
    decisions_a: int
    decisions_b: int
    found: Comparison


class TrailKeeper:
    """Keeps up to 120 points, evenly by how much was counted: decisions, and outcomes that became known.

    Where there would be more, every second one is dropped and the next ones are taken half as often.
    """

    def __init__(self) -> None:
        self._points: list[_Point] = []
        self._newest: _Point | None = None
        self._step = self._due = 1

    def is_due(self, a: Tally, b: Tally) -> bool:
        """Whether so much was counted since the last point that it is time for one."""
        return _counted(a, b) >= self._due

    def note(self, at_us: int, a: Tally, b: Tally, found: Comparison) -> None:
        """Take how it is now, counted up to this moment."""
        self._newest = _Point(at_us, a.decisions, b.decisions, found)
        self._points.append(self._newest)
        if len(self._points) > MOST_POINTS:
            self._points, self._step = self._points[::2], self._step * 2
        self._due = max(_counted(a, b), self._due) + self._step

    def trail(self) -> Trail:
        """What was kept, the oldest first."""
        points = list(self._points)
        if self._newest is not None and (not points or points[-1] is not self._newest):
            points.append(self._newest)
        return Trail(
            [one.at_us for one in points],
            [one.decisions_a for one in points],
            [one.decisions_b for one in points],
            {name: _interval(points, name) for name in METRICS},
        )


def _counted(a: Tally, b: Tally) -> int:
    return a.decisions + b.decisions + a.outcomes_known + b.outcomes_known


def _interval(points: list[_Point], name: str) -> Interval:
    of = [getattr(one.found, name) for one in points]
    return Interval([one.difference for one in of], [one.low for one in of], [one.high for one in of])
