"""Telling: while the outcomes of a case are told, nobody else acts on it, so that they are not told against another.

What is told is durable before the case says so. Whoever tells holds the case for a minute: nobody can come in
between, and a server that is killed in the middle keeps nobody out for longer. The same person may begin again at once.
"""

from typing import NamedTuple

import sqlalchemy as sa

from sentinel.errors import Conflict
from sentinel.events.card_numbers import quoted
from sentinel.events.times import iso
from sentinel.review.case_store.case import Case, Payment
from sentinel.review.case_store.tables import case_telling, cases

LONGEST_US = 60_000_000
"""For how long a case is held at most."""


class Begun(NamedTuple):
    """A case whose outcomes are told until `until_us`, which is of this telling alone, and its payments."""

    case: Case
    payments: list[Payment]
    until_us: int


def begin(writer: sa.Connection, number: int, who: str, now_us: int) -> int:
    """Hold a case; until when. Raises Conflict while somebody else does."""
    check_free(writer, number, who, now_us)
    of_it = case_telling.c.number == number
    before = writer.scalar(sa.select(case_telling.c.until_us).where(of_it))
    until_us = max(now_us + LONGEST_US, (before or 0) + 1)
    writer.execute(case_telling.delete().where(of_it))
    writer.execute(case_telling.insert().values(number=number, who=who, until_us=until_us))
    return until_us


def check_free(reader: sa.Connection, number: int, who: str, now_us: int) -> None:
    """Raise Conflict while somebody else tells the outcomes of a case."""
    row = reader.execute(sa.select(case_telling).where(case_telling.c.number == number)).one_or_none()
    if row is not None and row.who != who and row.until_us > now_us:
        raise Conflict(
            f"{quoted(row.who, 80)} is ending case {number} at this moment, and nothing of yours was done: look at it "
            f"again, or try again after {iso(row.until_us)}"
        )


def overtake(writer: sa.Connection, number: int, who: str, now_us: int) -> None:
    """Have a telling that took too long come to nothing. Raises Conflict while somebody else tells."""
    check_free(writer, number, who, now_us)
    writer.execute(case_telling.delete().where(case_telling.c.number == number))


def end(writer: sa.Connection, begun: Begun) -> None:
    """Hold the case no longer. Raises Conflict where another telling has begun meanwhile: this one took too long."""
    if not give_up(writer, begun):
        raise Conflict(
            f"Somebody else has acted on case {begun.case.number} meanwhile, and it is as they left it. The outcomes "
            "that you told stay until it is decided again, or reopened: look at it again"
        )


def give_up(writer: sa.Connection, begun: Begun) -> bool:
    """Hold the case no longer; whether it was still held for this telling."""
    of_it = sa.and_(case_telling.c.number == begun.case.number, case_telling.c.until_us == begun.until_us)
    return bool(writer.execute(case_telling.delete().where(of_it)).rowcount)


def is_free(now_us: int) -> sa.ColumnElement[bool]:
    """Whether nobody tells the outcomes of a case of `cases`."""
    held = sa.and_(case_telling.c.number == cases.c.number, case_telling.c.until_us > now_us)
    return ~sa.exists().where(held)
