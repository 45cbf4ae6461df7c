"""One partition, read from any offset on as far as transactions are committed."""

import time
from collections.abc import Mapping
from threading import RLock
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from sentinel.errors import StorageProblem
from sentinel.record.kafka.connection import PATIENCE_S, naming_faults
from sentinel.record.kafka.place import Place

_LOOK_S = 0.05
_FETCH_WAIT_MS = 10  # how long the broker holds back an answer at the end: a read elsewhere has to wait for it
_PREFETCH_KB = 8 << 10


class Ends(NamedTuple):
    """The oldest offset that is kept, and the one before which everything is committed or aborted."""

    low: int
    stable: int


class Partition:
    """Reads committed messages of one partition; for any thread. Raises StorageProblem when Kafka does not answer."""

    def __init__(self, place: Place, topic: str, settings: Mapping[str, object]) -> None:
        self._place, self._topic = place, topic
        self._using = RLock()
        self._next = -1
        self._consumer = Consumer(
            {
                **settings,
                "group.id": "sentinel-log-readers",  # the client wants one; nothing is committed to it
                "isolation.level": "read_committed", "enable.auto.commit": False, "auto.offset.reset": "error",
                "enable.partition.eof": True, "fetch.wait.max.ms": _FETCH_WAIT_MS,
                "queued.max.messages.kbytes": _PREFETCH_KB, "fetch.error.backoff.ms": 50,
            }
        )  # fmt: skip

    def ends(self, patience_s: float = PATIENCE_S) -> Ends:
        """Both ends, as the broker knows them now."""
        give_up = time.monotonic() + patience_s
        with naming_faults(self._place, "read"), self._using:
            asked = TopicPartition(self._topic, self._place.partition)
            while True:
                try:
                    low, stable = self._consumer.get_watermark_offsets(asked, timeout=patience_s, cached=False)
                except KafkaException as fault:
                    if fault.args[0].code() not in _FORGOTTEN or time.monotonic() > give_up:
                        raise
                    self._consumer.list_topics(self._topic, patience_s)  # a broker that starts may deny it
                    time.sleep(_LOOK_S)
                else:
                    return Ends(low, stable)

    def fetch(self, offset: int, most: int, until: int) -> list[Message]:
        """Messages from this offset on and before the offset `until`, up to which all is committed; `most` of them.

        Empty when there is none between the two. Raises StorageProblem for an offset before the oldest.
        """
        if offset >= until:
            return []
        with naming_faults(self._place, "read"), self._using:
            if self._next != offset:
                self._consumer.assign([TopicPartition(self._topic, self._place.partition, offset)])
            self._next = -1  # until this has ended well
            found = self._wait_for_some(most, until)
            if found:
                self._next = found[-1].offset() + 1
        return [one for one in found if one.offset() < until]

    def close(self) -> None:
        """Release the connection."""
        with self._using:
            self._consumer.close()

    def delete_before(self, offset: int, settings: Mapping[str, object]) -> None:
        """Delete all messages before an offset."""
        asked = TopicPartition(self._topic, self._place.partition, offset)
        with naming_faults(self._place, "pruned"):
            admin = AdminClient(dict(settings))  # held until it is done
            for done in admin.delete_records([asked]).values():
                done.result(PATIENCE_S)

    def pause(self) -> None:
        """Ask the broker for nothing until the next read."""
        with self._using:
            self._next = -1
            self._consumer.unassign()

    def _wait_for_some(self, most: int, until: int) -> list[Message]:
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            first = self._consumer.poll(_LOOK_S)
            if first is None:
                continue
            got, is_at_end = [], False
            for message in (first, *self._consumer.consume(most - 1, 0.0)) if most > 1 else (first,):
                error = message.error()
                if error is None:
                    got.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    is_at_end |= message.offset() >= until
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise StorageProblem(f"what is asked for of {self._place.spoken} is no longer kept")
                elif error.code() not in _PASSING:
                    raise KafkaException(error)
            if got or is_at_end:
                return got
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


_FORGOTTEN = (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)
_PASSING = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE)
