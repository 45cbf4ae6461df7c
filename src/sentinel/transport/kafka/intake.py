"""The intake: reads transactions, outcomes and context events from their topics, and has the engine take them.

One process reads all partitions of its topics. How far it has read only moves on once everything before is durable, or
is a dead letter; see `progress.py`. What has no id gets that of its place.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sentinel.errors import NotReady, SentinelError, StorageProblem
from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.serve.batch import Answer, Answers
from sentinel.serve.engine import Engine
from sentinel.serve.queue import MAX_ROWS, Request
from sentinel.transport.http.api import Api
from sentinel.transport.kafka.avro import Schemas
from sentinel.transport.kafka.blocked import Blocked
from sentinel.transport.kafka.connection import LARGEST, Connection, naming_faults, reason_of
from sentinel.transport.kafka.contents import ContentReader, Deciders
from sentinel.transport.kafka.dead_letters import Poison
from sentinel.transport.kafka.lag import Lag
from sentinel.transport.kafka.one_key import check_one_key
from sentinel.transport.kafka.progress import NOT_ITS_FAULT, Piece, Progress
from sentinel.transport.kafka.topics import EVENTS, INPUTS, OUTCOMES, TRANSACTIONS
from sentinel.transport.kafka.traces import Traces

MOST_READ = 2_048
"""Messages that are taken together, at most."""

_WAIT_S, _LOOK_S = 0.1, 5.0
_CALLER = "kafka"
_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The server ends."""


class ReadAgain(Exception):
    """The engine was opened anew, or others were before: what was read is not what it goes on from."""


