"""Logging in and out, and one's own password."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from sentinel.errors import Forbidden, InvalidInput, SentinelError
from sentinel.events.times import SECOND_US, clock_us
from sentinel.record.audit import By
from sentinel.transport.console.drawing import page
from sentinel.transport.console.entrance import Cookie, safe_next
from sentinel.transport.console.problems import status_of
from sentinel.transport.people.logging_in import LogIn
from sentinel.transport.people.people import People
from sentinel.transport.people.sessions import Sessions
from sentinel.transport.people.signing_on import SignOn

_Text = Annotated[str, Form(max_length=4_096)]


def by_person(request: Request, what: str, asked: str = "") -> By:
    """Who does this, for the audit."""
    return By(request.state.session.person.name, request.state.peer.address, f"console: {what}", asked)


def log_in_pages(
    people: People, sessions: Sessions, cookie: Cookie, sign_on: SignOn | None, address: str, *, takes_passwords: bool
) -> APIRouter:
    """`/login`, `/logout` and `/password`; with `sign_on` a provider lets people in, too, or alone."""
    router, log_in = APIRouter(), LogIn(people)
    lasts_s = sessions.lasting.longest_us // SECOND_US
    ways = {"by_provider": sign_on is not None, "takes_passwords": takes_passwords}

    @router.get("/login")
    def form(request: Request, next: str = "/") -> Response:  # noqa: A002 - the name in the address
        return page(request, "log_in.html", {"next": safe_next(next), "said": "", "name": ""} | ways)

    @router.post("/login")
    def begin(request: Request, name: _Text = "", password: _Text = "", next: _Text = "/") -> Response:  # noqa: A002
        peer, now_us = request.state.peer, clock_us()
        try:
            if not takes_passwords:
                raise Forbidden("Passwords are not taken here: log in by the provider")
            person = log_in.person(name, password, peer, now_us)
        except SentinelError as error:
            shown = {"next": safe_next(next), "said": str(error), "name": name[:64]} | ways
            return page(request, "log_in.html", shown, status_of(error))
        token = sessions.begin(person, By(person.name, peer.address, "console: log in"), now_us)
        response = RedirectResponse("/password" if person.must_change else safe_next(next), 303)
        cookie.put(response, token, lasts_s)
        return response

    @router.post("/logout")
    async def end(request: Request) -> Response:
        session = request.state.session
        await run_in_threadpool(sessions.end, session, by_person(request, "log out"), clock_us())
        elsewhere = None
        if sign_on is not None:
            elsewhere = await run_in_threadpool(sign_on.log_out_address, session.person.name, f"{address}/login")
        response = Response(status_code=200, headers={"hx-redirect": elsewhere or "/login"})
        cookie.take(response)
        return response

    @router.get("/password")
    def own_password(request: Request) -> Response:
        return page(request, "password.html", {"said": ""})

    @router.post("/password")
    def change(request: Request, old: _Text = "", new: _Text = "", again: _Text = "") -> Response:
        person, now_us = request.state.session.person, clock_us()
        try:
            if new != again:
                raise InvalidInput("The new password is not the same twice")
            if new == old:
                raise InvalidInput("The new password is the old one")
            log_in.person(person.name, old, request.state.peer, now_us)
            by = by_person(request, "change the own password")
            changed = people.set_password(person.name, new, by, now_us, must_change=False)
        except SentinelError as error:
            return page(request, "password.html", {"said": str(error)}, status_of(error))
        token = sessions.begin(changed, by_person(request, "log in"), now_us)
        response = Response(status_code=200, headers={"hx-redirect": "/"})
        cookie.put(response, token, lasts_s)
        return response

    return router
