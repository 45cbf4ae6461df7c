"""Where the log ends: what its writer has published, and what its newest segment shows."""

from contextlib import closing
from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from sentinel.errors import LogDamaged
from sentinel.record.disk import Disk, File, Readable
from sentinel.record.log import Kind, Record
from sentinel.record.loss import AcceptedLoss, loss_in
from sentinel.record.segment import (
    Image,
    Segment,
    Stored,
    chained,
    damaged,
    record_after,
    segment_in,
    segment_name,
    walk,
)

_NUMBER = Struct("<Q")


class PublishedEnd:
    """The file `end`: the durable end and the newest segment's base, published for readers in other processes.

    It outlives the writer's process. After a power cut it may be older than the log, and never ahead of it.
    """

    def __init__(self, file: File) -> None:
        self._file = file

    @property
    def durable(self) -> int:
        """Every entry before this position is durable; 0 when nothing was published."""
        return self._number(0)

    @property
    def newest(self) -> int:
        """The base of the newest segment. Read `durable` before: a segment is published before its entries are."""
        return self._number(8)

    @property
    def oldest(self) -> int:
        """The base of the oldest segment that was not removed on purpose; 0 when that is not known."""
        return self._number(16)

    def publish_oldest(self, base: int) -> None:
        """Make durable that what is before this segment is removed on purpose; call it before the removal."""
        self._file.write(16, _NUMBER.pack(base))
        self._file.sync()

    def publish(self, durable: int) -> None:
        """Publish that entries before this position are durable."""
        self._file.write(0, _NUMBER.pack(durable))

    def publish_segment(self, base: int) -> None:
        """Publish that there is a new segment."""
        self._file.write(8, _NUMBER.pack(base))

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _number(self, offset: int) -> int:
        raw = self._file.read(offset, 8)
        return int(_NUMBER.unpack(raw)[0]) if len(raw) == 8 else 0


class LogEnd(NamedTuple):
    """How a segment ends: with the record `last`, behind which `torn` bytes are not zeros and no record either.

    `losses` are those that it tells of.
    """

    segment: Segment
    last: Stored
    standing: dict[str, Record]
    torn: int
    losses: list[AcceptedLoss]


def find_end(file: Readable, base: int, durable: int) -> LogEnd:
    """Read the newest segment to its end; entries before `durable` are known to have been durable.

    Raises LogDamaged when a record is not as it was written and had been durable: so says `durable`, or a later record.
    """
    image = Image(file.read(0, file.size()))
    segment = segment_in(image, base)
    last, standing, losses = segment.first, dict(segment.head.standing), []
    for last in chained(image, segment):
        if last.standing:
            standing[last.standing] = last.record
        if last.record.kind == Kind.LOSS:
            losses.append(loss_in(last.record))
    later = record_after(image, last.end, segment.seed)
    if later and next(walk(file, last.end, last.next, segment.seed), None):
        return find_end(file, base, durable)  # its writer has gone on meanwhile
    if durable > last.next or (later and later.durable > last.next):
        raise damaged(base, last.next, "the record is not as it was written, and it had been durable")
    return LogEnd(segment, last, standing, max(len(image.data.rstrip(b"\0")) - last.end, 0), losses)


def check_sequence(folder: Path, disk: Disk, bases: list[int]) -> None:
    """Raises LogDamaged when there was a segment between two of these, or one of them is of another log."""
    segments = []
    for base in bases:
        with closing(disk.open(folder / segment_name(base))) as file:
            segments.append(segment_in(file, base))
    for earlier, later in pairwise(segments):
        if later.head.log_id != earlier.head.log_id:
            raise damaged(later.base, later.base, f"it is of another log than {segment_name(earlier.base)}")
        if (before := later.head.before) != earlier.base:
            raise missing(before, later.base)


def missing(base: int, until: int) -> LogDamaged:
    """The error for a segment that was never removed on purpose, and is not there."""
    return damaged(base, base, f"the segment is missing, up to position {until}")
