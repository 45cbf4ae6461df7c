"""The spine: take a batch, know its features, judge it, record it, answer. One thread, no locks."""

import operator
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.counting import SHED, STATE_NUMBER, count_decisions
from sentinel.errors import Conflict, InvalidInput, NotFound, SentinelError
from sentinel.events.log import Outcome
from sentinel.events.schema import Transaction
from sentinel.events.times import SECOND_US, iso
from sentinel.features.store import Features
from sentinel.lineup import Contender, Lineup
from sentinel.policy.judge import FALLBACK_ONLY, OVERLOADED, Judge, Limits, Verdict
from sentinel.policy.thresholds import Thresholds
from sentinel.review.experiment_count import ExperimentCount
from sentinel.review.feature_state import FeatureState
from sentinel.review.journal import Journal
from sentinel.review.journal_reader import DecisionRow, OutcomeRow
from sentinel.review.snapshots import Snapshots
from sentinel.telemetry.counters import Counters, Slot, Stage

FARTHEST_AHEAD_US = 86_400 * SECOND_US
SNAPSHOT_EVERY = 250_000
_NEVER_NS = 2**62


class Arrival(msgspec.Struct, gc=False):
    """A transaction or an outcome, when it came in, and by when it needs its answer (ns, monotonic clock)."""

    event: Transaction | Outcome
    received_ns: int
    due_ns: int = _NEVER_NS


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


