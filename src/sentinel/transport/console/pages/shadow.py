"""The shadow: a model that scores everything and decides nothing, beside what was decided."""

from typing import Any

from fastapi import APIRouter, Request, Response

from sentinel.transport.console.drawing import page
from sentinel.transport.console.model_figures import in_force
from sentinel.transport.console.server import Refused, Server
from sentinel.transport.console.words import ACTIONS


def shadow_pages(server: Server) -> APIRouter:
    """`/models/shadow`."""
    router = APIRouter()

    @router.get("/models/shadow")
    def shadow(request: Request) -> Response:
        state, problem = in_force(server)
        status, report = server.get("/admin/shadow/status").json, _report(server)
        values = {"state": state, "status": status, "report": report, "problem": problem}
        if report is not None:
            values |= {"bars": _bars(report["distribution"]), "most": _most(report), "differing": _differing(report)}
        return page(request, "shadow.html", values)

    return router


def _report(server: Server) -> dict[str, Any] | None:
    """The report; None before any shadow has scored anything."""
    try:
        found: dict[str, Any] = server.get("/admin/shadow/report").json
    except Refused as error:
        if error.status != 404:
            raise
        return None
    return found if found["compared"] else None


def _bars(distribution: dict[str, Any]) -> list[dict[str, float]]:
    """For each bin from 0 to 100 how high the bars of both sides are, in percent; by logarithm, as most is near 0."""
    top = max(*distribution["live"], *distribution["shadow"], 1)
    digits = len(str(top))

    def height(n: int) -> float:
        return 0.0 if n == 0 else round(100 * min((len(str(n)) - 1 + n / 10 ** len(str(n))) / digits, 1.0), 1)

    both = zip(distribution["edges"], distribution["live"], distribution["shadow"], strict=False)
    return [
        {"edge": edge, "live": live, "shadow": other, "a": height(live), "b": height(other)}
        for edge, live, other in both
    ]


def _most(report: dict[str, Any]) -> int:
    return int(max(max(row.values()) for row in report["matrix"].values()))


def _differing(report: dict[str, Any]) -> dict[str, int]:
    """How often the shadow would have been harsher, and how often milder."""
    pairs = [
        (ACTIONS.index(live), ACTIONS.index(other), n)
        for live, row in report["matrix"].items()
        for other, n in row.items()
    ]
    return {
        "harsher": sum(n for live, other, n in pairs if other > live),
        "milder": sum(n for live, other, n in pairs if other < live),
    }
