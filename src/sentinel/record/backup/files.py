"""Files of a backup: copies of what a server may write to meanwhile, put into a store, and fetched from one."""

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from sentinel.durable import make_folder, replacing
from sentinel.errors import NoObject, StorageProblem
from sentinel.objects.store import ObjectStore
from sentinel.record.archive.catalog import KeptFile, sha256_of
from sentinel.record.private import FILE_MODE, FOLDER_MODE

_PIECE = 1 << 20


def copy_database(source: Path, target: Path) -> None:
    """A SQLite database as of one moment, while others write to it. Raises StorageProblem."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as reader,
            contextlib.closing(sqlite3.connect(target)) as writer,
        ):
            reader.execute("PRAGMA busy_timeout=10000")
            reader.backup(writer)
            writer.execute("PRAGMA journal_mode=DELETE")  # the copy is one file
    except sqlite3.Error as error:
        raise StorageProblem(f"{source} cannot be copied: {error}; see that its disk is sound and has room") from error


def check_database(path: Path) -> None:
    """Raise StorageProblem unless a file is a SQLite database that is sound."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
            (said,) = reader.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        raise StorageProblem(f"{path.name} is damaged: {said}; take another backup")


def copy_private(source: Path, target: Path) -> None:
    """Copy a file or a folder for its owner's eyes only; what begins with a dot is a draft of somebody's."""
    if source.is_dir():
        target.mkdir(FOLDER_MODE, parents=True)
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                copy_private(path, target / path.name)
        return
    shutil.copyfile(source, target)
    target.chmod(FILE_MODE)


def put_files(store: ObjectStore, folder: Path) -> tuple[KeptFile, ...]:
    """Put all files of a folder that nobody writes to into a store. Raises StorageProblem."""
    found = []
    there = {one.name for one in store.found("files")}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        sha256 = sha256_of(path)
        name = f"files/{sha256[:16]}-{path.name}"
        if name not in there:
            store.upload(name, _pieces_of(path))
        found.append(KeptFile(str(path.relative_to(folder)), name, path.stat().st_size, sha256))
    return tuple(found)


def fetch_files(store: ObjectStore, files: Iterable[KeptFile], home: Path) -> None:
    """Fetch files to a home folder that has none of them, for their owner's eyes only. Raises StorageProblem."""
    for one in files:
        path = home / one.path
        make_folder(path.parent, FOLDER_MODE)
        with replacing(path) as draft:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(descriptor, "wb") as file:
                digest, size = hashlib.sha256(), 0
                try:
                    for piece in store.pieces(one.name):
                        size += len(piece)
                        digest.update(piece)
                        file.write(piece)
                        if size > one.bytes:
                            break
                except NoObject:
                    raise StorageProblem(
                        f"{store.at} lacks {one.name}, which has {one.path}; take another one"
                    ) from None
            if digest.hexdigest() != one.sha256:
                raise StorageProblem(f"{one.name} in {store.at} is not as it was put there; nothing was changed")


def _pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
