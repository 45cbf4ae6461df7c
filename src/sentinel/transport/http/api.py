"""What a request means and which status a fault has, without HTTP.

Scoring calls usually come through the fast lane (`fast_lane.py`) and only in unusual shapes through the routes of
`http.py`. Both lanes call `Api.begin`.
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np

from sentinel import __version__
from sentinel.config import Settings
from sentinel.errors import (
    BadBody,
    InvalidInput,
    NotFound,
    NotReady,
    SentinelError,
    TooLarge,
    WrongMedia,
)
from sentinel.events.log import Outcome
from sentinel.events.schema import Transaction, read_json, text_of
from sentinel.events.times import instant_us, iso
from sentinel.model.bundle import Manifest, read_manifest
from sentinel.model.registry import Registry
from sentinel.serve.decisions import Answer, Answers, Decision, Event, Noted, kinds_of
from sentinel.serve.engine import FARTHEST_AHEAD_US, Engine
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.worker import Worker
from sentinel.telemetry.tracing import Tracer, parse_traceparent
from sentinel.transport.http.replies import JSON, NDJSON, Reply, Tell, Told, reply_to, reply_to_batch

_NDJSON_TYPES = (NDJSON, "application/jsonl", "application/jsonlines", "application/ndjson")
_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode

_WAITING_NS_PER_MS = 500_000
"""Of a deadline. The rest is for recording the decision and sending the answer: who has waited longer is shed."""

_LONGEST_MS = 3.6e6


class Route(StrEnum):
    """The calls that need a model, and come often."""

    PREDICT = "/predict"
    SCORE = "/v1/score"
    OUTCOMES = "/v1/outcomes"


_NO_ERRORS = {Decision, Noted}
_PREDICT, _SCORE, _OUTCOMES = Route  # an attribute of an enumeration costs ten times a global


class Call(msgspec.Struct, frozen=True):
    """What the head of a request says: which call, the body's media type, and what the client asks along with it.

    `deadline_ms` is how long the client can wait; without it the server's own deadline counts. The rest follows:
    `kind` is `json`, `lines` or None for a body that is not understood, `is_traced` is set where the answer carries
    more than the decision, `may_be_remembered` for a vector whose answer needs nothing but its score.
    """

    route: Route
    media: str = ""
    deadline_ms: float | None = None
    request_id: str | None = None
    traceparent: str | None = None
    kind: str | None = None
    is_traced: bool = False
    may_be_remembered: bool = False

    def __post_init__(self) -> None:
        traced = self.request_id is not None or self.traceparent is not None
        found = {"kind": _kind_of(self.media), "is_traced": traced}
        for name, value in {**found, "may_be_remembered": self.route is _PREDICT and not traced}.items():
            msgspec.structs.force_setattr(self, name, value)


class _OutcomeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An outcome on the wire; without a time it became known now."""

    transaction_id: str | int
    is_fraud: bool
    time: str | int | float | None = None


_decode_outcome = msgspec.json.Decoder(_OutcomeBody).decode


