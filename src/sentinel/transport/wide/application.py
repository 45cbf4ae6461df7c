"""The HTTP application of a front: scoring calls that the fast lane does not take, health and metrics."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import msgspec
from fastapi.concurrency import run_in_threadpool
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as Path

from sentinel import __version__
from sentinel.homes import Place
from sentinel.telemetry.counters import Slot
from sentinel.telemetry.prometheus import Gauge, model_info, render
from sentinel.transport.http.bodies import read_body
from sentinel.transport.http.calls import Call, Route
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.door import Door
from sentinel.transport.http.replies import Reply, response_of
from sentinel.transport.http.routes import tell_faults
from sentinel.transport.wide.following import Following
from sentinel.transport.wide.front import Front

_encode = msgspec.json.encode


class Beside(Protocol):
    """What works beside HTTP: `start` is called in the loop, `stop` from another thread."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


class Handing(Protocol):
    """What hands over."""

    problem: str | None


class FrontPages:
    """What a front tells of itself."""

    def __init__(self, front: Front, handing: Handing, following: Following) -> None:
        self._front, self._handing, self._following = front, handing, following

    @property
    def _reason(self) -> str | None:
        """Why nothing should be asked here, in a word; None where all is well."""
        if self._handing.problem is not None:
            return "log"
        return "deployment" if self._following.is_old else None

    async def live(self, _request: Request) -> Response:
        """The process answers."""
        return response_of(Reply(200, _encode({"live": True})))

    async def ready(self, _request: Request) -> Response:
        """Answers are given now, by what is in force: without profiles by the fallback, without the topic none."""
        reason = self._reason
        return response_of(Reply(200 if reason is None else 503, _encode({"ready": reason is None, "reason": reason})))

    async def report(self, _request: Request) -> Response:
        """Model, topic, profiles, what it decides by, and queue; 503 unless it is ready."""
        judge, following = self._front.judge, self._following
        manifest, problem = judge.contender.bundle.manifest, self._handing.problem or following.why_old
        facts: dict[str, Any] = {
            "status": "ready" if problem is None else "not ready",
            "reason": problem,
            "version": __version__,
            "model_version": manifest.version,
            "detector": manifest.detector,
            "waiting": self._front.waiting,
            "profiles": {"status": self._front.problem or "ok", "age_ms": self._front.age_ms},
            "deployment": {
                "status": following.problem or "ok",
                "revision": judge.lineup.revision,
                "rules": None if judge.lineup.rules is None else judge.lineup.rules.draft,
                "known_s_ago": round(following.age_s, 3),
                "waits_for_profiles": None if self._front.next is None else self._front.next.lineup.revision,
            },
        }
        return response_of(Reply(200 if problem is None else 503, _encode(facts)))

    async def prometheus(self, _request: Request) -> Response:
        """Everything that is measured, in the text format of Prometheus."""
        ledger = self._front.ledger
        ledger.settle()
        ledger.counters.set(Slot.QUEUE_LENGTH, self._front.waiting)
        judge, age_ms = self._front.judge, self._front.age_ms
        manifest = judge.contender.bundle.manifest
        gauges = [
            model_info("champion", manifest.version, manifest.detector),
            Gauge("sentinel_profiles_available", "1 while Redis has profiles of this model", float(age_ms is not None)),
            Gauge("sentinel_deployment_revision", "The revision that is decided by", float(judge.lineup.revision)),
            Gauge("sentinel_deployment_known_seconds", "How long ago it was in force", self._following.age_s),
        ]
        if age_ms is not None:
            gauges.append(Gauge("sentinel_profiles_age_seconds", "How old they were in the last turn", age_ms / 1000))
        body, media = render(ledger.counters, gauges)
        return response_of(Reply(200, body, media))


def application_of(
    detectors: Detectors, pages: FrontPages, front: Front, beside: Sequence[Beside], stop: Callable[[], None]
) -> Starlette:
    """What answers at a front; it starts and stops what works beside. `stop` is called last, from another thread."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        for one in beside:
            one.start()
        access = asyncio.create_task(detectors.access.follow({}))
        yield
        access.cancel()
        await front.settled()
        for one in beside:
            await run_in_threadpool(one.stop)
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
