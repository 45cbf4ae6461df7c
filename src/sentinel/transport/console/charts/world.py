"""A map: places on the outlines of countries, cut to where they are.

The outlines are `static/world.svg`, in tenths of degrees east and south. East and west are drawn nearer to each other
by the cosine of the latitude in the middle, so that a country far from the equator is as wide as it is.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sentinel.policy.thresholds import Action
from sentinel.record.views import ListedDecision
from sentinel.review.whereabouts import Journey, Moment
from sentinel.transport.console.words import ACTIONS

WIDTH, HEIGHT = 760.0, 380.0
_UNITS = 10.0  # in a degree, of the outlines
_LEAST_DEGREES = 14.0  # from north to south
_MARGIN = 0.16
_FARTHEST_NORTH, _FARTHEST_SOUTH = 84.0, -60.0
_MOST_SQUEEZED = 65.0
_APART = 9.0  # places nearer than that are one spot
_SMALLEST, _LARGEST = 4.0, 16.0


class Spot(NamedTuple):
    """Some decisions at one place in the picture: how large, the strictest of the actions, and how many there were."""

    x: float
    y: float
    radius: float
    action: str
    place: tuple[float, float]
    decisions: int
    not_approved: int
    frauds: int


class Way(NamedTuple):
    """A journey in the picture."""

    x1: float
    y1: float
    x2: float
    y2: float
    journey: Journey


class Map(NamedTuple):
    """What is drawn: spots, ways, and how the outlines are moved into the picture."""

    spots: list[Spot]
    ways: list[Way]
    transform: str


class _Cut(NamedTuple):
    """The part of the world that is shown: its middle, and pixels for a degree, east and north."""

    north: float
    east: float
    per_east: float
    per_north: float

    def at(self, place: Sequence[float]) -> tuple[float, float]:
        """Where a place is in the picture."""
        x = WIDTH / 2 + (place[1] - self.east) * self.per_east
        y = HEIGHT / 2 - (place[0] - self.north) * self.per_north
        return round(x, 1), round(y, 1)

    @property
    def transform(self) -> str:
        """What moves the outlines there."""
        x, y = self.at((0.0, 0.0))
        return f"translate({x} {y}) scale({self.per_east / _UNITS:.4f} {self.per_north / _UNITS:.4f})"


def map_of(
    rows: Sequence[ListedDecision],
    moments: Mapping[int, Moment],
    frauds: Mapping[int, bool],
    made: Iterable[Journey],
) -> Map | None:
    """None where no decision says where it was."""
    placed = [(one, place) for one in rows if (place := moments[one.position].place) is not None]
    if not placed:
        return None
    cut = _cut([place for _, place in placed])
    ways = [
        Way(*cut.at(one.begin.place), *cut.at(one.end.place), one) for one in made if one.begin.place and one.end.place
    ]
    return Map(_spots(placed, frauds, cut), ways, cut.transform)


def _cut(places: Sequence[tuple[float, float]]) -> _Cut:
    south, north = min(one[0] for one in places), max(one[0] for one in places)
    west, east = min(one[1] for one in places), max(one[1] for one in places)
    middle = (south + north) / 2
    squeezed = math.cos(math.radians(min(abs(middle), _MOST_SQUEEZED)))
    tall = max((north - south) * (1 + 2 * _MARGIN), _LEAST_DEGREES)
    wide = (east - west) * (1 + 2 * _MARGIN) * squeezed
    per_north = min(HEIGHT / tall, WIDTH / wide if wide else math.inf)
    half = HEIGHT / per_north / 2
    if 2 * half < _FARTHEST_NORTH - _FARTHEST_SOUTH:
        lowest, highest = min(_FARTHEST_SOUTH + half, south), max(_FARTHEST_NORTH - half, north)
        middle = min(max(middle, lowest), highest)
    return _Cut(middle, (west + east) / 2, per_north * squeezed, per_north)


def _spots(
    placed: Sequence[tuple[ListedDecision, tuple[float, float]]], frauds: Mapping[int, bool], cut: _Cut
) -> list[Spot]:
    """Decisions that would cover each other become one; the largest come first, so that none hides a smaller one."""
    together: dict[tuple[int, int], list[tuple[ListedDecision, tuple[float, float]]]] = {}
    for row, place in placed:
        x, y = cut.at(place)
        together.setdefault((int(x // _APART), int(y // _APART)), []).append((row, place))
    found = []
    for those in together.values():
        rows = [row for row, _ in those]
        place = (sum(one[0] for _, one in those) / len(those), sum(one[1] for _, one in those) / len(those))
        found.append(_spot(rows, place, frauds, cut))
    return sorted(found, key=lambda one: -one.radius)


def _spot(rows: Sequence[ListedDecision], place: tuple[float, float], frauds: Mapping[int, bool], cut: _Cut) -> Spot:
    return Spot(
        *cut.at(place),
        radius=round(min(_SMALLEST + 1.5 * (math.sqrt(len(rows)) - 1), _LARGEST), 1),
        action=max((one.decision for one in rows), key=_strictness),
        place=place,
        decisions=len(rows),
        not_approved=sum(one.decision != Action.APPROVE for one in rows),
        frauds=sum(frauds.get(one.position, False) for one in rows),
    )


def _strictness(action: str) -> int:
    return ACTIONS.index(action) if action in ACTIONS else -1
