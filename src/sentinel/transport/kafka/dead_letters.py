"""Dead letters: messages that nothing can be made of, as they came, with the reason and where they stood."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from sentinel.errors import NotFound, SentinelError, StorageProblem
from sentinel.events.card_numbers import masked_ends, quoted
from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.record.log import Enclosed
from sentinel.transport.kafka.connection import LARGEST, Connection, naming_faults
from sentinel.transport.kafka.topics import DEAD_LETTERS, INPUTS

_REASON, _TOPIC, _PLACE, _CUT = "reason", "topic", "place", "cut"
_LONGEST = 500
_DIGITS = 20
_OF_HEADER = 16  # bytes at most, besides its name and value
_MOST, _KEPT = LARGEST - (1 << 20), 1 << 20
"""Bytes of a letter, the rest being for what the client adds; and of the value and the key of one that is larger."""


class Poison(NamedTuple):
    """A message and what is wrong with it."""

    message: Message
    error: SentinelError


class DeadLetter(msgspec.Struct, frozen=True):
    """A dead letter: its number (`partition-offset` in its topic), where it stood, and the original key and value.

    `cut` is how many bytes the message had where it had more than a topic can take: then it is not whole here.
    """

    number: str
    topic: str
    place: str
    reason: str
    at_ms: int
    key: bytes | None
    value: bytes | None
    cut: int | None = None


def letter_of(poison: Poison, connection: Connection) -> Enclosed:
    """What is written of it; of one that is too large for that, as what was compressed can be, its beginning."""
    message, error = poison
    value, key = message.value(), message.key()
    headers = {
        _REASON: masked_ends(str(error), _LONGEST).encode(),
        _TOPIC: str(message.topic()).encode(),
        _PLACE: f"{message.partition()}-{message.offset()}".encode(),
    }
    kept = [(name, told) for name, told in message.headers() or () if name not in (*headers, _CUT)]
    size = len(value or b"") + len(key or b"") + sum(len(name) + len(told or b"") + _OF_HEADER for name, told in kept)
    if size > _MOST:
        headers[_CUT] = str(size).encode()
        value, key, kept = value and value[:_KEPT], key and key[:_KEPT], []
    return Enclosed(connection.topic(DEAD_LETTERS), value, key, [*kept, *headers.items()])


def produced(messages: Sequence[Poison], producer: Producer, connection: Connection) -> None:
    """Write them, acknowledged when this returns. Raises StorageProblem."""
    faults: list[Any] = []
    topic = connection.topic(DEAD_LETTERS)

    def told(error: Any, _message: Message) -> None:
        if error is not None:
            faults.append(error)

    with naming_faults(connection, "writing dead letters"):
        for poison in messages:
            one = letter_of(poison, connection)
            producer.produce(one.topic, one.value, one.key, on_delivery=told, headers=[*one.headers])
        left = producer.flush(PATIENCE_S)
    if left or faults:
        raise StorageProblem(f"{left + len(faults)} dead letters could not be written to {topic}: {faults[:1]}")


def writer(connection: Connection) -> Producer:
    """What writes dead letters."""
    return Producer(connection.client(acks="all", enable_idempotence=True, message_max_bytes=LARGEST, linger_ms=0))


def read(connection: Connection) -> Iterator[DeadLetter]:
    """All that are there by now, by partition. Raises StorageProblem."""
    consumer = Consumer(
        connection.client(
            group_id="sentinel-dead-letters",
            enable_auto_commit=False,
            fetch_message_max_bytes=LARGEST,
            enable_partition_eof=True,
        )
    )
    topic = connection.topic(DEAD_LETTERS)
    try:
        with naming_faults(connection, "reading dead letters"):
            found = consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic]
            if found.error is not None:
                raise KafkaException(found.error)
            for number in found.partitions:
                yield from _of_partition(consumer, TopicPartition(topic, number, OFFSET_BEGINNING))
    finally:
        consumer.close()


def _of_partition(consumer: Consumer, partition: TopicPartition) -> Iterator[DeadLetter]:
    consumer.assign([partition])
    quiet_s = time.monotonic() + PATIENCE_S
    while True:
        message = consumer.poll(0.2)
        if message is None:
            if time.monotonic() > quiet_s:
                raise StorageProblem(f"{partition.topic} says nothing for {PATIENCE_S:.0f} s; see to the broker")
            continue
        if message.error() is not None:
            if message.error().code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - so it is named there
                return
            raise KafkaException(message.error())
        quiet_s = time.monotonic() + PATIENCE_S
        yield _letter(message)


def _letter(message: Message) -> DeadLetter:
    headers: Mapping[str, bytes] = dict(message.headers() or ())
    topic, place, reason = (headers.get(one, b"").decode(errors="replace") for one in (_TOPIC, _PLACE, _REASON))
    number = f"{message.partition()}-{message.offset()}"
    size = headers.get(_CUT) or b""
    cut = int(size) if size.isdigit() and len(size) < _DIGITS else None
    return DeadLetter(number, topic, place, reason, message.timestamp()[1], message.key(), message.value(), cut)


def numbered(connection: Connection, number: str) -> DeadLetter:
    """The one of this number. Raises NotFound, StorageProblem."""
    for one in read(connection):
        if one.number == number:
            return one
    raise NotFound(f"There is no dead letter {number}; `sentinel dead-letters list` shows those there are")


def sent_again(connection: Connection, letters: Sequence[DeadLetter]) -> int:
    """Write them to the topics that they came from; how many. The dead letters stay. Raises StorageProblem.

    Whoever writes dead letters says where they came from; what is read here comes from one of three topics.
    """
    inputs = tuple(connection.topic(name) for name in INPUTS)
    for one in letters:
        if one.topic not in inputs:
            raise StorageProblem(
                f"the dead letter {one.number} says that it came from {quoted(one.topic, 80)}; nothing was sent again, "
                f"as that is none of {', '.join(inputs)}"
            )
        if one.cut is not None:
            raise StorageProblem(
                f"the dead letter {one.number} has the beginning of {one.cut:,} bytes only; nothing was sent again: "
                "name the others"
            )
    producer, faults = writer(connection), []

    def told(error: Any, _message: Message) -> None:
        if error is not None:
            faults.append(error)

    with naming_faults(connection, "sending dead letters again"):
        for one in letters:
            producer.produce(one.topic, one.value, one.key, on_delivery=told)
        left = producer.flush(PATIENCE_S)
    if left or faults:
        raise StorageProblem(f"{left + len(faults)} of {len(letters)} could not be sent again: {faults[:1]}")
    return len(letters)
