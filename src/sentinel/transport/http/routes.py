"""The HTTP routes: what the fast lane hands over, and everything a person or an operator calls."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from sentinel import __version__
from sentinel.errors import SentinelError, TooLarge, WrongMedia
from sentinel.serve.watch import Watch
from sentinel.transport.http.admin import admin_routes, refused
from sentinel.transport.http.api import Api
from sentinel.transport.http.calls import Call, Route
from sentinel.transport.http.health import Health
from sentinel.transport.http.lookups import Lookups
from sentinel.transport.http.metrics import Metrics
from sentinel.transport.http.replies import JSON, NDJSON, Reply, ok, response_of

CLOSE = {"connection": "close"}
_PATIENCE = 8


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


def build(api: Api, watch: Watch, home: Path) -> FastAPI:
    """The HTTP application; it starts and stops what answers and what watches with itself."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        watch.start()
        yield
        await run_in_threadpool(watch.stop)
        await run_in_threadpool(api.tracer.close)

    app = FastAPI(
        title="Sentinel",
        version=__version__,
        description="Decides in the moment of a transaction whether to approve, review or block it.",
        lifespan=lifespan,
        redoc_url=None,
    )
    if api.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(api.settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_exception_handler(SentinelError, refused)
    _add_scoring(app, api)
    if api.worker is not None:
        _add_lookups(app, Lookups(home, api.worker))
    _add_health(app, Health(home, watch))
    _add_metrics(app, Metrics(watch))
    app.include_router(admin_routes(api, watch))
    return app


def _add_scoring(app: FastAPI, api: Api) -> None:
    vector = {"type": "object", "properties": {"features": {}, "key": {"type": "string"}}, "required": ["features"]}
    one_or_many = {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}

    @app.post("/predict", openapi_extra=_takes({JSON: vector}), tags=["decisions"])
    async def predict(request: Request) -> Response:
        """Score a feature vector, `{"features": [..]}` or `{"features": {"name": value}}`; nothing is stored."""
        return await _through(Route.PREDICT, request)

    @app.post("/v1/score", openapi_extra=_takes({JSON: one_or_many, NDJSON: {"type": "string"}}), tags=["decisions"])
    async def score(request: Request) -> Response:
        """Decide a transaction of the detector's schema, or up to 1,000 as an array or as lines.

        The same id with the same content gets the stored answer (`replayed`), with other content 409.
        In a batch every transaction has its own answer or error; the status of the batch is 200.
        """
        return await _through(Route.SCORE, request)

    @app.post("/v1/outcomes", openapi_extra=_takes({JSON: one_or_many, NDJSON: {"type": "string"}}), tags=["decisions"])
    async def outcomes(request: Request) -> Response:
        """Report outcomes: `{"transaction_id": .., "is_fraud": true, "time": ..}`, one or many."""
        return await _through(Route.OUTCOMES, request)

    async def _through(route: Route, request: Request) -> Response:
        call = Call.of(route, request.headers)
        try:
            body = await _read_body(request, api.settings.max_body_bytes)
        except ClientDisconnect:
            return Response()  # the client has gone
        except TooLarge as error:
            return response_of(api.refuse(call, error), CLOSE)
        except WrongMedia as error:
            return response_of(api.refuse(call, error))
        return response_of(await api.answer(call, body))


def _takes(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media: {"schema": one} for media, one in content.items()}}}


def _add_lookups(app: FastAPI, lookups: Lookups) -> None:
    @app.get("/v1/decisions", tags=["decisions"])
    def decisions(request: Request) -> Response:
        """The newest decisions that fit, as pages.

        By any key of the schema (`card_id=..`), `from` and `to` (when it was decided), `action`, `model`,
        `degraded=true`, `limit` (50, at most 500) and `cursor`, the `next` of the page before.
        """
        return response_of(lookups.search(dict(request.query_params)))

    @app.get("/v1/decisions/{transaction_id:path}", tags=["decisions"])
    def decision(transaction_id: str, position: str | None = None) -> Response:
        """The stored decision with its transaction, its features by name, and its outcomes.

        `position`, as lists show it, finds one whose id is no longer remembered.
        """
        return response_of(lookups.decision(transaction_id, position))


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics", tags=["metrics"])
    async def figures() -> Response:
        """The main figures as one JSON object, of all processes together."""
        return ok(metrics.figures())

    @app.get("/metrics/prom", tags=["metrics"])
    async def prometheus() -> Response:
        """Everything that is measured, in the text format of Prometheus."""
        body, media = await metrics.prometheus()
        return response_of(Reply(200, body, media))


def _add_health(app: FastAPI, health: Health) -> None:
    @app.get("/health/live", tags=["health"])
    async def live() -> Response:
        """The process answers."""
        return ok({"live": True})

    @app.get("/health/ready", tags=["health"])
    async def ready() -> Response:
        """Decisions are given now, and can be recorded; 503 says why not."""
        return response_of(health.readiness())

    @app.get("/health/startup", tags=["health"])
    async def startup() -> Response:
        """A model has been loaded since the start; 503 says why not."""
        return response_of(health.startup())

    @app.get("/health", tags=["health"])
    def report() -> Response:
        """Model, log, view and queue; 503 unless decisions are given."""
        return response_of(health.report())

    @app.get("/", tags=["health"])
    async def about() -> dict[str, Any]:
        """What this is, and where to go from here."""
        return {
            "service": "Sentinel",
            "version": __version__,
            "status": "ready" if health.ready else "not ready",
            **health.champion(),
            "endpoints": sorted({getattr(route, "path", "") for route in app.routes}),
        }
