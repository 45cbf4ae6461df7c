"""Ownership of a log in Kafka: who is elected takes it over, who is not any more steps down."""

import threading
from collections.abc import Callable

from sentinel.record.kafka.standby_log import StandbyLog
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.election import Election


class KafkaOwnership:
    """Has the log follow the election; see `sentinel.serve.ownership.Ownership`.

    `begun` is called in the event loop of a new owner, before it decides.
    """

    def __init__(self, log: StandbyLog, connection: Connection, begun: Callable[[], None]) -> None:
        self.log = log
        self.begun = begun
        self._changing = threading.Lock()
        self.election = Election(connection, group_of(log.log_id), self._lose)

    def take(self) -> bool:
        """Own the log by now if it is this process's turn; false while it is another's."""
        with self._changing:
            if self.election.is_elected:
                if self.log.fault is not None:
                    self.log.take_over()
                return True
        self.log.look()
        return False

    def _lose(self) -> None:
        with self._changing:
            self.log.step_down()


def group_of(log_id: str) -> str:
    """The name of the group of all that may own a log."""
    return f"sentinel-{log_id}"
