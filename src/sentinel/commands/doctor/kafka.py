"""What of Kafka `sentinel doctor` looks at, where SENTINEL_KAFKA is set."""

import os
import secrets
import time
from contextlib import closing

import msgspec

from sentinel.commands.doctor.dependencies import answered
from sentinel.commands.owner import readiness_at
from sentinel.config import Settings, age_us
from sentinel.errors import InvalidDefinition
from sentinel.events.times import duration_us
from sentinel.record.applied import log_folder
from sentinel.record.home_reader import has_log, open_log
from sentinel.record.kafka.place import place_in
from sentinel.record.lock import owner_of

try:
    from sentinel.record.kafka.connection import PATIENCE_S, client_settings
    from sentinel.record.kafka.standing import StandingTopic
    from sentinel.record.kafka.topics import faults_of, retention_us
    from sentinel.transport.kafka.exercising import Denied, exercise
    from sentinel.transport.kafka.streams import connection_of
    from sentinel.transport.kafka.topics import ALL, DECISIONS, INPUTS, look
    from sentinel.transport.kafka.unread import lag_of, letters_in, members_of
except ModuleNotFoundError as error:
    raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[kafka]'") from error

_DAY_US = 86_400_000_000
_FAR_BEHIND = 50_000  # messages


def broker(settings: Settings) -> tuple[bool, str, bool]:
    """The brokers: a message is written to a topic that is made for that, read back, and deleted with it."""
    connection, begun_s = connection_of(settings), time.time()
    try:
        brokers, clock_s = exercise(connection, secrets.token_hex(4))
    except Denied as denied:
        return True, f"reached; {denied}: nothing was written", True
    return answered(f"{brokers} brokers at {connection.servers}", begun_s, clock_s)


def topics(settings: Settings) -> tuple[bool, str, bool]:
    """The topics of this home: those of its log, and those that are read and written beside it."""
    connection, faults, said = connection_of(settings), [], []
    place = place_in(settings.home)
    if place is not None:
        client = client_settings(place, os.environ)
        kept = [age_us(settings.keep_log), duration_us(settings.remember_ids)]
        keep_us = None if None in kept else max(one for one in kept if one is not None)
        faults += faults_of(place, keep_us, client)
        faults += [] if faults else _outlived(settings, retention_us(place, client))
        said.append(f"the log is {place.spoken}")
    found = look(connection, [name for name in ALL if name != DECISIONS or place is None])
    inputs = [one for one in found if one.partitions]
    if inputs or settings.transactions_to == "kafka":
        faults += [fault for one in found for fault in one.faults]
        said += [f"{one.name}: {one.partitions} partitions" for one in inputs]
    if faults:
        return False, "; ".join(faults), False
    if not said:
        return True, "none of this home yet; `sentinel topics create` makes those that `sentinel consume` reads", True
    return True, "; ".join(said), False


def _outlived(settings: Settings, kept_us: int | None) -> list[str]:
    """A log that no longer reaches back to the snapshots cannot bring a state from them to its end."""
    made = sorted((path.stat().st_mtime for path in settings.snapshots.glob("*.npz")), reverse=True)[:2]
    if kept_us is None or not made:
        return []
    age_us_of = (time.time() - made[-1]) * 1e6
    if age_us_of < kept_us:
        return []
    old, kept = age_us_of / _DAY_US, kept_us / _DAY_US
    return [
        f"the second newest snapshot is {old:.1f} days old, and the topic keeps {kept:.1f}: set a longer retention.ms"
    ]


def owner(settings: Settings) -> tuple[bool, str, bool]:
    """Who owns a log in Kafka, whether it decides, and how many stand for it."""
    place = place_in(settings.home)
    if place is None:
        return True, "none is needed: the log is in files", False
    with closing(StandingTopic(place, client_settings(place, os.environ))) as topic:
        writer = topic.writer
    if writer is None:
        return True, "nobody has owned the log yet; the first start founds it", False
    if writer.ended:
        return (
            True,
            "nobody owns the log now, so nothing is decided: the last owner ended in good order; start one",
            True,
        )
    if not writer.url:  # `serve` publishes it on its own machine only
        of = owner_of(log_folder(settings.home))
        if of is None or not of.url:
            return True, "a server that says only on its own machine where it answers owned the log last", True
        writer = msgspec.structs.replace(writer, url=of.url)
    said = readiness_at(settings, writer.url, PATIENCE_S)
    standing = members_of(connection_of(settings), writer.log_id)
    if said == "ready":
        return True, f"{writer.url} owns the log and decides; {_stand_by(max(standing - 1, 0))}", False
    how = "does not answer" if said is None else f"is not ready ({said})"
    then = (
        f"by what Kafka knows {_stand_by(standing)}, and one is elected once the session of the former is over: look "
        "again in some seconds"
        if standing
        else "nobody stands by: start `sentinel consume`"
    )
    return False, f"nothing is decided: {writer.url} owned the log last and {how}; {then}", False


def _stand_by(n: int) -> str:
    return f"{n} stand{'s' if n == 1 else ''} by"


def lag(settings: Settings) -> tuple[bool, str, bool]:
    """How far what is in the topics was read for the log of this home, and how many dead letters there are."""
    connection = connection_of(settings)
    there = {one.name for one in look(connection, INPUTS) if one.partitions}
    if not there:
        return True, "there is nothing to read", False
    if not has_log(settings.home):
        return True, "nothing was read yet: there is no log", False
    with closing(open_log(settings.home)) as log:
        found = lag_of(connection, log)
    behind = ", ".join(f"{n:,} of {name}" for name, n in found.items() if n)
    letters = letters_in(connection)
    said = f"to be read: {behind}" if behind else "all that is there was read"
    said += f"; {letters:,} dead letters" if letters else ""
    return True, said, sum(found.values()) > _FAR_BEHIND
