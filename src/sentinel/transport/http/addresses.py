"""Addresses: which detector a path names, and what is asked of it.

The calls of a detector with a name stand below `/v1/<name>`: `/v1/wallet/score` is its `/v1/score`, `/v1/wallet/admin`
its `/admin`.
"""

import re

from sentinel.homes import NAME, RESERVED

_NAMED = re.compile(rf"/v1/({NAME.pattern})(/.*)", re.DOTALL)
_VERSIONED = re.compile(
    r"/(?:score|outcomes|decisions|events|tables|rules|lists|features|entities|cases|business)(?:/.*)?", re.DOTALL
)


def address_of(path: str) -> tuple[str, str]:
    """The detector, empty for the one without a name, and the path that it has below itself.

    >>> address_of("/v1/wallet/score"), address_of("/v1/wallet/admin/audit"), address_of("/v1/decisions/score")
    (('wallet', '/v1/score'), ('wallet', '/admin/audit'), ('', '/v1/decisions/score'))
    >>> address_of("/v1/wallet/tables/cards"), address_of("/v1/tables/cards")
    (('wallet', '/v1/tables/cards'), ('', '/v1/tables/cards'))
    >>> address_of("/v1/wallet/rules"), address_of("/v1/lists/deny_cards")
    (('wallet', '/v1/rules'), ('', '/v1/lists/deny_cards'))
    >>> address_of("/v1/wallet/features/card/c-7"), address_of("/v1/features/card/c-7")
    (('wallet', '/v1/features/card/c-7'), ('', '/v1/features/card/c-7'))
    >>> address_of("/v1/wallet/entities/card/c-7"), address_of("/v1/entities/card/c-7")
    (('wallet', '/v1/entities/card/c-7'), ('', '/v1/entities/card/c-7'))
    """
    found = _NAMED.fullmatch(path) if path.startswith("/v1/") else None
    if found is None or found[1] in RESERVED:
        return "", path
    below = found[2]
    return found[1], f"/v1{below}" if _VERSIONED.fullmatch(below) else below


def address_below(prefix: str, path: str) -> str:
    """The other way: the address of a detector's path, where `prefix` is `/v1/<name>`, or empty.

    >>> address_below("/v1/wallet", "/v1/score"), address_below("/v1/wallet", "/health"), address_below("", "/health")
    ('/v1/wallet/score', '/v1/wallet/health', '/health')
    """
    return prefix + (path.removeprefix("/v1") if prefix else path)
