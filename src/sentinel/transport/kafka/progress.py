"""How far the topics were read: kept in Kafka beside a log of files, or in the entries of a log that is in Kafka."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from sentinel.errors import (
    BundleProblem,
    NotReady,
    Overloaded,
    RateLimited,
    SentinelError,
    StorageProblem,
)
from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.record.kafka.standby_log import StandbyLog
from sentinel.record.log import Enclosed, Taken
from sentinel.serve.batch import Answers
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.dead_letters import Poison, letter_of, produced, writer
from sentinel.transport.kafka.traces import headers_of

NOT_ITS_FAULT = (NotReady, Overloaded, StorageProblem, BundleProblem, RateLimited)
"""Faults that no message is to blame for: it has to be taken later."""

_log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """Messages of one topic that are handed over together: `wrong` has the places of those that nothing is made of."""

    messages: Sequence[Message]
    wrong: Mapping[int, SentinelError]


class Progress(Protocol):
    """Where to read on, and what is done with."""

    rereads: bool
    """Whether what could not be taken has to be read again from where `begins` says."""

    def begins(self, consumer: Consumer, every: Sequence[TopicPartition]) -> list[TopicPartition]:
        """These partitions, each with the offset to read on from. Raises KafkaException."""

    def check(self, messages: Sequence[Message]) -> None:
        """In the loop, before messages are handed over. Raises NotReady where they do not follow on what was taken."""

    def taken(self, piece: Piece) -> Callable[[Answers], Taken] | None:
        """In the loop: what to note once the others of a piece have their answers; None where the log notes nothing."""

    def done(self, consumer: Consumer, messages: Sequence[Message], poison: Sequence[Poison]) -> None:
        """These were taken, and nothing can be made of some of them. Raises StorageProblem, KafkaException."""


class GroupProgress:
    """Kept in Kafka as the offsets of a group, which follow the log: after a crash some messages are read again."""

    rereads = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dead: Producer | None = None

    def begins(self, consumer: Consumer, every: Sequence[TopicPartition]) -> list[TopicPartition]:
        """From where the group has got to."""
        return [kept_from(consumer, one) for one in consumer.committed(list(every), timeout=PATIENCE_S)]

    def check(self, messages: Sequence[Message]) -> None:
        """Whatever comes is looked up by its id."""

    def taken(self, piece: Piece) -> Callable[[Answers], Taken] | None:  # noqa: ARG002
        """Nothing: a log of files knows of no inputs."""
        return None

    def done(self, consumer: Consumer, messages: Sequence[Message], poison: Sequence[Poison]) -> None:
        """Write the dead letters, then move on."""
        if poison:
            self._dead = self._dead or writer(self._connection)
            produced(poison, self._dead, self._connection)
        consumer.commit(offsets=ends_of(messages), asynchronous=True)


class LogProgress:
    """Kept in the log's own entries, in one transaction with what came of the messages: nothing is taken twice.

    What cannot be noted yet, since messages before it have no answer yet, waits with its dead letters.
    """

    rereads = True

    def __init__(
        self, connection: Connection, log: StandbyLog, tell: Callable[[Sequence[TopicPartition]], None]
    ) -> None:
        """`tell` shows others how far was read."""
        self._connection, self._log, self._tell = connection, log, tell
        self._next: dict[str, int] = {}  # behind what was handed over
        self._first: dict[str, int] = {}  # where that began, of what no entry names yet
        self._noted: dict[str, int] = {}  # up to where all was taken
        self._waiting: dict[str, dict[int, tuple[int, Sequence[Enclosed]]]] = {}  # by partition and first offset

    def begins(self, consumer: Consumer, every: Sequence[TopicPartition]) -> list[TopicPartition]:
        """From where the newest entry says; what no entry names yet from where the group has got to, or all of it."""
        noted = self._log.newest_inputs
        self._next, self._first, self._noted, self._waiting = dict(noted), {}, dict(noted), {}
        found = []
        for one in consumer.committed(list(every), timeout=PATIENCE_S):
            one.offset = noted.get(_name(one.topic, one.partition), one.offset)
            found.append(kept_from(consumer, one))
        return found

    def check(self, messages: Sequence[Message]) -> None:
        """The log has to be where these messages begin: else its state was thrown away, and others come first."""
        written = self._log.written_inputs
        for name in {_name(one.topic(), one.partition()) for one in messages}:
            if name in self._next and written.get(name, self._first.get(name)) != self._next[name]:
                raise NotReady(f"{name} was read up to {self._next[name]}, and the log goes on at {written.get(name)}")

    def taken(self, piece: Piece) -> Callable[[Answers], Taken] | None:
        """What to note of a piece."""
        ranges: dict[str, tuple[int, int]] = {}
        for one in piece.messages:
            name = _name(one.topic(), one.partition())
            if name not in self._next:
                self._next[name] = self._first[name] = one.offset()
            begin = ranges[name][0] if name in ranges else self._next[name]
            ranges[name] = begin, one.offset() + 1
        self._next |= {name: end for name, (_, end) in ranges.items()}
        return partial(self._note, piece, ranges)

    def _note(self, piece: Piece, ranges: Mapping[str, tuple[int, int]], answers: Answers) -> Taken:
        """Everything up to the first message without an answer, and the dead letters of that."""
        its = iter(answers)
        of = [piece.wrong[n] if n in piece.wrong else next(its) for n in range(len(piece.messages))]
        traces: Sequence[str] = ()
        if not any(isinstance(one, NOT_ITS_FAULT) for one in of):
            traces = headers_of(piece.messages)
            for name, (begin, end) in ranges.items():
                letters = [
                    letter_of(Poison(message, error), self._connection)
                    for message, error in zip(piece.messages, of, strict=True)
                    if isinstance(error, SentinelError) and _name(message.topic(), message.partition()) == name
                ]
                self._waiting.setdefault(name, {})[begin] = end, letters
        return self._in_order()._replace(traces=traces)

    def _in_order(self) -> Taken:
        enclosed = list[Enclosed]()
        for name, waiting in self._waiting.items():
            while waiting and (at := self._noted.get(name, self._first.get(name, 0))) in waiting:
                self._noted[name], letters = waiting.pop(at)
                enclosed += letters
        return Taken(dict(self._noted), enclosed)

    def done(self, consumer: Consumer, messages: Sequence[Message], poison: Sequence[Poison]) -> None:  # noqa: ARG002
        """The log has it all by now."""
        self._tell(ends_of(messages))


def kept_from(consumer: Consumer, one: TopicPartition) -> TopicPartition:
    """The same, from its beginning where its offset is not kept; what Kafka has deleted meanwhile is told."""
    low, high = consumer.get_watermark_offsets(one, timeout=PATIENCE_S)
    if one.offset >= 0 and not low <= one.offset <= high:
        _log.error(
            "%s, partition %d, was read up to %d and has %d to %d: what was between is gone, or the topic is "
            "another one", one.topic, one.partition, one.offset, low, high,
        )  # fmt: skip
    if not low <= one.offset <= high:
        one.offset = OFFSET_BEGINNING
    return one


def ends_of(messages: Sequence[Message]) -> list[TopicPartition]:
    """Where to read on after them."""
    ends = {(one.topic(), one.partition()): one.offset() + 1 for one in messages}
    return [TopicPartition(topic, number, offset) for (topic, number), offset in ends.items()]


def _name(topic: str | None, partition: int | None) -> str:
    return f"{topic}-{partition}"
