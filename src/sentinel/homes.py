"""Homes: one server serves every detector and tenant whose home folder lies within its own.

    <home>                        the detector that is asked without a name
    <home>/detectors/<name>       another detector of the same tenant
    <home>/tenants/<tenant>       another tenant, built in the same way

Each is a home folder like any other, with a log, models and states of its own, and every command works on it alone. API
keys belong to the tenant.
"""

import re
from pathlib import Path
from typing import NamedTuple

from sentinel.errors import InvalidDefinition

DETECTORS, TENANTS = "detectors", "tenants"
MOST_HOMES = 256
RESERVED = frozenset(
    {
        "business",
        "cases",
        "decisions",
        "entities",
        "events",
        "features",
        "keys",
        "lists",
        "outcomes",
        "predict",
        "rules",
        "score",
        "tables",
    }
)
"""What a detector cannot be called: the calls of the one without a name begin so, or may one day."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class Place(NamedTuple):
    """Whose detector, and which: an empty tenant is the server's own, an empty detector the one without a name."""

    tenant: str = ""
    detector: str = ""

    @property
    def prefix(self) -> str:
        """What its addresses begin with.

        >>> Place("acme", "wallet").prefix, Place("acme").prefix
        ('/v1/wallet', '')
        """
        return f"/v1/{self.detector}" if self.detector else ""

    @property
    def below(self) -> str:
        """Where its own things are below those of the server's first home.

        >>> Place("acme", "wallet").below, Place().below
        ('/tenants/acme/detectors/wallet', '')
        """
        tenant = f"/{TENANTS}/{self.tenant}" if self.tenant else ""
        return f"{tenant}/{DETECTORS}/{self.detector}" if self.detector else tenant

    def __str__(self) -> str:
        of = f" of the tenant {self.tenant!r}" if self.tenant else ""
        return f"the detector {self.detector!r}{of}" if self.detector else f"the detector without a name{of}"


def homes_in(home: Path) -> dict[Place, Path]:
    """The homes of all detectors that a server of this home serves; the first is `home` itself.

    Raises InvalidDefinition for a folder whose name cannot be one, and for more than 256.
    """
    found = _detectors_of("", home)
    for tenant, folder in _folders_in(home / TENANTS):
        found |= _detectors_of(tenant, folder)
    if len(found) > MOST_HOMES:
        raise InvalidDefinition(f"{home} has {len(found)} detectors; one server serves {MOST_HOMES}")
    return found


def tenants_in(homes: dict[Place, Path]) -> dict[str, Path]:
    """The tenants among these homes, with the home that has their keys."""
    return {place.tenant: keys_home_of(home) for place, home in homes.items() if not place.detector}


def keys_home_of(home: Path) -> Path:
    """The home of the tenant that a detector's home belongs to.

    >>> str(keys_home_of(Path("data/tenants/acme/detectors/wallet"))), str(keys_home_of(Path("data")))
    ('data/tenants/acme', 'data')
    """
    return home.parent.parent if home.parent.name == DETECTORS and home.parent.parent != home.parent else home


def place_of(home: Path) -> Place:
    """Whose home a folder is, by the folders that it is in.

    >>> place_of(Path("data/tenants/acme/detectors/wallet")), place_of(Path("data"))
    (Place(tenant='acme', detector='wallet'), Place(tenant='', detector=''))
    """
    of_tenant = keys_home_of(home)
    detector = "" if of_tenant == home else home.name
    return Place(of_tenant.name if of_tenant.parent.name == TENANTS else "", detector)


def _detectors_of(tenant: str, home: Path) -> dict[Place, Path]:
    found = {Place(tenant): home}
    for name, folder in _folders_in(home / DETECTORS):
        if name in RESERVED:
            raise InvalidDefinition(f"{folder}: no detector can be called {name!r}, as a call of the API is; rename it")
        found[Place(tenant, name)] = folder
    return found


def _folders_in(folder: Path) -> list[tuple[str, Path]]:
    found = sorted(one for one in folder.iterdir() if one.is_dir() and one.name[0] != ".") if folder.is_dir() else []
    for one in found:
        if not NAME.fullmatch(one.name):
            raise InvalidDefinition(
                f"{one}: this cannot be a name in an address; take up to 32 lower-case letters, digits, - and _"
            )
    return [(one.name, one) for one in found]
