"""Logging in by a provider: there, and back."""

import secrets

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from sentinel.errors import SentinelError
from sentinel.events.times import SECOND_US, clock_us
from sentinel.record.audit import By
from sentinel.transport.console.drawing import page
from sentinel.transport.console.entrance import Cookie, safe_next
from sentinel.transport.console.problems import status_of
from sentinel.transport.people.provider import ProviderAway
from sentinel.transport.people.sessions import Sessions
from sentinel.transport.people.signing_on import LASTS_S, SignOn

BACK = "/login/provider/back"
"""Where the provider sends browsers back to; it has to know this address."""


def sign_on_pages(sign_on: SignOn, sessions: Sessions, cookie: Cookie, *, takes_passwords: bool) -> APIRouter:
    """`/login/provider`, and the way back."""
    router = APIRouter()
    browser_cookie = Cookie(is_secure=cookie.is_secure, name="sentinel-sign-on")

    @router.get("/login/provider")
    def begin(request: Request, next: str = "/") -> Response:  # noqa: A002 - the name in the address
        browser = secrets.token_urlsafe(32)
        try:
            address = sign_on.begin(browser, safe_next(next), request.state.peer.network, clock_us() / SECOND_US)
        except SentinelError as error:
            return _refused(request, error)
        response = RedirectResponse(address, 303)
        browser_cookie.put(response, browser, LASTS_S)
        return response

    @router.get(BACK)
    def back(request: Request) -> Response:
        now_us, peer = clock_us(), request.state.peer
        browser = browser_cookie.token(request.headers)
        try:
            person, go_on = sign_on.come_back(dict(request.query_params), browser, peer, now_us)
        except SentinelError as error:
            return _refused(request, error)
        by = By(person.name, peer.address, "console: log in by the provider")
        token = sessions.begin(person, by, now_us)
        response = RedirectResponse(go_on, 303)
        browser_cookie.take(response)
        cookie.put(response, token, sessions.lasting.longest_us // SECOND_US)
        return response

    def _refused(request: Request, error: SentinelError) -> Response:
        status = 503 if isinstance(error, ProviderAway) else status_of(error)
        shown = {"next": "/", "said": str(error), "name": "", "by_provider": True, "takes_passwords": takes_passwords}
        return page(request, "log_in.html", shown, status)

    return router
