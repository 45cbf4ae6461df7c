"""The log in Kafka with its one writer: what is written is durable once the transaction that holds it is committed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from secrets import token_hex
from threading import Condition, Lock
from typing import Any

import msgspec

from sentinel.errors import LogDamaged, NotTheOwner, StorageProblem
from sentinel.record.kafka.committer import Committer, Fenced, Waiting
from sentinel.record.kafka.message import Found, Inputs
from sentinel.record.kafka.newest import Newest
from sentinel.record.kafka.place import Place
from sentinel.record.kafka.reader import KafkaLogReader
from sentinel.record.kafka.standing import WRITER, StandingTopic, Writer
from sentinel.record.kafka.topics import LARGEST, prepare
from sentinel.record.kafka.unit import Unit
from sentinel.record.kafka.whole import check_whole
from sentinel.record.log import Kind, Record, Taken
from sentinel.record.segment import NO_CHAIN, Stored, chain_of, encode, seed_of

_LAST_S = 5.0
_UNWRITTEN = -1


class KafkaLog(KafkaLogReader):
    """The log in one partition of Kafka, and its writer. Opening it fences the writer before it.

    Positions count entries from 1 on, as in a log of files. `write` hands a record over and returns; a thread commits.
    A record with a standing name is committed when `write` returns. Raises StorageProblem when the topics are not such
    that a log is safe in them.
    """

    url = ""
    """Where the writer answers, for those that stand by."""

    _committing: Committer | None = None

    def __init__(
        self, place: Place, settings: Mapping[str, object], keep_us: int | None = None, log_id: str | None = None,
        copies: int = -1,
    ) -> None:  # fmt: skip
        """A new log is called `log_id`, or at random. The topics keep everything for `keep_us` at least."""
        self.leaving: AbstractContextManager[Any] = Lock()
        self._settings = settings
        self._calls: list[Callable[[], None]] = []
        self._changing = Condition()  # its lock may be taken again by who has it
        self._newest = Newest()
        self._fault: StorageProblem | None = None
        self._standing: dict[str, Record] = {}
        self._unit: Unit | None = None
        self.place = place
        prepare(place, keep_us, settings, copies)
        log_id = self._start(log_id)
        try:
            super().__init__(place, settings, log_id)
            self._seed = seed_of(self.log_id)
            self._opened()
        except BaseException:
            if self._committing is not None:
                self._committing.stop()
            raise

    def _start(self, log_id: str | None) -> str:
        """Become the writer; the id of the log."""
        self._begin(log_id)
        return self._writer.log_id

    def _opened(self) -> None:
        """Go on from what is there."""
        self._absorb()

    @property
    def fault(self) -> StorageProblem | None:
        """Why what was written cannot become durable any more; None as long as it can."""
        return self._fault

    def write(
        self, kind: int, rows: int, received_us: int, body: bytes, standing: str | None = None,
        inputs: Inputs | None = None,
    ) -> int:  # fmt: skip
        """Append a record; the position of its first entry. ValueError when `received_us` runs backwards.

        `inputs` says how far everything that is read was read when this was written, unless that is as far as with the
        record before; see `newest_inputs`.
        """
        if self._fault is not None:
            raise self._fault
        before = self._last()
        if rows < 1 or (before is not None and received_us < before.record.received_us):
            raise ValueError(f"{rows} entries, received at {received_us} after {self.clock(0)}")
        name, known = standing or "", {} if before is None else before.inputs
        given = known if inputs is None else inputs
        position = 1 if before is None else before.next
        chain = NO_CHAIN if before is None else before.chain_behind
        found = self._put(Record(position, kind, rows, received_us, body, chain), name, self._durable, given)
        if standing and self._unit is None:
            self._wait_for(found)
        return position

    @contextmanager
    def together(self) -> Iterator[Unit]:
        """What is written in it is committed in one transaction, with how far the inputs were read.

        Where nothing is written and something was read, a heartbeat says so. After an exception it bears what was read
        before: that is read again then.
        """
        unit = self._unit = Unit()
        try:
            yield unit
            if unit.taken is not None:
                self._note_read(unit, unit.taken)
        finally:
            self._unit = None
            if unit.waiting:
                self._hand_over(unit.waiting)

    def _note_read(self, unit: Unit, taken: Taken) -> None:
        """Have the last record of a unit say how far everything was read by then."""
        if not unit.waiting:
            if not (taken.enclosed or taken.traces) and taken.inputs == self.written_inputs:
                return
            self.write(Kind.HEARTBEAT, 1, self.clock(0), b"")
        found, value, _ = unit.waiting[-1]
        found = found._replace(inputs=taken.inputs, traces=tuple(taken.traces))
        unit.waiting[-1] = Waiting(found, value, taken.enclosed)
        with self._changing:
            self._newest.replace(found)

    @property
    def written_inputs(self) -> Inputs:
        """The positions of all inputs that the newest record names, durable or not."""
        last = self._last()
        return {} if last is None else last.inputs

    @property
    def end(self) -> int:
        """The position behind the newest record, durable or not."""
        last = self._last()
        return 1 if last is None else last.next

    def take(self, stored: Stored) -> None:
        """Append a record of a log of files of this id, as it is there. Raises LogDamaged if it does not fit."""
        before = self._last()
        position = 1 if before is None else before.next
        chain = NO_CHAIN if before is None else before.chain_behind
        if stored.record.position != position or chain_of(stored, chain) != stored.record.chain:
            raise LogDamaged(f"position {position}: the record does not continue the one before it", "", position)
        self._put(stored.record._replace(chain=chain), stored.standing, stored.durable, {})

    def _put(self, record: Record, name: str, durable: int, inputs: Inputs) -> Found:
        """Hand over a record that bears the chain before it."""
        value, chain = encode(record, name, durable, self._seed)
        if len(value) > LARGEST:
            raise StorageProblem(f"a record of {len(value)} bytes is larger than a message may be ({LARGEST})")
        found = Found(_UNWRITTEN, record._replace(chain=chain), name, self.log_id, inputs, durable)
        with self._changing:
            self._newest.put(found)
        if self._unit is not None:
            self._unit.waiting.append(Waiting(found, value))
        else:
            self._hand_over([Waiting(found, value)])
        return found

    def _hand_over(self, waiting: list[Waiting]) -> None:
        committing = self._committing
        if committing is not None:  # None once it has lost the log: then `fault` says so
            committing.put(waiting)

    def clock(self, now_us: int) -> int:
        """The time now for `write`: that of the last record, when the machine's clock ran backwards."""
        last = self._last()
        return now_us if last is None else max(now_us, last.record.received_us)

    def on_durable(self, call: Callable[[], None]) -> None:
        """Have this called, from another thread, whenever something was committed, or cannot be any more."""
        self._calls.append(call)

    def flush(self) -> None:
        """Wait until all that was written is durable. Raises StorageProblem when it cannot be."""
        last = self._last()
        if last is not None and last.offset == _UNWRITTEN:
            self._wait_for(last)

    def recover(self) -> None:
        """After a fault: become the writer anew, which settles what was left open, and read what there is then."""
        if self._fault is None:
            return
        if isinstance(self._fault, NotTheOwner):
            raise self._fault
        if self._committing is not None:
            self._committing.stop()
        newest = self._standing_topic.writer
        if newest != self._writer:
            self._fault = Fenced(f"another process has become the writer of the log, {self.place.spoken}; end this one")
            raise self._fault
        self._begin(self.log_id)
        self._absorb()
        self._fault = None

    def standing(self) -> dict[str, Record]:
        """By name, the newest durable record of those that were written with a `standing` name."""
        with self._changing:
            return dict(self._standing)

    @property
    def at_hand(self) -> int:
        """The newest are, some 32 MB of them."""
        with self._changing:
            oldest = self._newest.oldest
            return self._durable if oldest is None else oldest.record.position

    def read(self, position: int, limit: int) -> list[Record]:
        """The records from the one that holds `position` on; the newest are at hand."""
        with self._changing:
            found = self._newest.page(position, limit)
        return super().read(position, limit) if found is None else found

    def at(self, position: int) -> Record:
        """The record that holds the entry at this position, also one that is not durable yet."""
        with self._changing:
            found = self._newest.at(position)
        return super().at(position) if found is None else found

    def prune(self, before: int) -> None:
        """Remove the records that hold nothing but entries before this position, sooner than their age does."""
        with self._reading:
            offset = self._lookup.ends().low
            while (found := self._look(self._lookup, offset, self._tip_now()[1])) and found.next <= before:
                offset = found.offset + 1
            self._lookup.pause()
            self._lookup.delete_before(offset, self._settings)
            self._low, self._first = -1, None
        with self._changing:
            self._newest.forget_before(before)

    def close(self) -> None:
        """Commit what was written, for some seconds at most, say that nobody writes it now, and disconnect."""
        if self._committing is not None:
            ended = msgspec.structs.replace(self._writer, ended=True)
            self._committing.leave([(WRITER, msgspec.json.encode(ended))], _LAST_S)
        super().close()

    @property
    def _durable(self) -> int:
        newest = self._tip[0]
        return 1 if newest is None else newest.next

    def _tip_now(self) -> tuple[Found | None, int]:
        """As this writer has committed it: nobody else can."""
        return self._tip

    def _look_at_end(self) -> None:
        """See how far the log is by what Kafka says."""
        super()._tip_now()

    def _last(self) -> Found | None:
        """The newest record, durable or not."""
        with self._changing:
            return self._newest.pending or self._tip[0]

    def _begin(self, log_id: str | None) -> None:
        """Become the writer, which fences every other; of a log of this id where there is none yet."""
        token = token_hex(8)

        def first() -> list[tuple[bytes, bytes]]:  # by now nobody else can found the log
            topic = StandingTopic(self.place, self._settings)
            try:
                self._writer = Writer(topic.log_id or log_id or token_hex(8), token, self.url)
            finally:
                topic.close()
            return [(WRITER, msgspec.json.encode(self._writer))]

        self._committing = Committer(self.place, self._settings, self._note, self._give_up, first)

    def _absorb(self) -> None:
        """Take the log as it is now, and forget what was not committed."""
        newest, stable = super()._tip_now()
        standing = super().standing()
        check_whole(self.place, newest, self._lookup.ends().low, standing)
        with self._changing:
            self._newest.clear()
            self._tip, self._standing = (newest, stable), standing
        self._low, self._first = -1, None
        super()._oldest()

    def _note(self, committed: Sequence[Found]) -> None:
        """These are committed: in the committer's thread."""
        if committed[0].offset < self._tip[1]:
            self._give_up(
                StorageProblem(f"{self.place.spoken} was made anew while it was written: this is another log")
            )
            return
        with self._changing:
            for found in committed:
                self._newest.commit(found)
                self._places.add(found.record.position, found.offset)
                if found.standing:
                    self._standing[found.standing] = found.record
            self._tip = committed[-1], committed[-1].offset + 1
            self._first = self._first or committed[0]
        self._tell()

    def _give_up(self, fault: StorageProblem) -> None:
        """Nothing is committed any more: in the committer's thread."""
        with self._changing:
            self._fault = fault
        self._tell()

    def _tell(self) -> None:
        with self._changing:
            self._changing.notify_all()
        for call in self._calls:
            call()

    def _wait_for(self, found: Found) -> None:
        with self._changing:
            while self._durable < found.next:
                if self._fault is not None:
                    raise self._fault
                self._changing.wait(1.0)

    def _oldest(self) -> Found | None:
        """As before when Kafka does not answer: whoever asks may have no time.

        What was committed a moment ago may not be shown to readers yet.
        """
        try:
            found = super()._oldest()
        except StorageProblem:
            if self._first is None and self._durable > 1:
                raise
            return self._first
        if found is None:
            with self._changing:
                found = self._first = self._newest.oldest
        return found
