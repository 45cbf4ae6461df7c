"""The entries: what the log's records hold of decisions, outcomes, context events and rows of tables, and how."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import StorageProblem
from sentinel.events.columns import OPERATOR, Outcome
from sentinel.events.reference_tables.versions import Row
from sentinel.events.schema import Schema
from sentinel.policy.holdout import Spent
from sentinel.policy.thresholds import ACTIONS
from sentinel.record.log import Kind, Record
from sentinel.record.reasons import Reasons, reasons_in
from sentinel.record.results import Results, results_in

_OUTCOME_SALT, _CONTEXT_SALT = np.uint64(0x6F7574636F6D6573), np.uint64(0x636F6E7465787473)
_REASON_SALT, _RESULT_SALT = np.uint64(0x726561736F6E7321), np.uint64(0x726573756C747321)
_ODD = np.uint64(0x9E3779B97F4A7C15)
NO_DECISION = -1
"""What an outcome is about whose transaction was not decided here."""

_WORDS = tuple(map(str, ACTIONS))  # plain texts: they are compared and written more quickly than an enumeration's
_encode = msgspec.msgpack.Encoder().encode
_OfPlace = TypeVar("_OfPlace", "Ruled", "Exact")


class Decider(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What decided: a model with its thresholds, or what stands in for it with others (`degraded` is the reason).

    `review`, `block` and `challenge` are its thresholds (None: never blocked, never challenged); what was written
    before there was a challenge has none.
    `features` is how many features a row has, `circuit` the state of the circuit breaker,
    `is_fixed` whether the detector's `on_fault` fixed the action, and no rule was asked.
    """

    model_version: str
    state_id: str
    features: int
    review: float
    block: float | None
    circuit: str
    degraded: str | None = None
    variant: str | None = None
    experiment: str | None = None
    is_fixed: bool = False
    challenge: float | None = None

    @property
    def decided_by(self) -> str:
        """`model`, `rules`, or `on_fault`."""
        return "model" if self.degraded is None else "on_fault" if self.is_fixed else "rules"


