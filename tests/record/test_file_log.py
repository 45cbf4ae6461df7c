"""The log on the local disk: what is damaged is named, what cannot be done is refused, and other processes read on."""

import errno
import logging
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sentinel.errors import LogDamaged, StorageProblem
from sentinel.record.file_log import FileLog
from sentinel.record.lock import WriterLock, owner_of
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.segment import PACKED, bases_in, head_at, segment_name
from sentinel.record.verify import verify

HOME = Path("/simulated/log")
SEGMENT = 1_024


@pytest.fixture
def disk(simulated_disk):
    return simulated_disk.SimulatedDisk(1)


def opened(disk) -> FileLog:
    return FileLog(HOME, 5, disk, SEGMENT)


def write(log, *bodies: bytes, rows: int = 1) -> list[int]:
    return [log.write(Kind.DECIDED, rows, log.clock(0), body) for body in bodies]


def bodies(log) -> list[bytes]:
    return [record.body for page in Follower(log, log.first).rest(limit=2) for record in page]


def content(disk, base: int) -> bytearray:
    return disk._names[HOME / segment_name(base)].seen


def small_log(disk) -> list[bytes]:
    """Eight records in three segments, the first of them compressed; closed."""
    log = opened(disk)
    written = [bytes([n]) * 60 + b"x" * 127 for n in range(8)]
    write(log, *written[:4], rows=3)
    log.upkeep.work()
    write(log, *written[4:], rows=3)
    log.close()
    assert bases_in(disk.names(HOME)) == [1, 10, 19]
    assert content(disk, 1)[:4] == PACKED != content(disk, 10)[:4]
    return written


def forget_the_end(disk) -> None:
    disk._names[HOME / "end"].seen[:] = bytes(16)


def records_of(disk, base: int) -> list[tuple[int, int, int]]:
    """Of each record of a segment, its head included: where it begins, where its payload ends, and its position."""
    file, found, offset = disk.open(HOME / segment_name(base)), [], 0
    while head := head_at(file, offset):
        found.append((offset, offset + 68 + head.stored, head.position))
        offset += head.size
    return found


