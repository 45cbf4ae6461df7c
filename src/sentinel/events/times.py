"""Instants: ISO 8601 or Unix numbers in, integer microseconds UTC inside."""

import re
import time
from datetime import UTC, datetime, timedelta

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import quoted

SECOND_US = 1_000_000
EARLIEST_US = 0
LATEST_US = 4_102_444_800 * SECOND_US  # 2100-01-01
FARTHEST_AHEAD_US = 86_400 * SECOND_US
"""An event whose own time is further ahead of the clock is refused."""
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


def instant_us(value: str | float, path: str = "$") -> int:
    """Microseconds since 1970 UTC of an ISO 8601 text or a Unix number.

    A text without an offset is UTC. A number below 1e11 counts seconds, below 1e14 milliseconds, else
    microseconds. Raises InvalidInput, naming `path`, for what is no instant from 1970 up to 2100.

    >>> instant_us("2025-01-01T00:00:00Z") == instant_us(1735689600) == instant_us(1735689600000)
    True
    """
    if isinstance(value, str):
        try:
            moment = _parse(value)
        except ValueError:
            raise InvalidInput(
                f"Expected an ISO 8601 time such as 2025-01-31T12:00:00Z or a Unix number, got {quoted(value)}", path
            ) from None
        since = moment - (_EPOCH if moment.tzinfo is not None else _EPOCH_WITHOUT_OFFSET)
        micros = (since.days * 86_400 + since.seconds) * SECOND_US + since.microseconds
    elif value < _SECONDS_BELOW:
        micros = round(max(value, -1) * SECOND_US)  # a float far below 0 would become infinite
    elif value < _MILLISECONDS_BELOW:
        micros = round(value * 1_000)
    else:
        micros = round(value)
    if not EARLIEST_US <= micros < LATEST_US:
        raise InvalidInput(f"Expected a time from 1970 up to 2100, got {quoted(str(value))}", path)
    return micros


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
