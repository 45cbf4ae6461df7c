"""The engine at work: what has arrived in a turn of the event loop becomes a batch, and no one waits for company."""

import asyncio
import itertools
import logging
import operator
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import msgspec

from sentinel.errors import NotReady, Overloaded, SentinelError
from sentinel.serve.decisions import Answers, Arrivals, Event
from sentinel.serve.engine import Engine

MAX_ROWS, LEAST_ROWS = 256, 32
"""In one batch. More would have the first wait for the last; when turns are long all the same, it is fewer."""

MOST_UNSORTED, MOST_LATE = 2_048, 4_096
"""Transactions read in a turn of the loop after which some are decided before more is read.

While all of it is late already it is the second number: together they are shed at less cost.
"""

MOST_LOOKS = 8
"""Turns of the loop that a batch waits for while connections are being taken."""

_RETRY_S = 2.0
_PAUSE_S = 0.1
_LULL_S = 0.02
_SHORT_TURN_NS = 12_000_000  # what a deadline allows for
_LOOKS = 2  # of the loop for input: the first finds what came in, and new connections, the second what came with these
_due = operator.attrgetter("due_ns")
_GIVEN_UP_NS = 0
_FIRST_PACE_NS = 15_000.0
_LEARNING = 0.2  # how much of the pace is that of the last batch
_CHECKPOINT_S = 0.1
_ROOM_S, _ROOM_PAUSE_S = 0.1, 0.01
_log = logging.getLogger(__name__)


T = TypeVar("T")


class _Request(msgspec.Struct, gc=False):
    """What came in together, and is decided and answered together."""

    events: Sequence[Event]
    received_ns: int
    due_ns: int
    tell: Callable[[Answers], None]


