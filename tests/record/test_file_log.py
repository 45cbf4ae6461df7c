"""The log on the local disk: what is damaged is named, what cannot be done is refused, and other processes read on."""

import errno
import logging
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sentinel.errors import LogDamaged, StorageProblem
from sentinel.record.file_log import FileLog
from sentinel.record.lock import Owner, WriterLock, owner_of
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
    assert owner_of(tmp_path / "log") == Owner(os.getpid(), None)
    log.lock.publish_url("http://127.0.0.1:8000", "acme")
    assert owner_of(tmp_path / "log") == Owner(os.getpid(), "http://127.0.0.1:8000", "acme")
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


# pruning


class Interrupted:
    """The same disk for others: before its next operation of this name, something is done once."""

    def __init__(self, disk, operation: str, interruption) -> None:
        self._disk, self._operation, self._interruption = disk, operation, interruption

    def __getattr__(self, name):
        if name == self._operation and self._interruption is not None:
            interruption, self._interruption = self._interruption, None
            interruption()
            time.sleep(0.02)  # for what it has begun in another thread
        return getattr(self._disk, name)


@pytest.mark.parametrize("operation", ["open", "create", "rename"])
def test_a_segment_that_is_pruned_while_it_is_compressed_does_not_come_back(disk, operation):
    small_log(disk)
    interrupted = Interrupted(disk, "none yet", lambda: pruning.start())
    log = FileLog(HOME, 5, interrupted, SEGMENT)
    log.upkeep._keep_free = 1 << 50  # nothing is made ahead
    log.prune(10)
    pruning = threading.Thread(target=log.prune, args=(19,))
    interrupted._operation = operation
    log.upkeep.work()
    pruning.join()
    assert bases_in(disk.names(HOME)) == [19]
    assert log.first == 19
    assert verify(HOME, disk).findings == []


@pytest.mark.parametrize(
    ("look", "seen"),
    [
        (lambda reader: reader.closed(9)[0].base, 10),
        (lambda reader: reader.first_after(-1), 10),
        (lambda reader: reader.sizes.segments, 2),
        (lambda reader: reader.pruned_us, 0),
        (lambda reader: reader.read(11, 1)[0].position, 10),
    ],
)
def test_what_is_pruned_while_a_reader_looks_is_left_out(disk, look, seen):
    small_log(disk)
    log = opened(disk)
    interrupted = Interrupted(disk, "none yet", lambda: log.prune(10))
    reader = FileLogReader(HOME, interrupted)
    interrupted._operation = "open"
    assert look(reader) == seen
    assert log.first == 10


def test_a_reader_that_begins_while_the_log_is_pruned_finds_it(disk):
    small_log(disk)
    log = opened(disk)
    for times in (1, 2):  # `end` is opened, or a segment
        reader = FileLogReader(HOME, Interrupted(disk, "open", lambda until=10 * times - times + 1: log.prune(until)))
        assert reader.first == log.first
    assert log.first == 19


@pytest.mark.parametrize("operation", ["names", "open"])
def test_a_log_that_is_pruned_while_it_is_verified_is_whole(disk, operation):
    small_log(disk)
    log = opened(disk)
    found = verify(HOME, Interrupted(disk, operation, lambda: log.prune(10)))
    assert (found.first, found.segments, found.entries, found.findings) == (10, 2, 15, [])
    interrupted = Interrupted(disk, "none yet", lambda: log.prune(19))
    names = disk.names

    def names_and_then_open(folder):
        interrupted._operation = "open"
        return names(folder)

    interrupted.names = names_and_then_open
    found = verify(HOME, interrupted)
    assert (found.first, found.segments, found.entries, found.findings) == (19, 1, 6, [])


def test_a_segment_that_is_pruned_between_two_checks_is_left_out(disk):
    """Its head was read when the sequence was checked; then it goes before all of it is read."""
    small_log(disk)
    log = opened(disk)
    opens = []

    class Late:
        def __getattr__(self, name):
            if name == "open":
                opens.append(name)
                if len(opens) == 6:  # `end`, three heads, the first segment
                    log.prune(19)
            return getattr(disk, name)

    found = verify(HOME, Late())
    assert (found.first, found.segments, found.entries, found.findings) == (19, 1, 6, [])


def test_a_segment_that_others_remove_is_missing_and_not_pruned(disk):
    small_log(disk)
    reader = FileLogReader(HOME, disk)
    disk.unlink(HOME / segment_name(10))
    with pytest.raises(StorageProblem):
        reader.first_after(-1) and reader.closed(9) and reader.read(1, 99)
    found, *_ = verify(HOME, disk).findings
    assert found.segment == segment_name(10)


def test_what_is_closed_says_when_it_was_received_last(disk):
    log = opened(disk)
    for received_us in (10, 20, 30, 40, 50, 60):
        log.write(Kind.DECIDED, 3, received_us, b"x" * 187)
    assert log.pruned_us == 0
    closed = log.closed(9)
    assert [(one.base, one.until, one.newest_us) for one in closed] == [(1, 10, 30)]
    assert closed[0].bytes == len(content(disk, 1))
    assert log.closed(0) == []
    log.prune(10)
    assert (log.pruned_us, log.closed(9)) == (30, [])


