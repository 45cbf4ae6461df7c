"""Which snapshots of a state can be relied on: they are read back from the disk, all of them, and compared."""

import os
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

from sentinel.errors import DeploymentRefused, StorageProblem, UnknownVersion
from sentinel.features.packed import DAMAGE, read_part
from sentinel.model.bundle import Manifest
from sentinel.model.regular_file import open_regular
from sentinel.record.feature_state import activation_of, first_after_history, origin_of
from sentinel.record.log import LogReader
from sentinel.record.snapshots import ORIGIN, Origin

WANTED = 2
"""So many snapshots make the log before them dispensable."""


def check_kept(log: LogReader, manifest: Manifest, folder: Path) -> None:
    """Raise UnknownVersion unless the log and the snapshots in a folder have all that the features of a model need."""
    begin = activation_of(log, manifest.state_id)
    try:
        begin = first_after_history(log, manifest) if begin is None else begin
    except StorageProblem as problem:
        raise UnknownVersion(str(problem)) from None
    if begin < log.first:
        newest = max(WholeSnapshots().kept_from(folder, manifest, log, begin).snapshots, default=begin)
        if newest < log.first:
            raise UnknownVersion(
                f"the features of {manifest.version} need the log from position {newest} on, and it begins at "
                f"{log.first} by now; choose a model that was trained on a newer history"
            )


class StillKept:
    """That `check_kept` has let a model pass, for a while: segments may leave the log before the model is applied."""

    def __init__(self, log: LogReader, manifest: Manifest, folder: Path) -> None:
        """Raises what `check_kept` raises."""
        self._log, self._first, self._version = log, log.first, manifest.version
        check_kept(log, manifest, folder)

    def check(self) -> None:
        """Raise DeploymentRefused if any has left since. Ask while none can leave: in a change that is applied."""
        if self._log.first != self._first:
            raise DeploymentRefused(
                f"old entries left the log while {self._version} was checked, so it may lack what its features need; "
                "ask again"
            )


class KeptFrom(NamedTuple):
    """From which position on the log is needed for a state, and where its whole snapshots are."""

    position: int
    snapshots: list[int]

    def __str__(self) -> str:
        """The end of a sentence about whose state it is."""
        saved = f"saved whole at {', '.join(map(str, self.snapshots))}" if self.snapshots else "not saved yet"
        return (
            f"needs the log from position {self.position} on: its state is {saved}, and the last {WANTED} saves count"
        )


class WholeSnapshots:
    """Checks snapshots; a file that was whole is not read again until it changes. Use it from one thread."""

    def __init__(self) -> None:
        self._origins: dict[tuple[Path, int, int, int], str] = {}

    def kept_from(self, folder: Path, manifest: Manifest, log: LogReader, begin: int) -> KeptFrom:
        """From where on the log is needed for the state of a model, which takes its entries from `begin` on."""
        return self.kept_from_of(folder, manifest.state_id, origin_of(log, manifest), log, begin)

    def kept_from_of(self, folder: Path, name: str, origin: Origin, log: LogReader, begin: int) -> KeptFrom:
        """The same for a state whose snapshots are called so."""
        pattern = re.compile(re.escape(name) + r"-(\d+)\.npz")
        paths = folder.iterdir() if folder.is_dir() else ()
        named = [(int(match[1]), path) for path in paths if (match := pattern.fullmatch(path.name))]
        usable = sorted(n for n, path in named if begin < n <= log.durable and origin.is_of(n, self._origin_in(path)))
        return KeptFrom(max([begin, *usable[-WANTED : 1 - WANTED]]), usable)

    def _origin_in(self, path: Path) -> str | None:
        """What a snapshot says it is of; None for one that is damaged, or has gone."""
        try:
            found = path.stat()
            key = path, found.st_ino, found.st_size, found.st_mtime_ns
            if key not in self._origins:
                self._origins = {one: origin for one, origin in self._origins.items() if one[0].exists()}
                self._origins[key] = _read_all(path)
        except (StorageProblem, *DAMAGE):
            return None
        return self._origins[key]


def _read_all(path: Path) -> str:
    """The origin of a snapshot all of whose parts match their checksums.

    In pieces: a snapshot may be large, and others need the interpreter's lock and the memory.
    """
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        origin = read_part(archive, os.fstat(file.fileno()).st_size, ORIGIN)
        damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
        return bytes(origin).decode()
