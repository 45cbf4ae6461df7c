"""The election: of the processes of one group, the one that Kafka has given partition 0 of `transactions` is the owner.

It only stands: what is read, and from where, the log says.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from sentinel.transport.kafka.connection import Connection, reason_of
from sentinel.transport.kafka.topics import TRANSACTIONS

SESSION_MS = 6_000
"""After so long without a sign of life a process is out; brokers allow no less unless they are told to."""

_SIGNS = 8  # of life in that time
_POLL_S, _RETRY_S = 0.2, 1.0
_SESSION = "session.timeout.ms"
_log = logging.getLogger(__name__)


class Election:
    """Stands in a thread of its own. `lost` is called in it as soon as this process is not the owner any more."""

    def __init__(self, connection: Connection, group: str, lost: Callable[[], None]) -> None:
        self._connection, self._group, self._lost = connection, group, lost
        self._topic = connection.topic(TRANSACTIONS)
        self._stopping = threading.Event()
        self._is_elected = threading.Event()
        self._telling = threading.Lock()
        self._ends: dict[tuple[str, int], TopicPartition] = {}
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)

    @property
    def is_elected(self) -> bool:
        """Whether this process is to be the owner."""
        return self._is_elected.is_set()

    def start(self) -> None:
        """Stand from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Leave the group, so that another process is elected at once."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def tell(self, ends: Sequence[TopicPartition]) -> None:
        """Let others see in Kafka how far was read; nothing here goes by it."""
        with self._telling:
            self._ends.update({(one.topic, one.partition): one for one in ends})

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._stand()
            except KafkaException as fault:
                _log.error("Kafka says nothing of who owns the log: %s; it is asked again", reason_of(fault))
            except Exception:  # noqa: BLE001 - the server goes on, and so does this
                _log.exception("the election begins anew")
            finally:
                self._give_up()
            self._stopping.wait(_RETRY_S)

    def _stand(self) -> None:
        """Stand until the end. The partition stays with who has it while others come and go."""
        given = {_SESSION: SESSION_MS, **self._connection.client()}
        session_ms = int(str(given[_SESSION]))
        consumer = Consumer(
            {
                **given, "group.id": self._group, "enable.auto.commit": False, "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "cooperative-sticky", _SESSION: session_ms,
                "heartbeat.interval.ms": session_ms // _SIGNS,
            }
        )  # fmt: skip
        try:
            consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
            while not self._stopping.is_set():
                message = consumer.poll(_POLL_S)
                error = None if message is None else message.error()
                self._show(consumer)
                if error is not None and error.fatal():
                    raise KafkaException(error)
                if error is not None and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise KafkaException(error)
        finally:
            self._give_up()
            consumer.close()

    def _show(self, consumer: Consumer) -> None:
        with self._telling:
            ends, self._ends = [*self._ends.values()], {}
        if ends and self.is_elected:
            with contextlib.suppress(KafkaException):  # it is shown again with the next
                consumer.commit(offsets=ends, asynchronous=True)

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        consumer.incremental_assign(list(partitions))
        consumer.pause(list(partitions))  # nothing is read here
        if any(one.partition == 0 for one in partitions):
            _log.warning("this process is to own the log: the group %s says so", self._group)
            self._is_elected.set()

    def _revoked(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        if any(one.partition == 0 for one in partitions):
            self._give_up()
        consumer.incremental_unassign(list(partitions))

    def _give_up(self) -> None:
        if self._is_elected.is_set():
            _log.warning("this process owns the log no longer: the group %s says so", self._group)
            self._is_elected.clear()
            self._lost()
