"""How far the log is read by those that put down messages about it: it moves on in the transaction that puts them."""

import sqlalchemy as sa

from sentinel.record.written.tables import readings

RESULTS = "results"
"""Who reads results on, to tell of them."""


def read_before(reader: sa.Connection, who: str, log_id: str) -> int | None:
    """Before which position this log was read; None where that has not begun."""
    of_it = sa.and_(readings.c.reader == who, readings.c.log_id == log_id)
    found: int | None = reader.scalar(sa.select(readings.c.position).where(of_it))
    return found
