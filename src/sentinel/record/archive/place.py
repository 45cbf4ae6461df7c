"""Where an archive is, and what this home folder has put there last."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sentinel.durable import make_folder, write_durably
from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.model.regular_file import read_regular
from sentinel.objects.store import ObjectStore
from sentinel.record.applied import log_folder
from sentinel.record.archive.folder_objects import FolderObjects
from sentinel.record.private import FILE_MODE, FOLDER_MODE
from sentinel.record.problem import problem_of
from sentinel.record.retention import Need

PROGRAM = "archiver"
SETTING = "SENTINEL_ARCHIVE"
FOLDER = "archiving"
"""The folder of a home in which the archiver keeps what it needs to go on."""

_MARKS = "marks.json"
_MOST_BYTES = 1 << 20


class Mark(msgspec.Struct, frozen=True):
    """What an archive has of a log: all segments before the position `whole`, and all entries before `end`."""

    log_id: str
    whole: int
    end: int


def address_of(text: str) -> str:
    """An address as it is compared: that of a bucket without a slash at its end, that of a folder in full.

    >>> address_of("s3://bucket/logs/"), address_of("/mnt/a/../archive")
    ('s3://bucket/logs', '/mnt/archive')
    """
    return text.rstrip("/") if "://" in text else os.path.normpath(Path(text).absolute())


def open_archive(address: str, home: Path, environment: Mapping[str, str] = os.environ) -> ObjectStore:
    """The archive at `s3://bucket/prefix` or in a folder; nothing is asked of it yet. Raises InvalidDefinition."""
    if "://" in address:
        try:
            from sentinel.objects.s3_objects import S3Objects  # only who has an archive in S3 needs the library
        except ModuleNotFoundError as error:
            raise InvalidDefinition(
                f"{SETTING} is {address}, and {error.name} is not installed: pip install 'sentinel-fraud[s3]'"
            ) from error
        return S3Objects(address, SETTING, environment)
    folder, log = Path(address_of(address)), log_folder(home).resolve()
    if log in (folder.resolve(), *folder.resolve().parents):
        raise InvalidDefinition(f"the archive {address} is the log itself; name another folder, on another disk")
    return FolderObjects(folder)


def mark_of(home: Path, at: str, folder: str = FOLDER) -> Mark | None:
    """What was put into an archive last, from this home folder; None where nothing was.

    `folder` of the home has the marks: whoever puts has one of its own.
    """
    return _marks(home / folder).get(at)


def note_mark(home: Path, at: str, mark: Mark, folder: str = FOLDER) -> None:
    """Note what an archive has by now. Raises StorageProblem."""
    marks = _marks(home / folder)
    if marks.get(at) == mark:
        return
    try:
        make_folder(home / folder, FOLDER_MODE)
        write_durably(home / folder / _MARKS, msgspec.json.encode({**marks, at: mark}), FILE_MODE)
    except OSError as error:
        raise StorageProblem(f"{home / folder} cannot be written: {error.strerror or error}") from error


def archive_need(home: Path, address: str, log_id: str) -> Need:
    """What is not in the archive yet stays in the log; all of it while there is something wrong with the archive."""
    at = address_of(address)
    problem, mark = problem_of(home, PROGRAM), mark_of(home, at)
    if problem is not None:
        return Need(0, problem)
    whole = mark.whole if mark is not None and mark.log_id == log_id else 0
    return Need(whole, f"the archive {at} has its segments before position {whole}")


def _marks(folder: Path) -> dict[str, Mark]:
    try:
        raw = read_regular(folder / _MARKS, _MOST_BYTES)
        return msgspec.json.decode(raw, type=dict[str, Mark])
    except (OSError, StorageProblem, msgspec.MsgspecError, UnicodeDecodeError):
        return {}  # then it is asked of the archive
