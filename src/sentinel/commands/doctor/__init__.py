"""`sentinel doctor`: whether this machine, its dependencies and this home folder can run Sentinel.

A check is a function of the settings: whether it is well, what was found, and whether that is worth a warning.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from sentinel.commands.doctor import dependencies, home, machine
from sentinel.config import Settings
from sentinel.errors import SentinelError
from sentinel.homes import Place, homes_in
from sentinel.record.kafka.place import place_in


class Finding(msgspec.Struct, frozen=True):
    """One check: what was looked at, whether it is well, what was found and what to do.

    With `warns` nothing is broken, and something is worse than it could be.
    """

    what: str
    ok: bool
    found: str
    warns: bool = False


Check: TypeAlias = Callable[[Settings], tuple[bool, str] | tuple[bool, str, bool]]

OF_MACHINE: tuple[tuple[str, Check], ...] = (
    ("Python", machine.python),
    ("libraries", machine.libraries),
    ("home", machine.home),
    ("disk", machine.disk),
    ("room", machine.room),
    ("memory", machine.memory),
    ("kernel cache", machine.kernel_cache),
    ("port", machine.port),
    ("fronts", dependencies.fronts),
)

DEPENDENCIES: tuple[tuple[str, str, Check], ...] = (
    ("PostgreSQL", "database_url", dependencies.postgres),
    ("Redis", "redis_url", dependencies.redis),
    ("S3", "models", dependencies.s3),
    ("Kafka", "kafka", dependencies.kafka),
    ("Avro schemas", "avro_schemas", dependencies.schemas),
    ("archive", "archive", dependencies.archive),
)
"""What is reached where the setting of this name is given; one more dependency is one more line."""

OF_HOME: tuple[tuple[str, Check], ...] = (
    ("clock", machine.clock),
    ("models", home.models),
    ("history", home.history),
    ("log", home.log),
    ("view", home.view),
    ("online view", home.online),
    ("archived log", home.archived),
    ("hash key", home.hash_key),
)

OF_TOPICS: tuple[tuple[str, Check], ...] = (
    ("topics", dependencies.kafka_topics),
    ("owner", dependencies.kafka_owner),
    ("read from Kafka", dependencies.kafka_lag),
)


def examine(settings: Settings) -> list[Finding]:
    """Every check, in order, of the machine, its dependencies, and each home that its server serves.

    None changes anything: what is written to a dependency is taken away again.
    """
    found = [_found(what, check, settings) for what, check in OF_MACHINE]
    found += [
        _found(what, check, settings) for what, name, check in DEPENDENCIES if getattr(settings, name) is not None
    ]
    try:
        homes = homes_in(settings.home)
    except SentinelError as error:
        return [*found, Finding("detectors", False, str(error))]
    for place, folder in homes.items():
        found += _of_home(place, msgspec.structs.replace(settings, home=folder))
    return found


def _of_home(place: Place, settings: Settings) -> list[Finding]:
    """The checks of one detector's home; the keys are the tenant's."""
    checks = OF_HOME if place.detector else (("keys", home.keys), *OF_HOME)
    if settings.kafka is not None and (place == Place() or place_in(settings.home) is not None):
        checks = (*checks, *OF_TOPICS)
    named = f" of {place}" if place != Place() else ""
    return [_found(f"{what}{named}", check, settings) for what, check in checks]


def _found(what: str, check: Check, settings: Settings) -> Finding:
    try:
        return Finding(what, *check(settings))
    except SentinelError as error:
        return Finding(what, False, str(error))
