"""A batch on its way through the engine: it gains columns from step to step, and its answers at the end."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import Conflict, SentinelError
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import Outcome
from sentinel.events.wire import ContextEvent, Transaction
from sentinel.features.store import Features
from sentinel.policy.thresholds import Thresholds
from sentinel.record.entries import Decided, Decider, DecisionRow, Drawn, Exact, Ruled

FEATURES_STATE = ("fresh", "late")
"""How an answer names the column `late`: whether a newer transaction of one of its keys had come before."""

AS_OF, NO_PROFILES = "as_of", "none"
"""What the features of a front's answer are of: profiles as they were some time ago, or none; rules decided then."""


class Report(NamedTuple):
    """A context event, and the name of the API key that it came with."""

    event: ContextEvent
    told_by: str


Event: TypeAlias = Transaction | Outcome | Report


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The answer to a transaction. `latency_us` runs from its arrival until it was decided.

    `threshold` is the probability from which it is not approved. `degraded` says why the model did not decide,
    `variant` which side of an experiment did, and `decided_by` who: `model`, `rules`, or `on_fault`, which fixed it.
    `shadow_fraud_probability` is what the shadow says, where that is asked for and was there in time; it decides
    nothing. With `holdout` it is approved to learn what it is, and `would_be` is what its score calls for. `rules` are
    those that fired, where any did, and `would_be` then what was decided without them.
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
    decided_by: str
    shadow_fraud_probability: float | msgspec.UnsetType = msgspec.UNSET
    holdout: bool | msgspec.UnsetType = msgspec.UNSET
    would_be: str | msgspec.UnsetType = msgspec.UNSET
    rules: Sequence[str] | msgspec.UnsetType = msgspec.UNSET


class GivenDecision(Decision, frozen=True, gc=False, kw_only=True):
    """The answer of a front: as that of a server, and how old the profiles were; null where there were none."""

    profiles_age_ms: float | None


class Given(msgspec.Struct, frozen=True, gc=False):
    """What a front has answered to a transaction, with the features that it had for that; null where missing.

    `revision` is that of the deployment by which it decided; None where it does not say.
    """

    answer: GivenDecision
    features: list[float | None]
    revision: int | None = None


