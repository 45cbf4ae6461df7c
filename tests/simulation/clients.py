"""The callers: what they send, what they were answered, and whether that is true."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import shop
from machine import Machine
from msgspec import UNSET
from witness import Witness, bare, said

from sentinel.errors import Conflict, InvalidInput, NotReady, Overloaded, SentinelError, StorageProblem
from sentinel.events.columns import Outcome
from sentinel.events.context import Context, ContextReader
from sentinel.events.reader import TransactionReader
from sentinel.events.times import FARTHEST_AHEAD_US
from sentinel.events.wire import event_of
from sentinel.record.entries import Decider
from sentinel.record.log import LogReader
from sentinel.serve.batch import Decision, Heard, Noted, Report
from sentinel.serve.engine import Engine
from sentinel.serve.queue import Request

_encode = msgspec.json.encode
_MOST_OF_ONE = 16
TELLERS = (("operator", "operator"), ("bank-key", "bank"), ("desk", "analyst"), ("desk", "bank"))
"""By whom outcomes are told, and of which source."""

_VOID = ("nothing was stored", "nothing of this was stored")


def _fields(payment: Any) -> Iterator[tuple[str, Any]]:
    return ((name, getattr(payment, name)) for name in payment.__struct_fields__)


def _name_of(event: Any) -> str:
    return event.event.event_id if isinstance(event, Report) else event.transaction_id


def _who(decider: Decider) -> str:
    stand_in = "on_fault" if decider.is_fixed else "rules"
    return "model" if decider.degraded is None else stand_in


class Clients:
    """All of them. `log` is the server's while one answers."""

    def __init__(self, machine: Machine, witness: Witness) -> None:
        self.machine, self.witness, self.random = machine, witness, machine.random
        self.schema = witness.models.schema
        self.log: LogReader | None = None
        self.context = Context(self.schema)
        self.sent: dict[str, Any] = {}
        self.sent_events: dict[str, Any] = {}
        self.heard: set[str] = set()
        self.answers: dict[str, bytes] = {}
        """The bytes of each answer that was given, as a repeat has them."""

        self.told: dict[str, set[tuple[object, ...]]] = {}
        self.unanswered: set[str] = set()
        self.waiting = 0
        counted = ("answered", "challenged", "repeated", "refused", "unknown", "noted", "heard", "conflicts")
        self.counts = dict.fromkeys(counted, 0)
        self.revision = 0

    def payments(self) -> list[Any]:
        """What one request has."""
        return [self._payment() for _ in range(self.random.choice((1, 1, 1, 2, 3, 7)))]

    def _payment(self) -> Any:
        draw = self.random.random()
        if draw < 0.08 and self.unanswered:
            return self.sent[self.random.choice(sorted(self.unanswered))]
        if draw < 0.3 and self.sent:
            name = self.random.choice([*self.sent][-40:])
            same = self.sent[name]
            if self.random.random() < 0.2:  # with other content
                return msgspec.structs.replace(same, amount=round(same.amount + 1, 2))
            return same
        return self._new()

    def _new(self) -> Any:
        random = self.random
        ago_us = random.choice((0, 0, 0, 1, 60, 4_000, 90_000, -30, -4_000)) * 1_000_000
        if random.random() < 0.02:
            ago_us = -2 * FARTHEST_AHEAD_US
        payment = self.schema.wire_type(
            transaction_id=f"t{len(self.sent)}",
            event_time=self.machine.wall_us - ago_us,
            amount=random.randint(1, 9_000) / 100,
            card=f"card-{random.randint(0, shop.CARDS)}",
            shop=f"shop-{random.randint(0, shop.SHOPS)}",
            channel=random.choice((None, "web", "chip", "new")),
            email=random.choice((None, "ann@mail.example", "ben@mail.example")),
            risk=random.choice((None, 0.5, -1.25)),
        )
        self.sent[payment.transaction_id] = payment
        return payment

    def outcomes(self) -> list[Outcome]:
        names = [*self.sent][-30:] or ["never"]
        return [self._outcome(self.random.choice(names)) for _ in range(self.random.choice((1, 1, 2, 4)))]

    def _outcome(self, name: str) -> Outcome:
        told_by, source = self.random.choice(TELLERS)
        reason = self.random.choice(("", "chargeback"))
        return Outcome(name, self.random.random() < 0.6, self.machine.wall_us, source, told_by, reason)

    def read(self, payments: Sequence[Any], engine: Engine | None) -> list[Any]:
        """The payments as the API reads them: what is personal is sealed for its card. Raises StorageProblem."""
        subjects = engine.journal.subjects if engine else None
        reader = TransactionReader(self.schema, shop.SECRETS, subjects.sealed if subjects else None)
        found = []
        for one in payments:
            found.append(
                reader.decode(
                    _encode({name: value for name, value in _fields(one) if value is not None and value is not UNSET})
                )
            )
            if found[-1].email_sealed is not None:
                self.witness.sealed[found[-1].card, found[-1].email_sealed] = len(self.witness.sealings), one.email
                self.witness.sealings.append(one.card)
        return found

    def events(self, own: Any) -> list[Any]:
        """The context events of a request, drawn from a generator of their own."""
        return [self._event(own) for _ in range(own.choice((1, 1, 2, 5)))]

    def _event(self, own: Any) -> Any:
        if own.random() < 0.3 and self.sent_events:
            same = self.sent_events[own.choice([*self.sent_events][-20:])]
            return msgspec.structs.replace(same, card="another") if own.random() < 0.2 else same
        ago_us = own.choice((0, 0, 1, 60, 4_000, -30)) * 1_000_000 - (
            2 * FARTHEST_AHEAD_US if own.random() < 0.02 else 0
        )
        kind = own.choice([*self.schema.events])
        carried = {"channel": own.choice((None, "web", "chip")), "email": own.choice((None, "ann@mail.example"))}
        schema = self.context.schemas[kind]
        event = schema.wire_type(
            event_id=f"e{len(self.sent_events)}",
            event_time=self.machine.wall_us + ago_us,
            card=f"card-{own.randint(0, shop.CARDS)}",
            **{name: one for name, one in carried.items() if name in schema.fields},
        )
        self.sent_events[event.event_id] = event
        return event

    def read_events(self, events: Sequence[Any], told_by: str, engine: Engine | None) -> list[Report]:
        """The events as the API reads them. Raises StorageProblem."""
        subjects = engine.journal.subjects if engine else None
        reader = ContextReader(self.schema, shop.SECRETS, subjects.sealed if subjects else None)
        found = []
        for one in events:
            event = reader.decode(
                _encode(
                    {"event": event_of(one)} | {name: v for name, v in _fields(one) if v is not None and v is not UNSET}
                )
            )
            if getattr(event, "email_sealed", None) is not None:
                self.witness.sealed[event.card, event.email_sealed] = len(self.witness.sealings), one.email
                self.witness.sealings.append(one.card)
            found.append(Report(event, told_by))
        return found

    def request(self, events: Sequence[Any]) -> Request:
        """A request whose answer is checked."""
        now_ns = self.machine.now_ns
        due_ns = now_ns + self.random.choice((60_000_000, 60_000_000, 200_000, 10**18))
        self.waiting += 1
        answered = False
        known = self.answers.keys() & {_name_of(one) for one in events}  # answered before this was sent

        def reply(answers: Sequence[Any]) -> None:
            nonlocal answered
            try:
                assert not answered, "answered twice"
                answered = True
                self.waiting -= 1
                self._check(events, answers, known)
            except BaseException as error:
                self.machine.failure = self.machine.failure or error
                raise

        for one in events:
            if isinstance(one, Report):
                self.witness.maybe_heard[one.event.event_id][self._content(one), one.told_by] += 1
            elif isinstance(one, Outcome):
                self.witness.maybe_told[one.transaction_id][said(one)] += 1
            else:
                self.witness.maybe[one.transaction_id][bare(self.schema.encode(one))] += 1
                if one.transaction_id not in self.answers:
                    self.unanswered.add(one.transaction_id)
        return Request(events, now_ns, due_ns, reply)

    def _check(self, events: Sequence[Any], answers: Sequence[Any], known: set[str]) -> None:
        assert len(answers) == len(events)
        before, self.machine.preemption = self.machine.preemption, 0.0
        assert self.log is not None, "an answer of a server that has gone"
        self.witness.follow(self.log)
        for event, answer in zip(events, answers, strict=True):
            if isinstance(event, Report):
                self._check_heard(event, answer)
            else:
                self._check_answer(event, answer, is_known=event.transaction_id in known)
        self.machine.preemption = before

    def _check_answer(self, event: Any, answer: Any, *, is_known: bool) -> None:
        words = answer if isinstance(answer, SentinelError) else type(answer).__name__
        self.machine.trace(f"{event.transaction_id}: {words}")
        if isinstance(answer, Decision):
            self._check_decision(event, answer, is_known=is_known)
        elif isinstance(answer, Noted):
            stored = [said(row) for row in self.witness.outcomes[event.transaction_id]]
            assert event.is_fraud == answer.is_fraud
            known = said(event) in stored if not answer.replayed else said(event)[:3] in [one[:3] for one in stored]
            assert known, f"an outcome of {event.transaction_id} was acknowledged and is not durable"
            if not answer.known:
                row = self.witness.decisions.get(event.transaction_id)
                is_here = row is not None and is_known and not self.is_old(row.received_us)
                assert not is_here, f"{event.transaction_id} was decided, and its outcome is of nothing"
            self.told.setdefault(event.transaction_id, set()).add(said(event)[:3])
            self.counts["noted"] += 1
        else:
            self._check_refusal(event, answer)

    def _content(self, report: Report) -> bytes:
        return bare(self.context.schemas[event_of(report.event)].encode(report.event))

    def _check_heard(self, report: Report, answer: Any) -> None:
        name, words = report.event.event_id, str(answer)
        row = self.witness.heard.get(name)
        self.machine.trace(f"{name}: {words if isinstance(answer, SentinelError) else type(answer).__name__}")
        if isinstance(answer, Heard):
            assert (answer.event_id, answer.event) == (name, event_of(report.event))
            assert row is not None, f"the event {name} is acknowledged and not durable"
            assert bare(row.content) == self._content(report), f"the event {name} got the answer to another one"
            self.heard.add(name)
            self.counts["heard"] += 1
            return
        assert isinstance(answer, SentinelError), f"not an answer: {answer!r}"
        if isinstance(answer, Conflict):
            assert row is not None, f"the event {name} conflicts with nothing"
            assert bare(row.content) != self._content(report), f"the event {name} conflicts with itself"
            self.counts["conflicts"] += 1
        elif isinstance(answer, InvalidInput):
            assert report.event.event_time > self.machine.wall_us + FARTHEST_AHEAD_US // 2, words
        elif not isinstance(answer, Overloaded) and not any(one in words for one in _VOID):
            assert isinstance(answer, NotReady | StorageProblem), f"a fault inside: {answer!r}"
            assert "Something went wrong inside" not in words
            self.counts["unknown"] += 1
            return
        self.witness.maybe_heard[name][self._content(report), report.told_by] -= 1

    def _check_decision(self, event: Any, answer: Decision, *, is_known: bool) -> None:
        name, row = event.transaction_id, self.witness.decisions.get(event.transaction_id)
        assert answer.transaction_id == name
        assert row is not None, f"{name} is answered and not durable"
        assert bare(row.content) == bare(self.schema.encode(event)), f"{name} got the answer to other content"
        stored = (
            row.decision, row.fraud_probability, row.decider.review, row.decider.block,
            row.decider.challenge, row.decider.model_version,
            row.detector, row.late, row.batch_size, row.latency_us, row.decider.degraded, row.decider.circuit,
            row.decider.variant, _who(row.decider),
        )  # fmt: skip
        assert stored == (
            answer.decision, answer.fraud_probability, answer.thresholds.review, answer.thresholds.block,
            answer.thresholds.challenge,
            answer.model_version, answer.detector, answer.features_state == "late", answer.batch_size,
            answer.latency_us, answer.degraded, answer.circuit_breaker_state, answer.variant,
            answer.decided_by,
        ), f"{name} is answered with something else than is stored: {answer}, {stored}"  # fmt: skip
        repeat = _encode(msgspec.structs.replace(answer, replayed=True))
        before = self.answers.get(name)
        if is_known and answer.replayed and repeat == before:
            self.counts["repeated"] += 1
        elif is_known or (before is not None and repeat != before):  # the id was forgotten, and is decided again
            stored_us = min(one.received_us for one in self.witness.all_decisions if one.transaction_id == name)
            assert self.is_old(stored_us), f"{name} was answered before, and is answered otherwise, or as new"
        self.answers[name] = repeat
        self.unanswered.discard(name)
        self.counts["answered"] += 1
        self.counts["challenged"] += answer.decision == "challenge"

    def _check_refusal(self, event: Any, answer: SentinelError) -> None:
        assert isinstance(answer, SentinelError), f"not an answer: {answer!r}"
        name, words = event.transaction_id, str(answer)
        if isinstance(answer, Conflict) and isinstance(event, Outcome):
            mine = [row for row in self.witness.outcomes[name] if row.told_by == event.told_by]
            assert len(mine) >= _MOST_OF_ONE, f"an outcome of {name} is refused after {len(mine)}"
            self.counts["conflicts"] += 1
        elif isinstance(answer, Conflict):
            row = self.witness.decisions.get(name)
            assert row is not None, f"{name} conflicts with nothing"
            assert bare(row.content) != bare(self.schema.encode(event)), f"{name} conflicts with itself"
            self.counts["conflicts"] += 1
        elif isinstance(answer, InvalidInput):
            assert event.event_time > self.machine.wall_us + FARTHEST_AHEAD_US // 2, words
        elif not isinstance(answer, Overloaded) and not any(one in words for one in _VOID):
            assert isinstance(answer, NotReady | StorageProblem), f"a fault inside: {answer!r}"
            assert "Something went wrong inside" not in words
            self.counts["unknown"] += 1
            return
        self.counts["refused"] += 1
        if isinstance(event, Outcome):
            self.witness.maybe_told[name][said(event)] -= 1
        else:
            self.witness.maybe[name][bare(self.schema.encode(event))] -= 1

    def is_old(self, received_us: int) -> bool:
        """Whether an id of that time may be forgotten."""
        return received_us <= self.machine.latest_us - self.witness.remember_us

    def check_kept(self) -> None:
        """No answer was given for something that is not there any more."""
        for name in self.answers:
            assert name in self.witness.decisions, f"the decision of {name} is lost"
        for name in self.heard:
            assert name in self.witness.heard, f"the event {name} is lost"
        for name, told in self.told.items():
            stored = {said(row)[:3] for row in self.witness.outcomes[name]}
            assert told <= stored, f"an outcome of {name} is lost"
        assert self.witness.revision >= self.revision, "a change of the deployment is lost"
