"""Following what is applied: a front loads it beside what decides, and switches between two turns, as an owner does."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from sentinel.errors import SentinelError
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import deployment_in
from sentinel.record.entries import TableRows, table_in
from sentinel.record.feature_state import activation_of
from sentinel.record.log import Kind, LogReader
from sentinel.record.snapshots import Snapshots
from sentinel.record.table_state import NAME, TableState
from sentinel.transport.wide.judging import AsOfJudge, KnownLists

LOOK_EVERY_S = 0.3
OLD_S = 30.0
"""What was in force so long ago, and whether it still is nobody knows, is nothing to decide by."""

_PAGE, _RETRY_S = 2_048, 1.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Following:
    """Reads the log in a thread of its own, and switches in the event loop.

    `open_log` opens a reader of it. `load` makes the judge of a deployment; what it takes over of the judge before is
    its second argument. `switch` has a judge decide from then on. Lists are read while rules are in force.
    """

    def __init__(
        self, open_log: Callable[[], LogReader], snapshots: Snapshots,
        load: Callable[[Deployment, AsOfJudge | None], AsOfJudge], lists: KnownLists,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Load what is in force. Raises SentinelError where that cannot be."""
        self._clock_s = clock_s
        self._open, self._snapshots, self._load, self._lists = open_log, snapshots, load, lists
        self._log: LogReader | None = open_log()
        self._end = self._log.durable
        self._deployment = deployment_in(self._log)
        self.judge = load(self._deployment, None)
        """The newest that was loaded."""

        self._table_state = self._new_lists(self._log, self._deployment)
        if self._table_state is not None:
            lists.tables = self._table_state.tables
        self._known_s = clock_s()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)
        self.problem: str | None = None
        """Why it is not known what is in force, or cannot be loaded; None where all is well."""

    def follow_with(self, switch: Callable[[AsOfJudge], None]) -> None:
        """Say who is told of what is in force; before `start`."""
        self._switch = switch

    @property
    def age_s(self) -> float:
        """How long ago what decides was known to be in force."""
        return self._clock_s() - self._known_s

    @property
    def is_old(self) -> bool:
        """Whether that was too long ago."""
        return self.age_s > OLD_S

    @property
    def why_old(self) -> str | None:
        """Why nothing newer is known; None unless it is old."""
        return f"what is in force was last known {self.age_s:.0f} s ago: {self.problem}" if self.is_old else None

    def start(self) -> None:
        """Begin; call it from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End. Call it from another thread than the loop's."""
        self._stopping.set()
        self._thread.join()
        self._close()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S if self.problem is None else _RETRY_S):
            try:
                self._look()
            except SentinelError as problem:
                self._tell(str(problem))
                self._close()
            except Exception:  # noqa: BLE001 - what was in force goes on deciding until it is too old
                _log.exception("what is in force cannot be followed")
                self._tell("a fault of this program, which its log has")
                self._close()

    def _look(self) -> None:
        """Take what is new. Raises SentinelError."""
        if self._log is None:
            self._log, self._end = self._open(), -1
        begun_s, end = self._clock_s(), self._log.durable
        if end != self._end:
            deployment = deployment_in(self._log)
            self._follow_lists(self._log, deployment)
            if deployment != self._deployment:
                self.judge = self._load(deployment, self.judge)
                self._deployment = deployment
                self._in_loop(partial(self._switch, self.judge))
                _log.info("revision %d is in force", deployment.revision)
            self._end = end
        self._known_s = begun_s
        self._tell(None)

    def _new_lists(self, log: LogReader, deployment: Deployment) -> TableState | None:
        """All lists as the log has them now, which are followed from there on; None where nobody asks, or none are."""
        if deployment.rules is None or activation_of(log, NAME) is None:
            return None
        return TableState.of(log, self._snapshots)

    def _follow_lists(self, log: LogReader, deployment: Deployment) -> None:
        state = self._table_state
        if state is None:
            self._table_state = state = self._new_lists(log, deployment)
            if state is not None:
                self._in_loop(partial(setattr, self._lists, "tables", state.tables))
            return
        while records := log.read(state.position, _PAGE):
            told = [(table_in(one), one.received_us) for one in records if one.kind == Kind.TABLE]
            if told:
                self._in_loop(partial(_take, state, told))
            state.position = records[-1].position + records[-1].rows
            if self._stopping.is_set():
                return

    def _in_loop(self, call: Callable[[], _T]) -> _T:
        """Have this done between two turns, and wait for it."""
        done: Future[_T] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            except Exception as error:  # noqa: BLE001 - it is raised again where the future is asked
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result()

    def _tell(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            _log.error("what is in force is not followed: %s", problem)
        self.problem = problem

    def _close(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.close()


def _take(state: TableState, told: list[tuple[TableRows, int]]) -> None:
    for rows, received_us in told:
        state.take(rows, received_us)
