"""The thresholds explorer: what other thresholds would do, as one moves them; and putting them in force."""

from datetime import timedelta
from threading import BoundedSemaphore
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from sentinel.errors import InvalidInput, RateLimited
from sentinel.events.card_numbers import quoted
from sentinel.events.times import clock_us, iso
from sentinel.transport.console.drawing import page
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.people.people import People

PERIODS = {"tested": "Training", "1": "Day", "7": "7 days", "30": "30 days", "90": "90 days"}
MOVED = ("challenge", "review", "block")
_PATIENCE_S = 130.0  # a little more than the server gives to a long log
_DAY_US, _MINUTE_US = timedelta(days=1) // timedelta(microseconds=1), timedelta(minutes=1) // timedelta(microseconds=1)
_MOST_WAITING = 4  # for curves of the log: each takes one of the console's threads for as long as it takes
_AGAIN_S = 10
_Share = Annotated[float | None, Form(ge=0, le=1)]
_Note = Annotated[str, Form(max_length=500)]


def threshold_pages(server: Server, stored: Stored, people: People) -> APIRouter:
    """`/models/thresholds`, its curve, and the change."""
    router, places = APIRouter(), BoundedSemaphore(_MOST_WAITING)

    @router.get("/models/thresholds")
    def thresholds(request: Request, period: str = "tested") -> Response:
        _check(period)
        now = server.get("/admin/thresholds").json
        champion = stored.champion()
        own = champion.thresholds
        values = {
            "period": period, "periods": PERIODS, "now": now.get("a"), "own": own, "version": champion.version,
            "moved": [one for one in MOVED if own.get(one) is not None], "experiment": "b" in now,
        }  # fmt: skip
        return page(request, "thresholds.html", values)

    @router.get("/models/thresholds/curve")
    def curve(period: str = "tested") -> Response:
        _check(period)
        if period == "tested":
            return Response(server.get("/admin/thresholds/curve").body, media_type="application/json")
        if not places.acquire(blocking=False):
            raise RateLimited("Others wait for figures of the log already; ask again in a moment", _AGAIN_S)
        try:
            since_us = (
                clock_us() // _MINUTE_US * _MINUTE_US - int(period) * _DAY_US
            )  # so that the server knows it again
            found = server.get(f"/admin/thresholds/curve?from={iso(since_us)}", _PATIENCE_S)
        finally:
            places.release()
        return Response(found.body, media_type="application/json")

    @router.post("/models/thresholds")
    def apply(
        request: Request, note: _Note = "", review: _Share = None, block: _Share = None, challenge: _Share = None
    ) -> Response:
        if not note.strip():
            raise InvalidInput("Say why, so that whoever reads the audit knows")
        asked: dict[str, Any] = {
            name: value for name, value in zip(MOVED, (challenge, review, block), strict=True) if value is not None
        }
        shown = ", ".join(f"{name} from {value:.6g}" for name, value in asked.items()) or "those of the training"
        people.note(by_person(request, "change thresholds", f"{shown}: {note.strip()}"), clock_us())
        server.tell("/admin/thresholds", asked)
        return Response(status_code=200, headers={"hx-redirect": "/models/thresholds"})

    return router


def _check(period: str) -> None:
    if period not in PERIODS:
        raise InvalidInput(f"period is {quoted(period, 40)}; give one of {', '.join(PERIODS)}")
