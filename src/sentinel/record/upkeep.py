"""What is done beside the writer: the next segment is made ahead, and closed segments are compressed."""

import logging
import os
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from threading import Event, Lock, Thread, get_native_id

from zstandard import ZstdCompressor

from sentinel.errors import StorageProblem
from sentinel.record.checked import CheckedSegments
from sentinel.record.disk import Disk, File
from sentinel.record.segment import (
    NO_CHAIN,
    PACKED,
    bases_in,
    chain_behind,
    chained,
    damaged,
    pack,
    segment_in,
    segment_name,
)

NEW, SPARE, DRAFT = ".new", ".spare", ".draft"
KEEP_FREE = 256 << 20
_PIECE = 1 << 20
_PAUSE_S, _AGAIN_S = 0.003, 60.0  # after a piece, so that the writer has its turn at the disk; and after all of it
_BREATH_S = 0.001  # after a record is compressed: the writer shall not wait for the interpreter's lock
_LOWEST = 19
_LEVEL = 3

logger = logging.getLogger(__name__)


class Upkeep:
    """Makes segments of `segment_bytes` ahead, unless less than `keep_free` bytes of the disk would be left."""

    def __init__(
        self, folder: Path, disk: Disk, segment_bytes: int, checked: CheckedSegments, keep_free: int = KEEP_FREE
    ) -> None:
        self._folder, self._disk, self._checked = folder, disk, checked
        self._segment_bytes, self._keep_free = segment_bytes, keep_free
        self._spare = self._left_over() if SPARE in disk.names(folder) else None
        self._compressed: set[int] = set()
        self._replacing = Lock()  # a segment that is removed must not come back compressed
        self._wake, self._stop = Event(), Event()
        self._thread = Thread(target=self._run, name="log upkeep", daemon=True)

    def start(self) -> None:
        """Work in a thread of its own from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the spare stays on the disk."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._spare:
            self._spare.close()
            self._spare = None

    @property
    def is_behind(self) -> bool:
        """Whether it is at work and has no segment ready."""
        return self._thread.is_alive() and self._spare is None

    def make_ahead(self) -> bool:
        """Make the next segment now, if there is room for it; whether there is one."""
        if self._spare is None and self._has_room():
            self._make_spare(0)
        return self._spare is not None

    def _has_room(self) -> bool:
        return self._disk.free(self._folder) - self._segment_bytes >= self._keep_free

    def take(self) -> File:
        """A file for the next segment, named `.new`: the spare, which needs no room on the disk, or an empty one."""
        file = self._spare
        if file is None:
            return self._disk.create(self._folder / NEW)
        try:
            self._disk.rename(self._folder / SPARE, self._folder / NEW)
        except OSError:
            file.close()
            raise
        finally:
            self._spare = None  # not before: then the thread makes the next one under its name
            self._wake.set()
        return file

    def remove(self, base: int) -> None:
        """Remove a closed segment, durably; from any thread."""
        with self._replacing:
            self._disk.unlink(self._folder / segment_name(base))
            self._disk.sync_folder(self._folder)

    def work(self) -> None:
        """Do what there is to do. Raises OSError when the disk does: try again later."""
        if self._spare is None and self._has_room():
            self._make_spare(_PAUSE_S)
        for base, until in pairwise(bases_in(self._disk.names(self._folder))):
            if base not in self._compressed and not self._stop.is_set():
                with suppress(FileNotFoundError):  # it was removed
                    self._compress(base, until)

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _LOWEST)
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self.work()
            except OSError as error:
                logger.warning("the upkeep of the log in %s failed (%s); it is tried again", self._folder, error)
            self._wake.wait(_AGAIN_S)

    def _left_over(self) -> File | None:
        """The spare of an earlier process, unless anything was written to it."""
        file = self._disk.open_to_write(self._folder / SPARE)
        pieces = range(0, self._segment_bytes, _PIECE)
        if file.size() == self._segment_bytes and not any(file.read(at, _PIECE).strip(b"\0") for at in pieces):
            return file
        file.close()
        return None

    def _make_spare(self, pause_s: float) -> None:
        file = self._disk.create(self._folder / SPARE)
        try:
            for at in range(0, self._segment_bytes, _PIECE):
                file.write(at, bytes(min(_PIECE, self._segment_bytes - at)))
                file.sync()
                if self._stop.wait(pause_s):
                    file.close()
                    return
            self._spare = file
        except OSError:
            file.close()
            raise

    def _compress(self, base: int, until: int) -> None:
        """Compress the records before the position `until` of a closed segment; what follows them is void."""
        path = self._folder / segment_name(base)
        with closing(self._disk.open(path)) as source:
            if source.read(0, len(PACKED)) != PACKED:
                try:
                    chain = self._write_compressed(source, base, until)
                except StorageProblem as problem:
                    logger.error("a closed segment is left as it is: %s", problem)  # noqa: TRY400 - it is named
                else:
                    self._replace(base, until, chain)
        self._compressed.add(base)

    def _replace(self, base: int, until: int, chain: bytes) -> None:
        with self._replacing:
            if segment_name(base) in self._disk.names(self._folder):
                self._disk.rename(self._folder / DRAFT, self._folder / segment_name(base))
                self._disk.sync_folder(self._folder)
                self._checked.add(base, until, chain)

    def _write_compressed(self, source: File, base: int, until: int) -> bytes:
        """Write the draft; the chain of its last record."""
        with closing(self._disk.create(self._folder / DRAFT)) as draft:
            compressor = ZstdCompressor(level=_LEVEL)
            offset, synced, position, chain = 0, 0, base, NO_CHAIN
            for found in chained(source, segment_in(source, base)):
                if found.next > until:
                    break
                packed = pack(source, found, compressor)
                draft.write(offset, packed)
                offset, position, chain = offset + len(packed), found.next, chain_behind(found.record)
                self._stop.wait(_BREATH_S)
                if offset - synced >= _PIECE:
                    draft.sync()
                    synced = offset
            if position < until:
                raise damaged(base, position, "the record is not as it was written")
            draft.sync()
            return chain