def test_a_segment_is_closed_when_it_is_old_and_has_entries(disk):
    log = opened(disk)  # at 5
    log.close_segment(100, 100)
    assert log.durable == 1, "there is nothing in it"
    write(log, b"a")
    log.close_segment(5, 100)
    assert bases_in(disk.names(HOME)) == [1], "it is not that old"
    log.close_segment(6, 100)
    assert bases_in(disk.names(HOME)) == [1, 2]
    (beat,) = log.read(2, 1)
    assert (beat.kind, beat.position, beat.received_us) == (Kind.HEARTBEAT, 2, 100)
    log.close_segment(100, 200)
    assert bases_in(disk.names(HOME)) == [1, 2], "made at 100"
    log.close()
    again = opened(disk)
    again.close_segment(101, 200)
    assert bases_in(disk.names(HOME)) == [1, 2, 3]


def test_no_segment_is_closed_by_age_while_the_next_one_is_still_being_made(tmp_path):
    log = FileLog(tmp_path / "log", 5, segment_bytes=SEGMENT)
    write(log, b"a")
    log.start_upkeep()
    write(log, b"b")
    until = time.monotonic() + 10
    while log.upkeep.is_behind:
        assert time.monotonic() < until
        time.sleep(0.01)
    spare, log.upkeep._spare = log.upkeep._spare, None
    log.close_segment(1 << 60, 100)
    assert log.durable == 3
    log.upkeep._spare = spare
    log.close_segment(1 << 60, 100)
    assert log.durable == 4
    log.close()


def test_a_segment_that_cannot_be_closed_is_a_fault_like_any_other(disk):
    log = opened(disk)
    write(log, b"a")
    disk.faults = 1.0
    with pytest.raises(StorageProblem, match="cannot be written"):
        log.close_segment(1 << 60, 100)
    disk.faults = 0.0
    with pytest.raises(StorageProblem, match="cannot be written"):
        log.close_segment(1 << 60, 100)
    log.recover()
    write(log, b"b")
    assert bodies(log) == [b"a", b"b"]


_READING = """
import sys, time
from pathlib import Path
from sentinel.errors import StorageProblem
from sentinel.record.log_reader import FileLogReader
reader = FileLogReader(Path(sys.argv[1]))
print("ready", flush=True)
seen = refused = 0
until = time.monotonic() + 120
while reader.first < int(sys.argv[2]):
    assert time.monotonic() < until
    for position in range(max(reader.first - 50, 1), reader.durable, 7):
        try:
            (record, *_) = reader.read(position, 1)
            assert record.body == b"%d" % record.position * 100, record
            seen += 1
        except StorageProblem as problem:
            assert "is no longer kept" in str(problem), problem
            refused += 1
assert seen > 100 and refused, (seen, refused)
"""


def test_another_process_reads_on_while_what_it_reads_is_removed(tmp_path):
    log = FileLog.open(tmp_path / "log", 0, segment_bytes=8_192)
    for position in range(1, 2_000):
        log.write(Kind.DECIDED, 1, 1, b"%d" % position * 100)
    command = [sys.executable, "-c", _READING, tmp_path / "log", "1900"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reading:
        assert reading.stdout.readline() == b"ready\n"
        for until in range(1, 1_990, 20):
            log.prune(until)
            time.sleep(0.01)
        assert reading.wait(120) == 0
    log.close()


_PRUNING = """
import sys
from pathlib import Path
from sentinel.record.archive.folder_objects import FolderObjects
from sentinel.record.archive.segments import archive_segment
from sentinel.record.disk import RealDisk
from sentinel.record.file_log import FileLog
home = Path(sys.argv[1])
log = FileLog.open(home / "log", 0, segment_bytes=4_096)
print("ready", flush=True)
n = log.durable
while True:
    for _ in range(30):
        log.write(1, 1, 1, b"%d" % n * 100)
        n += 1
    log.upkeep.work()
    archive = FolderObjects(home / "archive")
    for one in log.closed(2):
        archive_segment(RealDisk(), home / "log", one.base, one.until, archive, log.log_id, lambda: None)
        log.prune(one.until)
"""


def test_a_process_that_is_killed_while_it_prunes_leaves_a_whole_log(tmp_path):
    rng = random.Random(3)
    first = 1
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", _PRUNING, tmp_path], stdout=subprocess.PIPE) as pruning:
            assert pruning.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.5))
            pruning.kill()
        found = verify(tmp_path / "log")
        assert found.findings == []
        assert found.first >= first
        first = found.first
        log = FileLog.open(tmp_path / "log", 0, segment_bytes=4_096)
        assert all(one == b"%d" % n * 100 for n, one in enumerate(bodies(log), log.first))
        log.close()
        archived = bases_in(path.name for path in (tmp_path / "archive").glob("*/*"))
        assert [base for base in archived if base < first] == archived[: len([b for b in archived if b < first])]
        assert not first > 1 or archived[0] == 1
    assert first > 50
