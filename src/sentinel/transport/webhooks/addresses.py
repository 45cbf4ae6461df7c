"""Where a webhook may go: to a public address only, unless the operator says that private ones are meant."""

import ipaddress
import queue
import socket
import threading
from typing import NamedTuple
from urllib.parse import urlsplit

from sentinel.errors import InvalidDefinition

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_OLD = tuple(map(ipaddress.ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48")))
"""Ways to write an address of IPv4, or of a network's own translator, as one of IPv6: nobody has a receiver there."""

_MOST_LOOK_UPS = 8
_LOOKING_UP = threading.BoundedSemaphore(_MOST_LOOK_UPS)
_PORTS = {"https": 443, "http": 80}


class WrongAddress(Exception):
    """The name leads nowhere, or to where no webhook may go."""


class Target(NamedTuple):
    """An address to post to, taken apart. `url` is what people are shown: it has no query, which may be a secret."""

    scheme: str
    host: str
    port: int
    path: str
    url: str


def target_of(url: str, *, private: bool) -> Target:
    """Read the address of a webhook; `private` is whether http and private addresses are meant.

    Raises InvalidDefinition for what cannot be one.

    >>> target_of("https://hooks.example/sentinel?key=1", private=False)[:4]
    ('https', 'hooks.example', 443, '/sentinel?key=1')
    """
    wrong = "SENTINEL_WEBHOOK_URL: write https://host[:port]/path"
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise InvalidDefinition(wrong) from None
    if parts.scheme not in _PORTS or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidDefinition(wrong)
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidDefinition(f"{wrong}, without a user and without a fragment: what is sent is signed")
    if parts.scheme == "http" and not private:
        raise InvalidDefinition(
            "SENTINEL_WEBHOOK_URL: http shows everything on the way; write https, or set SENTINEL_WEBHOOK_PRIVATE=true "
            "for a receiver in your own network"
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    port = port or _PORTS[parts.scheme]
    return Target(parts.scheme, host, port, path, f"{parts.scheme}://{parts.netloc}{parts.path}")


def resolve(target: Target, within_s: float, *, private: bool) -> str:
    """The IP address to connect to. It is looked up once, checked, and used: the name is not asked again.

    Raises WrongAddress where any address of the name is not public, unless `private` ones are meant, and where it is
    not found `within_s`.
    """
    addresses = addresses_of(target.host, target.port, within_s)
    if not private and (wrong := next((one for one in addresses if not is_public(one)), None)):
        raise WrongAddress(f"{target.host} leads to {wrong}, which is no public address; nothing was sent")
    return addresses[0]


def addresses_of(host: str, port: int, within_s: float) -> list[str]:
    """The IP addresses of a name. Raises WrongAddress where there are none, or none are told `within_s`.

    The system's look-up has no bound of its own. One that hangs is left to itself, and so many may be.
    """
    if not _LOOKING_UP.acquire(timeout=within_s):
        raise WrongAddress(f"{host} is not looked up: {_MOST_LOOK_UPS} look-ups of names hang; see to your name server")
    told: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            told.put([str(one[4][0]) for one in found])
        except (OSError, UnicodeError) as error:
            told.put(error)
        finally:
            _LOOKING_UP.release()

    threading.Thread(target=look_up, name=f"looking up {host}", daemon=True).start()
    try:
        found = told.get(timeout=within_s)
    except queue.Empty:
        raise WrongAddress(f"{host} is not found within {within_s:g} s: the name server does not answer") from None
    if isinstance(found, Exception):
        raise WrongAddress(f"{host} is not found: {getattr(found, 'strerror', None) or found}")
    return found


def is_public(text: str) -> bool:
    """Whether an IP address is one that everybody may reach, also where it has another one in it.

    >>> [is_public(one) for one in ("93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822")]
    [True, True, True]
    >>> [is_public(one) for one in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fe80::1%eth0")]
    [False, False, False, False, False]
    >>> [is_public(one) for one in ("64:ff9b::a00:1", "2002:a00:1::", "::ffff:10.0.0.1", "0.0.0.0", "224.0.0.1")]
    [False, False, False, False, False]
    >>> [is_public(one) for one in ("::127.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b:1::a00:1", "fec0::1")]
    [False, False, False, False]
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None or address.is_site_local or any(address in one for one in _OLD):
            return False
        if within is not None:
            return is_public(str(within))
    return address.is_global and not address.is_multicast
