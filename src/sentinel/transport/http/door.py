"""The door of the framework's lane: no call is made before its caller was let in, and only to a detector of theirs.

The scoring calls pass: they are let in by `Detectors.begin`, where both lanes meet. What may come
once in a head comes once: the reader of heads has seen to it (`heads.py`).
"""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sentinel.errors import SentinelError
from sentinel.events.card_numbers import masked
from sentinel.homes import Place
from sentinel.transport.access.claims import Peer
from sentinel.transport.http.calls import Route, asked_of, wrong_media
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.replies import JSON, NDJSON, reply_to, response_of

LINES_TOO = ("/v1/tables/", "/v1/lists/")
"""Paths below which a body may be lines."""
_SCORING = frozenset(Route)


class Door:
    """Lets requests in, as an ASGI application, and hands them to the application of the detector that they are for.

    `state` of a request has `peer`, `caller`, `detector` and `path`, as it was asked, then; for a scoring call all but
    the `caller`. HEAD is answered as GET is; what sends the answer leaves its body out.
    """

    def __init__(self, detectors: Detectors, applications: Mapping[Place, ASGIApp]) -> None:
        self._detectors = detectors
        self._applications = applications

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        try:
            application, scope = self._let_in(scope)
        except SentinelError as error:
            claims = asked_of(scope["method"], scope["path"], Headers(scope=scope))[2]
            await response_of(reply_to(self._detectors.turned_away(error, claims)))(scope, receive, send)
            return
        await application(scope, receive, _without_card_numbers(send))

    def _let_in(self, scope: Scope) -> tuple[ASGIApp, Scope]:
        """Who answers, and the request as it is for them.

        Raises Unauthorized, Forbidden, RateLimited, NotFound, WrongMedia unless it may go on.
        """
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        detector, below, claims = asked_of(method, path, headers)
        peer = Peer.of(scope.get("client"))
        state = {**scope.get("state", {}), "peer": peer, "path": path, "detector": detector}
        if method == "POST" and below in _SCORING:
            return self._applications[Place()], {**scope, "path": below, "state": state}
        let_in, place = self._detectors.admit(claims, peer, detector)
        if claims.writes:
            _check_media(headers, JSON, *([NDJSON] if below.startswith(LINES_TOO) else []))
        state["caller"], prefix = let_in.caller, place.prefix
        asked = {"method": "GET" if method == "HEAD" else method, "path": prefix + below, "root_path": prefix}
        return self._applications[place], {**scope, **asked, "state": state}


def _without_card_numbers(send: Send) -> Send:
    """The same, but that the address an answer leads to holds no card number: the framework makes it of what came."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, masked(value.decode("latin-1")).encode("latin-1")) if name == b"location" else (name, value)
                for name, value in message["headers"]
            ]
        await send(message)

    return sending


def _check_media(headers: Headers, *understood: str) -> None:
    """Raise WrongMedia unless the body is said to be what is understood; a call without a body needs no type."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if kind in understood or (not kind and not has_body):
        return
    raise wrong_media(kind, *understood)