class Intake:
    """Reads in a thread of its own, and hands over in the event loop.

    Nothing is read while `may_read` is false.
    """

    def __init__(
        self, connection: Connection, api: Api, schemas: Schemas, group: str, progress: Progress,
        may_read: Callable[[], bool], traces: Traces,
    ) -> None:  # fmt: skip
        self._connection, self._api, self._group = connection, api, group
        self._progress, self._may_read, self._traces = progress, may_read, traces
        self._names = {connection.topic(name): name for name in INPUTS}
        self._contents = ContentReader(api, schemas, self._names)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-intake", daemon=True)
        self.lag = Lag()
        self.blocked = Blocked()

    def start(self) -> None:
        """Begin; call it from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End; what was handed over is answered first. Call it from another thread than the loop's."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._may_read():
                self.blocked.forget()
                self.lag.forget()
                self._stopping.wait(_WAIT_S)
                continue
            try:
                self._read_on()
            except Stopped:
                return
            except ReadAgain:
                continue
            except (SentinelError, KafkaException) as fault:
                self.blocked.at_all(reason_of(fault) if isinstance(fault, KafkaException) else str(fault))
            except Exception:  # noqa: BLE001 - the server goes on, and so does this
                _log.exception("the intake begins anew")
                self.blocked.at_all("a fault of this program, which the server's log has")
            self._stopping.wait(self.blocked.pause_s)

    def _read_on(self) -> None:
        """Read from where the log has got to. Raises Stopped at the end, and what went wrong before."""
        consumer = Consumer(
            self._connection.client(
                group_id=self._group, enable_auto_commit=False, auto_offset_reset="error", fetch_wait_max_ms=20,
                isolation_level="read_committed", fetch_message_max_bytes=LARGEST, enable_partition_eof=True,
            )
        )  # fmt: skip
        try:
            with naming_faults(self._connection, "finding where to read on"):
                partitions = self._partitions(consumer)
                begins = self._progress.begins(consumer, partitions)
                consumer.assign(begins)
            self.lag.begin(begins)
            look_s = time.monotonic() + _LOOK_S
            while not self._stopping.is_set() and self._may_read():
                messages = _next(consumer, self.lag)
                if messages:
                    self._take(consumer, messages)
                self.lag.look(consumer, time.monotonic())
                if time.monotonic() > look_s:
                    look_s = time.monotonic() + _LOOK_S
                    self._check_same(consumer, len(partitions))
        finally:
            consumer.close()

    def _check_same(self, consumer: Consumer, n: int) -> None:
        """Raises ReadAgain where the topics have another number of partitions by now, or are gone."""
        with naming_faults(self._connection, "looking for new partitions"):
            there = [consumer.list_topics(topic, PATIENCE_S).topics[topic].partitions for topic in self._names]
        if sum(map(len, there)) != n:
            raise ReadAgain

    def _partitions(self, consumer: Consumer) -> list[TopicPartition]:
        """All that are to be read. Raises StorageProblem, InvalidDefinition."""
        there = consumer.list_topics(timeout=PATIENCE_S).topics
        missing = [name for name in self._names if name not in there]
        if missing:
            raise StorageProblem(f"there is no topic {', '.join(missing)}; `sentinel topics create` makes them")
        n = len(there[self._connection.topic(TRANSACTIONS)].partitions)
        for one in self._api.deciding().ready_engine().lineup.contenders:
            check_one_key(one.bundle.manifest.plan, n)
        return [TopicPartition(topic, number) for topic in self._names for number in there[topic].partitions]

    def _take(self, consumer: Consumer, messages: Sequence[Message]) -> None:
        """Have all of them taken, however long that needs; one by one where something stands in the way."""
        left = messages
        while left:
            self.lag.taking(left)
            some = left[: self.blocked.at_once(len(left))]
            try:
                poison = self._taken(some)
            except NOT_ITS_FAULT as fault:
                self.blocked.at(some, str(fault))
                self.lag.look(consumer, time.monotonic())
                if self._stopping.wait(self.blocked.pause_s):
                    raise Stopped from None
                if self._progress.rereads:
                    raise ReadAgain from None
                continue
            self._progress.done(consumer, some, poison)
            self.lag.taken(some)
            self.blocked.passed(some)
            left = left[len(some) :]

    def _taken(self, messages: Sequence[Message]) -> list[Poison]:
        """Have them taken; those of which nothing can be made. Raises what none of them is to blame for."""
        begun_ns = time.monotonic_ns()
        bodies = [self._contents.body(one) for one in messages]
        batch = _Batch(len(messages))
        self._loop.call_soon_threadsafe(self._hand_over, messages, bodies, batch)
        answers = batch.done.result()
        fault = next((one for one in answers if isinstance(one, NOT_ITS_FAULT)), None)
        if fault is not None:
            raise fault
        self._traces.took(messages, answers, begun_ns, time.monotonic_ns())
        pairs = zip(messages, answers, strict=True)
        return [Poison(one, error) for one, error in pairs if isinstance(error, SentinelError)]

    def _hand_over(self, messages: Sequence[Message], bodies: Sequence[bytes | SentinelError], batch: "_Batch") -> None:
        """In the loop: put what can be read into the queue, events before transactions, and these before outcomes."""
        try:
            engine = self._api.deciding().ready_engine()
            self._progress.check(messages)
            deciders = Deciders()
            for name in (EVENTS, TRANSACTIONS, OUTCOMES):
                of = [n for n, one in enumerate(messages) if self._names[one.topic()] == name]
                for places in _pieces(of):
                    some = [messages[n] for n in places], [bodies[n] for n in places]
                    self._put(engine, name, places, some, deciders, batch)
        except SentinelError as error:
            batch.fail(error.with_traceback(None))
        except Exception as error:  # noqa: BLE001 - whoever waits for the batch has to hear of it
            _log.exception("a batch of %d messages was not taken", len(messages))
            batch.fail(NotReady(f"Something went wrong inside: {error}"))

    def _put(
        self, engine: Engine, name: str, places: Sequence[int],
        some: tuple[Sequence[Message], Sequence[bytes | SentinelError]], deciders: Deciders, batch: "_Batch",
    ) -> None:  # fmt: skip
        """Hand over messages of one topic together, with their bodies; `places` are theirs in the batch."""
        worker = self._api.deciding()
        put = {EVENTS: worker.put_events, TRANSACTIONS: worker.put, OUTCOMES: worker.put_outcomes}[name]
        messages, bodies = some
        contents = self._contents.read(engine, messages, bodies)
        deciders.check(contents.given)
        taken = self._progress.taken(Piece(messages, contents.wrong))
        now_ns = time.monotonic_ns()
        due_ns = now_ns + int(self._api.settings.longest_deadline_ms * 1_000_000)
        asked = [places[n] for n in contents.places]
        appended_us = max(one.timestamp()[1] for one in messages) * 1_000
        if name == TRANSACTIONS:
            for n, event in zip(contents.places, contents.events, strict=True):
                self._traces.expects(getattr(event, engine.schema.id), messages[n])
        if contents.events:
            put(
                Request(
                    contents.events, now_ns, due_ns, partial(batch.take, asked), _CALLER, appended_us=appended_us,
                    taken=taken, given=contents.given or None,
                )
            )  # fmt: skip
            batch.handed(asked)
        elif taken is not None:
            worker.note_read(taken([]))
        batch.take([places[n] for n in contents.wrong], [*contents.wrong.values()])


class _Batch:
    """The answers to some messages, which come in by and by, in the loop; `done` has them once all are there."""

    def __init__(self, n: int) -> None:
        self.done: Future[list[Answer]] = Future()
        self._answers: list[Answer | None] = [None] * n
        self._left = n
        self._handed: set[int] = set()

    def handed(self, places: Iterable[int]) -> None:
        """The messages at these places will be answered, whatever happens."""
        self._handed.update(places)

    def take(self, places: Sequence[int], answers: Answers) -> None:
        """Note the answers to the messages at these places."""
        for place, answer in zip(places, answers, strict=True):
            self._answers[place] = answer
        self._left -= len(places)
        if self._left == 0 and not self.done.done():
            self.done.set_result([one for one in self._answers if one is not None])

    def fail(self, error: SentinelError) -> None:
        """Those that were not handed over cannot be taken now."""
        others = [n for n, one in enumerate(self._answers) if one is None and n not in self._handed]
        self.take(others, [error] * len(others))


def _pieces(places: Sequence[int]) -> Iterator[Sequence[int]]:
    for begin in range(0, len(places), MAX_ROWS):
        yield places[begin : begin + MAX_ROWS]


def _next(consumer: Consumer, lag: Lag) -> list[Message]:
    """What has come: the first as soon as it is there, and all that came with it. Raises KafkaException."""
    first = consumer.poll(_WAIT_S)
    if first is None:
        return []
    found = []
    for one in (first, *consumer.consume(MOST_READ - 1, 0)):
        error = one.error()
        if error is None:
            found.append(one)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - so it is named there
            lag.at_end(one.topic(), one.partition(), one.offset())
        else:
            raise KafkaException(error)
    return found
