"""Hands messages over to the topic `transactions`, and says when the brokers have them for good."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaException, Producer

from sentinel.errors import StorageProblem
from sentinel.transport.kafka.connection import LARGEST, Connection, reason_of
from sentinel.transport.kafka.topics import TRANSACTIONS

_PATIENCE_MS = 5_000
_POLL_S, _LOOK_S = 0.1, 1.0
_log = logging.getLogger(__name__)


class Handing:
    """One producer, whose acknowledgements a thread of its own waits for. Messages are handed over from the loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._topic = connection, connection.topic(TRANSACTIONS)
        self._producer = Producer(
            connection.client(
                acks="all", enable_idempotence=True, linger_ms=0.5, message_timeout_ms=_PATIENCE_MS,
                message_max_bytes=LARGEST,
            )
        )  # fmt: skip
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-handing", daemon=True)
        self.problem: str | None = None
        """Why nothing can be handed over at the moment."""

    def start(self) -> None:
        """Begin; call it from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Wait for what is under way, and end. Call it from another thread than the loop's."""
        self._producer.flush(_PATIENCE_MS / 1000)
        self._stopping.set()
        self._thread.join()

    async def hand_over(self, messages: Sequence[tuple[str, bytes]]) -> list[StorageProblem | None]:
        """Write messages, each with its key; what went wrong with each, None where nothing did, once that is known."""
        under_way = _UnderWay(len(messages), self._loop)
        for place, (key, value) in enumerate(messages):
            try:
                self._producer.produce(self._topic, value, key, on_delivery=under_way.told(place))
            except (BufferError, KafkaException) as fault:
                under_way.settle(place, reason_of(fault) if isinstance(fault, KafkaException) else "its queue is full")
        found = await under_way.done
        self._tell([one for one in found if one is not None])
        return [None if one is None else self._problem(one) for one in found]

    def _problem(self, fault: str) -> StorageProblem:
        return StorageProblem(
            f"The transaction could not be handed over to {self._topic} ({fault}), so it has no answer; send it again"
        )

    def _tell(self, faults: Sequence[str]) -> None:
        if faults and self.problem is None:
            _log.error("nothing can be handed over to %s: %s", self._topic, faults[0])
        if faults:
            self.problem = faults[0]

    def _run(self) -> None:
        """Wait for acknowledgements; while there is a problem, look whether the topic is there again."""
        while not self._stopping.is_set():
            self._producer.poll(_POLL_S)
            if self.problem is not None:
                with contextlib.suppress(KafkaException):
                    there = self._producer.list_topics(self._topic, timeout=_LOOK_S).topics[self._topic]
                    if there.error is None:
                        self.problem = None


class _UnderWay:
    """Messages of one call: what became of each, from whatever thread says so."""

    def __init__(self, n: int, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[list[str | None]] = loop.create_future()
        self._loop, self._left = loop, n
        self._found: list[str | None] = [None] * n
        self._counting = threading.Lock()

    def told(self, place: int) -> Any:
        """What the producer calls when it knows."""
        return lambda error, _message: self.settle(place, None if error is None else error.str())

    def settle(self, place: int, fault: str | None) -> None:
        with self._counting:
            self._found[place] = fault
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(self._found)
