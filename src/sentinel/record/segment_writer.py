"""The segment writer: appends records to the newest segment of the log, and begins the next one."""

import logging
from errno import EBADF
from pathlib import Path

import msgspec

from sentinel.record.disk import Disk, File
from sentinel.record.log import Record
from sentinel.record.log_end import PublishedEnd, find_end
from sentinel.record.segment import FORMAT, HEAD, NO_CHAIN, SegmentHead, chain_behind, encode, seed_of, segment_name
from sentinel.record.upkeep import NEW, Upkeep

logger = logging.getLogger(__name__)

_encode_head = msgspec.msgpack.Encoder().encode


class SegmentWriter:
    """Writes the newest segment of a log; a new log has none at first, and is called `log_id`.

    Every entry before `position` is durable. After an OSError of a method, only `start_segment` may be called.
    """

    def __init__(self, folder: Path, disk: Disk, upkeep: Upkeep, published: PublishedEnd, log_id: str) -> None:
        self._folder, self._disk, self._upkeep, self._published = folder, disk, upkeep, published
        self._file: File | None = None
        self.base = self._before = 0
        self._chain = NO_CHAIN
        self.offset = 0
        self.created_us = 0
        self.room = 0
        """Bytes that the segment has already: to make it longer takes a write many times as long."""

        self.position = 1
        self.received_us = 0
        self.standing: dict[str, Record] = {}
        self._name(log_id)

    def _name(self, log_id: str) -> None:
        self.log_id, self._seed = log_id, seed_of(log_id)

    def resume(self, base: int) -> int:
        """Go on in this segment, the newest; how many bytes after its last record are no record. Raises LogDamaged."""
        self._file = self._disk.open_to_write(self._folder / segment_name(base))
        end = find_end(self._file, base, self._published.durable)
        last = end.last
        # the last record may be in the memory of the operating system only, if its fdatasync failed: write it again
        self._file.write(last.begin, self._file.read(last.begin, last.end - last.begin))
        self._file.sync()
        self._disk.sync_folder(self._folder)
        self.base, self._before, self._chain = base, end.segment.head.before, chain_behind(last.record)
        self._name(end.segment.head.log_id)
        self.offset, self.position, self.received_us = last.end, last.next, last.record.received_us
        self.created_us, self.room = end.segment.head.created_us, self._file.size()
        self.standing = end.standing
        self._published.publish_segment(base)
        self._published.publish(self.position)
        return end.torn

    def append(self, record: Record, standing: str) -> None:
        """Write a record, without its chain, at `position`, and make it durable."""
        if self._file is None:
            raise OSError(EBADF, "it is closed")
        data, chain = encode(record._replace(chain=self._chain), standing, self.position, self._seed)
        self._file.write(self.offset, data)
        self._file.sync()
        self._publish(record.position + record.rows)
        if standing:
            self.standing = {**self.standing, standing: record._replace(chain=chain)}
        self.offset, self._chain, self.received_us = self.offset + len(data), chain, record.received_us
        self.position += record.rows

    def start_segment(self, created_us: int) -> None:
        """Begin a segment at `position`, and make it durable: what an older one holds from there on is void.

        When it fails it can be called again.
        """
        base, before = self.position, self.base if self.base < self.position else self._before
        head = SegmentHead(FORMAT, self.log_id, before, self._chain, created_us, self.standing)
        first = Record(base, HEAD, 0, self.received_us, _encode_head(head), self._chain)
        data, _ = encode(first, "", base, self._seed)
        file = self._upkeep.take()
        try:
            file.write(0, data)
            file.sync()
            self._disk.rename(self._folder / NEW, self._folder / segment_name(base))
            self._disk.sync_folder(self._folder)
            self._published.publish_segment(base)
        except OSError:
            file.close()
            raise
        self.close()
        self._file, self.base, self._before, self.offset = file, base, before, len(data)
        self.created_us, self.room = created_us, file.size()

    def _publish(self, durable: int) -> None:
        try:
            self._published.publish(durable)
        except OSError:  # what is durable stays so; readers elsewhere learn of it with the next record
            logger.warning("the end of the log in %s cannot be published", self._folder, exc_info=True)

    def close(self) -> None:
        """Release the segment."""
        if self._file:
            self._file.close()
            self._file = None
