"""The registry: the bundles of a home folder, and its record of what each of them was when it came."""

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from sentinel.durable import append_durably, make_folder
from sentinel.errors import BundleProblem, StorageProblem
from sentinel.model.regular_file import read_regular

MANIFEST_FILE, RECORD_FILE = "manifest.json", "registry.jsonl"
TrustedKeys: TypeAlias = frozenset[bytes]
"""Public keys of Ed25519, 32 bytes each. Where there are any, a bundle has to be signed by one of them."""

_VERSION = re.compile(r"v(\d{1,9})")
_MOST_MANIFEST = _MOST_RECORD = 64 << 20


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the record: how the manifest of a version read when it was trained, accepted or signed here."""

    version: str
    manifest_sha256: str
    at: str
    how: Literal["trained", "accepted", "signed"]


_decode = msgspec.json.Decoder(Entry).decode


class Registry:
    """The folder `models/` of a home: `v1`, `v2`, ..., and `registry.jsonl`, to which a line is only ever added."""

    def __init__(self, folder: Path, trusted: TrustedKeys = frozenset()) -> None:
        self.folder = folder
        self.trusted = trusted

    def versions(self) -> list[str]:
        """Every version, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path.name for path in self.folder.iterdir() if path.is_dir() and _VERSION.fullmatch(path.name)]
        return sorted(found, key=lambda name: int(name[1:]))

    def next_version(self) -> str:
        """The version that a new bundle gets; none is given twice, whatever was deleted."""
        named = [int(match[1]) for name in (*self.versions(), *self._recorded()) if (match := _VERSION.fullmatch(name))]
        return f"v{max(named, default=0) + 1}"

    def path(self, version: str) -> Path:
        """Folder of a version. Raises BundleProblem for what is no version here."""
        if version not in self.versions():
            known = ", ".join(self.versions()) or "none yet: run `sentinel train`"
            named = repr(version) if version.isascii() and version.isprintable() else "of that name"
            raise BundleProblem(f"there is no model {named} in {self.folder}; there is {known}")
        return self.folder / version

    def record(self, version: str, manifest: bytes, how: Literal["trained", "accepted", "signed"]) -> None:
        """Note durably what the manifest of a version is. The newest line of a version counts."""
        entry = Entry(
            version, hashlib.sha256(manifest).hexdigest(), datetime.now(UTC).isoformat(timespec="seconds"), how
        )
        make_folder(self.folder)
        append_durably(self.folder / RECORD_FILE, msgspec.json.encode(entry), 0o644)

    def check_recorded(self, version: str, manifest: bytes) -> None:
        """Raise BundleProblem unless this is the manifest that the record has of a version."""
        entry = self._recorded().get(version)
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

    def _recorded(self) -> dict[str, Entry]:
        """The newest line of each version; a line that cannot be read vouches for nothing."""
        try:
            raw = read_regular(self.folder / RECORD_FILE, _MOST_RECORD)
        except FileNotFoundError:
            return {}
        except (OSError, StorageProblem) as error:
            raise BundleProblem(f"the record of the models cannot be read: {error}") from error
        entries: dict[str, Entry] = {}
        for line in raw.splitlines():
            try:
                entry = _decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            entries[entry.version] = entry
        return entries


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
