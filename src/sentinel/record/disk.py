"""The disk under the log: a port, so that tests can cut its power."""

import os
import shutil
from pathlib import Path
from typing import Protocol

from sentinel.durable import make_folder, sync_folder
from sentinel.errors import StorageProblem
from sentinel.record.private import FILE_MODE, FOLDER_MODE

_KEPT_FREE = 64 << 20


class Readable(Protocol):
    """Bytes that can be read at any offset."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from this offset on: `length` of them, or fewer at the end."""

    def size(self) -> int:
        """How many bytes there are."""


class File(Readable, Protocol):
    """An open file. Every method may raise OSError."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of the data; after an OSError any part of it may be written."""

    def sync(self) -> None:
        """Make what was written durable. After an OSError nothing is known of it, and it must not be tried again."""

    def close(self) -> None:
        """Release the file; what was not synced may be lost."""


class Disk(Protocol):
    """Files and folders. Every method may raise OSError; names are durable once their folder was synced."""

    def open(self, path: Path) -> File:
        """An existing file, to read."""

    def open_to_write(self, path: Path) -> File:
        """An existing file, to read and to write."""

    def create(self, path: Path) -> File:
        """A new and empty file, in the place of one of this name."""

    def names(self, folder: Path) -> list[str]:
        """What is in a folder, in order."""

    def make_folder(self, folder: Path) -> None:
        """A durable folder, unless there is one."""

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name at once, in the place of the file that has it."""

    def unlink(self, path: Path) -> None:
        """Remove a name."""

    def stamp(self, path: Path) -> str:
        """What is another for a file as soon as it was written or replaced."""

    def free(self, folder: Path) -> int:
        """How many bytes can still be written."""


class RealDisk:
    """The disk of this machine."""

    def open(self, path: Path) -> File:
        """Call open, to read."""
        return RealFile(os.open(path, os.O_RDONLY))

    def open_to_write(self, path: Path) -> File:
        """Call open, to read and to write."""
        return RealFile(os.open(path, os.O_RDWR))

    def create(self, path: Path) -> File:
        """Call open, after whatever has the name was unlinked."""
        path.unlink(missing_ok=True)
        return RealFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))

    def names(self, folder: Path) -> list[str]:
        """Call readdir."""
        return sorted(path.name for path in folder.iterdir())

    def make_folder(self, folder: Path) -> None:
        """Call mkdir, and its parents."""
        make_folder(folder, FOLDER_MODE)

    def sync_folder(self, folder: Path) -> None:
        """Call fsync."""
        sync_folder(folder)

    def rename(self, old: Path, new: Path) -> None:
        """Call rename."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """Call unlink."""
        path.unlink()

    def stamp(self, path: Path) -> str:
        """Call stat: inode, size, and when it was changed."""
        found = path.stat()
        return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"

    def free(self, folder: Path) -> int:
        """Call statvfs: what is free without privileges."""
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize


class RealFile:
    """An open file of this machine, by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> bytes:
        """Call pread."""
        return os.pread(self._descriptor, length, offset)

    def size(self) -> int:
        """Call fstat."""
        return os.fstat(self._descriptor).st_size

    def write(self, offset: int, data: bytes) -> None:
        """Call pwrite, again while it writes less."""
        written = os.pwrite(self._descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], offset + written)

    def sync(self) -> None:
        """Call fdatasync."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Call close."""
        os.close(self._descriptor)


def check_room(folder: Path, size: int = 0) -> None:
    """Raise StorageProblem when the disk is nearly full once so many bytes are written.

    What is left is for the log, which decisions wait for.
    """
    left = shutil.disk_usage(folder).free - size
    if left < _KEPT_FREE:
        needed = f", {size >> 20} MB are needed" if size > 0 else ""
        raise StorageProblem(
            f"only {(left + size) >> 20} MB are free in {folder}{needed}, and {_KEPT_FREE >> 20} MB are kept for the "
            "log; free some space"
        )
