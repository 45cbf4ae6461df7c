"""A client of the HTTP API: keep-alive connections that post JSON. The demo, the proofs and the benchmarks use it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

import httptools

from sentinel.errors import SentinelError

OnReply = Callable[[int, bytes, int], None]
"""Told the status, the body and the nanoseconds from the last byte sent to the last byte received."""


class Unreachable(SentinelError):
    """The server cannot be reached, or has closed the connection before it answered."""


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, on_lost: Callable[["Connection"], None]) -> None:
        self._on_lost = on_lost
        self._on_reply: OnReply | None = None
        self._transport: asyncio.Transport | None = None
        self._body = b""
        self._sent_ns = 0
        self._parser = httptools.HttpResponseParser(self)

    def send(self, request: bytes, on_reply: OnReply) -> None:
        """Send a request made by `request_bytes`; `on_reply` is called with its answer."""
        assert self._transport is not None  # noqa: S101 - set when the connection was made
        self._on_reply = on_reply
        self._sent_ns = time.perf_counter_ns()
        self._transport.write(request)

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
        self._on_lost(self)

    def on_body(self, body: bytes) -> None:
        """Called by httptools."""
        self._body += body

    def on_message_complete(self) -> None:
        """Called by httptools."""
        body, self._body = self._body, b""
        on_reply, self._on_reply = self._on_reply, None
        if on_reply is not None:
            on_reply(self._parser.get_status_code(), body, time.perf_counter_ns() - self._sent_ns)


def request_bytes(path: str, body: bytes, media: str = "application/json") -> bytes:
    """A whole POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: sentinel\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client:
    """A pool of connections to one server. Raises Unreachable when a connection breaks."""

    def __init__(self, host: str, port: int, connections: int) -> None:
        self._address = (host, port)
        self._size = connections
        self._idle: deque[Connection] = deque()
        self._free = asyncio.Semaphore(0)
        self._in_flight: dict[Connection, asyncio.Future[tuple[int, bytes, int]]] = {}

    async def __aenter__(self) -> "Client":
        loop = asyncio.get_running_loop()
        for _ in range(self._size):
            try:
                _, connection = await loop.create_connection(lambda: Connection(self._lost), *self._address)
            except OSError as error:
                raise Unreachable(f"no server at {self._address[0]}:{self._address[1]} ({error})") from error
            self._idle.append(connection)
            self._free.release()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in [*self._idle, *self._in_flight]:
            connection.close()

    async def post(self, path: str, body: bytes, media: str = "application/json") -> tuple[int, bytes, int]:
        """Status, body and latency in nanoseconds of one POST; waits for a free connection."""
        await self._free.acquire()
        if not self._idle:
            raise Unreachable("the server closed the connection")
        connection = self._idle.popleft()
        waiting: asyncio.Future[tuple[int, bytes, int]] = asyncio.get_running_loop().create_future()
        self._in_flight[connection] = waiting
        connection.send(request_bytes(path, body, media), lambda *reply: self._done(connection, reply))
        return await waiting

    def _done(self, connection: Connection, reply: tuple[int, bytes, int]) -> None:
        waiting = self._in_flight.pop(connection)
        self._idle.append(connection)
        self._free.release()
        if not waiting.done():
            waiting.set_result(reply)

    def _lost(self, connection: Connection) -> None:
        waiting = self._in_flight.pop(connection, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(Unreachable("the server closed the connection before it answered"))
        if connection in self._idle:
            self._idle.remove(connection)
        self._free.release()  # whoever waits finds no connection and says so
