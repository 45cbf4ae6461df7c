"""The provider of log-ins: OpenID Connect's authorization code flow with PKCE, and the ID token that comes of it.

OpenID Connect Core 1.0 (3.1), Discovery 1.0, RFC 7636 (PKCE, S256), RFC 9207 (the issuer in the answer). Nothing that a
browser brings is trusted: who somebody is says the provider itself, asked over TLS, and signs it.
"""

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from sentinel.config import is_loopback
from sentinel.errors import SentinelError, Unauthorized

_PATIENCE_S, _MOST_BYTES = 10.0, 1 << 20
_LEEWAY_S = 60
_KNOWN_S = 3_600.0
_AWAY_S = 5.0
"""For how long nobody waits anew for a provider that did not answer: whoever knocks meanwhile takes no thread."""


ReadToken: TypeAlias = Callable[[str, Any], dict[str, Any]]
"""What says the claims of a token by a set of keys, or raises ValueError: `id_tokens.claims_of`."""


class ProviderAway(SentinelError):
    """The provider cannot be asked, or says what no provider says."""


class Client(msgspec.Struct, frozen=True):
    """What this console is to a provider: its address (`issuer`), and what it knows us by."""

    issuer: str
    id: str
    secret: str | None
    scopes: str
    redirect_uri: str


