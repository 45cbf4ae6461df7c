"""The archive: a copy is whole, or it is not there."""

from pathlib import Path

import pytest

from sentinel.errors import StorageProblem
from sentinel.record.archive import archive_segment
from sentinel.record.disk import RealDisk
from sentinel.record.segment import segment_name

LOG, ARCHIVE = Path("/simulated/log"), Path("/simulated/archive")


@pytest.fixture
def disk(simulated_disk):
    disk = simulated_disk.SimulatedDisk(1)
    disk.create(LOG / segment_name(1)).write(0, bytes(range(256)) * 9_000)  # more than two megabytes
    return disk


def copy(disk, rest=lambda: None):
    archive_segment(disk, LOG, 1, ARCHIVE, rest)


def test_a_copy_is_the_same_and_survives_a_power_cut(disk):
    rests = []
    copy(disk, lambda: rests.append(1))
    assert len(rests) == 6  # three pieces, copied and compared
    disk.sync(disk._names[LOG / segment_name(1)])
    disk.cut_power()
    assert disk.names(ARCHIVE) == [segment_name(1)]
    assert disk._names[ARCHIVE / segment_name(1)].seen == bytes(range(256)) * 9_000


def test_another_copy_of_the_same_segment_is_replaced(disk):
    disk.create(ARCHIVE / segment_name(1)).write(0, b"the same, compressed")
    copy(disk)
    assert len(disk._names[ARCHIVE / segment_name(1)].seen) == 256 * 9_000


@pytest.mark.parametrize("change", [lambda seen: seen.pop(), lambda seen: seen.__setitem__(2_000_000, 1)])
def test_a_copy_that_is_not_the_same_is_refused(disk, change):
    def spoil():
        copies = disk._names.get(ARCHIVE / ".draft")
        if copies is not None and len(copies.seen) == 256 * 9_000:
            change(copies.seen)

    with pytest.raises(StorageProblem, match=f"{segment_name(1)} cannot be copied to {ARCHIVE}: the copy "):
        copy(disk, spoil)
    assert segment_name(1) not in disk.names(ARCHIVE)


def test_a_disk_that_fails_is_named(disk):
    disk.faults = 1.0
    with pytest.raises(StorageProblem, match="the simulation says so"):
        copy(disk)


def test_copying_that_is_given_up_leaves_no_copy(disk):
    def stop():
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        copy(disk, stop)
    assert segment_name(1) not in disk.names(ARCHIVE)


def test_an_archive_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / segment_name(1)).write_bytes(b"x")
    (tmp_path / "archive").write_bytes(b"a file")
    with pytest.raises(StorageProblem, match="cannot be copied"):
        archive_segment(RealDisk(), tmp_path / "log", 1, tmp_path / "archive", lambda: None)


def test_an_archive_that_is_the_log_itself_is_refused(tmp_path):
    """Under another name it would be too: what is copied is deleted afterwards."""
    log, archive = tmp_path / "log", tmp_path / "archive"
    log.mkdir()
    (log / segment_name(1)).write_bytes(b"the only one")
    archive.symlink_to(log)
    for folder in (log, archive):
        with pytest.raises(StorageProblem, match="that is the log itself"):
            archive_segment(RealDisk(), log, 1, folder, lambda: None)
    assert [path.name for path in log.iterdir()] == [segment_name(1)]
