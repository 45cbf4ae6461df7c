"""The log of a home folder: one whose entries are gone is no fresh one, for what is derived from it has seen more."""

import contextlib
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from sentinel.durable import write_durably
from sentinel.errors import LogDamaged, StorageProblem
from sentinel.features.packed import DAMAGE
from sentinel.model.regular_file import read_regular
from sentinel.record.disk import Disk
from sentinel.record.file_log import SEGMENT_BYTES, FileLog
from sentinel.record.kafka.place import place_in
from sentinel.record.log import LogReader
from sentinel.record.private import FILE_MODE
from sentinel.record.segment import bases_in

MARK = "log.mark"
_VIEW = "views.db"
_RUN_HEAD_BYTES = _MOST_MARK = 4_096
_GIVE_UP = "put back the newest copy of it, or give up what is lost: `sentinel log accept-loss {}` shows it first"


class Seen(NamedTuple):
    """Something in a home folder has seen a log up to a position; `log_id` is empty where it does not say of which."""

    what: str
    log_id: str
    position: int


class _Mark(msgspec.Struct, frozen=True):
    log_id: str
    position: int


class _Run(msgspec.Struct, frozen=True):
    """What is needed of `sentinel.record.id_run.RunHead`, whose import brings the compiler along."""

    log_id: str
    end: int


class HomeLog(FileLog):
    """The log in the folder `log` of a home folder, which notes beside that folder how far it was.

    Raises LogDamaged when something in the home folder has seen more of the log than there is, StorageProblem when it
    is another log.
    """

    def __init__(self, folder: Path, now_us: int, disk: Disk | None = None, segment_bytes: int = SEGMENT_BYTES) -> None:
        home = folder.parent
        if (place := place_in(home)) is not None:
            raise StorageProblem(
                f"the log of {home} is {place.spoken}, and its server alone writes it; start it, and ask it over HTTP"
            )
        if is_gone(folder) and (seen := furthest(seen_in(home))):
            raise LogDamaged(
                f"the log in {folder} is gone, and {seen.what} has seen it up to position {seen.position}; "
                f"{_GIVE_UP.format(1)}",
                "", 1,
            )  # fmt: skip
        super().__init__(folder, now_us, disk, segment_bytes)
        try:
            check_is_whole(home, self, str(folder))
            note_end(home, self)
        except BaseException:
            super().close()
            raise

    def close(self) -> None:
        """Note how far it is, and let another process become the writer."""
        with contextlib.suppress(StorageProblem):  # what was noted before is still true
            note_end(self._folder.parent, self)
        super().close()


def is_gone(folder: Path) -> bool:
    """Whether there is no segment of a log in this folder."""
    return not folder.exists() or not bases_in(path.name for path in folder.iterdir())


def furthest(seen: Iterator[Seen], log_id: str | None = None) -> Seen | None:
    """What has seen most of a log, if any has seen an entry; of whichever log when no id is given."""
    of_it = [one for one in seen if one.position > 1 and (log_id is None or one.log_id == log_id)]
    return max(of_it, key=lambda one: one.position, default=None)


def seen_in(home: Path, beyond: int = 1) -> Iterator[Seen]:
    """What has seen a log in a home folder. What has not seen any beyond a position may be left out."""
    mark = _mark_of(home)
    if mark is not None:
        yield Seen(str(home / MARK), mark.log_id, mark.position)
    if (home / _VIEW).exists():
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(home / _VIEW)) as view:
            for log_id, position in view.execute("SELECT log_id, position FROM progress"):
                yield Seen(str(home / _VIEW), log_id, position)
    for path in sorted((home / "ids").glob("*.ids")):
        with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError), path.open("rb") as file:
            head = msgspec.json.decode(file.read(_RUN_HEAD_BYTES), type=_Run)
            yield Seen(str(path), head.log_id, head.end)
    for path in sorted((home / "snapshots").glob("*-*.npz")):
        number = path.stem.rpartition("-")[2]
        if number.isdecimal() and int(number) > beyond and (log_id := _log_of_snapshot(path)):
            yield Seen(str(path), log_id, int(number))


def check_is_whole(home: Path, log: LogReader, where: str) -> None:
    """Raise LogDamaged when something in the home folder has seen more of this log, StorageProblem for another log.

    `where` is where the log is, for people.
    """
    mark = _mark_of(home)
    if mark is not None and mark.position > 1 and mark.log_id != log.log_id:
        raise StorageProblem(
            f"{where} holds the log {log.log_id}, and this home folder is that of the log {mark.log_id}; put "
            f"that one back, or remove {home / MARK} if another log is meant to be here"
        )
    seen = furthest(seen_in(home, log.durable), log.log_id)
    if seen and seen.position > log.durable:
        raise LogDamaged(
            f"the log in {where} ends before position {log.durable}, and {seen.what} has seen it up to "
            f"{seen.position}: its newest entries are missing; {_GIVE_UP.format(log.durable)}",
            "", log.durable,
        )  # fmt: skip


def _mark_of(home: Path) -> _Mark | None:
    try:
        return msgspec.json.decode(read_regular(home / MARK, _MOST_MARK), type=_Mark)
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _log_of_snapshot(path: Path) -> str | None:
    """The log that a snapshot says it is of; see `sentinel.record.snapshots.Origin`."""
    try:
        with zipfile.ZipFile(path) as parts, parts.open("origin.npy") as part:
            return bytes(np.lib.format.read_array(part, allow_pickle=False)).decode().split(" ")[1]
    except DAMAGE:
        return None


def note_end(home: Path, log: LogReader) -> None:
    """Note how far the log is, durably. Raises StorageProblem."""
    mark = _Mark(log.log_id, log.durable)
    if mark == _mark_of(home):
        return
    try:
        write_durably(home / MARK, msgspec.json.encode(mark), FILE_MODE)
    except OSError as error:
        raise StorageProblem(f"{home / MARK} cannot be written: {error.strerror}; free or repair the disk") from error
