"""The compacted topic beside a log: its id, its writer, and the newest record of each standing name."""

from collections.abc import Mapping
from threading import RLock
from typing import Any

import msgspec

from sentinel.record.kafka.message import found_in
from sentinel.record.kafka.partition import Partition
from sentinel.record.kafka.place import Place
from sentinel.record.log import Record

WRITER = b"\0writer"
"""The key of who writes the log; no standing name begins so."""


class Writer(msgspec.Struct, frozen=True):
    """Who writes a log: `token` is another one each time that a process becomes its writer; `url` where it answers.

    `ended` once it has let go of the log in good order, and nobody else has become the writer.
    """

    log_id: str
    token: str
    url: str = ""
    ended: bool = False


class StandingTopic:
    """Reads the compacted topic onwards; for any thread."""

    def __init__(self, place: Place, settings: Mapping[str, Any]) -> None:
        self._partition = Partition(place, place.standing, settings)
        self._reading = RLock()
        self._offset = -1
        self._records: dict[str, Record] = {}
        self._writer: Writer | None = None

    @property
    def log_id(self) -> str | None:
        """The log's id; None while nobody has ever written it."""
        writer = self.writer
        return None if writer is None else writer.log_id

    @property
    def writer(self) -> Writer | None:
        """Who became the writer last."""
        with self._reading:
            self._catch_up()
            return self._writer

    def records(self) -> dict[str, Record]:
        """By name, the newest committed record of each standing name."""
        with self._reading:
            self._catch_up()
            return dict(self._records)

    def close(self) -> None:
        """Release the connection."""
        self._partition.close()

    def _catch_up(self) -> None:
        ends = self._partition.ends()
        begin = max(self._offset, ends.low)
        while begin < ends.stable and (messages := self._partition.fetch(begin, 256, ends.stable)):
            for message in messages:
                if message.key() == WRITER:
                    self._writer = msgspec.json.decode(message.value() or b"", type=Writer)
                else:
                    found = found_in(message)
                    self._records[found.standing] = found.record
            begin = messages[-1].offset() + 1
            if ends.stable - begin <= 1:  # a transaction ends with its mark
                break
        if self._offset != ends.stable:
            self._partition.pause()
        self._offset = ends.stable
