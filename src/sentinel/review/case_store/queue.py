"""The queue: which cases there are, in the order in which they are worked on, a page at a time."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from sentinel.errors import InvalidInput
from sentinel.events.card_numbers import quoted
from sentinel.review.case_store.asking import key_sha256
from sentinel.review.case_store.case import COLUMNS, Case, case_in, case_of
from sentinel.review.case_store.tables import case_payments, cases
from sentinel.review.case_store.telling import is_free
from sentinel.review.cases.moves import DONE, UNDONE, WAITING, Analyst, CaseState

MOST = 500
_FARTHEST = 2**53  # of what databases count in whole numbers
_GROUPS = {"work": UNDONE, "waiting": WAITING, "done": DONE}
STATES = (*_GROUPS, *map(str, CaseState))
"""What may be asked for: a group of states, or one."""


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; None is anything. Without `states` it is what is work.

    `key` is a field with the values that it may be stored under, `holder` who has it, `overdue` whether it is past its
    deadline now, `transaction_ids` are those that one transaction may be stored under.
    """

    states: frozenset[CaseState] = UNDONE
    holder: str | None = None
    priority: str | None = None
    overdue: bool = False
    key: tuple[str, tuple[str, ...]] | None = None
    transaction_ids: tuple[str, ...] | None = None


class QueuePage(NamedTuple):
    """Cases in their order, how many there are in all, and where the next page begins, if there is one.

    `as_of_us` is the moment that the order is of: all pages that follow each other have the same.
    """

    cases: Sequence[Case]
    total: int
    next: str | None
    as_of_us: int


def states_named(text: str) -> frozenset[CaseState]:
    """The states of a group, or the one of this name. Raises InvalidInput."""
    if text in _GROUPS:
        return _GROUPS[text]
    if text not in STATES:
        raise InvalidInput(f"Expected one of {', '.join(STATES)}, got {quoted(text)}", "$.state")
    return frozenset({CaseState(text)})


def urgency_in_sql(now_us: int) -> sa.ColumnElement[float]:
    """`urgency`, as the database works it out: the same operations in the same order, so the same bits."""
    waited = sa.cast(now_us - cases.c.opened_us, sa.Float(53)) / sa.cast(
        cases.c.due_us - cases.c.opened_us, sa.Float(53)
    )
    return sa.cast(cases.c.loss + 1, sa.Float(53)) * (sa.literal(1.0, sa.Float(53)) + waited)


def page_of(reader: sa.Connection, asked: Filters, now_us: int, limit: int, cursor: str | None) -> QueuePage:
    """A page: what is work by urgency, what is done by when, the newest first. Raises InvalidInput."""
    if not 1 <= limit <= MOST:
        raise InvalidInput(f"Expected 1 to {MOST}, got {limit}", "$.limit")
    as_of_us, after = (now_us, None) if cursor is None else _read_cursor(cursor)
    by_urgency = asked.states <= UNDONE
    rank = urgency_in_sql(as_of_us) if by_urgency else sa.cast(sa.func.coalesce(cases.c.decided_us, 0), sa.Float(53))
    where = _where(asked, as_of_us)
    total = reader.scalar(sa.select(sa.func.count()).select_from(cases).where(where)) or 0
    ordered = sa.select(*COLUMNS, rank.label("rank")).where(where)
    if after is not None:
        ordered = ordered.where(sa.or_(rank < after[0], sa.and_(rank == after[0], cases.c.number > after[1])))
    rows = reader.execute(ordered.order_by(sa.desc("rank"), cases.c.number).limit(limit + 1)).all()
    found = [case_in(row) for row in rows[:limit]]
    more = len(rows) > limit
    return QueuePage(found, total, _cursor(as_of_us, rows[limit - 1]) if more else None, as_of_us)


def next_for(reader: sa.Connection, who: Analyst, now_us: int) -> Case | None:
    """The most urgent case that waits, and that this person may take."""
    may = sa.or_(cases.c.escalated_to.is_(None), cases.c.escalated_to.in_(sorted(who.roles)))
    waits = sa.and_(cases.c.state.in_(sorted(WAITING)), may, is_free(now_us))
    asked = sa.select(cases.c.number).where(waits).order_by(urgency_in_sql(now_us).desc(), cases.c.number)
    number = reader.scalar(asked.limit(1))
    return None if number is None else case_of(reader, number)


def _where(asked: Filters, as_of_us: int) -> Any:
    wanted: list[sa.ColumnElement[bool]] = [cases.c.state.in_(sorted(asked.states))]
    if asked.holder is not None:
        wanted.append(cases.c.holder == asked.holder)
    if asked.priority is not None:
        wanted.append(cases.c.priority == asked.priority)
    if asked.overdue:
        wanted.append(sa.and_(cases.c.state.not_in(sorted(DONE)), cases.c.due_us < as_of_us))
    if asked.key is not None:
        field, values = asked.key
        wanted.append(cases.c.key_sha256.in_([key_sha256(field, value) for value in values]))
    if asked.transaction_ids is not None:
        about = sa.select(case_payments.c.number).where(case_payments.c.transaction_id.in_(asked.transaction_ids))
        wanted.append(cases.c.number.in_(about))
    return sa.and_(*wanted)


def _cursor(as_of_us: int, row: Any) -> str:
    return f"{as_of_us}.{float(row.rank).hex()}.{row.number}".replace("+", "")


def _read_cursor(text: str) -> tuple[int, tuple[float, int]]:
    parts = text.split(".", 1)
    try:
        rank, _, number = parts[1].rpartition(".")
        found = int(parts[0]), (float.fromhex(rank), int(number))
    except (ValueError, IndexError, OverflowError):
        found = -1, (0.0, -1)
    if not (0 <= found[0] < _FARTHEST and 0 <= found[1][1] < _FARTHEST and math.isfinite(found[1][0])):
        raise InvalidInput(f"Expected a cursor as `next` gave it, got {quoted(text, 80)}", "$.cursor")
    return found
