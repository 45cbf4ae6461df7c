"""A log whose records become durable after `write` has returned, on the disk of the machine: as a broker's would."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from machine import Lock, Machine

from sentinel.errors import StorageProblem
from sentinel.record.home_log import HomeLog
from sentinel.record.log import Record


class Waiting(NamedTuple):
    """A record that is not on the disk yet; `chain` is not known."""

    record: Record
    standing: str | None


class LateLog(HomeLog):
    """`commit` makes durable what waits, a record at a time. What has a standing name is durable when `write` returns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: deque[Waiting] = deque()
        self._calls: list[Callable[[], None]] = []
        self._problem_found: StorageProblem | None = None
        self._writing = Lock()

    @property
    def fault(self) -> StorageProblem | None:
        return self._problem_found

    def write(self, kind: int, rows: int, received_us: int, body: bytes, standing: str | None = None) -> int:
        if self._problem_found is not None:
            raise self._problem_found
        record = Record(self._next, kind, rows, received_us, body)
        self._waiting.append(Waiting(record, standing))
        while standing and self._waiting:
            self._commit_next()
        return record.position

    @property
    def _next(self) -> int:
        return self._waiting[-1].record.position + self._waiting[-1].record.rows if self._waiting else self.durable

    def clock(self, now_us: int) -> int:
        return max(super().clock(now_us), self._waiting[-1].record.received_us if self._waiting else 0)

    def at(self, position: int) -> Record:
        for record, _ in self._waiting:
            if record.position <= position < record.position + record.rows:
                return record
        return super().at(position)

    def on_durable(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def close_segment(self, made_before_us: int, now_us: int) -> None:
        with self._writing:
            super().close_segment(made_before_us, now_us)

    def close(self) -> None:
        with self._writing:
            self._problem_found = StorageProblem("it is closed")
            super().close()

    def recover(self) -> None:
        with self._writing:
            self._waiting.clear()
            super().recover()
            self._problem_found = None

    def commit(self, machine: Machine) -> None:
        """For ever: make durable what waits, and tell."""
        while True:
            machine.block(lambda: bool(self._waiting) and self._problem_found is None)
            with suppress(StorageProblem):
                self._commit_next()
            for call in self._calls:
                call()

    def _commit_next(self) -> None:
        with self._writing:
            if not self._waiting:
                return
            (_, kind, rows, received_us, body, _), standing = self._waiting[0]
            try:
                position = super().write(kind, rows, received_us, body, standing)
            except StorageProblem as problem:
                self._problem_found = problem
                raise
            assert position == self._waiting[0].record.position
            self._waiting.popleft()
