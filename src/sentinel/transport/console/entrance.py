"""The entrance: nothing but the log-in is answered to whoever is not logged in, and no page to who may not see it."""

from collections.abc import Mapping
from contextlib import suppress
from http.cookies import SimpleCookie
from time import monotonic
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sentinel.errors import Forbidden, SentinelError, TooLarge, Unauthorized
from sentinel.events.times import clock_us
from sentinel.record.audit import By
from sentinel.transport.access.claims import Claims, Peer
from sentinel.transport.access.origins import Origins
from sentinel.transport.access.scopes import SAFE_METHODS
from sentinel.transport.access.scopes import Scope as Right
from sentinel.transport.console.doors import OF_EVERYONE, is_look, is_open, needed_for
from sentinel.transport.console.looks import Looks
from sentinel.transport.console.problems import problem_page
from sentinel.transport.people.people import People
from sentinel.transport.people.sessions import Session, Sessions

MOST_BYTES = 131_072
"""Of a form: a transaction of 64 KiB, percent-encoded."""

CSRF = "x-csrf-token"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_STRICT = (b"strict-transport-security", b"max-age=31536000")


class Cookie:
    """The cookie that holds the token: for our own pages, for no script, over TLS alone where there is any."""

    def __init__(self, *, is_secure: bool, name: str = "sentinel") -> None:
        self.is_secure = is_secure
        self.name = f"__Host-{name}" if is_secure else name

    def token(self, headers: Mapping[str, str]) -> str | None:
        """What a request brings."""
        found = SimpleCookie(headers.get("cookie", "")).get(self.name)
        return found.value if found else None

    def put(self, response: Response, token: str, seconds: int) -> None:
        """Have the browser keep a token."""
        response.set_cookie(
            self.name, token, max_age=seconds, httponly=True, samesite="lax", secure=self.is_secure, path="/"
        )

    def take(self, response: Response) -> None:
        """Have the browser forget it."""
        response.delete_cookie(self.name, httponly=True, samesite="lax", secure=self.is_secure, path="/")


class Entrance:
    """Lets requests in, as an ASGI application. `request.state` has `peer` then, and `session` but for what is open.

    Whatever writes has to come from a page of ours (Host, Origin, Sec-Fetch-Site) and to bring the token of the session
    in the header `x-csrf-token`; the log-in has no session yet, and is protected by the former alone.
    """

    def __init__(
        self, app: ASGIApp, sessions: Sessions, cookie: Cookie, origins: Origins, people: People, looks: Looks
    ) -> None:
        self._app, self._sessions = app, sessions
        self._people, self._looks = people, looks
        self._cookie, self._origins = cookie, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["peer"] = Peer.of(scope.get("client"))
        sending = self._with_headers(scope, send)
        try:
            headers = self._check(scope)
            if not is_open(scope["path"]):
                scope["state"]["session"] = await self._let_in(scope, headers)
        except SentinelError as error:
            await self._turned_away(Request(scope), error)(scope, receive, sending)
            return
        with suppress(ClientDisconnect):  # whoever sent it is gone before all of it has come: nothing was begun
            await self._app(scope, receive, sending)

    def _check(self, scope: Scope) -> Headers:
        headers, writes = Headers(scope=scope), scope["method"] not in SAFE_METHODS
        self._origins.check(Claims.of(Right.READ, headers, writes=writes))
        if "transfer-encoding" in headers:  # it is what counts where both are there, and has no bound
            raise TooLarge("Send a Content-Length, and no Transfer-Encoding")
        if writes and not headers.get("content-length", "").isdecimal():
            raise TooLarge("Send a Content-Length")
        if int(headers.get("content-length") or 0) > MOST_BYTES:
            raise TooLarge(f"A form has at most {MOST_BYTES} bytes")
        return headers

    async def _let_in(self, scope: Scope, headers: Headers) -> Session:
        """Who asks. Raises Unauthorized without a session that is good, Forbidden for what this person may not."""
        token = self._cookie.token(headers)
        if token is None:
            raise Unauthorized("Log in to go on")
        method, path = scope["method"], scope["path"]
        counts = headers.get("x-by-itself") is None and headers.get("accept") != "text/event-stream"
        session = await run_in_threadpool(self._sessions.find, token, clock_us(), counts=counts)
        if method not in SAFE_METHODS and headers.get(CSRF) != session.csrf:
            raise Forbidden("This form is of an older session: load the page again, then send it again")
        if session.person.must_change and path not in OF_EVERYONE:
            raise _MustChange
        needs = needed_for(method, path)
        if needs is not None and needs not in session.person.scopes:
            scope["state"]["session"] = session
            raise Forbidden(
                f"This needs the right '{needs}', which the role {session.person.role} does not have. An admin can "
                "give you another role"
            )
        if is_look(method, path):
            await self._count_look(scope, session)
        return session

    async def _count_look(self, scope: Scope, session: Session) -> None:
        """Raise RateLimited for who looks at more than anybody reads."""
        now_s, name = monotonic(), session.person.name
        wait_s = self._looks.wait_s(name, now_s)
        if not wait_s:
            return
        if self._looks.is_news(name, now_s):
            by = By(name, scope["state"]["peer"].address, "console: look at too much", f"{wait_s} s to wait")
            await run_in_threadpool(self._people.note, by, clock_us(), None, "slowed")
        scope["state"]["session"] = session
        raise self._looks.refusal(wait_s)

    def _turned_away(self, request: Request, error: SentinelError) -> Response:
        """To the log-in, and back from there to where one wanted to go; else a page that says what is wrong."""
        if not isinstance(error, Unauthorized | _MustChange):
            return problem_page(request, error)
        to = "/password" if isinstance(error, _MustChange) else f"/login?next={quote(_wanted(request), safe='/')}"
        if "hx-request" in request.headers:
            return Response(status_code=401, headers={"hx-redirect": to})
        if request.headers.get("accept") == "text/event-stream":
            return Response(status_code=401)
        response = RedirectResponse(to, 303)
        if isinstance(error, Unauthorized) and self._cookie.token(request.headers):
            self._cookie.take(response)
        return response

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        is_file = scope["path"].startswith("/static/")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message.get("headers", ())}
                more = [
                    one for one in (*_HEADERS, *([_STRICT] if self._cookie.is_secure else ())) if one[0] not in given
                ]
                if not is_file:
                    more.append((b"cache-control", b"no-store"))
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        return sending


class _MustChange(SentinelError):
    """The password was made by another person, and is to be changed first."""


def _wanted(request: Request) -> str:
    """The address of the page that one was on."""
    if "hx-request" in request.headers:
        url = request.headers.get("hx-current-url", "/")
        return safe_next("/" + url.partition("://")[2].partition("/")[2])
    if request.method not in SAFE_METHODS:
        return "/"
    return safe_next(request.url.path + (f"?{request.url.query}" if request.url.query else ""))


def safe_next(path: str) -> str:
    r"""An address of ours to go on to; the first page for whatever leads elsewhere.

    >>> safe_next("/search?id=7"), safe_next("//evil.example"), safe_next("https://evil.example"), safe_next("/\\evil")
    ('/search?id=7', '/', '/', '/')
    """
    is_ours = path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable() and len(path) <= 2_000
    return path if is_ours and not path.startswith(("/login", "/logout")) else "/"
