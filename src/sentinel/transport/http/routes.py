"""The HTTP routes: what the fast lane does not answer, and everything a person or an operator calls."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp

from sentinel import __version__
from sentinel.errors import SentinelError, WrongMedia
from sentinel.events.card_numbers import quoted
from sentinel.events.times import clock_us
from sentinel.homes import Place
from sentinel.model.signing import read_trusted_keys
from sentinel.serve.watch import Watch
from sentinel.transport.http.addresses import address_below
from sentinel.transport.http.admin import admin_routes
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.api import Api
from sentinel.transport.http.bodies import MOST_OF_ADMIN, read_body, schema_of
from sentinel.transport.http.browsers import ForBrowsers
from sentinel.transport.http.business import add_business
from sentinel.transport.http.calls import Call, Route
from sentinel.transport.http.cases.calls import CaseCalls
from sentinel.transport.http.cases.routes import add_cases
from sentinel.transport.http.companion import Companion, Stream
from sentinel.transport.http.description import describe
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.docs_page import add_docs
from sentinel.transport.http.door import Door
from sentinel.transport.http.entities import EntityLookups, add_entities
from sentinel.transport.http.examples import Example, example_of
from sentinel.transport.http.health import Health
from sentinel.transport.http.lists import ListCalls, add_lists
from sentinel.transport.http.lookups import Lookups
from sentinel.transport.http.metrics import Metrics
from sentinel.transport.http.online import OnlineLookups
from sentinel.transport.http.outcomes import OutcomeBody
from sentinel.transport.http.queries import asked_in
from sentinel.transport.http.replies import JSON, NDJSON, Reply, encode_error, ok, reply_to, response_of
from sentinel.transport.http.results import ResultCalls, add_results
from sentinel.transport.http.rule_figures import add_rule_figures
from sentinel.transport.http.rules import RuleCalls, add_rules
from sentinel.transport.http.rules_backtest import Backtests, add_backtests
from sentinel.transport.http.rules_diff import RuleDiffs, add_rule_diffs
from sentinel.transport.http.tables import TableCalls

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class Served(NamedTuple):
    """One detector as it is served: its calls, what watches over it, its home, and the stream that it reads."""

    api: Api
    watch: Watch
    home: Path
    stream: Stream | None = None


def build(detectors: Detectors, served: Mapping[Place, Served], beside: Sequence[Companion] = ()) -> ASGIApp:
    """The HTTP application of a server; it starts and stops all that answers, watches or reads beside it."""
    companions = [*(one.stream for one in served.values() if one.stream is not None), *beside]
    applications = {place: application(detectors, place, one) for place, one in served.items()}
    auditors = {
        place.tenant: Changes(one.api, one.watch).write
        for place, one in served.items()
        if not place.detector and one.watch.leads
    }

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        for one in served.values():
            one.watch.start()
        for companion in companions:
            companion.start()
        following = asyncio.create_task(detectors.access.follow(auditors))
        yield
        following.cancel()
        await asyncio.gather(*(run_in_threadpool(one.stop_reading) for one in companions))
        await asyncio.gather(*(run_in_threadpool(one.watch.stop) for one in served.values()))
        await asyncio.gather(*(run_in_threadpool(one.stop) for one in companions))
        await run_in_threadpool(detectors.close)

    origins = detectors.settings.cors_origins
    pages = Middleware(
        CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
    )  # fmt: skip
    middleware = [Middleware(ForBrowsers), *([pages] if origins else [])]
    server = Starlette(middleware=middleware, lifespan=lifespan)
    server.router.default = Door(detectors, applications)  # for every path, whatever is in it
    tell_faults(server)
    return server


def application(detectors: Detectors, place: Place, served: Served) -> FastAPI:
    """What answers for one detector. The detector at `Place()` answers the scoring calls of all."""
    api, watch, home, stream = served
    app = FastAPI(
        title="Sentinel",
        version=__version__,
        description="Decides in the moment of a transaction whether to approve, review or block it.",
        docs_url=None,
        redoc_url=None,
        root_path_in_servers=False,
    )
    tell_faults(app)
    _add_scoring(app, detectors)
    if api.worker is not None:
        trusted = read_trusted_keys(detectors.settings.trusted_keys_file)
        lookups = Lookups(home, api.worker, api.secrets, api.view, trusted, lambda: api.topic)
        _add_lookups(app, lookups)
        add_results(app, ResultCalls(api, lookups))
        _add_features(app, OnlineLookups(home, api.worker, api.secrets, detectors.settings.redis_url))
        add_entities(app, EntityLookups(api.worker, api.secrets, api.view))
        _add_tables(app, TableCalls(api))
        lists = ListCalls(api)
        add_rules(app, RuleCalls(Changes(api, watch), lists))
        add_backtests(app, Backtests(api))
        add_rule_diffs(app, RuleDiffs(Changes(api, watch)))
        add_rule_figures(app, api)
        add_lists(app, lists)
        add_cases(app, CaseCalls(api, lookups))
        add_business(app, api)
    _add_health(app, Health(home, watch, api.view, stream), place, detectors)
    _add_metrics(app, Metrics(home, watch, api.tellers, stream))
    app.include_router(admin_routes(api, watch))
    add_docs(app)

    def example() -> Example | None:
        lineup = watch.predictor.lineup
        return (
            example_of(lineup.champion, detectors.settings, place.prefix, clock_us()) if lineup and api.worker else None
        )

    describe(app, place.prefix, example)
    return app


def tell_faults(app: Starlette) -> None:
    """Have whatever is raised within an application answered in the shape of all errors."""
    app.add_exception_handler(SentinelError, _refused)
    app.add_exception_handler(HTTPException, _not_there)
    app.add_exception_handler(Exception, _broken)


def _broken(_request: Request, _error: Exception) -> Response:
    """A fault of ours: the framework raises it again once this is sent, so that the log has its traceback."""
    return response_of(reply_to(SentinelError("Something went wrong inside; the server's log says what, at this time")))


def _refused(_request: Request, error: Exception) -> Response:
    """A fault as its response."""
    assert isinstance(error, SentinelError)  # noqa: S101 - registered for no other
    return response_of(reply_to(error))


def _not_there(request: Request, error: Exception) -> Response:
    """A path that is not there, or that takes another method, in the shape of all errors."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for no other
    path = quoted(request.state.path, 200)
    said = {404: f"There is no {path} here; GET / lists what is", 405: f"{path} takes other methods"}
    body = encode_error(error.status_code, said.get(error.status_code, error.detail))
    headers = {"allow": _methods_of(request)} if error.status_code == 405 else dict(error.headers or {})
    return response_of(Reply(error.status_code, body, headers=headers))


