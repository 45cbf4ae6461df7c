"""The log on the local disk, and its one writer: a record is one write and one fdatasync."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import Any, Self

from sentinel.errors import StorageProblem
from sentinel.record.checked import CheckedSegments
from sentinel.record.disk import Disk, RealDisk
from sentinel.record.lock import WriterLock
from sentinel.record.log import Kind, Record
from sentinel.record.log_end import PublishedEnd, check_sequence, missing
from sentinel.record.log_reader import FileLogReader, naming_faults
from sentinel.record.segment import PLAIN, bases_in, damaged, segment_name, size_of
from sentinel.record.segment_writer import SegmentWriter
from sentinel.record.upkeep import Upkeep

SEGMENT_BYTES = 64 << 20

logger = logging.getLogger(__name__)


class FileLog(FileLogReader):
    """The log in a folder, with its one writer. A record is durable when `write` returns.

    `warnings` names what was found at the end and left out: it had never been known to be durable. Raises LogDamaged
    for what had been, and StorageProblem when the log cannot be opened. Only one may be open: see `open`.
    """

    def __init__(
        self, folder: Path, now_us: int, disk: Disk | None = None, segment_bytes: int = SEGMENT_BYTES,
        log_id: str | None = None,
    ) -> None:  # fmt: skip
        """A new log is called `log_id`, or at random."""
        disk = disk or RealDisk()
        self.warnings: list[str] = []
        self.lock: WriterLock | None = None
        self.leaving: AbstractContextManager[Any] = Lock()
        self._segment_bytes = segment_bytes
        self._fault: OSError | None = None
        with naming_faults(folder, "opened"), ExitStack() as opened:
            disk.make_folder(folder)
            open_end = disk.open_to_write if "end" in disk.names(folder) else disk.create
            self._published = opened.enter_context(closing(PublishedEnd(open_end(folder / "end"))))
            checked = CheckedSegments(folder, disk)
            self.upkeep = Upkeep(folder, disk, segment_bytes, checked)
            opened.callback(self.upkeep.stop)
            self._writer = opened.enter_context(
                closing(SegmentWriter(folder, disk, self.upkeep, self._published, log_id or token_hex(8)))
            )
            self._resume(folder, disk, checked, now_us)
            super().__init__(folder, disk)
            self._opened = opened.pop_all()

    @classmethod
    def open(cls, folder: Path, now_us: int, segment_bytes: int = SEGMENT_BYTES) -> Self:
        """Take the writer's lock and open the log."""
        with naming_faults(folder, "opened"):
            lock = WriterLock.take(folder)
        try:
            log = cls(folder, now_us, segment_bytes=segment_bytes)
        except BaseException:
            lock.release()
            raise
        log.lock = lock
        return log

    def start_upkeep(self) -> None:
        """Make segments ahead and compress closed ones in a thread from now on; the first is made ahead at once."""
        with naming_faults(self._folder, "written"):
            if self._writer.room < self._segment_bytes and self.upkeep.make_ahead():
                self._writer.start_segment(self._writer.received_us)  # to make a segment longer would slow each write
        self.upkeep.start()

    def publish_url(self, url: str, tenant: str = "") -> None:
        """Publish the URL at which this writer takes changes, and the tenant whose log it is."""
        if self.lock:
            self.lock.publish_url(url, tenant)

    @property
    def durable(self) -> int:
        """Every entry before this position is durable."""
        return self._writer.position

    @property
    def newest(self) -> int:
        """The position at which the newest segment begins."""
        return self._writer.base

    def clock(self, now_us: int) -> int:
        """The time now for `write`: that of the last record, when the machine's clock ran backwards."""
        return max(now_us, self._writer.received_us)

    @property
    def fault(self) -> StorageProblem | None:
        """Why nothing can be written before `recover`; None when it can."""
        return None if self._fault is None else self._problem(self._fault)

    def write(self, kind: int, rows: int, received_us: int, body: bytes, standing: str | None = None) -> int:
        """Append a record; the position of its first entry. ValueError when `received_us` runs backwards."""
        if self._fault is not None:
            raise self._problem(self._fault)
        writer = self._writer
        if received_us < writer.received_us or rows < 1:
            raise ValueError(f"{rows} entries, received at {received_us} after {writer.received_us}")
        name = standing or ""
        size = size_of(len(name.encode()) + len(body))
        if size > self._segment_bytes:
            raise StorageProblem(f"a record of {size} bytes is larger than a segment of {self._segment_bytes}")
        try:
            if writer.offset + size > self._segment_bytes:
                writer.start_segment(received_us)
            position, offset = writer.position, writer.offset
            writer.append(Record(position, kind, rows, received_us, body), name)
        except OSError as fault:
            self._fault = fault
            raise self._problem(fault) from fault
        self._places.add((writer.base, PLAIN), position, offset)
        return position

    def close_segment(self, made_before_us: int, now_us: int) -> None:
        """Go on in another segment if the newest has entries and was made before this moment (us since 1970).

        Its first entry is a heartbeat. Nothing is done while the next segment is still being made. From the writer's
        thread; raises StorageProblem as `write` does.
        """
        writer = self._writer
        if writer.position == writer.base or writer.created_us >= made_before_us or self.upkeep.is_behind:
            return
        if self._fault is not None:
            raise self._problem(self._fault)
        received_us = self.clock(now_us)
        try:
            writer.start_segment(received_us)
        except OSError as fault:
            self._fault = fault
            raise self._problem(fault) from fault
        self.write(Kind.HEARTBEAT, 1, received_us, b"")

    def on_durable(self, call: Callable[[], None]) -> None:
        """`call` is never called: `write` returns when the record is durable."""

    def recover(self) -> None:
        """After a fault: begin a new segment, whose head voids what is not durable."""
        if self._fault is None:
            return
        try:
            self._writer.start_segment(self._writer.received_us)
        except OSError as fault:
            raise self._problem(fault) from fault
        self._fault = None

    def standing(self) -> dict[str, Record]:
        """By name, the newest record of those that were written with a `standing` name."""
        return dict(self._writer.standing)

    def prune(self, before: int, may_go: Callable[[], bool] = lambda: True) -> bool:
        """Remove the oldest segments that hold nothing but entries before this position; from any thread.

        `may_go` is asked before each of them while nothing can be applied, and has to be quick; False once it said no.
        """
        with naming_faults(self._folder, "pruned"):
            for base, until in pairwise(bases_in(self._disk.names(self._folder))):
                if until > before:
                    break
                with self.leaving:
                    if not may_go():
                        return False
                    self._published.publish_oldest(until)
                self.upkeep.remove(base)  # one by one: none may be missing between two others
        return True

    def close(self) -> None:
        """End the upkeep, and let another process become the writer."""
        super().close()
        self._opened.close()
        if self.lock:
            self.lock.release()

    def _resume(self, folder: Path, disk: Disk, checked: CheckedSegments, now_us: int) -> None:
        disk.sync_folder(folder)  # or a removal that is seen now, and was not durable, might be undone later
        bases = bases_in(disk.names(folder))
        newest = self._published.newest
        if newest > max(bases, default=0):
            raise damaged(newest, newest, "the segment is missing")
        if not bases:
            self._writer.start_segment(now_us)
            self._published.publish_oldest(self._writer.base)
            return
        if 0 < self._published.oldest < bases[0]:
            raise missing(self._published.oldest, bases[0])
        if not self._published.durable:
            logger.warning("the file end is missing in %s: how far the log was durable is not known", folder)
        check_sequence(folder, disk, bases)
        checked.check(bases)
        if torn := self._writer.resume(bases[-1]):
            self.warnings.append(
                f"{segment_name(bases[-1])} of the log, position {self._writer.position}, "
                f"offset {self._writer.offset}: {torn} bytes are not a whole record and had never been durable; "
                f"they are left out"
            )
            logger.warning(self.warnings[-1])
            self._writer.start_segment(now_us)

    def _problem(self, fault: OSError) -> StorageProblem:
        reason = fault.strerror or fault
        return StorageProblem(
            f"the log in {self._folder} cannot be written: {reason}; free or repair the disk, it is tried again"
        )
