"""The spine: take a batch, know its features, judge it, record it, answer. One thread, no locks."""

import operator
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import Conflict, InvalidInput, JournalProblem, NotFound, SentinelError
from sentinel.events.log import EventLog, concatenate, log_of_outcomes, log_of_transactions
from sentinel.events.schema import Transaction
from sentinel.events.times import SECOND_US, iso
from sentinel.features.store import Features, MemoryStore
from sentinel.model.bundle import Bundle
from sentinel.policy.thresholds import Thresholds
from sentinel.review.journal import DecisionRow, Journal, OutcomeRow
from sentinel.review.snapshots import Snapshots

FARTHEST_AHEAD_US = 86_400 * SECOND_US
SNAPSHOT_EVERY = 250_000


class Outcome(msgspec.Struct, frozen=True):
    """The truth about a transaction, as it became known at `time_us`."""

    transaction_id: str
    is_fraud: bool
    time_us: int


class Arrival(msgspec.Struct):
    """A transaction or an outcome, and when it came in (nanoseconds of the monotonic clock)."""

    event: Transaction | Outcome
    received_ns: int


class Decision(msgspec.Struct, frozen=True):
    """The answer to a transaction. `latency_us` runs from its arrival until it was decided."""

    transaction_id: str
    decision: str
    fraud_probability: float
    thresholds: Thresholds
    model_version: str
    detector: str
    features_state: str
    batch_size: int
    latency_us: int
    replayed: bool
    degraded: str | None


class Noted(msgspec.Struct, frozen=True):
    """The answer to an outcome."""

    transaction_id: str
    is_fraud: bool
    replayed: bool


Answer: TypeAlias = Decision | Noted | SentinelError


