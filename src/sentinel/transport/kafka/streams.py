"""The streams of one detector: its intake and its publisher, started and stopped with the server."""

import os
from collections.abc import Mapping

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.events.schema import Schema
from sentinel.record.kafka.place import topics_of
from sentinel.record.log import LogReader
from sentinel.transport.http.api import Api
from sentinel.transport.kafka.avro import Schemas
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.intake import Intake
from sentinel.transport.kafka.publisher import Publisher
from sentinel.transport.kafka.topics import ALL, DECISIONS


def connection_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> Connection:
    """Where Kafka is. Raises InvalidDefinition where no setting says so."""
    if settings.kafka is None:
        raise InvalidDefinition(
            "no Kafka is named; give SENTINEL_KAFKA=host:port (`make services NAMES=kafka` starts one)"
        )
    return Connection.of(settings.kafka, (settings.kafka_prefix or "") + topics_of(settings.home), environment)


def topics_used(settings: Settings) -> tuple[str, ...]:
    """The topics that streams make and look after; a log in Kafka looks after that of its records itself."""
    return tuple(name for name in ALL if name != DECISIONS or settings.log != "kafka")


class Streams:
    """Reads the detector's topics and writes its decisions."""

    def __init__(self, settings: Settings, api: Api, log: LogReader) -> None:
        """Raises InvalidDefinition."""
        connection, schemas = connection_of(settings), Schemas(settings.avro_schemas)

        def schema() -> Schema | None:
            engine = api.deciding().engine
            return None if engine is None else engine.schema

        publisher = None if settings.log == "kafka" else Publisher(connection, log, schema)
        self._publisher = publisher  # a log in Kafka is the topic of decisions itself
        self._intake = Intake(
            connection, api, schemas, f"sentinel-{log.log_id}", lambda: publisher is None or publisher.is_open
        )

    @property
    def problem(self) -> str | None:
        """Why nothing is read at the moment."""
        return self._intake.problem

    def start(self) -> None:
        """Begin; call it from the event loop."""
        if self._publisher is not None:
            self._publisher.start()
        self._intake.start()

    def stop_reading(self) -> None:
        """Read nothing more. Call it before the engine is stopped, from another thread than the loop's."""
        self._intake.stop()

    def stop(self) -> None:
        """Write the last decisions. Call it after the engine was stopped."""
        if self._publisher is not None:
            self._publisher.stop()
