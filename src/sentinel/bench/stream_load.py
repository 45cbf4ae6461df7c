"""The load of `sentinel bench stream`: messages go into a topic when they are due, and what comes out is noted."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from numpy.typing import NDArray

from sentinel.errors import SentinelError

LINGER_MS = 1
_AT_ONCE, _WAIT_S, _NAP_S = 10_000, 0.05, 0.001
_PATIENCE_S = 60.0


class Payment(NamedTuple):
    """A message: its id, which the answer bears too, its key and its body."""

    id: str
    key: str
    body: bytes


class _Answer(msgspec.Struct):
    transaction_id: str


class Answered(NamedTuple):
    """Which of n messages were answered, and when: by our clock since the first was due, by the broker's in ms."""

    due_ns: NDArray[np.int64]  # (n,)
    seen_ns: NDArray[np.int64]  # (n,); -1 where no answer came
    stored_ms: NDArray[np.int64]  # (n,)
    repeated: int
    late_sends: float
    """The share that was sent more than 2 ms after it was due."""

    @property
    def missing(self) -> int:
        """How many were not answered."""
        return int(np.count_nonzero(self.seen_ns < 0))

    @property
    def latencies_ms(self) -> NDArray[np.float64]:
        """From when it was due until the answer was read, of those that were answered."""
        taken = self.seen_ns >= 0
        return (self.seen_ns[taken] - self.due_ns[taken]) / 1e6

    @property
    def per_second(self) -> float:
        """How fast answers were stored, between the first tenth of them and the last."""
        stored = np.sort(self.stored_ms[self.seen_ns >= 0])
        if len(stored) < 2:
            return 0.0
        begin, end = len(stored) // 10, len(stored) - len(stored) // 10 - 1
        return float((end - begin) / max((stored[end] - stored[begin]) / 1000, 1e-3))


class Outlet:
    """Reads a topic from its end on, in a thread, and keeps what comes with the time at which it was seen."""

    def __init__(self, client: Mapping[str, object], topic: str) -> None:
        """Reading begins before this returns. Raises SentinelError where the topic is not there."""
        self._consumer = Consumer(
            {**client, "group.id": f"bench-{topic}", "enable.auto.commit": False, "isolation.level": "read_committed",
             "fetch.wait.max.ms": 20}
        )  # fmt: skip
        there = self._consumer.list_topics(topic, timeout=_PATIENCE_S).topics[topic].partitions
        if not there:
            raise SentinelError(f"there is no topic {topic}")
        places = [TopicPartition(topic, number) for number in there]
        for one in places:
            one.offset = self._consumer.get_watermark_offsets(one, timeout=_PATIENCE_S)[1]
        self._consumer.assign(places)
        self.seen: list[tuple[int, list[Message]]] = []
        self.count = 0
        self._stopping = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="outlet")
        self._thread.start()

    def take(self) -> list[tuple[int, list[Message]]]:
        """What has come since the last time."""
        taken, self.seen, self.count = self.seen, [], 0
        return taken

    def wait(self, count: int, is_over: Callable[[], bool]) -> None:
        """Wait until so many are there, or it is over. Raises what reading has raised."""
        while self.count < count and not is_over() and self._fault is None:
            time.sleep(0.01)
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        """End reading."""
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                first = self._consumer.poll(_WAIT_S)
                if first is None:
                    continue
                found = [first, *self._consumer.consume(_AT_ONCE - 1, 0)]
                now_ns = time.monotonic_ns()
                _check(found)
                self.seen.append((now_ns, found))
                self.count += len(found)
        except Exception as fault:  # noqa: BLE001 - raised by who waits
            self._fault = fault


def _check(messages: Sequence[Message]) -> None:
    for one in messages:
        if one.error() is not None:
            raise SentinelError(f"Kafka: {one.error()}")


def open_loop(
    producer: Producer, topic: str, payments: Sequence[Payment], due_ns: NDArray[np.int64], outlet: Outlet
) -> Answered:
    """Send each message when it is due (ns after the start), whatever comes back, and wait for the answers.

    Answers that have not come 60 s after the last one came are missing. Raises SentinelError when Kafka refuses.
    """
    outlet.take()
    refused: list[str] = []

    def told(error: object, _message: Message) -> None:
        if error is not None:
            refused.append(str(error))

    begun_ns, late, n = time.monotonic_ns(), 0, 0
    while n < len(payments):
        now_ns = time.monotonic_ns() - begun_ns
        while n < len(payments) and due_ns[n] <= now_ns:
            late += int(now_ns - due_ns[n] > 2_000_000)
            try:
                producer.produce(topic, payments[n].body, payments[n].key, on_delivery=told)
            except BufferError:
                producer.poll(0.01)
                continue
            n += 1
            if n % 100 == 0:
                producer.poll(0)
        producer.poll(0)
        if n < len(payments):
            time.sleep(min(max((int(due_ns[n]) - (time.monotonic_ns() - begun_ns)) / 1e9, 0), _NAP_S))
    producer.flush(_PATIENCE_S)
    if refused:
        raise SentinelError(f"Kafka took {len(refused)} messages not: {refused[0]}")
    outlet.wait(len(payments), _standstill(outlet))
    return _matched(payments, due_ns, outlet.take(), begun_ns, late / len(payments))


def _standstill(outlet: Outlet) -> Callable[[], bool]:
    """Whether nothing has come for a while."""
    last = [outlet.count, time.monotonic()]

    def is_over() -> bool:
        if outlet.count != last[0]:
            last[:] = [outlet.count, time.monotonic()]
        return time.monotonic() - last[1] > _PATIENCE_S

    return is_over


def _matched(
    payments: Sequence[Payment], due_ns: NDArray[np.int64], seen: list[tuple[int, list[Message]]], begun_ns: int,
    late: float,
) -> Answered:  # fmt: skip
    numbers = {one.id: n for n, one in enumerate(payments)}
    seen_ns, stored_ms = np.full(len(payments), -1, np.int64), np.zeros(len(payments), np.int64)
    repeated, decode = 0, msgspec.json.Decoder(_Answer).decode
    for now_ns, messages in seen:
        for one in messages:
            n = numbers.get(decode(one.value() or b"").transaction_id)
            if n is None:
                continue
            repeated += int(seen_ns[n] >= 0)
            seen_ns[n], stored_ms[n] = now_ns - begun_ns, one.timestamp()[1]
    return Answered(due_ns, seen_ns, stored_ms, repeated, late)
