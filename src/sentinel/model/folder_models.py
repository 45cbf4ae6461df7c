"""The versions of a registry in a folder of this machine."""

import fcntl
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from sentinel.durable import make_folder, sync_folder, write_durably
from sentinel.errors import BundleProblem, VersionTaken
from sentinel.model.registry_record import Entry, add_to_record, read_record

VERSION = re.compile(r"v(\d{1,9})")
ORIGIN_FILE = "origin"
"""Where a folder is a copy of models that are kept elsewhere: their address."""

_LOCK_FILE = ".lock"


class FolderModels:
    """`v1`, `v2`, ... below a folder, each whole or not there, and the record beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.at = str(folder)

    def versions(self) -> list[str]:
        """Every version, in any order."""
        if not self.folder.is_dir():
            return []
        return [path.name for path in self.folder.iterdir() if path.is_dir() and VERSION.fullmatch(path.name)]

    def given(self) -> list[str]:
        """Every version that there is or was. Raises BundleProblem where new ones belong elsewhere."""
        self._check_own()
        return [*self.versions(), *read_record(self.folder)]

    def publish(self, version: str, files: Mapping[str, bytes], entry: Entry) -> None:
        """Keep a new version. Raises VersionTaken, and OSError, and then there is nothing new."""
        self._check_own()
        with folder_lock(self.folder):
            if version in self.given():
                raise VersionTaken(version)
            for left in self.folder.glob(".v*.draft"):  # of a process that ended: others would hold the lock
                shutil.rmtree(left, ignore_errors=True)
            draft = write_draft(self.folder, version, files)
            add_to_record(self.folder, entry)
            draft.rename(self.folder / version)
            sync_folder(self.folder)

    def manifest(self, version: str) -> bytes:
        """There is none that is not in the folder. Raises BundleProblem."""
        raise BundleProblem(f"there is no model {version} in {self.folder}")

    def bring(self, version: str) -> Path:
        """Its folder, which is there."""
        return self.folder / version

    def bring_unrecorded(self, version: str) -> Path:
        """The folder of what was copied here."""
        return self.folder / version

    def record(self, entry: Entry) -> None:
        """Add a line to the record."""
        add_to_record(self.folder, entry)

    def add(self, version: str, name: str, data: bytes) -> None:
        """Put a file that the manifest does not name beside those of a version."""
        write_durably(self.folder / version / name, data)

    def _check_own(self) -> None:
        origin = origin_of(self.folder)
        if origin is not None:
            raise BundleProblem(
                f"{self.folder} has copies of the models in {origin}; set SENTINEL_MODELS to that, or take another home"
            )


def write_draft(folder: Path, version: str, files: Mapping[str, bytes]) -> Path:
    """A durable folder of these files under a name that no version has; to be renamed, or deleted. Raises OSError."""
    draft = folder / f".{version}.{token_hex(4)}.draft"
    make_folder(draft)
    try:
        for name, data in files.items():
            write_durably(draft / name, data)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return draft


def origin_of(folder: Path) -> str | None:
    """The address of the models that a folder has copies of; None where it has its own."""
    try:
        return (folder / ORIGIN_FILE).read_text().strip()
    except FileNotFoundError:
        return None


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """One process at a time writes to a folder of models; it ends with the process."""
    make_folder(folder)
    with (folder / _LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