class Api:
    """What the routes do, without HTTP. `worker` is None where only vectors are scored."""

    def __init__(self, settings: Settings, predictor: Predictor, worker: Worker | None, tracer: Tracer) -> None:
        self.settings = settings
        self.predictor = predictor
        self.worker = worker
        self.started_s = time.monotonic()
        self._tracer = tracer
        self._patience_ns = int(_WAITING_NS_PER_MS * settings.deadline_ms)
        self._registry = Registry(settings.models)
        self._manifests: dict[str, Manifest] = {}

    def remembered(self, body: bytes) -> bytes | None:
        """The body of the reply to a vector that came before and whose score is remembered."""
        return self.predictor.remembered(body)

    def begin(self, call: Call, body: bytes, tell: Tell, unread_ns: int = 0) -> None:
        """Answer what is in the body, which had come in so long ago; `tell` is called with the reply, in the loop."""
        received_ns = time.monotonic_ns() - unread_ns
        if call.is_traced:
            tell = self._traced(call, received_ns, tell)
        patience_ns = self._patience_ns if call.deadline_ms is None else int(_WAITING_NS_PER_MS * call.deadline_ms)
        due_ns = received_ns + patience_ns
        try:
            if call.route is _PREDICT:
                self.predictor.ask(body, received_ns, due_ns, tell)
            else:
                self._begin_events(call, body, received_ns, due_ns, tell)
        except SentinelError as error:
            self._refuse(call.route, error, tell)
        except Exception:  # noqa: BLE001 - a fault of ours must not leave a client without an answer
            _log.exception("a request was not answered", extra={"request_id": call.request_id})
            self._refuse(call.route, SentinelError("Something went wrong inside; nothing was stored"), tell)

    def refuse(self, call: Call, error: SentinelError) -> Reply:
        """The reply to a request whose body could not be taken."""
        found: list[Told] = []
        tell: Tell = found.append
        if call.is_traced:
            tell = self._traced(call, time.monotonic_ns(), tell)
        self._refuse(call.route, error, tell)
        return reply_to(found[0])

    def _refuse(self, route: Route, error: SentinelError, tell: Tell) -> None:
        self._count_errors(route, [error])
        tell(error)

    def _count_errors(self, route: Route, answers: Answers) -> None:
        if route is not _OUTCOMES and not kinds_of(answers) <= _NO_ERRORS:
            self.predictor.count_errors(sum(isinstance(answer, SentinelError) for answer in answers))

    def _begin_events(self, call: Call, body: bytes, received_ns: int, due_ns: int, tell: Tell) -> None:
        if call.kind != "json" or body[:1] != b"{":
            transactions = self._transactions(body, call)
            if transactions is not None:
                self._begin_transactions(transactions, received_ns, due_ns, tell)
                return
            items = self._items(body, call)
            if items is not None:
                self._begin_batch(call, items, received_ns, due_ns, tell)
                return

        def finish(answers: Answers) -> None:
            answer = answers[0]
            if isinstance(answer, SentinelError):
                self._refuse(call.route, answer, tell)
            else:
                tell(_encode(answer))

        event = self._read_transaction(body) if call.route is _SCORE else self._read_outcome(body)
        self._engine_worker().put((event,), received_ns, due_ns, finish)

    def _traced(self, call: Call, received_ns: int, tell: Tell) -> Tell:
        """Hand the request id and the trace back with the answer, and record a span of it where that is wanted."""
        parent = parse_traceparent(call.traceparent) if call.traceparent else None

        def finish(told: Told) -> None:
            reply = reply_to(told)
            span = self._tracer.span(
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
            tell(msgspec.structs.replace(reply, headers=headers))

        return finish

    async def answer(self, call: Call, body: bytes) -> Reply:
        """The same for those who can wait."""
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.begin(call, body, lambda told: None if waiting.done() else waiting.set_result(reply_to(told)))
        return await waiting

    def _begin_transactions(
        self, transactions: Sequence[Transaction], received_ns: int, due_ns: int, tell: Tell
    ) -> None:
        """Nothing is wrong with any of them."""

        def finish(answers: Answers) -> None:
            self._count_errors(_SCORE, answers)
            tell(reply_to_batch(answers, lines=False))

        self._engine_worker().put(transactions, received_ns, due_ns, finish)

    def _begin_batch(self, call: Call, items: Sequence[Any], received_ns: int, due_ns: int, tell: Tell) -> None:
        read: Callable[[Any], Event]
        read = self._read_transaction if call.route is _SCORE else self._read_outcome
        answers: dict[int, Answer] = {}
        places: list[int] = []
        events: list[Event] = []

        def finish(found: Answers) -> None:
            answers.update(zip(places, found, strict=True))
            told = [answers[place] for place in range(len(items))]
            self._count_errors(call.route, told)
            tell(reply_to_batch(told, lines=call.kind == "lines"))

        for place, item in enumerate(items):
            try:
                events.append(read(item))
                places.append(place)
            except (BadBody, InvalidInput) as error:
                answers[place] = error
        if events:
            self._engine_worker().put(events, received_ns, due_ns, finish)
        else:
            finish(())

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

    def _transactions(self, body: bytes, call: Call) -> list[Transaction] | None:
        """The transactions of an array in which none is wrong: to read them one by one takes half as long again."""
        if call.kind != "json" or call.route is not _SCORE or self.worker is None:
            return None
        schema = self.engine().schema
        found = schema.decode_array(body)
        if not found or len(found) > self.settings.max_batch:
            return None
        if schema.assigns:
            for one in found:
                schema.assign(one, uuid.uuid4().hex, time.time_ns() // 1000)
        return found

    def _read_transaction(self, raw: Any) -> Transaction:
        schema = self.engine().schema
        transaction = schema.decode(raw)
        if schema.assigns:
            schema.assign(transaction, uuid.uuid4().hex, time.time_ns() // 1000)
        return transaction

    def _engine_worker(self) -> Worker:
        if self.worker is None:
            raise NotReady(
                f"This server runs {self.settings.workers} processes, which share no features: it answers /predict "
                "only. Transactions need one process (--workers 1)"
            )
        return self.worker

    def engine(self) -> Engine:
        """The engine. Raises NotReady, with the reason, while there is none."""
        worker = self._engine_worker()
        if worker.engine is None:
            raise NotReady(f"No model can answer: {worker.reason}")
        return worker.engine

    def _read_outcome(self, raw: Any) -> Outcome:
        told = read_json(_decode_outcome, raw)
        now_us = time.time_ns() // 1000
        time_us = now_us if told.time is None else instant_us(told.time, "$.time")
        if time_us > now_us + FARTHEST_AHEAD_US:
            raise InvalidInput(f"Expected a time at most a day ahead of now, got {iso(time_us)}", "$.time")
        name = told.transaction_id
        return Outcome(name if isinstance(name, str) else text_of(name), told.is_fraud, time_us)

    def decision(self, transaction_id: str, shadow: Sequence[Any] = ()) -> Reply:
        """The stored decision with its transaction, features by name, and outcomes."""
        try:
            engine = self.engine()
        except NotReady as error:
            return reply_to(error)
        postponed = engine.overflow.find([transaction_id])  # first: it may go to the journal meanwhile
        row, outcomes = engine.journal.find_one(transaction_id)
        row = row or postponed.get(transaction_id)
        if row is None:
            return reply_to(NotFound(f"No decision is stored for transaction {transaction_id!r}"))
        manifest = self._manifest(row.model_version)
        transaction = msgspec.json.decode(row.content)
        transaction[manifest.plan.schema.time] = iso(transaction[manifest.plan.schema.time])
        values = np.frombuffer(row.features, "<f8").tolist() or [math.nan] * len(manifest.plan.names)
        return Reply(
            200,
            _encode(
                {
                    "transaction_id": row.transaction_id,
                    "decision": row.decision,
                    "fraud_probability": row.fraud_probability,
                    "thresholds": {"review": row.review_threshold, "block": row.block_threshold},
                    "model_version": row.model_version,
                    "detector": row.detector,
                    "features_state": "late" if row.late else "fresh",
                    "batch_size": row.batch_size,
                    "latency_us": row.latency_us,
                    "degraded": row.degraded,
                    "circuit_breaker_state": row.circuit,
                    "experiment": row.experiment,
                    "variant": row.variant,
                    "shadow": shadow,
                    "decided_at": iso(row.decided_at_us),
                    "transaction": transaction,
                    "features": {
                        name: None if math.isnan(value) else value
                        for name, value in zip(manifest.plan.names, values, strict=True)
                    },
                    "outcomes": [{"is_fraud": one.is_fraud, "time": iso(one.time_us)} for one in outcomes],
                }
            ),
        )

    def _manifest(self, version: str) -> Manifest:
        if version not in self._manifests:
            self._manifests[version] = read_manifest(self._registry.path(version))
        return self._manifests[version]

    @property
    def ready(self) -> bool:
        """Whether decisions are given now."""
        return self.predictor.lineup is not None and (self.worker is None or self.worker.engine is not None)

    @property
    def reason(self) -> str | None:
        """Why not."""
        if self.ready:
            return None
        if self.predictor.lineup is None or self.worker is None:
            return self.predictor.reason
        return self.worker.reason

    def health(self) -> Reply:
        """State of everything this process needs; 503 unless it can decide."""
        facts: dict[str, Any] = {
            "status": "ready" if self.ready else "not ready",
            "reason": self.reason,
            "version": __version__,
            "uptime_s": round(time.monotonic() - self.started_s, 1),
            "waiting": self.predictor.waiting + (self.worker.waiting if self.worker else 0),
            "postponed": self.worker.postponed if self.worker else 0,
        }
        lineup, engine = self.predictor.lineup, self.worker.engine if self.worker else None
        if lineup:
            manifest = lineup.champion.bundle.manifest
            facts |= {"model_version": manifest.version, "detector": manifest.detector}
            facts["circuit_breaker_state"] = (engine.judge if engine else self.predictor.judge).circuit
        if engine:
            facts["journal"] = {"status": "ok", "last_event": engine.journal.last_seq}
        return Reply(200 if self.ready else 503, _encode(facts))

    def readiness(self) -> Reply:
        """Whether decisions are given now."""
        return Reply(200 if self.ready else 503, _encode({"ready": self.ready, "reason": self.reason}))

    def startup(self) -> Reply:
        """Whether decisions were ever given since the start."""
        begun = self.ready or (self.worker is not None and self.worker.was_ready)
        return Reply(200 if begun else 503, _encode({"started": begun, "reason": None if begun else self.reason}))


def _kind_of(media: str) -> str | None:
    kind = media.partition(";")[0].strip().lower()
    if kind in _NDJSON_TYPES:
        return "lines"
    return "json" if kind in (JSON, "", "text/json") or kind.endswith("+json") else None


def deadline_of(header: str | None) -> float | None:
    """What `x-deadline-ms` says: how long the client can wait; anything but a number above 0 is ignored."""
    try:
        found = float(header) if header else 0.0
    except ValueError:
        return None
    return found if 0 < found < _LONGEST_MS else None
