"""The publisher: a follower of the log that writes every decision to the topic `decisions`, each exactly once.

How far it has got is kept in Kafka as the offset of a group, and moves on in the same transaction as its messages.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from sentinel.errors import SentinelError
from sentinel.events.schema import Schema
from sentinel.events.times import iso
from sentinel.record.entries import DecisionRow, decision_rows
from sentinel.record.kafka.connection import PATIENCE_S, RETRY_MS
from sentinel.record.log import Follower, Kind, LogReader
from sentinel.transport.kafka.connection import Connection, reason_of
from sentinel.transport.kafka.topics import DECISIONS
from sentinel.transport.kafka.traces import HEADER, Traces

MOST = 2_000
"""Decisions in one transaction, or a record more."""

_LOOK_S, _RETRY_S = 0.003, 0.5
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_log = logging.getLogger(__name__)


class Publisher:
    """Follows in a thread of its own. What the log had before it was first started is not written.

    `schema` is that in force, None while there is none: messages have its first key as their key.
    """

    def __init__(
        self, connection: Connection, log: LogReader, schema: Callable[[], Schema | None], traces: Traces
    ) -> None:
        self._connection, self._log, self._schema, self._traces = connection, log, schema, traces
        self._name = f"sentinel-{log.log_id}-decisions"
        self._first = log.durable
        self._stopping = threading.Event()
        self._is_open = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-publisher", daemon=True)

    @property
    def is_open(self) -> bool:
        """Whether it is kept in Kafka where it began."""
        return self._is_open.is_set()

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is durable by now, and end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._follow()
            except KafkaException as fault:
                _log.error("decisions are not written to Kafka: %s", reason_of(fault))
            except SentinelError as fault:
                _log.error("decisions are not written to Kafka: %s", fault)
            except Exception:  # noqa: BLE001 - the server goes on, and so does this
                _log.exception("decisions are not written to Kafka")
            else:
                return
            if self._stopping.wait(_RETRY_S):
                return

    def _follow(self) -> None:
        """Write on until the end. Raises KafkaException: how far it got is not known then, and Kafka is asked anew."""
        producer = Producer(
            self._connection.client(
                transactional_id=self._name, linger_ms=0, transaction_timeout_ms=60_000, retry_backoff_ms=RETRY_MS
            )
        )
        group = Consumer(self._connection.client(group_id=self._name, isolation_level="read_committed"))
        try:
            producer.init_transactions(PATIENCE_S)  # ends what a predecessor left, and fences it
            place = TopicPartition(self._connection.topic(DECISIONS), 0)
            kept = group.committed([place], timeout=PATIENCE_S)[0].offset
            if kept < 0:
                self._write(producer, group, [], self._first)
            follower = Follower(self._log, self._first if kept < 0 else kept)
            self._is_open.set()
            while True:
                ends = self._stopping.is_set()
                records = follower.next(MOST)
                rows = [row for one in records if one.kind == Kind.DECIDED for row in decision_rows(one)]
                if rows:
                    self._write(producer, group, rows, follower.position)
                elif not records:
                    if ends:
                        return
                    self._stopping.wait(_LOOK_S)
        finally:
            group.close()

    def _write(self, producer: Producer, group: Consumer, rows: list[DecisionRow], position: int) -> None:
        producer.begin_transaction()
        topic = self._connection.topic(DECISIONS)
        for row in rows:
            trace = self._traces.of(row.transaction_id)
            headers = [] if trace is None else [(HEADER, trace.encode())]
            producer.produce(topic, _encode(shown(row)), self._key_of(row), headers=headers)
        place = [TopicPartition(topic, 0, position)]
        producer.send_offsets_to_transaction(place, group.consumer_group_metadata(), PATIENCE_S)
        producer.commit_transaction(PATIENCE_S)

    def _key_of(self, row: DecisionRow) -> str:
        schema = self._schema()
        first = schema.keys[0] if schema is not None and schema.keys else None
        key = _decode(row.content).get(first) if first is not None else None
        return str(row.transaction_id if key is None else key)


def shown(row: DecisionRow) -> dict[str, Any]:
    """A decision as it is written."""
    decider = row.decider
    return {
        "transaction_id": row.transaction_id,
        "decision": row.decision,
        "fraud_probability": row.fraud_probability,
        "model_version": decider.model_version,
        "detector": row.detector,
        "degraded": decider.degraded,
        "decided_by": decider.decided_by,
        "variant": decider.variant,
        "decided_at": iso(row.received_us),
        "position": row.position,
    }
