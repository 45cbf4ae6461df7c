"""The fast lane: plain scoring calls of one connection, answered without an HTTP framework.

They are begun at once and answered in the order in which they came in.
"""

import asyncio
import ctypes
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

from sentinel.errors import Overloaded, SentinelError
from sentinel.transport.access.claims import Peer
from sentinel.transport.http.calls import Call
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.replies import RETRY, Outgoing, Respond, TurnedAway, closing, reply_to
from sentinel.transport.http.wire.room import LARGE, Room
from sentinel.transport.http.wire.turns import Turn

_TCP_INFO = getattr(socket, "TCP_INFO", 0) if sys.platform == "linux" else 0
_getsockopt = ctypes.PyDLL(None).getsockopt  # the event loop's own sockets take three times as long to ask
_tcp_info, _tcp_info_size = (ctypes.c_uint32 * 14)(), ctypes.c_uint32()
_LAST_DATA_RECEIVED = 13  # where `struct tcp_info` has the milliseconds since then
_ACCEPTED = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n%s"
_REASON = {status.value: status.phrase.encode() for status in HTTPStatus}


class FastLane:
    """Scoring calls of one connection.

    `all_answered` is called when an answer was written and no other is owed, `turned_away` when nothing more will be:
    the caller is told so in a turn for strangers.
    """

    def __init__(
        self,
        detectors: Detectors,
        transport: asyncio.Transport,
        room: Room,
        all_answered: Callable[[], None],
        turned_away: Callable[[], None],
    ) -> None:
        self.peer = Peer.of(transport.get_extra_info("peername"))
        self._detectors = detectors
        self._transport = transport
        self._room = room
        self._all_answered = all_answered
        self._turned_away = turned_away
        self._turns: list[Turn] = []  # of the last answer, and of large bodies
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._is_open = True
        self._ends = False  # the last answer is in line
        self._owes = False  # the answer to a request that was the only one when it came in
        self._replies: deque[list[bytes | None]] = deque()  # those after it

    @property
    def owed(self) -> int:
        """Requests that have no answer yet."""
        return self._owes + len(self._replies)

    def close(self) -> None:
        """The client has gone: answers are for nobody."""
        self._is_open = False
        for turn in self._turns:
            turn.cancel()
        self._turns.clear()

    def take_repeat(self, call: Call, body: bytes) -> bool:
        """Answer a vector that came before, where its score is remembered; whether that was done.

        Nothing may be owed.
        """
        known = self._detectors.remembered(call, body, self.peer)
        if known is None:
            return False
        self._transport.write(_ACCEPTED % (len(known), known))
        return True

    def take(self, call: Call, body: bytes) -> None:
        """Begin a call."""
        if self._owes or self._replies:
            respond = self.stand_in_line()
        else:
            self._owes, respond = True, self._respond
        unread_ns = _unread_ns(self._descriptor) if self._detectors.is_behind else 0
        if len(body) > LARGE:
            self._begin_in_turn(call, body, respond, unread_ns)
        else:
            self._detectors.begin(call, body, respond, unread_ns, self.peer)

    def _begin_in_turn(self, call: Call, body: bytes, respond: Respond, unread_ns: int) -> None:
        """Begin a call with a large body in its caller's turn. Behind others of the same caller it has not come yet."""
        room, size = self._room, len(body)
        try:
            who = self._detectors.access.find(call.claims, self.peer).who
        except SentinelError as error:
            respond(self._detectors.turned_away(error, call.claims))
            return
        try:
            room.large_bytes.take(who, size)
        except Overloaded as error:
            respond(self._detectors.refuse(call, error, self.peer))
            return

        def begin() -> None:
            self._turns.remove(turn)
            room.large_bytes.give_back(who, size)
            waited_ns = time.monotonic_ns() - turn.first_ns
            self._detectors.begin(call, body, respond, unread_ns + waited_ns, self.peer)

        turn = room.large.take(who, begin, size)
        turn.when_cancelled = lambda: room.large_bytes.give_back(who, size)
        self._turns.append(turn)

    def stand_in_line(self) -> Respond:
        """A place behind the requests that came in before; the reply is written after theirs."""
        place: list[bytes | None] = [None]
        self._replies.append(place)

        def respond(outgoing: Outgoing) -> None:
            if type(outgoing) is TurnedAway:
                self._end_with(place, outgoing)
                return
            place[0] = response_bytes(outgoing)
            self._flush()

        return respond

    def put_in_line(self, written: bytes) -> None:
        """Write these bytes once all requests that came in before are answered."""
        self._replies.append([written])
        self._flush()

    def put_last(self, outgoing: Outgoing) -> None:
        """Answer with this once all requests that came in before are answered; nothing comes after it."""
        place: list[bytes | None] = [None]
        self._replies.append(place)
        self._end_with(place, outgoing)

    def _end_with(self, place: list[bytes | None], outgoing: Outgoing) -> None:
        """Have the last answer written in its place, when it is the turn of such; those after it are for nobody."""
        if self._ends:
            return
        self._ends = True
        while self._replies[-1] is not place:
            self._replies.pop()

        def write() -> None:
            place[0] = response_bytes(closing(reply_to(outgoing)))
            self._flush()

        self._turns.append(self._room.strangers.take(self.peer.network, write))
        self._turned_away()

    def _respond(self, outgoing: Outgoing) -> None:
        """Answer the request before which there was none."""
        self._owes = False
        if type(outgoing) is TurnedAway:
            place: list[bytes | None] = [None]
            self._replies.appendleft(place)
            self._end_with(place, outgoing)
        elif self._replies:
            self._replies.appendleft([response_bytes(outgoing)])
            self._flush()
        elif self._is_open:
            self._transport.write(response_bytes(outgoing))
            self._all_answered()

    def _flush(self) -> None:
        """Write the replies that are next in line."""
        ready: list[bytes] = []
        while not self._owes and self._replies and (reply := self._replies[0][0]) is not None:
            ready.append(reply)
            self._replies.popleft()
        if ready and self._is_open:
            self._transport.write(b"".join(ready))
            if not self._replies:
                self._all_answered()


def _unread_ns(descriptor: int) -> int:
    """How long ago the newest bytes came in, to a few milliseconds; 0 where the system does not say."""
    if not _TCP_INFO:
        return 0
    _tcp_info_size.value = ctypes.sizeof(_tcp_info)
    fault = _getsockopt(descriptor, socket.IPPROTO_TCP, _TCP_INFO, _tcp_info, ctypes.byref(_tcp_info_size))
    if fault or _tcp_info_size.value < ctypes.sizeof(_tcp_info):  # not TCP, or gone
        return 0
    return _tcp_info[_LAST_DATA_RECEIVED] * 1_000_000


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
