"""The files of a home folder that are archived beside its log: snapshots, models, and what stands beside these."""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from sentinel.errors import StorageProblem
from sentinel.objects.store import ObjectStore
from sentinel.record.archive.catalog import KeptFile
from sentinel.record.snapshots import KEPT, origin_in

PRIVATE = ("hash.key", "hash-keys.json", "access", "subjects.db", "people.db", "written.db")
"""What is never archived: who has the archive shall not have the keys, nor log in as somebody."""

_SNAPSHOT = re.compile(r"(.+)-(\d+)\.npz")
_PIECE = 1 << 20


def files_of(home: Path, log_id: str, end: int) -> list[Path]:
    """What is to be archived: everything of the models, and the newest two snapshots of each state before `end`."""
    return [*_models(home / "models"), *_snapshots(home / "snapshots", log_id, end)]


def private_in(home: Path) -> tuple[str, ...]:
    """What of PRIVATE a home folder has."""
    return tuple(name for name in PRIVATE if (home / name).exists())


def _models(folder: Path) -> list[Path]:
    """Drafts have names that begin with a dot."""
    found = [*folder.glob("*"), *folder.glob("v*/*")] if folder.is_dir() else []
    return sorted(
        path
        for path in found
        if path.is_file()
        and not path.is_symlink()
        and not any(part[0] == "." for part in path.relative_to(folder).parts)
    )


def _snapshots(folder: Path, log_id: str, end: int) -> list[Path]:
    """One that is ahead of the archived log would be of no use, and so would one of another log."""
    named: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _SNAPSHOT.fullmatch(path.name)
        if match and int(match[2]) <= end and f" {log_id} " in (origin_in(path) or ""):
            named.setdefault(match[1], []).append((int(match[2]), path))
    return sorted(path for those in named.values() for _, path in sorted(those)[-KEPT:])


class KeptFiles:
    """Uploads files; one that has not changed since it was is not read again. Use it from one thread."""

    def __init__(self, home: Path, store: ObjectStore, log_id: str, rest: Callable[[], None]) -> None:
        self._home, self._store, self._log_id, self._rest = home, store, log_id, rest
        self._known: dict[Path, tuple[tuple[int, int, int], KeptFile]] = {}

    def kept(self, paths: list[Path], there: tuple[KeptFile, ...]) -> tuple[KeptFile, ...]:
        """These files, all of them in the archive, where `there` are already. Raises StorageProblem.

        One that goes away or changes meanwhile is left out; its turn comes again.
        """
        names = {one.name for one in there}
        found = []
        for path in paths:
            try:
                one = self._of(path)
                if one.name not in names:
                    self._store.upload(one.name, self._pieces(path, one))
                    names.add(one.name)
            except (FileNotFoundError, _Changed):
                self._known.pop(path, None)
                continue
            except OSError as error:
                raise StorageProblem(f"{path} cannot be read: {error.strerror or error}") from error
            found.append(one)
        self._known = {path: known for path, known in self._known.items() if path in paths}
        return tuple(found)

    def _of(self, path: Path) -> KeptFile:
        stat = path.stat()
        stamp = stat.st_ino, stat.st_size, stat.st_mtime_ns
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            digest = hashlib.sha256()
            for piece in _read(path, self._rest):
                digest.update(piece)
            sha256 = digest.hexdigest()
            named = f"{self._log_id}/files/{sha256[:16]}-{path.name}"
            self._known[path] = stamp, KeptFile(str(path.relative_to(self._home)), named, stat.st_size, sha256)
        return self._known[path][1]

    def _pieces(self, path: Path, as_hashed: KeptFile) -> Iterator[bytes]:
        """The file, which has to be still what was hashed: a snapshot that is older by now is written over."""
        digest = hashlib.sha256()
        for piece in _read(path, self._rest):
            digest.update(piece)
            yield piece
        if digest.hexdigest() != as_hashed.sha256:
            raise _Changed


class _Changed(Exception):
    """A file was written to while it was read."""


def _read(path: Path, rest: Callable[[], None]) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
            rest()