class Asked(msgspec.Struct, frozen=True):
    """What was made up for one log-in, and has to come back. The browser does not see the verifier."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> "Asked":
        """Three of 256 random bits."""
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))


class Provider:
    """Asks one provider; from any thread, and each call may wait for it. Raises ProviderAway."""

    def __init__(self, client: Client, read_token: ReadToken) -> None:
        self.client, self._read = client, read_token
        self._turn = threading.Lock()
        self._found: tuple[float, dict[str, Any]] | None = None
        self._keys: Any = None
        self._away: tuple[float, str] | None = None

    def log_in_address(self, asked: Asked) -> str:
        """Where a browser is sent to log in."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(asked.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code", "client_id": self.client.id, "redirect_uri": self.client.redirect_uri,
            "scope": self.client.scopes, "state": asked.state, "nonce": asked.nonce, "code_challenge": challenge,
            "code_challenge_method": "S256",
        }  # fmt: skip
        return _with_query(self._endpoint("authorization_endpoint"), query)

    def log_out_address(self, back_to: str) -> str | None:
        """Where a browser is sent to log out there too; None where the provider has no such address."""
        endpoint = self._metadata().get("end_session_endpoint")
        if not endpoint:
            return None
        return _with_query(self._checked(endpoint), {"client_id": self.client.id, "post_logout_redirect_uri": back_to})

    def claims(self, code: str, asked: Asked, issuer: str | None, now_s: float) -> dict[str, Any]:
        """What the provider says of who has logged in. Raises Unauthorized for what it does not vouch for."""
        if issuer is not None and issuer != self.client.issuer:
            raise Unauthorized("Another provider has answered; log in again")
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.client.redirect_uri,
            "client_id": self.client.id, "code_verifier": asked.verifier,
        }  # fmt: skip
        token = self._token(form).get("id_token")
        if not isinstance(token, str):
            raise ProviderAway(
                f"{self.client.issuer} gave no ID token; see that the scope openid is among SENTINEL_OIDC_SCOPES"
            )
        found = self._verified(token)
        self._check(found, asked, now_s)
        return found

    def _verified(self, token: str) -> dict[str, Any]:
        """The claims, by a key of the provider; its keys are asked for anew where those we know do not fit."""
        known = self._keys
        if known is not None:
            with contextlib.suppress(ValueError):  # it may have changed its keys
                return self._read(token, known)
        fresh = self._ask(self._endpoint("jwks_uri"))
        try:
            found = self._read(token, fresh)
        except ValueError as error:
            raise Unauthorized(f"What the provider signed cannot be verified ({error}); log in again") from None
        self._keys = fresh
        return found

    def _check(self, claims: dict[str, Any], asked: Asked, now_s: float) -> None:
        given = claims.get("aud")
        audience = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        ends, begun = claims.get("exp"), claims.get("iat")
        faults = {
            "issuer": claims.get("iss") != self.client.issuer,
            "audience": self.client.id not in audience
            or (len(audience) > 1 and claims.get("azp") != self.client.id)
            or claims.get("azp", self.client.id) != self.client.id,
            "time": not isinstance(ends, int | float) or ends + _LEEWAY_S < now_s
            or not isinstance(begun, int | float) or begun - _LEEWAY_S > now_s,
            "nonce": not secrets.compare_digest(str(claims.get("nonce", "")), asked.nonce),
            "subject": not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= 255,
        }  # fmt: skip
        wrong = [name for name, is_wrong in faults.items() if is_wrong]
        if wrong:
            raise Unauthorized(
                f"What the provider says is not for this log-in (its {wrong[0]} is another one); log in again"
            )

    def _token(self, form: dict[str, str]) -> dict[str, Any]:
        methods = self._metadata().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        headers, secret = {}, self.client.secret
        if secret is not None and "client_secret_basic" in methods:
            pair = f"{quote(self.client.id, safe='')}:{quote(secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif secret is not None:
            form = form | {"client_secret": secret}
        return self._ask(self._endpoint("token_endpoint"), urlencode(form).encode(), headers)

    def _metadata(self) -> dict[str, Any]:
        with self._turn:
            if self._found is None or time.monotonic() - self._found[0] > _KNOWN_S:
                if self._away is not None and time.monotonic() - self._away[0] < _AWAY_S:
                    raise ProviderAway(self._away[1])
                try:
                    found = self._ask(f"{self.client.issuer.rstrip('/')}/.well-known/openid-configuration")
                except ProviderAway as error:
                    self._away = time.monotonic(), str(error)
                    raise
                if found.get("issuer") != self.client.issuer:
                    raise ProviderAway(
                        f"The provider calls itself {found.get('issuer')}, not {self.client.issuer}; set "
                        "SENTINEL_OIDC_ISSUER to exactly what it says"
                    )
                self._found = time.monotonic(), found
            return self._found[1]

    def _endpoint(self, name: str) -> str:
        found = self._metadata().get(name)
        if not isinstance(found, str):
            raise ProviderAway(f"{self.client.issuer} names no {name}; it is no provider of OpenID Connect")
        return self._checked(found)

    def _checked(self, address: str) -> str:
        """An address that may be asked. Raises ProviderAway for one in the open."""
        parts = urlsplit(address)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise ProviderAway(f"{address} is not https, so log-ins would travel in the open")
        return address

    def _ask(self, address: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
        sent = {"accept": "application/json"} | (headers or {})
        if body is not None:
            sent["content-type"] = "application/x-www-form-urlencoded"
        asked = urllib.request.Request(self._checked(address), body, sent)  # noqa: S310 - https, or loopback
        try:
            with _opener.open(asked, timeout=_PATIENCE_S) as answer:
                found = json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                if body is not None and error.code in (400, 401):
                    raise Unauthorized(
                        f"The provider did not take the log-in ({_named(error.read(_MOST_BYTES))}); log in again"
                    ) from None
                raise ProviderAway(f"{address} answers {error.code}; ask whoever runs it") from None
        except (OSError, ValueError, HTTPException, RecursionError) as error:
            raise ProviderAway(
                f"{address} does not answer ({getattr(error, 'reason', error)}); try again in a moment"
            ) from None
        if not isinstance(found, dict):
            raise ProviderAway(f"{address} says what no provider says")
        return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A secret goes to the address that was checked, and to no other one."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


_opener = urllib.request.build_opener(_NoRedirect())


def _with_query(address: str, query: dict[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"


def _named(body: bytes) -> str:
    """The name of a fault as RFC 6749 has it."""
    try:
        found = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"
    return found if found.isascii() and found.replace("_", "").isalnum() and len(found) <= 64 else "no reason given"
