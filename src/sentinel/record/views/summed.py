"""What the sums of days say, of a stretch of days."""

from typing import Any

import msgspec
import sqlalchemy as sa

from sentinel.policy.thresholds import Action
from sentinel.record.views import Days, Summed, SumsBegin
from sentinel.record.views.counted import Counted
from sentinel.record.views.day_sums import MEASURES, day_sums, schema_spans
from sentinel.record.views.tables import decisions


def by_day(reader: sa.Connection, part: str, days: Days, mature_before: int, value: str | None) -> list[Summed]:
    """Of each day; `value` where it is of one value of the part alone."""
    return _found(reader, day_sums.c.day, (part, days, mature_before), value)


def by_value(reader: sa.Connection, part: str, days: Days, mature_before: int) -> list[Summed]:
    """Of each value of a part, all days together."""
    return _found(reader, day_sums.c.value, (part, days, mature_before), None)


def begin_of(reader: sa.Connection) -> SumsBegin | None:
    """Since when there are sums; None while there are none."""
    newest = reader.scalar(sa.select(schema_spans.c.counted).order_by(schema_spans.c.begin.desc()).limit(1))
    if newest is None:
        return None
    first = reader.scalar(sa.select(sa.func.min(schema_spans.c.begin))) or 0
    oldest = reader.scalar(sa.select(sa.func.min(decisions.c.position)))
    times = sa.select(decisions.c.received_us).where(decisions.c.position >= first).order_by(decisions.c.position)
    received_us = reader.scalar(times.limit(1)) or 0
    return SumsBegin(msgspec.json.decode(newest, type=Counted), received_us, oldest is not None and oldest < first)


def _found(reader: sa.Connection, key: sa.Column[Any], asked: tuple[str, Days, int], value: str | None) -> list[Summed]:
    part, (first, end), mature_before = asked
    one = day_sums.c
    unknown = one.decisions - one.frauds - one.legitimate
    is_silent = sa.and_(one.day < mature_before, one.action != str(Action.BLOCK))
    measures = [sa.func.sum(one[name]) for name in MEASURES]
    query = (
        sa.select(key, one.unit, one.action, *measures, sa.func.sum(sa.case((is_silent, unknown), else_=0)))
        .where(one.part == part, one.day >= first, one.day < end)
        .group_by(key, one.unit, one.action)
        .order_by(key, one.unit, one.action)
    )
    rows = reader.execute(query if value is None else query.where(one.value == value))
    is_day = key is one.day
    return [
        Summed(found if is_day else None, None if is_day else found, unit, action, *map(int, sums))
        for found, unit, action, *sums in rows
    ]
