"""`sentinel backup create`: a copy of all homes of a server, of one that runs or not."""

import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec

import sentinel.review.case_store.tables  # noqa: F401  its tables stand beside the outbox in written.db
from sentinel import __version__
from sentinel.commands.archive import bring_up
from sentinel.commands.progress import Stage
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.events.times import clock_us, iso
from sentinel.homes import Place, homes_in, keys_home_of
from sentinel.objects.store import ObjectStore
from sentinel.record.applied import log_folder
from sentinel.record.archive.catalog import KeptFile
from sentinel.record.archive.place import address_of, open_archive
from sentinel.record.backup.files import copy_database, copy_private, put_files
from sentinel.record.backup.manifest import (
    BACKUP,
    SECRET,
    SECRETS,
    WRITTEN,
    HomeCopy,
    Manifest,
    check_is_of,
    put_manifest,
)
from sentinel.record.lock import WriterLock
from sentinel.record.log_reader import FileLogReader
from sentinel.record.private import FOLDER_MODE
from sentinel.record.written.copying import copy_rows
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.transport.people.database import PeopleDatabase

FOLDER = "backing-up"
"""The folder of a home in which a backup notes what it has put where, and makes its copies."""

_PEOPLE, _SUBJECTS = "people.db", "subjects.db"


class HomeBackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """The log of a home in a backup: its entries before `end`."""

    folder: str
    log_id: str
    end: int


class BackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup has by now. `secrets` is where they were put, None where they were not asked for."""

    backup: str
    secrets: str | None
    at: str
    homes: list[HomeBackedUp]


def back_up(settings: Settings, address: str, secrets: str | None, stage: Stage) -> BackedUp:
    """Bring a backup up to now; servers go on meanwhile. Raises SentinelError, and then what was there before counts.

    What people wrote is copied before the log, so it speaks of no entry that the backup lacks; the keys of what is
    personal after it, so whatever the backup has can be read.
    """
    store, vault = _places(settings, address, secrets)
    lock = WriterLock.take(settings.home / FOLDER)
    copies = settings.home / FOLDER / "copies"
    at = iso(clock_us())
    try:
        logs = {_folder(settings, home): _log_id(home) for home in homes_in(settings.home).values()}
        check_is_of(store, BACKUP, logs)
        if vault is not None:
            check_is_of(vault, SECRETS, logs)
        homes: list[HomeCopy] = []
        kept: list[HomeCopy] = []
        for place, home in homes_in(settings.home).items():
            stage("homes", len(homes), len(homes) + 1)
            written = _put(store, copies, partial(_copy_written, settings, home))
            log_id, end = _put_log(home, store, stage)
            folder = _folder(settings, home)
            homes.append(HomeCopy(folder=folder, log_id=log_id, end=end, files=written))
            if vault is not None:
                keys = _put(vault, copies, partial(_copy_secrets, settings, place, home))
                kept.append(HomeCopy(folder=folder, log_id=log_id, end=end, files=keys))
        if vault is not None:
            put_manifest(vault, SECRETS, Manifest(version=__version__, at=at, homes=tuple(kept)))
        put_manifest(store, BACKUP, Manifest(version=__version__, at=at, homes=tuple(homes)))
        stage("homes", len(homes), len(homes))
    finally:
        shutil.rmtree(copies, ignore_errors=True)
        lock.release()
    told = [HomeBackedUp(folder=one.folder, log_id=one.log_id, end=one.end) for one in homes]
    return BackedUp(backup=store.at, secrets=vault.at if vault else None, at=at, homes=told)


def _places(settings: Settings, address: str, secrets: str | None) -> tuple[ObjectStore, ObjectStore | None]:
    """Where the backup goes, and its secrets. Raises InvalidDefinition where that cannot be."""
    if settings.log == "kafka":
        raise InvalidDefinition(
            "the log is in Kafka, whose replication is its second copy: back up the topics with Kafka's own means, and "
            "copy the models, the keys and what people wrote as docs/operations.md says"
        )
    if settings.archive is not None and address_of(settings.archive) == address_of(address):
        raise InvalidDefinition(f"{address} is the archive that the server itself writes to; name another place")
    places = [_resolved(one) for one in (address, secrets) if one is not None]
    if len(places) == 2 and any(f"{one}/".startswith(f"{other}/") for one, other in (places, places[::-1])):
        raise InvalidDefinition("who has the backup shall not have the secrets; name another place for --secrets")
    for one in places:
        if "://" not in one and Path(one).is_relative_to(settings.home.resolve()):
            raise InvalidDefinition(f"{one} is in the home folder itself; name one on another disk")
    store = open_archive(address, settings.home)
    store.make()
    if secrets is None:
        return store, None
    vault = open_archive(secrets, settings.home)
    vault.make()
    return store, vault


def _folder(settings: Settings, home: Path) -> str:
    return str(home.relative_to(settings.home)) if home != settings.home else ""


def _log_id(home: Path) -> str:
    with closing(FileLogReader(log_folder(home))) as log:
        return log.log_id


def _resolved(address: str) -> str:
    """An address as it can be compared: a folder without links."""
    return address_of(address) if "://" in address else str(Path(address_of(address)).resolve())


def _put(store: ObjectStore, copies: Path, make: Callable[[Path], None]) -> tuple[KeptFile, ...]:
    """Have copies made in a folder that is empty, and put them."""
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir(FOLDER_MODE)
    make(copies)
    return put_files(store, copies)


def _put_log(home: Path, store: ObjectStore, stage: Stage) -> tuple[str, int]:
    """Put log, models and snapshots; the log's id, and the position that the backup reaches to."""
    with closing(FileLogReader(log_folder(home))) as log:
        return log.log_id, bring_up(home, log, store, FOLDER, stage).end


def _copy_written(settings: Settings, home: Path, into: Path) -> None:
    if settings.database_url is not None:
        with closing(WrittenDatabase(home, settings.database_url)) as database:
            copy_rows(database, into / WRITTEN)
    elif (home / WRITTEN).exists():
        copy_database(home / WRITTEN, into / WRITTEN)


def _copy_secrets(settings: Settings, place: Place, home: Path, into: Path) -> None:
    for name in SECRET:
        if name in (_PEOPLE, _SUBJECTS):
            if (home / name).exists():
                copy_database(home / name, into / name)
        elif (home / name).exists():
            copy_private(home / name, into / name)
    if settings.database_url is not None and not place.detector:
        with closing(PeopleDatabase(keys_home_of(home), settings.database_url)) as database:
            (into / _PEOPLE).unlink(missing_ok=True)
            copy_rows(database, into / _PEOPLE)
