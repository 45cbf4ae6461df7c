"""The door of the framework's lane: no call of it is made before its caller was let in.

The scoring calls pass: they are let in by `Api.begin`, where both lanes meet.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sentinel.errors import BadBody, SentinelError, WrongMedia
from sentinel.transport.access.access import Access
from sentinel.transport.access.claims import Claims, Peer
from sentinel.transport.access.scopes import SAFE_METHODS, needed_scope
from sentinel.transport.http.calls import Route
from sentinel.transport.http.replies import JSON, reply_to, response_of

_SCORING = frozenset(Route)
_ONCE = ("host", "authorization", "origin", "content-type", "sec-fetch-site")


class Door:
    """Lets requests in to an application, as an ASGI middleware. `state` of a request has `peer` and `caller` then."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] == "http":
            try:
                self._let_in(scope)
            except SentinelError as error:
                await response_of(reply_to(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _let_in(self, scope: Scope) -> None:
        """Raise Unauthorized, Forbidden, RateLimited, BadBody, WrongMedia unless the request may go on."""
        headers = Headers(scope=scope)
        for name in _ONCE:
            if len(headers.getlist(name)) > 1:
                raise BadBody(f"The header {name} came twice; send one")
        state = scope.setdefault("state", {})
        state["peer"] = Peer.of(scope.get("client"))
        method, path = scope["method"], scope["path"]
        if method == "POST" and path in _SCORING:
            return
        writes = method not in SAFE_METHODS
        claims = Claims.of(needed_scope(method, path), dict(headers), writes=writes)
        state["caller"] = self._access.admit(claims, state["peer"]).caller
        if writes:
            _check_media(headers)


def _check_media(headers: Headers) -> None:
    """Raise WrongMedia unless the body is said to be JSON; a call without a body needs no type."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if kind == JSON or (not kind and not has_body):
        return
    wrong = f"Content-Type {kind[:80]!r} is not understood" if kind else "The header Content-Type is missing"
    raise WrongMedia(f"{wrong}; send {JSON}")
