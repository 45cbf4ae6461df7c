"""Review time-outs: a thread that has reviews which nobody took in time come to what the champion's policy declares.

It finds them in the view, a bounded number a step, and has each concluded by the log's writer, which knows whether
somebody was quicker. So it may be killed and begin again at any moment: what is told already is not told twice.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import closing
from typing import NamedTuple

from sentinel.errors import Conflict, SentinelError
from sentinel.events.times import clock_us, iso
from sentinel.policy.results import State
from sentinel.policy.review_time import Due, due_by
from sentinel.record.concluding import NOBODY, Concluded, Telling
from sentinel.record.earlier_results import Earlier, earlier_results
from sentinel.record.entries import DecisionRow
from sentinel.record.views import DecisionQuery
from sentinel.record.views.place import ViewPlace
from sentinel.serve.engine import Engine
from sentinel.serve.held_reviews import HeldReviews
from sentinel.serve.worker import Worker

MOST_AT_ONCE = 64
"""Reviews that one step concludes."""

Conclude = Callable[[DecisionRow, Telling, Earlier], Concluded]
"""Has the log's writer record what became of a decision."""

_EVERY_S, _PAUSE_S, _PATIENCE_S = 5.0, 0.1, 30.0
_log = logging.getLogger(__name__)


class Stepped(NamedTuple):
    """What a step has done: how many came to the default, and whether there may be more."""

    concluded: int
    more: bool


class ReviewTimeouts:
    """Concludes the reviews of a server that nobody took in time. Nothing happens unless the policy says by when."""

    def __init__(self, view: ViewPlace, held: HeldReviews | None = None) -> None:
        """`held` sees to what is in the hands of somebody, where there are cases: before the time of anything is up."""
        self.concluded = 0
        """How many since the start."""

        self._view, self._held = view, held
        self._cursor: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="review time-outs", daemon=True)

    def start(self, worker: Worker) -> None:
        """Begin; `worker` has the thread of the log's writer."""
        self._worker = worker
        self._thread.start()

    def stop(self) -> None:
        """End after the review that is being concluded."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._held is not None:
            self._held.close()

    def _run(self) -> None:
        pause_s = _EVERY_S
        while not self._stopping.wait(pause_s):
            try:
                more = self.turn(self._worker.ready_engine(), self._concluded, clock_us())
                pause_s = _PAUSE_S if more else _EVERY_S
            except (SentinelError, TimeoutError, CancelledError) as error:  # there is no engine, or no view, now
                self._cursor, pause_s = None, _EVERY_S
                _log.debug("reviews are not looked after: %s", error)

    def _concluded(self, row: DecisionRow, telling: Telling, earlier: Earlier) -> Concluded:
        return self._worker.conclude(row, telling, earlier=earlier).result(_PATIENCE_S)

    def turn(self, engine: Engine, conclude: Conclude, now_us: int) -> bool:
        """See to what somebody has, and once that is done to what is due; whether there may be more.

        Raises NotReady, StorageProblem.
        """
        if self._held is not None and self._held.step(engine, conclude):
            return True
        return self.step(engine, conclude, now_us).more

    def step(self, engine: Engine, conclude: Conclude, now_us: int) -> Stepped:
        """Conclude the next reviews that are due by now. Raises NotReady, StorageProblem."""
        due = due_by(engine.lineup.champion.bundle.manifest.policy)
        if due is None:
            return Stepped(0, more=False)
        overdue = DecisionQuery(
            state=State.IN_REVIEW, to_us=max(now_us - due.within_us, 0), limit=MOST_AT_ONCE, cursor=self._cursor
        )
        with closing(self._view.open()) as view:
            page = view.search(overdue)
        n = 0
        for one in page.rows:
            if self._stopping.is_set():
                break
            row = engine.journal.decision_at(one.position, one.transaction_id)
            if row is not None:
                earlier = earlier_results(self._view, row, engine.journal.remembered_from)
                n += _comes_to(row, due, conclude, earlier)
        self._cursor = page.next
        self.concluded += n
        return Stepped(n, page.next is not None)


def _comes_to(row: DecisionRow, due: Due, conclude: Conclude, earlier: Earlier) -> bool:
    """Whether a review has come to the default now: somebody may have been quicker."""
    reason = f"nobody took it by {iso(row.received_us + due.within_us)}"
    try:
        return not conclude(row, Telling(due.result, NOBODY, reason, unless_taken=True), earlier).replayed
    except Conflict:
        return False
