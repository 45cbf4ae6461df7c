"""The server that the console asks: for what is live, for one decision, and for whatever changes something."""

import json
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from sentinel.errors import SentinelError
from sentinel.homes import Place
from sentinel.transport.client import Unreachable
from sentinel.transport.http.addresses import address_below
from sentinel.transport.http.admin.changes import PERSON

_PATIENCE_S = 15.0
_MOST_BYTES = 32 << 20


class Refused(SentinelError):
    """The server said no; `status` is its, the text its own sentence."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Answer(NamedTuple):
    """What came back, and how long that took on the way there and back."""

    status: int
    body: bytes
    took_ms: float

    @property
    def json(self) -> Any:
        """The body, which is JSON. Raises Unreachable for what no server of ours says."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Unreachable(
                "What answers is no server of Sentinel, for it is no JSON; set SENTINEL_SERVER_URL to where one is"
            ) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key is for this server, and for no other address."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


class Server:
    """Asks one server for one detector, with the console's key; from any thread. Proxies are not asked.

    Raises Unreachable when it does not answer, Refused for whatever it does not grant.
    """

    def __init__(self, url: str, key: str | None, place: Place, certificate: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._prefix = place.prefix
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        if place.tenant:
            self._headers["x-sentinel-tenant"] = place.tenant
        context = None
        if certificate is not None:  # the server's own is trusted, whatever name it bears
            context = ssl.create_default_context(cafile=certificate)
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect()
        )

    def get(self, path: str) -> Answer:
        """What a GET is answered."""
        return self._ask(path, None)

    def post(self, path: str, body: bytes) -> Answer:
        """What a POST with this JSON is answered."""
        return self._ask(path, body)

    def tell(self, path: str, body: Any, person: str | None = None, patience_s: float = _PATIENCE_S) -> Any:
        """What the answer to a POST of an object says; a change is that of the person, where one is named."""
        return self._ask(path, json.dumps(body).encode(), person, patience_s).json

    def _ask(self, path: str, body: bytes | None, person: str | None = None, patience_s: float = _PATIENCE_S) -> Answer:
        headers = {**self._headers, "content-type": "application/json"} if body is not None else dict(self._headers)
        if person is not None:
            headers[PERSON] = person
        asked = urllib.request.Request(self.url + address_below(self._prefix, path), body, headers)  # noqa: S310
        begun = time.perf_counter()
        try:
            with self._opener.open(asked, timeout=patience_s) as answer:
                found = answer.read(_MOST_BYTES)
                return Answer(answer.status, found, (time.perf_counter() - begun) * 1000)
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, _said(error.read(_MOST_BYTES))) from None
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(
                f"The server at {self.url} does not answer ({reason}). See that `sentinel serve` runs there, or set "
                "SENTINEL_SERVER_URL to where it does"
            ) from None


def path_of(*parts: str) -> str:
    """A path of these parts, of which each may be any text.

    >>> path_of("v1", "decisions", "a/b ü")
    '/v1/decisions/a%2Fb%20%C3%BC'
    """
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _said(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:500].decode(errors="replace")
