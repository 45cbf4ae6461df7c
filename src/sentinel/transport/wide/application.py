"""The HTTP application of a front: scoring calls that the fast lane does not take, health and metrics."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi.concurrency import run_in_threadpool
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as Path

from sentinel import __version__
from sentinel.homes import Place
from sentinel.serve.lineup import Contender
from sentinel.telemetry.prometheus import Gauge, model_info, render
from sentinel.transport.http.bodies import read_body
from sentinel.transport.http.calls import Call, Route
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.door import Door
from sentinel.transport.http.replies import Reply, response_of
from sentinel.transport.http.routes import tell_faults
from sentinel.transport.wide.front import Front
from sentinel.transport.wide.handing import Handing

_encode = msgspec.json.encode


class FrontPages:
    """What a front tells of itself."""

    def __init__(self, contender: Contender, front: Front, handing: Handing) -> None:
        self._contender, self._front, self._handing = contender, front, handing

    async def live(self, _request: Request) -> Response:
        """The process answers."""
        return response_of(Reply(200, _encode({"live": True})))

    async def ready(self, _request: Request) -> Response:
        """Answers are given now: without profiles by the rules, without the topic none."""
        away = self._handing.problem is not None
        return response_of(Reply(503 if away else 200, _encode({"ready": not away, "reason": "log" if away else None})))

    async def report(self, _request: Request) -> Response:
        """Model, topic, profiles and queue; 503 unless answers are given."""
        manifest, problem = self._contender.bundle.manifest, self._handing.problem
        facts: dict[str, Any] = {
            "status": "ready" if problem is None else "not ready",
            "reason": problem,
            "version": __version__,
            "model_version": manifest.version,
            "detector": manifest.detector,
            "waiting": self._front.waiting,
            "profiles": {"status": self._front.problem or "ok", "age_ms": self._front.age_ms},
        }
        return response_of(Reply(200 if problem is None else 503, _encode(facts)))

    async def prometheus(self, _request: Request) -> Response:
        """Everything that is measured, in the text format of Prometheus."""
        self._front.ledger.settle()
        manifest, age_ms = self._contender.bundle.manifest, self._front.age_ms
        gauges = [
            model_info("champion", manifest.version, manifest.detector),
            Gauge("sentinel_profiles_available", "1 while Redis has profiles of this model", float(age_ms is not None)),
        ]
        if age_ms is not None:
            gauges.append(Gauge("sentinel_profiles_age_seconds", "How old they were in the last turn", age_ms / 1000))
        body, media = render(self._front.ledger.counters, gauges)
        return response_of(Reply(200, body, media))


def application_of(
    detectors: Detectors, pages: FrontPages, front: Front, handing: Handing, stop: Callable[[], None]
) -> Starlette:
    """What answers at a front; it starts and stops what hands over. `stop` is called last, from another thread."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        handing.start()
        following = asyncio.create_task(detectors.access.follow({}))
        yield
        following.cancel()
        await front.settled()
        await run_in_threadpool(handing.stop)
        await run_in_threadpool(stop)

    async def score(request: Request) -> Response:
        call = Call.of(Route.SCORE, request.headers, request.state.detector)
        try:
            body = await read_body(request, detectors.settings.max_body_bytes)
        except ClientDisconnect:
            return Response()  # the client has gone
        return response_of(await detectors.answer(call, body, request.state.peer))

    async def refused(request: Request) -> Response:
        call = Call.of(Route(request.scope["path"]), request.headers, request.state.detector)
        return response_of(await detectors.answer(call, b"{}", request.state.peer))

    others = [Path(route, refused, methods=["POST"]) for route in Route if route is not Route.SCORE]
    inner = Starlette(
        routes=[
            Path(Route.SCORE, score, methods=["POST"]),
            *others,
            Path("/health/live", pages.live),
            Path("/health/ready", pages.ready),
            Path("/health/startup", pages.ready),
            Path("/health", pages.report),
            Path("/metrics/prom", pages.prometheus),
        ]
    )
    tell_faults(inner)
    outer = Starlette(lifespan=lifespan)
    outer.router.default = Door(detectors, {Place(): inner})
    tell_faults(outer)
    return outer
