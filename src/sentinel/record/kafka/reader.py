"""Reads the log in Kafka, in any thread of any process on any machine."""

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Mapping
from threading import RLock

from sentinel.errors import LogDamaged, StorageProblem
from sentinel.record.kafka.message import Found, Inputs, found_in
from sentinel.record.kafka.partition import Ends, Partition
from sentinel.record.kafka.place import Place
from sentinel.record.kafka.places import Places
from sentinel.record.kafka.standing import StandingTopic
from sentinel.record.log import LogSizes, Record

_PAGE = 64  # messages that are asked for at once
_TRACES = 1_000  # that are kept for who asks for them
_LOOK_EVERY_S, _SOON_S = 1.0, 0.5  # at what has left the log, and how long that may take


class KafkaLogReader:
    """A reader of the log in Kafka. Raises StorageProblem when there is none, or Kafka does not answer."""

    def __init__(self, place: Place, settings: Mapping[str, object], log_id: str | None = None) -> None:
        """`log_id` is given by who knows it: the writer, of a log that nobody has written to yet."""
        self.place = place
        self._reading = RLock()
        self._onward = Partition(place, place.decisions, settings)
        self._lookup = Partition(place, place.decisions, settings)
        self._standing_topic = StandingTopic(place, settings)
        self._places = Places()
        self._ahead: deque[Found] = deque()
        self._goes_on_at = self._fetched = -1
        self.traces: deque[tuple[int, str]] = deque(maxlen=_TRACES)
        self._tip: tuple[Found | None, int] = (None, -1)
        self._first: Found | None = None
        self._low, self._looked_s = -1, 0.0
        log_id = log_id or self._standing_topic.log_id
        if log_id is None:
            self.close()
            raise StorageProblem(f"there is no log in {place.spoken}; start Sentinel with SENTINEL_LOG=kafka once")
        self._log_id = log_id

    @property
    def log_id(self) -> str:
        """Names this log among all others."""
        return self._log_id

    @property
    def first(self) -> int:
        """The position of the oldest entry that is kept, as it was a second ago, or when Kafka last answered."""
        end = self._end[0]  # before the look: what is written in the meantime lies behind it
        oldest = self._oldest()
        return end if oldest is None else oldest.record.position

    @property
    def pruned_us(self) -> int:
        """When the newest entry that is no longer kept was received, or somewhat later; 0 when all are kept."""
        oldest = self._oldest()
        return 0 if oldest is None or oldest.record.position == 1 else oldest.record.received_us

    @property
    def durable(self) -> int:
        """Every entry before this position is committed."""
        return self._end[0]

    @property
    def at_hand(self) -> int:
        """None is: the end."""
        return self._end[0]

    @property
    def newest_inputs(self) -> Inputs:
        """The positions of all inputs that the newest record names; empty when it names none."""
        newest = self._tip_now()[0]
        return {} if newest is None else newest.inputs

    def read(self, position: int, limit: int) -> list[Record]:
        """The records from the one that holds `position` on; `limit` entries or some more."""
        end, until = self._end
        records, rows = [], 0
        with self._reading:
            if position < self.first:
                raise StorageProblem(f"position {position} of the log is no longer kept; it begins at {self.first}")
            while rows < limit and position < end:
                found = self._one(position, until)
                records.append(found.record)
                rows += found.record.rows
                position = found.next
        return records

    def chained_from(self, position: int) -> Iterator[Record]:
        """The records from the one that holds `position`, or the next one, on, each of which continues the chain."""
        end, until = self._end
        position, chain = max(position, self.first), None
        while position < end:
            with self._reading:
                found = self._one(position, until)
            if chain is not None and not found.continues(chain):
                raise LogDamaged(
                    f"offset {found.offset} of {self.place.spoken}, position {found.record.position}: its chain does "
                    "not continue that of the record before; something else has written to this topic",
                    self.place.decisions, found.record.position,
                )  # fmt: skip
            yield found.record
            position, chain = found.next, found.chain_behind

    def at(self, position: int) -> Record:
        """The record that holds the entry at this position."""
        end, until = self._end
        if position >= end:
            raise StorageProblem(f"position {position} is not in the log yet; it ends before {end}")
        with self._reading:
            try:
                offset = self._offset_of(position, self._lookup)
                while found := self._fetch(self._lookup, offset, until, _PAGE):
                    if held := next((one.record for one in found if one.next > position), None):
                        return held
                    offset = found[-1].offset + 1
            finally:
                self._lookup.pause()
        raise LogDamaged(f"position {position} is missing in {self.place.spoken}", "", position)

    def first_after(self, received_us: int) -> int:
        """The position of the first entry that was received later than this; the end when there is none."""
        end, until = self._end
        low, high = self._lookup.ends().low, until
        position = end
        with self._reading:
            while low < high:  # everything before `low` was received by then, and nothing from `high` on
                middle = (low + high) // 2
                found = self._look(self._lookup, middle, until)
                if found is None or found.record.received_us > received_us:
                    position = end if found is None else found.record.position
                    high = middle
                else:
                    low = found.offset + 1
            self._lookup.pause()
        return position

    @property
    def sizes(self) -> LogSizes:
        """Nothing on the disk of this machine; when the oldest entry that is kept was received."""
        oldest = self._oldest()
        return LogSizes(0, 0, 0 if oldest is None else oldest.record.received_us)

    def standing(self) -> dict[str, Record]:
        """By name, the newest record of those that were written with a `standing` name."""
        return self._standing_topic.records()

    def close(self) -> None:
        """Release the connections."""
        self._onward.close()
        self._lookup.close()
        self._standing_topic.close()

    @property
    def _end(self) -> tuple[int, int]:
        """The position behind the newest committed entry, and an offset behind it."""
        newest, stable = self._tip_now()
        return (1 if newest is None else newest.next), stable

    def _tip_now(self) -> tuple[Found | None, int]:
        """The newest committed record, and an offset behind it before which all is committed or aborted."""
        with self._reading:
            newest, stable = self._tip
            ends = self._lookup.ends()
            if ends.stable < stable:
                raise StorageProblem(f"{self.place.spoken} has lost its end, or was made anew: this is another log")
            if ends.stable != stable:
                self._tip = self._last_before(ends, newest) or newest, ends.stable
            return self._tip

    def _last_before(self, ends: Ends, known: Found | None) -> Found | None:
        """The newest record behind a known one; behind it are marks of transactions, and what was aborted."""
        back, oldest = 2, max(ends.low, 0 if known is None else known.offset + 1)
        try:
            while True:
                begin, newest = max(ends.stable - back, oldest), None
                while found := self._fetch(self._lookup, begin, ends.stable, _PAGE):
                    newest = found[-1]
                    begin = newest.offset + 1
                    if ends.stable - begin <= 1:  # a transaction ends with its mark
                        return newest
                if newest is not None or ends.stable - back <= oldest:
                    return newest
                back *= 16
        finally:
            self._lookup.pause()

    def _oldest(self) -> Found | None:
        with self._reading:
            now_s = time.monotonic()
            if self._first is not None and now_s - self._looked_s < _LOOK_EVERY_S:
                return self._first
            if ends := self._ends_soon() if self._first else self._lookup.ends():
                if ends.low != self._low or self._first is None:
                    stable = max(ends.stable, self._tip[1])  # a commit is answered before all brokers show it
                    self._first = self._look(self._lookup, ends.low, stable)
                    self._lookup.pause()
                    self._low = ends.low
                self._looked_s = now_s
            return self._first

    def _ends_soon(self) -> Ends | None:
        """None of a broker that is busy: what was kept a moment ago is asked for in vain at worst."""
        with contextlib.suppress(StorageProblem):
            return self._lookup.ends(_SOON_S)
        return None

    def _one(self, position: int, until: int) -> Found:
        """The record that holds a position, from what was fetched ahead if that goes on from there."""
        if position != self._goes_on_at and not (self._ahead and self._ahead[0].record.position <= position):
            self._fetched = self._offset_of(position, self._onward)
            self._ahead.clear()
        while True:
            while self._ahead and self._ahead[0].next <= position:
                self._ahead.popleft()
            if self._ahead:
                found = self._ahead.popleft()
                self._goes_on_at = found.next
                self.traces.extend((found.record.position, one) for one in found.traces)
                return found
            more = self._fetch(self._onward, self._fetched, until, _PAGE)
            if not more:
                raise LogDamaged(f"position {position} is missing in {self.place.spoken}", "", position)
            self._ahead.extend(more)
            self._fetched = more[-1].offset + 1

    def _offset_of(self, position: int, partition: Partition) -> int:
        """An offset little before the record that holds this position."""
        oldest = self._oldest()
        if oldest is None or position < oldest.record.position:
            begin = self._end[0] if oldest is None else oldest.record.position
            raise StorageProblem(f"position {position} of the log is no longer kept; it begins at {begin}")
        end, until = self._end
        low = oldest.record.position, oldest.offset
        return self._places.offset_before(
            position, low, (end, until), lambda offset: self._look(partition, offset, until)
        )

    def _look(self, partition: Partition, offset: int, until: int) -> Found | None:
        return next(iter(self._fetch(partition, offset, until, 1)), None)

    def _fetch(self, partition: Partition, offset: int, until: int, most: int) -> list[Found]:
        found = [found_in(one) for one in partition.fetch(offset, most, until)]
        for one in found:
            if one.log_id != self._log_id:
                raise StorageProblem(
                    f"offset {one.offset} of {self.place.spoken} is of the log {one.log_id}, and this is the log "
                    f"{self._log_id}: the topic was made anew, or two logs write to it; give each its own "
                    "SENTINEL_KAFKA_PREFIX"
                )
            self._places.add(one.record.position, one.offset)
        return found
