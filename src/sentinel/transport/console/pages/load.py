"""The load tester: so many transactions a second for so long, and what came back."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse

from sentinel.errors import SentinelError
from sentinel.events.times import clock_us
from sentinel.transport.console.doors import needed_for
from sentinel.transport.console.drawing import page
from sentinel.transport.console.entrance import Cookie
from sentinel.transport.console.load_test import LONGEST_S, MOST_RATE, SHORTEST_S, Example, LoadTester, Plan
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.pages.try_it import described
from sentinel.transport.console.server import Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.people.people import People
from sentinel.transport.people.sessions import Sessions


def load_pages(
    server: Server, stored: Stored, people: People, tester: LoadTester, sessions: Sessions, cookie: Cookie, prefix: str
) -> APIRouter:
    """`/try/load`, and what is begun and stopped there."""
    router = APIRouter()

    @router.get("/try/load")
    def form(request: Request) -> Response:
        limits = {"most_rate": MOST_RATE, "shortest": SHORTEST_S, "longest": LONGEST_S}
        return page(request, "load.html", {"state": tester.state(), "server": server.url, **limits})

    @router.get("/try/load/state")
    def state() -> Response:
        return JSONResponse(tester.state())

    @router.post("/try/load/begin")
    def begin(request: Request, rate: Annotated[int, Form()] = 0, seconds: Annotated[int, Form()] = 0) -> Response:
        plan = Plan(rate, seconds, request.state.session.person.name)
        example, token = _example(server, stored, prefix), cookie.token(request.headers) or ""
        run = tester.begin(plan, example, lambda: may_send(sessions, token, clock_us()))
        by = by_person(request, "begin a load test", f"{rate} a second for {seconds} s, ids load-{run.name}-...")
        people.note(by, clock_us())
        return Response(status_code=200, headers={"hx-redirect": "/try/load"})

    @router.post("/try/load/stop")
    def stop(request: Request) -> Response:
        people.note(by_person(request, "stop a load test"), clock_us())
        tester.stop(f"stopped by {request.state.session.person.name}")
        return Response(status_code=200, headers={"hx-redirect": "/try/load"})

    return router


def may_send(sessions: Sessions, token: str, now_us: int) -> bool:
    """Whether whoever began a load test is logged in, and still has the right to."""
    try:
        person = sessions.find(token, now_us, counts=False).person
    except SentinelError:
        return False
    needs = needed_for("POST", "/try/load/begin")
    return needs is None or needs in person.scopes


def _example(server: Server, stored: Stored, prefix: str) -> Example:
    """What is sent: the example that the server itself describes. Raises NotReady while no model decides."""
    _, transaction = described(server.get("/openapi.json").json, prefix)
    schema = stored.champion().plan.schema
    as_they_are = {*schema.keep_digits, *schema.keep_domain}  # parts of these are read
    keys = tuple(one for one in schema.keys if one not in as_they_are)
    return Example(transaction, schema.id, schema.time, schema.amount, keys)
