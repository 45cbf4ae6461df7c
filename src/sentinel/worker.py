"""The one thread that owns the engine: whatever has arrived becomes a batch, and no one waits for company."""

import asyncio
import logging
import operator
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeAlias

from sentinel.decisions import Answer, Arrival
from sentinel.engine import Engine
from sentinel.errors import NotReady, Overloaded, SentinelError

MAX_ROWS = 256
"""In one batch. More would have the first wait for the last."""

_RETRY_S = 2.0
_PAUSE_S = 0.1
_LULL_S = 0.02
_SHORT_TURN_NS = 8_000_000  # what a deadline allows for
_SOON = 128  # requests after which the engine is told in the middle of a turn
_due = operator.attrgetter("due_ns")
_CHECKPOINT_S = 0.05
_log = logging.getLogger(__name__)


Result: TypeAlias = list[Answer] | SentinelError
"""Answers in the order of the arrivals, or what befell the whole batch."""


Errand: TypeAlias = Callable[[Engine], None]
"""What the engine's thread does between two batches."""


class _Job:
    """Arrivals of one request, and who is told their answers."""

    __slots__ = ("arrivals", "due_ns", "tell")

    def __init__(self, arrivals: Sequence[Arrival], tell: Callable[[Result], None]) -> None:
        self.arrivals = arrivals
        self.due_ns = arrivals[0].due_ns
        self.tell = tell


