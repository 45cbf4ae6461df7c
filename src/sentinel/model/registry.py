"""The registry: the versions of a model, what each of them was when it came, and where they are kept."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from sentinel.errors import BundleProblem, StorageProblem
from sentinel.model.folder_models import VERSION, FolderModels
from sentinel.model.registry_record import RECORD_FILE, Entry, How, read_record
from sentinel.model.regular_file import read_regular

MANIFEST_FILE = "manifest.json"
TrustedKeys: TypeAlias = frozenset[bytes]
"""Public keys of Ed25519, 32 bytes each. Where there are any, a bundle has to be signed by one of them."""

_MOST_MANIFEST = 64 << 20


class ModelStore(Protocol):
    """Where versions are kept: a folder, or a bucket of S3. What is there is whole, and is never replaced.

    All of these raise StorageProblem where the store cannot be reached or refuses.
    """

    @property
    def at(self) -> str:
        """Where, for people."""

    def versions(self) -> list[str]:
        """Every version that can be had, in any order."""

    def given(self) -> list[str]:
        """Every version that is taken, or ever was."""

    def publish(self, version: str, files: Mapping[str, bytes], entry: Entry) -> None:
        """Keep a new version, which is there for all at once or not at all. Raises VersionTaken."""

    def manifest(self, version: str) -> bytes:
        """The manifest of a version that is not on this machine, as it is on record."""

    def bring(self, version: str) -> Path:
        """Its folder on this machine, with a line in the record beside it."""

    def bring_unrecorded(self, version: str) -> Path:
        """The folder on this machine of files that somebody copied to the store."""

    def record(self, entry: Entry) -> None:
        """Vouch for the files of a version."""

    def add(self, version: str, name: str, data: bytes) -> None:
        """Put a file that the manifest does not name beside those of a version."""


class Registry:
    """`v1`, `v2`, ... of a home. `folder` has those that are on this machine, and `registry.jsonl`, their record.

    Without a `store` they are kept in the folder itself.
    """

    def __init__(self, folder: Path, trusted: TrustedKeys = frozenset(), store: ModelStore | None = None) -> None:
        self.folder = folder
        self.trusted = trusted
        self._store: ModelStore = FolderModels(folder) if store is None else store

    @property
    def at(self) -> str:
        """Where the versions are kept, for people."""
        return self._store.at

    def versions(self) -> list[str]:
        """Every version, oldest first."""
        return sorted(self._store.versions(), key=lambda name: int(name[1:]))

    def next_version(self) -> str:
        """The version that a new bundle gets; none is given twice, whatever was deleted."""
        named = [int(match[1]) for name in self._store.given() if (match := VERSION.fullmatch(name))]
        return f"v{max(named, default=0) + 1}"

    def path(self, version: str) -> Path:
        """Folder of a version on this machine; what is kept elsewhere is fetched once.

        Raises BundleProblem for what is no version here, StorageProblem where it cannot be fetched.
        """
        if not VERSION.fullmatch(version) or not (self.folder / version).is_dir():
            self._check_there(version)
        return self._store.bring(version)

    def report_path(self, version: str) -> Path:
        """Where the report of a training stands as a page, beside its bundle; it may not be there."""
        return self.folder / f"{version}.report.html"

    def is_here(self, version: str) -> bool:
        """Whether its files are on this machine."""
        return (self.folder / version).is_dir()

    def manifest(self, version: str) -> bytes:
        """The manifest of a version, which is not fetched for it. Raises BundleProblem, StorageProblem.

        It is as the record has it.
        """
        if not self.is_here(version):
            self._check_there(version)
            return self._store.manifest(version)
        raw = manifest_bytes(self.folder / version)
        self.check_recorded(version, raw)
        return raw

    def path_of_copied(self, version: str) -> Path:
        """The same for a version that nobody vouches for yet."""
        if not VERSION.fullmatch(version):
            self._check_there(version)
        return self._store.bring_unrecorded(version)

    def publish(self, version: str, files: Mapping[str, bytes]) -> None:
        """Keep a new version that was trained here, whole or not at all. Raises VersionTaken, StorageProblem."""
        self._store.publish(version, files, Entry.of(version, files[MANIFEST_FILE], "trained"))

    def record(self, version: str, manifest: bytes, how: How) -> None:
        """Note durably what the manifest of a version is. The newest line of a version counts."""
        self._store.record(Entry.of(version, manifest, how))

    def add(self, version: str, name: str, data: bytes) -> None:
        """Put a file that the manifest does not name beside those of a version."""
        self._store.add(version, name, data)

    def check_recorded(self, version: str, manifest: bytes) -> None:
        """Raise BundleProblem unless this is the manifest that the record has of a version."""
        entry = read_record(self.folder).get(version)
        if entry is None:
            raise BundleProblem(
                f"{version} is not in {self.folder / RECORD_FILE}: it was not trained here. If you know where it comes "
                f"from, `sentinel models accept {version}` takes it in"
            )
        if hashlib.sha256(manifest).hexdigest() != entry.manifest_sha256:
            raise BundleProblem(
                f"the manifest of {version} was altered after it was {entry.how} at {entry.at} (SHA-256 differs from "
                f"that in {self.folder / RECORD_FILE}); restore it or train anew"
            )

    def vouches_for(self, version: str) -> bool:
        """Whether the figures of a manifest on record are those of a training here, or of who signed it and is trusted.

        A bundle that was accepted says of itself what it likes.
        """
        entry = read_record(self.folder).get(version)
        return bool(self.trusted) or (entry is not None and entry.how != "accepted")

    def _check_there(self, version: str) -> None:
        found = self.versions()
        if version not in found:
            known = ", ".join(found) or "none yet: run `sentinel train`"
            named = repr(version) if version.isascii() and version.isprintable() else "of that name"
            raise BundleProblem(f"there is no model {named} in {self.at}; there is {known}")


def manifest_sha256(folder: Path) -> str:
    """The SHA-256 of a bundle's manifest. Raises BundleProblem when it cannot be read."""
    return hashlib.sha256(manifest_bytes(folder)).hexdigest()


def manifest_bytes(folder: Path) -> bytes:
    """The manifest of a bundle as it stands there. Raises BundleProblem when it cannot be read."""
    path = folder / MANIFEST_FILE
    if folder.is_symlink():
        raise BundleProblem(f"{folder} is a symbolic link; put the folder itself there")
    try:
        return read_regular(path, _MOST_MANIFEST)
    except FileNotFoundError:
        raise BundleProblem(f"there is no bundle in {folder}: {MANIFEST_FILE} is missing; train one") from None
    except (OSError, StorageProblem) as error:
        raise BundleProblem(f"{path} cannot be read: {error}") from error
