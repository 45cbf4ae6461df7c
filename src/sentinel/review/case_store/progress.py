"""How far the log was read for cases, which moves on in the transaction that writes what was found there."""

from typing import NamedTuple

import sqlalchemy as sa

from sentinel.errors import StorageProblem
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store.tables import case_progress


class ReadUpTo(NamedTuple):
    """Of which log everything before a position was read, and the hash of what is before it."""

    log_id: str
    position: int
    chain: bytes


class CasesMoved(StorageProblem):
    """Another process has read on meanwhile: this one begins again from where that is."""


def read_up_to(reader: sa.Connection) -> ReadUpTo | None:
    """How far the log was read; None where that has not begun."""
    row = reader.execute(sa.select(case_progress)).one_or_none()
    return None if row is None else ReadUpTo(row.log_id, row.position, row.chain)


def move_on(writer: sa.Connection, since: ReadUpTo | None, to: ReadUpTo) -> None:
    """Note that the log was read up to there, by who had read it up to `since`. Raises CasesMoved."""
    if read_up_to(writer) != since:
        raise CasesMoved("another process opens cases of this home, too; run one server of it")
    if since is None:
        writer.execute(case_progress.insert().values(to._asdict()))
    else:
        writer.execute(case_progress.update().values(to._asdict()))


def cases_position(database: WrittenDatabase) -> int | None:
    """Before which position everything was read; None where that has not begun. Raises StorageProblem."""
    with database.reading() as reader:
        found = read_up_to(reader)
    return None if found is None else found.position
