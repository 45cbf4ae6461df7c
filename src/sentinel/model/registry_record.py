"""The record of a registry on this machine: what the manifest of each version was when it came."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from sentinel.durable import append_durably, make_folder
from sentinel.errors import BundleProblem, StorageProblem
from sentinel.model.regular_file import read_regular

RECORD_FILE = "registry.jsonl"
_MOST_BYTES = 64 << 20

How: TypeAlias = Literal["trained", "accepted", "signed", "fetched"]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the record: how the manifest of a version read when it was trained, accepted, signed or fetched."""

    version: str
    manifest_sha256: str
    at: str
    how: How

    @classmethod
    def of(cls, version: str, manifest: bytes, how: How) -> "Entry":
        """The line of a manifest, as of now."""
        return cls(version, hashlib.sha256(manifest).hexdigest(), datetime.now(UTC).isoformat(timespec="seconds"), how)


decode_entry = msgspec.json.Decoder(Entry).decode


def add_to_record(folder: Path, entry: Entry) -> None:
    """Add a line durably. The newest line of a version counts."""
    make_folder(folder)
    append_durably(folder / RECORD_FILE, msgspec.json.encode(entry), 0o644)


def read_record(folder: Path) -> dict[str, Entry]:
    """The newest line of each version; a line that cannot be read vouches for nothing. Raises BundleProblem."""
    try:
        raw = read_regular(folder / RECORD_FILE, _MOST_BYTES)
    except FileNotFoundError:
        return {}
    except (OSError, StorageProblem) as error:
        raise BundleProblem(f"the record of the models cannot be read: {error}") from error
    entries: dict[str, Entry] = {}
    for line in raw.splitlines():
        try:
            entry = decode_entry(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        entries[entry.version] = entry
    return entries
