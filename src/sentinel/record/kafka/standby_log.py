"""The log in Kafka of a process that may stand by: it follows what another one writes, until it becomes the writer."""

import contextlib
import time

from sentinel.errors import NotTheOwner, StorageProblem
from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.record.kafka.kafka_log import KafkaLog
from sentinel.record.kafka.standing import StandingTopic


class StandbyLog(KafkaLog):
    """A log that is followed at first. `take_over` makes this process its writer, `step_down` ends that.

    While it is followed nothing can be written (`fault` says who owns the log), and `look` says how far it is.
    """

    _left_s = 0.0

    def take_over(self) -> None:
        """Become the writer, which fences every other, and take the log as it is then. Raises StorageProblem."""
        self._end_committing()
        self._begin(self.log_id)
        self._absorb()
        with self._changing:
            self._fault = None

    def step_down(self) -> None:
        """Write no more, and follow; returns at once. What was not committed by now may be, or not."""
        if not isinstance(self._fault, NotTheOwner):
            self._give_up(self._not_the_owner(""))

    def look(self) -> None:
        """See how far the log is, and who owns it. Raises StorageProblem."""
        writer = self._standing_topic.writer
        standing = self._standing_topic.records()
        try:
            self._look_at_end()
        except StorageProblem:  # its own last commit may not be shown yet
            if time.monotonic() > self._left_s + PATIENCE_S:
                raise
        with self._changing:
            self._standing = standing
            self._fault = self._not_the_owner("" if writer is None else writer.url)

    def recover(self) -> None:
        """After a fault: as the writer, begin anew; where another process is the writer by now, follow."""
        with contextlib.suppress(NotTheOwner):
            super().recover()
        if not isinstance(self._fault, NotTheOwner):
            return
        self._end_committing()
        self._left_s = time.monotonic()
        with self._changing:
            self._newest.clear()

    def _start(self, log_id: str | None) -> str:
        """The id of the log that is there; where there is none, one is founded."""
        topic = StandingTopic(self.place, self._settings)
        try:
            found = topic.log_id
        finally:
            topic.close()
        if found is None:
            found = super()._start(log_id)
            self._end_committing()
        return found

    def _opened(self) -> None:
        self.look()

    def _end_committing(self) -> None:
        if self._committing is not None:
            self._committing.stop()
            self._committing = None

    def _not_the_owner(self, url: str) -> NotTheOwner:
        """Where it stands by, in the words of its answers."""
        of = url if url and url != self.url else "another process"
        return NotTheOwner(
            f"this process stands by; {of} owns the log, {self.place.spoken}, and answers: send it there"
        )