class Worker:
    """Opens the engine beside the event loop, keeps trying while that fails, and then uses it in the loop's thread.

    With a thread of its own the engine would wait for the interpreter's lock at every batch, and so would the loop.
    """

    def __init__(self, open_engine: Callable[[], Engine], max_waiting: int) -> None:
        self._open_engine = open_engine
        self._max_waiting = max_waiting
        self._waiting = 0
        self._backlog: list[_Request] = []
        self._turn_is_due = False
        self._turn_began_ns = 0
        self._decided_ns = 0
        self._unsorted = 0
        self._last_due_ns = 0  # of what is unsorted
        self._most_unsorted, self._most_late = (min(most, max_waiting // 2) for most in (MOST_UNSORTED, MOST_LATE))
        self._most_rows = MAX_ROWS
        self._pace_ns = _FIRST_PACE_NS
        self.is_behind = False
        """What is read now may have lain unread for a while."""
        self._newcomers = self._looks = 0
        self._pause_until_s = 0.0
        self._lull: asyncio.TimerHandle | None = None
        self._stopping = threading.Event()
        self._opening = threading.Thread(target=self._open, name="opening", daemon=True)
        self._checkpoints = threading.Thread(target=self._write_back, name="checkpoints", daemon=True)
        self._room = threading.Thread(target=self._make_room, name="room", daemon=True)
        self.engine: Engine | None = None
        self.reason = "still loading"
        self.was_ready = False

    def start(self) -> None:
        """Begin to open the engine; returns at once. Call it from a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._opening.start()
        self._checkpoints.start()
        self._room.start()

    def stop(self) -> None:
        """Answer what has arrived, take a snapshot, close the journal. Call it from another thread than the loop's."""
        self._stopping.set()
        self._opening.join()
        self._checkpoints.join()
        self._room.join()
        ended: Future[Engine | None] = Future()
        self._loop.call_soon_threadsafe(self._end, ended)
        engine = ended.result()
        try:
            if engine is not None:
                engine.close()
        except Exception:
            _log.exception("closing failed; the journal has every answer that was given")

    @property
    def waiting(self) -> int:
        """Transactions and outcomes that have no answer yet."""
        return self._waiting

    @property
    def postponed(self) -> int:
        """Transactions that have an answer, and wait to be taken into journal and features."""
        engine = self.engine
        return len(engine.overflow) if engine is not None else 0

    def put(
        self, events: Sequence[Event], received_ns: int, due_ns: int,
        tell: Callable[[Answers], None],
    ) -> None:  # fmt: skip
        """Have the events of a request handled; `tell` is called in the event loop with the answers, in their order.

        They came in at `received_ns` and can wait for a model until `due_ns`. Raises NotReady, Overloaded.
        """
        if self.engine is None:
            raise NotReady(f"No model can answer: {self.reason}")
        if self._waiting + len(events) > self._max_waiting:
            raise Overloaded(f"{self._waiting} transactions are waiting already; retry in a second")
        self._waiting += len(events)
        if self._turn_began_ns == 0:
            self._turn_began_ns = time.monotonic_ns()
            self._work_soon()
        self._backlog.append(_Request(events, received_ns, due_ns, tell))
        self._unsorted += len(events)
        self._last_due_ns = max(self._last_due_ns, due_ns)
        if self._unsorted >= self._most_unsorted and (
            self._unsorted >= self._most_late or self._last_due_ns > time.monotonic_ns()
        ):
            self._decide(self.engine)
            self.is_behind |= time.monotonic_ns() - self._turn_began_ns > _SHORT_TURN_NS

    def welcome(self) -> None:
        """A connection was taken. The loop takes few in a turn: there may be more, and what they ask lies unread."""
        self._newcomers += 1

    def between_batches(self, errand: Callable[[Engine], T]) -> "Future[T]":
        """Have something done to the engine in the loop's thread; what it gives or raises, NotReady without one."""
        done: Future[T] = Future()
        self._loop.call_soon_threadsafe(self._run_errand, errand, done)
        return done

    def _work_soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Decide a batch, at the end of the turn of the loop that has read it."""
        self._turn_is_due = False
        engine = self.engine
        if engine is None:  # the end came first, and has answered all
            return
        now_ns = time.monotonic_ns()
        began_ns = self._turn_began_ns or now_ns
        if self._newcomers and self._looks < MOST_LOOKS and now_ns - began_ns < _SHORT_TURN_NS:
            self._newcomers, self._looks, self.is_behind = 0, self._looks + 1, True
            self._work_soon()
            return
        self._newcomers = self._looks = 0
        if self._backlog:
            self._decide(engine)
        self._keep_up(engine, catch_up=engine.has_time and not self._backlog)
        self._turn_began_ns = 0
        self.is_behind = time.monotonic_ns() - began_ns > _SHORT_TURN_NS
        if self.is_behind:
            self._loop.call_soon(self._note_idleness, _LOOKS)
        if self._backlog:
            self._work_soon()
        elif engine.overflow and self._lull is None:
            self._lull = self._loop.call_later(_LULL_S, self._use_lull)

    def _decide(self, engine: Engine) -> None:
        """Decide a batch, and shed what has no time for one."""
        self._unsorted = self._last_due_ns = 0
        begun_ns = max(self._turn_began_ns, self._decided_ns)
        late, batch = self._late(), self._next_batch()
        rows = sum(len(one.events) for one in batch)
        late += self._give_up(rows)
        if late:
            self._handle(engine, late)
        took_ns = self._handle(engine, batch) if batch else 0
        self._decided_ns = time.monotonic_ns()
        self._learn(self._decided_ns - begun_ns, took_ns, rows, is_too_much=bool(late))

    def _note_idleness(self, looks: int) -> None:
        """Nothing was there to be read after the turn: then nothing has lain unread."""
        if self._turn_began_ns or self._backlog:
            return
        if looks > 1:
            self._loop.call_soon(self._note_idleness, looks - 1)
        else:
            self.is_behind = False

    def _use_lull(self) -> None:
        """Nothing has arrived for a moment: take in what was decided without features."""
        self._lull, engine = None, self.engine
        if engine is None:
            return
        went_well = not self._backlog and self._keep_up(engine, catch_up=True)
        if engine.overflow:
            self._lull = self._loop.call_later(0 if went_well else _LULL_S, self._use_lull)

    def _keep_up(self, engine: Engine, *, catch_up: bool) -> bool:
        """Housekeeping; whether it went well. After a failure it rests for a while."""
        if time.monotonic() < self._pause_until_s:
            return False
        try:
            if catch_up:
                engine.catch_up()
            engine.keep_up()
        except Exception:
            _log.exception("housekeeping failed; it is tried again")
            self._pause_until_s = time.monotonic() + _PAUSE_S
            return False
        return True

    def _run_errand(self, errand: Callable[[Engine], T], done: "Future[T]") -> None:
        if self.engine is None:
            done.set_exception(NotReady(f"No model can answer: {self.reason}"))
            return
        try:
            done.set_result(errand(self.engine))
        except Exception as error:  # it belongs to whoever waits
            done.set_exception(error)

    def _end(self, ended: "Future[Engine | None]") -> None:
        engine, self.reason = self.engine, "shutting down"
        while engine is not None and self._backlog:
            self._handle(engine, self._next_batch())
        self.engine = None
        ended.set_result(engine)

    def _open(self) -> None:
        while not self._stopping.is_set():
            try:
                engine = self._open_engine()
                engine.overflow.make_room()
                self.engine = engine
            except SentinelError as error:
                if self.reason != str(error):
                    _log.warning("not ready: %s", error)
                self.reason = str(error)
            except Exception as error:
                _log.exception("not ready")
                self.reason = f"{type(error).__name__}; the log has the details"
            else:
                self.was_ready = True
                return
            self._stopping.wait(_RETRY_S)

    def _late(self) -> list[_Request]:
        """All that can wait no longer; to shed them costs little."""
        now_ns = time.monotonic_ns()
        late = [one for one in self._backlog if one.due_ns < now_ns]
        if late:
            self._backlog = [one for one in self._backlog if one.due_ns >= now_ns]
        return late

    def _next_batch(self) -> list[_Request]:
        """What to decide now: the earliest due. The events of a request stay together: all are stored, or none."""
        backlog, self._backlog = self._backlog, []
        if self._waiting <= self._most_rows:
            return backlog
        backlog.sort(key=_due)
        rows = end = 0
        while end < len(backlog) and rows < self._most_rows:
            rows += len(backlog[end].events)
            end += 1
        self._backlog = backlog[end:]
        return backlog[:end]

    def _give_up(self, ahead: int) -> list[_Request]:
        """Those in the backlog, behind so many events, whose turn would come too late, as fast as decisions are made.

        To have them wait for that would make them late, and leave no time to others: they are shed at once.
        """
        now_ns = time.monotonic_ns()
        kept: list[_Request] = []
        given_up: list[_Request] = []
        for one in self._backlog:
            if now_ns + (ahead + len(one.events)) * self._pace_ns <= one.due_ns:
                ahead += len(one.events)
                kept.append(one)
            else:
                one.due_ns = _GIVEN_UP_NS
                given_up.append(one)
        self._backlog = kept
        return given_up

    def _learn(self, whole_ns: int, took_ns: int, rows: int, *, is_too_much: bool) -> None:
        """How large batches may be, and how long a decision takes in them, from the last: reading, shedding, deciding.

        What else was done counts as much again as deciding at most, or the more were shed, the slower it would seem;
        and a batch that stalled says little about the next.
        """
        if whole_ns > _SHORT_TURN_NS and is_too_much:
            self._most_rows = max(self._most_rows // 2, LEAST_ROWS)
        else:
            self._most_rows = min(self._most_rows * 2, MAX_ROWS)
        if rows >= MAX_ROWS // 2:
            pace_ns = min(whole_ns, 2 * took_ns) / rows
            self._pace_ns += _LEARNING * (min(pace_ns, 2 * self._pace_ns) - self._pace_ns)

    def _handle(self, engine: Engine, requests: Sequence[_Request]) -> int:
        """Decide and answer; how many ns that took."""
        begun_ns = time.monotonic_ns()
        batch = Arrivals(
            list(itertools.chain.from_iterable(one.events for one in requests)),
            [one.received_ns for one in requests for _ in one.events],
            [one.due_ns for one in requests for _ in one.events],
        )
        answers: Answers
        try:
            answers = engine.handle(batch, time.time_ns() // 1000)
        except SentinelError as error:
            _log.error("a batch of %d was not decided: %s", len(batch.events), error)
            answers = [error] * len(batch.events)
        except Exception:
            _log.exception("a batch of %d was not decided", len(batch.events))
            problem = NotReady("Something went wrong inside and nothing was stored; retry in a moment")
            answers = [problem] * len(batch.events)
        self._waiting -= len(batch.events)
        begin = 0
        for one in requests:
            end = begin + len(one.events)
            one.tell(answers[begin:end])
            begin = end
        return time.monotonic_ns() - begun_ns

    def _write_back(self) -> None:
        while not self._stopping.wait(_CHECKPOINT_S):
            engine = self.engine
            if engine is not None:
                try:
                    engine.journal.checkpoint()
                except Exception as error:
                    _log.warning("the journal's log could not be written back: %s", error)

    def _make_room(self) -> None:
        while not self._stopping.wait(_ROOM_S):
            engine = self.engine
            if engine is not None:
                try:
                    engine.overflow.make_room(lambda: self._stopping.wait(_ROOM_PAUSE_S))
                except Exception:
                    _log.exception("no room could be made for what may be postponed; it is tried again")
