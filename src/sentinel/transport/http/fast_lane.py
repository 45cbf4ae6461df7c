"""The fast lane: plain scoring requests answered without an HTTP framework, on the same port as everything else.

uvicorn makes one `FastLane` for every connection. A complete `POST` to a scoring route with a Content-Length is
answered here. At the first request of any other kind (another path, chunked, `Expect`, malformed, too large) the
connection is handed over to uvicorn's own protocol, with every byte that has not been answered, for the rest of
its life: what is unusual behaves as uvicorn behaves because uvicorn does it.
"""

import asyncio
import ctypes
import socket
import sys
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from sentinel.transport.http.api import Api
from sentinel.transport.http.calls import Call, Route
from sentinel.transport.http.replies import RETRY, Outgoing, Respond, reply_to

LONGEST_HEAD = 65_536
_TCP_INFO = getattr(socket, "TCP_INFO", 0) if sys.platform == "linux" else 0
_getsockopt = ctypes.PyDLL(None).getsockopt  # the event loop's own sockets take three times as long to ask
_tcp_info, _tcp_info_size = (ctypes.c_uint32 * 14)(), ctypes.c_uint32()
_LAST_DATA_RECEIVED = 13  # where `struct tcp_info` has the milliseconds since then
_BEGIN = b"POST /"
_ROUTES = {route.value.encode(): route for route in Route}
_BLANK = b"\r\n\r\n"
_ACCEPTED = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n%s"
_UNUSUAL = {b"transfer-encoding", b"expect", b"upgrade", b"content-encoding", b"origin"}
_READ = {b"content-type", b"x-deadline-ms", b"x-request-id", b"traceparent"}
_REASON = {status.value: status.phrase.encode() for status in HTTPStatus}


class Head(msgspec.Struct):
    """What is needed of a request's head: `call` is None when uvicorn must handle it."""

    call: Call | None = None
    length: int = -1


@lru_cache(maxsize=4096)
def read_head(raw: bytes) -> Head:
    """Parse a head, which ends with an empty line. Clients send the same few again and again."""
    reader = _HeadReader()
    parser = httptools.HttpRequestParser(reader)
    head = Head()
    try:
        parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return head
    if not reader.complete or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
        return head
    given = dict(reader.headers)
    plain = len(given) == len(reader.headers) and parser.should_keep_alive()
    if plain and given.get(b"content-length", b"").isdigit() and not _UNUSUAL & given.keys() and reader.url in _ROUTES:
        head.length = int(given[b"content-length"])
        head.call = Call.of(
            _ROUTES[reader.url], {name.decode(): given[name].decode("latin-1") for name in _READ & given.keys()}
        )
    return head


class _HeadReader:
    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


_NO_HEAD = Head()


