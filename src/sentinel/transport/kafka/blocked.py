"""Blocked: what is told, and how it is tried again, where messages cannot be taken by no fault of theirs."""

import logging
from collections.abc import Sequence

from confluent_kafka import Message

_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.05, 10.0
_TRIES = 5
"""So many are made at once and quickly; then messages are taken one by one, and the server is not ready."""

_log = logging.getLogger(__name__)


class Blocked:
    """What stands in the way: first tried again after short pauses, then one message at a time and after long ones.

    Nothing is left out, so nothing behind it in its partition is read before. Written by one thread, read by any.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        """What is wrong; None while all goes well."""

        self.tries = 0
        """How often what is tried now was tried in vain."""

        self.pause_s = _FIRST_RETRY_S
        """How long to wait before the next try."""

        self._one_by_one_until: dict[tuple[str | None, int | None], int] = {}

    @property
    def is_for_long(self) -> bool:
        """Whether it was tried so often that somebody has to look."""
        return self.tries >= _TRIES

    def at_once(self, n: int) -> int:
        """How many of n messages to take together."""
        return 1 if self._one_by_one_until else n

    def forget(self) -> None:
        """Nothing is to be taken here at present."""
        self.problem, self.tries, self.pause_s, self._one_by_one_until = None, 0, _FIRST_RETRY_S, {}

    def at_all(self, reason: str) -> None:
        """Nothing can be read."""
        self._again(reason)

    def at(self, messages: Sequence[Message], reason: str) -> None:
        """These could not be taken."""
        first = messages[0]
        place = f"{first.topic()}, partition {first.partition()}, offset {first.offset()}"
        if len(messages) == 1:
            self._again(f"{place} cannot be taken, and what follows waits: {reason}")
        else:
            self._again(f"{len(messages)} messages from {place} on cannot be taken: {reason}")
        if self.is_for_long and not self._one_by_one_until:
            self._one_by_one_until = {(one.topic(), one.partition()): one.offset() for one in messages}
            self.tries = 1  # of one message

    def passed(self, messages: Sequence[Message]) -> None:
        """These were taken."""
        for one in messages:
            place = one.topic(), one.partition()
            if self._one_by_one_until.get(place, one.offset()) <= one.offset():
                self._one_by_one_until.pop(place, None)
        if self.problem is not None and not self._one_by_one_until:
            _log.warning("what comes in through Kafka is taken again")
        self.problem, self.tries, self.pause_s = None, 0, _FIRST_RETRY_S

    def _again(self, reason: str) -> None:
        if reason != self.problem:
            _log.error("nothing is taken from Kafka: %s", reason)
        self.problem = reason
        self.tries += 1
        self.pause_s = min(2 * self.pause_s, _LONGEST_RETRY_S)
