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
from sentinel.events.times import clock_us, duration_us
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
from sentinel.review.case_store.asking import Asking, case_about, open_or_join, sign
from sentinel.review.case_store.case import SENTINEL, case_of
from sentinel.review.case_store.desk import ANALYST
from sentinel.review.case_store.forgetting import MOST_FORGOTTEN, forget_done, forget_occurrences
from sentinel.review.case_store.progress import CasesMoved, ReadUpTo, move_on, read_up_to
from sentinel.review.case_store.tables import case_payments
from sentinel.review.case_store.watching import Watching
from sentinel.review.case_store.writing import OUTCOME, change, recount, tell_overdue
from sentinel.review.cases.deadlines import USUAL, Deadlines, read_deadlines
from sentinel.review.cases.likeness import signs_of_reasons
from sentinel.review.cases.moves import UNDONE

WHO = "case opener"
CASES_BY, DEADLINES, KEEP = "SENTINEL_CASES_BY", "SENTINEL_CASE_DEADLINES", "SENTINEL_KEEP_CASES"
STEP = 1_024
"""About how many entries are read at once."""

MOST_ASKING = 64
"""Decisions that are put into cases in one transaction: some hundredths of a second, in which nobody else writes."""

_MOST_OVERDUE = 200
_FORGET_US = 3_600_000_000  # from one time to the next that messages nobody wants are deleted
_PAUSE_S, _RETRY_S = 0.5, 2.0


class _Said(NamedTuple):
    """What a source says of a decision; None where it says nothing any more."""

    about: int
    is_fraud: bool | None
    source: str | None


class _Part(NamedTuple):
    """What asks for a person in a record, or in the rest of one; whether the record ends with it."""

    record: Record
    asking: list[Asking]
    ends: bool


class CaseOpener:
    """Reads a log on from where it was read for cases, a step at a time.

    `schemas` finds the schemas there are by their ids, `by` is the field that cases are grouped by (None: the first key
    of each schema), `keep_us` is how long cases are kept after they are done (None: for ever). A
    database of another log raises StorageProblem. A step that raises has changed nothing.
    """

    def __init__(
        self, database: WrittenDatabase, log: LogReader, schemas: Callable[[], Mapping[str, Schema]],
        deadlines: Deadlines, by: str | None, now_us: int, keep_us: int | None = None,
    ) -> None:  # fmt: skip
        self._database, self._log, self._deadlines, self._keep_us = database, log, deadlines, keep_us
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
        self._waiting: list[_Part] = []
        self._forgotten_us = 0

    @property
    def lag(self) -> int:
        """How many positions are durable and were not looked at yet."""
        first = next((one.record.position for one in self._waiting), self._follower.position)
        return Follower(self._log, first).lag

    def step(self, now_us: int) -> bool:
        """Read on, and say what is overdue by now; whether there is more. Raises StorageProblem.

        People wait for the database as long as a step has it, so one opens or joins a bounded number of cases. What is
        left of a record is taken up by the next step; killed in between it is read again, and what is in a case stays.
        """
        self._waiting = self._waiting or self._read_on()
        turn, left = _turn(self._waiting)
        to = self._since
        with self._database.writing() as writer:
            for one in turn:
                for asks in one.asking:
                    open_or_join(writer, asks, self._deadlines, asks.received_us)
                if one.ends:
                    self._take(writer, one.record)
                    to = ReadUpTo(self._log.log_id, one.record.position + one.record.rows, one.record.chain)
            if to is not None and to != self._since:
                move_on(writer, self._since, to)
            late = tell_overdue(writer, now_us, _MOST_OVERDUE)
            forgets = now_us - self._forgotten_us >= _FORGET_US
            has_more = forgets and self._forget(writer, now_us)
        if forgets and not has_more:
            self._forgotten_us = now_us
        self._since, self._waiting = to, left
        return bool(turn) or late == _MOST_OVERDUE or has_more

    def _forget(self, writer: sa.Connection, now_us: int) -> bool:
        """Delete what is kept no longer; whether there is more of it."""
        outbox.forget_unwanted(writer, now_us)
        if self._keep_us is None:
            return False
        forget_occurrences(writer, now_us - self._keep_us)
        return forget_done(writer, now_us - self._keep_us) == MOST_FORGOTTEN

    def _read_on(self) -> list[_Part]:
        records = self._follower.next(STEP)
        return [_Part(one, list(self._watching.asking_in(one)), ends=True) for one in records]

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


def _turn(waiting: Sequence[_Part]) -> tuple[list[_Part], list[_Part]]:
    """What one transaction takes, of which so many ask for a person; and what is left for the next."""
    turn: list[_Part] = []
    room = MOST_ASKING
    for n, one in enumerate(waiting):
        if len(one.asking) > room:
            first, rest = one.asking[:room], one.asking[room:]
            return [*turn, one._replace(asking=first, ends=False)], [one._replace(asking=rest), *waiting[n + 1 :]]
        turn.append(one)
        room -= len(one.asking)
    return turn, []


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
    home: Path, database_url: str | None, deadlines: Deadlines, by: str | None, keep_us: int | None,
    wanted: Callable[[], bool],
) -> None:  # fmt: skip
    """Open cases of a home folder while that is wanted, whatever happens to the database or the log.

    After a StorageProblem everything is opened anew, again and again; `problem_of` tells of it meanwhile.
    """
    while wanted():
        try:
            with closing(WrittenDatabase(home, database_url)) as database, closing(open_log(home)) as log:
                opener = CaseOpener(database, log, lambda: schemas_of(home), deadlines, by, clock_us(), keep_us)
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
    kept = os.environ.get(KEEP) or "forever"
    keep_us = None if kept == "forever" else duration_us(kept)
    follow(given.home, os.environ.get(DATABASE) or None, deadlines, by, keep_us, die_with_parent(given.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
