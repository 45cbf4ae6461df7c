"""The intake of a connection: which of its requests are taken when, and who answers them.

A connection that sends much is not read on until what it has sent was answered, and its requests are taken in shares,
one in a turn of the event loop: others have their turns between.
"""

import asyncio
import time
from collections.abc import Callable

from sentinel.errors import Crowded, SentinelError, TooSlow
from sentinel.transport.access.access import ANYONE
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.fast_lane import FastLane
from sentinel.transport.http.other_lane import Exchange, OtherLane
from sentinel.transport.http.wire.heads import Head
from sentinel.transport.http.wire.request_reader import RequestReader
from sentinel.transport.http.wire.room import LARGE, Room
from sentinel.transport.http.wire.timer import Timer
from sentinel.transport.http.wire.turns import Turn

MOST_PIPELINED, MOST_PIPELINED_BYTES = 16, 65_536
"""Requests of one connection that are taken in a turn, or have no answer yet, and the bytes of their bodies, or one
request more."""

SHARE_NS = 1_000_000
"""What reading them may take in a turn, or one request more: a small batch can be much work."""

ROOM_FOR_PIPELINED = 256
"""While so much waits, of all callers, a connection's next request waits for the answer to the one before."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


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
        self.fast = FastLane(detectors, transport, room, self._all_answered, self._turned_away)
        self.is_free = True
        """Nothing is owed, kept or held up: what comes in is the beginning of a request."""
        self.ends = False
        """Nothing more is taken."""
        self.has_eof = False
        """The client sends nothing more."""
        self.who: str | None = None
        """Whom the key of the request was made for that is not whole; None as long as nobody is known."""

        self._detectors, self._other_lane, self._room = detectors, other_lane, room
        self._transport, self._over = transport, over
        self._reader = RequestReader(detectors.settings.max_body_bytes)
        self._unfinished = Timer()
        self._turn: asyncio.Handle | None = None
        self._waits: tuple[Head, bytes] | None = None  # for the answers before it; then the application has it
        self._exchange: Exchange | None = None
        self._is_at_rest = True  # free but for what is owed
        self._is_held = self._takes_health_only = self._was_told_to_continue = False
        self._owed_bytes = 0
        self._looked_at: Head | None = None
        self._turn_of_exchange: Turn | None = None

    def receive(self, data: bytes) -> None:
        """Take what has come in, or a share of it."""
        self._reader.feed(data)
        if self._turn is None:
            self._take_share()
        else:
            self._count_kept()

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
        call = None if self._reader.head is None else self._reader.head.call
        self.fast.put_last(error if call is None else self._detectors.refuse(call, error, self.fast.peer))

    def give_way(self) -> None:
        """Take nothing more: others have no room. What was taken is answered."""
        if self._waits is None and self._exchange is None:
            self.refuse(
                Crowded("Requests that are not whole, or not answered, take too much memory; retry in a second")
            )
        else:
            self.end()

    def end(self) -> None:
        """Take nothing more; what was taken is answered."""
        self._stop_taking()
        if self._exchange is not None:
            self._exchange.cycle.keep_alive = False
        elif self._waits is None and self.fast.owed == 0:
            self._over()

    def drop(self) -> None:
        """The client has gone."""
        self._turned_away()
        if self._turn_of_exchange is not None:
            self._turn_of_exchange.cancel()
        self.fast.close()
        if self._exchange is not None:
            self._exchange.disconnect()

    def _stop_taking(self) -> None:
        self.ends, self.is_free, self._is_at_rest = True, False, False
        self._unfinished.stop()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._room.keep(self, 0)
        self._reader = RequestReader(0)

    def _turned_away(self) -> None:
        """The last answer is in line."""
        self._stop_taking()
        self._waits = None

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
        if not self.ends:
            self._look_at_head()
        if not self.ends:
            self._count_kept()
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
        self._looked_at = self.who = None
        if self._takes_health_only and not head.target.startswith(b"/health"):
            self.refuse(self._room.crowded())
        elif head.plain is not None:
            self._owed_bytes += len(body)
            self.fast.take(head.plain, body)
        else:
            self._waits = head, body
            if self.fast.owed == 0:
                self._await_exchange()

    def _await_more(self) -> None:
        """No whole request is here: go on reading, for as long as the client may take."""
        if self.has_eof:
            self.end()
        elif self._reader.is_clean:
            self._is_at_rest, self.is_free = True, self.fast.owed == 0 and not self._takes_health_only
            self._transport.resume_reading()
        else:
            self._watch_unfinished()
            self._transport.resume_reading()

    def _count_kept(self) -> None:
        """Count what is here of requests that were not taken; where there is no room for it, someone gives way."""
        self._room.keep(self, self._reader.kept)

    def _look_at_head(self) -> None:
        """Refuse a request whose body is not whole as soon as its head says who asks: of strangers none is kept."""
        head = self._reader.head
        if head is None or head is self._looked_at:
            return
        self._looked_at = head
        try:
            let_in = self._detectors.access.find(head.claims, self.fast.peer)
        except SentinelError as error:
            self.fast.put_last(error)
        else:
            self.who = None if let_in.caller is ANYONE else let_in.who

    def _watch_unfinished(self) -> None:
        head, settings = self._reader.head, self._detectors.settings
        part, after_s = ("head", settings.head_timeout_s) if head is None else ("body", settings.body_timeout_s)
        self._unfinished.start_unless_running(part, after_s, self._is_late)
        if head is not None and head.expects and not self._was_told_to_continue:
            self._was_told_to_continue = True
            self.fast.put_in_line(_CONTINUE)

    def _is_late(self, part: str, after_s: float) -> None:
        self.refuse(TooSlow(f"The request's {part} took more than {after_s:g} s to arrive; send it in one go"))

    def _await_exchange(self) -> None:
        """Everything before the request that waits for the application is answered: it waits for its turn."""
        if self._waits is None:
            return
        head, body = self._waits
        let_in = self._detectors.access.remembered(head.claims, self.fast.peer)
        if let_in is None or let_in.caller is ANYONE:
            turns, who = self._room.strangers, self.fast.peer.network
        else:
            turns, who = self._room.known, let_in.who
        self._turn_of_exchange = turns.take(who, self._begin_exchange, 1 + len(body) // LARGE)

    def _begin_exchange(self) -> None:
        """Have the application answer the request that waits for it."""
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
            self._await_exchange()
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
