"""The intake of a connection: which of its requests are taken when, and who answers them.

A connection that sends much is not read on until what it has sent was answered, and its requests are taken in shares,
one in a turn of the event loop: others have their turns between.
"""

import asyncio
import time
from collections.abc import Callable

import msgspec

from sentinel.errors import Crowded, SentinelError, TooSlow
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.fast_lane import FastLane, response_bytes
from sentinel.transport.http.heads import Head
from sentinel.transport.http.other_lane import Exchange, OtherLane
from sentinel.transport.http.replies import reply_to
from sentinel.transport.http.request_reader import RequestReader
from sentinel.transport.http.room import Room
from sentinel.transport.http.timer import Timer

MOST_PIPELINED, MOST_PIPELINED_BYTES = 16, 65_536
"""Requests of one connection that are taken in a turn, or have no answer yet, and the bytes of their bodies, or one
request more."""

SHARE_NS = 1_000_000
"""What reading them may take in a turn, or one request more: a small batch can be much work."""

ROOM_FOR_PIPELINED = 256
"""While so much waits, of all callers, a connection's next request waits for the answer to the one before."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = {"connection": "close"}


class Intake:
    """The requests of one connection. `over` is called when nothing more is read, and everything is answered."""

    def __init__(
        self,
        detectors: Detectors,
        other_lane: OtherLane,
        room: Room,
        transport: asyncio.Transport,
        over: Callable[[], None],
    ) -> None:
        self.fast = FastLane(detectors, transport, self._all_answered)
        self.is_free = True
        """Nothing is owed, kept or held up: what comes in is the beginning of a request."""
        self.ends = False
        """Nothing more is taken."""
        self.has_eof = False
        """The client sends nothing more."""

        self._detectors, self._other_lane, self._room = detectors, other_lane, room
        self._transport, self._over = transport, over
        self._reader = RequestReader(detectors.settings.max_body_bytes)
        self._unfinished = Timer()
        self._turn: asyncio.Handle | None = None
        self._waits: tuple[Head, bytes] | None = None  # for the answers before it; then the application has it
        self._exchange: Exchange | None = None
        self._is_at_rest = True  # free but for what is owed
        self._is_held = self._takes_health_only = self._was_told_to_continue = False
        self._owed_bytes = self._kept = 0

    def receive(self, data: bytes) -> None:
        """Take what has come in, or a share of it."""
        self._reader.feed(data)
        if self._turn is None:
            self._take_share()

    def receive_end(self) -> bool:
        """The client sends nothing more; whether something has to be answered yet, and can be."""
        self.has_eof = True
        self._turn_soon()
        owes = self.fast.owed > 0 or self._waits is not None or self._exchange is not None
        return self._transport.can_write_eof() and (owes or (not self.ends and not self._is_at_rest))

    @property
    def is_idle(self) -> bool:
        """The client has sent no part of a request, and is owed nothing."""
        return self._is_at_rest and self.fast.owed == 0

    def take_health_only(self) -> None:
        """Refuse all but health checks, and take only one request."""
        self._takes_health_only, self.is_free = True, False

    def hold(self) -> None:
        """Take nothing: the client does not read its answers."""
        self._is_held, self.is_free, self._is_at_rest = True, False, False
        self._transport.pause_reading()
        if self._exchange is not None:
            self._exchange.cycle.flow.pause_writing()

    def go_on(self) -> None:
        """Take requests again."""
        self._is_held = False
        if self._exchange is not None:
            self._exchange.cycle.flow.resume_writing()
        self._turn_soon()

    def refuse(self, error: SentinelError) -> None:
        """Answer this after all that was taken, and take nothing more."""
        head = self._reader.head
        reply = reply_to(error) if head is None or head.call is None else self._detectors.refuse(head.call, error)
        self._stop_taking()
        self.fast.put_in_line(
            response_bytes(msgspec.structs.replace(reply, headers={**(reply.headers or {}), **_CLOSE}))
        )

    def end(self) -> None:
        """Take nothing more; what was taken is answered."""
        self._stop_taking()
        if self._exchange is not None:
            self._exchange.cycle.keep_alive = False
        elif self._waits is None and self.fast.owed == 0:
            self._over()

    def drop(self) -> None:
        """The client has gone."""
        self._stop_taking()
        self._waits = None
        self.fast.close()
        if self._exchange is not None:
            self._exchange.disconnect()

    def _stop_taking(self) -> None:
        self.ends, self.is_free, self._is_at_rest = True, False, False
        self._unfinished.stop()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._room.unfinished_bytes -= self._kept
        self._kept = 0
        self._reader = RequestReader(0)

    def _take_share(self) -> None:
        """Take this turn's share of the requests that are here."""
        self.is_free = self._is_at_rest = False
        taken, is_short, end_ns = 0, False, time.monotonic_ns() + SHARE_NS
        while taken < MOST_PIPELINED and not is_short and time.monotonic_ns() < end_ns and self._may_take():
            try:
                found = self._reader.next()
            except SentinelError as error:
                self.refuse(error)
                return
            is_short = found is None
            if found is not None:
                taken += 1
                self._take(*found)
        if self.ends:
            return
        if is_short and taken == 0:
            self._await_more()
        else:
            self._transport.pause_reading()
            if self._may_take():
                self._turn_soon()

    def _may_take(self) -> bool:
        if self.ends or self._is_held or self._waits is not None or self._exchange is not None:
            return False
        owed = self.fast.owed
        return owed == 0 or (
            owed < MOST_PIPELINED
            and self._owed_bytes < MOST_PIPELINED_BYTES
            and self._detectors.waiting < ROOM_FOR_PIPELINED
        )

    def _take(self, head: Head, body: bytes) -> None:
        self._unfinished.stop()
        self._was_told_to_continue = False
        if self._takes_health_only and not head.target.startswith(b"/health"):
            self.refuse(self._room.crowded())
        elif head.plain is not None:
            self._owed_bytes += len(body)
            self.fast.take(head.plain, body)
        else:
            self._waits = head, body
            if self.fast.owed == 0:
                self._begin_exchange()

    def _await_more(self) -> None:
        """No whole request is here: go on reading, for as long as the client may take."""
        self._room.unfinished_bytes += self._reader.kept - self._kept
        self._kept = self._reader.kept
        if self.has_eof:
            self.end()
        elif self._room.is_full and self._kept:
            self.refuse(Crowded("Requests that are not whole take too much memory; retry in a second"))
        elif self._reader.is_clean:
            self._is_at_rest, self.is_free = True, self.fast.owed == 0 and not self._takes_health_only
            self._transport.resume_reading()
        else:
            self._watch_unfinished()
            self._transport.resume_reading()

    def _watch_unfinished(self) -> None:
        head, settings = self._reader.head, self._detectors.settings
        part, after_s = ("head", settings.head_timeout_s) if head is None else ("body", settings.body_timeout_s)
        self._unfinished.start_unless_running(part, after_s, self._is_late)
        if head is not None and head.expects and not self._was_told_to_continue:
            self._was_told_to_continue = True
            self.fast.put_in_line(_CONTINUE)

    def _is_late(self, part: str, after_s: float) -> None:
        self.refuse(TooSlow(f"The request's {part} took more than {after_s:g} s to arrive; send it in one go"))

    def _begin_exchange(self) -> None:
        """Have the application answer the request that waits for it; everything before it is answered."""
        if self._waits is not None:
            (head, body), self._waits = self._waits, None
            self._exchange = self._other_lane.begin(head, body, self._transport, self._exchange_is_over)
            if self.ends or self._takes_health_only:
                self._exchange.cycle.keep_alive = False

    def _exchange_is_over(self, keeps: bool) -> None:
        self._exchange = None
        if keeps:
            self._turn_soon()
        else:
            self.end()

    def _all_answered(self) -> None:
        """The fast lane owes nothing."""
        self._owed_bytes = 0
        if self._is_at_rest:
            self.is_free = True
        elif self._waits is not None:
            self._begin_exchange()
        elif self.ends:
            self._over()
        else:
            self._turn_soon()

    def _turn_soon(self) -> None:
        """Take the next share in another turn of the loop, after others had theirs."""
        if self._turn is None and not self.ends:
            self._turn = asyncio.get_running_loop().call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        self._turn = None
        self._take_share()
