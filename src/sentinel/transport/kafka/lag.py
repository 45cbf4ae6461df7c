"""The lag of a stream: how many messages wait in its topics, and for how long."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

_LOOK_EVERY_S = 1.0


class Behind(NamedTuple):
    """Messages that are not decided yet, and for how long the oldest of them has waited at most, in seconds."""

    records: int
    seconds: float


class Lag:
    """Written by the thread that reads, and read by any. `behind` is None while nothing is read."""

    def __init__(self) -> None:
        self.behind: Behind | None = None
        self._next: dict[tuple[str | None, int | None], int] = {}
        self._newest_ms = 0  # when the newest of those that were taken came in
        self._oldest_ms: int | None = None  # when the oldest of those that are being taken came in
        self._looked_s = 0.0

    def begin(self, begins: Sequence[TopicPartition]) -> None:
        """Reading begins there."""
        self._next = {(one.topic, one.partition): one.offset for one in begins}
        self._looked_s = 0.0

    def forget(self) -> None:
        """Nothing is read any more."""
        self.behind, self._oldest_ms = None, None

    def taking(self, messages: Sequence[Message]) -> None:
        """These are about to be taken."""
        self._oldest_ms = min(one.timestamp()[1] for one in messages)

    def taken(self, messages: Sequence[Message]) -> None:
        """These were taken."""
        for one in messages:
            self._next[one.topic(), one.partition()] = one.offset() + 1
        self._newest_ms = max(one.timestamp()[1] for one in messages)
        self._oldest_ms = None

    def at_end(self, topic: str | None, partition: int | None, offset: int | None) -> None:
        """All of a partition was read up to this offset: what is before it is no message of ours."""
        self._next[topic, partition] = offset or 0

    def look(self, consumer: Consumer, now_s: float) -> None:
        """Once a second, see how far the topics are, by what the last answers said."""
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        records = 0
        for (topic, number), offset in self._next.items():
            _, high = consumer.get_watermark_offsets(TopicPartition(topic or "", number or 0), cached=True)
            records += max(high - max(offset, 0), 0)
        since_ms = self._oldest_ms or self._newest_ms
        waits_s = max(time.time() - since_ms / 1_000, 0.0) if records and since_ms else 0.0
        self.behind = Behind(records, round(waits_s, 3))
