"""Where it is sent: to a server over HTTP, or to the topics of Kafka. Every batch is acknowledged before the next."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, SentinelError
from sentinel.transport.client import Client, Unreachable

NEW, REPEATED, REFUSED = "new", "repeated", "refused"
KAFKA = "kafka"
_PORTS = {"http": 80, "https": 443}
_BUSY = (429, 503)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
Sleep = Callable[[float], None]


class SendingStopped(SentinelError):
    """The target takes nothing any more; what it has acknowledged is kept, so that the same command goes on there."""


class Fate(msgspec.Struct, frozen=True):
    """What became of one row: `new`, `repeated` or `refused`, and why that."""

    what: str
    reason: str = ""


class Target(Protocol):
    """Takes batches in their order."""

    def send(self, kind: str, keys: Sequence[str], bodies: Sequence[bytes]) -> list[Fate]:
        """Send `transactions` or `outcomes`; what became of each. Raises SendingStopped when that cannot be said."""

    def close(self) -> None:
        """Let go of it."""


class HttpTarget:
    """A server; one request is under way at a time, so that what is sent keeps its order.

    What is too much for it (429, 503), or finds it away, is sent again after pauses that grow, for
    `patience_s` seconds.
    """

    def __init__(self, url: str, key: str | None, patience_s: float, sleep: Sleep, ca: Path | None = None) -> None:
        """With `https://` the server's certificate has to be of an authority in `ca`, or of one of the system's."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or parts.hostname is None:
            raise InvalidDefinition(
                f"--to is {url!r}; write http(s)://host:port, its detector's path included, or kafka"
            )
        if ca is not None and parts.scheme == "http":
            raise InvalidDefinition(f"--ca is for https://, and --to is {url!r}")
        below = parts.path.rstrip("/")
        self._paths = {"transactions": f"{below}/api/v1/transactions"}
        self._paths["outcomes"] = f"{below}/outcomes" if below else "/v1/outcomes"
        self._address = (parts.hostname, parts.port or _PORTS[parts.scheme])
        self._tls = _trusting(ca) if parts.scheme == "https" else None
        self._key, self._patience_s, self._sleep = key, patience_s, sleep
        self._runner = asyncio.Runner()
        self._client: Client | None = None

    def send(self, kind: str, keys: Sequence[str], bodies: Sequence[bytes]) -> list[Fate]:
        """Send an array; whoever was busy with a row is asked for that again."""
        del keys
        fates: list[Fate | None] = [None] * len(bodies)
        pause_s, waited_s, last = _FIRST_PAUSE_S, 0.0, ""
        while left := [n for n, fate in enumerate(fates) if fate is None]:
            if last:
                if waited_s >= self._patience_s:
                    raise SendingStopped(f"{last}; nothing was taken for {waited_s:.0f} s: send the same again later")
                self._sleep(pause_s)
                waited_s, pause_s = waited_s + pause_s, min(2 * pause_s, _LONGEST_PAUSE_S)
            last = self._tried(kind, [bodies[n] for n in left], left, fates)
            if any(fates[n] is not None for n in left):
                pause_s, waited_s = _FIRST_PAUSE_S, 0.0
        return [fate for fate in fates if fate is not None]

    def _tried(self, kind: str, bodies: Sequence[bytes], places: Sequence[int], fates: list[Fate | None]) -> str:
        """Send these once, and note what is known of them then; why the others are to be sent again."""
        try:
            status, answer = self._runner.run(self._post(self._paths[kind], b"[" + b",".join(bodies) + b"]"))
        except Unreachable as error:
            self._client = None
            if isinstance(error.__cause__, ssl.SSLError):  # asking again changes nothing
                raise SendingStopped(
                    f"no secured connection to {self._address[0]}:{self._address[1]}: {error.__cause__}; --ca names "
                    "the certificate of the authority that has issued the server's"
                ) from error
            return str(error)
        if status in _BUSY:
            return f"the server answered {status}: {_error_in(answer)}"
        if status != 200:
            raise SendingStopped(f"the server answered {status}: {_error_in(answer)}")
        said = ""
        for place, one in zip(places, msgspec.json.decode(answer), strict=True):
            if one.get("status") in _BUSY:
                said = f"the server answered {one['status']}: {one['error']}"
            else:
                fates[place] = _fate(one)
        return said

    async def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self._client is None:
            self._client = await Client(*self._address, 1, self._key, self._tls).__aenter__()
        status, answer, _ = await self._client.post(path, body)
        return status, answer

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._runner.run(self._client.__aexit__(None, None, None))
        self._runner.close()


def _fate(answer: dict[str, Any]) -> Fate:
    if "error" in answer:
        return Fate(REFUSED, f"{answer['status']}: {answer['error']}")
    is_known = answer.get("replayed", answer.get("status") == "ignored")
    return Fate(REPEATED if is_known else NEW)


def _error_in(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer)["error"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return answer[:200].decode(errors="replace")


def _trusting(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise InvalidDefinition(f"--ca {ca} cannot be used: {error}; give a PEM file of certificates") from error
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the server's own certificate will do
    return context


def open_target(settings: Settings, to: str, patience_s: float, sleep: Sleep, ca: Path | None = None) -> Target:
    """The target of that name. Raises InvalidDefinition."""
    if to != KAFKA:
        return HttpTarget(to, settings.bearer, patience_s, sleep, ca)
    if ca is not None:
        raise InvalidDefinition("--ca is for https://; for Kafka set SENTINEL_KAFKA_SSL_CA_LOCATION")
    try:
        from sentinel.commands.sending.kafka_target import KafkaTarget  # only who sends there needs the library
    except ModuleNotFoundError as error:
        raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[kafka]'") from error
    return KafkaTarget(settings, patience_s)
