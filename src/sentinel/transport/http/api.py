"""What a request for a decision means to a detector, without HTTP."""

import logging
import time
import uuid
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import Any

import msgspec

from sentinel.config import Settings
from sentinel.errors import BadBody, InvalidInput, NotFound, NotReady, SentinelError
from sentinel.events.columns import Outcome
from sentinel.events.context import ContextReader
from sentinel.events.reader import TransactionReader
from sentinel.events.secrets import Secrets
from sentinel.events.wire import EVENT_ID, Transaction, Unsealed
from sentinel.record.views.place import ViewPlace
from sentinel.serve.batch import Answer, Answers, Decision, Event, Noted, Report
from sentinel.serve.engine import Engine
from sentinel.serve.queue import Request
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.watch import waiting_in
from sentinel.serve.worker import Worker
from sentinel.transport.access.access import Pass
from sentinel.transport.http.bodies import items_in
from sentinel.transport.http.calls import Call, Route, wrong_media
from sentinel.transport.http.outcomes import read_outcome, teller_of
from sentinel.transport.http.replies import JSON, NDJSON, Respond, reply_to_batch, reply_to_outcome
from sentinel.transport.http.taken import Offer, Topic, reply_to_taken, taken
from sentinel.transport.http.tellers import Tellers
from sentinel.transport.http.wire.turns import Turns

_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)

_WAITING_NS_PER_MS = 500_000
"""Of a deadline. The rest is for recording the decision and sending the answer: a request that has waited longer
is shed."""

_LETTERS = str.maketrans("0123456789", "ghijklmnop")
_SHARE_NS = 1_000_000
"""What reading a batch one by one may take in a turn of the event loop."""

_NO_ERRORS = {Decision, Noted}
_PREDICT, _SCORE, _OUTCOMES, _EVENTS, _TRANSACTIONS = Route  # an attribute of an enumeration costs ten times a global


def usual_ns(settings: Settings) -> int:
    """Nanoseconds that a request may wait for its decision when it asks for no other deadline."""
    return int(_WAITING_NS_PER_MS * settings.deadline_ms)


def patience_ns(settings: Settings, asked_ms: float) -> int:
    """Nanoseconds that a transaction may wait whose caller asks for this deadline; the caller chooses no risk."""
    least_ms = min(settings.least_deadline_ms, settings.deadline_ms)
    longest_ms = max(settings.longest_deadline_ms, settings.deadline_ms)
    return int(_WAITING_NS_PER_MS * min(max(asked_ms, least_ms), longest_ms))


