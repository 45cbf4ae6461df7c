"""Snapshots: what has the name of one restores; the newest is found, two are kept, and what is written over is gone."""

import io
import os
import zipfile

import numpy as np
import pytest

from sentinel.errors import StorageProblem
from sentinel.events.columns import EventColumns
from sentinel.events.schema import Schema
from sentinel.features import definitions as f
from sentinel.features.packed import pack, unpack
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.record.snapshots import KEPT, Origin, Snapshots

PLAN = FeaturePlan(Schema(keys=("card",)), (f.count(by="card", over="1m"),))
PAST = {}
"""What the log has before a position; all else is alike."""

ORIGIN = Origin("plan of this log", lambda position: PAST.get(position, "c0ffee"))
ANOTHER = Origin("plan of another log", lambda _: "c0ffee")


def store_of(cards):
    store = MemoryStore(PLAN)
    store.advance(
        EventColumns(
            kinds=np.zeros(cards, np.uint8),
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
    return Snapshots(tmp_path)


def save(snapshots, *positions, origin=ORIGIN):
    for position in positions:
        snapshots.save("v1", position, origin, store_of(position).snapshot())


def names_in(snapshots):
    return sorted(path.name for path in snapshots.folder.iterdir())


def test_two_are_kept_and_the_next_is_written_over_the_one_before_them(snapshots):
    stores = {seq: store_of(cards) for seq, cards in ((1, 5_000), (2, 10), (3, 3_000), (4, 20), (5, 4_000), (6, 1))}
    for seq, store in stores.items():
        snapshots.save("v1", seq, ORIGIN, store.snapshot())
        found = MemoryStore(PLAN)
        assert snapshots.newest("v1", ORIGIN, seq, found) == seq
        assert pack(found.snapshot()) == pack(store.snapshot())
    assert names_in(snapshots) == ["v1-000000000005.npz", "v1-000000000006.npz", "v1.spare"]
    assert KEPT == 2


def test_a_spare_file_is_never_restored(snapshots):
    save(snapshots, 1, 2, 3)
    for path in snapshots.folder.glob("*.npz"):
        path.unlink()
    assert snapshots.newest("v1", ORIGIN, 9, MemoryStore(PLAN)) is None


def test_a_snapshot_of_another_log_is_passed_over(snapshots):
    save(snapshots, 2)
    assert snapshots.newest("v1", ANOTHER, 9, MemoryStore(PLAN)) is None
    assert snapshots.newest("v1", ORIGIN, 2, MemoryStore(PLAN)) == 2


def test_a_snapshot_ahead_of_the_log_is_never_used_also_when_the_log_has_come_there_another_way(snapshots, monkeypatch):
    save(snapshots, 1, 9)
    assert snapshots.newest("v1", ORIGIN, 5, MemoryStore(PLAN)) == 1
    monkeypatch.setitem(PAST, 9, "another way")
    assert snapshots.newest("v1", ORIGIN, 20, MemoryStore(PLAN)) == 1


def test_a_damaged_snapshot_is_passed_over_and_an_older_one_is_used(snapshots, caplog):
    save(snapshots, 1, 2)
    newest = snapshots.folder / "v1-000000000002.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    found = MemoryStore(PLAN)
    assert snapshots.newest("v1", ORIGIN, 9, found) == 1
    assert pack(found.snapshot()) == pack(store_of(1).snapshot())
    assert "cannot be used" in caplog.text


def test_those_of_a_log_that_was_here_before_make_room_for_new_ones(snapshots):
    save(snapshots, 700, 800, 900, origin=ANOTHER)
    for position in (5, 6, 7):
        save(snapshots, position)
        assert snapshots.newest("v1", ORIGIN, 9, MemoryStore(PLAN)) == position


def test_who_is_late_with_an_older_state_leaves_the_newer_ones_alone(snapshots):
    save(snapshots, 4, 6, 5)
    assert snapshots.positions("v1", ORIGIN) == [5, 6]
    save(snapshots, 2)
    assert snapshots.positions("v1", ORIGIN) == [5, 6]


def test_the_wrong_log_that_is_here_for_a_while_destroys_nothing(snapshots):
    """After the log was pruned they are the only copies of what was in it."""
    save(snapshots, 25, 58)
    assert snapshots.newest("v1", ORIGIN, 7, MemoryStore(PLAN)) is None  # an older copy of the log
    save(snapshots, 3, 5, 9, origin=ANOTHER)
    assert snapshots.positions("v1", ANOTHER) == [5, 9]
    assert snapshots.positions("v1", ORIGIN) == [25, 58]
    assert snapshots.newest("v1", ORIGIN, 60, MemoryStore(PLAN)) == 58


def test_those_of_a_past_that_this_log_does_not_have_are_not_used_and_not_in_the_way(snapshots, monkeypatch, caplog):
    save(snapshots, 10, 20, 30)
    monkeypatch.setitem(PAST, 20, "another past")
    monkeypatch.setitem(PAST, 30, "another past")
    assert snapshots.positions("v1", ORIGIN) == []
    assert snapshots.newest("v1", ORIGIN, 40, MemoryStore(PLAN)) is None
    assert "another past of the log" in caplog.text
    save(snapshots, 12, 15)
    assert snapshots.positions("v1", ORIGIN) == [12, 15]
    monkeypatch.setitem(PAST, 12, None)  # pruned up to there: there is nothing to compare with
    assert snapshots.positions("v1", ORIGIN) == [12, 15]
    assert names_in(snapshots) == [f"v1-0000000000{n}.npz" for n in (12, 15, 20, 30)]


def test_a_start_may_use_those_of_this_log_that_can_be_read(snapshots):
    assert snapshots.positions("v1", ORIGIN) == []
    save(snapshots, 3, origin=ANOTHER)
    save(snapshots, 5)
    assert snapshots.positions("v1", ORIGIN) == [5]
    assert snapshots.positions("v2", ORIGIN) == []
    (snapshots.folder / "v1-000000000005.npz").write_bytes(b"")
    assert snapshots.positions("v1", ORIGIN) == []


# a disk that does not keep what it was given


def another_of_the_same_shape(_):
    state = store_of(4).snapshot()
    state["0.profiles"] += 1
    return pack({**state, "origin": np.frombuffer(ORIGIN.at(4).encode(), np.uint8)})


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "change",
    [lambda data: flipped(data, len(data) // 2), lambda data: data[: len(data) // 2], lambda _: b"", lambda data: data[:-1],
     lambda _: pack(store_of(7).snapshot()), another_of_the_same_shape],
    ids=["a flipped bit", "half", "nothing", "a byte less", "another state", "one of the same shape"],
)  # fmt: skip
def test_what_is_not_read_back_as_it_was_written_is_no_snapshot(snapshots, change, monkeypatch):
    save(snapshots, 1, 2, 3)

    def sync_what_is_changed(descriptor):
        path = f"/proc/self/fd/{descriptor}"
        with open(path, "rb") as file:  # noqa: PTH123 - a descriptor of this process
            data = file.read()
        if b"profiles" in data:
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(change(data))

    monkeypatch.setattr("os.fsync", sync_what_is_changed)
    with pytest.raises(StorageProblem, match=r"no snapshot was written .* read back"):
        save(snapshots, 4)
    monkeypatch.undo()
    assert names_in(snapshots) == ["v1-000000000002.npz", "v1-000000000003.npz"]
    save(snapshots, 4)
    assert snapshots.positions("v1", ORIGIN) == [3, 4]


def test_a_full_disk_is_told_and_the_older_ones_are_kept(snapshots, monkeypatch):
    save(snapshots, 1, 2)
    monkeypatch.setattr("sentinel.record.disk._KEPT_FREE", 2**60)
    with pytest.raises(StorageProblem, match="kept for the log; free some space"):
        save(snapshots, 3)
    assert names_in(snapshots) == ["v1-000000000001.npz", "v1-000000000002.npz"]


def test_what_a_kill_left_half_written_is_written_over(snapshots):
    save(snapshots, 1)
    (snapshots.folder / "v1.spare").write_bytes(b"half" * 100_000)
    save(snapshots, 2)
    assert names_in(snapshots) == ["v1-000000000001.npz", "v1-000000000002.npz"]
    found = MemoryStore(PLAN)
    assert snapshots.newest("v1", ORIGIN, 9, found) == 2
    assert pack(found.snapshot()) == pack(store_of(2).snapshot())


def test_there_is_a_rest_after_every_piece_that_is_written_or_read_back(tmp_path):
    rests = []
    snapshots = Snapshots(tmp_path, lambda: rests.append(sum(path.stat().st_size for path in tmp_path.iterdir())))
    state = store_of(50_000).snapshot()
    snapshots.save("v1", 1, ORIGIN, state)
    size = sum(array.nbytes for array in state.values())
    written = [n for n, after in zip([0, *rests], rests, strict=False) if after > n]
    assert max(b - a for a, b in zip([0, *rests], rests, strict=False)) <= 2 * (1 << 18) + 2 * io.DEFAULT_BUFFER_SIZE
    assert len(written) >= size // (2 << 18)
    assert len(rests) - len(written) >= size // (1 << 18)


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)  # to open one would wait for ever


def as_link(path):
    path.rename(path.with_suffix(".kept"))
    path.symlink_to(path.with_suffix(".kept"))


def as_bomb(path):
    parts = unpack(path.read_bytes())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in parts:
            archive.writestr(f"{name}.npy", bytes(1 << 20))


def as_table(path):
    parts = unpack(path.read_bytes())
    np.savez(path, **(parts | {"0.profiles": parts["0.profiles"].reshape(1, -1)}))


@pytest.mark.parametrize("change", [as_pipe, as_link, as_bomb, as_table])
def test_what_is_no_snapshot_is_passed_over(snapshots, change):
    save(snapshots, 1, 2)
    change(snapshots.folder / "v1-000000000002.npz")
    assert snapshots.newest("v1", ORIGIN, 9, MemoryStore(PLAN)) == 1
