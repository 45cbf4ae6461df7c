"""What a request means to a front, without HTTP: bodies become transactions that wait, answers become replies."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec

from sentinel.config import Settings
from sentinel.errors import InvalidInput, NotFound, SentinelError
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.events.times import FARTHEST_AHEAD_US, clock_us, iso
from sentinel.telemetry.counters import Counters, Slot
from sentinel.transport.access.access import Pass
from sentinel.transport.http.api import new_id, patience_ns, usual_ns
from sentinel.transport.http.bodies import items_in
from sentinel.transport.http.calls import Call, Route, wrong_media
from sentinel.transport.http.replies import JSON, NDJSON, Respond, reply_to_batch
from sentinel.transport.wide.front import MOST_ROWS, Answer, Asked, Front

_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


class FrontCalls:
    """Answers `POST /v1/score`, one transaction or up to 256; a front takes nothing else."""

    worker = None
    repeats: Sequence[bytes] = ()

    def __init__(self, settings: Settings, front: Front, counters: Counters) -> None:
        """Raises InvalidDefinition for secrets without a key."""
        self._front, self._counters = front, counters
        self._settings, self._secrets, self._usual_ns = settings, settings.secrets(), usual_ns(settings)
        self._read_by(front.judge.schema)
        self._most = min(settings.max_batch, MOST_ROWS)

    def _read_by(self, schema: Schema) -> None:
        self._reader = TransactionReader(schema, self._secrets, takes_parts=self._settings.parts_of_hashes)
        self._schema = schema
        self._id_of, self._time_of = attrgetter(schema.id), attrgetter(schema.time)
        self._key_of = attrgetter(schema.keys[0] if schema.keys else schema.id)

    @property
    def waiting(self) -> int:
        """Transactions of all callers that have no answer yet."""
        return self._front.waiting

    def remembered(self, _body: bytes) -> bytes | None:
        """Nothing: vectors are not scored here."""
        return None

    def counted(self, _route: Route, error: SentinelError) -> SentinelError:
        """An error that is the answer to a request, counted."""
        self._counters.add(Slot.ERRORS)
        return error

    def begin(self, call: Call, body: bytes, received_ns: int, respond: Respond, let_in: Pass) -> None:
        """Answer a body that came in then; `respond` is called with the reply, in the loop."""
        try:
            self._begin(call, body, received_ns, respond, let_in)
        except SentinelError as error:
            respond(self.counted(call.route, error))
        except Exception:  # noqa: BLE001 - a fault of ours must not leave a client without an answer
            _log.exception("a request was not answered", extra={"request_id": call.shown_id})
            respond(self.counted(call.route, SentinelError("Something went wrong inside; nothing was stored")))

    def _begin(self, call: Call, body: bytes, received_ns: int, respond: Respond, let_in: Pass) -> None:
        if call.route is not Route.SCORE:
            raise NotFound(
                f"A front answers {Route.SCORE} alone; outcomes and events go to their topics, and vectors to a server"
            )
        if call.kind is None:
            raise wrong_media(call.media, JSON, NDJSON)
        items = items_in(body, call.kind, self._most)
        if items is not None:
            let_in.charge(len(items) - 1)
        patience = self._usual_ns if call.deadline_ms is None else patience_ns(self._settings, call.deadline_ms)
        times_ns = received_ns, received_ns + patience
        self._ask([body] if items is None else items, times_ns, let_in, self._replying(call, respond, items))

    def _replying(self, call: Call, respond: Respond, items: Sequence[Any] | None) -> Callable[[list[Answer]], None]:
        """What is called with all answers of a request."""

        def reply(answers: list[Answer]) -> None:
            errors = sum(isinstance(one, SentinelError) for one in answers)
            self._counters.add(Slot.ERRORS, errors)
            if items is not None:
                respond(reply_to_batch(answers, lines=call.kind == "lines"))
            else:
                respond(answers[0] if isinstance(answers[0], SentinelError) else _encode(answers[0]))

        return reply

    def _ask(
        self, items: Sequence[Any], times_ns: tuple[int, int], let_in: Pass, reply: Callable[[list[Answer]], None]
    ) -> None:  # fmt: skip
        """Have every item answered; an item that cannot be read has its own error."""
        answers: list[Any] = [None] * len(items)
        left = len(items)

        def settle(place: int, answer: Answer) -> None:
            nonlocal left
            answers[place], left = answer, left - 1
            if left == 0:
                reply(answers)

        for place, raw in enumerate(items):
            try:
                asked = self._asked(raw, times_ns, let_in.caller.name)
                asked.reply = partial(settle, place)
                self._front.put(asked)
            except SentinelError as error:
                error.__traceback__ = error.__context__ = None  # it is kept as an answer, by what it leads to
                settle(place, error)
            except Exception:  # noqa: BLE001 - a fault of ours with one item is not the others' either
                _log.exception("a transaction was not read")
                settle(place, SentinelError("Something went wrong inside; nothing was stored"))

    def _asked(self, raw: Any, times_ns: tuple[int, int], caller: str) -> Asked:
        """A transaction that was read. Raises BadBody, InvalidInput."""
        if self._schema is not self._front.judge.schema:  # another model decides by now
            self._read_by(self._front.judge.schema)
        event, now_us = self._reader.decode(raw), clock_us()
        if self._schema.assigns:
            self._schema.assign(event, new_id())
        is_timeless = self._time_of(event) is None
        if is_timeless:
            setattr(event, self._schema.time, now_us)
        elif self._time_of(event) > now_us + FARTHEST_AHEAD_US:
            raise InvalidInput(
                f"Expected a time at most a day ahead of now ({iso(now_us)}), got {iso(self._time_of(event))}",
                f"$.{self._schema.time}",
            )
        name = self._id_of(event)
        return Asked(
            name, self._key_of(event) or name, event, self._schema.encode(event), is_timeless, *times_ns,
            caller, _nobody,
        )  # fmt: skip


def _nobody(_answer: Answer) -> None:
    """Replies to nobody yet."""
