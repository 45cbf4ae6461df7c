"""The environment: which variables are settings, which are called otherwise elsewhere, and which are none."""

import difflib
import re
from collections.abc import Collection, Mapping

from sentinel.errors import InvalidDefinition

PREFIX = "SENTINEL_"
OF_KAFKA = "SENTINEL_KAFKA_"
"""What follows is a setting of Kafka's client, which says so itself if it knows none of that name."""

RENAMED: Mapping[str, str] = {
    "SENTINEL_ARTIFACTS_DIR": "SENTINEL_HOME, the folder that `sentinel train` writes models to",
    "FRAUD_ARTIFACTS_DIR": "SENTINEL_HOME, the folder that `sentinel train` writes models to",
    "SENTINEL_SHADOW_ARTIFACTS_DIR": "POST /admin/shadow/start, which names a version of SENTINEL_HOME",
}
"""What another system of this name reads and this one does not, and what does the same here."""

_LINKS = re.compile(
    r"SENTINEL_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)"
)
_LINK = re.compile(r"(?:tcp|udp|sctp)://")
"""Kubernetes sets these in every container beside a service that is called `sentinel`."""

_SIMILAR = 0.8


def given_in(environment: Mapping[str, str], names: Collection[str], never_empty: Collection[str]) -> dict[str, str]:
    """The settings that the environment has, without the white space around them.

    An empty one is not set, unless it is one of `never_empty`. Raises InvalidDefinition for a variable that does
    something in another system and would do nothing here.
    """
    for variable, instead in RENAMED.items():
        if environment.get(variable, "").strip():
            raise InvalidDefinition(f"{variable} does nothing here; unset it and use {instead}")
    found = {}
    for name in names:
        value = environment.get(PREFIX + name.upper())
        if value is None or (name == "port" and _LINK.match(value)):
            continue
        if value.strip() or name in never_empty:
            found[name] = value.strip()
    return found


def strangers_in(environment: Mapping[str, str], names: Collection[str]) -> list[str]:
    """The variables that look like settings and are none, each with the setting that may be meant."""
    known = {PREFIX + name.upper() for name in names}
    strangers = [
        one
        for one in environment
        if one.startswith(PREFIX) and one not in known and not one.startswith(OF_KAFKA) and not _LINKS.fullmatch(one)
    ]
    told = []
    for one in sorted(strangers):
        meant = difflib.get_close_matches(one, known, 1, _SIMILAR)
        told.append(f"{one} is no setting" + (f"; did you mean {meant[0]}?" if meant else ""))
    return told