class Engine:
    """Owns the state of one model's features and writes the journal. Use it from one thread.

    Memory is only a cache of the journal: when a batch cannot be scored or recorded, the state is thrown away
    and rebuilt from the newest snapshot and what the journal holds after it.
    """

    def __init__(self, bundle: Bundle, journal: Journal, snapshots: Snapshots, now_us: int) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.journal = journal
        self.snapshots = snapshots
        self.schema = manifest.plan.schema
        self.thresholds = msgspec.convert(manifest.thresholds, Thresholds)
        self.store: MemoryStore | None = None
        self._id_of = operator.attrgetter(self.schema.id)
        self._time_of = operator.attrgetter(self.schema.time)
        self._to_log = log_of_transactions(self.schema)
        begun = journal.activation(manifest.version)
        self._begun = journal.activate(manifest.version, now_us) if begun is None else begun
        self._snapshot_seq = 0
        self.rebuild()

    def handle(self, batch: Sequence[Arrival], now_us: int) -> list[Answer]:
        """Decide every new transaction and note every new outcome, in their order; answers in that order.

        A row that cannot be accepted gets its own error. When the batch as a whole fails, nothing of it is
        stored, the state is rebuilt, and the error is raised.
        """
        store = self.store or self.rebuild()
        sifted = self._sift(batch, now_us)
        if sifted.fresh:
            try:
                self._take(store, batch, sifted, now_us)
            except Exception:
                self.store = None
                raise
        for i, content in sifted.repeats:
            sifted.answers[i] = _repeat(sifted.rows[self._id_of(batch[i].event)], content)
        return [sifted.answers[i] for i in range(len(batch))]

    def rebuild(self) -> MemoryStore:
        """The state as if nothing had ever failed: newest snapshot, else training history, then the journal."""
        manifest = self.bundle.manifest
        store = MemoryStore(manifest.plan)
        seq = self.snapshots.newest(manifest.version, manifest.plan_sha256, self.journal.last_seq, store)
        if seq is None:
            store, seq = self.bundle.new_store(), 0
        for page in self.journal.events_after(seq):
            events = [self._restore(row) for row in page if not self._in_history(row)]
            if events:
                store.advance(self._log_of(events))
        self.store, self._snapshot_seq = store, seq
        return store

    def snapshot(self) -> None:
        """Save the state, if it is newer than the last snapshot, and wait for it."""
        if self.store is not None and self.journal.last_seq > self._snapshot_seq:
            manifest, seq = self.bundle.manifest, self.journal.last_seq
            self.snapshots.save(manifest.version, seq, manifest.plan_sha256, self.store.snapshot())
            self._snapshot_seq = seq

    def keep_up(self) -> None:
        """Between batches: a snapshot when enough has happened, and a fresh log file when it has grown large."""
        seq, manifest = self.journal.last_seq, self.bundle.manifest
        due = self.store is not None and seq - self._snapshot_seq >= SNAPSHOT_EVERY
        if due and not self.snapshots.writing() and self.store is not None:
            self.snapshots.save_soon(manifest.version, seq, manifest.plan_sha256, self.store.snapshot())
            self._snapshot_seq = seq
        self.journal.cut_log()

    def _sift(self, batch: Sequence[Arrival], now_us: int) -> "_Sifted":
        """Answer what was decided before or cannot be accepted; tell the rest from repeats within the batch."""
        outcomes = [arrival.event for arrival in batch if isinstance(arrival.event, Outcome)]
        told = {}
        if outcomes:
            rows = self.journal.newest_outcomes([event.transaction_id for event in outcomes])
            told = {row.transaction_id: row.is_fraud for row in rows.values()}
        sifted = _Sifted(self.journal.find([self._id(arrival.event) for arrival in batch]))
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
        told[event.transaction_id] = event.is_fraud
        sifted.fresh.append((i, b""))

    def _take(self, store: MemoryStore, batch: Sequence[Arrival], sifted: "_Sifted", now_us: int) -> None:
        """Know, judge, record, answer."""
        arrivals = [batch[i] for i, _ in sifted.fresh]
        features = store.advance(self._log_of([arrival.event for arrival in arrivals]))
        scores = self.bundle.scorer.score(features.rows) if len(features.rows) else np.zeros(0, np.float32)
        decided_ns = time.monotonic_ns()
        taken: list[DecisionRow] = []
        learned: list[OutcomeRow] = []
        seq = self.journal.last_seq
        for n, (i, content) in enumerate(sifted.fresh):
            arrival = arrivals[n]
            if isinstance(arrival.event, Outcome):
                answer = self._outcome_row(arrival.event, seq + 1, bool(features.known[n]), sifted, now_us)
                sifted.answers[i] = answer if isinstance(answer, NotFound) else _noted(answer)
                learned += [] if isinstance(answer, NotFound) else [answer]
                seq += not isinstance(answer, NotFound)
                continue
            seq += 1
            latency_us = (decided_ns - arrival.received_ns) // 1000
            row = self._row(arrival.event, content, seq, features, scores, len(taken), latency_us, now_us)
            taken.append(row)
            sifted.rows[row.transaction_id] = row
            sifted.answers[i] = _answer(row, replayed=False)
        self.journal.append(taken, learned)

    def _row(
        self, event: Transaction, content: bytes, seq: int, features: Features, scores: NDArray[np.float32],
        n: int, latency_us: int, now_us: int,
    ) -> DecisionRow:  # fmt: skip
        manifest, score = self.bundle.manifest, float(scores[n])
        return DecisionRow(
            seq=seq,
            transaction_id=self._id_of(event),
            content=content,
            features=features.rows[n].tobytes(),
            fraud_probability=score,
            decision=self.thresholds.action(score),
            review_threshold=self.thresholds.review,
            block_threshold=self.thresholds.block,
            model_version=manifest.version,
            detector=manifest.detector,
            late=bool(features.late[n]),
            degraded=None,
            batch_size=len(scores),
            latency_us=latency_us,
            decided_at_us=now_us,
        )

    def _outcome_row(
        self, event: Outcome, seq: int, remembered: bool, sifted: "_Sifted", now_us: int
    ) -> OutcomeRow | NotFound:
        if not remembered and event.transaction_id not in sifted.rows:
            return NotFound(
                f"No transaction {event.transaction_id!r} was decided here; outcomes of older transactions "
                "belong into the history file of the next training"
            )
        return OutcomeRow(seq, event.transaction_id, event.is_fraud, event.time_us, now_us)

    def _id(self, event: Transaction | Outcome) -> str:
        return event.transaction_id if isinstance(event, Outcome) else self._id_of(event)

    def _log_of(self, events: Sequence[Transaction | Outcome]) -> EventLog:
        """The events as columns, in their order."""
        parts = []
        for is_outcome, run in groupby(events, key=lambda event: isinstance(event, Outcome)):
            if is_outcome:
                parts.append(log_of_outcomes(self.schema, _outcomes(run)))
            else:
                parts.append(self._to_log([event for event in run if isinstance(event, Transaction)]))
        return parts[0] if len(parts) == 1 else concatenate(parts)

    def _restore(self, row: DecisionRow | OutcomeRow) -> Transaction | Outcome:
        if isinstance(row, OutcomeRow):
            return Outcome(row.transaction_id, row.is_fraud, row.time_us)
        try:
            return self.schema.restore(row.content)
        except msgspec.MsgspecError as error:
            raise JournalProblem(
                f"transaction {row.transaction_id!r} in the journal does not fit the schema of model "
                f"{self.bundle.manifest.version} ({error}); serve a model with the old schema, or a fresh --home"
            ) from error

    def _in_history(self, row: DecisionRow | OutcomeRow) -> bool:
        """Whether the model was trained on it: taken before the model's time, and not later than its history."""
        if isinstance(row, OutcomeRow) or row.seq > self._begun:
            return False
        return bool(self._time_of(self._restore(row)) <= self.bundle.manifest.history.last_us)


class _Sifted:
    """A batch on its way: stored rows by id, answers by place, what is new and what repeats something new."""

    def __init__(self, rows: dict[str, DecisionRow]) -> None:
        self.rows = rows
        self.answers: dict[int, Answer] = {}
        self.first: set[str] = set()
        self.fresh: list[tuple[int, bytes]] = []
        self.repeats: list[tuple[int, bytes]] = []


def _outcomes(run: Iterable[Transaction | Outcome]) -> list[tuple[str, int, bool]]:
    return [(one.transaction_id, one.time_us, one.is_fraud) for one in run if isinstance(one, Outcome)]


def _noted(row: OutcomeRow) -> Noted:
    return Noted(row.transaction_id, row.is_fraud, replayed=False)


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
        transaction_id=row.transaction_id,
        decision=row.decision,
        fraud_probability=row.fraud_probability,
        thresholds=Thresholds(row.review_threshold, row.block_threshold),
        model_version=row.model_version,
        detector=row.detector,
        features_state="late" if row.late else "fresh",
        batch_size=row.batch_size,
        latency_us=row.latency_us,
        replayed=replayed,
        degraded=row.degraded,
    )
