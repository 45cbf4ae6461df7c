"""How far behind a log is with what is in its topics, who stands for it, and how many messages could not be read."""

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.record.log import LogReader
from sentinel.transport.kafka.connection import Connection, naming_faults
from sentinel.transport.kafka.ownership import group_of
from sentinel.transport.kafka.topics import DEAD_LETTERS, INPUTS


def lag_of(connection: Connection, log: LogReader) -> dict[str, int]:
    """By topic, the messages that are there and were not read for this log. Raises StorageProblem.

    How far it was read is what the group of the log says, or the log itself, whichever is farther.
    """
    inputs = getattr(log, "newest_inputs", {})  # only a log in Kafka says so
    found: dict[str, int] = {}
    consumer = Consumer(connection.client(group_id=group_of(log.log_id), enable_auto_commit=False))
    try:
        with naming_faults(connection, "looking how far it was read"):
            asked = _partitions_of(consumer, [connection.topic(name) for name in INPUTS])
            for one in consumer.committed(asked, timeout=PATIENCE_S) if asked else ():
                low, high = consumer.get_watermark_offsets(one, timeout=PATIENCE_S)
                read = max(one.offset, inputs.get(f"{one.topic}-{one.partition}", 0), low)
                found[one.topic] = found.get(one.topic, 0) + max(high - read, 0)
    finally:
        consumer.close()
    return found


def members_of(connection: Connection, log_id: str) -> int:
    """How many processes stand for the ownership of a log, by what Kafka knows: one that died is out only later."""
    group = group_of(log_id)
    with naming_faults(connection, "asking who stands for the log"):
        admin = AdminClient(connection.client())  # what it promises ends with it
        return len(admin.describe_consumer_groups([group])[group].result(PATIENCE_S).members)


def letters_in(connection: Connection) -> int:
    """How many dead letters are kept. Raises StorageProblem."""
    consumer = Consumer(connection.client(group_id="sentinel-dead-letters", enable_auto_commit=False))
    try:
        with naming_faults(connection, "counting dead letters"):
            asked = _partitions_of(consumer, [connection.topic(DEAD_LETTERS)])
            ends = [consumer.get_watermark_offsets(one, timeout=PATIENCE_S) for one in asked]
    finally:
        consumer.close()
    return sum(high - low for low, high in ends)


def _partitions_of(consumer: Consumer, topics: list[str]) -> list[TopicPartition]:
    there = consumer.list_topics(timeout=PATIENCE_S).topics
    return [TopicPartition(name, number) for name in topics if name in there for number in there[name].partitions]
