"""Snapshots: the feature state as it was before one entry, so that a start need not replay the whole log."""

import contextlib
import io
import logging
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import SentinelError, StorageProblem
from sentinel.features.packed import DAMAGE, most_bytes, read_part, unpack, write_packed
from sentinel.model.regular_file import open_regular, read_regular
from sentinel.record.disk import RealDisk, check_room

KEPT = 2
REST_S = 0.002
"""A rest that leaves the disk to others."""

_PIECE = 1 << 18
_logger = logging.getLogger(__name__)
ORIGIN = "origin"
"""The part of a snapshot that says of which plan and log it is."""


class Origin(NamedTuple):
    """What snapshots bear: a `name` of plan and log, and the chain of the log before the entry that they take next.

    `chain_at` gives the chain before a position; None where the log has it not, or no longer: pruned, or lost.
    """

    name: str
    chain_at: Callable[[int], str | None]

    def at(self, position: int) -> str:
        """What a snapshot that takes the entry at this position next bears."""
        return f"{self.name} {self.chain_at(position) or ''}"

    def is_of(self, position: int, born: str | None) -> bool:
        """Whether a snapshot that bears this is of this plan and of this log as it is."""
        if born is None or not born.startswith(f"{self.name} "):
            return False
        return self.chain_at(position) is None or born == self.at(position)


class Restorable(Protocol):
    """What a snapshot can be of."""

    def restore(self, taken: Mapping[str, NDArray[Any]]) -> None:
        """Become what was taken. Raises SentinelError for what cannot be that; then nothing is changed."""


class Snapshots:
    """Files `<state id>-<next entry>.npz` in one folder, read back before they get this name; two of a state are kept.

    The one before these is the `.spare` that the next is written into. One process at a time may `save`, any may read.
    Those of another log, or of a past that this log does not have, are passed over, and two of them are kept: whoever
    has put the wrong log here finds them when the right one is back. `rest` is called after every quarter of a megabyte
    that is written or read back.
    """

    def __init__(self, folder: Path, rest: Callable[[], None] = lambda: None) -> None:
        self.folder = folder
        self._rest = rest
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, position: int, origin: Origin, state: Mapping[str, NDArray[Any]]) -> None:
        """Write a snapshot and read it back; once it is as it should be, those older than the newest two are deleted.

        Raises StorageProblem when it is not, or when there is no room for it; the older ones are kept then.
        """
        path, spare = self.folder / f"{name}-{position:012d}.npz", self.folder / f"{name}.spare"
        parts = {**state, ORIGIN: np.frombuffer(origin.at(position).encode(), np.uint8)}
        try:
            self._write(spare, parts)
            self._read_back(spare, parts)
            spare.rename(path)
            files = self._files(name)
            usable = [path for n, path in files if origin.is_of(n, origin_in(path))]
            for old in [path for _, path in files if path not in usable][:-KEPT]:
                old.unlink()
            for old in usable[:-KEPT]:
                old.rename(spare)  # written over next time: to free its space would hold up the disk
            RealDisk().sync_folder(self.folder)  # before the log is pruned on the strength of it
        except (OSError, StorageProblem) as error:
            with contextlib.suppress(OSError):
                spare.unlink(missing_ok=True)
            raise StorageProblem(f"no snapshot was written in {self.folder}: {error}") from error

    def positions(self, name: str, origin: Origin) -> list[int]:
        """The next entries of the snapshots that a start may use, the oldest first; only their beginning is read."""
        return [position for position, path in self._files(name) if origin.is_of(position, origin_in(path))]

    def newest(self, name: str, origin: Origin, up_to: int, store: Restorable) -> int | None:
        """Restore the newest snapshot that can be used into `store`; the entry that it takes next, or None.

        A damaged file, or one of another plan, of another log or another past of it, or ahead of the log (`up_to`), is
        passed over.
        """
        for position, path in reversed(self._files(name)):
            if position > up_to:
                _logger.warning("%s is ahead of the log and is not used", path)
                continue
            try:
                state = unpack(read_regular(path, most_bytes()))
                if not origin.is_of(position, bytes(state.pop(ORIGIN)).decode(errors="replace")):
                    _logger.warning("%s is of another plan, or of another past of the log, and is not used", path)
                    continue
                store.restore(state)
            except (SentinelError, OSError, KeyError) as error:
                _logger.warning("%s cannot be used (%s); an older one, or the whole log, will do", path, error)
                continue
            return position
        return None

    def _files(self, name: str) -> list[tuple[int, Path]]:
        pattern = re.compile(re.escape(name) + r"-(\d+)\.npz")
        paths = self.folder.iterdir() if self.folder.is_dir() else ()  # a disk may go while the process runs
        named = ((pattern.fullmatch(path.name), path) for path in paths)
        return sorted((int(match[1]), path) for match, path in named if match)

    def _write(self, path: Path, parts: Mapping[str, NDArray[Any]]) -> None:
        there = path.stat().st_size if path.exists() else 0
        check_room(self.folder, sum(array.nbytes for array in parts.values()) - there)
        with _Paced(io.FileIO(path, "r+" if there else "w+"), self._rest) as file:
            write_packed(parts, file)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):  # to be read back from the disk, and not from memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def _read_back(self, path: Path, parts: Mapping[str, NDArray[Any]]) -> None:
        """Raise StorageProblem unless the file holds just these parts: then it restores what was saved."""
        try:
            with zipfile.ZipFile(path) as archive:
                is_same = archive.namelist() == [f"{name}.npy" for name in parts] and all(
                    self._is_same(archive, name, array) for name, array in parts.items()
                )
        except DAMAGE as error:
            raise StorageProblem(f"what was read back is damaged ({error})") from error
        if not is_same:
            raise StorageProblem("what was read back is not what was written")

    def _is_same(self, archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> bool:
        """Whether a part of the archive has this type, this shape and these bytes."""
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        with archive.open(f"{name}.npy") as entry:
            np.lib.format.read_magic(entry)
            shape, _, dtype = np.lib.format.read_array_header_1_0(entry)
            if (shape, dtype) != (array.shape, array.dtype):
                return False
            for begin in range(0, len(flat), _PIECE):
                if entry.read(_PIECE) != flat[begin : begin + _PIECE]:
                    return False
                self._rest()
            return not entry.read(1)


class _Paced(io.BufferedRandom):
    """A file that goes to the disk in small pieces, with rests between.

    Written back all at once, it would hold up every commit of a log on the same disk.
    """

    def __init__(self, file: io.FileIO, rest: Callable[[], None]) -> None:
        super().__init__(file)
        self._rest = rest
        self._unwritten = 0

    def write(self, data: Any) -> int:
        """Write it all; rest when it comes to a piece."""
        written = super().write(data)
        self._unwritten += written
        if self._unwritten >= _PIECE:
            self._unwritten = 0
            self.flush()
            os.fdatasync(self.fileno())
            self._rest()
        return written


def origin_in(path: Path) -> str | None:
    """What a snapshot bears, without reading the rest; None when that cannot be read."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return bytes(read_part(archive, os.fstat(file.fileno()).st_size, ORIGIN)).decode()
    except (StorageProblem, *DAMAGE):
        return None
