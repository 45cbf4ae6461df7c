"""What a request for a decision means, without HTTP.

Such calls usually come through the fast lane (`fast_lane.py`) and only in unusual shapes through the routes of
`routes.py`. Both lanes call `Api.begin`.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sentinel.config import Settings
from sentinel.errors import BadBody, InvalidInput, NotReady, SentinelError, TooLarge, WrongMedia
from sentinel.events.columns import Outcome
from sentinel.events.schema import Schema, Transaction, read_json, text_of
from sentinel.events.times import FARTHEST_AHEAD_US, instant_us, iso
from sentinel.serve.batch import Answer, Answers, Decision, Event, Noted
from sentinel.serve.queue import Request
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.worker import Worker
from sentinel.telemetry.tracing import Tracer, parse_traceparent
from sentinel.transport.http.calls import Call, Route
from sentinel.transport.http.replies import JSON, NDJSON, Outgoing, Reply, Respond, reply_to, reply_to_batch

_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode

_WAITING_NS_PER_MS = 500_000
"""Of a deadline. The rest is for recording the decision and sending the answer: a request that has waited longer
is shed."""

_NO_ERRORS = {Decision, Noted}
_PREDICT, _SCORE, _OUTCOMES = Route  # an attribute of an enumeration costs ten times a global


class _OutcomeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An outcome on the wire; without a time it became known now."""

    transaction_id: str | int
    is_fraud: bool
    time: str | int | float | None = None


_decode_outcome = msgspec.json.Decoder(_OutcomeBody).decode