class Noted(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The answer to an outcome; `known` is false where no decision of its transaction is remembered here."""

    transaction_id: str
    is_fraud: bool
    replayed: bool
    known: bool = True


class Heard(msgspec.Struct, frozen=True, gc=False):
    """The answer to a context event; `event` is its kind."""

    event_id: str
    event: str
    replayed: bool


class Taken(msgspec.Struct, frozen=True, gc=False):
    """The answer to a transaction that is taken without waiting for what is decided.

    `status` is `success` for a new one and `ignored` for the same again. `source` says what acknowledged it: `log`, or
    `kafka` for the topic. `decision` is the path where its decision is found, or that it is pending.
    """

    status: str
    message: str
    transaction_id: str
    source: str
    decision: str


Answer: TypeAlias = Decision | Noted | Heard | Taken | SentinelError
Answers: TypeAlias = Sequence[Answer]


class Arrivals(NamedTuple):
    """Transactions, outcomes, or context events, n of them in the order of their arrival.

    `received_ns` is when each came in, `due_ns` until when it can wait for a model, both in ns of the monotonic clock.
    `given` has, by their places, what fronts have answered already.
    """

    events: Sequence[Event]
    received_ns: Sequence[int]
    due_ns: Sequence[int]
    given: Mapping[int, Given] = {}


class Late(Protocol):
    """What may be added to answers by the time they are sent."""

    def joined(self, answers: Answers) -> Answers:
        """The answers, with it if it is there."""


class Answered(NamedTuple):
    """The answers to a batch, in its order. They may be sent once every entry before `durable_from` is durable.

    `late` joins them then, if it is there.
    """

    answers: Answers
    durable_from: int
    late: Late | None = None


class Group(NamedTuple):
    """The transactions of a batch that were decided by the same decider.

    `where` are their places, `values` float64 (rows, features) their features, `scores` float64 (rows,) and `levels`
    uint8 (rows,) what was decided.
    """

    decider: Decider
    where: NDArray[np.int64] | slice
    values: NDArray[np.float64]
    scores: NDArray[np.float64]
    levels: NDArray[np.uint8]


class Batch:
    """New transactions, n of them, each with an id that no other has.

    - sift: `events`, `ids`, `hashes` uint64 (n,) of the ids, `contents` (canonical bytes), `received_ns`, `due_ns`,
      `given` by place what fronts have answered.
    - know: `features` by the id of the state they are of.
    - judge: `groups`, one for each decider.
    - rule: `ruled`, those for which rules hold.
    - hold out: `drawn`, those that could have been approved to learn what they are.
    - decide: `answers`.
    - take what was given: `exact`, what exact features call for of what fronts have answered, and `late` uint8 (n,).
    """

    __slots__ = (
        "answers", "contents", "drawn", "due_ns", "events", "exact", "features", "given", "groups", "hashes", "ids",
        "late", "latencies_us", "received_ns", "ruled",
    )  # fmt: skip

    def __init__(
        self, events: Sequence[Transaction], ids: Sequence[str], hashes: NDArray[np.uint64], contents: Sequence[bytes],
        times_ns: tuple[Sequence[int], Sequence[int]], given: Mapping[int, Given],
    ) -> None:  # fmt: skip
        self.events = events
        self.ids = ids
        self.hashes = hashes
        self.contents = contents
        self.received_ns, self.due_ns = times_ns
        self.given = given
        self.features: dict[str, Features] = {}
        self.groups: list[Group] = []
        self.ruled: list[Ruled] = []
        self.drawn: list[Drawn] = []
        self.exact: list[Exact] = []
        self.late: NDArray[np.uint8] | None = None
        self.answers: list[Decision] = []
        self.latencies_us: NDArray[np.uint32] = np.empty(0, np.uint32)

    def __len__(self) -> int:
        """How many transactions."""
        return len(self.ids)

    def entry(self, schema_id: str, revision: int, detector: str) -> Decided:
        """What the log keeps of them: the schema, the deployment in force, the detector, and all columns."""
        n = len(self.ids)
        by, scores, levels = np.zeros(n, np.uint8), np.empty(n), np.empty(n, np.uint8)
        for number, group in enumerate(self.groups):
            where = group.where
            by[where], scores[where], levels[where] = number, group.scores, group.levels
        late = self.lateness() if self.late is None else self.late
        return Decided(
            schema_id=schema_id,
            revision=revision,
            detector=detector,
            deciders=tuple(group.decider for group in self.groups),
            by=by.tobytes(),
            ids=self.ids,
            hashes=self.hashes.tobytes(),
            contents=self.contents,
            features=tuple(group.values.tobytes() for group in self.groups),
            scores=scores.tobytes(),
            levels=levels.tobytes(),
            late=late.tobytes(),
            latencies_us=self.latencies_us.tobytes(),
            drawn=self.drawn,
            ruled=self.ruled,
            exact=self.exact,
        )

    def lateness(self) -> NDArray[np.uint8]:
        """For each whether a newer transaction of one of its keys had come before, uint8 (n,)."""
        late = np.empty(len(self.ids), np.uint8)
        for group in self.groups:
            late[group.where] = self.features[group.decider.state_id].late[group.where]
        return late


def repeated(row: DecisionRow, *, same: bool) -> Decision | Conflict:
    """The stored answer to the same transaction; a conflict for another one under its id."""
    if not same:
        return _conflict(row.transaction_id)
    decider = row.decider
    is_held_out = row.drawn is not None and row.drawn.is_approved
    answer = Decision(
        transaction_id=row.transaction_id,
        decision=row.decision,
        fraud_probability=row.fraud_probability,
        threshold=decider.review if decider.challenge is None else decider.challenge,
        thresholds=Thresholds(decider.review, decider.block, decider.challenge),
        model_version=decider.model_version,
        detector=row.detector,
        features_state=features_state(row),
        batch_size=row.batch_size,
        latency_us=row.latency_us,
        replayed=True,
        degraded=decider.degraded,
        circuit_breaker_state=decider.circuit,
        variant=decider.variant,
        decided_by=decider.decided_by,
        holdout=True if is_held_out else msgspec.UNSET,
        would_be=row.drawn.would_be if row.drawn is not None and is_held_out else msgspec.UNSET,
    )
    if row.exact is not None:
        answer = _as_given(answer, row.exact.profiles_age_ms)
    return answer if row.ruled is None else with_rules(answer, row.ruled)


def features_state(row: DecisionRow) -> str:
    """What the features of a stored decision are of."""
    if row.exact is None:
        return FEATURES_STATE[row.late]
    return NO_PROFILES if row.exact.profiles_age_ms is None else AS_OF


def _as_given(answer: Decision, profiles_age_ms: float | None) -> GivenDecision:
    """The answer as a front gave it."""
    return GivenDecision(**msgspec.structs.asdict(answer), profiles_age_ms=profiles_age_ms)


def unless_other(answer: Answer, given: Given | None) -> Answer:
    """The answer to what was decided before, or a conflict where a front has given another one since."""
    if given is None or not isinstance(answer, Decision) or answer.decision == given.answer.decision:
        return answer
    return Conflict(
        f"A front has answered transaction {quoted(answer.transaction_id, 200)} with {given.answer.decision}; it was "
        f"decided before, and {answer.decision} holds"
    )


_AnyDecision = TypeVar("_AnyDecision", bound=Decision)


def with_rules(answer: _AnyDecision, ruled: Ruled) -> _AnyDecision:
    """The answer with the rules that fired."""
    if not ruled.fired:
        return answer
    would_be = ruled.would_be if ruled.acted else answer.would_be
    return msgspec.structs.replace(answer, rules=ruled.fired, would_be=would_be)


def repeated_within(first: Decision, same_content: bool) -> Decision | Conflict:
    """The answer to a transaction that occurs twice in one batch."""
    return msgspec.structs.replace(first, replayed=True) if same_content else _conflict(first.transaction_id)


def twin(transaction_id: str) -> Conflict:
    """What is said to a transaction whose id has the hash of another id: features would take one for the other."""
    return Conflict(
        f"Transaction {quoted(transaction_id, 200)} has the 64-bit hash of another transaction's id; send it with a "
        "new id"
    )


def _conflict(transaction_id: str) -> Conflict:
    return Conflict(
        f"Transaction {quoted(transaction_id, 200)} was decided before with other content; "
        "send the same content again, or a new id"
    )
