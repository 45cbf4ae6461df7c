"""Origins: under which name a server may be asked, and by which web pages.

A browser lets any page send requests to any server, and lets the page's own name point to any address. So the name that
was asked for (`Host`) and the page that asks (`Origin`, `Sec-Fetch-Site`) are checked before anything else.
"""

import ipaddress
from collections.abc import Sequence

from sentinel.config import is_loopback
from sentinel.errors import BadBody, Forbidden
from sentinel.events.card_numbers import quoted
from sentinel.transport.access.claims import Claims

_OWN_SITES = (None, "none", "same-origin")


class Origins:
    """What is allowed: names (`hosts`) besides loopback and addresses, and pages (`pages`) besides our own.

    An address as `Host` is fine, whichever it is: to have its name point here a page needs a name.
    """

    def __init__(self, host: str, hosts: Sequence[str], pages: Sequence[str], *, is_tls: bool) -> None:
        self._hosts = frozenset(name.lower() for name in (host, *hosts))
        self._pages = frozenset(pages)
        self._schemes = ("https",) if is_tls else ("http", "https")  # a proxy may speak TLS for us

    def check(self, claims: Claims) -> None:
        """Raise Forbidden for another name or another page, BadBody where there is no name."""
        if claims.host is not None or claims.needs is not None:
            self._check_host(claims.host or "")
        origin = claims.origin
        if origin is not None and not self.is_own(claims) and origin not in self._pages:
            raise Forbidden(
                f"Pages of {quoted(origin, 200)} may not call this; SENTINEL_CORS_ORIGINS lists those that may"
            )
        if claims.writes and claims.site not in _OWN_SITES and (origin is None or origin not in self._pages):
            raise Forbidden(
                f"A page of another site asks (Sec-Fetch-Site: {quoted(claims.site)}); SENTINEL_CORS_ORIGINS lists the "
                "pages that may"
            )

    def is_own(self, claims: Claims) -> bool:
        """Whether no page asks, or one of our own."""
        own = claims.host and [f"{scheme}://{claims.host}".lower() for scheme in self._schemes]
        return claims.origin is None or bool(own and claims.origin.lower() in own)

    def _check_host(self, host: str) -> None:
        name = name_of(host)
        if not name:
            raise BadBody("The header Host is missing, or no name and port; send the name that you called")
        if name not in self._hosts and "*" not in self._hosts and not is_loopback(name) and not _is_address(name):
            raise Forbidden(
                f"This is not {quoted(name, 200)}; SENTINEL_HOSTS lists the names under which it may be called"
            )


def name_of(host: str) -> str:
    """The name or address in a `Host` header, in lower case, without its port; empty for what is neither.

    >>> [name_of(one) for one in ("LocalHost:8000", "[::1]:80", "fraud.example.", "a:b", "a@b:80", "")]
    ['localhost', '::1', 'fraud.example', '', '', '']
    """
    name, colon, port = host.strip().rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host.strip(), "0"
    if not port.isdecimal() or not port.isascii():
        return ""
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
        return name if _is_address(name) else ""
    plain = name.lower().removesuffix(".")
    return plain if plain.isascii() and plain.replace("-", "").replace(".", "").replace("_", "").isalnum() else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
