"""Ties: from a key to those beside it, and on to who shares these, as three columns of rows with lines between them."""

from collections.abc import Iterable
from typing import NamedTuple

from sentinel.review.surroundings import Linked, Neighbour

ROW = 30
"""Pixels from one row of a column to the next."""

WIDTH = 100
"""Units between two columns, however wide that is on a page."""


class Tie(NamedTuple):
    """A line between two columns: the heights at which it begins and ends, and whether fraud is known at its end."""

    begin: float
    end: float
    is_bad: bool

    @property
    def path(self) -> str:
        """As a curve that leaves and arrives level."""
        half = WIDTH / 2
        return f"M0 {self.begin:g}C{half:g} {self.begin:g} {half:g} {self.end:g} {WIDTH} {self.end:g}"


class Ties(NamedTuple):
    """The linked keys in the middle and the neighbours on the right, in their order, with the lines to each column.

    `height` is that of the tallest column, in pixels.
    """

    linked: list[Linked]
    neighbours: list[Neighbour]
    to_linked: list[Tie]
    to_neighbours: list[Tie]
    height: int


def ties_of(linked: Iterable[Linked], neighbours: Iterable[Neighbour]) -> Ties | None:
    """Of the linked keys those that tell, and of the neighbours all; None where nobody shares anything."""
    right = list(neighbours)
    if not right:
        return None
    over = {way for one in right for way in one.over}
    middle = [one for one in linked if (one.key, one.value) in over]
    rows = {(one.key, one.value): n for n, one in enumerate(middle)}
    to_linked = [Tie(_level(0), _level(n), one.tally.frauds > 0) for n, one in enumerate(middle)]
    to_neighbours = [
        Tie(_level(rows[way]), _level(n), one.tally.frauds > 0) for n, one in enumerate(right) for way in one.over
    ]
    return Ties(middle, right, to_linked, to_neighbours, ROW * max(len(middle), len(right)))


def _level(row: int) -> float:
    return (row + 0.5) * ROW