class Api:
    """Reads bodies, passes their content to the worker or predictor, and sends the replies.

    `worker` is None where only vectors are scored.
    """

    def __init__(self, settings: Settings, predictor: Predictor, worker: Worker | None, tracer: Tracer) -> None:
        self.settings = settings
        self.predictor = predictor
        self.worker = worker
        self.tracer = tracer
        self._patience_ns = int(_WAITING_NS_PER_MS * settings.deadline_ms)

    def begin(self, call: Call, body: bytes, respond: Respond, unread_ns: int = 0) -> None:
        """Answer a body that arrived `unread_ns` ago; `respond` is called with the reply, in the loop."""
        received_ns = time.monotonic_ns() - unread_ns
        if call.is_traced:
            respond = self._traced(call, received_ns, respond)
        patience_ns = self._patience_ns if call.deadline_ms is None else int(_WAITING_NS_PER_MS * call.deadline_ms)
        due_ns = received_ns + patience_ns
        try:
            if call.route is _PREDICT:
                self.predictor.ask(body, received_ns, due_ns, respond)
            elif call.route is _SCORE:
                self._begin_transactions(call, body, (received_ns, due_ns), respond)
            else:
                self._begin_outcomes(call, body, (received_ns, due_ns), respond)
        except SentinelError as error:
            self._refuse(call.route, error, respond)
        except Exception:  # noqa: BLE001 - a fault of ours must not leave a client without an answer
            _log.exception("a request was not answered", extra={"request_id": call.request_id})
            self._refuse(call.route, SentinelError("Something went wrong inside; nothing was stored"), respond)

    async def answer(self, call: Call, body: bytes) -> Reply:
        """The same for callers that can wait."""
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.begin(call, body, lambda outgoing: None if waiting.done() else waiting.set_result(reply_to(outgoing)))
        return await waiting

    def refuse(self, call: Call, error: SentinelError) -> Reply:
        """The reply to a request whose body could not be taken."""
        found: list[Outgoing] = []
        respond: Respond = found.append
        if call.is_traced:
            respond = self._traced(call, time.monotonic_ns(), respond)
        self._refuse(call.route, error, respond)
        return reply_to(found[0])

    def _refuse(self, route: Route, error: SentinelError, respond: Respond) -> None:
        self._count_errors(route, [error])
        respond(error)

    def _count_errors(self, route: Route, answers: Answers) -> None:
        if route is not _OUTCOMES and not set(map(type, answers)) <= _NO_ERRORS:
            self.predictor.count_errors(sum(isinstance(answer, SentinelError) for answer in answers))

    def _traced(self, call: Call, received_ns: int, respond: Respond) -> Respond:
        """The same, with what belongs to the request's trace in the reply."""
        parent = parse_traceparent(call.traceparent) if call.traceparent else None

        def finish(outgoing: Outgoing) -> None:
            reply = reply_to(outgoing)
            span = self.tracer.span(
                f"POST {call.route}", parent, received_ns, time.monotonic_ns(),
                {"http.response.status_code": reply.status, "request_id": call.request_id or ""},
            )  # fmt: skip
            headers = {"x-request-id": call.request_id} if call.request_id else {}
            if span is not None:
                headers["traceparent"] = span.header
            if reply.status >= 500:
                _log.warning(
                    "answered %d: %s", reply.status, reply.body.decode(),
                    extra={"request_id": call.request_id, "trace_id": parent.trace_id if parent else None},
                )  # fmt: skip
            respond(msgspec.structs.replace(reply, headers=headers))

        return finish

    def _begin_transactions(self, call: Call, body: bytes, times_ns: tuple[int, int], respond: Respond) -> None:
        worker = self.deciding()
        schema = worker.ready_engine().schema
        is_one = call.kind == "json" and body[:1] == b"{"
        transactions = None if is_one else self._whole_array(call, body, schema)
        if transactions is not None:

            def finish(answers: Answers) -> None:
                self._count_errors(_SCORE, answers)
                respond(reply_to_batch(answers, lines=False))

            worker.put(Request(transactions, *times_ns, finish))
            return
        items = None if is_one else self._items(body, call)
        if items is not None:
            self._begin_batch(call, items, lambda raw: self._transaction(schema, raw), times_ns, respond)
            return

        def finish_one(answers: Answers) -> None:
            self._count_errors(_SCORE, answers)
            answer = answers[0]
            respond(answer if isinstance(answer, SentinelError) else _encode(answer))

        worker.put(Request([self._transaction(schema, body)], *times_ns, finish_one))

    def _begin_outcomes(self, call: Call, body: bytes, times_ns: tuple[int, int], respond: Respond) -> None:
        worker = self.deciding()
        items = self._items(body, call)
        if items is not None:
            self._begin_batch(call, items, _outcome, times_ns, respond)
            return

        def finish_one(answers: Answers) -> None:
            answer = answers[0]
            respond(answer if isinstance(answer, SentinelError) else _encode(answer))

        worker.put_outcomes(Request([_outcome(body)], *times_ns, finish_one))

    def _begin_batch(
        self, call: Call, items: Sequence[Any], read: Callable[[Any], Event], times_ns: tuple[int, int],
        respond: Respond,
    ) -> None:  # fmt: skip
        """Each item has its own answer or error, in their order."""
        answers: dict[int, Answer] = {}
        places: list[int] = []
        events: list[Event] = []

        def finish(found: Answers) -> None:
            answers.update(zip(places, found, strict=True))
            ordered = [answers[place] for place in range(len(items))]
            self._count_errors(call.route, ordered)
            respond(reply_to_batch(ordered, lines=call.kind == "lines"))

        for place, item in enumerate(items):
            try:
                events.append(read(item))
                places.append(place)
            except (BadBody, InvalidInput) as error:
                answers[place] = error
        if not events:
            finish(())
            return
        worker = self.deciding()
        put = worker.put if call.route is _SCORE else worker.put_outcomes
        put(Request(events, *times_ns, finish))

    def _items(self, body: bytes, call: Call) -> Sequence[Any] | None:
        """The parts of a batch, or None for a body that is one object."""
        if call.kind == "lines":
            items: Sequence[Any] = [line for line in body.split(b"\n") if line.strip()]
        elif call.kind is None:
            kind = call.media.partition(";")[0].strip().lower()
            raise WrongMedia(f"Content-Type {kind!r} is not understood; send {JSON} or {NDJSON}")
        elif body[:64].lstrip()[:1] == b"[":
            items = read_json(_split_array, body)
        elif body.strip():
            return None
        else:
            raise BadBody(
                f"The body is empty; send a transaction, an array of up to {self.settings.max_batch}, or lines"
            )
        if not items:
            raise BadBody("The batch is empty; send at least one")
        if len(items) > self.settings.max_batch:
            raise TooLarge(f"{len(items)} in one batch; send at most {self.settings.max_batch}")
        return items

    def _whole_array(self, call: Call, body: bytes, schema: Schema) -> list[Transaction] | None:
        """The transactions of an array in which none is wrong: to read them one by one takes half as long again."""
        if call.kind != "json" or body[:64].lstrip()[:1] != b"[":
            return None
        found = schema.decode_array(body)
        if not found or len(found) > self.settings.max_batch:
            return None
        if schema.assigns:
            for one in found:
                schema.assign(one, uuid.uuid4().hex, time.time_ns() // 1000)
        return found

    def _transaction(self, schema: Schema, raw: Any) -> Transaction:
        transaction = schema.decode(raw)
        if schema.assigns:
            schema.assign(transaction, uuid.uuid4().hex, time.time_ns() // 1000)
        return transaction

    def deciding(self) -> Worker:
        """The worker. Raises NotReady in a process that scores vectors only."""
        if self.worker is None:
            raise NotReady(
                f"This server runs {self.settings.workers} processes, which share no features: it answers /predict "
                "only. Transactions need one process (--workers 1)"
            )
        return self.worker


def _outcome(raw: Any) -> Outcome:
    given = read_json(_decode_outcome, raw)
    now_us = time.time_ns() // 1000
    time_us = now_us if given.time is None else instant_us(given.time, "$.time")
    if time_us > now_us + FARTHEST_AHEAD_US:
        raise InvalidInput(f"Expected a time at most a day ahead of now, got {iso(time_us)}", "$.time")
    name = given.transaction_id
    return Outcome(name if isinstance(name, str) else text_of(name), given.is_fraud, time_us)
