"""The detectors of a server: who asks is let in, and to which of them.

Calls for decisions usually come through the fast lane (`fast_lane.py`) and only in unusual shapes through the routes of
`routes.py`. Both lanes meet in `Detectors.begin`.
"""

import asyncio
import logging
import time
from collections.abc import Container, Mapping, Set
from typing import Protocol

import msgspec

from sentinel.config import Settings
from sentinel.errors import NotFound, NotReady, SentinelError, Unauthorized
from sentinel.events.card_numbers import quoted
from sentinel.homes import Place
from sentinel.serve.worker import Worker
from sentinel.telemetry.tracing import Tracer, parse_traceparent
from sentinel.transport.access.access import Access, Pass
from sentinel.transport.access.claims import NOBODY, Claims, Peer
from sentinel.transport.http.calls import Call, Route
from sentinel.transport.http.replies import Outgoing, Reply, Respond, TurnedAway, reply_to

_log = logging.getLogger(__name__)


class DetectorCalls(Protocol):
    """What answers the scoring calls of one detector: the `Api` of a server, or the calls of a wide front.

    `worker` is None where no transactions are decided in turns of the loop.
    """

    @property
    def worker(self) -> Worker | None:
        """What decides transactions."""

    @property
    def waiting(self) -> int:
        """What waits for its turn, of all callers."""

    @property
    def repeats(self) -> Container[bytes]:
        """Vectors that came before."""

    def remembered(self, body: bytes) -> bytes | None:
        """The answer to a vector that came before, where its score is remembered."""

    def begin(self, call: Call, body: bytes, received_ns: int, respond: Respond, let_in: Pass) -> None:
        """Answer a body; `respond` is called with the reply, in the loop."""

    def counted(self, route: Route, error: SentinelError) -> SentinelError:
        """An error that is the answer to a request, counted."""


class Detectors:
    """What answers for every detector, by its place. A caller finds those of its own tenant only; others are not there.

    `away` are the places of those that could not be opened.
    """

    def __init__(
        self,
        settings: Settings,
        access: Access,
        tracer: Tracer,
        apis: Mapping[Place, DetectorCalls],
        away: Set[Place] = frozenset(),
    ) -> None:
        self.settings = settings
        self.access = access
        self._tracer = tracer
        self._away = away
        self._apis: dict[tuple[str, str], DetectorCalls] = dict(apis.items())
        self._own = apis[Place()]
        self._all = tuple(apis.values())
        self._workers = tuple(one.worker for one in self._all if one.worker is not None)
        self._repeats = tuple(one.repeats for one in self._all)

    @property
    def waiting(self) -> int:
        """Transactions, outcomes and vectors of all callers that wait for their turn."""
        return sum([one.waiting for one in self._all])

    @property
    def is_behind(self) -> bool:
        """Whether what is read now may have lain unread for a while."""
        for worker in self._workers:  # noqa: SIM110 - `any` takes a microsecond more, and every request comes by
            if worker.is_behind:
                return True
        return False

    def names_of(self, tenant: str) -> list[str]:
        """The names of a tenant's detectors; the one without a name is not among them."""
        return sorted(detector for whose, detector in self._apis if whose == tenant and detector)

    def close(self) -> None:
        """Send what is left of traces; from another thread than the loop's."""
        self._tracer.close()

    def welcome(self) -> None:
        """Note a new connection: its first request may not have been read yet."""
        for worker in self._workers:
            worker.welcome()

    def remembered(self, call: Call, body: bytes, peer: Peer) -> bytes | None:
        """The answer to a vector that came before, where its score is remembered and the caller is known."""
        for repeats in self._repeats:
            if repeats and body in repeats:
                break
        else:
            return None
        let_in = self.access.remembered(call.claims, peer)
        api = None if let_in is None else self._apis.get((let_in.tenant, call.detector))
        if let_in is None or api is None:
            return None
        known = api.remembered(body)
        return known if known is not None and let_in.take_one() else None

    def begin(self, call: Call, body: bytes, respond: Respond, unread_ns: int = 0, peer: Peer = NOBODY) -> None:
        """Answer a body that came from this peer `unread_ns` ago; `respond` is called with the reply, in the loop."""
        received_ns = time.monotonic_ns() - unread_ns
        try:
            let_in = self.access.admit(call.claims, peer)
        except SentinelError as error:  # not one of ours: nothing to count among transactions, or to trace
            respond(self.turned_away(error, call.claims))
            return
        if call.is_traced:
            respond = self._traced(call, received_ns, respond)
        api = self._apis.get((let_in.tenant, call.detector))
        if api is None:
            respond(self._not_here(Place(let_in.tenant, call.detector)))
            return
        api.begin(call, body, received_ns, respond, let_in)

    async def answer(self, call: Call, body: bytes, peer: Peer) -> Reply:
        """The same for callers that can wait."""
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(outgoing: Outgoing) -> None:
            if not waiting.done():
                waiting.set_result(reply_to(outgoing))

        self.begin(call, body, respond, peer=peer)
        return await waiting

    def turned_away(self, error: SentinelError, claims: Claims) -> SentinelError | TurnedAway:
        """The answer to a request that was not let in; a connection of nobody's key is closed with it."""
        keeps = not isinstance(error, Unauthorized) and self.access.has_key(claims)
        return error if keeps else TurnedAway(error)

    def refuse(self, call: Call, error: SentinelError, peer: Peer) -> Reply | TurnedAway:
        """The reply to a request whose body could not be taken. Of a caller who is not let in nothing is counted."""
        try:
            self.access.find(call.claims, peer)
        except SentinelError as other:
            return TurnedAway(other)
        found: list[Outgoing] = []
        respond: Respond = found.append
        if call.is_traced:
            respond = self._traced(call, time.monotonic_ns(), respond)
        respond(self._own.counted(call.route, error))
        return reply_to(found[0])

    def admit(self, claims: Claims, peer: Peer, detector: str) -> tuple[Pass, Place]:
        """Let any other call in, and say whose detector it is for.

        Raises Unauthorized, Forbidden, RateLimited, NotFound.
        """
        let_in = self.access.admit(claims, peer)
        place = Place(let_in.tenant, detector)
        if place not in self._apis:
            raise self._not_here(place)
        return let_in, place

    def _not_here(self, place: Place) -> SentinelError:
        named = quoted(place.detector) if place.detector else "without a name"
        if place in self._away:
            return NotReady(f"The detector {named} could not be opened at the start; the server's log says why")
        return NotFound(f"There is no detector {named} here")

    def _traced(self, call: Call, received_ns: int, respond: Respond) -> Respond:
        """The same, with what belongs to the request's trace in the reply."""
        parent = parse_traceparent(call.traceparent) if call.traceparent else None

        def finish(outgoing: Outgoing) -> None:
            reply = reply_to(outgoing)
            span = self._tracer.span(
                f"POST {call.route}", parent, received_ns, time.monotonic_ns(),
                {"http.response.status_code": reply.status, "request_id": call.shown_id or ""},
            )  # fmt: skip
            headers = dict(reply.headers or {})
            if call.shown_id:
                headers["x-request-id"] = call.shown_id
            if span is not None:
                headers["traceparent"] = span.header
            if reply.status >= 500:
                _log.warning(
                    "answered %d: %s", reply.status, reply.body.decode(),
                    extra={"request_id": call.request_id, "trace_id": parent.trace_id if parent else None},
                )  # fmt: skip
            respond(msgspec.structs.replace(reply, headers=headers))

        return finish
