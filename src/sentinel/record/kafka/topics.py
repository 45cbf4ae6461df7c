"""The two topics of a log: made where they are not there, and refused where the log would not be safe in them."""

import time
from collections.abc import Mapping

import msgspec
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from sentinel.errors import StorageProblem
from sentinel.record.kafka.connection import PATIENCE_S, naming_faults
from sentinel.record.kafka.message import is_json
from sentinel.record.kafka.partition import Partition
from sentinel.record.kafka.place import Place
from sentinel.record.kafka.reaching import reached

LARGEST = 16 << 20
"""Bytes of a record, at most: some thousands of decisions."""

_FOR_EVER = -1
_DAY_MS = 86_400_000
_LOOK_S = 0.05
_OF_BOTH = {"max.message.bytes": str(LARGEST)}


def prepare(place: Place, keep_us: int | None, settings: Mapping[str, object], copies: int = -1) -> None:
    """Make the topics of a log, or see that those there are keep it.

    Records are kept for `keep_us` microseconds at least, and a day more; None is for ever. `copies` on so many brokers,
    -1 as many as the brokers are set to. Raises StorageProblem, with every setting that does not fit.
    """
    keep_ms, wanted = _kept_ms(keep_us), _wanted(place)
    with naming_faults(place, "opened"):
        there = reached(settings).topics
        admin = AdminClient(dict(settings))
        if place.decisions in there and place.standing not in there:
            _refuse_json(place, len(there[place.decisions].partitions), settings)
        for topic, needed in wanted.items():
            if topic not in there:
                kept = {"retention.ms": str(keep_ms)} if topic == place.decisions else {}
                _make(admin, NewTopic(topic, place.partition + 1, copies, config={**needed, **kept, **_OF_BOTH}))
        faults = [one for topic, needed in wanted.items() for one in _faults(admin, topic, needed, place, keep_ms)]
    if faults:
        raise StorageProblem(f"no log can be kept at {place.servers}: {'; '.join(faults)}")


def faults_of(place: Place, keep_us: int | None, settings: Mapping[str, object]) -> list[str]:
    """What of a log's topics does not fit, as sentences; nothing is made. Raises StorageProblem without an answer."""
    with naming_faults(place, "looked at"):
        there = reached(settings).topics
        admin = AdminClient(dict(settings))
        absent = [f"there is no topic {topic}" for topic in _wanted(place) if topic not in there]
        return absent + [
            one
            for topic, needed in _wanted(place).items()
            if topic in there
            for one in _faults(admin, topic, needed, place, _kept_ms(keep_us))
        ]


def retention_us(place: Place, settings: Mapping[str, object]) -> int | None:
    """For how long records are kept; None for ever. Raises StorageProblem without an answer."""
    with naming_faults(place, "looked at"):
        kept_ms = int(_settings_of(AdminClient(dict(settings)), place.decisions).get("retention.ms", _FOR_EVER))
    return None if kept_ms == _FOR_EVER else kept_ms * 1000


def _kept_ms(keep_us: int | None) -> int:
    return _FOR_EVER if keep_us is None else -(-keep_us // 1000) + _DAY_MS


def _wanted(place: Place) -> dict[str, dict[str, str]]:
    return {
        place.decisions: {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"},
        place.standing: {"cleanup.policy": "compact"},
    }


def _refuse_json(place: Place, partitions: int, settings: Mapping[str, object]) -> None:
    """Raise StorageProblem for a topic that has decisions as JSON, before anything is made beside it."""
    for number in range(partitions):
        one = Partition(msgspec.structs.replace(place, partition=number), place.decisions, settings)
        try:
            ends = one.ends()
            if any(is_json(message) for message in one.fetch(ends.low, 1, ends.stable)):
                raise StorageProblem(
                    f"{place.decisions} at {place.servers} holds decisions as JSON, as `sentinel consume` and Flink "
                    "write them, and a log is kept in a topic of its own: set another SENTINEL_KAFKA_PREFIX"
                )
        finally:
            one.close()


def _make(admin: AdminClient, topic: NewTopic) -> None:
    """Make a topic, and wait until every broker that is asked knows its leaders."""
    try:
        admin.create_topics([topic])[topic.topic].result(PATIENCE_S)
    except KafkaException as fault:
        if fault.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else has just made it
            raise
    give_up = time.monotonic() + PATIENCE_S
    while True:
        found = admin.list_topics(topic.topic, timeout=PATIENCE_S).topics[topic.topic]
        if found.error is None and found.partitions and all(one.leader >= 0 for one in found.partitions.values()):
            return
        if time.monotonic() > give_up:
            raise KafkaException(found.error or KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        time.sleep(_LOOK_S)


def _settings_of(admin: AdminClient, topic: str) -> dict[str, str]:
    """The settings of a topic; asked again while the broker has only just heard of it."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = admin.describe_configs([resource])[resource].result(PATIENCE_S)
        except KafkaException as fault:
            if fault.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > give_up:
                raise
            time.sleep(_LOOK_S)
        else:
            return {name: one.value for name, one in found.items()}


def _faults(
    admin: AdminClient, topic: str, needed: Mapping[str, str], place: Place, keep_ms: int
) -> list[str]:  # fmt: skip
    """What of a topic does not fit, each as a sentence that says what to set."""
    found = _settings_of(admin, topic)
    partitions = len(admin.list_topics(topic, timeout=PATIENCE_S).topics[topic].partitions)
    faults = [
        f"{topic} has {name}={found.get(name)} and needs {name}={value}"
        for name, value in needed.items()
        if found.get(name) != value
    ]
    if partitions <= place.partition:
        faults.append(
            f"{topic} has {partitions} partitions and this log is partition {place.partition}; add partitions"
        )
    if int(found.get("max.message.bytes", 0)) < LARGEST:
        faults.append(
            f"{topic} takes messages of {found.get('max.message.bytes')} bytes; set max.message.bytes={LARGEST}"
        )
    if topic == place.decisions:
        kept_ms = int(found.get("retention.ms", _FOR_EVER))
        if kept_ms != _FOR_EVER and (keep_ms == _FOR_EVER or kept_ms < keep_ms):
            faults.append(
                f"{topic} forgets after {kept_ms / _DAY_MS:g} days, before ids do; set retention.ms={keep_ms}"
            )
        if int(found.get("retention.bytes", _FOR_EVER)) != _FOR_EVER:
            faults.append(
                f"{topic} forgets by size (retention.bytes={found['retention.bytes']}); set retention.bytes=-1"
            )
    return faults
