"""Snapshots: the newest is found, two are kept, and the file that is written over leaves no trace."""

import contextlib

import numpy as np
import pytest

from sentinel.events.columns import EventColumns
from sentinel.events.schema import Schema
from sentinel.features import definitions as f
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore, pack
from sentinel.record.snapshots import KEPT, Snapshots

PLAN = FeaturePlan(Schema(keys=("card",)), (f.count(by="card", over="1m"),))
ORIGIN = "plan log"


def store_of(cards):
    store = MemoryStore(PLAN)
    store.advance(
        EventColumns(
            is_outcome=np.zeros(cards, np.uint8),
            ids=np.arange(1, cards + 1, dtype=np.uint64),
            time_us=np.arange(cards, dtype=np.int64),
            received_us=np.arange(cards, dtype=np.int64),
            exact=np.ones((cards, 1), np.int64),
            plain=np.zeros((cards, 0)),
            texts=np.arange(1, cards + 1, dtype=np.uint64).reshape(-1, 1),
            labels=np.full(cards, -1, np.int8),
        )
    )
    return store


@pytest.fixture
def snapshots(tmp_path):
    snapshots = Snapshots(tmp_path)
    yield snapshots
    snapshots.close()


@pytest.mark.parametrize("in_background", [False, True])
def test_two_are_kept_and_the_next_is_written_over_the_one_before_them(snapshots, in_background):
    stores = {seq: store_of(cards) for seq, cards in ((1, 5_000), (2, 10), (3, 3_000), (4, 20), (5, 4_000), (6, 1))}
    for seq, store in stores.items():
        if in_background:
            snapshots.save_soon("v1", seq, ORIGIN, store.snapshot())
            snapshots.finish()
        else:
            snapshots.save("v1", seq, ORIGIN, store.snapshot())
        found = MemoryStore(PLAN)
        assert snapshots.newest("v1", ORIGIN, seq, found) == seq
        assert pack(found.snapshot()) == pack(store.snapshot())
    names = sorted(path.name for path in snapshots.folder.iterdir())
    assert names == ["v1-000000000005.npz", "v1-000000000006.npz", "v1.spare"]
    assert len(names) == KEPT + 1


def test_a_spare_file_is_never_restored(snapshots):
    for seq in (1, 2, 3):
        snapshots.save("v1", seq, ORIGIN, store_of(seq).snapshot())
    for path in snapshots.folder.glob("*.npz"):
        path.unlink()
    assert snapshots.newest("v1", ORIGIN, 9, MemoryStore(PLAN)) is None


def test_a_snapshot_of_another_log_is_passed_over(snapshots):
    snapshots.save("v1", 2, ORIGIN, store_of(2).snapshot())
    assert snapshots.newest("v1", "plan of another log", 9, MemoryStore(PLAN)) is None
    assert snapshots.newest("v1", ORIGIN, 2, MemoryStore(PLAN)) == 2


def test_a_snapshot_ahead_of_the_log_is_never_used_also_when_the_log_has_come_there_another_way(snapshots):
    snapshots.save("v1", 1, ORIGIN, store_of(1).snapshot())
    snapshots.save("v1", 9, ORIGIN, store_of(9).snapshot())
    assert snapshots.newest("v1", ORIGIN, 5, MemoryStore(PLAN)) == 1
    assert snapshots.newest("v1", ORIGIN, 20, MemoryStore(PLAN)) == 1


def test_a_damaged_snapshot_is_passed_over_and_an_older_one_is_used(snapshots, caplog):
    for seq in (1, 2):
        snapshots.save("v1", seq, ORIGIN, store_of(seq).snapshot())
    newest = snapshots.folder / "v1-000000000002.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    found = MemoryStore(PLAN)
    assert snapshots.newest("v1", ORIGIN, 9, found) == 1
    assert pack(found.snapshot()) == pack(store_of(1).snapshot())
    assert "cannot be used" in caplog.text


def test_those_of_a_log_that_was_here_before_make_room_for_new_ones(snapshots):
    for position in (700, 800, 900):
        snapshots.save("v1", position, "plan of another log", store_of(3).snapshot())
    for position in (5, 6, 7):
        snapshots.save("v1", position, ORIGIN, store_of(2).snapshot())
        assert snapshots.newest("v1", ORIGIN, 9, MemoryStore(PLAN)) == position


def test_who_is_late_with_an_older_state_leaves_the_newer_ones_of_another_process_alone(snapshots, tmp_path):
    with contextlib.closing(Snapshots(tmp_path)) as another:
        for seq in (4, 6):
            another.save("v1", seq, ORIGIN, store_of(seq).snapshot())
    snapshots.save("v1", 5, ORIGIN, store_of(5).snapshot())
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["v1-000000000005.npz", "v1-000000000006.npz"]
    snapshots.save("v1", 2, ORIGIN, store_of(2).snapshot())
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["v1-000000000005.npz", "v1-000000000006.npz"]
    snapshots.save("v1", 3, "another log", store_of(3).snapshot())
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["v1-000000000003.npz"]
