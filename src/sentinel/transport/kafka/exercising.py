"""Tries a broker: a topic is made, written to, read and deleted again."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from sentinel.errors import SentinelError
from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.record.kafka.reaching import reached
from sentinel.transport.kafka.connection import Connection, naming_faults, reason_of

_DENIED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.POLICY_VIOLATION,
)  # fmt: skip
_PATIENCE_S = 3 * PATIENCE_S  # all copies of a topic that is just made have to agree
_LOOK_S = 0.2


class Denied(SentinelError):
    """The broker answers, and whoever asks may not make a topic."""


def exercise(connection: Connection, token: str) -> tuple[int, float]:
    """How many brokers there are, and the time by the clock of the one that was written to, Unix seconds.

    `token` makes the name of a topic that nobody else has. Raises Denied, StorageProblem.
    """
    topic = connection.topic(f"doctor-{token}")
    with naming_faults(connection, "writing and reading back"):
        brokers = len(reached(connection.client()).brokers)
        admin = AdminClient(connection.client())
        try:
            stamped = {"message.timestamp.type": "LogAppendTime"}
            admin.create_topics([NewTopic(topic, 1, config=stamped)])[topic].result(_PATIENCE_S)
        except KafkaException as fault:
            if fault.args[0].code() in _DENIED:
                raise Denied(f"no topic may be made ({reason_of(fault)})") from fault
            raise
        try:
            _write(connection, topic, token.encode())
            return brokers, _read(connection, topic, token.encode()).timestamp()[1] / 1000
        finally:
            admin.delete_topics([topic])[topic].result(_PATIENCE_S)


def _write(connection: Connection, topic: str, value: bytes) -> None:
    faults: list[KafkaError] = []

    def told(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            faults.append(error)

    producer = Producer(connection.client(acks="all", delivery_timeout_ms=int(_PATIENCE_S * 1000)))
    producer.produce(topic, value, on_delivery=told)
    if producer.flush(_PATIENCE_S):
        faults.append(KafkaError(KafkaError.REQUEST_TIMED_OUT))
    if faults:
        raise KafkaException(faults[0])


def _read(connection: Connection, topic: str, value: bytes) -> Message:
    consumer = Consumer(connection.client(group_id="sentinel-doctor", enable_auto_commit=False))
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        give_up = time.monotonic() + _PATIENCE_S
        while time.monotonic() < give_up:
            message = consumer.poll(_LOOK_S)
            if message is not None and message.error() is None and message.value() == value:
                return message
        raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT, "what was written does not come back"))
    finally:
        consumer.close()
