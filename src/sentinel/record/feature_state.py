"""The feature state: what the features of a model remember, bit for bit what it would be without a restart."""

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import StorageProblem, UnknownVersion
from sentinel.events.columns import Outcome, columns_of_events
from sentinel.events.schema import Transaction
from sentinel.events.times import instant_us, iso
from sentinel.features.store import Features, MemoryStore
from sentinel.model.bundle import Bundle, Manifest
from sentinel.record.entries import activation_in, decided_in, outcome_events
from sentinel.record.log import Follower, Kind, LogReader, Record
from sentinel.record.snapshots import PAUSE_S, Snapshots

_PAGE, _STEP = 4_096, 512  # entries that are taken at once: alone, and beside those that decide
_LOOK_EVERY = 1_000  # entries; looking takes a few microseconds, and nothing fills up in so few


def activation_of(log: LogReader, state_id: str) -> int | None:
    """From which position on this state takes the entries of the log, or None when it was never kept."""
    record = log.standing().get(f"activation:{state_id}")
    return None if record is None else activation_in(record).begin


def first_after_history(log: LogReader, manifest: Manifest) -> int:
    """The first entry that came in after a model's training history, for a state that was never kept.

    Raises StorageProblem when the log no longer has all that came in after it.
    """
    last_us = min(manifest.history.last_us, instant_us(manifest.created_at))
    if log.pruned_us > last_us:
        raise StorageProblem(
            f"the history of model {manifest.version} ends at {iso(last_us)}, and what the log received after that, up "
            f"to {iso(log.pruned_us)}, is no longer kept; train on a newer history"
        )
    return log.first_after(last_us)


def origin_of(manifest: Manifest, log: LogReader) -> str:
    """What is in every snapshot of a state, so that those of another plan or another log are not used."""
    return f"{manifest.plan_sha256} {log.log_id}"


def check_reads(log: LogReader, manifest: Manifest) -> None:
    """Raise UnknownVersion unless a model can read the newest transactions of the log."""
    behind = _PAGE
    newest: list[Record] = []
    while not newest and behind < 2 * (log.durable - log.first) + 2 * _PAGE:
        page = log.read(max(log.durable - behind, log.first), behind)
        newest = [record for record in page if record.kind == Kind.DECIDED][-1:]
        behind *= 8
    for record in newest:
        try:
            manifest.plan.schema.restore_all(decided_in(record).contents)
        except msgspec.MsgspecError as error:
            raise UnknownVersion(
                f"{manifest.version} cannot read the transactions of the log ({error}): its schema is another one. "
                "Serve it from a fresh --home"
            ) from error


