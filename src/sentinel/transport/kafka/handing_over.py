"""Handing over: messages are put into a topic, and whoever waits hears when brokers have them, or what went wrong."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sentinel.errors import Overloaded, SentinelError, StorageProblem
from sentinel.transport.kafka.connection import LARGEST, Connection, reason_of

_POLL_S, _LOOK_AGAIN_S = 0.1, 1.0
_OF_THE_MESSAGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD})
Tell = Callable[[str | None], None]
"""Called in the event loop with what went wrong with a message; None where nothing did."""


class HandingOver:
    """One producer, and a thread that waits for its acknowledgements. Messages are put from the event loop.

    `look` is asked in that thread why nothing can be handed over, at first and after a message that brokers did not
    acknowledge, until it says None.
    A message that is not acknowledged within `patience_s` has failed, and whether the brokers have it is not known.
    """

    def __init__(
        self, connection: Connection, topic: str, patience_s: float, look: Callable[[], str | None]
    ) -> None:  # fmt: skip
        self.topic, self._patience_s, self._look = connection.topic(topic), patience_s, look
        self._producer = Producer(
            connection.client(
                acks="all", enable_idempotence=True, linger_ms=0.5, message_max_bytes=LARGEST,
                delivery_timeout_ms=int(patience_s * 1000),
            )
        )  # fmt: skip
        self._told: list[tuple[Tell, str | None]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-handing-over", daemon=True)
        self.problem: str | None = "Kafka has not answered yet"
        """Why nothing can be handed over at the moment."""

    def start(self) -> None:
        """Begin; call it from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End, once everybody was told what became of their messages. Call it from another thread than the loop's."""
        self._stopping.set()
        self._thread.join()

    def put(self, key: str, value: bytes, tell: Tell, traceparent: str | None = None) -> None:
        """Write a message. Raises Overloaded where too many wait, StorageProblem where it cannot be taken at all."""
        if self._stopping.is_set():
            raise StorageProblem("the server ends, so it was not taken: send it again")
        try:
            self._producer.produce(
                self.topic, value, key, on_delivery=partial(self._delivered, tell),
                headers=[("traceparent", traceparent.encode())] if traceparent else None,
            )  # fmt: skip
        except BufferError:
            raise Overloaded("Kafka takes less than comes in; this one was not taken: send it again") from None
        except KafkaException as fault:
            raise StorageProblem(f"Kafka does not take it: {reason_of(fault)}") from None

    async def all_of(self, messages: Sequence[tuple[str, bytes]]) -> list[str | None]:
        """Write messages, each with its key; what went wrong with each, None where nothing did, once that is known."""
        found: list[str | None] = [None] * len(messages)
        left, done = len(messages), self._loop.create_future()

        def settle(place: int, fault: str | None) -> None:
            nonlocal left
            found[place], left = fault, left - 1
            if left == 0 and not done.done():
                done.set_result(None)

        for place, (key, value) in enumerate(messages):
            try:
                self.put(key, value, partial(settle, place))
            except SentinelError as error:
                settle(place, str(error))
        if messages:
            await done
        return found

    def _delivered(self, tell: Tell, error: KafkaError | None, _message: Message) -> None:
        """Called by the client in the thread that polls it."""
        self._told.append((tell, None if error is None else error.str()))
        if error is not None and error.code() not in _OF_THE_MESSAGE:
            self.problem = error.str()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self.problem is not None:
                self.problem = self._look()
            self._producer.poll(_POLL_S)
            self._tell_all()
            if self.problem is not None:
                self._stopping.wait(_LOOK_AGAIN_S)
        self._producer.flush(self._patience_s)
        self._producer.purge()  # what is not acknowledged by now
        self._producer.flush(self._patience_s)
        self._tell_all()

    def _tell_all(self) -> None:
        if self._told:
            told, self._told = self._told, []
            self._loop.call_soon_threadsafe(_tell, told)


def _tell(told: Sequence[tuple[Tell, str | None]]) -> None:
    for tell, fault in told:
        tell(fault)
