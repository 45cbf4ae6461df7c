"""`sentinel backup restore` and `verify`: homes that are not there yet become those of a backup, or stay absent."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec

import sentinel.review.case_store.tables  # noqa: F401  its tables stand beside the outbox in written.db
from sentinel.commands.progress import Stage
from sentinel.config import Settings
from sentinel.durable import make_folder, sync_folder, write_durably
from sentinel.errors import StorageProblem
from sentinel.events.times import iso
from sentinel.objects.store import ObjectStore
from sentinel.record.applied import log_folder
from sentinel.record.archive.place import open_archive
from sentinel.record.archive.restoring import restore
from sentinel.record.backup.files import check_database, fetch_files
from sentinel.record.backup.manifest import BACKUP, SECRETS, WRITTEN, HomeCopy, Manifest, read_manifest
from sentinel.record.lock import WriterLock
from sentinel.record.log_reader import FileLogReader
from sentinel.record.private import FOLDER_MODE
from sentinel.record.written.copying import fill
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.transport.people.database import PeopleDatabase

_DRAFT, _MOVING = ".restoring", "moving.json"
_PEOPLE = "people.db"


class HomeRestored(msgspec.Struct, frozen=True, kw_only=True):
    """A home as it is in the backup: entries of the log from `first` up to `end`, the newest received at `newest`.

    `missing` are files that it had, and that are neither in the backup nor in the secrets. `unread` entries came after
    the secrets were copied: what is personal in them, of somebody who was new, cannot be read.
    """

    folder: str
    log_id: str
    first: int
    end: int
    newest: str
    models: int
    snapshots: int
    unread: int
    missing: list[str]


class BackRestored(msgspec.Struct, frozen=True, kw_only=True):
    """What came back from a backup that was begun at `at`, by which version of Sentinel."""

    backup: str
    version: str
    at: str
    homes: list[HomeRestored]


def restore_backup(settings: Settings, address: str, secrets: str | None, stage: Stage) -> BackRestored:
    """Make an empty home folder that of a backup, with all homes within it, or leave it empty. Raises SentinelError.

    Everything is fetched and checked in a folder of its own, and then moved. A run after one that was killed while it
    moved moves the rest.
    """
    home, database_url = settings.home, settings.database_url
    draft, moving = home / _DRAFT, home / _DRAFT / _MOVING
    if not moving.exists():
        _refuse_to_overwrite(home)
    store, vault = _open(settings, address, secrets)
    make_folder(home, FOLDER_MODE)
    lock = WriterLock.take(draft)
    try:
        if moving.exists():
            done = msgspec.json.decode(moving.read_bytes(), type=BackRestored)
        else:
            shutil.rmtree(draft / "home", ignore_errors=True)
            done = _fetch(draft / "home", store, vault, stage)
            if database_url is not None:
                _fill_databases(home, draft / "home", [one.folder for one in done.homes], database_url)
            write_durably(moving, msgspec.json.encode(done))
        _move(draft / "home", home)
        shutil.rmtree(draft)
    except OSError as error:
        raise StorageProblem(f"{home} cannot be written: {error.strerror or error}; free or repair the disk") from error
    finally:
        lock.release()
    return done


def verify_backup(
    settings: Settings, address: str, secrets: str | None, work: Path | None, stage: Stage
) -> BackRestored:
    """Restore a backup to a folder that goes again, and see that all of it is whole. Raises SentinelError if not."""
    store, vault = _open(settings, address, secrets)
    with tempfile.TemporaryDirectory(prefix="sentinel-verify-", dir=work) as folder:
        return _fetch(Path(folder) / "home", store, vault, stage)


def _open(settings: Settings, address: str, secrets: str | None) -> tuple[ObjectStore, ObjectStore | None]:
    store = open_archive(address, settings.home)
    return store, None if secrets is None else open_archive(secrets, settings.home)


def _refuse_to_overwrite(home: Path) -> None:
    found = sorted(path.name for path in home.iterdir() if path.name != _DRAFT) if home.is_dir() else []
    if found:
        raise StorageProblem(
            f"{home} is not empty, it has {', '.join(found[:3])}: name an empty --home, or move what is there away"
        )


def _fetch(home: Path, store: ObjectStore, vault: ObjectStore | None, stage: Stage) -> BackRestored:
    """Fetch all homes of a backup to a folder, and check them."""
    manifest = read_manifest(store, BACKUP)
    keys = _by_folder(read_manifest(vault, SECRETS)) if vault is not None else {}
    done: list[HomeRestored] = []
    for one in manifest.homes:
        stage("homes", len(done), len(manifest.homes))
        secret = keys.get(one.folder)
        if vault is not None and (secret is None or secret.log_id != one.log_id):
            raise StorageProblem(f"the secrets in {vault.at} are of other homes than the backup {store.at}")
        at = home / one.folder
        fetch_files(store, one.files, at)
        if vault is not None and secret is not None:
            fetch_files(vault, secret.files, at)
        for path in at.glob("*.db"):
            check_database(path)
        done.append(_fetch_home(at, one, secret, store, stage))
    stage("homes", len(done), len(done))
    return BackRestored(backup=store.at, version=manifest.version, at=manifest.at, homes=done)


def _by_folder(manifest: Manifest) -> dict[str, HomeCopy]:
    return {one.folder: one for one in manifest.homes}


def _fetch_home(at: Path, one: HomeCopy, secret: HomeCopy | None, store: ObjectStore, stage: Stage) -> HomeRestored:
    found = restore(at, store, one.log_id, stage)
    if found.end < one.end:
        raise StorageProblem(
            f"{store.at} has the log {one.log_id} up to position {found.end}, and its {BACKUP} says {one.end}; "
            "take another backup"
        )
    _check_readings(at / WRITTEN, one.log_id, found.end)
    with closing(FileLogReader(log_folder(at))) as log:
        newest = iso(log.at(found.end - 1).received_us)
    return HomeRestored(
        folder=one.folder,
        log_id=one.log_id,
        first=found.first,
        end=found.end,
        newest=newest,
        models=found.models,
        snapshots=found.snapshots,
        unread=max(found.end - secret.end, 0) if secret is not None else 0,
        missing=found.missing,
    )


def _check_readings(written: Path, log_id: str, end: int) -> None:
    """Raise StorageProblem where what people wrote speaks of entries of the log that the backup lacks."""
    if not written.exists():
        return
    with closing(sqlite3.connect(written)) as reader:
        reader.execute("PRAGMA query_only=1")
        if reader.execute("SELECT 1 FROM sqlite_master WHERE name = 'readings'").fetchone() is None:
            return  # of a version that kept none
        asked = "SELECT reader, position FROM readings WHERE log_id = ? AND position > ?"
        for name, position in reader.execute(asked, (log_id, end)):
            raise StorageProblem(
                f"{WRITTEN} has read up to position {position} ({name}), and the log ends before {end}; "
                "take another backup"
            )


def _fill_databases(home: Path, draft: Path, folders: list[str], url: str) -> None:
    """Put what people wrote, and who they are, into PostgreSQL, where the settings want it."""
    for folder in folders:
        for name, opened in ((WRITTEN, WrittenDatabase), (_PEOPLE, PeopleDatabase)):
            path = draft / folder / name
            if path.exists():
                with closing(opened(home / folder, url)) as database:
                    fill(database, path)
                path.unlink()


def _move(draft: Path, home: Path) -> None:
    """Move what was fetched to its place, the log of the first home last: without it nothing serves the folder."""
    for path in sorted(draft.iterdir(), key=lambda one: one.name == "log"):
        path.rename(home / path.name)
    sync_folder(home)
