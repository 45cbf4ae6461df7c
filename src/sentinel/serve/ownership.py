"""Ownership: one process of several owns the log and decides; the others stand by with warm state."""

from typing import Protocol

from sentinel.record.log import ReadingLog


class Ownership(Protocol):
    """Whether this process owns the log, of which only the owner writes."""

    @property
    def log(self) -> ReadingLog:
        """The log, which notes how far inputs were read."""

    def take(self) -> bool:
        """Own the log by now if it is this process's turn; false while it is another's, and the log is looked at then.

        Waits for Kafka; from any thread but the loop's. Raises StorageProblem.
        """

    def begun(self) -> None:
        """Write what an owner writes first; called in the event loop before an engine begins. Raises StorageProblem."""
