"""Forgetting: what people wrote about a person whose data is erased goes, and cases that are done for long enough.

A database of cases is no view: it is not made again from the log, so what is personal in it is deleted here.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from sentinel.record.views import MOST_ROWS, DecisionQuery
from sentinel.record.views.place import ViewPlace
from sentinel.record.written.tables import messages, occurrences
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store.asking import BY_HAND, key_sha256
from sentinel.review.case_store.tables import case_events, case_payments, case_signs, case_telling, cases
from sentinel.review.cases.moves import DONE

MOST_FORGOTTEN = 100
"""Cases that one transaction deletes."""

_ERASED = {"text": "erased", "address": "https://erased.invalid/", "title": "erased", "reason": "erased"}
"""What stands in the place of what people wrote, by its name in the details of what was done."""

_AT_ONCE = 500


class Subject(NamedTuple):
    """Whose data is erased: a key of the schema, and what its value is stored as, now and before a rotation."""

    key: str
    values: Sequence[str]


def erase_in_cases(database: WrittenDatabase, view: ViewPlace, subject: Subject) -> int:
    """Delete what people wrote in the cases of a subject, and in messages about these; how many cases there were.

    These are the cases of its key, and those with one of its decisions, as far as the view has them. Notes, links and
    reasons are gone then; that they were there, when and by whom, stays. It may be done again. Raises StorageProblem.
    """
    positions = list(_positions_of(view, subject))
    with database.writing() as writer:
        numbers = _cases_of(writer, subject, positions)
        for number in numbers:
            _erase_why(writer, number)
            _erase_events(writer, number)
            _erase_messages(writer, number)
    database.scrub()
    return len(numbers)


def forget_done(writer: sa.Connection, before_us: int) -> int:
    """Delete cases that were done before a moment, with all that belongs to them, at most so many; how many it were.

    The case with the highest number stays until there is a newer one: its number would be given again.
    """
    newest = sa.select(sa.func.max(cases.c.number)).scalar_subquery()
    old = sa.and_(cases.c.state.in_(sorted(DONE)), cases.c.decided_us < before_us, cases.c.number < newest)
    oldest = sa.select(cases.c.number).where(old).order_by(cases.c.decided_us).limit(MOST_FORGOTTEN)
    numbers = writer.scalars(oldest).all()
    for table in (case_events, case_payments, case_signs, case_telling, cases):
        writer.execute(table.delete().where(table.c.number.in_(numbers)))
    return len(numbers)


def forget_occurrences(writer: sa.Connection, before_us: int) -> int:
    """Delete what was told of and has ended before a moment; how many there were."""
    last = sa.func.coalesce(occurrences.c.told_us, occurrences.c.since_us)
    return writer.execute(occurrences.delete().where(occurrences.c.is_on.is_(False), last < before_us)).rowcount


def _positions_of(view: ViewPlace, subject: Subject) -> Iterator[int]:
    with closing(view.open()) as opened:
        for value in subject.values:
            cursor = None
            while True:
                page = opened.search(DecisionQuery(keys={subject.key: value}, limit=MOST_ROWS, cursor=cursor))
                yield from (one.position for one in page.rows)
                cursor = page.next
                if cursor is None:
                    break


def _cases_of(reader: sa.Connection, subject: Subject, positions: Sequence[int]) -> list[int]:
    of_key = cases.c.key_sha256.in_([key_sha256(subject.key, value) for value in subject.values])
    found = set(reader.scalars(sa.select(cases.c.number).where(of_key)))
    for n in range(0, len(positions), _AT_ONCE):
        among = case_payments.c.position.in_(positions[n : n + _AT_ONCE])
        found |= set(reader.scalars(sa.select(case_payments.c.number).where(among).distinct()))
    return sorted(found)


def _erase_why(writer: sa.Connection, number: int) -> None:
    """The reason that a case was opened for by hand."""
    for table in (cases, case_payments):
        said = sa.and_(table.c.number == number, table.c.why.startswith(f"{BY_HAND}: ", autoescape=True))
        writer.execute(table.update().where(said).values(why=BY_HAND))


def _erase_events(writer: sa.Connection, number: int) -> None:
    for row in writer.execute(sa.select(case_events).where(case_events.c.number == number)).all():
        left = _without_texts(msgspec.json.decode(row.details))
        if left is not None:
            text = msgspec.json.encode(left).decode()
            writer.execute(case_events.update().where(case_events.c.id == row.id).values(details=text))


def _erase_messages(writer: sa.Connection, number: int) -> None:
    """In what was sent, and in what still waits to be."""
    asked = sa.select(messages.c.number, messages.c.body).where(messages.c.about == _about(number))
    for row in writer.execute(asked).all():
        body = msgspec.json.decode(row.body)
        left = _without_texts(body.get("details") or {})
        if left is not None:
            text = msgspec.json.encode(body | {"details": left}, order="deterministic").decode()
            writer.execute(messages.update().where(messages.c.number == row.number).values(body=text))


def _without_texts(details: dict[str, Any]) -> dict[str, Any] | None:
    """The details without what somebody wrote; None where nobody wrote anything."""
    written = {name: _ERASED[name] for name, said in details.items() if name in _ERASED and said}
    if str(details.get("why", "")).startswith(f"{BY_HAND}: "):
        written["why"] = BY_HAND
    return details | written if written else None


def _about(number: int) -> str:
    return f"case {number}"
