"""The feature state: what the features of a model remember, bit for bit what it would be without a restart."""

import time
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import StorageProblem, UnknownVersion
from sentinel.events.columns import Outcome, columns_of_events, names_before
from sentinel.events.context import Context
from sentinel.events.schema import Restored
from sentinel.events.times import instant_us, iso
from sentinel.events.wire import Transaction
from sentinel.features.store import Features, MemoryStore
from sentinel.model.bundle import Bundle, Manifest
from sentinel.record.entries import (
    Revoked,
    Standing,
    activation_in,
    context_in,
    decided_in,
    outcome_events,
    revoked_in,
    schema_id,
)
from sentinel.record.log import Kind, LogReader, Record
from sentinel.record.set_aside import Note, restored, restored_context, warn
from sentinel.record.snapshots import Origin, Snapshots

PAGE = 4_096
"""Entries that are taken at once."""

_TAKEN = (Kind.DECIDED, Kind.OUTCOMES, Kind.REVOKED, Kind.CONTEXT)
_STEP = 512  # the same, beside those that decide
_SPARE_BYTES = 64 << 20  # that a state may hold for what comes next, however small it is


def activation_of(log: LogReader, state_id: str) -> int | None:
    """From which position on this state takes the entries of the log, or None when it was never kept."""
    record = log.standing().get(f"activation:{state_id}")
    return None if record is None else activation_in(record).begin


def first_after_history(log: LogReader, manifest: Manifest) -> int:
    """The first entry that came in after a model's training history, for a state that was never kept.

    A history that was exported from this log ends at a position of it, any other one at a moment. Raises
    StorageProblem when the log no longer has all that came in after it.
    """
    facts = manifest.history
    if facts.log_end is not None and facts.log_id == log.log_id:
        if facts.log_end < log.first:
            raise StorageProblem(
                f"the history of model {manifest.version} was exported up to position {facts.log_end} of the log, and "
                f"the log begins at {log.first} by now; train on a newer export"
            )
        return min(facts.log_end, log.durable)
    last_us = min(manifest.history.last_us, instant_us(manifest.created_at))
    if log.pruned_us > last_us:
        raise StorageProblem(
            f"the history of model {manifest.version} ends at {iso(last_us)}, and what the log received after that, up "
            f"to {iso(log.pruned_us)}, is no longer kept; train on a newer history"
        )
    return log.first_after(last_us)


def origin_of(log: LogReader, manifest: Manifest) -> Origin:
    """What snapshots bear: one of another plan, another log or another past of the log is not used."""
    return origin_named(log, manifest.plan_sha256)


def origin_named(log: LogReader, name: str) -> Origin:
    """The same of a state that is made of the log alone."""

    def chain_at(position: int) -> str | None:
        record = log.at(position - 1) if log.first < position <= log.durable else None
        return None if record is None or record.kind == Kind.LOSS else record.chain.hex()

    return Origin(f"{name} {log.log_id}", chain_at)


def check_reads(log: LogReader, manifest: Manifest) -> None:
    """Raise UnknownVersion unless a model can read the newest transactions of the log."""
    behind = PAGE
    newest: list[Record] = []
    while not newest and behind < 2 * (log.durable - log.first) + 2 * PAGE:
        page = log.read(max(log.durable - behind, log.first), behind)
        newest = [record for record in page if record.kind == Kind.DECIDED][-1:]
        behind *= 8
    schema = manifest.plan.schema
    for record in newest:
        decided = decided_in(record)
        _, odd = restored(schema, record, decided)
        if odd and decided.schema_id != schema_id(schema):
            raise UnknownVersion(
                f"{manifest.version} cannot read the transactions of the log ({odd[0].why}): its schema is another "
                "one. Serve it from a fresh --home"
            )


