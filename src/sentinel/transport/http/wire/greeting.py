"""Greetings: TLS handshakes. Those that are not over take places too, and each has its time.

There are as many places as connections may be, and the spare ones. When all are taken, the oldest handshake that is not
over makes room for a new one: an honest one takes some milliseconds.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

from sentinel.transport.http.wire.room import SPARE_CONNECTIONS, Room

_GOODBYE_S = 2.0
"""For how long a client is waited for that was told that the connection ends, and does not say so too."""


class Greetings:
    """The handshakes that are not over, oldest first, and what they have in common. Each may take `most_s`."""

    def __init__(self, tls: ssl.SSLContext, room: Room, most_s: float) -> None:
        self.tls = tls
        self.room = room
        self.most_s = most_s
        self.unfinished: dict[Greeting, None] = {}


class Greeting(asyncio.Protocol):
    """A connection until it is secured; `make` then makes what takes its place.

    `secured` are the connections that were made so, and are open.
    """

    def __init__(self, greetings: Greetings, secured: set[Any], make: Callable[[], asyncio.Protocol]) -> None:
        self._greetings = greetings
        self._secured = secured
        self._make = make
        self._came = b""  # before the handshake began; then what came right behind it, in the clear
        self._has_eof = False
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        greetings = self._greetings
        most = greetings.room.most_connections + SPARE_CONNECTIONS
        if len(self._secured) + len(greetings.unfinished) >= most:
            if not greetings.unfinished:
                self._transport.abort()
                return
            next(iter(greetings.unfinished)).cut_off()
        greetings.unfinished[self] = None
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._greet())
        loop.call_soon(self._has_begun)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop: before the handshake began."""
        del exc
        self.cut_off()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._came += data

    def eof_received(self) -> bool:
        """Called by the event loop."""
        self._has_eof = True
        return False

    def cut_off(self) -> None:
        """End it; the client hears nothing more."""
        self._greetings.unfinished.pop(self, None)
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    def _has_begun(self) -> None:
        """The handshake has the transport now. What came before is handed to it, behind what it has put in line."""
        if self._came:
            asyncio.get_running_loop().call_soon(_hand_on, self._transport, self._came)
            self._came = b""

    async def _greet(self) -> None:
        greetings, loop = self._greetings, asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                self._transport, self, greetings.tls, server_side=True,
                ssl_handshake_timeout=greetings.most_s, ssl_shutdown_timeout=_GOODBYE_S,
            )  # fmt: skip
        except OSError:  # the client has gone, is late, or speaks something else
            secured = None
        if secured is None:
            self.cut_off()
        else:
            greetings.unfinished.pop(self, None)
            self._hand_over(secured)

    def _hand_over(self, secured: asyncio.Transport) -> None:
        connection = self._make()
        secured.set_protocol(connection)
        connection.connection_made(secured)
        if self._came:
            connection.data_received(self._came)
        if self._has_eof and not connection.eof_received():
            secured.close()


def _hand_on(transport: asyncio.Transport, came: bytes) -> None:
    """Give what came to the handshake, before the transport reads on: the loop reads as soon as it has a connection."""
    protocol = cast(asyncio.BufferedProtocol, transport.get_protocol())  # the loops' own handshakes are of that kind
    while came and not transport.is_closing():
        room = memoryview(protocol.get_buffer(len(came)))
        taken = came[: len(room)]
        room[: len(taken)] = taken
        protocol.buffer_updated(len(taken))
        came = came[len(taken) :]
