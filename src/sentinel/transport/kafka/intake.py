"""The intake: reads transactions, outcomes and context events from their topics, and has the engine take them.

One process reads all partitions of its topics. How far it has read is kept in Kafka under the name of its log, and
only moves on once everything before is durable, or is a dead letter. What is read twice after a crash has the ids that
it had before, and is known.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from sentinel.errors import (
    BadBody,
    BundleProblem,
    NotReady,
    Overloaded,
    RateLimited,
    SentinelError,
    StorageProblem,
    TooLarge,
)
from sentinel.events.wire import EVENT_ID
from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.serve.batch import Answer, Answers, Event, Report
from sentinel.serve.engine import Engine
from sentinel.serve.queue import MAX_ROWS, Request
from sentinel.transport.http.api import Api
from sentinel.transport.http.outcomes import read_outcome
from sentinel.transport.http.tellers import WITHOUT_KEY
from sentinel.transport.kafka.avro import MAGIC, Schemas
from sentinel.transport.kafka.connection import LARGEST, Connection, naming_faults, reason_of
from sentinel.transport.kafka.dead_letters import Poison, produced, writer
from sentinel.transport.kafka.topics import EVENTS, INPUTS, OUTCOMES, TRANSACTIONS

MOST_READ = 2_048
"""Messages that are taken together, at most."""

_WAIT_S, _FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 0.05, 2.0
_NOT_ITS_FAULT = (NotReady, Overloaded, StorageProblem, BundleProblem, RateLimited)
_CALLER = "kafka"
_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The server ends."""


