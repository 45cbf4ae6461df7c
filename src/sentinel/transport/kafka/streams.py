"""The streams of one detector: its intake and its publisher, started and stopped with the server."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from sentinel.config import Settings
from sentinel.errors import BundleProblem, InvalidDefinition
from sentinel.events.schema import Schema
from sentinel.model.bundle import read_manifest
from sentinel.record.applied import deployment_in
from sentinel.record.kafka.place import topics_of
from sentinel.record.log import LogReader
from sentinel.telemetry.tracing import Tracer
from sentinel.transport.http.api import Api
from sentinel.transport.kafka.avro import Schemas
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.intake import Intake
from sentinel.transport.kafka.one_key import check_one_key
from sentinel.transport.kafka.ownership import KafkaOwnership, group_of
from sentinel.transport.kafka.progress import GroupProgress, LogProgress, Progress
from sentinel.transport.kafka.publisher import Publisher
from sentinel.transport.kafka.topics import ALL, DECISIONS, TRANSACTIONS, look
from sentinel.transport.kafka.traces import Traces


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


def _check_partitions(settings: Settings, connection: Connection, log: LogReader) -> None:
    """Raise InvalidDefinition where the champion cannot decide what comes in over so many partitions."""
    champion = deployment_in(log).champion
    (transactions,) = look(connection, [TRANSACTIONS])
    if champion is not None:
        with contextlib.suppress(BundleProblem):  # which is told while the server runs
            check_one_key(read_manifest(settings.models_folder / champion).plan, transactions.partitions)


class Streams:
    """Reads the detector's topics and writes its decisions, as long as this process owns its log."""

    def __init__(
        self, settings: Settings, api: Api, log: LogReader, tracer: Tracer, ownership: KafkaOwnership | None
    ) -> None:
        """Raises InvalidDefinition, StorageProblem."""
        connection, schemas = connection_of(settings), Schemas(settings.avro_schemas)
        _check_partitions(settings, connection, log)
        self._election = None if ownership is None else ownership.election
        self._api = api
        traces = Traces(tracer)

        def schema() -> Schema | None:
            engine = api.deciding().engine
            return None if engine is None else engine.schema

        self._publisher = None if ownership is not None else Publisher(connection, log, schema, traces)
        progress: Progress = GroupProgress(connection)
        if ownership is not None:  # such a log is the topic of decisions itself
            progress = LogProgress(connection, ownership.log, ownership.election.tell)
        self._intake = Intake(connection, api, schemas, group_of(log.log_id), progress, self._may_read, traces)

    def _may_read(self) -> bool:
        publisher = self._publisher
        return self._api.deciding().engine is not None and (publisher is None or publisher.is_open)

    @property
    def problem(self) -> str | None:
        """What has stood in the way of taking messages for so long that somebody has to look."""
        return self._intake.blocked.problem if self._intake.blocked.is_for_long else None

    @property
    def status(self) -> dict[str, Any]:
        """What `/health` says of the streams."""
        behind = self._intake.lag.behind
        return {
            "status": self._intake.blocked.problem or "ok",
            "tries": self._intake.blocked.tries,
            "lag": None if behind is None else behind.records,
            "lag_s": None if behind is None else behind.seconds,
            "owns_the_log": self._election is None or self._election.is_elected,
        }

    def start(self) -> None:
        """Begin; call it from the event loop."""
        if self._election is not None:
            self._election.start()
        if self._publisher is not None:
            self._publisher.start()
        self._intake.start()

    def stop_reading(self) -> None:
        """Read nothing more. Call it before the engine is stopped, from another thread than the loop's."""
        self._intake.stop()

    def stop(self) -> None:
        """Write the last decisions, or let another process own the log. Call it after the engine was stopped."""
        if self._publisher is not None:
            self._publisher.stop()
        if self._election is not None:
            self._election.stop()
