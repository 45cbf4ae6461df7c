"""The archive: copies of segments, made before they leave the log."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sentinel.errors import StorageProblem
from sentinel.record.disk import Disk, File
from sentinel.record.segment import segment_name

DRAFT = ".draft"
_PIECE = 1 << 20


def archive_segment(disk: Disk, log: Path, base: int, archive: Path, rest: Callable[[], None]) -> None:
    """Copy the segment of the log in a folder to the archive, durably, and compare: the copy is whole or not there.

    `rest` is called after every megabyte; what it raises ends the copying. Raises StorageProblem.
    """
    name = segment_name(base)
    if archive.resolve() == log.resolve():
        raise StorageProblem(f"{name} cannot be copied to {archive}: that is the log itself; name another folder")
    try:
        disk.make_folder(archive)
        with closing(disk.open(log / name)) as source:
            with closing(disk.create(archive / DRAFT)) as copy:
                for at in range(0, source.size(), _PIECE):
                    copy.write(at, source.read(at, _PIECE))
                    copy.sync()
                    rest()
            with closing(disk.open(archive / DRAFT)) as copy:
                _compare(source, copy, rest)
        disk.rename(archive / DRAFT, archive / name)
        disk.sync_folder(archive)
    except OSError as error:
        raise StorageProblem(f"{name} cannot be copied to {archive}: {error.strerror or error}") from error


def _compare(source: File, copy: File, rest: Callable[[], None]) -> None:
    if source.size() != copy.size():
        raise OSError("the copy is not as long as the segment")
    for at in range(0, source.size(), _PIECE):
        if source.read(at, _PIECE) != copy.read(at, _PIECE):
            raise OSError(f"the copy differs after byte {at}")
        rest()