class Engine:
    """Owns the features' state and writes the journal. Use it from one thread, except for `prepare`.

    Memory is only a cache of the journal: when a batch cannot be recorded, the states are thrown away and loaded
    anew from the newest snapshot and what the journal holds after it.
    """

    def __init__(
        self, lineup: Lineup, journal: Journal, snapshots: Snapshots, now_us: int,
        limits: Limits | None = None, counters: Counters | None = None, false_alarm_cost: float = 10.0,
        observe: Callable[[Any, Any], None] = lambda _rows, _scores: None,
    ) -> None:  # fmt: skip
        self.journal = journal
        self.snapshots = snapshots
        self.limits = limits or Limits()
        self.judge = Judge(self.limits)
        self.counters = counters or Counters()
        self.schema = lineup.champion.bundle.manifest.plan.schema
        self._observe = observe
        self.states: dict[str, FeatureState] = {}
        self.experiment = ExperimentCount(self.limits.deadline_s, false_alarm_cost)
        self._dirty = False
        self.switch(lineup, self.prepare(lineup), now_us)

    def prepare(self, lineup: Lineup) -> dict[str, FeatureState]:
        """The states that a lineup needs and the engine does not keep yet, loaded; from any thread."""
        fresh = {}
        for bundle in (one.bundle for one in lineup.contenders):
            if bundle.state_id not in self.states and bundle.state_id not in fresh:
                begun = self.journal.activation(bundle.state_id)
                state = FeatureState(bundle, self.journal.newest_seq() if begun is None else begun)
                state.load(self.journal, self.snapshots)
                fresh[bundle.state_id] = state
        return fresh

    def switch(self, lineup: Lineup, fresh: dict[str, FeatureState], now_us: int) -> None:
        """From the next batch on this lineup decides; states that no one needs any more are let go."""
        for state in fresh.values():
            state.follow(self.journal)
            if self.journal.activation(state.id) is None:
                self.journal.activate(state.id, state.begun, now_us)
        kept = {**self.states, **fresh}
        self.states = {one.bundle.state_id: kept[one.bundle.state_id] for one in lineup.contenders}
        self.schema = lineup.champion.bundle.manifest.plan.schema
        self._id_of = operator.attrgetter(self.schema.id)
        self._time_of = operator.attrgetter(self.schema.time)
        self._key_of = operator.attrgetter(self.schema.keys[0] if self.schema.keys else self.schema.id)
        self.lineup = lineup
        self.experiment.follow(lineup.experiment, self.journal, self.schema)

    def handle(self, batch: Sequence[Arrival], now_us: int) -> list[Answer]:
        """Decide every new transaction and note every new outcome, in their order; answers in that order.

        A row that cannot be accepted gets its own error. When the batch as a whole fails, nothing of it is
        stored, the states are loaded anew before the next one, and the error is raised.
        """
        if self._dirty:
            self.reload()
        sifted = self._sift(batch, now_us)
        if sifted.fresh:
            self._dirty = True
            self._take(batch, sifted, now_us)
            self._dirty = False
        for i, content in sifted.repeats:
            sifted.answers[i] = _repeat(sifted.rows[self._id_of(batch[i].event)], content)
        return [sifted.answers[i] for i in range(len(batch))]

    def reload(self) -> None:
        """The states as if nothing had ever failed."""
        for state in self.states.values():
            state.load(self.journal, self.snapshots)
        self._dirty = False

    def snapshot(self) -> None:
        """Save the states that are newer than their last snapshot, and wait for it."""
        if not self._dirty:
            for state in self.states.values():
                state.snapshot(self.snapshots, wait=True)

    def keep_up(self) -> None:
        """Between batches: a snapshot when enough has happened, and a fresh log file when it has grown large."""
        for state in () if self._dirty or self.snapshots.writing() else self.states.values():
            if state.events_since_snapshot >= SNAPSHOT_EVERY:
                state.snapshot(self.snapshots, wait=False)
        self.journal.cut_log()

    def close(self) -> None:
        """Save the states and release everything."""
        self.judge.stop()
        self.snapshot()
        self.snapshots.close()
        self.journal.close()

    def _sift(self, batch: Sequence[Arrival], now_us: int) -> "_Sifted":
        """Answer what was decided before or cannot be accepted; tell the rest from repeats within the batch."""
        outcomes = [arrival.event.transaction_id for arrival in batch if type(arrival.event) is Outcome]
        told = {}
        if outcomes:
            rows = self.journal.newest_outcomes(outcomes)
            told = {row.transaction_id: row.is_fraud for row in rows.values()}
        ids = [self._id(one.event) for one in batch] if outcomes else [self._id_of(one.event) for one in batch]
        sifted = _Sifted(self.journal.find(ids))
        for i, arrival in enumerate(batch):
            if isinstance(arrival.event, Outcome):
                self._sift_outcome(i, arrival.event, told, sifted)
            else:
                self._sift_transaction(i, arrival.event, now_us, sifted)
        return sifted

    def _sift_transaction(self, i: int, event: Transaction, now_us: int, sifted: "_Sifted") -> None:
        transaction_id, content = self._id_of(event), self.schema.encode(event)
        if transaction_id in sifted.rows:
            sifted.answers[i] = _repeat(sifted.rows[transaction_id], content)
        elif transaction_id in sifted.first:
            sifted.repeats.append((i, content))
        elif self._time_of(event) > now_us + FARTHEST_AHEAD_US:
            sifted.answers[i] = InvalidInput(
                f"Expected a time at most a day ahead of now ({iso(now_us)}), got {iso(self._time_of(event))}",
                f"$.{self.schema.time}",
            )
        else:
            sifted.first.add(transaction_id)
            sifted.fresh.append((i, content))

    def _sift_outcome(self, i: int, event: Outcome, told: dict[str, bool], sifted: "_Sifted") -> None:
        if told.get(event.transaction_id) == event.is_fraud:
            sifted.answers[i] = Noted(event.transaction_id, event.is_fraud, replayed=True)
            return
        if event.transaction_id in told:
            sifted.corrections.add(event.transaction_id)
        told[event.transaction_id] = event.is_fraud
        sifted.fresh.append((i, b""))

    def _take(self, batch: Sequence[Arrival], sifted: "_Sifted", now_us: int) -> None:
        """Know, judge, record, answer."""
        begun_ns = time.monotonic_ns()
        arrivals = [batch[i] for i, _ in sifted.fresh]
        events = [arrival.event for arrival in arrivals]
        known = {name: state.advance(events) for name, state in self.states.items()}
        features = known[self.lineup.champion.bundle.state_id]
        known_ns = time.monotonic_ns()
        seqs = self._number(events, sifted, features.known, now_us)
        paid = [n for n, event in enumerate(events) if not isinstance(event, Outcome)]
        rows = self._judge(
            [arrivals[n] for n in paid], [sifted.fresh[n][1] for n in paid], [seqs[n] for n in paid], known, now_us
        )
        judged_ns = time.monotonic_ns()
        learned = [row for row in sifted.learned if row is not None]
        self.journal.append(rows, learned)
        for n, row in zip(paid, rows, strict=True):
            sifted.rows[row.transaction_id] = row
            sifted.answers[sifted.fresh[n][0]] = _answer(row, replayed=False)
        for state in self.states.values():
            state.seq = self.journal.last_seq
        self._count(arrivals, rows, learned, sifted, (begun_ns, known_ns, judged_ns, time.monotonic_ns()))

    def _number(
        self, events: Sequence[Transaction | Outcome], sifted: "_Sifted", remembered: NDArray[np.uint8], now_us: int
    ) -> list[int]:
        """The number of every event, and answers to the outcomes: those of unknown transactions get no number."""
        seq, seqs = self.journal.last_seq, []
        for n, event in enumerate(events):
            if not isinstance(event, Outcome):
                seq += 1
            elif remembered[n] or event.transaction_id in sifted.rows or event.transaction_id in sifted.first:
                seq += 1
                sifted.learned.append(OutcomeRow(seq, event.transaction_id, event.is_fraud, event.time_us, now_us))
                sifted.answers[sifted.fresh[n][0]] = Noted(event.transaction_id, event.is_fraud, replayed=False)
            else:
                sifted.answers[sifted.fresh[n][0]] = NotFound(
                    f"No transaction {event.transaction_id!r} was decided here; outcomes of older transactions "
                    "belong into the history file of the next training"
                )
            seqs.append(seq)
        return seqs

    def _judge(
        self, arrivals: Sequence[Arrival], contents: Sequence[bytes], seqs: Sequence[int],
        known: dict[str, Features], now_us: int,
    ) -> list[DecisionRow]:  # fmt: skip
        """A row of the journal for each of these transactions."""
        if not arrivals:
            return []
        variants = [self.lineup.variant(self._key_of(one.event) or "") for one in arrivals]
        rows: list[DecisionRow | None] = [None] * len(arrivals)
        for variant in sorted(set(variants)):
            contender = self.lineup.contender(variant)
            where = [n for n, one in enumerate(variants) if one == variant]
            features = known[contender.bundle.state_id]
            for at, scores, verdict in self._verdicts(contender, features.rows, where, arrivals):
                self._fill(rows, at, scores, verdict, contender, variant, features, arrivals, contents, seqs, now_us)
        return [row for row in rows if row is not None]

    def _verdicts(
        self, contender: Contender, values: NDArray[np.float64], where: list[int], arrivals: Sequence[Arrival]
    ) -> Iterable[tuple[list[int], list[float], Verdict]]:
        """The rows at `where` in one or two parts: what the model says, and what the fallback must."""
        if self.lineup.fallback_only:
            yield where, [], Verdict(None, FALLBACK_ONLY, self.judge.circuit)
            return
        now_ns = time.monotonic_ns()
        late = [n for n in where if arrivals[n].due_ns < now_ns]
        if late:
            where = [n for n in where if arrivals[n].due_ns >= now_ns]
            yield late, [], Verdict(None, OVERLOADED, self.judge.circuit)
        if where:
            verdict = self.judge.ask(contender.scorer, values if len(where) == len(values) else values[where])
            if verdict.scores is not None and contender is self.lineup.champion:
                self._observe(values if len(where) == len(values) else values[where], verdict.scores)
            yield where, [] if verdict.scores is None else verdict.scores.tolist(), verdict

    def _fill(
        self, rows: list[DecisionRow | None], where: list[int], scores: list[float], verdict: Verdict,
        contender: Contender, variant: str, features: Features, arrivals: Sequence[Arrival],
        contents: Sequence[bytes], seqs: Sequence[int], now_us: int,
    ) -> None:  # fmt: skip
        manifest, thresholds = contender.bundle.manifest, contender.thresholds
        if verdict.scores is None:
            thresholds = contender.fallback.thresholds
            scores = contender.fallback.score(features.rows[where]).tolist()
        experiment = self.lineup.experiment.id if self.lineup.experiment else None
        width = 8 * features.rows.shape[1]
        blob, late = np.ascontiguousarray(features.rows).tobytes(), features.late
        if verdict.degraded in SHED:
            self.counters.add(SHED[verdict.degraded], len(where))
        decided_ns, action = time.monotonic_ns(), thresholds.action
        for n, score in zip(where, scores, strict=True):
            arrival = arrivals[n]
            rows[n] = DecisionRow(
                seqs[n],
                self._id_of(arrival.event),
                contents[n],
                blob[n * width : (n + 1) * width],
                score,
                action(score),
                thresholds.review,
                thresholds.block,
                manifest.version,
                manifest.detector,
                bool(late[n]),
                variant if experiment else None,
                experiment,
                verdict.circuit,
                verdict.degraded,
                len(where),
                (decided_ns - arrival.received_ns) // 1000,
                now_us,
            )

    def _count(
        self, arrivals: Sequence[Arrival], rows: Sequence[DecisionRow], learned: Sequence[OutcomeRow],
        sifted: "_Sifted", times_ns: tuple[int, int, int, int],
    ) -> None:  # fmt: skip
        """Tell the experiment and the metrics what has happened."""
        if self.lineup.experiment is not None:
            first = [one for one in learned if one.transaction_id not in sifted.corrections]
            self.experiment.note(rows, first, sifted.rows)
        begun, known, judged, stored = times_ns
        count = self.counters
        count.observe(Stage.FEATURES, (known - begun) // 1000)
        count.observe(Stage.MODEL, (judged - known) // 1000)
        count.observe(Stage.COMMIT, (stored - judged) // 1000)
        count.add(Slot.JOURNAL_COMMITS)
        count.set(Slot.BREAKER_STATE, STATE_NUMBER[self.judge.circuit])
        if rows:
            count.observe_batch(len(rows))
            count.observe_many(Stage.QUEUE, np.array([begun - one.received_ns for one in arrivals]) // 1000)
            count.observe_many(Stage.TOTAL, np.array([row.latency_us for row in rows]))
            count_decisions(count, [row.decision for row in rows], [row.variant for row in rows])

    def _id(self, event: Transaction | Outcome) -> str:
        return event.transaction_id if isinstance(event, Outcome) else self._id_of(event)


class _Sifted:
    """A batch on its way: stored rows by id, answers by place, what is new and what repeats something new."""

    def __init__(self, rows: dict[str, DecisionRow]) -> None:
        self.rows = rows
        self.answers: dict[int, Answer] = {}
        self.first: set[str] = set()
        self.fresh: list[tuple[int, bytes]] = []
        self.repeats: list[tuple[int, bytes]] = []
        self.learned: list[OutcomeRow] = []
        self.corrections: set[str] = set()


def _repeat(row: DecisionRow, content: bytes) -> Decision | Conflict:
    """The stored answer to the same transaction; a conflict for another one under its id."""
    if row.content != content:
        return Conflict(
            f"Transaction {row.transaction_id!r} was decided before with other content; "
            "send the same content again, or a new id"
        )
    return _answer(row, replayed=True)


def _answer(row: DecisionRow, *, replayed: bool) -> Decision:
    return Decision(
        row.transaction_id,
        row.decision,
        row.fraud_probability,
        row.review_threshold,
        Thresholds(row.review_threshold, row.block_threshold),
        row.model_version,
        row.detector,
        "late" if row.late else "fresh",
        row.batch_size,
        row.latency_us,
        replayed,
        row.degraded,
        row.circuit,
        row.variant,
    )
