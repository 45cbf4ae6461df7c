"""Deadlines: how soon a case is due, by what may be lost with it. They are declared as one line of text."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from itertools import pairwise

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.events.times import duration_us

USUAL = "high:1h:100,normal:8h:10,low:3d"
_FORM = "write NAME:WITHIN:FROM for each, the most urgent first, and the last without FROM, as " + USUAL


class Deadline(msgspec.Struct, frozen=True):
    """A priority: cases whose expected loss is at least `least`, in the unit of the amount, are due `within_us`."""

    priority: str
    within_us: int
    least: Decimal


class Deadlines(msgspec.Struct, frozen=True):
    """All of them, the most urgent first; the last one takes every case."""

    each: tuple[Deadline, ...]

    @property
    def longest_us(self) -> int:
        """After so long every case is overdue."""
        return max(one.within_us for one in self.each)

    def of(self, expected_loss: int, decimals: int) -> Deadline:
        """The deadline of a case with this expected loss, in units of 10^-decimals.

        >>> read_deadlines(USUAL).of(10_000, 2).priority, read_deadlines(USUAL).of(9_999, 2).priority
        ('high', 'normal')
        """
        loss = Decimal(expected_loss).scaleb(-decimals)
        return next((one for one in self.each if loss >= one.least), self.each[-1])


def read_deadlines(text: str) -> Deadlines:
    """The deadlines that a text declares, `high:1h:100,normal:8h:10,low:3d`. Raises InvalidDefinition.

    >>> [(one.priority, str(one.least)) for one in read_deadlines("high:30m:250.50,low:2d").each]
    [('high', '250.50'), ('low', '0')]
    """
    each = [_deadline(one.strip(), is_last=n == text.count(",")) for n, one in enumerate(text.split(","))]
    _check_order(each)
    return Deadlines(tuple(each))


def _deadline(text: str, *, is_last: bool) -> Deadline:
    parts = text.split(":")
    if len(parts) != (2 if is_last else 3) or not parts[0].isidentifier() or len(parts[0]) > 16:
        raise InvalidDefinition(f"case_deadlines: {text!r} is no deadline; {_FORM}")
    try:
        least = Decimal(0 if is_last else parts[2])
    except InvalidOperation:
        raise InvalidDefinition(f"case_deadlines: {parts[2]!r} is no amount; {_FORM}") from None
    if not least.is_finite():
        raise InvalidDefinition(f"case_deadlines: {parts[2]!r} is no amount; {_FORM}")
    within_us = duration_us(parts[1])
    if within_us == 0:
        raise InvalidDefinition(f"case_deadlines: {text!r} leaves no time; {_FORM}")
    return Deadline(parts[0], within_us, least)


def _check_order(each: Sequence[Deadline]) -> None:
    if len({one.priority for one in each}) < len(each):
        raise InvalidDefinition(f"case_deadlines: two have one name; {_FORM}")
    for before, after in pairwise(each):
        if before.least <= after.least or before.within_us > after.within_us:
            raise InvalidDefinition(
                f"case_deadlines: {before.priority} has to begin at more, and to be due as soon as, {after.priority}"
            )