class FastLane(asyncio.Protocol):
    """One connection, until it asks for something unusual."""

    def __init__(
        self, api: Api, make_other: Callable[[], HttpToolsProtocol], state: ServerState, idle_s: float
    ) -> None:
        self._api = api
        self._make_other = make_other
        self._state = state
        self._idle_s = idle_s
        self._most_bytes = LONGEST_HEAD + api.settings.max_body_bytes
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._buffer = b""
        self._owes = False  # the answer to a request that was the only one when it came in
        self._replies: deque[list[bytes | None]] = deque()  # those after it
        self._leaving = False
        self._closing = False
        self._received = 0
        self._received_before = -1
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = transport  # type: ignore[assignment]
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._state.connections.add(self)  # type: ignore[arg-type]
        if self._api.worker is not None:
            self._api.worker.welcome()
        self._watch_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        del exc
        self._forget()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: take every complete request."""
        self._received += len(data)
        if not self._buffer and not self._leaving:
            blank = data.find(_BLANK) + 4
            head = read_head(data[:blank]) if blank > 3 else _NO_HEAD
            if head.call is not None and len(data) == blank + head.length <= self._most_bytes:
                body = data[blank:]
                is_known = head.call.may_be_remembered and self._api.predictor.repeats and self._take_repeat(body)
                if not is_known:
                    self._take(head.call, body)
                return
        self._buffer = self._buffer + data if self._buffer else data
        if not self._leaving:
            self._take_requests()

    def pause_writing(self) -> None:
        """Called by the event loop when a client does not read its answers: take no more of its requests."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by the event loop when it has read most of them."""
        if self._transport is not None:
            self._transport.resume_reading()

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops: close once everything is answered."""
        self._closing = True
        self._leave()

    def _take_requests(self) -> None:
        buffer, begin = self._buffer, 0
        while begin < len(buffer):
            blank = buffer.find(_BLANK, begin)
            if blank < 0:
                self._leaving = _is_unusual(buffer, begin)
                break
            head = read_head(buffer[begin : blank + 4])
            if head.call is None or head.length > self._api.settings.max_body_bytes:
                self._leaving = True
                break
            end = blank + 4 + head.length
            if len(buffer) < end:
                break
            self._take(head.call, buffer[blank + 4 : end])
            begin = end
        self._buffer = buffer[begin:]
        self._leave()

    def _take_repeat(self, body: bytes) -> bool:
        """Answer a vector that came before, where its score is remembered; whether that was done."""
        if self._owes or self._replies or self._closing or self._transport is None:
            return False
        known = self._api.predictor.remembered(body)
        if known is None:
            return False
        self._transport.write(_ACCEPTED % (len(known), known))
        return True

    def _take(self, call: Call, body: bytes) -> None:
        if self._owes or self._replies:
            respond = self._stand_in_line()
        else:
            self._owes, respond = True, self._respond
        worker = self._api.worker
        is_behind = worker is not None and worker.is_behind
        self._api.begin(call, body, respond, _unread_ns(self._descriptor) if is_behind else 0)

    def _stand_in_line(self) -> Respond:
        """A place behind the requests that came in before; the reply is written after theirs."""
        place: list[bytes | None] = [None]
        self._replies.append(place)

        def respond(outgoing: Outgoing) -> None:
            place[0] = response_bytes(outgoing)
            self._flush()

        return respond

    def _respond(self, outgoing: Outgoing) -> None:
        """Answer the request before which there was none."""
        self._owes = False
        if self._replies:
            self._replies.appendleft([response_bytes(outgoing)])
            self._flush()
        elif self._transport is not None:
            self._transport.write(response_bytes(outgoing))
            if self._closing or self._leaving:
                self._leave()

    def _flush(self) -> None:
        """Write the replies that are next in line."""
        ready: list[bytes] = []
        while not self._owes and self._replies and (reply := self._replies[0][0]) is not None:
            ready.append(reply)
            self._replies.popleft()
        if ready and self._transport is not None:
            self._transport.write(b"".join(ready))
            self._leave()

    def _leave(self) -> None:
        """Close or hand over when that is due and everything is answered."""
        if self._owes or self._replies or self._transport is None:
            return
        if self._closing:
            self._transport.close()
        elif self._leaving:
            self._hand_over()

    def _hand_over(self) -> None:
        transport, data = self._transport, self._buffer
        if transport is None:
            return
        self._forget()
        self._transport, self._buffer = None, b""
        transport.resume_reading()
        other = self._make_other()
        transport.set_protocol(other)
        other.connection_made(transport)
        other.data_received(data)

    def _forget(self) -> None:
        self._state.connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()

    def _watch_idle(self) -> None:
        """Close a connection on which nothing came in for a while, at little cost to those that ask a lot."""
        if self._transport is None:
            return
        if self._received == self._received_before and not self._owes and not self._replies:
            self._transport.close()
            return
        self._received_before = self._received
        self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._watch_idle)


class OtherLane(HttpToolsProtocol):
    """uvicorn's own protocol, which also closes a connection whose client begins a request and never finishes it."""

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        super().data_received(data)
        self._watch_unfinished()

    def on_response_complete(self) -> None:
        """Called when an answer is written; the next request of the client may have begun already."""
        super().on_response_complete()
        self._watch_unfinished()

    def _watch_unfinished(self) -> None:
        watched = self.timeout_keep_alive_task is not None or self.transport.is_closing()
        unfinished = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        if unfinished and not watched and not self.pipeline:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )


def _unread_ns(descriptor: int) -> int:
    """How long ago the newest bytes came in, to a few milliseconds; 0 where the system does not say."""
    if not _TCP_INFO:
        return 0
    _tcp_info_size.value = ctypes.sizeof(_tcp_info)
    fault = _getsockopt(descriptor, socket.IPPROTO_TCP, _TCP_INFO, _tcp_info, ctypes.byref(_tcp_info_size))
    if fault or _tcp_info_size.value < ctypes.sizeof(_tcp_info):  # not TCP, or gone
        return 0
    return _tcp_info[_LAST_DATA_RECEIVED] * 1_000_000


def _is_unusual(buffer: bytes, begin: int) -> bool:
    """Whether a head that has not ended yet is none of ours: no POST, without carriage returns, or very long."""
    start = buffer[begin : begin + len(_BEGIN)]
    return not _BEGIN.startswith(start) or b"\n\n" in buffer[begin:] or len(buffer) - begin > LONGEST_HEAD


def response_bytes(outgoing: Outgoing) -> bytes:
    """A whole HTTP response, as uvicorn would write it."""
    if type(outgoing) is bytes:
        return _ACCEPTED % (len(outgoing), outgoing)
    reply = reply_to(outgoing)
    headers = {**(RETRY if reply.status == 503 else {}), **(reply.headers or {})}
    more = b"".join(b"%s: %s\r\n" % (name.encode(), _line(text)) for name, text in headers.items())
    return b"HTTP/1.1 %d %s\r\n%scontent-length: %d\r\ncontent-type: %s\r\n\r\n%s" % (
        reply.status,
        _REASON[reply.status],
        more,
        len(reply.body),
        reply.media.encode(),
        reply.body,
    )


def _line(text: str) -> bytes:
    return text.encode("latin-1", "replace").replace(b"\r", b"").replace(b"\n", b"")


def fast_lane(api: Api) -> Callable[..., asyncio.Protocol]:
    """What uvicorn takes as its `http` class."""

    def protocol(
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        def other() -> HttpToolsProtocol:
            return OtherLane(config, server_state, app_state, _loop)

        return FastLane(api, other, server_state, config.timeout_keep_alive)

    return protocol