class FeatureState:
    """A store that remembers a bundle's training history and then every entry of the log from `begin` up to `position`.

    Memory is only a cache of the log: the state can be thrown away and loaded again at any time. Use it from one thread
    at a time.
    """

    def __init__(self, bundle: Bundle, begin: int) -> None:
        self.id = bundle.state_id
        self.bundle = bundle
        self.begin = begin
        self.position = begin
        """The next entry to take."""

        self.store: MemoryStore | None = None
        self._schema = bundle.manifest.plan.schema
        self._columns_of = columns_of_events(self._schema)
        self._saved = begin
        self._origin = ""  # of snapshots: those of another plan or another log are not used
        self._room: dict[str, NDArray[Any]] = {}
        self._making_room = False
        self._looked = 0

    def load(self, log: LogReader, snapshots: Snapshots, pause_s: float = 0.0) -> None:
        """The state as if nothing had ever failed: newest snapshot, else training history, then the log.

        It rests for `pause_s` after every record, for the sake of others in this process.

        Raises StorageProblem when the log cannot be read, or has no longer all that the state lacks.
        """
        self.store = None
        store = MemoryStore(self.bundle.manifest.plan)
        self._origin = origin_of(self.bundle.manifest, log)
        position = snapshots.newest(self.id, self._origin, log.durable, store)
        if position is None:
            store, position = self.bundle.new_store(), self.begin
        if position < log.first:
            raise StorageProblem(
                f"the features of model {self.bundle.manifest.version} need the log from position {position} on, and "
                f"it begins at {log.first} by now; promote a model that was trained on a newer history"
            )
        self.store, self.position, self._saved = store, position, position
        self.follow(log, pause_s)
        self.store.make_room(pause_s)  # takes the memory now, and not while transactions wait
        self._room = self.store.make_copy_room({}, pause_s)

    def follow(self, log: LogReader, pause_s: float = 0.0) -> None:
        """Take what is durable from `position` on; with a pause, in small steps."""
        for page in Follower(log, self.position).rest(_STEP if pause_s else _PAGE):
            self._take_page(page)
            if pause_s:
                time.sleep(pause_s)

    def _take_page(self, records: Sequence[Record]) -> None:
        """Take the entries of many records: the state does not depend on how events are batched."""
        assert self.store is not None  # noqa: S101 - loaded before
        events_only = (one for one in records if one.kind in (Kind.DECIDED, Kind.OUTCOMES))
        for kind, run in groupby(events_only, key=lambda record: record.kind):
            events: list[Transaction | Outcome] = []
            received_us: list[int] = []
            for record in run:
                more = self._restored(record) if kind == Kind.DECIDED else outcome_events(record)
                events += more
                received_us += [record.received_us] * len(more)
            self.store.advance(self._columns_of(events, np.array(received_us, np.int64)))
        self.position = records[-1].position + records[-1].rows

    def take(self, record: Record) -> Features | None:
        """Take the entries of a record; the features of its transactions (None where it has none)."""
        features = None
        if record.kind == Kind.DECIDED:
            features = self.advance(self._restored(record), record.received_us)
        elif record.kind == Kind.OUTCOMES:
            self.advance(outcome_events(record), record.received_us)
        self.position = record.position + record.rows
        return features

    def advance(
        self, events: Sequence[Transaction | Outcome], received_us: int, hashes: NDArray[np.uint64] | None = None
    ) -> Features:
        """Take new events; the caller sets `position` after the append.

        `hashes` (n,) are those of the transaction ids, where they are known.
        """
        assert self.store is not None  # noqa: S101 - loaded before
        return self.store.advance(self._columns_of(events, received_us, hashes))

    def snapshot(self, snapshots: Snapshots, *, wait: bool) -> None:
        """Save the state when it is newer than the last snapshot; in the background unless `wait`.

        One at a time: the copies of the last one are written over.
        """
        if self.store is None or self.position <= self._saved:
            return
        snapshots.finish()
        save = snapshots.save if wait else snapshots.save_soon
        save(self.id, self.position, self._origin, self.store.snapshot(self._room))
        self._saved = self.position

    def retire(self, snapshots: Snapshots) -> None:
        """Save a state that is no longer used, in case its model returns. Call it in the background."""
        store = self.store
        if store is not None and self.position > self._saved:
            snapshots.save_soon(self.id, self.position, self._origin, store.snapshot())

    def prepare(self, snapshots: Snapshots) -> None:
        """Have memory made in the background for what grows soon, and for the copy of the next snapshot."""
        if self.store is None or self._making_room or self.position < self._looked + _LOOK_EVERY:
            return
        self._looked = self.position
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
    def entries_since_snapshot(self) -> int:
        """How much a start would have to replay."""
        return self.position - self._saved

    def _restored(self, record: Record) -> list[Transaction]:
        """The transactions of a record. Raises StorageProblem when they do not fit the model's schema."""
        try:
            return self._schema.restore_all(decided_in(record).contents)
        except msgspec.MsgspecError as error:
            raise StorageProblem(
                f"a transaction at position {record.position} of the log does not fit the schema of model "
                f"{self.bundle.manifest.version} ({error}); serve a model with the old schema, or a fresh --home"
            ) from error
