"""The feature state: what the features of a model remember, equal to the last bit to never having stopped."""

import operator
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import JournalProblem
from sentinel.events.log import Outcome, log_of_events
from sentinel.events.schema import Transaction
from sentinel.features.store import Features, MemoryStore
from sentinel.model.bundle import Bundle
from sentinel.record.journal_reader import DecisionRow, JournalReader, OutcomeRow
from sentinel.record.snapshots import PAUSE_S, Snapshots

_LOOK_EVERY = 1_000  # events; looking takes a few microseconds, and nothing fills up in so few


class FeatureState:
    """A store that remembers a bundle's training history and then every event of the journal up to `seq`.

    Memory is only a cache of the journal: the state can be thrown away and loaded again at any time. `begun` is the
    last event before the state was first kept; what was taken before that and is not later than the history is part
    of the history already. Use it from one thread at a time.
    """

    def __init__(self, bundle: Bundle, begun: int) -> None:
        manifest = bundle.manifest
        self.id = bundle.state_id
        self.bundle = bundle
        self.store: MemoryStore | None = None
        self.seq = 0
        self.log_of = log_of_events(manifest.plan.schema)
        self.begun = begun
        self._schema = manifest.plan.schema
        self._time_of = operator.attrgetter(self._schema.time)
        self._snapshot_seq = 0
        self._room: dict[str, NDArray[Any]] = {}
        self._making_room = False
        self._looked_seq = 0

    def load(self, journal: JournalReader, snapshots: Snapshots) -> None:
        """The state as if nothing had ever failed: newest snapshot, else training history, then the journal."""
        self.store = None
        store = MemoryStore(self.bundle.manifest.plan)
        seq = snapshots.newest(self.id, self.bundle.manifest.plan_sha256, journal.newest_seq(), store)
        if seq is None:
            store, seq = self.bundle.new_store(), 0
        self.store, self.seq, self._snapshot_seq = store, seq, seq
        self.follow(journal)
        self.store.make_room()  # takes the memory now, and not while transactions wait
        self._room = self.store.make_copy_room({})

    def follow(self, journal: JournalReader) -> None:
        """Take what the journal holds after `seq`."""
        for page in journal.events_after(self.seq):
            self.take_rows(page)

    def take_rows(self, rows: Sequence[DecisionRow | OutcomeRow]) -> Features | None:
        """Take stored events in their order; what was known at those that are decisions, or None for no event.

        Rows that the training history holds already have no features of their own.
        """
        assert self.store is not None  # noqa: S101 - loaded before
        events = [self.restore(row) for row in rows if not self.in_history(row)]
        features = self.store.advance(self.log_of(events)) if events else None
        self.seq = rows[-1].seq
        return features

    def advance(
        self, events: Sequence[Transaction | Outcome], hashes: NDArray[np.uint64] | None = None
    ) -> Features:  # fmt: skip
        """Take new events; who does so sets `seq` to the last of them once it has a number.

        `hashes` are those of the transaction ids, where they are known.
        """
        assert self.store is not None  # noqa: S101 - loaded before
        return self.store.advance(self.log_of(events, hashes))

    def snapshot(self, snapshots: Snapshots, *, wait: bool) -> None:
        """Save the state when it is newer than the last snapshot; in the background unless `wait`.

        One at a time: the copies of the last one are written over.
        """
        if self.store is None or self.seq <= self._snapshot_seq:
            return
        snapshots.finish()
        save = snapshots.save if wait else snapshots.save_soon
        save(self.id, self.seq, self.bundle.manifest.plan_sha256, self.store.snapshot(self._room))
        self._snapshot_seq = self.seq

    def prepare(self, snapshots: Snapshots) -> None:
        """Have memory made in the background for what grows soon, and for the copy of the next snapshot."""
        if self.store is None or self._making_room or self.seq < self._looked_seq + _LOOK_EVERY:
            return
        self._looked_seq = self.seq
        if self.store.grows_soon() or not self.store.copies_fit(self._room):
            self._making_room = True
            snapshots.run_soon(self._make_room)

    def _make_room(self) -> None:
        try:
            store = self.store
            if store is not None:
                store.make_room(PAUSE_S)
                if not store.copies_fit(self._room):
                    self._room = store.make_copy_room(self._room, PAUSE_S)
        finally:
            self._making_room = False

    @property
    def events_since_snapshot(self) -> int:
        """How much a start would have to replay."""
        return self.seq - self._snapshot_seq

    def in_history(self, row: DecisionRow | OutcomeRow) -> bool:
        """Whether the model was trained on it: taken before the model's time, and not later than its history."""
        if isinstance(row, OutcomeRow) or row.seq > self.begun:
            return False
        return bool(self._time_of(self.restore(row)) <= self.bundle.manifest.history.last_us)

    def restore(self, row: DecisionRow | OutcomeRow) -> Transaction | Outcome:
        """The event of a row. Raises JournalProblem when it does not fit the model's schema."""
        if isinstance(row, OutcomeRow):
            return Outcome(row.transaction_id, row.is_fraud, row.time_us)
        try:
            return self._schema.restore(row.content)
        except msgspec.MsgspecError as error:
            raise JournalProblem(
                f"transaction {row.transaction_id!r} in the journal does not fit the schema of model "
                f"{self.bundle.manifest.version} ({error}); serve a model with the old schema, or a fresh --home"
            ) from error
