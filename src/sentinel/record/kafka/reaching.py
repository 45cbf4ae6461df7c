"""Whether brokers can be reached, and in words why not: the client tells a caller only that there is no answer."""

import time
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import ClusterMetadata

from sentinel.record.kafka.connection import PATIENCE_S

_TRY_S = 0.5
_HUNG_UP = ("verify that security.protocol", "ApiVersionRequest failed", "Disconnected")
_PASSWORD = "SENTINEL_KAFKA_SASL_USERNAME, _SASL_PASSWORD and _SASL_MECHANISM"  # noqa: S105 - their names
_WORDS = {
    KafkaError._AUTHENTICATION: f"the broker refuses who asks: see {_PASSWORD}",
    KafkaError._SSL: "TLS does not come about: see SENTINEL_KAFKA_SSL_CA_LOCATION, and whether that port speaks TLS",
    KafkaError._INVALID_ARG: "a SENTINEL_KAFKA_ setting cannot be meant so",
    KafkaError._RESOLVE: "no machine has that name: see SENTINEL_KAFKA",
}
"""What is said of a fault before the client's own words."""

_REFUSED = (KafkaError._AUTHENTICATION, KafkaError._SSL)  # asking again changes nothing


def reached(settings: Mapping[str, object], patience_s: float = PATIENCE_S) -> ClusterMetadata:
    """The brokers and topics that are there. Raises KafkaException, whose error says in words what keeps it from that.

    A setting that the client does not know is such an error, too.
    """
    faults: list[KafkaError] = []
    try:
        asking = Producer({**settings, "error_cb": faults.append})
    except KafkaException as fault:
        raise KafkaException(_in_words(None, [], fault)) from fault
    give_up = time.monotonic() + patience_s
    while True:
        try:
            return asking.list_topics(timeout=min(_TRY_S, patience_s))
        except KafkaException as fault:
            asking.poll(0.05)
            refused = next((one for one in faults if one.code() in _REFUSED), None)
            if refused is not None or time.monotonic() > give_up:
                raise KafkaException(_in_words(refused, faults, fault)) from fault


def _in_words(refused: KafkaError | None, faults: list[KafkaError], last: KafkaException) -> KafkaError:
    """The fault that says most: who is refused, else the first that the connection had, else that there was none."""
    told = refused or next((one for one in faults if one.code() != KafkaError._ALL_BROKERS_DOWN), last.args[0])
    said = told.str()
    if "Connection refused" in said:
        words = "nobody listens there: start the broker, or see SENTINEL_KAFKA"
    elif told.code() in _WORDS:
        words = _WORDS[told.code()]
    elif any(one in said for one in _HUNG_UP):
        words = (
            "the broker hangs up: it may want TLS or a password (SENTINEL_KAFKA_SECURITY_PROTOCOL), or none where one "
            "is given"
        )
    else:
        words = (
            "a connection comes about and no answer: the port may be one for TLS or a password "
            "(SENTINEL_KAFKA_SECURITY_PROTOCOL), or the broker stands still"
        )
    return KafkaError(told.code(), f"{words} ({said})")