def _methods_of(request: Request) -> str:
    """What the path takes, over all routes that have it: the framework names those of the first."""
    asked = [(one, {**request.scope, "method": "GET" if one == "HEAD" else one}) for one in _METHODS]
    routes = request.app.routes
    return ", ".join(name for name, scope in asked if any(one.matches(scope)[0] is Match.FULL for one in routes))


def _add_scoring(app: FastAPI, detectors: Detectors) -> None:
    vector = {"type": "object", "properties": {"features": {}, "key": {"type": "string"}}, "required": ["features"]}
    lines = {"type": "string"}

    @app.post("/predict", openapi_extra=_takes({JSON: vector}), tags=["decisions"])
    async def predict(request: Request) -> Response:
        """Score a feature vector, `{"features": [..]}` or `{"features": {"name": value}}`; nothing is stored."""
        return await _through(Route.PREDICT, request)

    @app.post(
        "/v1/score", openapi_extra=_takes({JSON: _one_or_many({"type": "object"}), NDJSON: lines}), tags=["decisions"]
    )
    async def score(request: Request) -> Response:
        """Decide a transaction of the detector's schema, or up to 1,000 as an array or as lines.

        The same id with the same content gets the stored answer (`replayed`), with other content 409.
        In a batch every transaction has its own answer or error; the status of the batch is 200.
        """
        return await _through(Route.SCORE, request)

    accepted: dict[int | str, dict[str, Any]] = {
        202: {"description": "Taken, or known from before: `status` is `success` or `ignored`"}
    }

    @app.post(
        "/api/v1/transactions",
        openapi_extra=_takes({JSON: _one_or_many({"type": "object"}), NDJSON: lines}),
        responses=accepted,
        tags=["decisions"],
    )
    async def transactions(request: Request) -> Response:
        """Hand in a transaction of the detector's schema, or up to 1,000 as an array or as lines, for a later decision.

        Answered with 202 once it is durable in the log, or, with `SENTINEL_TRANSACTIONS_TO=kafka`, in the topic
        (`source` says which); `decision` is the path where its decision is found. The same id with the
        same content is known already (`status` is `ignored`), with other content it is 409.
        In a batch every transaction has its own answer or error; the status of the batch is 200.
        """
        return await _through(Route.TRANSACTIONS, request)

    of_outcomes = _takes({JSON: _one_or_many(schema_of(OutcomeBody)), NDJSON: lines})

    kept: dict[int | str, dict[str, Any]] = {202: {"description": "Kept: its transaction was not decided here"}}

    @app.post("/v1/outcomes", openapi_extra=of_outcomes, responses=kept, tags=["decisions"])
    async def outcomes(request: Request) -> Response:
        """Report outcomes: `{"transaction_id": .., "is_fraud": true, "time": .., "reason": ..}`, one or many.

        Only `transaction_id` and `is_fraud` are needed. The source is that of the API key; without a key it may be said
        as `source`. One whose transaction was not decided here is kept for the next training: 202, `known` is false.
        """
        return await _through(Route.OUTCOMES, request)

    @app.post("/v1/events", openapi_extra=_takes({JSON: _one_or_many(_EVENT), NDJSON: lines}), tags=["decisions"])
    async def events(request: Request) -> Response:
        """Report context events: `{"event": "login", "event_id": .., "card_id": ..}`, one or many; none is decided.

        `event` is a kind that the detector's schema declares; the rest is what that kind carries, and when it happened.
        The same id with the same content is known already (`replayed`), with other content it is 409.
        """
        return await _through(Route.EVENTS, request)

    async def _through(route: Route, request: Request) -> Response:
        call = Call.of(route, request.headers, request.state.detector)
        try:
            body = await read_body(request, detectors.settings.max_body_bytes)
        except ClientDisconnect:
            return Response()  # the client has gone
        except WrongMedia as error:
            return response_of(reply_to(detectors.refuse(call, error, request.state.peer)))
        return response_of(await detectors.answer(call, body, request.state.peer))


