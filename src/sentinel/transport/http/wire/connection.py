"""Connections: uvicorn makes one for each client, and here it begins, waits and ends.

Its bytes are read as requests in one place (`request_reader.py`); a plain scoring call goes to the fast lane, any other
request, whole, to the ASGI application (`other_lane.py`).
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from sentinel.errors import SentinelError
from sentinel.transport.access.claims import Peer
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.other_lane import OtherLane
from sentinel.transport.http.wire.greeting import Greeting, Greetings
from sentinel.transport.http.wire.heads import BLANK, LONGEST_REMEMBERED, read_short_head
from sentinel.transport.http.wire.intake import Intake
from sentinel.transport.http.wire.room import SPARE_CONNECTIONS, SPARE_FOR_HEALTH, Room
from sentinel.transport.http.wire.timer import Timer

LINGER_S = 2.0
"""For how long what a client sends after its last answer is thrown away: closing at once could destroy the answer."""

MOST_DISCARDED = 8
"""Bodies of the largest size that are thrown away, before the connection is cut."""


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, detectors: Detectors, other_lane: OtherLane, room: Room) -> None:
        self._detectors = detectors
        self._other_lane = other_lane
        self._room = room
        self._most_bytes = detectors.settings.max_body_bytes
        self._is_stopping = False
        self._received, self._received_before, self._discarded = 0, 0, 0
        self._idle, self._unread = Timer(), Timer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._intake = Intake(self._detectors, self._other_lane, self._room, self._transport, self._leave)
        connections = self._other_lane.state.connections
        connections.add(self)  # type: ignore[arg-type]
        self._detectors.welcome()
        settings = self._detectors.settings
        self._idle.start(min(settings.head_timeout_s, settings.idle_timeout_s), self._watch_idle)
        if len(connections) > self._room.most_connections:
            self._turn_away(len(connections) - self._room.most_connections)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        del exc
        self._other_lane.state.connections.discard(self)
        self._intake.drop()
        self._idle.stop()
        self._unread.stop()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop. One whole plain request with a short head, as most are, goes the short way."""
        self._received += len(data)
        intake = self._intake
        if intake.is_free:
            blank = data.find(BLANK) + 4
            try:
                head = read_short_head(data[:blank]) if blank <= LONGEST_REMEMBERED else None
            except SentinelError:  # it is not whole, or wrong, which the intake says
                head = None
            if head is not None and (call := head.plain) and len(data) - blank == head.length <= self._most_bytes:
                body = data[blank:]
                if not (call.may_be_remembered and intake.fast.take_repeat(call, body)):
                    intake.is_free = False
                    intake.fast.take(call, body)
                return
        if intake.ends:
            self._discard(len(data))
        else:
            intake.receive(data)

    def eof_received(self) -> bool:
        """Called by the event loop: the client sends nothing more; whether it gets answers still."""
        return self._intake.receive_end()

    def pause_writing(self) -> None:
        """Called by the event loop when a client does not read its answers: take no more of its requests."""
        self._intake.hold()
        self._unread.start(self._detectors.settings.unread_timeout_s, self._transport.abort)

    def resume_writing(self) -> None:
        """Called by the event loop when it has read most of them."""
        self._unread.stop()
        self._intake.go_on()

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops: close once everything is answered."""
        self._is_stopping = True
        self._intake.end()

    def _turn_away(self, n: int) -> None:
        """Say that there are too many, as the `n`th of these; a health check from this machine is answered."""
        if n <= SPARE_FOR_HEALTH and Peer.of(self._transport.get_extra_info("peername")).is_local:
            self._intake.take_health_only()
            return
        self._is_stopping = n > SPARE_CONNECTIONS
        self._intake.refuse(self._room.crowded())

    def _leave(self) -> None:
        """Everything is answered, and nothing more will be: close, without losing an answer on its way."""
        if self._transport.is_closing():
            return
        if self._is_stopping or self._intake.has_eof or not self._transport.can_write_eof():
            self._hang_up()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._idle.start(LINGER_S, self._hang_up)

    def _hang_up(self) -> None:
        self._transport.close()
        if self._transport.get_write_buffer_size():  # closed once that is read
            self._unread.start(self._detectors.settings.unread_timeout_s, self._transport.abort)

    def _discard(self, n: int) -> None:
        self._discarded += n
        if self._discarded > MOST_DISCARDED * self._most_bytes:
            self._transport.abort()
            return
        self._transport.pause_reading()
        self._room.strangers.take(self._intake.fast.peer.network, self._read_on)

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _watch_idle(self) -> None:
        """Close a connection on which nothing came in for a while, at little cost to those that ask a lot.

        One that nothing ever came in on has as long as for a head.
        """
        if self._received == self._received_before and self._intake.is_idle:
            self._hang_up()
            return
        self._received_before = self._received
        self._idle.start(self._detectors.settings.idle_timeout_s, self._watch_idle)


def connections(detectors: Detectors, room: Room, tls: ssl.SSLContext | None = None) -> Callable[..., asyncio.Protocol]:
    """What uvicorn takes as its `http` class; with `tls` its connections are secured first."""
    greetings = Greetings(tls, room, detectors.settings.head_timeout_s) if tls is not None else None

    def protocol(
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        other_lane = OtherLane(config, server_state, app_state)
        if greetings is None:
            return Connection(detectors, other_lane, room)
        return Greeting(greetings, server_state.connections, lambda: Connection(detectors, other_lane, room))

    return protocol