class Intake:
    """Reads in a thread of its own, and hands over in the event loop.

    `after` is waited for before anything is read.
    """

    def __init__(
        self, connection: Connection, api: Api, schemas: Schemas, group: str, after: Callable[[], bool]
    ) -> None:  # fmt: skip
        self._connection, self._api, self._schemas, self._group = connection, api, schemas, group
        self._after = after
        self._names = {connection.topic(name): name for name in INPUTS}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-intake", daemon=True)
        self.problem: str | None = None
        """Why nothing is read at the moment."""

    def start(self) -> None:
        """Begin; call it from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End; what was handed over is answered first. Call it from another thread than the loop's."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set() and not self._after():
            self._stopping.wait(_WAIT_S)
        pause_s = _FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                self._read_on()
            except Stopped:
                return
            except (SentinelError, KafkaException) as fault:
                self._tell(reason_of(fault) if isinstance(fault, KafkaException) else str(fault))
            except Exception:  # noqa: BLE001 - the server goes on, and so does this
                _log.exception("the intake begins anew")
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)

    def _tell(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            _log.error("nothing is read from Kafka: %s", problem)
        self.problem = problem

    def _read_on(self) -> None:
        """Read from where this log has got to. Raises Stopped at the end, and what went wrong before."""
        consumer = Consumer(
            self._connection.client(
                group_id=self._group, enable_auto_commit=False, auto_offset_reset="earliest", fetch_wait_max_ms=20,
                isolation_level="read_committed", fetch_message_max_bytes=LARGEST,
            )
        )  # fmt: skip
        dead = writer(self._connection)
        try:
            with naming_faults(self._connection, "finding where to read on"):
                consumer.assign(list(self._begins(consumer)))
            while not self._stopping.is_set():
                messages = _next(consumer)
                if messages:
                    poison = self._taken(messages)
                    if poison:
                        produced(poison, dead, self._connection)
                    consumer.commit(offsets=_ends(messages), asynchronous=True)
                self._tell(None)
        finally:
            consumer.close()

    def _begins(self, consumer: Consumer) -> Iterable[TopicPartition]:
        """Where each partition is read on; what Kafka has deleted meanwhile is told."""
        there = consumer.list_topics(timeout=PATIENCE_S).topics
        missing = [name for name in self._names if name not in there]
        if missing:
            raise StorageProblem(f"there is no topic {', '.join(missing)}; `sentinel topics create` makes them")
        every = [TopicPartition(topic, number) for topic in self._names for number in there[topic].partitions]
        for one in consumer.committed(every, timeout=PATIENCE_S):
            low, high = consumer.get_watermark_offsets(one, timeout=PATIENCE_S)
            if one.offset < 0:
                one.offset = OFFSET_BEGINNING
            elif not low <= one.offset <= high:
                _log.error(
                    "%s, partition %d, was read up to %d and has %d to %d: what was between is gone, or the topic is "
                    "another one", one.topic, one.partition, one.offset, low, high,
                )  # fmt: skip
                one.offset = OFFSET_BEGINNING
            yield one

    def _taken(self, messages: Sequence[Message]) -> list[Poison]:
        """Have all of them taken, however long that needs; those that cannot be, and why."""
        pause_s = _FIRST_RETRY_S
        while True:
            try:
                answers = self._answers(messages)
            except _NOT_ITS_FAULT as error:
                found: SentinelError | None = error
            else:
                found = next((one for one in answers if isinstance(one, _NOT_ITS_FAULT)), None)
                if found is None:
                    pairs = zip(messages, answers, strict=True)
                    return [Poison(one, error) for one, error in pairs if isinstance(error, SentinelError)]
            self._tell(str(found))
            if self._stopping.wait(pause_s):
                raise Stopped
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)

    def _answers(self, messages: Sequence[Message]) -> Answers:
        """What the engine answers to each, or what is wrong with it. Raises SentinelError when none can be taken."""
        bodies = [self._body(one) for one in messages]
        batch = _Batch(len(messages))
        self._loop.call_soon_threadsafe(self._hand_over, messages, bodies, batch)
        return batch.done.result()

    def _body(self, message: Message) -> bytes | SentinelError:
        """The JSON of a message, or what is wrong with it. Raises NotReady while a schema cannot be asked for."""
        value, most = message.value(), self._api.settings.max_body_bytes
        if value is None:
            return BadBody("A tombstone: it has no value, and nothing here can be deleted by one")
        if len(value) > most:
            return TooLarge(f"{len(value)} bytes; a message may have {most} (SENTINEL_MAX_BODY_BYTES)")
        if message.key() is None and self._names[message.topic()] == TRANSACTIONS:
            return BadBody("No key: without one the transactions of a card are in no order; send that of the schema")
        if value[:1] != MAGIC:
            return bytes(value)
        try:
            return self._schemas.as_json(value)
        except BadBody as error:
            return error

    def _hand_over(self, messages: Sequence[Message], bodies: Sequence[bytes | SentinelError], batch: "_Batch") -> None:
        """In the loop: put what can be read into the queue, events before transactions, and these before outcomes."""
        try:
            worker = self._api.deciding()
            engine = worker.ready_engine()
            puts = {EVENTS: worker.put_events, TRANSACTIONS: worker.put, OUTCOMES: worker.put_outcomes}
            of: dict[str, list[tuple[int, Event]]] = {name: [] for name in puts}
            for place, (message, body) in enumerate(zip(messages, bodies, strict=True)):
                name = self._names[message.topic()]
                found = body if isinstance(body, SentinelError) else self._event(engine, name, message, body)
                if isinstance(found, SentinelError):
                    batch.take([place], [found])
                else:
                    of[name].append((place, found))
            now_ns = time.monotonic_ns()
            due_ns = now_ns + int(self._api.settings.longest_deadline_ms * 1_000_000)
            for name, put in puts.items():
                for begin in range(0, len(of[name]), MAX_ROWS):
                    places, events = zip(*of[name][begin : begin + MAX_ROWS], strict=True)
                    put(Request(events, now_ns, due_ns, partial(batch.take, places), _CALLER))
        except SentinelError as error:
            batch.fail(error)
        except Exception as error:  # noqa: BLE001 - whoever waits for the batch has to hear of it
            _log.exception("a batch of %d messages was not taken", len(messages))
            batch.fail(NotReady(f"Something went wrong inside: {error}"))

    def _event(self, engine: Engine, name: str, message: Message, body: bytes) -> Event | SentinelError:
        """What a message says. What has no id gets that of its place: it is the same when it is read again."""
        place = f"{message.topic()}-{message.partition()}-{message.offset()}"
        reader = self._api.reader(engine)
        try:
            if name == OUTCOMES:
                return read_outcome(reader, body, WITHOUT_KEY)
            if name == TRANSACTIONS:
                transaction = reader.decode(body)
                if reader.schema.assigns:
                    reader.schema.assign(transaction, place)
                return transaction
            if not engine.schema.events:
                return BadBody("This detector knows no context events: its schema declares none in `events`")
            event = self._api.context_reader(engine).decode(body)
            if getattr(event, EVENT_ID) is None:
                setattr(event, EVENT_ID, place)
            return Report(event, WITHOUT_KEY.name)
        except SentinelError as error:
            return error.with_traceback(None)


class _Batch:
    """The answers to some messages, which come in by and by; `done` has them all, or why there are none."""

    def __init__(self, n: int) -> None:
        self.done: Future[list[Answer]] = Future()
        self._answers: list[Answer | None] = [None] * n
        self._left = n

    def take(self, places: Sequence[int], answers: Answers) -> None:
        """Note the answers to the messages at these places."""
        for place, answer in zip(places, answers, strict=True):
            self._answers[place] = answer
        self._left -= len(places)
        if self._left == 0 and not self.done.done():
            self.done.set_result([one for one in self._answers if one is not None])

    def fail(self, error: SentinelError) -> None:
        """None of them can be taken now."""
        if not self.done.done():
            self.done.set_exception(error)


def _next(consumer: Consumer) -> list[Message]:
    """What has come: the first as soon as it is there, and all that came with it. Raises KafkaException."""
    first = consumer.poll(_WAIT_S)
    if first is None:
        return []
    found = [first, *consumer.consume(MOST_READ - 1, 0)]
    fault = next((one.error() for one in found if one.error() is not None), None)
    if fault is not None:
        raise KafkaException(fault)
    return found


def _ends(messages: Iterable[Message]) -> list[TopicPartition]:
    """Where to read on after them."""
    ends = {(one.topic(), one.partition()): one.offset() + 1 for one in messages}
    return [TopicPartition(topic, number, offset) for (topic, number), offset in ends.items()]
