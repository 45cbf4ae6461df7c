"""The log: the one durable path. Everything that changes what Sentinel knows is an entry of it, in one order."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

from sentinel.errors import StorageProblem


class Kind(IntEnum):
    """What a record holds; `entries.py` has the body of each."""

    HEARTBEAT = 0
    DECIDED = 1
    OUTCOMES = 2
    ACTIVATION = 3
    APPLIED = 4
    REVOKED = 5
    AUDIT = 6
    ERASED = 7
    ROTATED = 8
    CONTEXT = 9
    TABLE = 10
    UNMATCHED = 11
    REASONS = 12
    HELD_OUT = 13
    LOSS = 15
    RULES_DRAFT = 16
    RESULTS = 17


class Record(NamedTuple):
    """Entries of one kind that were written together and are durable together, or not at all.

    The entries have the positions `position`, `position` + 1, ... up to `position` + `rows` - 1; the next record
    begins at the last of them or later: positions are ordered, and not dense. `received_us` is the one clock of all of
    its entries, in microseconds since 1970; it never runs backwards from record to record. `chain` is the hash of this
    record and of all before it.
    """

    position: int
    kind: int
    rows: int
    received_us: int
    body: bytes
    chain: bytes = b""


class LogSizes(NamedTuple):
    """What a log takes: bytes on the disk, segments, and when the oldest of them was made, microseconds since 1970."""

    bytes: int
    segments: int
    oldest_us: int


class Enclosed(NamedTuple):
    """A message of another topic that is committed together with records, or not at all."""

    topic: str
    value: bytes | None
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Taken(NamedTuple):
    """What some input is done with: how far each was read by now, and messages to commit with what came of it.

    `inputs` has, by `topic-partition`, the offset after the newest message. `traces` are the `traceparent` of those
    whose traces are recorded.
    """

    inputs: Mapping[str, int]
    enclosed: Sequence[Enclosed] = ()
    traces: Sequence[str] = ()


class LogReader(Protocol):
    """Reads a log from any thread, and from another process than its writer's. Only durable entries are seen."""

    @property
    def log_id(self) -> str:
        """Names this log among all others, for as long as it lives."""

    @property
    def first(self) -> int:
        """The position of the oldest entry that is kept."""

    @property
    def pruned_us(self) -> int:
        """When the newest entry that is no longer kept was received, microseconds since 1970; 0 when all are kept."""

    @property
    def durable(self) -> int:
        """The end: every entry before this position is durable, and none from it on is known to be."""

    def read(self, position: int, limit: int) -> list[Record]:
        """The records from the one that holds `position`, or the next one, on; in order, `limit` entries or some more.

        Empty at the end. Raises LogDamaged, with the segment and the position, for a record that is not as it was
        written, and StorageProblem for positions that are no longer kept.
        """

    @property
    def at_hand(self) -> int:
        """Entries from this position on are read without waiting for another machine; 0 where all are."""

    def chained_from(self, position: int) -> Iterator[Record]:
        """The records from one that does not begin behind `position` on, each of which continues the chain.

        So each is as it was written, even where someone has put a right checksum to other bytes. Raises LogDamaged.
        """

    def at(self, position: int) -> Record:
        """The record that holds the entry at this position; LogDamaged, or StorageProblem when there is none."""

    def first_after(self, received_us: int) -> int:
        """The position of the first entry that was received later than that, or the end when there is none."""

    @property
    def sizes(self) -> LogSizes:
        """What the log takes."""

    def standing(self) -> dict[str, Record]:
        """By name, the newest record of those that were written with a `standing` name."""

    def close(self) -> None:
        """Release what is open."""


class Log(LogReader, Protocol):
    """A log with its one writer; `write` is called from one thread.

    A reader that is its writer's own sees what is written and not durable yet with `at`, and with `at` only.
    """

    @property
    def leaving(self) -> AbstractContextManager[Any]:
        """Held while entries leave the log, and while something is applied that may need them."""

    @property
    def fault(self) -> StorageProblem | None:
        """Why what was written cannot become durable any more before `recover`; None as long as it can."""

    def write(self, kind: int, rows: int, received_us: int, body: bytes, standing: str | None = None) -> int:
        """Append a record; the position of its first entry. It may become durable later: see `durable`.

        A record with a `standing` name stays findable by that name (`standing()`) until another one takes the name,
        however much is written since. Raises StorageProblem when the record cannot be written. Then nothing more can be
        written until `recover` has returned.
        """

    def clock(self, now_us: int) -> int:
        """The moment to give the next record: now, or that of the newest record if the machine's clock went back."""

    def on_durable(self, call: Callable[[], None]) -> None:
        """Have this called, from any thread, whenever `durable` has advanced after `write` had returned, or cannot."""

    def recover(self) -> None:
        """After a fault: declare void whatever is not durable, and make that durable itself; may be called again.

        When it returns, what was written and not durable is gone for good. Raises StorageProblem while that is not
        possible: whether it is stored is not known then.
        """


class Unit(Protocol):
    """Records that are durable together, or not at all."""

    def take(self, taken: Taken) -> None:
        """Say what was read of the inputs; it becomes durable with these records."""


class ReadingLog(Protocol):
    """A log that notes how far inputs were read, together with what came of it."""

    def together(self) -> AbstractContextManager[Unit]:
        """What is written in it, from the thread of `write`, is durable together; standing names wait for nothing."""

    @property
    def end(self) -> int:
        """The position behind the newest entry that was written, durable or not."""


@runtime_checkable
class Traced(Protocol):
    """A reader of a log whose records say of which traces they are."""

    @property
    def traces(self) -> deque[tuple[int, str]]:
        """Of the records that were read last: the position of each, and a `traceparent`. Who takes one removes it."""


class Past:
    """A log as it ended before position `durable`, which is the beginning of a record."""

    def __init__(self, log: LogReader, durable: int) -> None:
        self._log = log
        self.durable = durable

    def __getattr__(self, name: str) -> Any:
        """All else is that of the whole log."""
        return getattr(self._log, name)

    def read(self, position: int, limit: int) -> list[Record]:
        """The next records, without those after its end."""
        return [one for one in self._log.read(position, limit) if one.position < self.durable]


class Follower:
    """Reads a log onwards from a position, for code that derives something from the log."""

    def __init__(self, log: LogReader, position: int) -> None:
        self.log = log
        self.position = max(position, log.first)
        """Everything before it was handed out."""

    @property
    def lag(self) -> int:
        """How many positions are durable and not handed out yet."""
        return max(self.log.durable - self.position, 0)

    def next(self, limit: int = 4_096) -> Sequence[Record]:
        """The next records, about `limit` entries of them; empty when there are none yet."""
        records = self.log.read(self.position, limit)
        if records:
            self.position = records[-1].position + records[-1].rows
        return records

    def rest(self, limit: int = 4_096) -> Iterator[Sequence[Record]]:
        """All that is durable by now, in pages."""
        end = self.log.durable
        while self.position < end and (page := self.next(limit)):
            yield page
