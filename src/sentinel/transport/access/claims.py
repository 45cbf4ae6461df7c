"""Claims: what the head of a request says of its caller, and the peer that its connection comes from."""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from sentinel.config import is_loopback
from sentinel.transport.access.scopes import Scope

_FORWARDING = frozenset({"forwarded", "via", "x-real-ip"})
_FORWARDED = "x-forwarded-"
_LONGEST = 2_048


class Claims(NamedTuple):
    """Plain values, so that they can be looked up: nothing here has been checked.

    `needs` is the scope of the call, None for one that is open to everyone; `writes` whether it changes anything.
    `authorization`, `host`, `origin` and `site` (Sec-Fetch-Site) are the headers, None where there is none;
    `is_forwarded` says whether a proxy has left its mark, `tenant` (X-Sentinel-Tenant) which one the operator means.
    """

    needs: Scope | None = None
    writes: bool = True
    authorization: str | None = None
    host: str | None = None
    origin: str | None = None
    site: str | None = None
    is_forwarded: bool = False
    tenant: str | None = None

    @classmethod
    def of(cls, needs: Scope | None, headers: Mapping[str, str], *, writes: bool) -> "Claims":
        """What these headers, with lower-case names, say."""
        return cls(
            needs,
            writes,
            headers.get("authorization"),
            headers.get("host"),
            headers.get("origin"),
            headers.get("sec-fetch-site"),
            any(name in _FORWARDING or name.startswith(_FORWARDED) for name in headers),
            headers.get("x-sentinel-tenant"),
        )

    @property
    def is_short(self) -> bool:
        """Whether they are worth remembering."""
        return sum(len(one) for one in self if isinstance(one, str)) <= _LONGEST


class Peer(NamedTuple):
    """The other end of a connection. `network` is what faults are counted by: the address, of IPv6 its /64."""

    address: str
    network: str
    is_local: bool

    @classmethod
    def of(cls, name: Any) -> "Peer":
        """From a socket's peer name; whoever has no address is nobody's neighbour.

        >>> Peer.of(("127.0.0.1", 4711)).is_local, Peer.of(("2001:db8::7", 1, 0, 0)).network, Peer.of(None).is_local
        (True, '2001:db8::/64', False)
        """
        return _peer_at(name[0]) if isinstance(name, (tuple, list)) and name else NOBODY


@lru_cache(maxsize=1_024)
def _peer_at(address: str) -> Peer:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return Peer(address, address, is_local=False)
    if found.version == 6 and found.ipv4_mapped is None:
        return Peer(address, str(ipaddress.ip_network((int(found), 64), strict=False)), is_loopback(address))
    return Peer(address, address, is_loopback(address))


NOBODY = Peer("?", "?", is_local=False)
