"""The worker: what is read in a turn of the event loop is decided at its end, and answered once it is durable."""

import logging
import operator
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import Overloaded
from sentinel.events.columns import hash_texts
from sentinel.record.entries import context_keys, outcome_keys
from sentinel.record.log import Log
from sentinel.serve.engine import Engine
from sentinel.serve.far_entries import FarEntries
from sentinel.serve.ownership import Ownership
from sentinel.serve.queue import LONG_TURN_NS, Request, rows_of
from sentinel.serve.running_engine import RunningEngine, refuse

MOST_READ = 1_024
"""Transactions read in a turn of the loop after which some are decided before more is read."""

MOST_LOOKS = 8
"""Turns of the loop that a batch waits for while connections are being taken."""

_LOOKS = 2  # of the loop for input: the first finds what came in, and new connections, the second what came with these
_OWN_REQUESTS = "Your own requests wait: there was no time for this one behind the others; send less at once"
_PATIENCE_S, _LOOK_S = 5.0, 0.01  # at the end, with what is not durable yet
_log = logging.getLogger(__name__)


class Worker(RunningEngine):
    """Uses the engine in the event loop's thread: in one of its own it would wait for the interpreter's lock each time.

    What is read in a turn of the loop is decided at its end.
    """

    def __init__(
        self, log: Log, open_engine: Callable[[], Engine], most_waiting: int, usual_ns: int = 0,
        ownership: Ownership | None = None,
    ) -> None:  # fmt: skip
        super().__init__(log, open_engine, most_waiting, usual_ns, ownership)
        self.is_behind = False
        """What is read now may have lain unread for a while."""

        self.far = FarEntries(most_waiting)
        self._turn_is_due = False
        self._turn_began_ns = self._decided_ns = 0
        self._most_read = min(MOST_READ, most_waiting // 2)
        self._unsorted = 0  # transactions read in this turn
        self._new_connections = self._looks = 0

    def stop(self) -> None:
        """Answer what has arrived. Call it from another thread than the loop's."""
        self._opener.stop()
        self.far.stop()
        engine = self._in_loop(self._end).result()
        self._wait_until_answered()
        if engine is not None:
            try:
                engine.close()
            except Exception:
                _log.exception("the engine could not be released; the log has every answer that was given")

    def put(self, request: Request) -> None:
        """Have transactions decided; `request.reply` is called in the event loop with the answers, in their order.

        Raises NotReady, Overloaded.
        """
        engine = self.ready_engine()
        if not self.far.hold(engine.journal, lambda: _ids_of(engine, request), request, self._put):
            self._put(request)

    def _put(self, request: Request) -> None:
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
        journal = self.ready_engine().journal
        if not self.far.hold(journal, lambda: _told_of(request), request, self._put_outcomes):
            self._put_outcomes(request)

    def _put_outcomes(self, request: Request) -> None:
        self.ready_engine()
        self.queue.put_outcomes(request)
        self._begin_turn()

    def put_events(self, request: Request) -> None:
        """Have context events recorded, before the transactions of the same turn; the rest is as with `put`."""
        journal = self.ready_engine().journal
        if not self.far.hold(journal, lambda: _events_of(request), request, self._put_events):
            self._put_events(request)

    def _put_events(self, request: Request) -> None:
        self.ready_engine()
        self.queue.put_events(request)
        self._begin_turn()

    def welcome(self) -> None:
        """Note a new connection: its first request may not have been read yet."""
        self._new_connections += 1

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
        self._turn_began_ns = 0
        self.is_behind = time.monotonic_ns() - began_ns > LONG_TURN_NS
        if self.is_behind:
            self._loop.call_soon(self._note_idleness, _LOOKS)
        if self.queue:
            self._work_soon()

    def _decide(self, engine: Engine) -> None:
        """Decide a batch, and shed what has no time for one; the context comes before."""
        self._unsorted = 0
        events = self.queue.take_events()
        if events:
            self._handle(events, engine.hear)
        begun_ns = max(self._turn_began_ns, self._decided_ns)
        overdue, batch, refused = self.queue.take(time.monotonic_ns())
        if refused:
            refuse(refused, Overloaded(_OWN_REQUESTS))
        if overdue:
            self._handle(overdue, engine.decide)
        took_ns = 0
        if batch:
            batch_began_ns = time.monotonic_ns()
            self._handle(batch, engine.decide)
            took_ns = time.monotonic_ns() - batch_began_ns
        self._decided_ns = time.monotonic_ns()
        self.queue.learn(self._decided_ns - begun_ns, took_ns, rows_of(batch), shed=bool(overdue or refused))

    def _learn(self) -> None:
        outcomes = self.queue.take_outcomes()
        if outcomes and self.engine is not None:
            self._handle(outcomes, self.engine.learn)

    def _note_idleness(self, looks: int) -> None:
        """Nothing was there to be read after the turn: then nothing has lain unread."""
        if self._turn_began_ns or self.queue:
            return
        if looks > 1:
            self._loop.call_soon(self._note_idleness, looks - 1)
        else:
            self.is_behind = False

    def _wait_until_answered(self) -> None:
        """Let a log that makes entries durable after they are written do so for the last ones, for a bounded time."""
        for _ in range(round(_PATIENCE_S / _LOOK_S)):
            if self._in_loop(self._has_answered).result():
                return
            time.sleep(_LOOK_S)
        self._in_loop(self._give_up_undelivered).result()

    def _end(self) -> Engine | None:
        while self.engine is not None and self.queue:
            self._decide(self.engine)
            self._learn()
        engine, self.engine = self.engine, None
        return engine


def _ids_of(engine: Engine, request: Request) -> NDArray[np.uint64]:
    """The keys by which decisions of these transactions are found."""
    return hash_texts(list(map(operator.attrgetter(engine.schema.id), request.events)))


def _told_of(request: Request) -> NDArray[np.uint64]:
    """The keys of the decisions, and of the outcomes, of the transactions that these outcomes tell of."""
    events: Any = request.events
    hashes = hash_texts([one.transaction_id for one in events])
    return np.concatenate([hashes, outcome_keys(hashes)])


def _events_of(request: Request) -> NDArray[np.uint64]:
    """The keys of these context events."""
    reports: Any = request.events
    return context_keys(hash_texts([one.event.event_id for one in reports]))
