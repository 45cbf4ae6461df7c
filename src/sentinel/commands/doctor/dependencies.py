"""What other servers `sentinel doctor` reaches: in each that is configured something is written, and read back."""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from pathlib import Path

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.objects.store import exercise
from sentinel.record.archive.place import open_archive
from sentinel.record.online.place import open_online
from sentinel.record.views.place import ViewPlace

_SKEW_S, _PATIENCE_S = 1.0, 5.0


def postgres(settings: Settings) -> tuple[bool, str, bool]:
    """The database of the views."""
    assert settings.database_url is not None  # noqa: S101 - it is configured
    begun_s = time.time()
    with closing(ViewPlace(settings.home, settings.database_url)) as place:
        version, clock_s = place.exercise()
    return answered(f"PostgreSQL {version}", begun_s, clock_s)


def redis(settings: Settings) -> tuple[bool, str, bool]:
    """The server of the online view."""
    assert settings.redis_url is not None  # noqa: S101 - it is configured
    begun_s = time.time()
    with closing(open_online(settings.home, "doctor", settings.redis_url)) as store:
        version, clock_s = store.exercise()
    return answered(f"{store.name}, version {version}", begun_s, clock_s)


def kafka(settings: Settings) -> tuple[bool, str, bool]:
    """The brokers of the streams, or of the log."""
    return _of_kafka("broker")(settings)


def kafka_topics(settings: Settings) -> tuple[bool, str, bool]:
    """The topics of a home in Kafka."""
    return _of_kafka("topics")(settings)


def kafka_owner(settings: Settings) -> tuple[bool, str, bool]:
    """Who decides what comes into them."""
    return _of_kafka("owner")(settings)


def kafka_lag(settings: Settings) -> tuple[bool, str, bool]:
    """What of them is still to be read."""
    return _of_kafka("lag")(settings)


def fronts(settings: Settings) -> tuple[bool, str, bool]:
    """Whether answers of fronts can be told from made-up ones. Raises InvalidDefinition for keys that do not do."""
    if not settings.fronts and settings.profiles is None and not settings.has_fronts_key:
        return True, "none are taken: SENTINEL_FRONTS is off", False
    if len(settings.fronts_keys()) == 1:
        return True, "their answers are known by one key", False
    return True, "two keys are taken; once all fronts seal with the new one, unset SENTINEL_FRONTS_KEY_ALSO_FILE", True


def schemas(settings: Settings) -> tuple[bool, str]:
    """The schemas of Avro messages: a registry that answers, or files that are JSON."""
    place = settings.avro_schemas
    assert place is not None  # noqa: S101 - it is configured
    if place.startswith(("http://", "https://")):
        return _answers(place.rstrip("/"))
    files = sorted(Path(place).glob("*.avsc"))
    for one in files:
        try:
            json.loads(one.read_bytes())
        except (OSError, ValueError) as error:
            return False, f"{one} is no schema: {error}"
    if not files:
        return False, f"{place} has no file <number>.avsc; SENTINEL_AVRO_SCHEMAS names a folder of them, or a registry"
    return True, f"{len(files)} in {place}"


def _answers(registry: str) -> tuple[bool, str]:
    try:
        with urllib.request.urlopen(f"{registry}/subjects", timeout=_PATIENCE_S) as reply:  # noqa: S310 - http
            return True, f"the registry at {registry} knows {len(json.load(reply))} subjects"
    except urllib.error.HTTPError as error:
        return False, f"the registry at {registry} answers {error.code} when it is asked for its subjects"
    except (OSError, ValueError, TypeError) as error:
        return False, f"the registry at {registry} cannot be asked: {error}; see SENTINEL_AVRO_SCHEMAS"


def _of_kafka(check: str) -> Callable[[Settings], tuple[bool, str, bool]]:
    """A check of Kafka, whose library only who has brokers needs. Raises InvalidDefinition."""
    of_kafka = import_module("sentinel.commands.doctor.kafka")
    found: Callable[[Settings], tuple[bool, str, bool]] = getattr(of_kafka, check)
    return found


def s3(settings: Settings) -> tuple[bool, str]:
    """The bucket of the models."""
    assert settings.models is not None  # noqa: S101 - it is configured
    try:
        from sentinel.objects.s3_objects import S3Objects  # only who keeps models in S3 needs the library
    except ModuleNotFoundError as error:
        raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[s3]'") from error
    begun_s = time.time()
    store = S3Objects(settings.models, "SENTINEL_MODELS", os.environ)
    exercise(store)
    return True, f"{store.at}: written and read back in {(time.time() - begun_s) * 1e3:.1f} ms"


def archive(settings: Settings) -> tuple[bool, str]:
    """The bucket or folder of the archive."""
    assert settings.archive is not None  # noqa: S101 - it is configured
    begun_s = time.time()
    store = open_archive(settings.archive, settings.home)
    try:
        exercise(store)
    except StorageProblem as error:
        return False, f"{error}; nothing leaves the log meanwhile"
    return True, f"{store.at}: written and read back in {(time.time() - begun_s) * 1e3:.1f} ms"


def answered(what: str, begun_s: float, clock_s: float) -> tuple[bool, str, bool]:
    """A clock that differs breaks nothing here; what is told in two places is hard to compare then."""
    ended_s = time.time()
    skew_s = max(begun_s - clock_s, clock_s - ended_s, 0.0)
    said = f"{what}: written and read back in {(ended_s - begun_s) * 1e3:.1f} ms"
    return True, said + (f"; its clock differs by {skew_s:.1f} s" if skew_s > _SKEW_S else ""), skew_s > _SKEW_S
