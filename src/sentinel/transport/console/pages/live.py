"""Live: what is decided now, how fast and how well, once a second; and the newest that was not approved."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from sentinel.errors import BundleProblem, InvalidInput, SentinelError
from sentinel.events.times import clock_us
from sentinel.model.bundle import Manifest
from sentinel.policy.thresholds import Action
from sentinel.record.views import DecisionQuery, ListedDecision, merged
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.entrance import Cookie
from sentinel.transport.console.feature_words import with_words, words_of
from sentinel.transport.console.samples import LONG_RANGES, RANGES, Samples
from sentinel.transport.console.stored import Stored, reasons_in
from sentinel.transport.console.words import fault_words
from sentinel.transport.people.sessions import Sessions

_NEWEST = 8
_LOOK_EVERY_S = 0.2
_SESSION_EVERY = 5  # events, after which the session is looked at
MOST_VIEWERS, MOST_OF_ONE = 100, 10
"""Pages that are told news at once, in all and of one person: nobody takes the places of all others."""


def live_pages(samples: Samples, stored: Stored, sessions: Sessions, cookie: Cookie, deadline_ms: float) -> APIRouter:
    """`/`, its events, and its table."""
    router = APIRouter()
    viewers: Counter[str] = Counter()

    @router.get("/")
    def live(request: Request, range: int = 60) -> Response:  # noqa: A002 - the name in the address
        _check(range)
        return page(
            request,
            "live.html",
            {
                "range": range,
                "has_latency": range in RANGES,
                "unit": "second" if range in RANGES else "day",
                "deadline_ms": deadline_ms,
            },
        )

    @router.get("/live/events")
    async def events(request: Request, range: int = 60) -> Response:  # noqa: A002
        _check(range)
        name = request.state.session.person.name
        if viewers.total() >= MOST_VIEWERS or viewers[name] >= MOST_OF_ONE:
            return Response(status_code=503, headers={"retry-after": "30"})
        return StreamingResponse(_counted(request, range, name), media_type="text/event-stream")

    async def _counted(request: Request, range_s: int, name: str) -> AsyncIterator[bytes]:
        viewers[name] += 1
        try:
            async for event in _events(request, range_s):
                yield event
        finally:
            viewers[name] -= 1

    async def _events(request: Request, range_s: int) -> AsyncIterator[bytes]:
        seen, told = -1, 0
        while not await request.is_disconnected():
            if samples.number != seen:
                seen, told = samples.number, told + 1
                if told % _SESSION_EVERY == 0 and not await _is_logged_in(request):
                    yield b"event: over\ndata: {}\n\n"
                    return
                yield b"data: " + samples.news(range_s) + b"\n\n"
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _is_logged_in(request: Request) -> bool:
        """Whether the session is still good; to be watched does not keep it so."""
        try:
            token = cookie.token(request.headers) or ""
            await run_in_threadpool(sessions.find, token, clock_us(), counts=False)
        except SentinelError:
            return False
        return True

    @router.get("/live/newest")
    def newest(request: Request) -> Response:
        with stored.view() as view:
            few = [DecisionQuery(action=one, limit=_NEWEST) for one in Action if one is not Action.APPROVE]
            rows = merged([view.search(one) for one in few], _NEWEST).rows
            positions = [one.position for one in rows]
            why, held = view.reasons_about(positions), view.rules_at(positions)
        shown = [
            {
                "row": one,
                "why": _said(held.get(one.position, ()), _first_reason(stored, one, reasons_in(why.get(one.position)))),
            }
            for one in rows
        ]
        return part(request, "live_newest.html", {"rows": shown, "currency": stored.currency()})

    @router.get("/live/drift")
    def drift(request: Request) -> Response:
        return part(request, "live_drift.html", {"drift": _drift(samples.drift, stored.champion())})

    return router


def _check(range_s: int) -> None:
    if range_s not in RANGES and range_s not in LONG_RANGES:
        raise InvalidInput(f"range is {range_s}; give one of {', '.join(map(str, (*RANGES, *LONG_RANGES)))} seconds")


def _said(held: Sequence[tuple[str, bool]], reason: str) -> str:
    """The rules that held, as far as they are no shadows, and what the model says."""
    fired = [f"rule {name}" for name, is_shadow in held if not is_shadow]
    return "; ".join([*fired, reason] if reason else fired)


def _first_reason(stored: Stored, row: ListedDecision, why: Mapping[str, Any] | None) -> str:
    """What spoke most for fraud, with its value."""
    if row.degraded is not None:
        return f"without the model: {fault_words(row.degraded)}"
    try:
        reasons = with_words(why, stored.manifest(row.model_version)) if why else []
    except BundleProblem:  # of a model that is gone
        return ""
    return f"{reasons[0]['words']}: {reasons[0]['value']}" if reasons and reasons[0]["contribution"] > 0 else ""


def _drift(report: dict[str, Any] | None, champion: Manifest) -> dict[str, Any] | None:
    """The part of a report of drift that fits a panel."""
    if report is None:
        return None
    words = {one.name: champion.reasons.get(one.name) or words_of(one) for one in champion.plan.features}
    moved = [one["name"] for one in report.get("per_feature", ()) if one["drifted"]]
    return {
        "n": report.get("drifted_features", 0), "enough": report.get("enough_data", False),
        "have": report.get("current_count", 0), "names": [words.get(one, one) for one in moved[:4]],
        "of": len(report.get("per_feature", ())), "fraud": report.get("matured_fraud"),
    }  # fmt: skip
