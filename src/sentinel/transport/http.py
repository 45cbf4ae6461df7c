"""The HTTP API: what a body means, which status a fault has, and the routes.

`POST /v1/score` and `POST /v1/outcomes` usually come through the fast lane (`fast_lane.py`) and only in unusual
shapes through the routes here. Both lanes call `Api.begin`.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel import __version__
from sentinel.config import Settings
from sentinel.engine import FARTHEST_AHEAD_US, Answer, Arrival, Engine, Outcome
from sentinel.errors import (
    BadBody,
    Conflict,
    InvalidInput,
    JournalProblem,
    NotFound,
    NotReady,
    Overloaded,
    SentinelError,
    TooLarge,
    WrongMedia,
)
from sentinel.events.schema import Transaction, read_json, text_of
from sentinel.events.times import instant_us, iso
from sentinel.model.bundle import Manifest, read_manifest
from sentinel.model.registry import Registry
from sentinel.worker import Result, Worker

STATUS: dict[type[SentinelError], int] = {
    BadBody: 400,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    WrongMedia: 415,
    InvalidInput: 422,
    NotReady: 503,
    Overloaded: 503,
    JournalProblem: 503,
}
JSON = "application/json"
NDJSON = "application/x-ndjson"
_NDJSON_TYPES = (NDJSON, "application/jsonl", "application/jsonlines", "application/ndjson")
_encode = msgspec.json.encode
_log = logging.getLogger(__name__)
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode

RETRY = {"retry-after": "1"}
CLOSE = {"connection": "close"}
_PATIENCE = 8


class Route(StrEnum):
    """The calls that need the engine."""

    SCORE = "/v1/score"
    OUTCOMES = "/v1/outcomes"


class Reply(msgspec.Struct, frozen=True):
    """Status, body and media type of an answer."""

    status: int
    body: bytes
    media: str = JSON


class _OutcomeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An outcome on the wire; without a time it became known now."""

    transaction_id: str | int
    is_fraud: bool
    time: str | int | float | None = None


_decode_outcome = msgspec.json.Decoder(_OutcomeBody).decode


