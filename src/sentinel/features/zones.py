"""Time zones as tables: since when which offset from UTC holds, over all times that a transaction can have."""

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from sentinel.events.times import EARLIEST_US, LATEST_US, SECOND_US, TimeForm

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S = 86_400
_STEP_S = 3 * _DAY_S  # no zone has ever kept an offset for less than a week


@lru_cache(maxsize=64)
def offsets_of(timezone: str) -> tuple[tuple[int, int], ...]:
    """From which moment on which offset holds: pairs of microseconds since 1970 and microseconds ahead of UTC.

    Raises InvalidDefinition for what is no time zone.

    >>> offsets_of("Europe/Madrid")[-1]  # the last Sunday of October 2099
    (4096573200000000, 3600000000)
    """
    zone = TimeForm.of(timezone, None, None).zone
    begin, end = EARLIEST_US // SECOND_US, LATEST_US // SECOND_US
    found = [(begin, _offset_us(zone, begin))]
    for before in range(begin, end, _STEP_S):
        if _offset_us(zone, before + _STEP_S) != found[-1][1]:
            moment = _first_change(zone, before, before + _STEP_S)
            found.append((moment, _offset_us(zone, moment)))
    return tuple((moment * SECOND_US, offset) for moment, offset in found)


def _offset_us(zone: tzinfo, moment_s: int) -> int:
    offset = (_EPOCH + timedelta(seconds=moment_s)).astimezone(zone).utcoffset() or timedelta()
    return (offset.days * _DAY_S + offset.seconds) * SECOND_US + offset.microseconds


def _first_change(zone: tzinfo, before: int, after: int) -> int:
    """The second in (before, after] from which on the offset is that of `after`."""
    wanted = _offset_us(zone, after)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset_us(zone, middle) == wanted:
            after = middle
        else:
            before = middle
    return after
