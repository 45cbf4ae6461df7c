"""Asking the server that owns the log of a home folder: nobody else may change it."""

import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from sentinel.config import Settings
from sentinel.errors import DeploymentRefused, StorageProblem
from sentinel.record.applied import log_folder
from sentinel.record.lock import owner_of

_PATIENCE_S = 60.0


def ask_owner(settings: Settings, path: str, body: Any, patience_s: float = _PATIENCE_S) -> Any:
    """What the server says to a call with this body of JSON, or None when no server owns the log.

    Raises DeploymentRefused when it says no, StorageProblem when it does not answer.
    """
    owner = owner_of(log_folder(settings.home))
    if owner is None:
        return None
    pid, url = owner.pid, owner.url
    if not url:
        raise StorageProblem(f"process {pid} has just begun to write to {settings.home}; retry in a moment")
    headers = {"content-type": "application/json"}
    if settings.bearer:
        headers["authorization"] = f"Bearer {settings.bearer}"
    if owner.tenant:
        headers["x-sentinel-tenant"] = owner.tenant
    asked = urllib.request.Request(url + path, json.dumps(body).encode(), headers)  # noqa: S310 - its own server's
    try:
        with _straight_to(_trust(settings)).open(asked, timeout=patience_s) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        hint = "; SENTINEL_KEY is what this command sends" if error.code in (401, 403) else ""
        raise DeploymentRefused(f"the server at {url} says {error.code}: {_said(error.read())[:500]}{hint}") from None
    except OSError as error:
        raise StorageProblem(
            f"process {pid} owns the log and does not answer at {url} ({error}); retry, or stop it"
        ) from None


def readiness_at(settings: Settings, url: str, patience_s: float) -> str | None:
    """What the server at an address says of itself, `ready` or why not in a word; None where nobody answers in time."""
    health = urllib.parse.urljoin(url, "/health/ready")
    try:
        with _straight_to(_trust(settings)).open(health, timeout=patience_s) as answer:
            said = json.load(answer)
    except urllib.error.HTTPError as error:
        said = _json_of(error.read())
    except (OSError, ValueError, http.client.HTTPException):
        return None
    told = said if isinstance(said, dict) else {}
    return "ready" if told.get("ready") is True else str(told.get("reason") or "not a server of Sentinel")


def _json_of(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _said(body: bytes) -> str:
    """The server's own sentence, or whatever it sent."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key is for the server that owns the log, and for no other address."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none: the answer is an error then."""


def _straight_to(trust: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    """What opens connections to the server itself, whatever proxies the environment names: they would see the key."""
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust), _NoRedirect()
    )


def _trust(settings: Settings) -> ssl.SSLContext | None:
    """Trust the server's own certificate, whatever name it bears: the lock of its log says where it is.

    It is trusted as it is, also where its authority is not known here.
    """
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(cafile=settings.tls_certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
