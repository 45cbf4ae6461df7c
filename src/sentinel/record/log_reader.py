"""Reads the log on the local disk, in any thread of any process."""

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import TypeVar

from sentinel.errors import LogDamaged, StorageProblem
from sentinel.record.disk import Disk, File, Readable, RealDisk
from sentinel.record.log import LogSizes, Record
from sentinel.record.log_end import PublishedEnd
from sentinel.record.retention import ClosedSegment
from sentinel.record.segment import (
    HEAD,
    Head,
    Segment,
    Stored,
    bases_in,
    chain_behind,
    chained,
    damaged,
    head_at,
    record_at,
    segment_in,
    segment_name,
    walk,
)

_SPACING = 16 * 1024  # bytes from one known place of a segment to the next
_REMEMBERED = 64  # segments whose places are known
_FAR = 2**64
_T = TypeVar("_T")


class FileLogReader:
    """A reader of the log in a folder. Segments are opened anew for each call, for they may be replaced meanwhile.

    Raises StorageProblem when there is no log.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._folder = folder
        self._disk = disk or RealDisk()
        self._places = _Places()
        with naming_faults(folder, "read"):
            self._end = PublishedEnd(self._disk.open(folder / "end"))
            oldest = self._unless_pruned(lambda: self._head(self._bases[0]))
        self._log_id, self._seed = oldest.head.log_id, oldest.seed

    @property
    def log_id(self) -> str:
        """Names this log among all others."""
        return self._log_id

    @property
    def first(self) -> int:
        """The position of the oldest entry that is kept."""
        with naming_faults(self._folder, "read"):
            self._list()
        return self._bases[0]

    @property
    def pruned_us(self) -> int:
        """When the newest entry that is no longer kept was received; 0 when all are kept."""
        with naming_faults(self._folder, "read"):
            return self._unless_pruned(lambda: self._head(self._bases[0])).first.record.received_us

    @property
    def durable(self) -> int:
        """Every entry before this position is durable."""
        return self._end.durable

    @property
    def at_hand(self) -> int:
        """All are on this machine."""
        return 0

    def read(self, position: int, limit: int) -> list[Record]:
        """The records from the one that holds `position` on; `limit` entries or some more."""
        records, rows = [], 0
        with naming_faults(self._folder, "read"):
            for found in self._stored(position, self.durable):
                records.append(found.record)
                rows += found.record.rows
                if rows >= limit:
                    break
        return records

    def at(self, position: int) -> Record:
        """The record that holds the entry at this position."""
        for record in self.read(position, 1):
            return record
        raise StorageProblem(f"position {position} is not in the log yet; it ends before {self.durable}")

    def chained_from(self, position: int) -> Iterator[Record]:
        """The records from the beginning of the segment with this position on, each of which continues the chain."""
        with naming_faults(self._folder, "read"):
            end = self.durable
            base, before = self._segment_of(position)[0], None
            while base < end:
                before = yield from self._chained(base, end, before)
                base = self._segment_of(base)[1]

    def stored(self, position: int) -> Iterator[Stored]:
        """The records from the one that holds `position` on, with all that is kept of each."""
        with naming_faults(self._folder, "read"):
            yield from self._stored(position, self.durable)

    def first_after(self, received_us: int) -> int:
        """The position of the first entry that was received later than this; the end when there is none."""
        with naming_faults(self._folder, "read"):
            return self._unless_pruned(lambda: self._first_after(received_us))

    @property
    def sizes(self) -> LogSizes:
        """What the log takes."""
        with naming_faults(self._folder, "read"):
            return self._unless_pruned(self._sizes)

    def closed(self, most: int) -> list[ClosedSegment]:
        """The oldest closed segments, so many of them at most."""
        with naming_faults(self._folder, "read"):
            return self._unless_pruned(lambda: [self._closed(*pair) for pair in pairwise(self._bases[: most + 1])])

    def standing(self) -> dict[str, Record]:
        """By name, the newest record of those that were written with a `standing` name."""
        durable = self.durable
        base = self._end.newest
        with naming_faults(self._folder, "read"), closing(self._open(base)) as file:
            found, end = dict(segment_in(file, base).head.standing), base
            for offset, head in _heads(file, base, 0):
                end = head.position + head.rows
                if head.position < durable and head.name and (stored := record_at(file, offset, self._seed)):
                    found[stored.standing] = stored.record
            if end < durable:
                raise self._damage(file, base)
        return found

    def close(self) -> None:
        """Release what is open."""
        self._end.close()

    def _first_after(self, received_us: int) -> int:
        durable, bases = self.durable, self._bases
        began = bisect_right(bases, received_us, key=lambda base: self._head(base).first.record.received_us)
        base = bases[max(began - 1, 0)]
        with closing(self._open(base)) as file:
            end = base
            for _, head in _heads(file, base, 0):
                if head.received_us > received_us:
                    return min(head.position, durable)
                end = head.position + head.rows
            later = bases[began] if began < len(bases) else durable
            if end < min(later, durable):
                raise self._damage(file, base)
            return min(later, durable)

    def _sizes(self) -> LogSizes:
        bases = self._bases
        return LogSizes(sum(map(self._size, bases)), len(bases), self._head(bases[0]).head.created_us)

    def _closed(self, base: int, until: int) -> ClosedSegment:
        return ClosedSegment(base, until, self._head(until).first.record.received_us, self._size(base))

    def _unless_pruned(self, look: Callable[[], _T]) -> _T:
        """What is seen in the segments that are there; again if the oldest was removed meanwhile."""
        while True:
            self._list()
            first = self._bases[0]
            try:
                return look()
            except FileNotFoundError:
                self._list()
                if self._bases[0] == first:
                    raise

    def _chained(self, base: int, end: int, before: bytes | None) -> Generator[Record, None, bytes]:
        """The records of a segment up to the position `end`; the chain that the next segment goes on from."""
        until = min(self._segment_of(base)[1], end)
        with closing(self._open(base)) as file:
            segment = segment_in(file, base)
            if before not in (None, segment.head.previous):
                raise damaged(base, base, "its chain does not continue that of the segment before")
            position, chain = base, segment.head.previous
            for found in chained(file, segment):
                if found.next > until:
                    break
                if found.record.kind != HEAD:
                    yield found.record
                position, chain = found.next, chain_behind(found.record)
            if position < until:
                raise self._damage(file, base)
        return chain

    def _stored(self, position: int, end: int) -> Iterator[Stored]:
        """The records from the one that holds this position up to the position `end`."""
        while position < end:
            base, until = self._segment_of(position)
            until = min(until, end)
            try:
                file = self._open(base)
            except FileNotFoundError:
                self._list()
                continue
            with closing(file):
                position, offset = self._place(file, base, position)
                for found in walk(file, offset, position, self._seed):
                    if found.record.kind != HEAD:
                        yield found
                    position = found.next
                    if position >= until:
                        break
                if position < until:
                    raise self._damage(file, base)

    def _segment_of(self, position: int) -> tuple[int, int]:
        """The bases of the segment that holds a position, and of the next one."""
        if self._end.newest > self._bases[-1]:
            self._list()
        bases = self._bases  # another thread may list them anew
        at = bisect_right(bases, position)
        if not at:
            raise StorageProblem(f"position {position} of the log is no longer kept; it begins at {bases[0]}")
        return bases[at - 1], bases[at] if at < len(bases) else _FAR

    def _place(self, file: Readable, base: int, position: int) -> tuple[int, int]:
        """The position and the offset of the record that holds this position."""
        key = base, file.read(0, 4)  # compressed or not: their places differ
        for offset, head in _heads(file, *self._places.near(key, position)):
            self._places.add(key, head.position, offset)
            if head.position + head.rows > position:
                return head.position, offset
        raise self._damage(file, base)

    def _damage(self, file: Readable, base: int) -> LogDamaged:
        sound = base
        for found in walk(file, 0, base, self._seed):
            sound = found.next
        return damaged(base, sound, "the record is not as it was written")

    def _head(self, base: int) -> Segment:
        with closing(self._open(base)) as file:
            return segment_in(file, base)

    def _size(self, base: int) -> int:
        with closing(self._open(base)) as file:
            return file.size()

    def _open(self, base: int) -> File:
        return self._disk.open(self._folder / segment_name(base))

    def _list(self) -> None:
        self._bases = bases_in(self._disk.names(self._folder))
        if not self._bases:
            raise StorageProblem(f"there is no log in {self._folder}; start Sentinel there once")


class _Places:
    """Where records begin: by segment, positions and their offsets, about every 16 KiB of it. For any thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes], list[tuple[int, int]]] = {}
        self._adding = Lock()

    def near(self, segment: tuple[int, bytes], position: int) -> tuple[int, int]:
        """The nearest known place that is not behind this position."""
        places = self._known.get(segment, [(segment[0], 0)])
        return places[bisect_right(places, (position, _FAR)) - 1]

    def add(self, segment: tuple[int, bytes], position: int, offset: int) -> None:
        """A record begins here."""
        with self._adding:
            places = self._known.setdefault(segment, [(segment[0], 0)])
            if offset - places[-1][1] >= _SPACING:
                places.append((position, offset))
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]


@contextmanager
def naming_faults(folder: Path, what: str) -> Iterator[None]:
    """Faults of the disk as StorageProblem; `what` was tried with the log in this folder."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not folder.exists():
            raise StorageProblem(f"there is no log in {folder}; is that the right --home?") from None
        reason = error.strerror or error
        raise StorageProblem(f"the log in {folder} cannot be {what}: {reason}; free or repair the disk") from error


def _heads(file: Readable, position: int, offset: int) -> Iterator[tuple[int, Head]]:
    """Offsets and heads, unchecked, from this place on, as long as their positions continue."""
    while (head := head_at(file, offset)) and head.position == position:
        yield offset, head
        position, offset = position + head.rows, offset + head.size
