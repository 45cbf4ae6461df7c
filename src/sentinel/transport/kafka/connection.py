"""Where Kafka is, what the topics are called there, and how its clients are set up."""

import contextlib
from collections.abc import Iterator, Mapping

import msgspec
from confluent_kafka import KafkaException

from sentinel.errors import StorageProblem
from sentinel.record.kafka.connection import PATIENCE_S, client_settings
from sentinel.record.kafka.place import Place

LARGEST = 16 << 20
"""Bytes of a message, at most: what is too large for us still has to get to the dead letters."""


class Connection(msgspec.Struct, frozen=True):
    """Some brokers (`host:port,host:port`), what the names of the topics begin with, and further client settings."""

    servers: str
    prefix: str = ""
    more: Mapping[str, object] = {}

    @classmethod
    def of(cls, servers: str, prefix: str, environment: Mapping[str, str]) -> "Connection":
        """With the SENTINEL_KAFKA_... of the environment; see `record.kafka.connection.client_settings`."""
        return cls(servers, prefix, client_settings(Place(servers, prefix), environment))

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return self.prefix + name

    def client(self, **more: object) -> dict[str, object]:
        """The settings of a client: those that all share, and more by their names with `_` for `.`."""
        own = {name.replace("_", "."): value for name, value in more.items()}
        return {"socket.timeout.ms": int(PATIENCE_S * 1000), **self.more, **own}


@contextlib.contextmanager
def naming_faults(connection: Connection, what: str) -> Iterator[None]:
    """Kafka's faults as StorageProblem; `what` was tried."""
    try:
        yield
    except (KafkaException, TimeoutError) as fault:
        why = reason_of(fault) if isinstance(fault, KafkaException) else "no answer in time"
        raise StorageProblem(
            f"Kafka at {connection.servers}: {what} failed: {why}; see to the broker, and to SENTINEL_KAFKA and "
            "SENTINEL_KAFKA_...; `sentinel doctor` looks at both"
        ) from fault


def reason_of(fault: KafkaException) -> str:
    """What a fault of Kafka's says."""
    first = fault.args[0] if fault.args else fault
    return first.str() if hasattr(first, "str") else str(first)
