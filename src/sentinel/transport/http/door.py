"""The door of the framework's lane: no call is made before its caller was let in, and only to a detector of theirs.

The scoring calls pass: they are let in by `Detectors.begin`, where both lanes meet.
"""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sentinel.errors import SentinelError, WrongMedia
from sentinel.homes import Place
from sentinel.transport.access.claims import Claims, Peer
from sentinel.transport.access.scopes import SAFE_METHODS, needed_scope
from sentinel.transport.access.scopes import Scope as Needed
from sentinel.transport.http.addresses import address_of
from sentinel.transport.http.calls import Route
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.replies import JSON, reply_to, response_of

_SCORING = frozenset(Route)


class Door:
    """Lets requests in, as an ASGI application, and hands them to the application of the detector that they are for.

    `state` of a request has `peer`, `caller`, `detector` and `path`, as it was asked, then; for a scoring call all but
    the `caller`.
    """

    def __init__(self, detectors: Detectors, applications: Mapping[Place, ASGIApp]) -> None:
        self._detectors = detectors
        self._applications = applications

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        try:
            application, scope = self._let_in(scope)
        except SentinelError as error:
            await response_of(reply_to(error))(scope, receive, send)
            return
        await application(scope, receive, send)

    def _let_in(self, scope: Scope) -> tuple[ASGIApp, Scope]:
        """Who answers, and the request as it is for them.

        Raises Unauthorized, Forbidden, RateLimited, NotFound, WrongMedia unless it may go on.
        """
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        detector, below = address_of(path)
        peer = Peer.of(scope.get("client"))
        state = {**scope.get("state", {}), "peer": peer, "path": path, "detector": detector}
        if method == "POST" and below in _SCORING:
            return self._applications[Place()], {**scope, "path": below, "state": state}
        writes, needs = method not in SAFE_METHODS, needed_scope(method, below)
        if detector and needs is None:
            needs = Needed.READ  # only the server itself is everyone's to ask
        let_in, place = self._detectors.admit(Claims.of(needs, dict(headers), writes=writes), peer, detector)
        if writes:
            _check_media(headers)
        state["caller"], prefix = let_in.caller, place.prefix
        return self._applications[place], {**scope, "path": prefix + below, "root_path": prefix, "state": state}


def _check_media(headers: Headers) -> None:
    """Raise WrongMedia unless the body is said to be JSON; a call without a body needs no type."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if kind == JSON or (not kind and not has_body):
        return
    wrong = f"Content-Type {kind[:80]!r} is not understood" if kind else "The header Content-Type is missing"
    raise WrongMedia(f"{wrong}; send {JSON}")
