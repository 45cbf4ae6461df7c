"""What `sentinel consume` adds to a server: topics are looked at and read, and the log may be another's."""

from collections.abc import Callable

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.record.kafka.standby_log import StandbyLog
from sentinel.record.log import Log, LogReader
from sentinel.telemetry.tracing import Tracer
from sentinel.transport.http.api import Api
from sentinel.transport.kafka.ownership import KafkaOwnership
from sentinel.transport.kafka.streams import Streams, connection_of, topics_used
from sentinel.transport.kafka.topics import check


class ReadingKafka:
    """Makes the parts of one server that reads Kafka. Raises StorageProblem for topics that do not fit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = connection_of(settings)
        self._ownership: KafkaOwnership | None = None
        check(self._connection, topics_used(settings))

    def ownership(self, log: Log, begun: Callable[[], None]) -> KafkaOwnership:
        """Whose turn it is to own a log in Kafka; `begun` is called in the loop before a new owner decides."""
        if not isinstance(log, StandbyLog):
            raise InvalidDefinition(f"the log {log.log_id} was opened to be written, not to stand by")
        self._ownership = KafkaOwnership(log, self._connection, begun)
        return self._ownership

    def streams(self, api: Api, log: LogReader, tracer: Tracer) -> Streams:
        """What reads and writes the topics."""
        return Streams(self._settings, api, log, tracer, self._ownership)