_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "event_id": {"type": "string"}},
    "required": ["event"],
}


def _one_or_many(schema: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [schema, {"type": "array", "items": schema}]}


def _takes(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media: {"schema": one} for media, one in content.items()}}}


class _AnyText(Convertor[str]):
    """A part of a path that may have slashes and line breaks in it."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("any_text", _AnyText())


def _add_lookups(app: FastAPI, lookups: Lookups) -> None:
    @app.get("/v1/decisions", tags=["decisions"])
    def decisions(request: Request) -> Response:
        """The newest decisions that fit, as pages.

        By any key of the schema (`card_id=..`), `from` and `to` (when it was decided), `action`, `model`,
        `degraded=true`, `least_amount` and `most_amount`, `rule` (which held), `state` (where transactions stand),
        `limit` (50, at most 500) and `cursor`, the `next` of the page before.
        """
        return response_of(lookups.search(dict(request.query_params)))

    @app.post("/v1/decisions/search", openapi_extra=_takes({JSON: {"type": "object"}}), tags=["decisions"])
    async def decisions_of(request: Request) -> Response:
        """The same search, asked by a body, so that no card number stands in an address: `{"card_id": "..."}`.

        Every field is one of the query of `GET /v1/decisions`; nothing is changed.
        """
        asked = asked_in(await read_body(request, MOST_OF_ADMIN))
        return response_of(await run_in_threadpool(lookups.search, asked))

    pending: dict[int | str, dict[str, Any]] = {202: {"description": "Handed in, and not decided yet"}}

    @app.get("/v1/decisions/{transaction_id:any_text}", responses=pending, tags=["decisions"])
    def decision(transaction_id: str, position: str | None = None) -> Response:
        """The stored decision with its transaction, its features by name, its results and its outcomes.

        `state` is where the transaction stands after the results that were told.
        `position`, as lists show it, finds one whose id is no longer remembered.
        """
        return response_of(lookups.decision(transaction_id, position))

    @app.get("/predict/{transaction_id:any_text}", tags=["decisions"])
    def prediction(transaction_id: str) -> Response:
        """What the champion says now of a transaction that was decided, by the features that were stored with it.

        `is_fraud` is true from a probability of 0.5 on, as `predicted_class` of `POST /predict`; `decision` goes by the
        thresholds. Nothing is stored.
        """
        return response_of(lookups.prediction(transaction_id))

    @app.get("/v1/events/{event_id:any_text}", tags=["decisions"])
    def event(event_id: str) -> Response:
        """The stored context event, who told it, and when it was received."""
        return response_of(lookups.event(event_id))


def _add_features(app: FastAPI, online: OnlineLookups) -> None:
    @app.get("/v1/features/{key}/{value:any_text}", tags=["decisions"])
    def features(request: Request, key: str, value: str) -> Response:
        """The newest features of a key, from the online view in Redis: when they were made, and how old that is.

        `card+shop` is of two fields together: the value of the first is in the path, `shop=..` in the query.
        """
        return response_of(online.features(key, value, dict(request.query_params)))


def _add_tables(app: FastAPI, calls: TableCalls) -> None:
    row = {"type": "object", "properties": {"valid_from": {"type": "string"}}}

    @app.get("/v1/tables", tags=["tables"])
    def tables() -> Response:
        """The tables that the detector looks transactions up in, and how much is in each."""
        return ok({"tables": calls.tables()})

    @app.post(
        "/v1/tables/{name}",
        openapi_extra=_takes({JSON: _one_or_many(row), NDJSON: {"type": "string"}}),
        tags=["tables"],
    )
    async def tell(request: Request, name: str) -> Response:
        """Tell rows of a table, one or up to 1,000: all are taken, or none. They count from `valid_from` on, or now.

        `{"card_id": .., "limit": 500}`, with the field that the table is looked up by and its columns; a table of
        ranges has `first` and `last`, or a network as `first`. A row without any column is removed. What is told again
        changes nothing.
        """
        return ok(await calls.tell(request, name))

    @app.get("/v1/tables/{name}/{key:any_text}", tags=["tables"])
    def row_of(name: str, key: str, as_of: str | None = None) -> Response:
        """The row that a transaction with this text would find now, or at the moment `as_of`."""
        return ok(calls.row(name, key, as_of))


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics", tags=["metrics"])
    async def figures() -> Response:
        """The main figures as one JSON object, of all processes together."""
        return ok(metrics.figures())

    @app.get("/metrics/prom", tags=["metrics"], response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Everything that is measured, in the text format of Prometheus."""
        body, media = await metrics.prometheus()
        return response_of(Reply(200, body, media))


def _add_health(app: FastAPI, health: Health, place: Place, detectors: Detectors) -> None:
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
            "detectors": detectors.names_of(place.tenant),
            "endpoints": sorted(
                {address_below(place.prefix, getattr(route, "path_format", "")) for route in app.routes}
            ),
        }
