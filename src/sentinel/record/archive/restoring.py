"""Restoring: an empty home folder becomes that of an archive, or it stays empty."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from sentinel.durable import make_folder, replacing, sync_folder
from sentinel.errors import InvalidDefinition, LogDamaged, NoObject, StorageProblem
from sentinel.objects.store import Found, ObjectStore
from sentinel.record.applied import log_folder
from sentinel.record.archive.catalog import Catalog, KeptFile, Part, catalog_name, catalogs_in, read_catalog, sha256_of
from sentinel.record.disk import RealDisk, check_room
from sentinel.record.home_log import is_gone
from sentinel.record.lock import WriterLock
from sentinel.record.log_end import PublishedEnd
from sentinel.record.log_reader import FileLogReader
from sentinel.record.private import FOLDER_MODE
from sentinel.record.segment import bases_in, segment_name
from sentinel.record.verify import verify

DRAFT = "log.restoring"
_TRIES = 3
_HOMES = ("models", "snapshots")


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: the entries of a log from position `first` up to `end`, as they were in the archive at `at`.

    `missing` are the files that the home folder had and no archive has: they have to come from elsewhere.
    """

    log_id: str
    place: str
    at: str
    first: int
    end: int
    segments: int
    bytes: int
    snapshots: int
    models: int
    missing: list[str]


def log_in(store: ObjectStore, log_id: str | None) -> Catalog:
    """What the archive has of this log, or of the only one. Raises StorageProblem, InvalidDefinition for several."""
    found = catalogs_in(store)
    if log_id is not None and log_id not in found:
        raise StorageProblem(f"{store.at} has nothing of the log {log_id}; it has {', '.join(found) or 'no log'}")
    if not found:
        raise StorageProblem(f"{store.at} has no log; look at its address")
    if log_id is None and len(found) > 1:
        each = "; ".join(f"{one.log_id} of {one.place}, up to position {one.end}" for one in found.values())
        raise InvalidDefinition(f"{store.at} has several logs, name one with --log: {each}")
    one = found[log_id] if log_id is not None else next(iter(found.values()))
    if one.end == one.first:
        raise StorageProblem(f"{store.at} has no entry of the log {one.log_id} yet; look at its address")
    return one


def restore(home: Path, store: ObjectStore, log_id: str, told: Callable[[str, int, int], None]) -> Restored:
    """Bring log, snapshots and models of an archive to a home folder without a log; the log appears last.

    The log is checked by its hash chain, files by their hashes. What an interrupted run has fetched is used again.
    `told` hears the name of what is fetched, and how much of how much is there. Raises StorageProblem, LogDamaged.
    """
    folder, draft = log_folder(home), home / DRAFT
    if not is_gone(folder):
        raise StorageProblem(f"{folder} has a log; name an empty --home, or move that log away")
    try:
        make_folder(home, FOLDER_MODE)
        lock = WriterLock.take(draft)
        try:
            catalog, sizes = _fetch_all(home, draft, store, log_id, told)
            _check(draft, catalog)
            _put_in_place(draft, folder)
        finally:
            lock.release()
    except OSError as error:
        raise StorageProblem(f"{home} cannot be written: {error.strerror or error}; free or repair the disk") from error
    counted = {name: sum(one.path.startswith(f"{name}/") for one in catalog.files) for name in _HOMES}
    return Restored(
        log_id=log_id,
        place=catalog.place,
        at=catalog.at,
        first=catalog.first,
        end=catalog.end,
        segments=len(sizes),
        bytes=sum(sizes),
        snapshots=counted["snapshots"],
        models=len({one.path.split("/")[1] for one in catalog.files if one.path.count("/") == 2}),
        missing=[name for name in catalog.private if not (home / name).exists()],
    )


def _fetch_all(
    home: Path, draft: Path, store: ObjectStore, log_id: str, told: Callable[[str, int, int], None]
) -> tuple[Catalog, list[int]]:
    """Fetch what the catalog names; again if its server goes on meanwhile and something has left the archive."""
    for n in range(_TRIES):
        catalog = read_catalog(store.get(catalog_name(log_id)), store.at, log_id)
        try:
            _fetch_files(home, store, catalog, told)
            return catalog, _fetch_log(draft, store, catalog, told)
        except NoObject:
            if n == _TRIES - 1:
                raise
    raise AssertionError  # pragma: no cover


