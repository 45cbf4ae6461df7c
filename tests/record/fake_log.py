"""A log in memory whose durable end moves when the test says so, which can be fenced and can fail."""

import threading
from hashlib import sha256

from sentinel.errors import StorageProblem
from sentinel.record.log import LogSizes, Record


class FakeLog:
    """What is written is durable at once, unless it is made with `delayed`: then `advance` says when.

    `fence` makes the next write raise, as when another process has become the writer, and `fail` every write and
    `recover`, until `heal`.
    """

    def __init__(self, log_id: str = "fake", *, delayed: bool = False) -> None:
        self.log_id = log_id
        self.delayed = delayed
        self.durable = self.first = 1
        self.at_hand = 0
        self.pruned_us = 0
        self.records: list[Record] = []
        self._standing: dict[str, list[Record]] = {}
        self._calls = []
        self._broken = self._fenced = self._failing = False
        self._changing = threading.Lock()
        self.leaving = threading.Lock()

    @property
    def end(self) -> int:
        """The position of the next entry, durable or not."""
        return self.records[-1].position + self.records[-1].rows if self.records else 1

    @property
    def fault(self) -> StorageProblem | None:
        return StorageProblem("the log cannot be written: the test says so") if self._broken else None

    def break_off(self) -> None:
        """What is written cannot become durable any more: told as a log tells of it that commits in a thread."""
        self._broken = True
        for call in self._calls:
            call()

    def write(self, kind: int, rows: int, received_us: int, body: bytes, standing: str | None = None) -> int:
        if self._failing or self._fenced or self._broken:
            self._broken, self._fenced = True, False
            raise StorageProblem("the log cannot be written: the test says so")
        last = self.records[-1] if self.records else None
        if last and received_us < last.received_us:
            raise ValueError(f"received at {received_us} after {last.received_us}")
        chain = sha256((last.chain if last else b"") + repr((kind, rows, received_us)).encode() + body).digest()[:16]
        record = Record(self.end, kind, rows, received_us, body, chain)
        with self._changing:
            self.records.append(record)
            if standing:
                self._standing.setdefault(standing, []).append(record)
            if not self.delayed:
                self.durable = self.end
        return record.position

    def clock(self, now_us: int) -> int:
        return max(now_us, self.records[-1].received_us if self.records else 0)

    @property
    def sizes(self) -> LogSizes:
        received = [record.received_us for record in self.records]
        return LogSizes(sum(len(record.body) for record in self.records), 1, min(received, default=0))

    def advance(self, records: int = 1) -> None:
        """Make so many more records durable, and tell."""
        undurable = [record for record in self.records if record.position >= self.durable][:records]
        if undurable:
            self.durable = undurable[-1].position + undurable[-1].rows
            for call in self._calls:
                call()

    def fence(self) -> None:
        self._fenced = True

    def fail(self) -> None:
        self._failing = True

    def heal(self) -> None:
        self._failing = False

    def prune(self, before: int) -> None:
        """Forget the records that hold nothing but entries before this position."""
        gone = [record.received_us for record in self.records if record.position + record.rows <= before]
        self.pruned_us = max([self.pruned_us, *gone])
        self.records = [record for record in self.records if record.position + record.rows > before]
        self.first = self.records[0].position if self.records else self.durable

    def on_durable(self, call) -> None:
        self._calls.append(call)

    def recover(self) -> None:
        if self._failing:
            raise StorageProblem("the log cannot be written: the test says so")
        with self._changing:
            self.records = [record for record in self.records if record.position < self.durable]
            for name, records in list(self._standing.items()):
                self._standing[name] = [record for record in records if record.position < self.durable]
        self._broken = False

    def read(self, position: int, limit: int) -> list[Record]:
        if position < self.first:
            raise StorageProblem(f"position {position} of the log is no longer kept; it begins at {self.first}")
        found, rows = [], 0
        for record in self.records:
            if position < record.position + record.rows <= self.durable and rows < limit:
                found.append(record)
                rows += record.rows
        return found

    def chained_from(self, position: int):
        yield from self.read(max(position, self.first), 1 << 62)

    def at(self, position: int) -> Record:
        for record in self.records:
            if record.position <= position < record.position + record.rows:
                return record
        raise StorageProblem(f"position {position} is not in the log")

    def first_after(self, received_us: int) -> int:
        later = (record.position for record in self.records if record.received_us > received_us)
        return min(next(later, self.durable), self.durable)

    def standing(self) -> dict[str, Record]:
        durable = {
            name: [record for record in records if record.position < self.durable]
            for name, records in self._standing.items()
        }
        return {name: records[-1] for name, records in durable.items() if records}

    def close(self) -> None:
        pass
