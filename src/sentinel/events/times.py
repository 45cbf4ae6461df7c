"""Instants: ISO 8601 or Unix numbers in, integer microseconds UTC inside."""

import contextlib
import re
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import quoted

SECOND_US = 1_000_000
EARLIEST_US = 0
LONG_AGO_US = -2_208_988_800 * SECOND_US  # 1900-01-01
"""From when on an instant can be that says more about a transaction: a customer may be born before 1970."""

LATEST_US = 4_102_444_800 * SECOND_US  # 2100-01-01
FARTHEST_AHEAD_US = 86_400 * SECOND_US
"""An event whose own time is further ahead of the clock is refused."""

_EARLIEST_NUMBER_US = 315_532_800 * SECOND_US  # 1980
_LARGEST = 1e18
_UNIX = re.compile(r"(?:[0-9]{10}|[0-9]{13}|[0-9]{16})(?:\.[0-9]+)?|[0-9]\.[0-9]+[eE]\+?[0-9]{1,2}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_SECONDS_BELOW = 1e11  # as seconds this is the year 5138; as milliseconds, March 1973
_MILLISECONDS_BELOW = 1e14
_DURATION = re.compile(r"([0-9]+)(s|m|h|d|w)")
_LONGEST_US = 100_000 * 86_400 * SECOND_US
_UNIT_US = {
    "s": SECOND_US,
    "m": 60 * SECOND_US,
    "h": 3_600 * SECOND_US,
    "d": 86_400 * SECOND_US,
    "w": 604_800 * SECOND_US,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WITHOUT_OFFSET = datetime(1970, 1, 1)  # a text without one is UTC
_parse = datetime.fromisoformat


class TimeForm(NamedTuple):
    """How times are written where they are not ISO 8601 or Unix numbers alone.

    - `zone`: the time zone of texts without an offset; UTC without one. Of an hour that comes twice, when clocks are
      set back, the first is meant.
    - `format`: the form of texts, as `datetime.strptime` has it (`%m/%d/%Y %H:%M`); others are read as ISO 8601.
    - `from_us`: when the numbers count from, in seconds; Unix numbers without one.
    """

    zone: tzinfo = UTC
    format: str | None = None
    from_us: int | None = None

    @classmethod
    def of(cls, timezone: str | None, time_format: str | None, time_from: str | None) -> "TimeForm":
        """From the settings of a schema. Raises InvalidDefinition for what is no zone, form or time."""
        try:
            zone: tzinfo = UTC if timezone is None else ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InvalidDefinition(f"{quoted(timezone or '')} is no time zone; write one as Europe/Madrid") from None
        if time_format is not None:
            _check_format(time_format)
        try:
            from_us = None if time_from is None else instant_us(time_from)
        except InvalidInput as error:
            raise InvalidDefinition(f"time_from: {error}") from None
        return cls(zone, time_format, from_us)


def _check_format(form: str) -> None:
    moment = datetime(2024, 11, 28, 13, 14, 15)
    try:
        found = datetime.strptime(moment.strftime(form), form)
    except (ValueError, re.error) as error:
        raise InvalidDefinition(
            f"time_format {quoted(form)} is no form of a time ({error}); write as %m/%d/%Y %H:%M"
        ) from None
    if found.date() != moment.date():
        raise InvalidDefinition(f"time_format {quoted(form)} tells no day; write as %m/%d/%Y %H:%M")


USUAL = TimeForm()


def instant_us(value: str | float, path: str = "$", form: TimeForm = USUAL, earliest_us: int = EARLIEST_US) -> int:
    """Microseconds since 1970 UTC of a text or a number; the one rule for files and for what comes live.

    A text is read in the form's own format, else as ISO 8601, without an offset in the form's zone; a text of ten,
    thirteen or sixteen digits is a Unix number. A number below 1e11 counts seconds, below 1e14 milliseconds, else
    microseconds. Raises InvalidInput, naming `path`, for what is no instant from `earliest_us` up to 2100, and for a
    number that would be in 1970 to 1979: those are days of a spreadsheet, or dates written as numbers.

    >>> instant_us("2025-01-01T00:00:00Z") == instant_us(1735689600) == instant_us("1735689600000")
    True
    >>> iso(instant_us("01/31/2026 09:30", form=TimeForm.of("America/New_York", "%m/%d/%Y %H:%M", None)))
    '2026-01-31T14:30:00Z'
    """
    if not isinstance(value, str):
        return _of_number(value, path, form, earliest_us)
    if form is not USUAL or value.isdecimal():
        return _of_text(value, path, form, earliest_us)
    try:
        moment = _parse(value)
    except ValueError:
        return _of_text(value, path, form, earliest_us)
    since = moment - (_EPOCH if moment.tzinfo is not None else _EPOCH_WITHOUT_OFFSET)
    return _between((since.days * 86_400 + since.seconds) * SECOND_US + since.microseconds, value, path, earliest_us)


def bound_us(value: str | float, path: str) -> int:
    """The same of the bound of a range, which may be 0: from the beginning on."""
    return EARLIEST_US if value == 0 else instant_us(value, path)


def _of_text(value: str, path: str, form: TimeForm, earliest_us: int) -> int:
    """A text of any form."""
    if form.format is not None:
        with contextlib.suppress(ValueError):
            return _between(
                micros_of(datetime.strptime(value.strip(), form.format), form.zone), value, path, earliest_us
            )
    if _UNIX.fullmatch(value) or (form.from_us is not None and _NUMBER.fullmatch(value)):
        return _of_number(int(value) if value.isdecimal() else float(value), path, form, earliest_us)
    try:
        return _between(micros_of(_parse(value), form.zone), value, path, earliest_us)
    except ValueError:
        raise InvalidInput(
            f"Expected an ISO 8601 time such as 2025-01-31T12:00:00Z or a Unix number, got {quoted(value)}", path
        ) from None


def micros_of(moment: datetime, zone: tzinfo) -> int:
    """Microseconds since 1970 UTC of a moment; without an offset it is in the zone."""
    since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND_US + since.microseconds


def _of_number(value: float, path: str, form: TimeForm, earliest_us: int) -> int:
    if not -_LARGEST < value < _LARGEST:  # a NaN, too
        raise _outside(value, path, earliest_us)
    if form.from_us is not None:
        return _between(form.from_us + round(value * SECOND_US), value, path, earliest_us)
    if value < _SECONDS_BELOW:
        micros = round(value * SECOND_US)
    elif value < _MILLISECONDS_BELOW:
        micros = round(value * 1_000)
    else:
        micros = round(value)
    if EARLIEST_US <= micros < _EARLIEST_NUMBER_US:
        raise InvalidInput(
            f"Expected a Unix number, got {quoted(str(value))}, which would be {iso(micros)[:10]}; write dates as "
            "2026-01-31", path,
        )  # fmt: skip
    return _between(micros, value, path, earliest_us)


def _between(micros: int, value: str | float, path: str, earliest_us: int) -> int:
    if not earliest_us <= micros < LATEST_US:
        raise _outside(value, path, earliest_us)
    return micros


def _outside(value: str | float, path: str, earliest_us: int) -> InvalidInput:
    earliest = (_EPOCH + timedelta(microseconds=earliest_us)).year
    return InvalidInput(f"Expected a time from {earliest} up to 2100, got {quoted(str(value))}", path)


def iso(micros: int) -> str:
    """The instant as ISO 8601 text in UTC.

    >>> iso(0)
    '1970-01-01T00:00:00Z'
    """
    return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def duration_us(text: str) -> int:
    """Microseconds of a duration such as `90s`, `10m`, `24h`, `7d`, `2w`.

    >>> duration_us("10m")
    600000000
    """
    match = _DURATION.fullmatch(text)
    if match is None or not match[1].strip("0"):
        raise InvalidDefinition(f"{quoted(text)} is no duration: write a whole number and s, m, h, d or w, as in 24h")
    if len(match[1]) > 15 or int(match[1]) * _UNIT_US[match[2]] > _LONGEST_US:
        raise InvalidDefinition(f"{quoted(text, 20)} is too long a duration: write 100000d at most")
    return int(match[1]) * _UNIT_US[match[2]]


def clock_us() -> int:
    """What the clock of this machine says, microseconds since 1970; whoever decides by it is handed it."""
    return time.time_ns() // 1000