class Api:
    """What the routes do, without HTTP."""

    def __init__(self, settings: Settings, worker: Worker) -> None:
        self.settings = settings
        self.worker = worker
        self.started_s = time.monotonic()
        self._registry = Registry(settings.models)
        self._manifests: dict[str, Manifest] = {}

    def begin(self, route: Route, body: bytes, media: str, tell: Callable[[Reply], None]) -> None:
        """Answer the transaction or outcome, or each of them, in the body; `tell` is called with the reply."""
        received_ns = time.monotonic_ns()
        read = self._read_transaction if route is Route.SCORE else self._read_outcome
        try:
            items, lines = self._items(body, media)
            if items is None:
                self.worker.put([Arrival(read(body), received_ns)], lambda result: tell(_reply_to_one(result)))
            else:
                self._begin_batch(items, read, received_ns, lines, tell)
        except SentinelError as error:
            tell(_reply(error))
        except Exception:  # noqa: BLE001 - a fault of ours must not leave a client without an answer
            _log.exception("a request was not answered")
            tell(_reply(SentinelError("Something went wrong inside; nothing was stored")))

    async def answer(self, route: Route, body: bytes, media: str) -> Reply:
        """The same for those who can wait."""
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.begin(route, body, media, lambda reply: None if waiting.done() else waiting.set_result(reply))
        return await waiting

    def _begin_batch(
        self,
        items: Sequence[Any],
        read: Callable[[Any], Transaction | Outcome],
        received_ns: int,
        lines: bool,
        tell: Callable[[Reply], None],
    ) -> None:
        answers: list[Answer | None] = [None] * len(items)
        arrivals: list[Arrival] = []
        places: list[int] = []
        for i, item in enumerate(items):
            try:
                arrivals.append(Arrival(read(item), received_ns))
                places.append(i)
            except (BadBody, InvalidInput) as error:
                answers[i] = error

        def finish(result: Result) -> None:
            if isinstance(result, SentinelError):
                tell(_reply(result))
                return
            for i, answer in zip(places, result, strict=True):
                answers[i] = answer
            tell(_reply_to_batch(answers, lines=lines))

        if arrivals:
            self.worker.put(arrivals, finish)
        else:
            finish([])

    def _items(self, body: bytes, media: str) -> tuple[Sequence[Any] | None, bool]:
        """The parts of a batch, or None for a body that is one object; and whether it came as lines."""
        kind = media.partition(";")[0].strip().lower()
        if kind in _NDJSON_TYPES:
            items: Sequence[Any] = [line for line in body.split(b"\n") if line.strip()]
        elif kind not in (JSON, "", "text/json") and not kind.endswith("+json"):
            raise WrongMedia(f"Content-Type {kind!r} is not understood; send {JSON} or {NDJSON}")
        elif body[:64].lstrip()[:1] == b"[":
            items = read_json(_split_array, body)
        elif body.strip():
            return None, False
        else:
            raise BadBody(
                f"The body is empty; send a transaction, an array of up to {self.settings.max_batch}, or lines"
            )
        if not items:
            raise BadBody("The batch is empty; send at least one")
        if len(items) > self.settings.max_batch:
            raise TooLarge(f"{len(items)} in one batch; send at most {self.settings.max_batch}")
        return items, kind in _NDJSON_TYPES

    def _read_transaction(self, raw: Any) -> Transaction:
        return self._engine().schema.decode(raw)

    def _engine(self) -> Engine:
        engine = self.worker.engine
        if engine is None:
            raise NotReady(f"No model can answer: {self.worker.reason}")
        return engine

    def _read_outcome(self, raw: Any) -> Outcome:
        told = read_json(_decode_outcome, raw)
        now_us = time.time_ns() // 1000
        time_us = now_us if told.time is None else instant_us(told.time, "$.time")
        if time_us > now_us + FARTHEST_AHEAD_US:
            raise InvalidInput(f"Expected a time at most a day ahead of now, got {iso(time_us)}", "$.time")
        name = told.transaction_id
        return Outcome(name if isinstance(name, str) else text_of(name), told.is_fraud, time_us)

    def decision(self, transaction_id: str) -> Reply:
        """The stored decision with its transaction, features by name, and outcomes."""
        engine = self.worker.engine
        if engine is None:
            return _reply(NotReady(f"No model can answer: {self.worker.reason}"))
        row, outcomes = engine.journal.find_one(transaction_id)
        if row is None:
            return _reply(NotFound(f"No decision is stored for transaction {transaction_id!r}"))
        manifest = self._manifest(row.model_version)
        transaction = msgspec.json.decode(row.content)
        transaction[manifest.plan.schema.time] = iso(transaction[manifest.plan.schema.time])
        values = np.frombuffer(row.features, "<f8").tolist()
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

    def health(self) -> Reply:
        """State of everything this process needs; 503 unless it can decide."""
        engine = self.worker.engine
        facts: dict[str, Any] = {
            "status": "ready" if engine else "not ready",
            "reason": None if engine else self.worker.reason,
            "version": __version__,
            "uptime_s": round(time.monotonic() - self.started_s, 1),
            "waiting": self.worker.waiting,
        }
        if engine:
            manifest = engine.bundle.manifest
            facts |= {"model_version": manifest.version, "detector": manifest.detector}
            try:
                facts["journal"] = {"status": "ok", "last_event": engine.journal.last_seq}
            except JournalProblem as error:
                facts["journal"] = {"status": str(error)}
        return Reply(200 if engine else 503, _encode(facts))

    def ready(self) -> Reply:
        """Whether decisions are given now."""
        ready = self.worker.engine is not None
        return Reply(200 if ready else 503, _encode({"ready": ready, "reason": None if ready else self.worker.reason}))

    def startup(self) -> Reply:
        """Whether decisions were ever given since the start."""
        begun = self.worker.was_ready
        return Reply(
            200 if begun else 503, _encode({"started": begun, "reason": None if begun else self.worker.reason})
        )


def _as_json(answer: Answer) -> Any:
    if not isinstance(answer, SentinelError):
        return answer
    status = STATUS.get(type(answer), 500)
    shown: dict[str, Any] = {"status": status, "error": str(answer)}
    if isinstance(answer, InvalidInput):
        shown["path"] = answer.path
    return shown


def _reply_to_one(result: Result) -> Reply:
    return _reply(result if isinstance(result, SentinelError) else result[0])