class FeatureState:
    """A store that remembers a bundle's training history and then every entry of the log from `begin` up to `position`.

    Memory is only a cache of the log: the state can be thrown away and loaded again at any time. Use it from one thread
    at a time. `note` is told of transactions of the log that do not fit the model's schema.
    """

    def __init__(self, bundle: Bundle, begin: int, note: Note = warn) -> None:
        self.id = bundle.state_id
        self.bundle = bundle
        self.begin = begin
        self.position = begin
        """The next entry to take."""

        self.store: MemoryStore | None = None
        self._plan = bundle.manifest.plan
        self._schema = self._plan.schema
        self._context = Context(self._schema)
        self._columns_of = columns_of_events(self._schema)
        self._names_before = names_before(self._schema)
        self._saved = begin
        self._note = note

    def load(self, log: LogReader, snapshots: Snapshots, pause_s: float = 0.0) -> None:
        """The state as if nothing had ever failed: newest snapshot, else training history, then the log.

        It rests for `pause_s` after every few records, for the sake of others in this process.

        Raises StorageProblem when the log cannot be read, or has no longer all that the state lacks.
        """
        self.restore(log, snapshots)
        self.follow(log, pause_s)

    def restore(self, log: LogReader, snapshots: Snapshots) -> None:
        """The newest snapshot, else the training history: the state as it was before the entry at `position`.

        Raises StorageProblem when the log has no longer all that follows.
        """
        self.store = None
        store = MemoryStore(self.bundle.manifest.plan)
        position = snapshots.newest(self.id, origin_of(log, self.bundle.manifest), log.durable, store)
        if position is None:
            store, position = self.bundle.new_store(), self.begin
        if position < log.first:
            raise StorageProblem(
                f"the features of model {self.bundle.manifest.version} need the log from position {position} on, and "
                f"it begins at {log.first} by now; promote a model that was trained on a newer history"
            )
        self.store, self.position, self._saved = store, position, position

    def follow(self, log: LogReader, pause_s: float = 0.0) -> None:
        """Take what is durable from `position` on; with a pause, in small steps."""
        end = log.durable
        while self.position < end and self.take_next(log, _STEP if pause_s else PAGE):
            time.sleep(pause_s)

    def take_next(self, log: LogReader, limit: int = PAGE) -> Sequence[Record]:
        """Take the next records that are durable, about `limit` entries of them, and return them.

        Raises StorageProblem when they cannot be read; the state has to be loaded anew then.
        """
        records = log.read(self.position, limit)
        if records:
            self._take_page(records)
        return records

    def _take_page(self, records: Sequence[Record]) -> None:
        """Take the entries of many records: the state does not depend on how events are batched."""
        assert self.store is not None  # noqa: S101 - loaded before
        events_only = (one for one in records if one.kind in _TAKEN)
        for is_decided, run in groupby(events_only, key=lambda record: record.kind == Kind.DECIDED):
            events: list[Transaction | Outcome] = []
            received_us: list[int] = []
            for record in run:
                more = self._restored(record).transactions if is_decided else self._told(record)
                events += more
                received_us += [record.received_us] * len(more)
            columns = self._columns_of(events, np.array(received_us, np.int64))
            self.store.advance(columns, self._names_before(events))
        self.position = records[-1].position + records[-1].rows

    def take(self, record: Record) -> Features | None:
        """Take the entries of a record; the features of its transactions (None where it has none).

        A transaction that cannot be read has a row of NaN.
        """
        features = None
        if record.kind == Kind.DECIDED:
            found = self._restored(record)
            features = self.advance(found.transactions, record.received_us)
            if len(found.transactions) < record.rows:
                features = _spread(features, found.places, record.rows)
        elif record.kind in _TAKEN:
            self.advance(self._told(record), record.received_us)
        self.position = record.position + record.rows
        return features

    def learn(self, outcomes: Sequence[Outcome], received_us: int) -> None:
        """Take new outcomes, as far as they are trusted; the caller sets `position` after the append."""
        self.advance(self._trusted(outcomes), received_us)

    def correct(self, revoked: Revoked, received_us: int) -> None:
        """Take back outcomes: what is trusted and still counts comes in their place; `position` as in `learn`."""
        self.advance(self._corrections(revoked), received_us)

    def _told(self, record: Record) -> Sequence[Outcome | Transaction]:
        """What a record of outcomes, of revoked ones, or of context events means to this state."""
        if record.kind == Kind.CONTEXT:
            events, odd = restored_context(self._context, record, context_in(record))
            if odd:
                self._note(odd)
            return events
        if record.kind == Kind.REVOKED:
            return self._corrections(revoked_in(record))
        return self._trusted(outcome_events(record))

    def _trusted(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        return [one for one in outcomes if self._plan.is_trusted(one.source)]

    def _corrections(self, revoked: Revoked) -> list[Outcome]:
        corrections = []
        for transaction_id, sources, standing in zip(revoked.ids, revoked.sources, revoked.standing, strict=True):
            if not any(map(self._plan.is_trusted, sources)):
                continue  # they never counted
            trusted = [one for one in standing if self._plan.is_trusted(one.source)]
            now = trusted[-1] if trusted else Standing("", is_fraud=False, time_us=0)
            corrections.append(Outcome(transaction_id, now.is_fraud, now.time_us, now.source))
        return corrections

    def advance(
        self, events: Sequence[Transaction | Outcome], received_us: int, hashes: NDArray[np.uint64] | None = None
    ) -> Features:
        """Take new events; the caller sets `position` after the append.

        `hashes` (n,) are those of the transaction ids, where they are known.
        """
        assert self.store is not None  # noqa: S101 - loaded before
        return self.store.advance(self._columns_of(events, received_us, hashes), self._names_before(events))

    def snapshot(self, log: LogReader, snapshots: Snapshots) -> None:
        """Save the state when it is newer than its last snapshot; `log` has what it took.

        Raises StorageProblem when it cannot be saved.
        """
        if self.store is not None and self.position > self._saved:
            origin = origin_of(log, self.bundle.manifest)
            snapshots.save(self.id, self.position, origin, self.store.snapshot())
            self._saved = self.position

    def discard(self) -> None:
        """Give the memory back, in the thread that calls this; the state is used no more."""
        store, self.store = self.store, None
        if store is not None:
            store.give_back()

    @property
    def is_wasteful(self) -> bool:
        """Whether most of its memory is of what is forgotten: loaded anew it takes only what it needs."""
        return self.store is not None and self.store.spare_bytes() > max(_SPARE_BYTES, self.store.nbytes() // 2)

    @property
    def entries_since_snapshot(self) -> int:
        """How much a start would have to replay, if no one else makes snapshots of it."""
        return self.position - self._saved

    def _restored(self, record: Record) -> Restored:
        """The transactions of a record that can be read. Raises StorageProblem for one of another format."""
        found, odd = restored(self._schema, record)
        if odd:
            self._note(odd)
        return found


def _spread(features: Features, places: Sequence[int], rows: int) -> Features:
    """The same in these places of so many rows."""
    where = np.array(places, np.int64)
    values, late = np.full((rows, features.rows.shape[1]), np.nan), np.zeros(rows, features.late.dtype)
    values[where], late[where] = features.rows, features.late
    return Features(values, late, features.known)
