"""The settings of every client of Kafka, and its faults in our words."""

import contextlib
from collections.abc import Iterator, Mapping

from confluent_kafka import KafkaException

from sentinel.errors import StorageProblem
from sentinel.record.kafka.place import Place

PATIENCE_S = 10.0
"""How long Kafka may take to answer before it counts as away."""

RETRY_MS = 2
"""A transaction that follows another one within milliseconds is told by the broker to try again, as the markers of the
one before are still being written; librdkafka's own pause is 100 ms, and every transaction would pay it."""

_VARIABLE = "SENTINEL_KAFKA_"
_OWN = {"PREFIX"}


def client_settings(place: Place, environment: Mapping[str, str]) -> dict[str, object]:
    """Settings of a client: SENTINEL_KAFKA_SECURITY_PROTOCOL is librdkafka's `security.protocol`, and so on."""
    more = {
        name.removeprefix(_VARIABLE).lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith(_VARIABLE) and name.removeprefix(_VARIABLE) not in _OWN and value.strip()
    }
    return {"bootstrap.servers": place.servers, "log_level": 2, "reconnect.backoff.max.ms": 500, **more}


@contextlib.contextmanager
def naming_faults(place: Place, what: str) -> Iterator[None]:
    """Kafka's faults as StorageProblem; `what` was tried with the log."""
    try:
        yield
    except KafkaException as fault:
        reason = fault.args[0].str() if hasattr(fault.args[0], "str") else str(fault)
        raise StorageProblem(
            f"the log, {place.spoken}, cannot be {what}: {reason}; see to the broker, it is tried again"
        ) from fault
    except TimeoutError as late:
        raise StorageProblem(
            f"the log, {place.spoken}, cannot be {what}: no answer in time; see to the broker, it is tried again"
        ) from late
