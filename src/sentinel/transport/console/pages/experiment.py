"""The experiment: a challenger decides for a share of the cards, until somebody promotes it or ends it."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from sentinel.errors import InvalidInput
from sentinel.events.times import clock_us
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Refused, Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.people.people import People

METRICS = (
    ("block_rate", "Blocked", "of all decisions of a variant, how many are blocks"),
    ("flag_rate", "Disturbed", "challenged, reviewed or blocked, of all decisions of a variant"),
    ("precision", "Right when disturbed", "of what was disturbed and is known by now, how much was fraud"),
    (
        "mean_cost",
        "Cost a payment",
        "what decisions with a known outcome cost on average: missed fraud and false alarms",
    ),
)
_Version = Annotated[str, Form(max_length=64)]
_Text = Annotated[str, Form(max_length=256)]
_Share = Annotated[float, Form(ge=0, le=100)]


def experiment_pages(server: Server, stored: Stored, people: People) -> APIRouter:
    """`/models/experiment`, its figures, its plot, and what an operator does with it."""
    router = APIRouter()

    @router.get("/models/experiment")
    def experiment(request: Request) -> Response:
        status = server.get("/admin/ab/status").json
        others = [one for one in reversed(stored.registry.versions()) if one != status["version_a"]]
        return page(request, "experiment.html", _shown(status) | {"others": others})

    @router.get("/models/experiment/figures")
    def figures(request: Request) -> Response:
        return part(request, "experiment_figures.html", _shown(server.get("/admin/ab/status").json))

    @router.get("/models/experiment/trail")
    def trail() -> Response:
        return Response(server.get("/admin/ab/trail").body, media_type="application/json")

    @router.post("/models/experiment/begin")
    def begin(request: Request, version: _Version = "", percent: _Share = 10.0) -> Response:
        people.note(by_person(request, "begin an experiment", f"{version}, {percent:g} %"), clock_us())
        server.tell("/admin/ab/setup", {"candidate_version": version})
        server.tell("/admin/ab/split", {"percent": percent})
        return _again()

    @router.post("/models/experiment/share")
    def change_share(request: Request, percent: _Share = 0.0) -> Response:
        people.note(by_person(request, "change the share of an experiment", f"{percent:g} %"), clock_us())
        server.tell("/admin/ab/split", {"percent": percent})
        return _again()

    @router.post("/models/experiment/promote")
    def promote(request: Request, version: _Version = "", because: _Text = "") -> Response:
        running = server.get("/admin/ab/status").json.get("version_b")
        if version != running:
            raise InvalidInput(f"The experiment is one with {running or 'nobody'} by now; load the page again")
        people.note(by_person(request, "promote the challenger", f"{version} {because}".strip()), clock_us())
        try:
            server.tell("/admin/ab/promote", {"forced_because": because} if because.strip() else {})
        except Refused as error:
            if error.status != 409 or because.strip():
                raise
            refused = {"version": version, "said": str(error), "to": "/models/experiment/promote"}
            return part(request, "model_refused.html", refused, 409)
        return _again()

    @router.post("/models/experiment/abort")
    def abort(request: Request, reason: _Text = "") -> Response:
        people.note(by_person(request, "end an experiment", reason), clock_us())
        server.tell("/admin/ab/abort", {"reason": reason.strip()} if reason.strip() else {})
        return _again()

    return router


def _again() -> Response:
    return Response(status_code=200, headers={"hx-redirect": "/models/experiment"})


def _shown(status: dict[str, Any]) -> dict[str, Any]:
    """What both the page and its figures show."""
    return {"one": status, "metrics": METRICS, "found": _verdicts(status), "ended": status["ended"]}


def _verdicts(status: dict[str, Any]) -> list[str]:
    """The differences that are real, in words."""
    comparison = status["comparison"]
    if comparison is None:
        return []
    a, b = status["version_a"], status["version_b"]
    said = {"a higher": f"{{}} is surely higher with {a}", "b higher": f"{{}} is surely higher with {b}"}
    verdicts = ((name, comparison[key]["verdict"]) for key, name, _ in METRICS)
    return [said[verdict].format(f"\u201c{name}\u201d") for name, verdict in verdicts if verdict in said]
