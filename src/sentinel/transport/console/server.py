"""The server that the console asks: for what is live, for one decision, and for whatever changes something."""

import json
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from sentinel.errors import SentinelError
from sentinel.homes import Place
from sentinel.transport.client import Client, Unreachable
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
        self._prefix, self._tenant, self._key = place.prefix, place.tenant, key
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        if place.tenant:
            self._headers["x-sentinel-tenant"] = place.tenant
        context = None if urlsplit(url).scheme == "http" else ssl.create_default_context()
        if certificate is not None:  # the server's own is trusted, whatever name it bears
            context = ssl.create_default_context(cafile=certificate)
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._tls = context
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect()
        )

    def at(self, path: str) -> str:
        """The path of a call there."""
        return address_below(self._prefix, path)

    def connections(self, n: int) -> Client:
        """So many connections that are kept open, to send much; for the event loop of whoever opens them."""
        parts = urlsplit(self.url)
        tls = self._tls if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        return Client(parts.hostname or "", port, n, self._key, tls, self._tenant)

    def get(self, path: str, patience_s: float = _PATIENCE_S) -> Answer:
        """What a GET is answered within this time."""
        return self._ask(path, None, patience_s)

    def post(self, path: str, body: bytes) -> Answer:
        """What a POST with this JSON is answered."""
        return self._ask(path, body, _PATIENCE_S)

    def tell(self, path: str, body: Any, person: str | None = None, patience_s: float = _PATIENCE_S) -> Any:
        """What the answer to a POST of an object says; a change is that of the person, where one is named."""
        return self._ask(path, json.dumps(body).encode(), patience_s, person).json

    def _ask(self, path: str, body: bytes | None, patience_s: float, person: str | None = None) -> Answer:
        headers = dict(self._headers)
        if body is not None:
            headers["content-type"] = "application/json"
        if person is not None:
            headers[PERSON] = person
        asked = urllib.request.Request(self.url + self.at(path), body, headers)  # noqa: S310
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
