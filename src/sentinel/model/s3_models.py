"""The versions of a registry in a bucket of S3, or of what speaks its protocol, with copies on this machine.

    <prefix>/v3/claim             put where there was none: who did that has the number
    <prefix>/v3/model.onnx ...    the files, the manifest last
    <prefix>/record/v3.json       the line of the record: from here on the version is there

Nothing is ever put in the place of another object, so a copy stays right, and is used while S3 is away.
"""

import hashlib
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from sentinel.durable import sync_folder, write_durably
from sentinel.errors import BundleProblem, InvalidDefinition, StorageProblem, VersionTaken
from sentinel.features.packed import most_bytes
from sentinel.model.folder_models import ORIGIN_FILE, VERSION, FolderModels, folder_lock, origin_of, write_draft
from sentinel.model.registry_record import Entry, How, add_to_record, decode_entry, read_record
from sentinel.retrying import PAUSES_S

CLAIM, RECORD = "claim", "record"
ABANDONED_AFTER = timedelta(days=1)
"""After so long what was uploaded by a training that never finished is deleted."""

_LAST = "manifest.json"
_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9!_.*'()-]+)*)/?")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REGION = "us-east-1"
_NO_BUCKET = "NoSuchBucket"
_REFUSED = re.compile(r"status code: 40[13]")


