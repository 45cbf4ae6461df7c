"""Topics of Kafka as a target: acknowledged by all copies; what is a repeat is found where it is decided."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaException, Message, Producer

from sentinel.commands.sending.targets import NEW, Fate, SendingStopped
from sentinel.config import Settings
from sentinel.transport.kafka.connection import reason_of
from sentinel.transport.kafka.streams import connection_of


class KafkaTarget:
    """Writes each batch, and waits for its acknowledgement."""

    def __init__(self, settings: Settings, patience_s: float) -> None:
        """Raises InvalidDefinition."""
        self._connection, self._patience_s = connection_of(settings), patience_s
        self._producer = Producer(
            self._connection.client(
                acks="all", enable_idempotence=True, linger_ms=2, delivery_timeout_ms=int(1000 * patience_s)
            )
        )

    def send(self, kind: str, keys: Sequence[str], bodies: Sequence[bytes]) -> list[Fate]:
        """Write them to the topic of that kind, in their order. Raises SendingStopped where one is not acknowledged."""
        faults: list[str] = []

        def told(error: Any, _message: Message) -> None:
            if error is not None:
                faults.append(error.str())

        try:
            for key, body in zip(keys, bodies, strict=True):
                self._producer.produce(self._connection.topic(kind), body, key, on_delivery=told)
            left = self._producer.flush(self._patience_s)
        except KafkaException as fault:
            raise SendingStopped(f"Kafka takes nothing: {reason_of(fault)}") from fault
        if left or faults:
            raise SendingStopped(
                f"Kafka acknowledged {len(bodies) - left - len(faults)} of {len(bodies)}: {faults[:1]}"
            )
        return [Fate(NEW)] * len(bodies)

    def close(self) -> None:
        """Nothing is left to be sent."""
