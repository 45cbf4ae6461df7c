"""The worker: runs the engine once per turn of the event loop and sends answers once they are durable."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from sentinel.errors import NotReady, SentinelError, StorageProblem
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import Change, apply
from sentinel.record.log import Log
from sentinel.serve.batch import Answered, Arrivals
from sentinel.serve.engine import Engine
from sentinel.serve.opener import Opener
from sentinel.serve.queue import LONG_TURN_NS, Queue, Request, arrivals_of, rows_of

MOST_READ = 1_024
"""Transactions read in a turn of the loop after which some are decided before more is read."""

MOST_LOOKS = 8
"""Turns of the loop that a batch waits for while connections are being taken."""

_INSIDE = "Something went wrong inside; nothing was stored"
_LOOKS = 2  # of the loop for input: the first finds what came in, and new connections, the second what came with these
_PAUSE_S = 0.1
_log = logging.getLogger(__name__)

T = TypeVar("T")
Step = Callable[[Arrivals, int], Answered]


class Worker:
    """Uses the engine in the event loop's thread: in one of its own it would wait for the interpreter's lock each time.

    An engine that could not record a batch is thrown away, and the opener opens another one; until then nothing is
    decided, and `reason` says why.
    """

    def __init__(self, log: Log, open_engine: Callable[[], Engine], most_waiting: int) -> None:
        self.log = log
        self.engine: Engine | None = None
        self.queue = Queue(most_waiting)
        self.is_behind = False
        """What is read now may have lain unread for a while."""

        self.longest_turn_ns = 0
        """Processor time of the longest step in the event loop so far: a batch, a switch, a change."""

        self._opener = Opener(log, open_engine, self._install)
        self._undelivered: deque[tuple[Answered, Sequence[Request]]] = deque()
        self._turn_is_due = False
        self._turn_began_ns = self._decided_ns = 0
        self._most_read = min(MOST_READ, most_waiting // 2)
        self._unsorted = 0  # transactions read in this turn
        self._new_connections = self._looks = 0
        self._pause_until_s = 0.0

    @property
    def reason(self) -> str:
        """Why there is no engine."""
        return self._opener.reason

    @property
    def was_ready(self) -> bool:
        """Whether there ever was one."""
        return self._opener.was_open

    def start(self) -> None:
        """Begin to open the engine; returns at once. Call it from a running event loop."""
        self._loop = asyncio.get_running_loop()
        self.log.on_durable(self._notify)
        self._opener.start()

    def stop(self) -> None:
        """Answer what has arrived, take a snapshot. Call it from another thread than the loop's."""
        self._opener.stop()
        engine = self._in_loop(self._end).result()
        if engine is not None:
            try:
                engine.close()
            except Exception:
                _log.exception("the states could not be saved; the log has every answer that was given")

    def put(self, request: Request) -> None:
        """Have transactions decided; `request.reply` is called in the event loop with the answers, in their order.

        Raises NotReady, Overloaded.
        """
        engine = self.ready_engine()
        self.queue.put(request)
        self._begin_turn()
        self._unsorted += len(request.events)
        if self._unsorted >= self._most_read:
            with self._turn():
                self._decide(engine)
            self.is_behind |= time.monotonic_ns() - self._turn_began_ns > LONG_TURN_NS

    def put_outcomes(self, request: Request) -> None:
        """Have outcomes recorded; the rest is as with `put`."""
        self.ready_engine()
        self.queue.put_outcomes(request)
        self._begin_turn()

    def welcome(self) -> None:
        """Note a new connection: its first request may not have been read yet."""
        self._new_connections += 1

    def between_batches(self, errand: Callable[[Engine], T]) -> "Future[T]":
        """Run `errand` in the loop's thread between two batches; the future has its result or error, or NotReady."""

        def run() -> T:
            try:
                return errand(self.ready_engine())
            except StorageProblem as error:  # it could not write
                self._fail(error, [])
                raise

        return self._in_loop(run)

    def apply(self, change: Change) -> Deployment:
        """Change what is in force, from the loop's thread; there need be no engine. See `record.applied.apply`."""
        with self._turn():
            try:
                return apply(self.log, change, self.log.clock(time.time_ns() // 1000))
            except StorageProblem as error:
                self._fail(error, [])
                raise

    def ready_engine(self) -> Engine:
        """The engine. Raises NotReady, with the reason, while there is none."""
        if self.engine is None:
            raise NotReady(f"No model can answer: {self.reason}")
        return self.engine

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
        engine.begin(time.time_ns() // 1000)
        self.engine = engine

    def _notify(self) -> None:
        self._loop.call_soon_threadsafe(self._reply_durable)

    def _begin_turn(self) -> None:
        if self._turn_began_ns == 0:
            self._turn_began_ns = time.monotonic_ns()
            self._work_soon()

    def _work_soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Decide a batch, at the end of the turn of the loop that has read it."""
        self._turn_is_due = False
        engine = self.engine
        if engine is None:  # the end came first, or a fault, and all were answered
            self._turn_began_ns = 0
            return
        now_ns = time.monotonic_ns()
        began_ns = self._turn_began_ns or now_ns
        if self._new_connections and self._looks < MOST_LOOKS and now_ns - began_ns < LONG_TURN_NS:
            self._new_connections, self._looks, self.is_behind = 0, self._looks + 1, True
            self._work_soon()
            return
        self._new_connections = self._looks = 0
        with self._turn():
            self._decide(engine)
            self._learn()
            self._keep_up()
        self._turn_began_ns = 0
        self.is_behind = time.monotonic_ns() - began_ns > LONG_TURN_NS
        if self.is_behind:
            self._loop.call_soon(self._note_idleness, _LOOKS)
        if self.queue:
            self._work_soon()

    def _decide(self, engine: Engine) -> None:
        """Decide a batch, and shed what has no time for one."""
        self._unsorted = 0
        begun_ns = max(self._turn_began_ns, self._decided_ns)
        overdue, batch = self.queue.take(time.monotonic_ns())
        if overdue:
            self._handle(overdue, engine.decide)
        took_ns = 0
        if batch:
            batch_began_ns = time.monotonic_ns()
            self._handle(batch, engine.decide)
            took_ns = time.monotonic_ns() - batch_began_ns
        self._decided_ns = time.monotonic_ns()
        self.queue.learn(self._decided_ns - begun_ns, took_ns, rows_of(batch), shed=bool(overdue))

    def _learn(self) -> None:
        outcomes = self.queue.take_outcomes()
        if outcomes and self.engine is not None:
            self._handle(outcomes, self.engine.learn)

    def _handle(self, requests: Sequence[Request], step: Step) -> None:
        """Take a step with these requests; answers are sent once they are durable."""
        if self.engine is None:  # a batch of this turn failed before
            self._refuse(requests, NotReady(f"No model can answer: {self.reason}"))
            return
        try:
            answered = step(arrivals_of(requests), time.time_ns() // 1000)
        except Exception as error:
            if self.engine.is_ahead:
                self._fail(error, requests)
            else:  # nothing was changed: only these requests have a problem
                _log.exception("a batch of %d was not looked up", rows_of(requests))
                problem = error if isinstance(error, SentinelError) else NotReady(_INSIDE)
                self._refuse(requests, problem)
            return
        if answered.durable_from <= self.log.durable:
            _reply(answered, requests)
        else:
            self._undelivered.append((answered, requests))

    def _reply_durable(self) -> None:
        durable = self.log.durable
        while self._undelivered and self._undelivered[0][0].durable_from <= durable:
            _reply(*self._undelivered.popleft())

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
            self._loop.call_soon_threadsafe(self._refuse, unknown, NotReady(fate))

        self._opener.replace(engine, error, settled)
        self._refuse(waiting, NotReady(f"No model can answer: {self.reason}; nothing was stored"))

    def _refuse(self, requests: Sequence[Request], error: SentinelError) -> None:
        for one in requests:
            one.reply([error] * len(one.events))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Note the processor time of what is done in a turn of the event loop."""
        begun_ns = time.thread_time_ns()
        try:
            yield
        finally:
            self.longest_turn_ns = max(self.longest_turn_ns, time.thread_time_ns() - begun_ns)

    def _note_idleness(self, looks: int) -> None:
        """Nothing was there to be read after the turn: then nothing has lain unread."""
        if self._turn_began_ns or self.queue:
            return
        if looks > 1:
            self._loop.call_soon(self._note_idleness, looks - 1)
        else:
            self.is_behind = False

    def _keep_up(self) -> None:
        """Housekeeping; after a failure it rests for a while."""
        if self.engine is None or time.monotonic() < self._pause_until_s:
            return
        try:
            self.engine.keep_up()
        except Exception:
            _log.exception("housekeeping failed; it is tried again")
            self._pause_until_s = time.monotonic() + _PAUSE_S

    def _end(self) -> Engine | None:
        while self.engine is not None and self.queue:
            self._decide(self.engine)
            self._learn()
        engine, self.engine = self.engine, None
        return engine


def _reply(answered: Answered, requests: Sequence[Request]) -> None:
    begin = 0
    for one in requests:
        end = begin + len(one.events)
        one.reply(answered.answers[begin:end])
        begin = end
