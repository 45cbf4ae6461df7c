"""Objects in a bucket of S3, or of what speaks its protocol."""

import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from sentinel.errors import InvalidDefinition, NoObject, ObjectTaken, StorageProblem
from sentinel.objects.store import Found
from sentinel.retrying import PAUSES_S

_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9!_.*'()-]+)*)/?")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REGION = "us-east-1"
_NO_BUCKET = "NoSuchBucket"
_REFUSED = re.compile(r"status code: 40[13]")
_PARTS_AT_ONCE = 2  # of an upload, 5 MiB each
_PIECE = 1 << 20


class S3Objects:
    """The objects below `s3://bucket/prefix`, which the setting `setting` names.

    Endpoint, region and keys are those of the environment's AWS_... variables. Plain HTTP is spoken with this machine
    only, unless AWS_ALLOW_HTTP is set. Raises InvalidDefinition for an address that is none.
    """

    def __init__(self, address: str, setting: str, environment: Mapping[str, str]) -> None:
        parts = _ADDRESS.fullmatch(address)
        if parts is None:
            raise InvalidDefinition(f"{setting} is {address!r}; write s3://bucket or s3://bucket/prefix")
        self.at = f"s3://{parts[1]}{parts[2]}"
        self._bucket = open_bucket(parts[1], None, environment)
        self._objects = open_bucket(parts[1], parts[2].strip("/") or None, environment)

    def make(self) -> None:
        """Make the bucket: there is no such call in obstore, so an address for a PUT of the bucket itself is signed."""
        address = obstore.sign(self._bucket, "PUT", "", timedelta(minutes=1))
        asked = urllib.request.Request(address, method="PUT")  # noqa: S310 - the address is that of the endpoint
        try:
            urllib.request.urlopen(asked, timeout=30).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code != 409:  # it is there
                raise StorageProblem(
                    f"{self.at} has no bucket, and it cannot be made ({error.code} {error.reason}); make it, or ask "
                    "for the right to"
                ) from error
        except OSError as error:
            raise StorageProblem(f"{self.at} has no bucket, and it cannot be made: {error}") from error

    def put(self, name: str, data: bytes) -> None:
        """One PUT."""
        with self._asked("write"):
            obstore.put(self._objects, name, data)

    def create(self, name: str, data: bytes) -> None:
        """One PUT with `If-None-Match`."""
        with self._asked("write"):
            obstore.put(self._objects, name, data, mode="create")

    def upload(self, name: str, pieces: Iterable[bytes]) -> None:
        """An upload of several parts, which is there once it is completed."""
        failed: list[BaseException] = []

        def noting() -> Iterator[bytes]:
            try:
                yield from pieces
            except GeneratorExit:  # S3 has failed
                raise
            except BaseException as error:
                failed.append(error)
                raise

        try:
            with self._asked("write"):
                obstore.put(self._objects, name, noting(), max_concurrency=_PARTS_AT_ONCE)
        except BaseException:
            if failed:
                raise failed[0] from None
            raise

    def get(self, name: str) -> bytes:
        """One GET."""
        with self._asked("read"):
            return bytes(obstore.get(self._objects, name).bytes())

    def beginning(self, name: str, length: int) -> bytes:
        """One GET of a range."""
        with self._asked("read"):
            return bytes(obstore.get_range(self._objects, name, start=0, length=length))

    def pieces(self, name: str) -> Iterator[bytes]:
        """One GET."""
        with self._asked("read"):
            for piece in obstore.get(self._objects, name).stream(min_chunk_size=_PIECE):
                yield bytes(piece)

    def found(self, below: str = "") -> list[Found]:
        """As many lists as there are pages."""
        with self._asked("list"):
            try:
                listed = [meta for page in obstore.list(self._objects, below or None) for meta in page]
            except (BaseError, FileNotFoundError) as error:
                if _NO_BUCKET not in str(error):
                    raise
                return []
        return sorted(Found(meta["path"], meta["size"], meta["last_modified"]) for meta in listed)

    def parts(self) -> list[str]:
        """One list with a delimiter."""
        with self._asked("list"):
            try:
                return sorted(obstore.list_with_delimiter(self._objects)["common_prefixes"])
            except (BaseError, FileNotFoundError) as error:
                if _NO_BUCKET not in str(error):
                    raise
                return []

    def delete(self, names: Sequence[str]) -> None:
        """Delete them, many a call."""
        if names:
            with self._asked("delete"):
                obstore.delete(self._objects, list(names))

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Say in one sentence what S3 says in a page."""
        try:
            yield
        except (BaseError, FileNotFoundError, ValueError) as error:
            words = _first_words(error)
            if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _REFUSED.search(str(error)):
                raise StorageProblem(
                    f"{self.at} lets nobody {what} with these keys ({words}); look at AWS_ACCESS_KEY_ID, "
                    "AWS_SECRET_ACCESS_KEY and what they may do"
                ) from error
            if isinstance(error, AlreadyExistsError):
                raise ObjectTaken(f"{self.at} was changed by somebody else meanwhile ({words}); try again") from error
            if isinstance(error, FileNotFoundError):
                raise NoObject(f"{self.at} has not what should be there ({words}); try again") from error
            raise StorageProblem(f"{self.at} does not answer as S3 would ({words}); see AWS_ENDPOINT_URL") from error


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


def _first_words(error: Exception) -> str:
    said = str(error).partition("\n")[0]
    code = re.search(r"<Code>(\w+)</Code>", str(error))
    return f"{code[1]}: {said[:160]}" if code else said[:200]