class Drawn(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A transaction that an approval holdout could have approved: its place among those it was decided with.

    `level` is the action that the model's score calls for, `propensity` the probability with which it was approved
    instead, and `is_approved` whether it was.
    """

    place: int
    level: int
    propensity: float
    is_approved: bool

    @property
    def would_be(self) -> str:
        """The action that the model's score calls for."""
        return _WORDS[self.level]


class Ruled(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A transaction for which rules hold: its place among those it was decided with, and their names.

    `level` is the action that was decided without them. Those of `fired` are on, those of `shadow` decide nothing;
    `acted` is whether one of them may decide.
    """

    place: int
    level: int
    fired: tuple[str, ...]
    shadow: tuple[str, ...]
    acted: bool

    @property
    def would_be(self) -> str:
        """The action that was decided without rules."""
        return _WORDS[self.level]


class Exact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What exact features call for of a transaction that a front has answered: the columns have what that gave.

    `place` is among those that it was recorded with, `by` which of the deciders these features were judged by.
    `features` are they (float64), `score` and `level` what they call for. `profiles_age_ms` is how old the front's
    profiles were, None where it had none, and `revision` that of the deployment by which it decided.
    """

    place: int
    by: int
    features: bytes
    score: float
    level: int
    profiles_age_ms: float | None
    revision: int


class Decided(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Transactions that were decided together, n of them, by columns. Numbers are little endian.

    - `schema_id`: fingerprint of the schema that `contents` follow.  `revision`: of the deployment in force.
    - `deciders`, `by` uint8 (n,): who decided each of them.
    - `ids`, `hashes` uint64 (n,): the transaction ids and their hashes.
    - `contents`: the canonical JSON of each transaction.
    - `features`: by decider, float64 (rows, features) of its transactions in their order, NaN where missing.
    - `scores` float64 (n,), `levels` uint8 (n,): the fraud probability, and the place of the action among `ACTIONS`.
    - `late` uint8 (n,): 1 where a newer transaction of one of its keys had come before.
    - `latencies_us` uint32 (n,): from the arrival until it was decided.
    - `drawn`: those that an approval holdout could have approved; what was written before there was one has none.
    - `ruled`: those for which rules of the book in force hold; what was written before there was one has none.
    - `exact`: those that a front has answered, in the order of their places; what was written before has none.
    """

    schema_id: str
    revision: int
    detector: str
    deciders: tuple[Decider, ...]
    by: bytes
    ids: Sequence[str]
    hashes: bytes
    contents: Sequence[bytes]
    features: tuple[bytes, ...]
    scores: bytes
    levels: bytes
    late: bytes
    latencies_us: bytes
    drawn: Sequence[Drawn] = ()
    ruled: Sequence[Ruled] = ()
    exact: Sequence[Exact] = ()


def schema_id(schema: Schema) -> str:
    """The fingerprint of a schema, 16 hexadecimal digits.

    >>> schema_id(Schema(keys=("card",))) == schema_id(Schema(keys=("card",))) != schema_id(Schema())
    True
    """
    return hashlib.sha256(msgspec.json.encode(schema, order="deterministic")).hexdigest()[:16]


class ExactRow(NamedTuple):
    """What exact features call for, where a front has decided by others; see `Exact`.

    `revision` is that of the deployment by which this was judged.
    """

    features: NDArray[np.float64]
    fraud_probability: float
    decision: str
    decider: Decider
    profiles_age_ms: float | None
    revision: int


class DecisionRow(NamedTuple):
    """One stored decision; `revision` is that of the deployment by which it was made.

    Of a transaction that a front has answered it is that answer, with the features that the front had.
    """

    position: int
    transaction_id: str
    content: bytes
    features: NDArray[np.float64]
    fraud_probability: float
    decision: str
    late: bool
    decider: Decider
    detector: str
    batch_size: int
    latency_us: int
    received_us: int
    drawn: Drawn | None = None
    ruled: Ruled | None = None
    revision: int = 0
    exact: ExactRow | None = None

    @property
    def exact_features(self) -> NDArray[np.float64]:
        """The features as the state had them; see `exact_decider`."""
        return self.features if self.exact is None else self.exact.features

    @property
    def exact_decider(self) -> Decider:
        """Whose features these are."""
        return self.decider if self.exact is None else self.exact.decider


class Outcomes(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Outcomes that were recorded together, n of them: uint8 `is_fraud`, int64 `times_us` and `about` (n,).

    `about` has the position of the decision that each is about, NO_DECISION where there is none (the kind UNMATCHED);
    the rest is as in `Outcome`. Entries without sources were written before there were any: they are the operator's.
    `kept` is how many of the kind UNMATCHED the log had of this teller, with these.
    """

    ids: Sequence[str]
    hashes: bytes
    is_fraud: bytes
    times_us: bytes
    about: bytes
    sources: Sequence[str] = ()
    told_by: Sequence[str] = ()
    reasons: Sequence[str] = ()
    kept: int = 0


class OutcomeRow(NamedTuple):
    """One stored outcome; `about` is the position of the decision, or NO_DECISION.

    `revoked_at` is the position of the entry that took it back, None while it counts; the record itself does not know.
    """

    position: int
    transaction_id: str
    is_fraud: bool
    time_us: int
    about: int
    received_us: int
    source: str = OPERATOR
    told_by: str = OPERATOR
    reason: str = ""
    revoked_at: int | None = None


class Revocation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which outcomes are taken back, and why: those of one API key, received in [from_us, to_us), before a position."""

    told_by: str
    reason: str
    from_us: int
    to_us: int
    before: int

    def covers(self, row: OutcomeRow) -> bool:
        """Whether it takes this outcome back."""
        return (
            row.told_by == self.told_by and row.position < self.before and self.from_us <= row.received_us < self.to_us
        )


class Standing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a source says about a transaction."""

    source: str
    is_fraud: bool
    time_us: int


class Revoked(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """n transactions some of whose outcomes count no longer, and what counts now; int64 `about` (n,) as in `Outcomes`.

    `sources` are those of what is taken back of each transaction. `standing` has for each the newest outcome of every
    source that still says something, oldest first: the last one counts, or, for features, the last one of a source that
    they trust. Where there is none it is legitimate.
    """

    revocation: Revocation
    ids: Sequence[str]
    hashes: bytes
    about: bytes
    sources: Sequence[tuple[str, ...]]
    standing: Sequence[tuple[Standing, ...]]


class RevokedRow(NamedTuple):
    """One transaction of a revocation; `about` is the position of its decision."""

    position: int
    transaction_id: str
    about: int
    revocation: Revocation
    standing: tuple[Standing, ...]


class ContextEvents(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Context events that were recorded together, n of them, by columns.

    - `schema_id`: fingerprint of the schema that `contents` follow.
    - `ids`, `hashes` uint64 (n,): the events' ids and their hashes.
    - `contents`: the canonical JSON of each event, with the name of its kind.
    - `told_by`: the name of the API key that each came with.
    """

    schema_id: str
    ids: Sequence[str]
    hashes: bytes
    contents: Sequence[bytes]
    told_by: Sequence[str]


class ContextRow(NamedTuple):
    """One stored context event."""

    position: int
    event_id: str
    content: bytes
    told_by: str
    received_us: int


class TableRows(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Rows of one table that were recorded together, n of them, by columns.

    - `table`, `kind`: the name of the table, and how its rows are found (see `LookupTable.kind`).
    - `keys`: the text that each is found by, or its range.  `valid_from_us` int64 (n,): since when each holds.
    - `values`: the JSON of the columns of each; empty where it is removed.
    - `told_by`: the name of the API key that they came with.
    """

    table: str
    kind: str
    keys: Sequence[str]
    valid_from_us: bytes
    values: Sequence[bytes]
    told_by: str

    @classmethod
    def of(cls, table: str, kind: str, rows: Sequence[Row], told_by: str) -> "TableRows":
        """The entry of these rows."""
        moments = np.array([row.valid_from_us for row in rows], "<i8").tobytes()
        keys, values = [row.key for row in rows], [row.values for row in rows]
        return cls(table=table, kind=kind, keys=keys, valid_from_us=moments, values=values, told_by=told_by)

    @property
    def rows(self) -> list[Row]:
        """The rows one by one."""
        moments = np.frombuffer(self.valid_from_us, "<i8").tolist()
        return list(map(Row, self.keys, moments, self.values))


class Activation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """From now on a feature state is kept: what its history holds, and every entry from `begin` on."""

    state_id: str
    begin: int


class Erased(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is personal of a subject was erased: the field that names it, and what is stored of that."""

    key: str
    value: str


_decided = msgspec.msgpack.Decoder(Decided).decode
_outcomes = msgspec.msgpack.Decoder(Outcomes).decode
_activation = msgspec.msgpack.Decoder(Activation).decode
_revoked = msgspec.msgpack.Decoder(Revoked).decode
_context = msgspec.msgpack.Decoder(ContextEvents).decode
_table = msgspec.msgpack.Decoder(TableRows).decode
_spent = msgspec.msgpack.Decoder(Spent).decode


def body_of(
    entries: Decided | Outcomes | ContextEvents | TableRows | Activation | Revoked | Erased | Reasons | Spent | Results,
) -> bytes:
    """The bytes that the log keeps."""
    return _encode(entries)


def decided_in(record: Record) -> Decided:
    """The decisions in a record of the kind DECIDED. Raises StorageProblem when they cannot be read."""
    return _read(_decided, record)  # type: ignore[no-any-return]


def outcomes_in(record: Record) -> Outcomes:
    """The outcomes in a record of the kind OUTCOMES, or UNMATCHED. Raises StorageProblem when they cannot be read."""
    return _read(_outcomes, record)  # type: ignore[no-any-return]


def activation_in(record: Record) -> Activation:
    """What a record of the kind ACTIVATION says. Raises StorageProblem when it cannot be read."""
    return _read(_activation, record)  # type: ignore[no-any-return]


def revoked_in(record: Record) -> Revoked:
    """What a record of the kind REVOKED says. Raises StorageProblem when it cannot be read."""
    return _read(_revoked, record)  # type: ignore[no-any-return]


def context_in(record: Record) -> ContextEvents:
    """The events in a record of the kind CONTEXT. Raises StorageProblem when they cannot be read."""
    return _read(_context, record)  # type: ignore[no-any-return]


def table_in(record: Record) -> TableRows:
    """The rows in a record of the kind TABLE. Raises StorageProblem when they cannot be read."""
    return _read(_table, record)  # type: ignore[no-any-return]


def spent_in(record: Record) -> Spent:
    """What a record of the kind HELD_OUT says. Raises StorageProblem when it cannot be read."""
    return _read(_spent, record)  # type: ignore[no-any-return]


def _read(decode: Any, record: Record) -> Any:
    try:
        return decode(record.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageProblem(
            f"the entries at position {record.position} of the log are whole but of a format that this version of "
            f"Sentinel does not read ({error}); run the version that wrote them"
        ) from error


def decision_rows(record: Record, decided: Decided | None = None) -> list[DecisionRow]:
    """The decisions of a record, one by one."""
    found = decided_in(record) if decided is None else decided
    return [decision_row(record, found, n) for n in range(record.rows)]


def decision_row(record: Record, decided: Decided, n: int) -> DecisionRow:
    """Decision n of a record."""
    which = decided.by[n]
    decider = decided.deciders[which]
    row = decided.by[:n].count(which)  # among those of the same decider
    features = np.frombuffer(decided.features[which], "<f8", decider.features, 8 * row * decider.features)
    exact = _at_place(decided.exact, n)
    return DecisionRow(
        position=record.position + n,
        transaction_id=decided.ids[n],
        content=decided.contents[n],
        features=features,
        fraud_probability=float(np.frombuffer(decided.scores, "<f8", 1, 8 * n)[0]),
        decision=_WORDS[decided.levels[n]],
        late=bool(decided.late[n]),
        decider=decider,
        detector=decided.detector,
        batch_size=record.rows,
        latency_us=int(np.frombuffer(decided.latencies_us, "<u4", 1, 4 * n)[0]),
        received_us=record.received_us,
        drawn=next((one for one in decided.drawn if one.place == n), None),
        ruled=_at_place(decided.ruled, n),
        revision=decided.revision if exact is None else exact.revision,
        exact=None if exact is None else _exact_row(decided, exact),
    )


def _exact_row(decided: Decided, exact: Exact) -> ExactRow:
    return ExactRow(
        np.frombuffer(exact.features, "<f8"), exact.score, _WORDS[exact.level], decided.deciders[exact.by],
        exact.profiles_age_ms, decided.revision,
    )  # fmt: skip


def _at_place(those: Sequence[_OfPlace], place: int) -> _OfPlace | None:
    """They are in the order of their places."""
    at = bisect_left(those, place, key=lambda one: one.place)
    return those[at] if at < len(those) and those[at].place == place else None


def with_exact(decided: Decided) -> Decided:
    """The same with what exact features call for in the place of what fronts gave, without the rules that held there.

    Whoever learns from features, or compares them with those of training, looks at these.
    """
    if not decided.exact:
        return decided
    exact = {one.place: one for one in decided.exact}
    rows: list[list[bytes]] = [[] for _ in decided.deciders]
    by, taken = bytearray(decided.by), [0] * len(decided.deciders)
    for place, which in enumerate(decided.by):
        begin, width = taken[which], 8 * decided.deciders[which].features
        taken[which] += width
        if place in exact:
            by[place] = which = exact[place].by
            rows[which].append(exact[place].features)
        else:
            rows[which].append(decided.features[which][begin : begin + width])
    scores, levels = (np.frombuffer(*one).copy() for one in ((decided.scores, "<f8"), (decided.levels, np.uint8)))
    scores[[*exact]] = [one.score for one in decided.exact]
    levels[[*exact]] = [one.level for one in decided.exact]
    return msgspec.structs.replace(
        decided, by=bytes(by), features=tuple(map(b"".join, rows)), scores=scores.tobytes(), levels=levels.tobytes(),
        ruled=[one for one in decided.ruled if one.place not in exact], exact=(),
    )  # fmt: skip


def own_levels(decided: Decided) -> NDArray[np.uint8]:
    """What was decided, or would have been where a rule could decide (n,)."""
    levels = np.frombuffer(decided.levels, np.uint8)
    acted = [one for one in decided.ruled if one.acted]
    if not acted:
        return levels
    levels = levels.copy()
    levels[[one.place for one in acted]] = [one.level for one in acted]
    return levels


def outcome_rows(record: Record) -> list[OutcomeRow]:
    """The outcomes of a record, one by one."""
    found = outcomes_in(record)
    return [outcome_row(record, found, n) for n in range(record.rows)]


def outcome_row(record: Record, outcomes: Outcomes, n: int) -> OutcomeRow:
    """Outcome n of a record."""
    return OutcomeRow(
        position=record.position + n,
        transaction_id=outcomes.ids[n],
        is_fraud=bool(outcomes.is_fraud[n]),
        time_us=int(np.frombuffer(outcomes.times_us, "<i8", 1, 8 * n)[0]),
        about=int(np.frombuffer(outcomes.about, "<i8", 1, 8 * n)[0]),
        received_us=record.received_us,
        source=outcomes.sources[n] if outcomes.sources else OPERATOR,
        told_by=outcomes.told_by[n] if outcomes.told_by else OPERATOR,
        reason=outcomes.reasons[n] if outcomes.reasons else "",
    )


def context_row(record: Record, events: ContextEvents, n: int) -> ContextRow:
    """Context event n of a record."""
    return ContextRow(record.position + n, events.ids[n], events.contents[n], events.told_by[n], record.received_us)


def context_rows(record: Record) -> list[ContextRow]:
    """The context events of a record, one by one."""
    found = context_in(record)
    return [context_row(record, found, n) for n in range(record.rows)]


def revoked_rows(record: Record) -> list[RevokedRow]:
    """The transactions of a record of the kind REVOKED, one by one."""
    found = revoked_in(record)
    about = np.frombuffer(found.about, "<i8").tolist()
    return [
        RevokedRow(record.position + n, found.ids[n], about[n], found.revocation, found.standing[n])
        for n in range(record.rows)
    ]


def outcome_events(record: Record) -> list[Outcome]:
    """The outcomes of a record as events, in their order."""
    return [
        Outcome(row.transaction_id, row.is_fraud, row.time_us, row.source, row.told_by, row.reason)
        for row in outcome_rows(record)
    ]


def index_keys(record: Record) -> NDArray[np.uint64]:
    """What the entries of a record are found by (n,): the hash of the id; but for decisions, another one for each kind.

    What is revoked is found as the outcomes are.
    """
    if record.kind == Kind.DECIDED:
        return np.frombuffer(decided_in(record).hashes, "<u8")
    if record.kind in (Kind.OUTCOMES, Kind.UNMATCHED):
        return outcome_keys(np.frombuffer(outcomes_in(record).hashes, "<u8"))
    if record.kind == Kind.REVOKED:
        return outcome_keys(np.frombuffer(revoked_in(record).hashes, "<u8"))
    if record.kind == Kind.CONTEXT:
        return context_keys(np.frombuffer(context_in(record).hashes, "<u8"))
    if record.kind == Kind.REASONS:
        return reason_keys(np.frombuffer(reasons_in(record).hashes, "<u8"))
    if record.kind == Kind.RESULTS:
        return result_keys(np.frombuffer(results_in(record).hashes, "<u8"))
    return np.empty(0, np.uint64)


def outcome_keys(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What outcomes are found by, (n,), from the hashes of the ids of their transactions (n,)."""
    return _spread(hashes, _OUTCOME_SALT)


def context_keys(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What context events are found by, (n,), from the hashes of their ids (n,): a transaction may have the same id."""
    return _spread(hashes, _CONTEXT_SALT)


def reason_keys(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What reasons are found by, (n,), from the hashes of the ids of their transactions (n,)."""
    return _spread(hashes, _REASON_SALT)


def result_keys(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What results are found by, (n,), from the hashes of the ids of their transactions (n,)."""
    return _spread(hashes, _RESULT_SALT)


def _spread(hashes: NDArray[np.uint64], salt: np.uint64) -> NDArray[np.uint64]:
    spread = (hashes ^ salt) * _ODD
    keys: NDArray[np.uint64] = spread ^ (spread >> np.uint64(29))
    keys[keys == 0] = 1
    return keys


def batches_of(records: Sequence[Record]) -> Iterator[tuple[Record, Decided]]:
    """The decided batches among some records."""
    for record in records:
        if record.kind == Kind.DECIDED:
            yield record, decided_in(record)
