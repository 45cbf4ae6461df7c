"""The versions of a registry in a bucket of S3, or of what speaks its protocol, with copies on this machine.

    <prefix>/v3/claim             put where there was none: who did that has the number
    <prefix>/v3/model.onnx ...    the files, the manifest last
    <prefix>/record/v3.json       the line of the record: from here on the version is there

Nothing is ever put in the place of another object, so a copy stays right, and is used while S3 is away.
"""

import hashlib
import re
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import msgspec

from sentinel.durable import sync_folder, write_durably
from sentinel.errors import BundleProblem, NoObject, ObjectTaken, VersionTaken
from sentinel.features.packed import most_bytes
from sentinel.model.folder_models import ORIGIN_FILE, VERSION, FolderModels, folder_lock, origin_of, write_draft
from sentinel.model.registry_record import Entry, How, add_to_record, decode_entry, read_record
from sentinel.objects.s3_objects import S3Objects

CLAIM, RECORD = "claim", "record"
ABANDONED_AFTER = timedelta(days=1)
"""After so long what was uploaded by a training that never finished is deleted."""

_LAST = "manifest.json"
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class S3Models:
    """The versions below `s3://bucket/prefix`; `folder` has the copies. Raises InvalidDefinition as S3Objects does."""

    def __init__(
        self, address: str, folder: Path, environment: Mapping[str, str], abandoned_after: timedelta = ABANDONED_AFTER
    ) -> None:
        self.folder = folder
        self._abandoned_after = abandoned_after
        self._objects = S3Objects(address, "SENTINEL_MODELS", environment)
        self.at = self._objects.at

    def versions(self) -> list[str]:
        """Every version that is on record there."""
        names = [one.name.rpartition("/")[2].removesuffix(".json") for one in self._objects.found(RECORD)]
        return [name for name in names if VERSION.fullmatch(name)]

    def given(self) -> list[str]:
        """Every number that somebody has claimed. Raises BundleProblem where no copy could be kept here."""
        self._is_fresh()
        return [*self.versions(), *(one for one in self._objects.parts() if VERSION.fullmatch(one))]

    def publish(self, version: str, files: Mapping[str, bytes], entry: Entry) -> None:
        """Claim the number, upload the files, and put the version on record; then keep a copy."""
        if version in self.versions():
            raise VersionTaken(version)
        self._claim(version)
        self._clean_up(version)
        for name in sorted(files, key=lambda one: one == _LAST):
            self._objects.put(f"{version}/{name}", files[name])
        self._put_on_record(entry)
        self._keep(version, files, entry)

    def manifest(self, version: str) -> bytes:
        """The manifest alone. Raises BundleProblem where it is not the one on record."""
        entry = self._entry(version)
        raw = self._objects.get(f"{version}/{_LAST}")
        if hashlib.sha256(raw).hexdigest() != entry.manifest_sha256:
            raise BundleProblem(f"the manifest of {version} in {self.at} was altered after it was {entry.how}")
        return raw

    def bring(self, version: str) -> Path:
        """The copy of a version, which is made where there is none."""
        folder = self.folder / version
        if folder.is_dir() and origin_of(self.folder) == self.at:
            return folder
        entry = self._entry(version)
        how: How = "accepted" if entry.how == "accepted" else "fetched"
        self._keep(version, self._files(version), msgspec.structs.replace(entry, how=how))
        return folder

    def bring_unrecorded(self, version: str) -> Path:
        """A copy of files that are there without a record, or the copy of a version."""
        if version in self.versions():
            raise BundleProblem(f"{version} is in the record of {self.at} already")
        files = self._files(version)
        if not files:
            raise BundleProblem(f"there are no files in {self.at}/{version}; copy the bundle there")
        shutil.rmtree(self.folder / version, ignore_errors=True)  # nobody vouches for what is there
        self._keep(version, files, None)
        return self.folder / version

    def record(self, entry: Entry) -> None:
        """Put a version on record here and there. Raises BundleProblem where it is there with another manifest."""
        try:
            self._put_on_record(entry)
        except ObjectTaken:
            if self._entry(entry.version).manifest_sha256 != entry.manifest_sha256:
                raise BundleProblem(
                    f"{entry.version} is in {self.at} with another manifest; give this one another number"
                ) from None
        add_to_record(self.folder, entry)

    def add(self, version: str, name: str, data: bytes) -> None:
        """Put a file beside the others, there and in the copy."""
        self._objects.put(f"{version}/{name}", data)
        write_durably(self.folder / version / name, data)

    def _entry(self, version: str) -> Entry:
        try:
            entry = decode_entry(self._objects.get(f"{RECORD}/{version}.json"))
        except NoObject:
            raise BundleProblem(f"there is no model {version} in {self.at}") from None
        except msgspec.MsgspecError as error:
            raise BundleProblem(f"the record of {version} in {self.at} cannot be read: {error}") from error
        if entry.version != version:
            raise BundleProblem(f"the record of {version} in {self.at} is that of {entry.version[:20]}")
        return entry

    def _claim(self, version: str) -> None:
        try:
            self._put_claim(version)
        except NoObject:
            self._objects.make()
            self._put_claim(version)

    def _put_claim(self, version: str) -> None:
        try:
            self._objects.create(f"{version}/{CLAIM}", b"{}")
        except ObjectTaken:
            raise VersionTaken(version) from None

    def _put_on_record(self, entry: Entry) -> None:
        self._objects.create(f"{RECORD}/{entry.version}.json", msgspec.json.encode(entry))

    def _clean_up(self, version: str) -> None:
        """Delete what others uploaded long ago and never put on record. Their claims stay: no number is given twice."""
        there = self._objects.found()
        now = max(one.changed for one in there if one.name == f"{version}/{CLAIM}")  # by the clock of the store
        recorded = {*self.versions(), version}
        self._objects.delete(
            [
                one.name
                for one in there
                if _version_of(one.name) not in (None, *recorded)
                and not one.name.endswith(f"/{CLAIM}")
                and now - one.changed >= self._abandoned_after
            ]
        )

    def _files(self, version: str) -> dict[str, bytes]:
        listed = self._objects.found(version)
        size, most = sum(one.bytes for one in listed), most_bytes()
        if size > most:
            raise BundleProblem(f"{version} in {self.at} has {size:,} bytes; this machine has room for {most:,}")
        named = [(one.name.rpartition("/")[2], one.name) for one in listed]
        return {
            name: self._objects.get(path)
            for name, path in named
            if name != CLAIM and _FILE.fullmatch(name) and path == f"{version}/{name}"
        }

    def _keep(self, version: str, files: Mapping[str, bytes], entry: Entry | None) -> None:
        """A copy of a version, whole or not at all, and its line in the record of this machine."""
        with folder_lock(self.folder):
            if self._is_fresh():
                write_durably(self.folder / ORIGIN_FILE, f"{self.at}\n".encode())
            draft = write_draft(self.folder, version, files)
            try:
                known = read_record(self.folder).get(version)
                if entry is not None and (known is None or known.manifest_sha256 != entry.manifest_sha256):
                    add_to_record(self.folder, entry)
                if (self.folder / version).exists():  # another process has fetched it meanwhile
                    return
                draft.rename(self.folder / version)
                sync_folder(self.folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def _is_fresh(self) -> bool:
        """Whether the folder has nothing yet, not even where its copies come from.

        Raises BundleProblem for models of another registry: both have a v1.
        """
        known = origin_of(self.folder)
        if known is None and not FolderModels(self.folder).given():
            return True
        if known != self.at:
            whose = f"copies of those in {known}" if known else "models that were trained without SENTINEL_MODELS"
            raise BundleProblem(f"{self.folder} has {whose}, not of {self.at}; take another home, or empty that folder")
        return False


def _version_of(path: str) -> str | None:
    """The version that an object is a file of; what lies deeper is of others, such as a registry at `<prefix>/v7`."""
    first, _, name = path.partition("/")
    return first if VERSION.fullmatch(first) and "/" not in name else None