def _fetch_files(home: Path, store: ObjectStore, catalog: Catalog, told: Callable[[str, int, int], None]) -> None:
    for n, one in enumerate(catalog.files):
        told("models, snapshots", n, len(catalog.files))
        path = _inside(home, one)
        if path.exists():
            if sha256_of(path) != one.sha256:
                raise StorageProblem(f"{path} is there, and another one; name an empty --home, or move it away")
            continue
        make_folder(path.parent, FOLDER_MODE)
        with replacing(path) as part:
            if _written(part, _pieces_in(store, one)) != one.sha256:
                raise StorageProblem(f"{one.name} in {store.at} is not as it was put there; nothing was changed")
    told("models, snapshots", len(catalog.files), len(catalog.files))


def _inside(home: Path, one: KeptFile) -> Path:
    parts = Path(one.path).parts
    if not 1 < len(parts) <= 3 or parts[0] not in _HOMES or ".." in parts or not one.path.isprintable():
        raise StorageProblem(f"the catalog of the archive names {one.path!r}, which is no file of a model or snapshot")
    return home / one.path


def _fetch_log(draft: Path, store: ObjectStore, catalog: Catalog, told: Callable[[str, int, int], None]) -> list[int]:
    """The segments of the log in a folder, and how large each is."""
    whole = _whole_segments(store, catalog)
    for base in bases_in(path.name for path in draft.iterdir()):
        if not catalog.first <= base <= catalog.whole:
            (draft / segment_name(base)).unlink()  # of a run before; it has left the log since
    total = sum(one.bytes for one in whole) + sum(part.bytes for part in catalog.parts)
    check_room(draft, total - sum(path.stat().st_size for path in draft.glob("*.segment")))
    done = 0
    for one in whole:
        told("log, MB", done >> 20, total >> 20)
        path = draft / one.name.rpartition("/")[2]
        if not path.exists() or path.stat().st_size != one.bytes:
            with replacing(path) as part:
                _written(part, store.pieces(one.name))
        done += one.bytes
    if catalog.parts:
        with replacing(draft / segment_name(catalog.whole)) as path:
            _written(path, (piece for part in catalog.parts for piece in _pieces_in(store, part)))
    _publish_end(draft, catalog)
    told("log, MB", total >> 20, total >> 20)
    return [path.stat().st_size for path in draft.glob("*.segment")]


def _pieces_in(store: ObjectStore, one: KeptFile | Part) -> Iterator[bytes]:
    """The bytes of an object. Raises StorageProblem where they are more than the catalog says: they may never end."""
    left = one.bytes
    for piece in store.pieces(one.name):
        left -= len(piece)
        if left < 0:
            raise StorageProblem(f"{one.name} in {store.at} is not as it was put there; nothing was changed")
        yield piece


def _whole_segments(store: ObjectStore, catalog: Catalog) -> list[Found]:
    named = {segment_name(base) for base in bases_in(one.name.rpartition("/")[2] for one in store.found(catalog.log_id))
             if catalog.first <= base < catalog.whole}  # fmt: skip
    return [one for one in store.found(catalog.log_id) if one.name.rpartition("/")[2] in named]


def _publish_end(draft: Path, catalog: Catalog) -> None:
    """What the log's writer has published: how far it is durable, the newest segment, and the oldest."""
    newest = catalog.whole if catalog.parts else max(bases_in(path.name for path in draft.iterdir()), default=0)
    with closing(PublishedEnd(RealDisk().create(draft / "end"))) as end:
        end.publish(catalog.end)
        end.publish_segment(newest)
        end.publish_oldest(catalog.first)


def _check(draft: Path, catalog: Catalog) -> None:
    """Raise LogDamaged unless the log is whole, and ends as the catalog says."""
    found = verify(draft)
    if found.findings:
        one = found.findings[0]
        shutil.rmtree(draft)
        raise LogDamaged(f"the archive is damaged: {one.problem}; nothing was restored", one.segment, one.position)
    with closing(FileLogReader(draft)) as log:
        chain = log.at(catalog.end - 1).chain.hex() if catalog.chain else ""
        if (log.log_id, log.first, found.end, chain) != (catalog.log_id, catalog.first, catalog.end, catalog.chain):
            shutil.rmtree(draft)
            raise LogDamaged(
                f"the archive has entries up to {found.end}, and its catalog says {catalog.end}; nothing was restored",
                "", found.end,
            )  # fmt: skip


def _put_in_place(draft: Path, folder: Path) -> None:
    (draft / "lock").unlink()
    if folder.exists():
        if not is_gone(folder):
            raise StorageProblem(f"a log was begun in {folder} meanwhile; name an empty --home")
        shutil.rmtree(folder)
    draft.rename(folder)
    sync_folder(folder.parent)


def _written(path: Path, pieces: Iterable[bytes]) -> str:
    """Write a file; its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
        os.fsync(file.fileno())
    return digest.hexdigest()