class Worker:
    """Opens the engine in its own thread, keeps trying while that fails, and answers what is submitted.

    `put` is for the event loop that called `start`; the engine itself is never touched from outside.
    """

    def __init__(self, open_engine: Callable[[], Engine], max_waiting: int) -> None:
        self._open_engine = open_engine
        self._max_waiting = max_waiting
        self._waiting = 0
        self._arrived: list[_Job] = []
        self._turn_began_ns = 0
        self._turn_ns = 0
        self._queue: SimpleQueue[list[_Job] | Errand | None] = SimpleQueue()
        self._backlog: list[_Job] = []
        self._ending = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine")
        self._checkpoints = threading.Thread(target=self._write_back, name="checkpoints", daemon=True)
        self.engine: Engine | None = None
        self.reason = "still loading"
        self.was_ready = False

    def start(self) -> None:
        """Begin to open the engine; returns at once. Call it from a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._checkpoints.start()

    def stop(self) -> None:
        """Answer what has arrived, take a snapshot, close the journal."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join()
        self._checkpoints.join()

    @property
    def waiting(self) -> int:
        """Arrivals that have no answer yet."""
        return self._waiting

    def put(self, arrivals: Sequence[Arrival], tell: Callable[[Result], None]) -> None:
        """Have the arrivals handled; `tell` is called in the event loop. Raises NotReady, Overloaded.

        What arrives in one turn of the loop is handed over together.
        """
        if self.engine is None:
            raise NotReady(f"No model can answer: {self.reason}")
        if self._waiting + len(arrivals) > self._max_waiting:
            raise Overloaded(f"{self._waiting} transactions are waiting already; retry in a second")
        self._waiting += len(arrivals)
        if self._turn_began_ns == 0:
            self._turn_began_ns = arrivals[0].received_ns
            self._loop.call_soon(self._end_turn)
        if self._turn_ns > _SHORT_TURN_NS:
            for arrival in arrivals:
                arrival.due_ns -= 2 * (self._turn_ns - _SHORT_TURN_NS)
        self._arrived.append(_Job(arrivals, tell))
        if len(self._arrived) >= _SOON:
            self._hand_over()

    def _end_turn(self) -> None:
        """Note how long this turn of the loop took to read: so long a request may lie unread, and an answer unsent."""
        took_ns, self._turn_began_ns = time.monotonic_ns() - self._turn_began_ns, 0
        self._turn_ns = max(took_ns, self._turn_ns * 7 // 8)
        self._hand_over()

    def _hand_over(self) -> None:
        jobs, self._arrived = self._arrived, []
        if jobs:
            self._queue.put(jobs)

    def between_batches(self, errand: Errand) -> None:
        """Have the engine's thread do something when its batch is done; from any thread, once the engine is open."""
        self._queue.put(errand)

    def _run(self) -> None:
        engine = self._open()
        while engine is not None:
            errands = self._drain(_LULL_S if engine.overflow.rows else None)
            jobs = self._next_batch()
            if jobs:
                self._handle(engine, jobs)
            try:
                if engine.has_time or not jobs:
                    engine.catch_up()
                for errand in errands:
                    errand(engine)
                engine.keep_up()
            except Exception:
                _log.exception("housekeeping failed; it is tried again")
                time.sleep(_PAUSE_S)
            if self._ending and not self._backlog:
                self.engine, self.reason = None, "shutting down"
                self._close(engine)
                return

    def _open(self) -> Engine | None:
        while not self._stopping.is_set():
            try:
                self.engine = self._open_engine()
            except SentinelError as error:
                if self.reason != str(error):
                    _log.warning("not ready: %s", error)
                self.reason = str(error)
            except Exception as error:
                _log.exception("not ready")
                self.reason = f"{type(error).__name__}; the log has the details"
            else:
                self.was_ready = True
                return self.engine
            self._stopping.wait(_RETRY_S)
        return None

    def _drain(self, patience_s: float | None) -> list[Errand]:
        """Move all that has arrived to the backlog; when none is there wait for it so long. Errands are returned."""
        errands: list[Errand] = []
        wait = not self._backlog and not self._ending
        while True:
            try:
                found = self._queue.get(wait, patience_s)
            except Empty:
                return errands
            wait = False
            if found is None:
                self._ending = True
            elif isinstance(found, list):
                self._backlog += found
            else:
                errands.append(found)

    def _next_batch(self) -> list[_Job]:
        """What to decide now: first all that can wait no longer, which costs little; else the earliest due."""
        backlog = self._backlog
        if len(backlog) > 1:
            now_ns = time.monotonic_ns()
            late = [job for job in backlog if job.due_ns < now_ns]
            if late:
                self._backlog = [job for job in backlog if job.due_ns >= now_ns]
                return late
            if len(backlog) > MAX_ROWS:
                backlog.sort(key=_due)
        rows = 0
        for n, job in enumerate(backlog):
            if rows >= MAX_ROWS:
                self._backlog = backlog[n:]
                return backlog[:n]
            rows += len(job.arrivals)
        self._backlog = []
        return backlog

    def _handle(self, engine: Engine, jobs: list[_Job]) -> None:
        batch = [arrival for job in jobs for arrival in job.arrivals]
        result: Result
        try:
            result = engine.handle(batch, time.time_ns() // 1000)
        except SentinelError as error:
            _log.error("a batch of %d was not decided: %s", len(batch), error)
            result = error
        except Exception:
            _log.exception("a batch of %d was not decided", len(batch))
            result = NotReady("Something went wrong inside and nothing was stored; retry in a moment")
        self._loop.call_soon_threadsafe(self._deliver, jobs, result)

    def _deliver(self, jobs: list[_Job], result: Result) -> None:
        begin = 0
        for job in jobs:
            end = begin + len(job.arrivals)
            self._waiting -= end - begin
            job.tell(result if isinstance(result, SentinelError) else result[begin:end])
            begin = end

    def _close(self, engine: Engine) -> None:
        try:
            engine.close()
        except Exception:
            _log.exception("closing failed; the journal has every answer that was given")

    def _write_back(self) -> None:
        while not self._stopping.wait(_CHECKPOINT_S):
            engine = self.engine
            if engine is not None:
                try:
                    engine.journal.checkpoint()
                except Exception as error:
                    _log.warning("the journal's log could not be written back: %s", error)
