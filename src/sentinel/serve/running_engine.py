"""The engine in the event loop: opened beside it, asked from it, given up after a fault; who gets which answer when."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from sentinel.errors import NotReady, NotTheOwner, SentinelError, StorageProblem
from sentinel.policy.deployment import Deployment
from sentinel.record import audit
from sentinel.record.applied import Change, apply
from sentinel.record.audit import By, append_change
from sentinel.record.concluding import Concluded, Telling
from sentinel.record.earlier_results import NOT_ASKED, Earlier
from sentinel.record.entries import DecisionRow, OutcomeRow, Revocation, TableRows
from sentinel.record.listed import Listing
from sentinel.record.log import Log, Record, Taken
from sentinel.record.reasons import Reasons
from sentinel.record.revoking import TakenBack
from sentinel.serve.batch import Answered, Arrivals
from sentinel.serve.engine import Engine
from sentinel.serve.opener import STANDBY, Opener
from sentinel.serve.ownership import Ownership
from sentinel.serve.queue import Queue, Request, answers_of, appended_us, arrivals_of, rows_of

_INSIDE = "Something went wrong inside; nothing was stored"
_log = logging.getLogger(__name__)

T = TypeVar("T")
Step = Callable[[Arrivals, int], Answered]


class RunningEngine:
    """Has the engine take steps, and sends their answers once they are durable. Use it in the event loop's thread.

    An engine that could not record a batch is thrown away, and the opener opens another one; until then nothing is
    decided, and `reason` says why. With `ownership` the log may be another process's: then nothing is decided, either.
    """

    def __init__(
        self, log: Log, open_engine: Callable[[], Engine], most_waiting: int, usual_ns: int = 0,
        ownership: Ownership | None = None,
    ) -> None:  # fmt: skip
        self.log = log
        self.engine: Engine | None = None
        self.queue = Queue(most_waiting, usual_ns)
        self.longest_turn_ns = 0
        """Processor time of the longest step in the event loop so far: a batch, a switch, a change."""

        self._ownership = ownership
        self._opener = Opener(log, open_engine, self._install, ownership)
        self._undelivered: deque[tuple[Answered, Sequence[Request]]] = deque()

    @property
    def reason(self) -> str:
        """Why there is no engine."""
        return self._opener.reason

    @property
    def code(self) -> str:
        """The same in a word."""
        return self._opener.code

    @property
    def was_ready(self) -> bool:
        """Whether there ever was one."""
        return self._opener.was_open

    def start(self) -> None:
        """Begin to open the engine; returns at once. Call it from a running event loop."""
        self._loop = asyncio.get_running_loop()
        self.log.on_durable(self._notify)
        self._opener.start()

    def between_batches(self, errand: Callable[[Engine], T]) -> "Future[T]":
        """Run `errand` in the loop's thread between two batches; the future has its result or error, or NotReady."""

        def run() -> T:
            try:
                return errand(self.ready_engine())
            except StorageProblem as error:  # it could not write
                self._fail(error, [])
                raise

        return self._in_loop(run)

    def revoke(
        self, revocation: Revocation, candidates: Sequence[OutcomeRow], note: audit.Change | None = None
    ) -> "Future[TakenBack]":
        """Take back what is left of these outcomes between two batches; see `Engine.revoke`."""

        def errand(engine: Engine) -> TakenBack:
            with self._turn():
                return engine.revoke(revocation, candidates, time.time_ns() // 1000, note)

        return self.between_batches(errand)

    def explain(self, reasons: Reasons) -> "Future[bool]":
        """Record why decisions are as they are, between two batches; see `Engine.explain`."""

        def errand(engine: Engine) -> bool:
            with self._turn():
                return engine.explain(reasons, self.log.clock(0))  # what it is about has a time

        return self.between_batches(errand)

    def conclude(
        self, row: DecisionRow, telling: Telling, note: audit.Change | None = None, earlier: Earlier = NOT_ASKED
    ) -> "Future[Concluded]":
        """Record what became of a decision, between two batches; see `Engine.conclude`."""

        def errand(engine: Engine) -> Concluded:
            with self._turn():
                return engine.conclude(row, telling, time.time_ns() // 1000, note, earlier)

        return self.between_batches(errand)

    def tell(self, engine: Engine, entry: TableRows, note: audit.Change) -> "Future[Record]":
        """Record rows of a table, checked with this engine, between two batches; see `Engine.tell`."""

        def errand(current: Engine) -> Record:
            if current is not engine:
                raise NotReady("The server began anew meanwhile; nothing of it was stored: send it again")
            with self._turn():
                return engine.tell(entry, time.time_ns() // 1000, note)

        return self.between_batches(errand)

    def list_values(
        self, name: str, kind: str, told: Sequence[Listing], told_by: str, note: audit.Change
    ) -> "Future[Record | None]":
        """Record what is said of a list, between two batches; see `Engine.list_values`."""

        def errand(engine: Engine) -> Record | None:
            with self._turn():
                return engine.list_values(name, kind, told, told_by, time.time_ns() // 1000, note)

        return self.between_batches(errand)

    def apply(self, change: Change, by: By = audit.SENTINEL) -> Deployment:
        """Change what is in force, from the loop's thread; there need be no engine. See `record.applied.apply`."""
        return self._written(lambda now_us: apply(self.log, change, now_us, by))

    def note(self, change: audit.Change) -> None:
        """Append an entry of the audit, from the loop's thread; there need be no engine. Raises StorageProblem."""
        self._written(lambda now_us: append_change(self.log, change, now_us))

    def draft_rules(self, write: Callable[[Log, int], T]) -> T:
        """Write a draft of rules, from the loop's thread; there need be no engine. Raises StorageProblem."""
        return self._written(lambda now_us: write(self.log, now_us))

    def _written(self, write: Callable[[int], T]) -> T:
        with self._turn():
            try:
                return write(self.log.clock(time.time_ns() // 1000))
            except StorageProblem as error:
                if self.engine is not None or not isinstance(error, NotTheOwner):
                    self._fail(error, [])
                raise

    def ready_engine(self) -> Engine:
        """The engine. Raises NotReady, with the reason, while there is none."""
        if self.engine is None:
            raise self._not_ready()
        return self.engine

    def _not_ready(self, more: str = "") -> NotReady:
        if self.code == STANDBY:
            return NotReady(f"{self.reason}{more}")
        return NotReady(f"No model can answer: {self.reason}{more}")

    def _in_loop(self, call: Callable[[], T]) -> "Future[T]":
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            except Exception as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done

    def _install(self, engine: Engine) -> None:
        """From the opener's thread: have the loop use this engine. Raises StorageProblem when it cannot write."""
        self._in_loop(lambda: self._begin(engine)).result()

    def _begin(self, engine: Engine) -> None:
        if (
            self._opener.has_faults
        ):  # since it was opened: the log is recovered once more, which voids what is not durable
            raise StorageProblem(self.reason)
        now_us = time.time_ns() // 1000
        if self._ownership is not None:
            self._ownership.begun()
            now_us = self.log.clock(0) or now_us  # what waits in Kafka came in before now
        engine.begin(now_us)
        self.engine = engine

    def _notify(self) -> None:
        self._loop.call_soon_threadsafe(self._look_at_log)

    def _look_at_log(self) -> None:
        """Send the answers that are durable by now, or give up those that cannot be any more."""
        self._reply_durable()
        fault = self.log.fault
        if fault is not None and self.engine is not None and (self._undelivered or isinstance(fault, NotTheOwner)):
            self._fail(fault, [])

    def _handle(self, requests: Sequence[Request], step: Step) -> None:
        """Take a step with these requests; answers are sent once they are durable."""
        if self.engine is None:  # a batch of this turn failed before
            refuse(requests, self._not_ready())
            return
        try:
            answered = self._taken(requests, step)
        except Exception as error:
            if self.engine.is_ahead:
                self._fail(error, requests)
            else:  # nothing was changed: only these requests have a problem
                _log.exception("a batch of %d was not looked up", rows_of(requests))
                problem = error if isinstance(error, SentinelError) else NotReady(_INSIDE)
                refuse(requests, problem)
            return
        if answered.durable_from <= self.log.durable:
            _reply(answered, requests)
        else:
            self._undelivered.append((answered, requests))

    def _taken(self, requests: Sequence[Request], step: Step) -> Answered:
        """Take a step, and note with it how far inputs were read that requests came from."""
        now_us = appended_us(requests) or time.time_ns() // 1000
        if self._ownership is None or all(one.taken is None for one in requests):
            return step(arrivals_of(requests), now_us)
        with self._ownership.log.together() as unit:
            answered = step(arrivals_of(requests), now_us)
            for one, answers in answers_of(requests, answered.answers):
                if one.taken is not None:
                    unit.take(one.taken(answers))
        return answered._replace(durable_from=max(answered.durable_from, self._ownership.log.end))

    def note_read(self, taken: Taken) -> None:
        """Note how far inputs were read of which nothing could be used; from the loop's thread.

        Raises NotReady, StorageProblem.
        """
        self.ready_engine()
        if self._ownership is not None:
            with self._ownership.log.together() as unit:
                unit.take(taken)

    def _reply_durable(self) -> None:
        durable = self.log.durable
        while self._undelivered and self._undelivered[0][0].durable_from <= durable:
            _reply(*self._undelivered.popleft())

    def _has_answered(self) -> bool:
        """Whether all that was decided is durable and answered."""
        self._reply_durable()
        return not self._undelivered

    def _give_up_undelivered(self) -> None:
        """Answer those whose entries did not become durable."""
        for _, callers in self._undelivered:
            refuse(
                callers, self._not_ready("; it is not known whether this was stored: send it again with the same id")
            )
        self._undelivered.clear()

    def _fail(self, error: Exception, requests: Sequence[Request]) -> None:
        """Give up the engine. Callers whose batch may or may not be stored are answered after recovery."""
        self._reply_durable()
        engine, self.engine = self.engine, None
        if isinstance(error, SentinelError):
            _log.error("nothing is decided until the log can be written again: %s", error)
        else:
            _log.error("a batch of %d was not decided", rows_of(requests), exc_info=error)
        unknown = [*requests, *(one for _, callers in self._undelivered for one in callers)]
        self._undelivered.clear()
        waiting = self.queue.take_all()

        def settled(fate: str) -> None:
            self._loop.call_soon_threadsafe(refuse, unknown, NotReady(fate))

        self._opener.replace(engine, error, settled)
        refuse(waiting, self._not_ready("; nothing was stored"))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Note the processor time of what is done in a turn of the event loop."""
        begun_ns = time.thread_time_ns()
        try:
            yield
        finally:
            self.longest_turn_ns = max(self.longest_turn_ns, time.thread_time_ns() - begun_ns)


def refuse(requests: Sequence[Request], error: SentinelError) -> None:
    """Answer all of them with this error."""
    for one in requests:
        one.reply([error] * len(one.events))


def _reply(answered: Answered, requests: Sequence[Request]) -> None:
    answers = answered.answers if answered.late is None else answered.late.joined(answered.answers)
    for one, its in answers_of(requests, answers):
        one.reply(its)
