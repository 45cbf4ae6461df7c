"""Bugs that are planted, to see that a simulation of some seeds finds each of them.

Each takes `patch`, which puts something in the place of an attribute until the run is over.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from sentinel.events.context import EventSchema
from sentinel.record import applied, lock, revoking
from sentinel.record.disk import File
from sentinel.record.feature_state import FeatureState
from sentinel.record.file_log import FileLog
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.log import Follower
from sentinel.record.segment_writer import SegmentWriter
from sentinel.record.subjects import SubjectKeys
from sentinel.record.upkeep import Upkeep
from sentinel.record.views.sql_view import SqlView
from sentinel.record.views.sqlite import SqliteView
from sentinel.review.shadow_scores import ShadowRecord
from sentinel.serve import learn, sift
from sentinel.serve.batch import Arrivals, Batch
from sentinel.serve.engine import Engine
from sentinel.serve.running_engine import RunningEngine
from sentinel.serve.sift import Sieve, Sifted

Patch = Callable[[object, str, object], None]
Plant = Callable[[Patch], None]

BUGS: dict[str, Plant] = {}
CONTEXT_BUGS: dict[str, Plant] = {}
"""Those that show where context events are told."""


def bug(plant: Plant) -> Plant:
    BUGS[plant.__name__] = plant
    return plant


def context_bug(plant: Plant) -> Plant:
    CONTEXT_BUGS[plant.__name__] = plant
    return plant


class Careless:
    """A file whose sync does nothing, or does not tell."""

    def __init__(self, file: File, sync: Callable[[File], None]) -> None:
        self._file, self._sync = file, sync

    def sync(self) -> None:
        self._sync(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _not_at_all(_: File) -> None:
    pass


def _not_told(file: File) -> None:
    with suppress(OSError):
        file.sync()


def _append_carelessly(patch: Patch, sync: Callable[[File], None]) -> None:
    append = SegmentWriter.append

    def instead(self: SegmentWriter, *args: Any) -> None:
        file = self._file
        self._file = Careless(file, sync)
        try:
            append(self, *args)
        finally:
            self._file = file

    patch(SegmentWriter, "append", instead)


# durability


@bug
def a_record_is_not_synced(patch: Patch) -> None:
    _append_carelessly(patch, _not_at_all)


@bug
def a_failed_sync_is_forgotten(patch: Patch) -> None:
    _append_carelessly(patch, _not_told)


@bug
def the_end_is_published_before_the_record(patch: Patch) -> None:
    append = SegmentWriter.append

    def instead(self: SegmentWriter, record: Any, standing: str) -> None:
        self._publish(record.position + record.rows)
        append(self, record, standing)

    patch(SegmentWriter, "append", instead)


@bug
def a_failed_record_is_not_voided(patch: Patch) -> None:
    def recover(self: FileLog) -> None:
        self._fault = None

    patch(FileLog, "recover", recover)


@bug
def a_segment_has_its_name_before_its_content(patch: Patch) -> None:
    take = Upkeep.take
    patch(Upkeep, "take", lambda self: Careless(take(self), _not_at_all))


@bug
def a_compressed_segment_is_not_synced(patch: Patch) -> None:
    write = Upkeep._write_compressed

    class CarelessDisk:
        def __init__(self, disk: Any) -> None:
            self._disk = disk

        def create(self, path: Any) -> Any:
            return Careless(self._disk.create(path), _not_at_all)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._disk, name)

    def instead(self: Upkeep, *args: Any) -> None:
        disk = self._disk
        self._disk = CarelessDisk(disk)
        try:
            write(self, *args)
        finally:
            self._disk = disk

    patch(Upkeep, "_write_compressed", instead)


@bug
def another_process_becomes_the_writer_too(patch: Patch) -> None:
    patch(lock, "_locked", lambda *_: True)


@bug
def the_log_runs_back_with_the_machines_clock(patch: Patch) -> None:
    write = FileLog.write

    def instead(self: FileLog, *args: Any, **kwargs: Any) -> int:
        self._writer.received_us = 0
        return write(self, *args, **kwargs)

    patch(FileLog, "clock", lambda _self, now_us: now_us)
    patch(FileLog, "write", instead)


# answers


@bug
def a_decision_is_answered_before_it_is_durable(patch: Patch) -> None:
    record = Engine._record

    def instead(self: Engine, *args: Any) -> int:
        record(self, *args)
        return 0

    patch(Engine, "_record", instead)


@bug
def a_known_outcome_is_answered_before_it_is_durable(patch: Patch) -> None:
    learn = Engine.learn
    patch(Engine, "learn", lambda self, *args: learn(self, *args)._replace(durable_from=0))


@bug
def other_content_gets_the_stored_answer(patch: Patch) -> None:
    repeated = sift.repeated
    patch(sift, "repeated", lambda row, **_: repeated(row, same=True))


@bug
def an_id_twice_in_a_batch_is_decided_twice(patch: Patch) -> None:
    find = Sieve.sift

    def instead(self: Sieve, arrivals: Arrivals, journal: Journal, now_us: int) -> Sifted:
        sifted = find(self, arrivals, journal, now_us)
        if sifted.repeats and not sifted.answers:
            ids = [self._id_of(one) for one in arrivals.events]
            hashes, contents = sift.hash_texts(ids), [self._encode(one) for one in arrivals.events]
            batch = Batch(arrivals.events, ids, hashes, contents, (arrivals.received_ns, arrivals.due_ns))
            return Sifted(len(ids), batch, None)
        return sifted

    patch(Sieve, "sift", instead)


@bug
def what_waits_for_the_disk_is_dropped_after_a_fault(patch: Patch) -> None:
    fail = RunningEngine._fail

    def instead(self: RunningEngine, error: Exception, requests: Sequence[Any]) -> None:
        self._undelivered.clear()
        fail(self, error, requests)

    patch(RunningEngine, "_fail", instead)


@bug
def an_engine_that_failed_goes_on(patch: Patch) -> None:
    def instead(self: Engine, name: str, value: object) -> None:
        object.__setattr__(self, name, False if name == "is_ahead" else value)

    patch(Engine, "__setattr__", instead)


# ids


@bug
def ids_are_not_indexed_after_a_restart(patch: Patch) -> None:
    def instead(self: IdIndex, begin: int, end: int) -> None:
        self._begin(begin)
        self.add(np.empty(0, np.uint64), end)

    patch(IdIndex, "_index", instead)


@bug
def ids_that_leave_the_memory_are_not_written(patch: Patch) -> None:
    def instead(self: IdIndex) -> None:
        self._tables = tuple(one for one in self._tables[:-1] if one.end > self._log.durable) + self._tables[-1:]

    patch(IdIndex, "_write_tables", instead)


@bug
def ids_are_indexed_one_place_off(patch: Patch) -> None:
    add = IdIndex.add
    patch(IdIndex, "add", lambda self, keys, position: add(self, np.roll(keys, 1), position))


# features


@bug
def an_entry_is_taken_twice_on_a_replay(patch: Patch) -> None:
    follow = FeatureState.follow

    def instead(self: FeatureState, *args: Any) -> None:
        self.position = max(self.begin, self.position - 1)
        follow(self, *args)

    patch(FeatureState, "follow", instead)


@bug
def a_page_of_the_log_has_one_clock(patch: Patch) -> None:
    take = FeatureState._take_page
    patch(
        FeatureState,
        "_take_page",
        lambda self, records: take(self, [one._replace(received_us=records[0].received_us) for one in records]),
    )


@bug
def a_snapshot_names_an_earlier_position(patch: Patch) -> None:
    _snapshot_off_by(patch, -1)


def _snapshot_off_by(patch: Patch, entries: int) -> None:
    snapshot = FeatureState.snapshot

    def instead(self: FeatureState, *args: Any) -> None:
        position = self.position
        self.position = position + entries
        try:
            snapshot(self, *args)
        finally:
            self.position = position

    patch(FeatureState, "snapshot", instead)


@bug
def a_new_state_lacks_what_came_while_it_was_loaded(patch: Patch) -> None:
    switch = Engine.switch

    def instead(self: Engine, lineup: Any, fresh: dict[str, FeatureState], now_us: int) -> bool:
        for state in fresh.values():
            state.follow = lambda *_: None  # type: ignore[method-assign]
        is_done = switch(self, lineup, fresh, now_us)
        for state in fresh.values():
            del state.follow
        return is_done

    patch(Engine, "switch", instead)


@bug
def an_outcome_is_not_told_to_the_features(patch: Patch) -> None:
    learn = Engine.learn

    def instead(self: Engine, *args: Any) -> Any:
        states, self.states = self.states, {}
        try:
            return learn(self, *args)
        finally:
            self.states = states

    patch(Engine, "learn", instead)


@bug
def an_outcome_is_stored_again(patch: Patch) -> None:
    patch(Journal, "outcomes_of", lambda *_args, **_kwargs: [])


@bug
def a_revocation_is_not_told_to_the_features(patch: Patch) -> None:
    patch(FeatureState, "correct", lambda *_: None)


@bug
def a_revocation_about_a_forgotten_decision_reaches_the_newer_one(patch: Patch) -> None:
    def sources(_journal: object, revocation: Any, _row: object, told: Sequence[Any]) -> tuple[str, ...]:
        return tuple(sorted({one.source for one in told if revocation.covers(one)}))

    patch(revoking, "_sources", sources)


@bug
def a_revocation_takes_all_sources_back(patch: Patch) -> None:
    patch(revoking, "_standing", lambda _: ())


@bug
def what_is_personal_is_stored_before_its_key(patch: Patch) -> None:
    patch(SubjectKeys, "sync", lambda *_: None)


@bug
def an_erasure_leaves_the_key(patch: Patch) -> None:
    patch(SubjectKeys, "erase", lambda *_: True)


@bug
def outcomes_of_all_sources_are_trusted(patch: Patch) -> None:
    patch(FeatureState, "_trusted", lambda _, outcomes: list(outcomes))


@bug
def what_another_has_told_is_not_told_again(patch: Patch) -> None:
    patch(learn, "_repeats", lambda one, _, told: bool(told) and told[-1].is_fraud == one.is_fraud)


# what follows the log, and what leaves it


@bug
def a_change_is_not_in_the_audit(patch: Patch) -> None:
    patch(applied, "append_change", lambda *_: None)


@bug
def the_view_keeps_what_was_taken_back(patch: Patch) -> None:
    patch(SqlView, "_take_back", lambda *_: None)


@bug
def the_view_moves_on_before_its_rows(patch: Patch) -> None:
    project = SqliteView.project

    def instead(self: SqliteView, rows: Any, log_id: str, since: int, now_us: int) -> None:
        nothing = rows._replace(decisions=[], outcomes=[], revoked=[], keyed=[], models={}, without_keys=0)
        project(self, nothing, log_id, since, now_us)
        project(self, rows, log_id, rows.end, now_us)

    patch(SqliteView, "project", instead)


@bug
def the_view_forgets_outcomes(patch: Patch) -> None:
    project = SqliteView.project
    patch(
        SqliteView, "project", lambda self, rows, *args: project(self, rows._replace(outcomes=rows.outcomes[1:]), *args)
    )


@bug
def a_follower_skips_a_page(patch: Patch) -> None:
    follow = Follower.next

    def instead(self: Follower, limit: int = 4_096) -> Any:
        records = follow(self, limit)
        return records[1:] if len(records) > 4 else records

    patch(Follower, "next", instead)


@bug
def a_shadow_forgets_a_score(patch: Patch) -> None:
    store = ShadowRecord.store
    patch(ShadowRecord, "store", lambda self, scores, progress: store(self, scores[:1], progress))


@bug
def an_activation_is_not_noted(patch: Patch) -> None:
    patch(Journal, "activate", lambda *_: None)


@context_bug
def an_event_is_answered_before_it_is_durable(patch: Patch) -> None:
    hear = Engine.hear
    patch(Engine, "hear", lambda self, *args: hear(self, *args)._replace(durable_from=0))


@context_bug
def an_event_is_stored_again(patch: Patch) -> None:
    patch(Journal, "context_of", lambda *_: {})


@context_bug
def another_event_under_the_id_is_taken_for_the_same(patch: Patch) -> None:
    patch(EventSchema, "is_same", lambda *_: True)


@context_bug
def what_is_personal_in_an_event_is_sealed_for_nobody(patch: Patch) -> None:
    patch(Journal, "_keep_subjects", lambda *_: None)


FOUND_BY = {
    "a_decision_is_answered_before_it_is_durable": 6,
    "a_failed_record_is_not_voided": 85,
    "a_failed_sync_is_forgotten": 51,
    "a_known_outcome_is_answered_before_it_is_durable": 6,
    "a_new_state_lacks_what_came_while_it_was_loaded": 11,
    "a_revocation_about_a_forgotten_decision_reaches_the_newer_one": 330,
    "a_revocation_is_not_told_to_the_features": 34,
    "a_revocation_takes_all_sources_back": 10,
    "a_shadow_forgets_a_score": 4,
    "a_snapshot_names_an_earlier_position": 2,
    "an_engine_that_failed_goes_on": 3,
    "an_entry_is_taken_twice_on_a_replay": 2,
    "an_erasure_leaves_the_key": 24,
    "an_event_is_answered_before_it_is_durable": 6,
    "an_event_is_stored_again": 2,
    "an_id_twice_in_a_batch_is_decided_twice": 3,
    "an_outcome_is_not_told_to_the_features": 1,
    "an_outcome_is_stored_again": 10,
    "another_event_under_the_id_is_taken_for_the_same": 2,
    "another_process_becomes_the_writer_too": 4,
    "ids_are_indexed_one_place_off": 2,
    "ids_that_leave_the_memory_are_not_written": 2,
    "other_content_gets_the_stored_answer": 3,
    "outcomes_of_all_sources_are_trusted": 14,
    "the_end_is_published_before_the_record": 2,
    "the_log_runs_back_with_the_machines_clock": 3,
    "the_view_keeps_what_was_taken_back": 10,
    "the_view_moves_on_before_its_rows": 14,
    "what_another_has_told_is_not_told_again": 6,
    "what_waits_for_the_disk_is_dropped_after_a_fault": 22,
}
"""The seed that found a bug when it was looked for last, if that took a while: it is tried first."""
