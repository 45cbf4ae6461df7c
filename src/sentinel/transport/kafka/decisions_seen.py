"""The topic of decisions as a front sees it: what was decided elsewhere of what it has handed in."""

import logging
import threading
from collections.abc import Callable, Iterator

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from sentinel.errors import SentinelError, StorageProblem
from sentinel.record.entries import decision_rows
from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.record.kafka.message import found_in
from sentinel.record.log import Kind
from sentinel.transport.kafka.connection import Connection, naming_faults, reason_of
from sentinel.transport.kafka.publisher import shown
from sentinel.transport.kafka.topics import DECISIONS

_AT_ONCE, _WAIT_S = 500, 0.1
_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


class _Named(msgspec.Struct):
    """What has to be known of a decision in JSON."""

    transaction_id: str
    decision: str


_decode = msgspec.json.Decoder(_Named).decode


class DecisionsSeen:
    """Follows the topic of decisions, in either of its forms, from when it is opened; in a thread of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, wanted: Callable[[str], bool], note: Callable[[str, bytes], None]) -> None:
        """Have `note` called, in that thread, with the id and the JSON of each decision whose id is `wanted`.

        Raises StorageProblem where the topic is not there.
        """
        consumer = Consumer(
            self._connection.client(
                group_id="sentinel-fronts", enable_auto_commit=False, isolation_level="read_committed",
                auto_offset_reset="latest", fetch_wait_max_ms=50,
            )
        )  # fmt: skip
        try:
            with naming_faults(self._connection, "reading decisions"):
                consumer.assign(_ends(consumer, self._connection.topic(DECISIONS)))
        except BaseException:
            consumer.close()
            raise
        self._thread = threading.Thread(
            target=self._follow, args=(consumer, wanted, note), name="kafka-decisions", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(
        self, consumer: Consumer, wanted: Callable[[str], bool], note: Callable[[str, bytes], None]
    ) -> None:  # fmt: skip
        problem = ""
        while not self._stopping.is_set():
            for message in consumer.consume(_AT_ONCE, _WAIT_S):
                try:
                    for name, decision in _decisions_in(message, wanted):
                        note(name, decision)
                    problem = ""
                except (KafkaException, SentinelError) as fault:
                    said = reason_of(fault) if isinstance(fault, KafkaException) else str(fault)
                    if said != problem:
                        _log.error("a decision was not read from Kafka: %s", said)
                    problem = said
        consumer.close()


def _ends(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """Where each partition ends now. Raises StorageProblem, KafkaException."""
    there = consumer.list_topics(timeout=PATIENCE_S).topics.get(topic)
    if there is None:
        raise StorageProblem(
            f"there is no topic {topic}; whoever decides makes it: `sentinel topics create`, or SENTINEL_LOG=kafka"
        )
    ends = [TopicPartition(topic, number) for number in there.partitions]
    for one in ends:
        one.offset = consumer.get_watermark_offsets(one, timeout=PATIENCE_S)[1]
    return ends


def _decisions_in(message: Message, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """The decisions in a message: one as JSON, or those of a record of a log. Raises LogDamaged, KafkaException."""
    if message.error() is not None:
        raise KafkaException(message.error())
    value = message.value() or b""
    if value[:1] == b"{":
        try:
            found = _decode(value)
        except msgspec.MsgspecError:  # an outcome, or what others have written
            return
        if wanted(found.transaction_id):
            yield found.transaction_id, value
        return
    record = found_in(message).record
    if record.kind == Kind.DECIDED:
        for row in decision_rows(record):
            if wanted(row.transaction_id):
                yield row.transaction_id, _encode(shown(row))
