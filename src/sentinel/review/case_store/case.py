"""A case as it is kept, its payments, and what was done to it."""

from typing import Any

import msgspec
import sqlalchemy as sa

from sentinel.errors import Conflict, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.times import iso
from sentinel.review.case_store.tables import case_events, case_payments, case_signs, cases
from sentinel.review.cases.moves import CaseState, Outcome

SENTINEL = "sentinel"
"""Who does what no person does."""

_MOST_CHANGES = 5
_MOST_EVENTS = 1_000
MOST_PAYMENTS = 500


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A case. Money is in units of 10^-decimals, times in microseconds since 1970. See `tables.cases`."""

    number: int
    key_field: str
    key_value: str
    state: CaseState
    why: str
    opened_us: int
    due_us: int
    priority: str
    overdue_us: int | None
    loss: int
    amount: int
    largest: int
    payments: int
    decimals: int
    newest_us: int
    holder: str | None
    escalated_to: str | None
    outcome: Outcome | None
    decided_us: int | None
    decided_by: str | None
    version: int


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that a case is about; `is_fraud` is None while nobody has said what it was, `source` who did."""

    position: int
    transaction_id: str
    received_us: int
    amount: int | None
    probability: float
    decision: str
    why: str
    is_fraud: bool | None
    source: str | None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to a case, by whom, and the version that this made; `details` are plain data."""

    id: int
    version: int
    at_us: int
    who: str
    what: str
    details: dict[str, Any]


def teller_of(number: int) -> str:
    """Under which name a case tells outcomes and results: no key can be called so."""
    return f"case:{number}"


COLUMNS = [cases.c[name] for name in Case.__struct_fields__]
_PAYMENT = [case_payments.c[name] for name in Payment.__struct_fields__]


def case_in(row: Any) -> Case:
    """The case in a row that begins with `COLUMNS`."""
    return msgspec.convert(dict(zip(Case.__struct_fields__, row, strict=False)), Case)


def case_of(reader: sa.Connection, number: int) -> Case:
    """One case. Raises NotFound."""
    row = reader.execute(sa.select(*COLUMNS).where(cases.c.number == number)).one_or_none()
    if row is None:
        raise NotFound(f"There is no case {number}; GET /v1/cases lists those there are")
    return case_in(row)


def newer_of_key(reader: sa.Connection, case: Case) -> int | None:
    """The number of another case of the same key that is work."""
    of_it = sa.select(cases.c.key_sha256).where(cases.c.number == case.number).scalar_subquery()
    found: int | None = reader.scalar(sa.select(cases.c.number).where(cases.c.open_key == of_it))
    return None if found == case.number else found


def checked_case(reader: sa.Connection, number: int, version: int | None) -> Case:
    """The case, if it is as it was in this version. Raises NotFound, and Conflict that says what has changed."""
    found = case_of(reader, number)
    if version is None or version == found.version:
        return found
    changes = [one for one in events_of(reader, number) if one.version > version][:_MOST_CHANGES]
    told = "; ".join(f"{one.what} by {quoted(one.who, 80)} at {iso(one.at_us)}" for one in changes)
    raise Conflict(
        f"Case {number} has changed since you looked at it, from version {version} to {found.version} "
        f"({told or 'which it never had'}). Nothing of yours was done: look at it again"
    )


def payments_of(reader: sa.Connection, number: int, most: int | None = MOST_PAYMENTS) -> list[Payment]:
    """The newest payments of a case, the newest first: as many as a person may look at, or all where `most` is None."""
    asked = sa.select(*_PAYMENT).where(case_payments.c.number == number)
    rows = reader.execute(asked.order_by(case_payments.c.position.desc()).limit(most))
    return [msgspec.convert(dict(zip(Payment.__struct_fields__, row, strict=True)), Payment) for row in rows]


def events_of(reader: sa.Connection, number: int) -> list[Event]:
    """What was done to a case, the oldest first; the newest of very many."""
    asked = sa.select(case_events).where(case_events.c.number == number)
    rows = reader.execute(asked.order_by(case_events.c.id.desc()).limit(_MOST_EVENTS)).all()
    return [_event_in(row) for row in reversed(rows)]


def signs_of(reader: sa.Connection, number: int) -> set[str]:
    """By what the case is like others."""
    return set(reader.scalars(sa.select(case_signs.c.sign).where(case_signs.c.number == number)))


def _event_in(row: Any) -> Event:
    return Event(
        id=row.id, version=row.version, at_us=row.at_us, who=row.who, what=row.what,
        details=msgspec.json.decode(row.details),
    )  # fmt: skip
