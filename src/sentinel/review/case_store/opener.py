"""The case opener: follows the log, and makes what asks for a person into cases.

`python -m sentinel.review.case_store.opener --home H` runs one as a process. No decision waits for it. What it
finds and how far it has read are written in one transaction: killed at any moment, it opens each case once.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from sentinel.child_process import die_with_parent, yield_to_decisions
from sentinel.errors import StorageProblem
from sentinel.events.schema import Schema
from sentinel.events.times import clock_us
from sentinel.record.disk import check_room
from sentinel.record.entries import NO_DECISION, outcome_rows, revoked_rows
from sentinel.record.home_reader import open_log
from sentinel.record.log import Follower, Kind, LogReader, Record
from sentinel.record.private import keep_private
from sentinel.record.problem import tell_problem
from sentinel.record.projector import DATABASE, schemas_of
from sentinel.record.reasons import reasons_in
from sentinel.record.written import outbox
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store.asking import case_about, open_or_join, sign
from sentinel.review.case_store.case import SENTINEL, case_of
from sentinel.review.case_store.desk import ANALYST
from sentinel.review.case_store.progress import CasesMoved, ReadUpTo, move_on, read_up_to
from sentinel.review.case_store.tables import case_payments
from sentinel.review.case_store.watching import Watching
from sentinel.review.case_store.writing import OUTCOME, change, recount, tell_overdue
from sentinel.review.cases.deadlines import USUAL, Deadlines, read_deadlines
from sentinel.review.cases.likeness import signs_of_reasons
from sentinel.review.cases.moves import UNDONE

WHO = "case opener"
CASES_BY, DEADLINES = "SENTINEL_CASES_BY", "SENTINEL_CASE_DEADLINES"
STEP = 1_024
"""About how many entries are read in one transaction."""

_MOST_OVERDUE = 200
_FORGET_US = 3_600_000_000  # from one time to the next that messages nobody wants are deleted
_PAUSE_S, _RETRY_S = 0.5, 2.0


class _Said(NamedTuple):
    """What a source says of a decision; None where it says nothing any more."""

    about: int
    is_fraud: bool | None
    source: str | None


class CaseOpener:
    """Reads a log on from where it was read for cases, a step at a time.

    `schemas` finds the schemas there are by their ids, `by` is the field that cases are grouped by (None: the first key
    of each schema). A database of another log raises StorageProblem. A step that raises has changed nothing.
    """

    def __init__(
        self, database: WrittenDatabase, log: LogReader, schemas: Callable[[], Mapping[str, Schema]],
        deadlines: Deadlines, by: str | None, now_us: int,
    ) -> None:  # fmt: skip
        self._database, self._log, self._deadlines = database, log, deadlines
        self._watching = Watching(log, schemas, by)
        with database.reading() as reader:
            self._since = read_up_to(reader)
        if self._since is not None and self._since.log_id != log.log_id:
            raise StorageProblem(
                f"{database.name} has cases of another log; if the log was replaced on purpose, keep that file "
                "elsewhere and begin with a new one"
            )
        begin = log.first_after(now_us - deadlines.longest_us) if self._since is None else self._since.position
        self._follower = Follower(log, begin)
        self._forgotten_us = 0

    @property
    def lag(self) -> int:
        """How many positions are durable and were not looked at yet."""
        return self._follower.lag

    def step(self, now_us: int) -> bool:
        """Read on, and say what is overdue by now; whether there is more. Raises StorageProblem."""
        records = self._follower.next(STEP)
        found = [one for record in records for one in self._watching.asking_in(record)]
        with self._database.writing() as writer:
            if records:
                last = records[-1]
                to = ReadUpTo(self._log.log_id, last.position + last.rows, last.chain)
                move_on(writer, self._since, to)
                for record in records:
                    while found and found[0].position < record.position + record.rows:
                        one = found.pop(0)
                        open_or_join(writer, one, self._deadlines, one.received_us)
                    self._take(writer, record)
            late = tell_overdue(writer, now_us, _MOST_OVERDUE)
            if now_us - self._forgotten_us >= _FORGET_US:
                outbox.forget_unwanted(writer, now_us)
                self._forgotten_us = now_us
        if records:
            self._since = to
        return bool(records) or late == _MOST_OVERDUE

    def _take(self, writer: sa.Connection, record: Record) -> None:
        """What else a record says about decisions that are in cases."""
        if record.kind == Kind.REASONS:
            for _, about, why in reasons_in(record).rows(record.position):
                number = case_about(writer, about)
                if number is not None:
                    sign(writer, number, sorted(signs_of_reasons(msgspec.json.decode(why))))
        for said in _said_in(record):
            self._hear(writer, said, record.received_us)

    def _hear(self, writer: sa.Connection, said: _Said, now_us: int) -> None:
        of_it = case_payments.c.position == said.about
        row = writer.execute(sa.select(case_payments).where(of_it)).one_or_none()
        if row is None or (row.is_fraud, row.source) == (said.is_fraud, said.source):
            return
        writer.execute(case_payments.update().where(of_it).values(is_fraud=said.is_fraud, source=said.source))
        before = case_of(writer, row.number)
        recount(writer, before, self._deadlines)
        if before.state in UNDONE and ANALYST not in (row.source, said.source):
            details = {"transaction_id": row.transaction_id, "is_fraud": said.is_fraud, "source": said.source}
            change(writer, before, {}, OUTCOME, details, SENTINEL, now_us)


def _said_in(record: Record) -> Sequence[_Said]:
    if record.kind == Kind.OUTCOMES:
        return [_Said(one.about, one.is_fraud, one.source) for one in outcome_rows(record)]
    if record.kind != Kind.REVOKED:
        return ()
    left = [(one.about, one.standing[-1] if one.standing else None) for one in revoked_rows(record)]
    return [
        _Said(about, None, None) if last is None else _Said(about, last.is_fraud, last.source)
        for about, last in left
        if about != NO_DECISION
    ]


def follow(
    home: Path, database_url: str | None, deadlines: Deadlines, by: str | None, wanted: Callable[[], bool]
) -> None:
    """Open cases of a home folder while that is wanted, whatever happens to the database or the log.

    After a StorageProblem everything is opened anew, again and again; `problem_of` tells of it meanwhile.
    """
    while wanted():
        try:
            with closing(WrittenDatabase(home, database_url)) as database, closing(open_log(home)) as log:
                opener = CaseOpener(database, log, lambda: schemas_of(home), deadlines, by, clock_us())
                while wanted():
                    check_room(home)
                    more = opener.step(clock_us())
                    tell_problem(home, WHO, None)
                    time.sleep(0 if more else _PAUSE_S)
        except CasesMoved:
            time.sleep(_RETRY_S)
        except StorageProblem as problem:
            tell_problem(home, WHO, str(problem))
            time.sleep(_RETRY_S)


def main() -> int:
    """Run until killed, or until the parent process is gone."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.review.case_store.opener", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    keep_private()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
    yield_to_decisions()
    deadlines = read_deadlines(os.environ.get(DEADLINES) or USUAL)
    by = os.environ.get(CASES_BY) or None
    follow(given.home, os.environ.get(DATABASE) or None, deadlines, by, die_with_parent(given.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
