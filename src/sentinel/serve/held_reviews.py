"""Held reviews: what joins a case that somebody has waits for that person as well, and not for its time to run out."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from sentinel.errors import Conflict
from sentinel.policy.results import Result
from sentinel.policy.thresholds import Action
from sentinel.record.concluding import Concluded, Telling
from sentinel.record.earlier_results import Earlier, earlier_results
from sentinel.record.entries import DecisionRow
from sentinel.record.views.place import ViewPlace
from sentinel.record.written.written_database import OpenedLate
from sentinel.review.case_store.case import teller_of
from sentinel.review.case_store.tables import case_payments, cases
from sentinel.review.cases.moves import CaseState
from sentinel.serve.engine import Engine

MOST_AT_ONCE = 64
"""Reviews that one step has taken."""


class HeldReviews:
    """Has reviews taken that are in a case which is in somebody's hands; from one thread.

    It remembers which it has seen to, by case, for as long as that is held: after a start all are told once more, which
    adds nothing.
    """

    def __init__(self, home: Path, database_url: str | None, view: ViewPlace) -> None:
        self._written, self._view = OpenedLate(home, database_url), view
        self._versions: dict[int, int] = {}
        self._seen: dict[int, set[int]] = {}

    def close(self) -> None:
        """Release the database."""
        self._written.close()

    def step(self, engine: Engine, conclude: Callable[[DecisionRow, Telling, Earlier], Concluded]) -> bool:
        """Have the next ones taken; whether there may be more. Raises StorageProblem, NotReady."""
        left = MOST_AT_ONCE
        with self._written.get().reading() as reader:
            asked = sa.select(cases.c.number, cases.c.version, cases.c.holder)
            held = reader.execute(asked.where(cases.c.state == CaseState.ASSIGNED).order_by(cases.c.number)).all()
        self._forget_all_but({one.number for one in held})
        for case in held:
            if self._versions.get(case.number) == case.version:
                continue
            new = self._new_of(case.number, left)
            why = f"case {case.number}, {case.holder}"
            telling = Telling(Result.REVIEW_TAKEN, teller_of(case.number), why)
            for transaction_id, position in new:
                self._take(engine, conclude, (transaction_id, position), telling)
                self._seen[case.number].add(position)
            left -= len(new)
            if left <= 0:
                return True
            self._versions[case.number] = case.version
        return False

    def _forget_all_but(self, held: set[int]) -> None:
        self._versions = {number: version for number, version in self._versions.items() if number in held}
        self._seen = {number: self._seen.get(number, set()) for number in held}

    def _new_of(self, number: int, most: int) -> list[tuple[str, int]]:
        """Ids and positions of what is to be reviewed in a case and was not seen to yet."""
        asked = sa.select(case_payments.c.transaction_id, case_payments.c.position)
        of_it = sa.and_(case_payments.c.number == number, case_payments.c.decision == str(Action.REVIEW))
        with self._written.get().reading() as reader:
            rows = reader.execute(asked.where(of_it).order_by(case_payments.c.position)).all()
        return [(one.transaction_id, one.position) for one in rows if one.position not in self._seen[number]][:most]

    def _take(
        self, engine: Engine, conclude: Callable[[DecisionRow, Telling, Earlier], Concluded], what: tuple[str, int],
        telling: Telling,
    ) -> None:  # fmt: skip
        """Have one taken; what came to something before keeps that, and what the log no longer has is passed by."""
        transaction_id, position = what
        row = engine.journal.decision_at(position, transaction_id)
        if row is None:
            return
        with suppress(Conflict):
            conclude(row, telling, earlier_results(self._view, row, engine.journal.remembered_from))
