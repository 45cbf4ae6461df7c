"""Cases: the queue, in the order in which it is worked on, and how the work goes; the filters are in the address."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from sentinel.events.times import clock_us
from sentinel.transport.access.scopes import Scope
from sentinel.transport.console.case_words import as_seen
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Refused, Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.people.people import People

ROWS = 50
DAYS = 7
TABS = {"work": "Work", "waiting": "Waiting", "escalated": "Escalated", "done": "Done"}
_NAMED = ("state", "holder", "priority", "overdue", "cursor")


def case_pages(server: Server, stored: Stored, people: People) -> APIRouter:
    """`/cases`, its count, and the next case."""
    router = APIRouter()

    @router.get("/cases")
    def queue(request: Request) -> Response:
        asked = _asked(request)
        people.note(by_person(request, "look at the queue of cases", urlencode(asked)), clock_us())
        found = server.get(f"/v1/cases?{urlencode({**asked, 'limit': ROWS})}").json
        figures = server.get(f"/v1/cases/figures?days={DAYS}").json
        filters = {name: value for name, value in asked.items() if name != "cursor"}
        values = {
            "asked": asked, "rows": [as_seen(one, found["as_of"]) for one in found["cases"]], "total": found["total"],
            "next": None if found["next"] is None else urlencode({**filters, "cursor": found["next"]}),
            "figures": figures, "ages": _bars(figures["waiting_by_age"]), "tabs": _tabs(filters), "days": DAYS,
            "me": request.state.session.person.name, "filters": len([name for name in filters if name != "state"]),
            "currency": stored.currency(), "may_work": Scope.CASES in request.state.session.person.scopes,
        }  # fmt: skip
        return page(request, "cases.html", values)

    @router.get("/cases/count")
    def count(request: Request) -> Response:
        return part(request, "cases_count.html", {"figures": server.get(f"/v1/cases/figures?days={DAYS}").json})

    @router.post("/cases/next")
    def take_next(request: Request) -> Response:
        """The next case that waits is taken and opened; without one, the queue says that all is done."""
        try:
            found = server.tell("/v1/cases/next", for_person(request))
        except Refused as refused:
            if refused.status != 404:
                raise
            return Response(headers={"hx-redirect": "/cases"})
        return Response(headers={"hx-redirect": f"/cases/{found['case']}"})

    return router


def for_person(request: Request) -> dict[str, Any]:
    """For whom the server is asked to do something."""
    person = request.state.session.person
    return {"person": person.name, "role": person.role}


def _asked(request: Request) -> dict[str, str]:
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    return {name: value for name, value in given.items() if name in _NAMED}


def _tabs(filters: Mapping[str, str]) -> list[tuple[str, str, bool]]:
    """Name, address and whether it is shown, of each part of the cases."""
    now = filters.get("state", "work")
    return [(name, f"/cases?{urlencode({**filters, 'state': state})}", state == now) for state, name in TABS.items()]


def _bars(by_age: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Age, how many, and that as a part of the largest."""
    most = max(by_age.values(), default=0) or 1
    return [(age, n, round(n / most * 100)) for age, n in by_age.items()]
