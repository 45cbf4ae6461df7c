"""The topics: made where an operator wants it, and looked at before anything is read from them."""

import time
from collections.abc import Sequence

import msgspec
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from sentinel.errors import StorageProblem
from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.record.kafka.place import standing_of, why_not_json
from sentinel.record.kafka.reaching import reached
from sentinel.transport.kafka.connection import LARGEST, Connection, naming_faults

TRANSACTIONS, OUTCOMES, EVENTS, DECISIONS, DEAD_LETTERS = (
    "transactions", "outcomes", "events", "decisions", "dead-letters",
)  # fmt: skip
INPUTS = (TRANSACTIONS, OUTCOMES, EVENTS)
ALL = (*INPUTS, DECISIONS, DEAD_LETTERS)

_WANTED = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
_WEEK_MS = 7 * 86_400_000
_LOOK_S = 0.05


class Topic(msgspec.Struct, frozen=True):
    """A topic as it is: its partitions, 0 where it is not there, and what is wrong with it as sentences."""

    name: str
    partitions: int
    faults: list[str]


def look(connection: Connection, names: Sequence[str] = ALL) -> list[Topic]:
    """Each of these topics, and what of it does not fit. Raises StorageProblem when Kafka cannot be asked."""
    with naming_faults(connection, "looking at the topics"):
        there = reached(connection.client()).topics
        admin = AdminClient(connection.client())
        known = [connection.topic(name) for name in names if connection.topic(name) in there]
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in known]
        answers = admin.describe_configs(asked) if asked else {}
        settings = {
            one.name: {name: value.value for name, value in answer.result(PATIENCE_S).items()}
            for one, answer in answers.items()
        }
    partitions = {name: len(there[name].partitions) for name in known}
    most = {name: partitions.get(connection.topic(name), 0) for name in INPUTS}
    found = [_looked_at(connection.topic(name), partitions, settings, most, name) for name in names]
    decisions = connection.topic(DECISIONS)
    if standing_of(decisions) in there:
        for one in found:
            if one.name == decisions:
                one.faults.insert(0, why_not_json(decisions))
    return found


def _looked_at(
    full: str, partitions: dict[str, int], settings: dict[str, dict[str, str]], inputs: dict[str, int], name: str
) -> Topic:
    if full not in partitions:
        return Topic(full, 0, [f"there is no topic {full}; `sentinel topics create` makes it"])
    found, faults = settings[full], []
    for key, value in _WANTED.items():
        if found.get(key) != value:
            faults.append(f"{full} has {key}={found.get(key)} and needs {key}={value}")
    kept_ms = int(found.get("retention.ms", -1))
    if 0 <= kept_ms < _WEEK_MS:
        faults.append(
            f"{full} forgets after {kept_ms / 3_600_000:g} hours: what is not read by then is lost; set "
            f"retention.ms={_WEEK_MS} or more"
        )
    if name == DEAD_LETTERS and int(found.get("max.message.bytes", 0)) < LARGEST:
        faults.append(f"{full} has no room for large messages; set max.message.bytes={LARGEST}")
    if name in INPUTS and inputs[TRANSACTIONS] and partitions[full] != inputs[TRANSACTIONS]:
        faults.append(
            f"{full} has {partitions[full]} partitions and the topic of transactions {inputs[TRANSACTIONS]}; give both "
            "as many"
        )
    return Topic(full, partitions[full], faults)


def check(connection: Connection, names: Sequence[str]) -> None:
    """Raise StorageProblem with all that does not fit."""
    faults = [fault for one in look(connection, names) for fault in one.faults]
    if faults:
        raise StorageProblem(f"the topics at {connection.servers} do not fit: {'; '.join(faults)}")


def create(connection: Connection, names: Sequence[str], partitions: int, copies: int, keep_ms: int) -> list[str]:
    """Make those of them that are not there, each on `copies` brokers (-1: as the brokers are set up); which ones.

    Those that are there stay as they are. Raises StorageProblem.
    """
    admin = AdminClient(connection.client())
    new = [one.name for one in look(connection, names) if one.partitions == 0]
    wanted = _WANTED | {"retention.ms": str(keep_ms), "max.message.bytes": str(LARGEST)}
    with naming_faults(connection, "making the topics"):
        made = admin.create_topics([NewTopic(name, partitions, copies, config=wanted) for name in new]) if new else {}
        for answer in made.values():
            answer.result(PATIENCE_S)
    give_up_s = time.monotonic() + PATIENCE_S
    while new and not all(one.partitions for one in look(connection, names)):  # brokers tell of it a moment later
        if time.monotonic() > give_up_s:
            raise StorageProblem(
                f"the topics at {connection.servers} are made and not shown yet; try again in a moment"
            )
        time.sleep(_LOOK_S)
    return new