@pytest.mark.parametrize(("base", "end_is_known"), [(1, True), (10, True), (19, True), (19, False)])
def test_every_byte_that_changes_is_noticed_where_it_is(simulated_disk, caplog, base, end_is_known):
    caplog.set_level(logging.CRITICAL)
    disk = simulated_disk.SimulatedDisk(1)
    written = small_log(disk)
    if not end_is_known:
        forget_the_end(disk)
    records = records_of(disk, base)
    names = {path: bytes(inode.seen) for path, inode in disk._names.items()}
    for offset in range(len(content(disk, base))):
        disk._names.clear()
        for path, seen in names.items():
            disk.create(path).write(0, seen)
        content(disk, base)[offset] ^= 1 << offset % 8
        hit = next((position for begin, end, position in records if begin <= offset < end), None)
        damage, seen, warnings = as_read(disk)
        if damage:
            assert (damage.segment, damage.position) == (segment_name(base), hit)
            assert f"{segment_name(base)} of the log, position {hit}:" in str(damage)
        elif hit:
            assert not end_is_known, "a changed record was read as if it were whole"
            assert (seen, hit) == (written[:-1], records[-1][2])
            assert warnings, "left out, and not reported"
        else:
            assert seen == written
            assert bool(warnings) == (base == 19 and offset >= -(-records[-1][1] // 8) * 8)


def as_read(disk) -> tuple[LogDamaged | None, list[bytes], list[str]]:
    """The damage, or else the entries and the warnings of a log that is opened and read to its end."""
    try:
        log = opened(disk)
        return None, bodies(log), log.warnings
    except LogDamaged as damage:
        return damage, [], []


@pytest.mark.parametrize("base", [1, 10, 19])
def test_verify_names_the_same_damage(disk, base):
    small_log(disk)
    for begin, end, position in records_of(disk, base):
        at = random.Random(begin).randrange(begin, end)
        content(disk, base)[at] ^= 255
        (found,) = verify(HOME, disk).findings
        assert (found.segment, found.position) == (segment_name(base), position)
        content(disk, base)[at] ^= 255
    assert verify(HOME, disk).findings == []


def test_a_torn_last_record_is_reported_and_left_out(disk):
    written = small_log(disk)
    forget_the_end(disk)
    begin, end, position = records_of(disk, 19)[-1]
    content(disk, 19)[begin + 100 : end] = bytes(end - begin - 100)
    log = opened(disk)
    (warning,) = log.warnings
    assert segment_name(19) in warning
    assert f"position {position}, offset {begin}: 100 bytes" in warning
    write(log, b"next")
    assert bodies(log) == [*written[:-1], b"next"]
    assert verify(HOME, disk).findings == []


def test_a_damaged_record_before_a_valid_one_is_damage_even_when_the_end_is_not_known(disk):
    small_log(disk)
    forget_the_end(disk)
    begin, _, position = records_of(disk, 19)[1]
    content(disk, 19)[begin : begin + 68] = bytes(68)
    with pytest.raises(LogDamaged, match=f"position {position}") as caught:
        opened(disk)
    assert caught.value.segment == segment_name(19)


@pytest.mark.parametrize("base", [10, 19])
def test_a_missing_segment_is_named(disk, base):
    small_log(disk)
    disk.unlink(HOME / segment_name(base))
    assert segment_name(base) in [found.segment for found in verify(HOME, disk).findings]
    with pytest.raises(LogDamaged, match=f"{segment_name(base)} of the log.*missing"):
        opened(disk)


def test_a_log_that_lost_its_newest_entries_is_refused(disk):
    small_log(disk)
    begin = records_of(disk, 19)[-1][0]
    del content(disk, 19)[begin:]
    with pytest.raises(LogDamaged, match="had been durable"):
        opened(disk)


def test_a_segment_of_another_log_is_refused(disk, simulated_disk):
    small_log(disk)
    other = simulated_disk.SimulatedDisk(2)
    small_log(other)
    content(disk, 10)[:] = content(other, 10)
    with pytest.raises(LogDamaged, match="another log"):
        opened(disk)


def test_bytes_of_another_log_are_no_record(disk, simulated_disk):
    written = small_log(disk)
    other = simulated_disk.SimulatedDisk(2)
    small_log(other)
    end = records_of(disk, 19)[-1][1]
    content(disk, 19)[end:] = content(other, 10)[SEGMENT // 2 :]
    log = opened(disk)
    assert bodies(log) == written
    assert log.warnings


def test_a_failed_sync_refuses_everything_until_it_has_recovered(disk):
    log = opened(disk)
    write(log, b"a")
    disk.faults = 1.0
    with pytest.raises(StorageProblem, match="cannot be written"):
        write(log, b"b")
    with pytest.raises(StorageProblem, match="cannot be written"):
        log.recover()
    disk.faults = 0.0
    with pytest.raises(StorageProblem, match="cannot be written"):
        write(log, b"c")
    log.recover()
    assert write(log, b"d") == [2]
    assert bodies(log) == [b"a", b"d"]
    disk.kill()
    assert bodies(opened(disk)) == [b"a", b"d"]


def test_a_full_disk_is_recovered_from_with_the_spare(disk, monkeypatch):
    log = opened(disk)
    log.upkeep.work()
    disk.faults = 1.0
    with pytest.raises(StorageProblem):
        write(log, b"a")
    disk.faults = 0.0

    def full(path):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(disk, "create", full)
    log.recover()
    write(log, b"b")
    assert bodies(log) == [b"b"]


def test_no_segment_is_made_ahead_on_a_disk_that_is_nearly_full(disk):
    disk.room = (256 << 20) + SEGMENT - 1
    log = opened(disk)
    log.upkeep.work()
    assert ".spare" not in disk.names(HOME)
    disk.room += 1
    log.upkeep.work()
    assert ".spare" in disk.names(HOME)


def test_the_spare_of_an_earlier_process_is_used(disk):
    log = opened(disk)
    log.upkeep.work()
    spare = disk._names[HOME / ".spare"]
    log.close()
    log = opened(disk)
    write(log, b"a" * 800, b"b" * 800)
    assert disk._names[HOME / segment_name(2)] is spare


def test_a_spare_that_was_written_to_is_not_used(disk):
    log = opened(disk)
    log.upkeep.work()
    log.close()
    spare = disk._names[HOME / ".spare"]
    spare.seen[700] = 1
    log = opened(disk)
    write(log, b"a" * 800, b"b" * 800)
    assert disk._names[HOME / segment_name(2)] is not spare


def test_a_record_larger_than_a_segment_is_refused_and_nothing_is_written(disk):
    log = opened(disk)
    before = bytes(content(disk, 1))
    with pytest.raises(StorageProblem, match="larger than a segment"):
        write(log, b"a" * SEGMENT)
    assert content(disk, 1) == before
    write(log, b"b")
    assert bodies(log) == [b"b"]


def test_a_closed_segment_is_compressed_and_read_as_before(disk):
    log = FileLog(HOME, 0, disk, segment_bytes=300_000)
    written = [b'{"card": "c-%d"}' % n * 100 for n in range(600)]
    reader = FileLogReader(HOME, disk)
    write(log, *written, rows=2)
    assert reader.at(100).body == written[49]
    before = log.sizes
    log.upkeep.work()
    assert log.sizes.bytes < before.bytes / 2
    assert log.sizes.segments == before.segments > 3
    for n in (0, 1, 49, 50, 333, 599):
        assert reader.at(2 * n + 1).body == log.at(2 * n + 2).body == written[n]
    assert bodies(reader) == bodies(log) == written
    assert verify(HOME, disk).findings == []


def test_segments_are_compressed_and_made_ahead_beside_the_writer(tmp_path):
    log = FileLog.open(tmp_path / "log", 0, segment_bytes=4_096)
    log.start_upkeep()
    write(log, *[b"a" * 1_000] * 10)
    first, spare = tmp_path / "log" / segment_name(1), tmp_path / "log" / ".spare"
    while not (spare.exists() and first.read_bytes().startswith(PACKED)):
        time.sleep(0.01)
    log.close()


def test_what_is_void_is_not_compressed(disk):
    log = opened(disk)
    write(log, b"a")
    disk.faults = 1.0
    with pytest.raises(StorageProblem):
        write(log, b"b")
    disk.faults = 0.0
    log.recover()
    log.upkeep.work()
    assert content(disk, 1)[:4] == PACKED
    assert len(records_of(disk, 1)) == 2


def test_a_damaged_segment_is_not_compressed(disk, caplog):
    log = opened(disk)
    write(log, b"a" * 700, b"b" * 700)
    content(disk, 1)[300] ^= 1
    log.upkeep.work()
    assert content(disk, 1)[:4] != PACKED
    assert segment_name(1) in caplog.text


def test_the_sizes_tell_what_the_log_takes(tmp_path):
    log = FileLog(tmp_path / "log", 1_700_000_000_000_000, segment_bytes=1_024)
    write(log, *[b"a" * 600] * 3)
    segments = list((tmp_path / "log").glob("*.segment"))
    assert log.sizes == (sum(path.stat().st_size for path in segments), 3, 1_700_000_000_000_000)
    log.close()


def test_the_log_keeps_its_name(tmp_path):
    log = FileLog(tmp_path / "log", 0)
    log_id = log.log_id
    log.close()
    log = FileLog(tmp_path / "log", 0)
    assert log.log_id == log_id == FileLogReader(tmp_path / "log").log_id
    assert len(log_id) == 16
    log.close()


def test_a_reader_elsewhere_finds_what_stands(disk):
    log = opened(disk)
    log.write(Kind.APPLIED, 1, 0, b"rules", standing="rules")
    write(log, *[b"much" * 100] * 5)
    log.write(Kind.ACTIVATION, 1, 0, b"state", standing="activation:1")
    reader = FileLogReader(HOME, disk)
    assert reader.standing() == log.standing()
    log.close()
    assert opened(disk).standing() == reader.standing()


def test_a_reader_never_sees_what_was_refused(disk):
    log = opened(disk)
    write(log, b"a")
    reader = FileLogReader(HOME, disk)
    disk.sync, sync = lambda inode: failing(disk, inode), disk.sync
    with pytest.raises(StorageProblem):
        write(log, b"whole, and refused")
    disk.sync = sync
    assert bodies(reader) == [b"a"]
    log.recover()
    write(log, b"b")
    assert bodies(reader) == [b"a", b"b"]


def failing(disk, inode) -> None:
    raise OSError(errno.EIO, "input/output error")


def test_a_folder_without_a_log_cannot_be_read(tmp_path):
    with pytest.raises(StorageProblem, match="cannot be read"):
        FileLogReader(tmp_path)


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path):
    log = FileLog.open(tmp_path / "log", 0, segment_bytes=4_096)
    assert owner_of(tmp_path / "log") == (os.getpid(), None)
    log.lock.publish_url("http://127.0.0.1:8000")
    assert owner_of(tmp_path / "log") == (os.getpid(), "http://127.0.0.1:8000")
    with pytest.raises(StorageProblem, match=f"in use by another Sentinel .pid {os.getpid()}"):
        WriterLock.take(tmp_path / "log")
    log.close()
    assert owner_of(tmp_path / "log") is None
    WriterLock.take(tmp_path / "log").release()


def test_a_log_that_cannot_be_opened_does_not_stay_locked(tmp_path):
    FileLog.open(tmp_path / "log", 0, segment_bytes=4_096).close()
    segment = tmp_path / "log" / segment_name(1)
    segment.write_bytes(b"\0" * 100)
    with pytest.raises(LogDamaged):
        FileLog.open(tmp_path / "log", 0)
    assert owner_of(tmp_path / "log") is None


def test_a_killed_writer_leaves_its_lock_and_all_that_it_acknowledged(tmp_path):
    script = (
        "import sys, pathlib; from sentinel.record.file_log import FileLog\n"
        "log = FileLog.open(pathlib.Path(sys.argv[1]), 0, segment_bytes=8192)\n"
        "for n in range(10**6): print(log.write(1, 1, 0, b'%d' % n * 50), flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path / "log"], stdout=subprocess.PIPE) as process:
        acknowledged = [int(process.stdout.readline()) for _ in range(300)]
        reader = FileLogReader(tmp_path / "log")
        assert reader.durable > acknowledged[-1]
        process.kill()
    log = FileLog.open(tmp_path / "log", 0, segment_bytes=8192)
    assert bodies(log)[:300] == [b"%d" % n * 50 for n in range(300)]
    assert verify(tmp_path / "log").findings == []
    log.close()
    reader.close()


def test_a_missing_oldest_segment_is_no_pruned_one(tmp_path):
    folder = tmp_path / "log"
    log = FileLog.open(folder, 0, segment_bytes=4_096)
    write(log, *[b"a" * 1_000] * 10)
    log.prune(4)
    log.close()
    FileLog.open(folder, 0, segment_bytes=4_096).close()
    oldest = min(folder.glob("*.segment"))
    oldest.unlink()
    with pytest.raises(LogDamaged, match=f"{oldest.name}.*missing"):
        FileLog.open(folder, 0, segment_bytes=4_096)
    assert [one.segment for one in verify(folder).findings] == [oldest.name]


def test_a_lock_that_was_removed_lets_no_second_writer_in(tmp_path):
    log = FileLog.open(tmp_path / "log", 0)
    (tmp_path / "log" / "lock").unlink()
    with pytest.raises(StorageProblem, match="in use by another Sentinel"):
        FileLog.open(tmp_path / "log", 0)
    log.close()
    FileLog.open(tmp_path / "log", 0).close()