class Api:
    """Reads the bodies of one detector's calls, passes their content to its worker or predictor, and has them answered.

    `worker` is None where only vectors are scored. `secrets` hide what is secret as soon as it is read. Callers were
    let in before (`detectors.py`).
    """

    def __init__(self, settings: Settings, predictor: Predictor, worker: Worker | None, secrets: Secrets) -> None:
        self.settings = settings
        self.predictor = predictor
        self.worker = worker
        self.tellers = Tellers(settings.outcomes_per_minute, settings.events_per_minute)
        self.secrets = secrets
        self.view = ViewPlace(settings.home, settings.database_url)
        self.topic: Topic | None = None
        """Where transactions are handed in for whoever reads it; without one they are decided here."""

        self._engine: Engine | None = None
        self._reader: TransactionReader | None = None
        self._context_reader: ContextReader | None = None
        self._patience_ns = usual_ns(settings)
        self._longest_patience_ns = patience_ns(settings, settings.longest_deadline_ms)
        self._turns = Turns(1)  # of batches that are read in shares

    @property
    def waiting(self) -> int:
        """Transactions, outcomes and vectors of all callers that wait for their turn."""
        return waiting_in(self.predictor, self.worker)

    @property
    def repeats(self) -> Container[bytes]:
        """Vectors that came before."""
        return self.predictor.repeats

    def remembered(self, body: bytes) -> bytes | None:
        """The answer to a vector that came before, where its score is remembered."""
        return self.predictor.remembered(body)

    def begin(self, call: Call, body: bytes, received_ns: int, respond: Respond, let_in: Pass) -> None:
        """Answer a body that came in then; `respond` is called with the reply, in the loop."""
        asked_ms = call.deadline_ms
        due_ns = received_ns + (self._patience_ns if asked_ms is None else patience_ns(self.settings, asked_ms))
        if call.kind is None:
            respond(self.counted(call.route, wrong_media(call.media, JSON, NDJSON)))
            return
        try:
            if call.route is _PREDICT:
                self.predictor.ask(body, received_ns, due_ns, respond)
            elif call.route is _SCORE:
                self._begin_transactions(call, body, (received_ns, due_ns), respond, let_in)
            elif call.route is _TRANSACTIONS:
                due_ns = due_ns if call.deadline_ms is not None else received_ns + self._longest_patience_ns
                self._take_transactions(call, body, (received_ns, due_ns), respond, let_in)
            elif call.route is _EVENTS:
                self._begin_events(call, body, (received_ns, due_ns), respond, let_in)
            else:
                self._begin_outcomes(call, body, (received_ns, due_ns), respond, let_in)
        except SentinelError as error:
            respond(self.counted(call.route, error))
        except Exception:  # noqa: BLE001 - a fault of ours must not leave a client without an answer
            respond(self._broken(call))

    def counted(self, route: Route, error: SentinelError) -> SentinelError:
        """An error that is the answer to a request, counted."""
        self._count_errors(route, [error])
        return error

    def _count_errors(self, route: Route, answers: Answers) -> None:
        if route is not _OUTCOMES and route is not _EVENTS and not set(map(type, answers)) <= _NO_ERRORS:
            self.predictor.count_errors(sum(isinstance(answer, SentinelError) for answer in answers))

    def _begin_transactions(
        self, call: Call, body: bytes, times_ns: tuple[int, int], respond: Respond, let_in: Pass
    ) -> None:
        worker = self.deciding()
        reader = self.reader(worker.ready_engine())
        is_one = call.kind == "json" and body[:1] == b"{"
        transactions = None if is_one else self._whole_array(call, body, reader)
        if transactions is not None:
            let_in.charge(len(transactions) - 1)

            def finish(answers: Answers) -> None:
                self._count_errors(_SCORE, answers)
                respond(reply_to_batch(answers, lines=False))

            worker.put(Request(transactions, *times_ns, finish, let_in.caller.name))
            return
        items = None if is_one else self._items(body, call)
        if items is not None:
            let_in.charge(len(items) - 1)
            self._begin_batch(call, items, lambda raw: self._transaction(reader, raw), times_ns, respond, let_in)
            return

        def finish_one(answers: Answers) -> None:
            self._count_errors(_SCORE, answers)
            answer = answers[0]
            respond(answer if isinstance(answer, SentinelError) else _encode(answer))

        worker.put(Request([self._transaction(reader, body)], *times_ns, finish_one, let_in.caller.name))

    def _take_transactions(
        self, call: Call, body: bytes, times_ns: tuple[int, int], respond: Respond, let_in: Pass
    ) -> None:
        """Have transactions decided for a caller that does not wait for that; the log acknowledges them, or a topic."""
        reader = self.reader(self.deciding().ready_engine())

        def read(raw: Any) -> Any:
            transaction = self._transaction(reader, raw)
            if self.topic is None:
                return transaction
            return Offer.of(reader.schema, transaction, bytes(raw), call.traceparent)

        items = self._items(body, call)
        if items is not None:
            let_in.charge(len(items) - 1)
            self._begin_batch(call, items, read, times_ns, respond, let_in)
            return

        def finish_one(answers: Answers) -> None:
            self._count_errors(_TRANSACTIONS, answers)
            respond(reply_to_taken(taken(answers[0], call.detector)))

        self._put(_TRANSACTIONS, Request([read(body)], *times_ns, finish_one, let_in.caller.name))

    def _begin_outcomes(
        self, call: Call, body: bytes, times_ns: tuple[int, int], respond: Respond, let_in: Pass
    ) -> None:
        reader, teller = self.reader(self.deciding().ready_engine()), teller_of(let_in)
        items = self._items(body, call)
        self.tellers.admit(teller, 1 if items is None else len(items), times_ns[0] / 1e9)

        if items is not None:
            let_in.charge(len(items) - 1)
            self._begin_batch(call, items, lambda raw: read_outcome(reader, raw, teller), times_ns, respond, let_in)
            return

        def finish_one(answers: Answers) -> None:
            respond(reply_to_outcome(answers[0]))

        self._put_outcomes(Request([read_outcome(reader, body, teller)], *times_ns, finish_one, let_in.caller.name))

    def _begin_events(self, call: Call, body: bytes, times_ns: tuple[int, int], respond: Respond, let_in: Pass) -> None:
        engine = self.deciding().ready_engine()
        if not engine.schema.events:
            raise NotFound("This detector knows no context events: its schema declares none in `events`")
        reader, teller = self.context_reader(engine), teller_of(let_in)
        items = self._items(body, call)
        self.tellers.admit_events(teller, 1 if items is None else len(items), times_ns[0] / 1e9)

        def read(raw: Any) -> Report:
            event = reader.decode(raw)
            if getattr(event, EVENT_ID) is None:
                setattr(event, EVENT_ID, new_id())
            return Report(event, teller.name)

        if items is not None:
            let_in.charge(len(items) - 1)
            self._begin_batch(call, items, read, times_ns, respond, let_in)
            return

        def finish_one(answers: Answers) -> None:
            answer = answers[0]
            respond(answer if isinstance(answer, SentinelError) else _encode(answer))

        self._put_events(Request([read(body)], *times_ns, finish_one, let_in.caller.name))

    def tell_outcomes(self, outcomes: Sequence[Outcome], caller: str, reply: Callable[[Answers], None]) -> None:
        """Have outcomes recorded that people tell here; `reply` is called in the loop once that is durable.

        Raises NotReady, Overloaded.
        """
        now_ns = time.monotonic_ns()
        self._put_outcomes(Request(outcomes, now_ns, now_ns + self._longest_patience_ns, reply, caller))

    def _put(self, route: Route, request: Request) -> None:
        """Have what came in on a route wait for its turn."""
        if route is _OUTCOMES:
            self._put_outcomes(request)
        elif route is _EVENTS:
            self._put_events(request)
        elif route is _TRANSACTIONS and self.topic is not None:
            self.topic.put(request)
        else:
            self.deciding().put(request)

    def _put_events(self, request: Request) -> None:
        """Have context events recorded, and counted by kind."""
        reply = request.reply

        def count_and_reply(answers: Answers) -> None:
            self.tellers.note_events(answers)
            reply(answers)

        request.reply = count_and_reply
        self.deciding().put_events(request)

    def _put_outcomes(self, request: Request) -> None:
        """Have outcomes recorded, and counted by source."""
        reply = request.reply

        def count_and_reply(answers: Answers) -> None:
            self.tellers.note(request.events, answers, time.monotonic())
            reply(answers)

        request.reply = count_and_reply
        self.deciding().put_outcomes(request)

    def _go_on(self, call: Call, respond: Respond, step: Callable[[], None]) -> None:
        """Go on with a call in a later turn of the loop; the caller gets an answer whatever happens."""
        try:
            step()
        except SentinelError as error:
            respond(self.counted(call.route, error))
        except Exception:  # noqa: BLE001 - as in `begin`
            respond(self._broken(call))

    def _broken(self, call: Call) -> SentinelError:
        """The answer where a fault of ours was raised, counted."""
        return self.counted(call.route, _fault(call))

    def _begin_batch(
        self, call: Call, items: Sequence[Any], read: Callable[[Any], Event], times_ns: tuple[int, int],
        respond: Respond, let_in: Pass,
    ) -> None:  # fmt: skip
        """Each item has its own answer or error, in their order.

        They are read in shares: of all batches one share in a turn of the loop, after the first of each.
        """
        answers: dict[int, Answer] = {}
        places: list[int] = []
        events: list[Event] = []

        def finish(found: Answers) -> None:
            answers.update(zip(places, found, strict=True))
            ordered = [answers[place] for place in range(len(items))]
            self._count_errors(call.route, ordered)
            if call.route is _TRANSACTIONS:
                ordered = [taken(one, call.detector) for one in ordered]
            respond(reply_to_batch(ordered, lines=call.kind == "lines"))

        def read_share(begin: int) -> None:
            end_ns = time.monotonic_ns() + _SHARE_NS
            for place in range(begin, len(items)):
                try:
                    events.append(read(items[place]))
                    places.append(place)
                except (BadBody, InvalidInput) as error:
                    answers[place] = _without_frames(error)
                except SentinelError:
                    raise  # of the server: it would be the answer to every item
                except Exception:  # noqa: BLE001 - a fault of ours with one item is not the others' either
                    answers[place] = _fault(call)
                if time.monotonic_ns() > end_ns and place + 1 < len(items):
                    go_on = partial(self._go_on, call, respond, partial(read_share, place + 1))
                    self._turns.take(let_in.who, go_on)
                    return
            if not events:
                finish(())
                return
            self._put(call.route, Request(events, *times_ns, finish, let_in.caller.name))

        read_share(0)

    def _items(self, body: bytes, call: Call) -> Sequence[Any] | None:
        """The parts of a batch, or None for a body that is one object."""
        return items_in(body, call.kind or "json", self.settings.max_batch)

    def reader(self, engine: Engine) -> TransactionReader:
        """What reads transactions for an engine, of the schema in force."""
        if self._engine is not engine or self._reader is None or self._reader.schema is not engine.schema:
            self._engine, subjects = engine, engine.journal.subjects
            seal = Unsealed if subjects else None
            takes = self.settings.parts_of_hashes
            self._reader = TransactionReader(engine.schema, self.secrets, seal, takes_parts=takes)
            self._context_reader = ContextReader(engine.schema, self.secrets, seal, takes_parts=takes)
        return self._reader

    def context_reader(self, engine: Engine) -> ContextReader:
        """What reads context events for an engine."""
        self.reader(engine)
        assert self._context_reader is not None  # noqa: S101 - made with the other
        return self._context_reader

    def _whole_array(self, call: Call, body: bytes, reader: TransactionReader) -> list[Transaction] | None:
        """The transactions of an array in which none is wrong: to read them one by one takes half as long again."""
        if call.kind != "json" or body[:64].lstrip()[:1] != b"[":
            return None
        found, schema = reader.decode_array(body), reader.schema
        if not found or len(found) > self.settings.max_batch:
            return None
        if schema.assigns:
            for one in found:
                schema.assign(one, new_id())
        return found

    def _transaction(self, reader: TransactionReader, raw: Any) -> Transaction:
        transaction = reader.decode(raw)
        if reader.schema.assigns:
            reader.schema.assign(transaction, new_id())
        return transaction

    def deciding(self) -> Worker:
        """The worker. Raises NotReady in a process that scores vectors only."""
        if self.worker is None:
            raise NotReady(
                f"This server runs {self.settings.workers} processes, which share no features: it answers /predict "
                "only. Transactions need one process (--workers 1)"
            )
        return self.worker


def _fault(call: Call) -> SentinelError:
    """The answer where a fault of ours was raised, which the server's log has."""
    _log.exception("a request was not answered", extra={"request_id": call.shown_id})
    return SentinelError("Something went wrong inside; nothing was stored")


def _without_frames(error: SentinelError) -> SentinelError:
    """An error that is kept as an answer. Its traceback leads to what keeps it: a circle, of frames that are many."""
    error.__traceback__ = error.__context__ = None
    return error


def new_id() -> str:
    """An id for a transaction that came without: 32 letters, as digits could look like a card number and be hashed."""
    return uuid.uuid4().hex.translate(_LETTERS)
