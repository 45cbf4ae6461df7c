"""What goes into the engine and what comes out: arrivals, decisions, and answers to what was asked before."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, overload

import msgspec

from sentinel.errors import Conflict, SentinelError
from sentinel.events.log import Outcome
from sentinel.events.schema import Transaction
from sentinel.policy.thresholds import Thresholds
from sentinel.record.journal_reader import DecisionRow

FEATURES_STATE = ("fresh", "late")
"""What is told of features that were late or not."""

Event: TypeAlias = Transaction | Outcome
"""What comes in."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The answer to a transaction. `latency_us` runs from its arrival until it was decided.

    `threshold` is the probability from which it is not approved. `degraded` says why the fallback rules decided
    instead of the model, and `variant` which side of an experiment did.
    """

    transaction_id: str
    decision: str
    fraud_probability: float
    threshold: float
    thresholds: Thresholds
    model_version: str
    detector: str
    features_state: str
    batch_size: int
    latency_us: int
    replayed: bool
    degraded: str | None
    circuit_breaker_state: str
    variant: str | None


class Noted(msgspec.Struct, frozen=True, gc=False):
    """The answer to an outcome."""

    transaction_id: str
    is_fraud: bool
    replayed: bool


Answer: TypeAlias = Decision | Noted | SentinelError
Answers: TypeAlias = Sequence[Answer]


class RuledDecisions(Sequence[Decision]):
    """What the rules decided of transactions that came late together, without an object for each of them.

    Rules give few different scores. Of those who have the same one, the answers differ in id and latency only:
    `patterns` has one of them for each score, with an empty id.
    """

    def __init__(
        self, ids: Sequence[str], scores: Sequence[float], latencies_us: Sequence[int], patterns: dict[float, Decision]
    ) -> None:
        self.ids = ids
        self.scores = scores
        self.latencies_us = latencies_us
        self.patterns = patterns

    def __len__(self) -> int:
        """How many there are."""
        return len(self.ids)

    @overload
    def __getitem__(self, where: int) -> Decision: ...

    @overload
    def __getitem__(self, where: slice) -> "RuledDecisions": ...

    def __getitem__(self, where: int | slice) -> "Decision | RuledDecisions":
        """One of them, or several."""
        if isinstance(where, slice):
            return RuledDecisions(self.ids[where], self.scores[where], self.latencies_us[where], self.patterns)
        return msgspec.structs.replace(
            self.patterns[self.scores[where]], transaction_id=self.ids[where], latency_us=self.latencies_us[where]
        )


def kinds_of(answers: Answers) -> set[type[Answer]]:
    """The types of these answers."""
    return {Decision} if type(answers) is RuledDecisions else set(map(type, answers))


class Arrivals(NamedTuple):
    """Transactions and outcomes in their order; of each when it came in and until when it can wait for a model.

    Times are ns of the monotonic clock.
    """

    events: Sequence[Event]
    received_ns: Sequence[int]
    due_ns: Sequence[int]


def repeated(row: DecisionRow, content: bytes) -> Decision | Conflict:
    """The stored answer to the same transaction; a conflict for another one under its id."""
    if row.content != content:
        return Conflict(
            f"Transaction {row.transaction_id!r} was decided before with other content; "
            "send the same content again, or a new id"
        )
    return Decision(
        transaction_id=row.transaction_id,
        decision=row.decision,
        fraud_probability=row.fraud_probability,
        threshold=row.review_threshold,
        thresholds=Thresholds(row.review_threshold, row.block_threshold),
        model_version=row.model_version,
        detector=row.detector,
        features_state=FEATURES_STATE[row.late],
        batch_size=row.batch_size,
        latency_us=row.latency_us,
        replayed=True,
        degraded=row.degraded,
        circuit_breaker_state=row.circuit,
        variant=row.variant,
    )
