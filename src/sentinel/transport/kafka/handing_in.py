"""Transactions that are handed in over HTTP and put into their topic: acknowledged once all copies have them.

What this process has handed in is remembered, so that the same again is known and its decision can be asked for. Who
reads the topic decides each id once, whoever handed it in.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import msgspec

from sentinel.errors import Conflict, NotReady, Overloaded, SentinelError, StorageProblem
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import hash_texts
from sentinel.events.schema import Schema
from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.serve.batch import Answer, repeated
from sentinel.serve.queue import Request
from sentinel.transport.http.api import Api
from sentinel.transport.http.replies import Reply
from sentinel.transport.http.taken import Offer, taken, taken_by_topic
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.decisions_seen import DecisionsSeen
from sentinel.transport.kafka.handing_over import HandingOver
from sentinel.transport.kafka.topics import TRANSACTIONS, check

MOST_REMEMBERED = 100_000
"""Transactions that were handed in last, at most."""

_LATE = "Kafka has not acknowledged it in time, so whether it has it is not known: send the same again"
_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)
Tell = Callable[[Answer], None]


class _HandedIn(msgspec.Struct):
    """One transaction: its content, whether it is in the topic, who waits for that, and its decision once seen."""

    content: bytes
    is_there: bool = False
    waiting: list[Tell] = msgspec.field(default_factory=list)
    decision: bytes | None = None


class HandingIn:
    """Puts offers into the topic of transactions, from the event loop.

    With `seen` the decisions of whoever reads the topic are followed; without it they are those of this process.
    """

    def __init__(self, connection: Connection, api: Api, seen: DecisionsSeen | None) -> None:
        self._connection, self._api, self._seen = connection, api, seen
        self._handed_in: dict[str, _HandedIn] = {}
        self._under_way = 0
        self._said: str | None = None
        self._handing = HandingOver(connection, TRANSACTIONS, PATIENCE_S, self._look)

    def start(self) -> None:
        """Begin; call it from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._handing.start()

    def stop_reading(self) -> None:
        """Have what was handed in acknowledged and answered, and end; from another thread than the loop's."""
        self._handing.stop()
        if self._seen is not None:
            self._seen.close()

    def stop(self) -> None:
        """Nothing is left to do."""

    def put(self, request: Request) -> None:
        """Have the offers of a request put into the topic, and answered by when it is due. Raises NotReady, Overloaded.

        Nothing is said to be taken that Kafka has not acknowledged.
        """
        offers = cast("Sequence[Offer]", request.events)
        engine = self._api.deciding().ready_engine()
        if self._handing.problem is not None:
            raise NotReady(f"Nothing can be handed in: {self._handing.problem}")
        if self._under_way + len(offers) > self._api.settings.max_waiting:
            raise Overloaded(f"{self._under_way} transactions wait for Kafka; nothing was taken: send less at once")
        hashes = hash_texts([one.name for one in offers])
        if not self._api.deciding().far.hold(engine.journal, lambda: hashes, request, self._put):
            self._put(request)

    def _put(self, request: Request) -> None:
        offers, answers = cast("Sequence[Offer]", request.events), _Answers(request)
        engine, names = self._api.deciding().ready_engine(), [one.name for one in offers]
        stored = engine.journal.find(names, hash_texts(names))
        for place, offer in enumerate(offers):
            tell = partial(answers.take, place)
            if (row := stored.get(offer.name)) is not None:
                tell(taken(repeated(row, same=engine.schema.is_same(row.content, offer.content, offer.ignoring)), ""))
            else:
                self._take(offer, engine.schema, tell)
        if answers.left:
            left_s = (request.due_ns - time.monotonic_ns()) / 1e9
            self._loop.call_later(min(max(left_s, 0.0), PATIENCE_S), answers.give_up)

    def told_of(self, names: Sequence[str]) -> Reply | None:
        """What is known here of a transaction that was handed in under one of these names; None when it was not."""
        for name in names:
            found = self._handed_in.get(name)
            if found is None:
                continue
            if found.decision is not None:
                return Reply(200, found.decision)
            said = "It is in the topic, and no decision is seen yet" if found.is_there else "Kafka has it not yet"
            return Reply(202, _encode({"transaction_id": name, "status": "pending", "message": said}))
        return None

    def _take(self, offer: Offer, schema: Schema, tell: Tell) -> None:
        known = self._handed_in.get(offer.name)
        if known is None:
            self._produce(offer, tell)
        elif not schema.is_same(known.content, offer.content, offer.ignoring):
            tell(_other_content(offer.name))
        elif known.is_there:
            tell(taken_by_topic(offer.name, again=True))
        else:
            known.waiting.append(tell)

    def _produce(self, offer: Offer, tell: Tell) -> None:
        try:
            self._handing.put(offer.key, offer.value, partial(self._acknowledge, offer.name), offer.traceparent)
        except (Overloaded, StorageProblem) as fault:
            tell(fault)
            return
        self._under_way += 1
        self._handed_in[offer.name] = _HandedIn(offer.content, waiting=[tell])
        while len(self._handed_in) > MOST_REMEMBERED and (oldest := next(iter(self._handed_in))) != offer.name:
            del self._handed_in[oldest]

    def _acknowledge(self, name: str, fault: str | None) -> None:
        """In the loop: whoever asked first is told that it is new, and the others that it was known."""
        self._under_way -= 1
        found = self._handed_in.get(name)
        if found is None:
            return
        waiting, found.waiting, found.is_there = found.waiting, [], fault is None
        if fault is not None:
            del self._handed_in[name]
        for place, tell in enumerate(waiting):
            tell(taken_by_topic(name, again=place > 0) if fault is None else StorageProblem(f"{_LATE} ({fault})"))

    def _look(self) -> str | None:
        """Look whether the topics are there and fit, and follow the decisions from now on; what stands in the way."""
        try:
            check(self._connection, (TRANSACTIONS,))
            if self._seen is not None:
                self._seen.open(self._handed_in.__contains__, self._note)
        except SentinelError as problem:
            if str(problem) != self._said:
                _log.error("nothing can be handed in: %s", problem)
            self._said = str(problem)
            return self._said
        return None

    def _note(self, name: str, decision: bytes) -> None:
        """From another thread: what was decided of one that is known here."""
        found = self._handed_in.get(name)
        if found is not None:
            found.decision = decision


class _Answers:
    """The answers to a request, which is replied to once all are there, or it is due."""

    def __init__(self, request: Request) -> None:
        self._reply = request.reply
        self._answers: list[Answer | None] = [None] * len(request.events)
        self.left = len(request.events)

    def take(self, place: int, answer: Answer) -> None:
        """Note the answer at a place; one that comes too late is for nobody."""
        if self._answers[place] is None:
            self._answers[place] = answer
            self.left -= 1
            if self.left == 0:
                self._reply([one for one in self._answers if one is not None])

    def give_up(self) -> None:
        """Answer what was not acknowledged in time."""
        for place, answer in enumerate(self._answers):
            if answer is None:
                self.take(place, StorageProblem(_LATE))


def _other_content(name: str) -> Conflict:
    return Conflict(
        f"Transaction {quoted(name, 200)} was handed in before with other content; send the same content again, or a "
        "new id"
    )