class S3Models:
    """The versions below `s3://bucket/prefix`; `folder` has the copies.

    Endpoint, region and keys are those of the environment's AWS_... variables. Plain HTTP is spoken with this machine
    only, unless AWS_ALLOW_HTTP is set. Raises InvalidDefinition for an address that is none.
    """

    def __init__(
        self, address: str, folder: Path, environment: Mapping[str, str], abandoned_after: timedelta = ABANDONED_AFTER
    ) -> None:
        parts = _ADDRESS.fullmatch(address)
        if parts is None:
            raise InvalidDefinition(f"SENTINEL_MODELS is {address!r}; write s3://bucket or s3://bucket/prefix")
        self.folder = folder
        self.at = f"s3://{parts[1]}{parts[2]}"
        self._abandoned_after = abandoned_after
        self._bucket = open_bucket(parts[1], None, environment)
        self._objects = open_bucket(parts[1], parts[2].strip("/") or None, environment)

    def exercise(self) -> None:
        """Put an object, read it back, and delete it. Raises StorageProblem."""
        name, data = f"exercise/{token_hex(8)}", token_hex(8).encode()
        with self._asked("write"):
            try:
                obstore.put(self._objects, name, data)
            except FileNotFoundError:
                raise StorageProblem(
                    f"{self.at}: there is no such bucket yet; make it, or `sentinel train` does"
                ) from None
            try:
                found = bytes(obstore.get(self._objects, name).bytes())
            finally:
                obstore.delete(self._objects, name)
        if found != data:
            raise StorageProblem(f"{self.at} did not give back what was put there")

    def versions(self) -> list[str]:
        """Every version that is on record there."""
        with self._asked("list"):
            return self._recorded()

    def given(self) -> list[str]:
        """Every number that somebody has claimed. Raises BundleProblem where no copy could be kept here."""
        self._is_fresh()
        with self._asked("list"):
            recorded = self._recorded()
            try:
                found = obstore.list_with_delimiter(self._objects)["common_prefixes"]
            except BaseError as error:
                if _NO_BUCKET not in str(error):
                    raise
                found = []
            return [*recorded, *(one for one in found if VERSION.fullmatch(one))]

    def publish(self, version: str, files: Mapping[str, bytes], entry: Entry) -> None:
        """Claim the number, upload the files, and put the version on record; then keep a copy."""
        with self._asked("write"):
            if version in self._recorded():
                raise VersionTaken(version)
            self._claim(version)
            self._clean_up(version)
            for name in sorted(files, key=lambda one: one == _LAST):
                obstore.put(self._objects, f"{version}/{name}", files[name])
            self._put_on_record(entry)
        self._keep(version, files, entry)

    def manifest(self, version: str) -> bytes:
        """The manifest alone. Raises BundleProblem where it is not the one on record."""
        with self._asked("read"):
            entry = self._entry(version)
            raw = bytes(obstore.get(self._objects, f"{version}/{_LAST}").bytes())
        if hashlib.sha256(raw).hexdigest() != entry.manifest_sha256:
            raise BundleProblem(f"the manifest of {version} in {self.at} was altered after it was {entry.how}")
        return raw

    def bring(self, version: str) -> Path:
        """The copy of a version, which is made where there is none."""
        folder = self.folder / version
        if folder.is_dir() and origin_of(self.folder) == self.at:
            return folder
        with self._asked("read"):
            entry = self._entry(version)
            files = self._files(version)
        how: How = "accepted" if entry.how == "accepted" else "fetched"
        self._keep(version, files, msgspec.structs.replace(entry, how=how))
        return folder

    def bring_unrecorded(self, version: str) -> Path:
        """A copy of files that are there without a record, or the copy of a version."""
        with self._asked("read"):
            if version in self._recorded():
                raise BundleProblem(f"{version} is in the record of {self.at} already")
            files = self._files(version)
        if not files:
            raise BundleProblem(f"there are no files in {self.at}/{version}; copy the bundle there")
        shutil.rmtree(self.folder / version, ignore_errors=True)  # nobody vouches for what is there
        self._keep(version, files, None)
        return self.folder / version

    def record(self, entry: Entry) -> None:
        """Put a version on record here and there. Raises BundleProblem where it is there with another manifest."""
        with self._asked("write"):
            try:
                self._put_on_record(entry)
            except AlreadyExistsError:
                if self._entry(entry.version).manifest_sha256 != entry.manifest_sha256:
                    raise BundleProblem(
                        f"{entry.version} is in {self.at} with another manifest; give this one another number"
                    ) from None
        add_to_record(self.folder, entry)

    def add(self, version: str, name: str, data: bytes) -> None:
        """Put a file beside the others, there and in the copy."""
        with self._asked("write"):
            obstore.put(self._objects, f"{version}/{name}", data)
        write_durably(self.folder / version / name, data)

    def _recorded(self) -> list[str]:
        try:
            listed = [meta["path"] for page in obstore.list(self._objects, f"{RECORD}/") for meta in page]
        except BaseError as error:
            if _NO_BUCKET not in str(error):
                raise
            return []
        names = [path.rpartition("/")[2].removesuffix(".json") for path in listed]
        return [name for name in names if VERSION.fullmatch(name)]

    def _entry(self, version: str) -> Entry:
        try:
            entry = decode_entry(obstore.get(self._objects, f"{RECORD}/{version}.json").bytes())
        except FileNotFoundError:
            raise BundleProblem(f"there is no model {version} in {self.at}") from None
        except msgspec.MsgspecError as error:
            raise BundleProblem(f"the record of {version} in {self.at} cannot be read: {error}") from error
        if entry.version != version:
            raise BundleProblem(f"the record of {version} in {self.at} is that of {entry.version[:20]}")
        return entry

    def _claim(self, version: str) -> None:
        try:
            self._put_claim(version)
        except FileNotFoundError:
            self._make_bucket()
            self._put_claim(version)

    def _put_claim(self, version: str) -> None:
        try:
            obstore.put(self._objects, f"{version}/{CLAIM}", b"{}", mode="create")
        except AlreadyExistsError:
            raise VersionTaken(version) from None

    def _put_on_record(self, entry: Entry) -> None:
        obstore.put(self._objects, f"{RECORD}/{entry.version}.json", msgspec.json.encode(entry), mode="create")

    def _make_bucket(self) -> None:
        """There is no such call in obstore: an address for a PUT of the bucket itself is signed."""
        address = obstore.sign(self._bucket, "PUT", "", timedelta(minutes=1))
        asked = urllib.request.Request(address, method="PUT")  # noqa: S310 - the address is that of the endpoint
        try:
            urllib.request.urlopen(asked, timeout=30).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code != 409:  # somebody else was quicker
                raise StorageProblem(
                    f"{self.at} has no bucket, and it cannot be made ({error.code} {error.reason}); make it, or ask "
                    "for the right to"
                ) from error
        except OSError as error:
            raise StorageProblem(f"{self.at} has no bucket, and it cannot be made: {error}") from error

    def _clean_up(self, version: str) -> None:
        """Delete what others uploaded long ago and never put on record. Their claims stay: no number is given twice."""
        now = obstore.head(self._objects, f"{version}/{CLAIM}")["last_modified"]  # by the clock of the store
        recorded = {*self._recorded(), version}
        left = [
            meta["path"]
            for page in obstore.list(self._objects)
            for meta in page
            if _version_of(meta["path"]) not in (None, *recorded)
            and not meta["path"].endswith(f"/{CLAIM}")
            and now - meta["last_modified"] >= self._abandoned_after
        ]
        if left:
            obstore.delete(self._objects, left)

    def _files(self, version: str) -> dict[str, bytes]:
        listed = [meta for page in obstore.list(self._objects, f"{version}/") for meta in page]
        size, most = sum(meta["size"] for meta in listed), most_bytes()
        if size > most:
            raise BundleProblem(f"{version} in {self.at} has {size:,} bytes; this machine has room for {most:,}")
        named = [(meta["path"].rpartition("/")[2], meta["path"]) for meta in listed]
        return {
            name: bytes(obstore.get(self._objects, path).bytes())
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

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Say in one sentence what S3 says in a page."""
        try:
            yield
        except (BaseError, FileNotFoundError, ValueError) as error:
            words = _first_words(error)
            if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _REFUSED.search(str(error)):
                said = (
                    f"lets nobody {what} with these keys ({words}); look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY "
                    "and what they may do"
                )
            elif isinstance(error, AlreadyExistsError | FileNotFoundError):
                said = f"was changed by somebody else meanwhile ({words}); try again"
            else:
                said = f"does not answer as S3 would ({words}); see AWS_ENDPOINT_URL"
            raise StorageProblem(f"{self.at} {said}") from error


def open_bucket(bucket: str, prefix: str | None, environment: Mapping[str, str]) -> S3Store:
    """The objects below a prefix of a bucket, by the AWS_... variables; nothing is asked of it yet.

    Raises InvalidDefinition for plain HTTP with another machine.
    """
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    is_here = urlsplit(endpoint).hostname in _LOOPBACK
    if endpoint.startswith("http:") and not is_here and not environment.get("AWS_ALLOW_HTTP"):
        raise InvalidDefinition(
            f"AWS_ENDPOINT_URL is {endpoint}: it would come in plain HTTP from another machine; use https, or "
            "set AWS_ALLOW_HTTP=true where that network is yours"
        )
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or _REGION
    first, last = (timedelta(seconds=one) for one in (PAUSES_S[0], PAUSES_S[-1]))
    return S3Store(
        bucket,
        prefix=prefix,
        region=region,
        client_options={"allow_http": endpoint.startswith("http:"), "connect_timeout": "3s", "timeout": "5m"},
        retry_config={
            "max_retries": len(PAUSES_S),
            "retry_timeout": timedelta(seconds=10),
            "backoff": {
                "init_backoff": first,
                "max_backoff": last,
                "base": last / first,
            },
        },
    )


def _version_of(path: str) -> str | None:
    """The version that an object is a file of; what lies deeper is of others, such as a registry at `<prefix>/v7`."""
    first, _, name = path.partition("/")
    return first if VERSION.fullmatch(first) and "/" not in name else None


def _first_words(error: Exception) -> str:
    said = str(error).partition("\n")[0]
    code = re.search(r"<Code>(\w+)</Code>", str(error))
    return f"{code[1]}: {said[:160]}" if code else said[:200]
