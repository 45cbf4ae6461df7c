"""Whether the topics are as the job needs them: looked at before it starts, each fault with a sentence."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource

from sentinel.errors import StorageProblem
from sentinel.record.kafka.place import standing_of, why_not_json

_PATIENCE_S = 20.0
_STAMPED = "message.timestamp.type"
_CLEANED = "cleanup.policy"


def check_topics(client: Mapping[str, str], prefix: str, names: tuple[str, ...]) -> list[str]:
    """What is wrong with these topics and may yet be meant so; in sentences. Raises StorageProblem for what cannot be.

    What is read has to be stamped by the broker: that is the clock of forgetting, and a producer may say what it likes.
    Nothing may be compacted: of a card's decisions all but the newest would go.
    """
    admin = AdminClient(dict(client))
    try:
        there = admin.list_topics(timeout=_PATIENCE_S).topics
        absent = [f"{prefix}{name}" for name in names if f"{prefix}{name}" not in there]
        if "decisions" in names and standing_of(f"{prefix}decisions") in there:
            raise StorageProblem(why_not_json(f"{prefix}decisions"))
        if absent:
            raise StorageProblem(f"there is no topic {', '.join(absent)}; make it, with as many partitions as you need")
        asked = [ConfigResource(ConfigResource.Type.TOPIC, f"{prefix}{name}") for name in names]
        found = {one.name: answer.result(_PATIENCE_S) for one, answer in admin.describe_configs(asked).items()}
    except KafkaException as error:
        raise StorageProblem(f"Kafka does not answer ({error.args[0].str()}); see SENTINEL_KAFKA") from error
    compacted = [name for name, settings in found.items() if "compact" in settings[_CLEANED].value]
    if compacted:
        raise StorageProblem(
            f"{', '.join(compacted)} is compacted: all but a card's newest record would go; set cleanup.policy=delete"
        )
    return [
        _by_producers(name) for name in names if name in _READ and _is_stamped_by_producers(found[f"{prefix}{name}"])
    ]


_READ = ("transactions", "outcomes")


def _is_stamped_by_producers(settings: Mapping[str, Any]) -> bool:
    return bool(settings[_STAMPED].value != "LogAppendTime")


def _by_producers(name: str) -> str:
    return (
        f"{name} bears the times that producers say; with message.timestamp.type=LogAppendTime nobody can have a key "
        "forgotten by a time of his own"
    )
