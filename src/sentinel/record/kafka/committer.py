"""Commits what the writer hands over: all that waits in one transaction, one transaction at a time."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sentinel.errors import NotTheOwner, StorageProblem
from sentinel.record.kafka.connection import PATIENCE_S, RETRY_MS
from sentinel.record.kafka.message import Found, headers_of
from sentinel.record.kafka.place import Place
from sentinel.record.kafka.topics import LARGEST
from sentinel.record.log import Enclosed

_AT_ONCE = 64  # records of a transaction, or some more
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)


class Waiting(NamedTuple):
    """A record that is handed over; `value` is what is written of it. Its offset is not known yet.

    `enclosed` are messages of other topics that are committed with it.
    """

    found: Found
    value: bytes
    enclosed: Sequence[Enclosed] = ()


class Fenced(NotTheOwner):
    """Another process has become the writer of this log."""


class Committer:
    """A transactional producer with a thread that commits.

    `committed` is told of records with their offsets, in order; `failed` once, of what keeps it from going on: then
    nothing more is committed, and whether what was handed over and not told of is stored is not known.
    Making one fences every writer of the log before it, and settles what that had left open.
    """

    def __init__(
        self, place: Place, settings: Mapping[str, object], committed: Callable[[Sequence[Found]], None],
        failed: Callable[[StorageProblem], None], first: Callable[[], Sequence[tuple[bytes, bytes]]],
    ) -> None:  # fmt: skip
        """`first` is asked once every other writer is fenced: keys and values to commit to the standing topic first."""
        self._place, self._committed, self._failed = place, committed, failed
        self._waiting: deque[Sequence[Waiting]] = deque()
        self._changed = threading.Condition()
        self._stopping = self._is_busy = False
        self._producer = Producer(
            {
                "compression.type": "lz4", **settings,
                "transactional.id": f"sentinel-log-{place.decisions}-{place.partition}",
                "transaction.timeout.ms": 60_000, "linger.ms": 0, "message.max.bytes": LARGEST + (1 << 20),
                "queue.buffering.max.kbytes": 256 << 10, "retry.backoff.ms": RETRY_MS,
            }
        )  # fmt: skip
        try:
            self._producer.init_transactions(PATIENCE_S * 3)  # a broker that has just started takes its time
            told = first()
            self._producer.begin_transaction()
            for key, value in told:
                self._producer.produce(place.standing, value, key, partition=place.partition)
            self._producer.commit_transaction(PATIENCE_S)
        except KafkaException as fault:
            raise _problem(place, fault) from fault
        self._thread = threading.Thread(target=self._run, name="log committer", daemon=True)
        self._thread.start()

    def put(self, waiting: Sequence[Waiting]) -> None:
        """Hand over records that are committed together."""
        with self._changed:
            self._waiting.append(waiting)
            self._changed.notify_all()

    def is_done(self) -> bool:
        """Whether all that was handed over is committed."""
        with self._changed:
            return not self._waiting and not self._is_busy

    def stop(self, patience_s: float = 0.0) -> None:
        """Commit what waits, for so long at most, and end."""
        give_up = time.monotonic() + patience_s
        with self._changed:
            while (self._waiting or self._is_busy) and self._thread.is_alive() and time.monotonic() < give_up:
                self._changed.wait(0.05)
            self._stopping = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            try:
                offsets = self._commit(taken)
            except KafkaException as fault:
                if not self._stopping:
                    self._failed(_problem(self._place, fault))
                break
            if self._stopping:
                break  # who stops it in the middle reads what there is
            self._committed([one.found._replace(offset=offset) for one, offset in zip(taken, offsets, strict=True)])
        with self._changed:
            self._waiting.clear()
            self._is_busy = False
            self._changed.notify_all()

    def _take(self) -> list[Waiting] | None:
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            while not self._waiting and not self._stopping:
                self._changed.wait()
            if self._stopping:
                return None
            self._is_busy = True
            taken: list[Waiting] = []
            while self._waiting and len(taken) < _AT_ONCE:
                taken += self._waiting.popleft()
            return taken

    def _commit(self, taken: Sequence[Waiting]) -> list[int]:
        """The offsets at which these records are committed."""
        place, offsets = self._place, list[int]()

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                offsets.append(message.offset())

        self._producer.begin_transaction()
        for found, value, enclosed in taken:
            for one in enclosed:
                self._produce(one)
            headers = headers_of(found)
            self._producer.produce(
                place.decisions, value, partition=place.partition, headers=headers, on_delivery=delivered
            )
            if found.standing:
                self._producer.produce(
                    place.standing, value, found.standing.encode(), partition=place.partition, headers=headers
                )
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._producer.commit_transaction(PATIENCE_S)
            except KafkaException as fault:
                if not fault.args[0].retriable() or time.monotonic() > give_up:
                    raise
            else:
                return offsets

    def _produce(self, one: Enclosed) -> None:
        """Hand over a message that may be large, when there is room for it."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._producer.produce(one.topic, one.value, one.key, headers=[*one.headers])
            except BufferError:
                if time.monotonic() > give_up:
                    raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from None
                self._producer.poll(0.05)
            else:
                return


def _problem(place: Place, fault: KafkaException) -> StorageProblem:
    error = fault.args[0]
    if error.code() in _FENCED:
        return Fenced(
            f"another process has become the writer of the log, {place.spoken}; this one writes no more: end it"
        )
    return StorageProblem(
        f"the log, {place.spoken}, cannot be written: {error.str()}; see to the broker, it is tried again"
    )
