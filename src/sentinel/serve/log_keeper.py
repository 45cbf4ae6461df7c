"""The log keeper: a thread that prunes the log on a schedule and when asked, and knows what holds it back."""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from sentinel.errors import NotReady, SentinelError
from sentinel.events.times import SECOND_US, clock_us, iso
from sentinel.record.file_log import FileLog
from sentinel.record.pruning import Needs, Outlook, Pruned, Pruner, Retention
from sentinel.record.views.place import ViewPlace
from sentinel.serve.engine import Engine
from sentinel.serve.worker import Worker
from sentinel.shadow.needs import shadow_needs

_EVERY_S, _FIRST_S = 3_600.0, 60.0
_PAUSE_S = 1.0  # after a step that has left something to do
_PATIENCE_S = 30.0
_LOWEST = 19
_log = logging.getLogger(__name__)


_Asked = tuple[Callable[[], Pruned], "Future[Pruned]"]


class _Stopping(Exception):
    """The thread is to end."""


class LogKeeper:
    """Prunes the log of a server, so many segments a step; whatever is asked of it is done by its thread."""

    def __init__(
        self, home: Path, log: FileLog, retention: Retention, view: ViewPlace, needs: Needs = shadow_needs
    ) -> None:
        self.retention = retention
        self.last: Pruned | None = None
        """What the last step has done; None before the first."""

        self.pruned_at: str | None = None
        """When a step has removed something last, since the start."""

        self.problem: str | None = None
        """Why the last step failed, if it did."""

        self._log = log
        self._outlook = Outlook(home, log, view, needs)
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log keeper", daemon=True)

    def start(self, worker: Worker) -> None:
        """Begin; `worker` has the thread of the log's writer."""
        self._pruner = Pruner(self._log, self._outlook, _Turns(worker, self._log), self._rest)
        self._thread.start()

    def stop(self) -> None:
        """End after what is being done to one segment."""
        self._stopping.set()
        self._asked.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def prune(self, retention: Retention) -> "Future[Pruned]":
        """Take one step now; the future has what Pruner.step returns or raises."""
        return self._ask(lambda: self._step(retention))

    def look(self, retention: Retention) -> "Future[Pruned]":
        """See what would be removed; the future has what Outlook.look returns or raises."""
        return self._ask(lambda: self._outlook.look(retention, clock_us()))

    def warning(self, oldest_us: int) -> str | None:
        """What an operator should know if the log, made at `oldest_us`, is twice as old as it should be."""
        keep_us, reasons = self.retention.keep_us, self.problem or "; ".join(self.last.held_by if self.last else ())
        if keep_us is None or clock_us() - oldest_us <= 2 * keep_us or not reasons:
            return None
        return f"the log begins at {iso(oldest_us)}, twice as long ago as it is to be kept: {reasons}"

    def _ask(self, call: Callable[[], Pruned]) -> "Future[Pruned]":
        done: Future[Pruned] = Future()
        if self._stopping.is_set():
            _refuse((call, done))
        else:
            self._asked.put((call, done))
        return done

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
        due_s = time.monotonic() + min(_FIRST_S, self._every_s())
        with suppress(_Stopping):
            while not self._stopping.is_set():
                try:
                    asked = self._asked.get(timeout=max(due_s - time.monotonic(), 0.0))
                except Empty:
                    due_s = time.monotonic() + self._scheduled()
                else:
                    _answer(asked)
        with suppress(Empty):
            while True:
                _refuse(self._asked.get_nowait())

    def _every_s(self) -> float:
        """Often enough that what leaves is not much older than it has to be."""
        keep_us = self.retention.keep_us
        return _EVERY_S if keep_us is None else max(min(_EVERY_S, keep_us / SECOND_US / 24), 1.0)

    def _scheduled(self) -> float:
        """Take a step; how many seconds to wait before the next one."""
        try:
            return _PAUSE_S if self._step(self.retention).more else self._every_s()
        except _Stopping:
            raise
        except Exception as error:
            if self.problem != str(error):
                _log.warning("the log was not pruned: %s", error, exc_info=not isinstance(error, SentinelError))
            self.problem = str(error)
            return self._every_s()

    def _step(self, retention: Retention) -> Pruned:
        done = self._pruner.step(retention, clock_us())
        if done.removed:
            self.pruned_at = done.at
        if retention == self.retention:  # what is asked for once says nothing of what is held back otherwise
            self.last, self.problem = done, None
        return done

    def _rest(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise _Stopping


class _Turns:
    """What is done in the thread of the log's writer, between two batches."""

    def __init__(self, worker: Worker, log: FileLog) -> None:
        self._worker, self._log = worker, log

    def close_segment(self, made_before_us: int) -> None:
        """See FileLog.close_segment; nothing while there is no engine, as the log may not be written then."""
        self._between_batches(lambda _engine: self._log.close_segment(made_before_us, clock_us()))

    def forget_ids(self, before: int) -> None:
        """Have ids before this position no longer found. An engine that is opened later begins without them."""
        self._between_batches(lambda engine: engine.journal.forget_before(before))

    def _between_batches(self, errand: Callable[[Engine], None]) -> None:
        with suppress(NotReady):
            self._worker.between_batches(errand).result(_PATIENCE_S)


def _answer(asked: "_Asked | None") -> None:
    if asked is None:
        return
    call, done = asked
    if not done.set_running_or_notify_cancel():
        return  # who asked has gone
    try:
        done.set_result(call())
    except _Stopping:
        done.set_exception(_ended())
        raise
    except Exception as error:
        done.set_exception(error)


def _refuse(asked: "_Asked | None") -> None:
    if asked is not None and asked[1].set_running_or_notify_cancel():
        asked[1].set_exception(_ended())


def _ended() -> NotReady:
    return NotReady("The server is shutting down; segments are whole or gone: ask again later")
