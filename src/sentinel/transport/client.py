"""A client of the HTTP API: keep-alive connections that post JSON. The demo, the proofs and the benchmarks use it."""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

import httptools

from sentinel.errors import SentinelError

Answer: TypeAlias = tuple[int, bytes, int]
"""The status, the body and the nanoseconds from the last byte sent to the last byte received."""

_LOOKS, _LOOK_S = 500, 0.01  # at the end


class Unreachable(SentinelError):
    """The server cannot be reached, or has closed the connection before it answered."""


class Connection(asyncio.Protocol):
    """One connection; one request at a time. `on_free` is called when that is answered."""

    def __init__(self, on_free: Callable[["Connection"], None], on_lost: Callable[["Connection"], None]) -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._asked: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None
        self._body = b""
        self._sent_ns = 0
        self._parser = httptools.HttpResponseParser(self)

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request made by `request_bytes`; its answer, or Unreachable."""
        assert self._transport is not None  # noqa: S101 - set when the connection was made
        self._asked = asyncio.get_running_loop().create_future()
        self._sent_ns = time.perf_counter_ns()
        self._transport.write(request)
        return self._asked

    def close(self) -> None:
        """Close the connection; a request in flight is not answered."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        del exc
        self._transport = None
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(Unreachable("the server closed the connection before it answered"))
        self._on_lost(self)

    def on_body(self, body: bytes) -> None:
        """Called by httptools."""
        self._body += body

    def on_message_complete(self) -> None:
        """Called by httptools."""
        body, self._body = self._body, b""
        asked, self._asked = self._asked, None
        if asked is None:
            return
        self._on_free(self)
        if not asked.done():
            asked.set_result((self._parser.get_status_code(), body, time.perf_counter_ns() - self._sent_ns))


def request_bytes(
    path: str, body: bytes, media: str = "application/json", *, host: str = "localhost", key: str | None = None,
    tenant: str | None = None,
) -> bytes:  # fmt: skip
    """A whole POST request, with a key and a tenant if there is one."""
    bears = f"Authorization: Bearer {key}\r\n" if key else ""
    bears += f"X-Sentinel-Tenant: {tenant}\r\n" if tenant else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{bears}Content-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client:
    """A pool of connections to one server, each request with the key. Raises Unreachable when a connection breaks.

    With `tls` they are secured, and the server has to show a certificate of that host.
    """

    def __init__(
        self, host: str, port: int, connections: int, key: str | None = None, tls: ssl.SSLContext | None = None,
        tenant: str | None = None,
    ) -> None:  # fmt: skip
        self._address, self._tls = (host, port), tls
        self._host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._key, self._tenant = key, tenant
        self._size = connections
        self._connections: list[Connection] = []
        self._idle: deque[Connection] = deque()
        self._free = asyncio.Semaphore(0)
        self._alive = 0

    async def __aenter__(self) -> "Client":
        loop = asyncio.get_running_loop()
        for _ in range(self._size):
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(self._take, self._lost), *self._address, ssl=self._tls
                )
            except OSError as error:
                raise Unreachable(f"no server at {self._address[0]}:{self._address[1]} ({error})") from error
            self._connections.append(connection)
            self._alive += 1
            self._take(connection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        for _ in range(_LOOKS):  # a secured one ends once the server has heard so
            if self._alive <= 0 or self._tls is None:
                return
            await asyncio.sleep(_LOOK_S)

    async def post(self, path: str, body: bytes, media: str = "application/json") -> Answer:
        """Status, body and latency in nanoseconds of one POST; waits for a free connection."""
        await self._free.acquire()
        while not self._idle:
            if self._alive == 0:
                self._free.release()  # everyone else who waits is told, too
                raise Unreachable("the server closed the connection")
            await self._free.acquire()
        request = request_bytes(path, body, media, host=self._host, key=self._key, tenant=self._tenant)
        return await self._idle.popleft().ask(request)

    def _take(self, connection: Connection) -> None:
        self._idle.append(connection)
        self._free.release()

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        self._alive -= 1
        self._free.release()  # whoever waits looks whether there is any left
