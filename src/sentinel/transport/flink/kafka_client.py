"""How Kafka is reached, as the environment says it for librdkafka, in the words of the Java client that Flink has."""

from collections.abc import Mapping
from typing import NamedTuple

from sentinel.errors import InvalidDefinition

_OWN = ("SENTINEL_KAFKA", "SENTINEL_KAFKA_PREFIX")
_BEGIN = "SENTINEL_KAFKA_"
_SAME = ("security.protocol", "client.id", "ssl.endpoint.identification.algorithm")
_PASSWORD_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


class KafkaClient(NamedTuple):
    """Settings of both clients, and what the names of topics begin with."""

    java: dict[str, str]
    librdkafka: dict[str, str]
    prefix: str


def kafka_client(environment: Mapping[str, str]) -> KafkaClient:
    """What SENTINEL_KAFKA and SENTINEL_KAFKA_... say. Raises InvalidDefinition for what Java's client has no word for.

    >>> kafka_client({"SENTINEL_KAFKA": "a:9092", "SENTINEL_KAFKA_SECURITY_PROTOCOL": "SSL"}).java
    {'bootstrap.servers': 'a:9092', 'security.protocol': 'SSL'}
    """
    servers = environment.get("SENTINEL_KAFKA", "").strip()
    if not servers:
        raise InvalidDefinition("SENTINEL_KAFKA is not set: host:port of the brokers, separated by commas")
    given = {
        name.removeprefix(_BEGIN).lower().replace("_", "."): value.strip()
        for name, value in sorted(environment.items())
        if name.startswith(_BEGIN) and name not in _OWN and value.strip()
    }
    java = {"bootstrap.servers": servers} | {name: given[name] for name in _SAME if name in given}
    java |= _sasl(given) | _tls(given)
    known = (*_SAME, "sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password", "ssl.ca.location")
    strange = [name for name in given if name not in known]
    if strange:
        raise InvalidDefinition(
            f"{_BEGIN}{strange[0].upper().replace('.', '_')} cannot be said to the Kafka client of Flink; it takes "
            f"{', '.join(known)}"
        )
    return KafkaClient(
        java, {"bootstrap.servers": servers, **given}, environment.get("SENTINEL_KAFKA_PREFIX", "").strip()
    )


def _sasl(given: Mapping[str, str]) -> dict[str, str]:
    mechanism = given.get("sasl.mechanism") or given.get("sasl.mechanisms")
    if mechanism is None:
        return {}
    if mechanism not in _PASSWORD_MODULES:
        raise InvalidDefinition(f"SENTINEL_KAFKA_SASL_MECHANISM must be one of {', '.join(_PASSWORD_MODULES)}")
    user, password = (_escaped(given.get(f"sasl.{name}", "")) for name in ("username", "password"))
    login = f'{_PASSWORD_MODULES[mechanism]} required username="{user}" password="{password}";'
    return {"sasl.mechanism": mechanism, "sasl.jaas.config": login}


def _tls(given: Mapping[str, str]) -> dict[str, str]:
    authority = given.get("ssl.ca.location")
    return {} if authority is None else {"ssl.truststore.type": "PEM", "ssl.truststore.location": authority}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
