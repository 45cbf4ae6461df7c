"""`sentinel log archive` and `sentinel log restore`: what of a home is elsewhere, and back from there."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.events.times import clock_us
from sentinel.objects.store import ObjectStore
from sentinel.record.applied import log_folder
from sentinel.record.archive.archiver import Archiver
from sentinel.record.archive.forgetting import forget_old
from sentinel.record.archive.place import FOLDER, SETTING, Mark, mark_of, open_archive
from sentinel.record.archive.restoring import Restored, log_in, restore
from sentinel.record.lock import WriterLock
from sentinel.record.log_reader import FileLogReader


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive has of a log: its segments before the position `whole`, its entries before `end`.

    `forgotten` segments left it, as they were older than they are to be kept.
    """

    archive: str
    log_id: str
    whole: int
    end: int
    forgotten: int


def archive_now(
    settings: Settings, address: str | None, told: Callable[[str, int, int], None] = lambda *_: None
) -> Archived:
    """Bring the archive up to the end of the log, which a server may write meanwhile. Raises SentinelError.

    A server whose own archive that is does it already: then it is in use.
    """
    address = address or settings.archive
    if address is None:
        raise InvalidDefinition(f"there is no archive: give its address with --to, or set {SETTING}")
    keep_us, store = settings.keep_archive_us, open_archive(address, settings.home)
    with closing(FileLogReader(log_folder(settings.home))) as log:
        lock = WriterLock.take(settings.home / FOLDER)
        try:
            mark = bring_up(settings.home, log, store, FOLDER, told)
            gone = 0 if keep_us is None else forget_old(store, log.log_id, clock_us() - keep_us)
        finally:
            lock.release()
        return Archived(archive=store.at, log_id=log.log_id, whole=mark.whole, end=mark.end, forgotten=gone)


def bring_up(
    home: Path, log: FileLogReader, store: ObjectStore, marks: str, told: Callable[[str, int, int], None]
) -> Mark:
    """Put into an archive what is durable of the log now, and what it has by then. Raises StorageProblem.

    Whoever calls holds the lock of the folder `marks` of the home. What is written meanwhile may be left out.
    """
    archiver = Archiver(home, log, store, marks=marks)
    nothing = Mark(log.log_id, 0, log.first)
    begin, goal = (mark_of(home, store.at, marks) or nothing).end, log.durable
    while archiver.step(clock_us()) and (end := (mark_of(home, store.at, marks) or nothing).end) < goal:
        told("entries", end - begin, goal - begin)
    return mark_of(home, store.at, marks) or nothing


def restore_from(
    settings: Settings, address: str, log_id: str | None, told: Callable[[str, int, int], None]
) -> Restored:
    """Make an empty home that of an archive. Raises SentinelError."""
    store = open_archive(address, settings.home)
    return restore(settings.home, store, log_in(store, log_id).log_id, told)
