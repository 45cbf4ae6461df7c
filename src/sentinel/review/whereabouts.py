"""Whereabouts: when and where each of some decided transactions happened, and the journeys between them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeGuard

import msgspec

from sentinel.events.schema import Schema

EARTH_KM = 6371.0
LEAST_KM = 100.0
"""Closer than that, a place is no other place: towns are wide, and addresses of networks are not exact."""

FLIGHT_KMH = 900.0
"""Nobody gets on faster than an airliner; `detectors.payments` draws the line there, too."""


class Moment(NamedTuple):
    """When a transaction happened, microseconds since 1970, and where in degrees north and east, if that is known."""

    position: int
    at_us: int
    place: tuple[float, float] | None


class Journey(NamedTuple):
    """From one transaction to the next one elsewhere: positions of both, how far, and in how much time."""

    begin: Moment
    end: Moment
    km: float

    @property
    def kmh(self) -> float:
        """Kilometres in an hour; infinite where both happened at once."""
        spent_us = self.end.at_us - self.begin.at_us
        return self.km / spent_us * 3.6e9 if spent_us else math.inf

    @property
    def is_impossible(self) -> bool:
        """Whether nobody can have made it."""
        return self.kmh > FLIGHT_KMH


def moments_of(contents: Mapping[int, str], received_us: Mapping[int, int], schema: Schema) -> dict[int, Moment]:
    """Position -> its moment; that at which it was received where its content does not say one as the schema has it."""
    found = {}
    for position, received in received_us.items():
        fields = _fields(contents.get(position, ""))
        at = fields.get(schema.time)
        happened = at if isinstance(at, int) and not isinstance(at, bool) else received
        found[position] = Moment(position, happened, _place(fields, schema))
    return found


def _place(fields: Mapping[str, Any], schema: Schema) -> tuple[float, float] | None:
    if schema.place is None:
        return None
    north, east = (fields.get(name) for name in schema.place)
    if not _is_degrees(north, 90.0) or not _is_degrees(east, 180.0):
        return None
    return float(north), float(east)


def journeys(moments: Iterable[Moment]) -> list[Journey]:
    """What lies between two transactions that follow each other in time, of those with places, and is far enough."""
    placed = sorted((one for one in moments if one.place is not None), key=lambda one: (one.at_us, one.position))
    found = [Journey(a, b, km_between(a.place, b.place)) for a, b in pairwise(placed) if a.place and b.place]
    return [one for one in found if one.km >= LEAST_KM]


def km_between(a: Sequence[float], b: Sequence[float]) -> float:
    """The great-circle distance of two places in degrees, by the haversine formula.

    >>> round(km_between((52.52, 13.405), (48.857, 2.352)))
    877
    """
    north, other = math.radians(a[0]), math.radians(b[0])
    half = math.sin((other - north) / 2) ** 2
    half += math.cos(north) * math.cos(other) * math.sin(math.radians(b[1] - a[1]) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(half, 1.0)))


def _fields(content: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError):
        return {}


def _is_degrees(value: Any, most: float) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= most