def _reply_to_batch(answers: Sequence[Answer | None], *, lines: bool) -> Reply:
    shown = [_as_json(answer) for answer in answers if answer is not None]
    if lines:
        return Reply(200, b"".join(_encode(one) + b"\n" for one in shown), NDJSON)
    return Reply(200, _encode(shown))


def _reply(answer: Answer) -> Reply:
    if isinstance(answer, SentinelError):
        return Reply(STATUS.get(type(answer), 500), _encode(_as_json(answer)))
    return Reply(200, _encode(answer))


async def _read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises TooLarge, WrongMedia.

    What is somewhat too large is read to its end all the same: a client that is still sending sees no answer.
    """
    body, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            body += part
        elif size > _PATIENCE * limit:
            break
    if size > limit:
        raise TooLarge(f"The body has more than {limit} bytes; send smaller batches")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise WrongMedia("Content-Encoding is not understood; send the body as it is")
    return bytes(body)


def build(api: Api) -> FastAPI:
    """The HTTP application; it starts and stops the worker with itself."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        api.worker.start()
        yield
        await run_in_threadpool(api.worker.stop)

    app = FastAPI(
        title="Sentinel",
        version=__version__,
        description="Decides in the moment of a transaction whether to approve, review or block it.",
        lifespan=lifespan,
        redoc_url=None,
    )
    _add_scoring(app, api)
    _add_reading(app, api)
    return app


def _add_scoring(app: FastAPI, api: Api) -> None:
    body = {
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}},
                NDJSON: {"schema": {"type": "string"}},
            },
        }
    }

    @app.post("/v1/score", openapi_extra=body, tags=["decisions"])
    async def score(request: Request) -> Response:
        """Decide a transaction of the detector's schema, or up to 1,000 as an array or as lines.

        The same id with the same content gets the stored answer (`replayed`), with other content 409.
        In a batch every transaction has its own answer or error; the status of the batch is 200.
        """
        return await _through(Route.SCORE, request)

    @app.post("/v1/outcomes", openapi_extra=body, tags=["decisions"])
    async def outcomes(request: Request) -> Response:
        """Tell what turned out to be true: `{"transaction_id": .., "is_fraud": true, "time": ..}`, one or many."""
        return await _through(Route.OUTCOMES, request)

    async def _through(route: Route, request: Request) -> Response:
        try:
            body = await _read_body(request, api.settings.max_body_bytes)
        except SentinelError as error:
            return _response(_reply(error), close=True)
        return _response(await api.answer(route, body, request.headers.get("content-type", "")))


def _add_reading(app: FastAPI, api: Api) -> None:
    @app.get("/v1/decisions/{transaction_id}", tags=["decisions"])
    def decision(transaction_id: str) -> Response:
        """The stored decision with its transaction, its features by name, and its outcomes."""
        return _response(api.decision(transaction_id))

    @app.get("/health/live", tags=["health"])
    async def live() -> Response:
        """The process answers."""
        return _response(Reply(200, _encode({"live": True})))

    @app.get("/health/ready", tags=["health"])
    async def ready() -> Response:
        """Decisions are given now; 503 says why not."""
        return _response(api.ready())

    @app.get("/health/startup", tags=["health"])
    async def startup() -> Response:
        """A model has been loaded since the start; 503 says why not."""
        return _response(api.startup())

    @app.get("/health", tags=["health"])
    async def health() -> Response:
        """Model, journal and queue; 503 unless decisions are given."""
        return _response(api.health())

    @app.get("/", tags=["health"])
    async def about() -> dict[str, Any]:
        """What this is, and where to go from here."""
        engine = api.worker.engine
        return {
            "service": "Sentinel",
            "version": __version__,
            "status": "ready" if engine else "not ready",
            "model_version": engine.bundle.manifest.version if engine else None,
            "detector": engine.bundle.manifest.detector if engine else None,
            "endpoints": sorted({getattr(route, "path", "") for route in app.routes}),
        }


def _response(reply: Reply, *, close: bool = False) -> Response:
    headers = RETRY if reply.status == 503 else {}
    return Response(reply.body, reply.status, {**headers, **(CLOSE if close else {})}, media_type=reply.media)
