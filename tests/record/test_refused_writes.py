"""`nothing was stored` is true: wherever a write, a sync or a rename fails, and whatever of it has reached the disk."""

import errno
import itertools
from pathlib import Path

import pytest

from sentinel.errors import StorageProblem
from sentinel.record.file_log import FileLog
from sentinel.record.log import Follower
from sentinel.record.log_reader import FileLogReader
from sentinel.record.verify import verify

HOME = Path("/simulated/log")
SEGMENT = 1_024
OPERATIONS = 14  # more than a write, the end of a segment and two recoveries take


class Failing:
    """Makes some operations of a disk fail, by their numbers from now on; `part` of their data is written."""

    def __init__(self, disk, numbers, part) -> None:
        self.disk, self.numbers, self.part = disk, set(numbers), part
        self.done = 0
        disk.step = self.step

    def step(self, inode=None, offset=0, data=b"") -> None:
        self.done += 1
        if self.done not in self.numbers:
            self.disk._write(inode, offset, data)
            return
        length = {"nothing": 0, "a part": len(data) // 2, "all": len(data)}[self.part]
        self.disk._write(inode, offset, data[:length])
        raise OSError(errno.ENOSPC if len(data) else errno.EIO, "the test says so")


def bodies(log) -> list[bytes]:
    return [record.body for page in Follower(log, log.first).rest() for record in page]


@pytest.mark.parametrize("part", ["nothing", "a part", "all"])
@pytest.mark.parametrize("has_spare", [True, False])
@pytest.mark.parametrize("ends_segment", [True, False])
def test_what_is_refused_is_not_there_after_any_end_and_what_is_acknowledged_is(
    simulated_disk, part, has_spare, ends_segment
):
    said = {"stored": 0, "nothing stored": 0, "not known": 0}
    for first, many, end, seed in itertools.product(
        range(1, OPERATIONS), (1, 2, 3, 6), ("kill", "cut_power"), range(2)
    ):
        disk = simulated_disk.SimulatedDisk(seed)
        log = FileLog(HOME, 1, disk, SEGMENT)
        log.write(1, 1, 1, b"before" * (120 if ends_segment else 1))
        if has_spare:
            log.upkeep.work()
        reader = FileLogReader(HOME, disk)
        Failing(disk, range(first, first + many), part)
        fates = {body: fate_of(log, body) for body in (b"x" * 300, b"y" * 300)}
        assert set(bodies(reader)) <= {*(body for body, fate in fates.items() if fate == "stored"), *bodies(log)}
        del disk.step
        getattr(disk, end)()
        there = bodies(FileLog(HOME, 1, disk, SEGMENT))
        for body, fate in fates.items():
            said[fate] += 1
            assert there.count(body) <= 1
            assert fate == "not known" or (body in there) == (fate == "stored"), (first, many, end, seed, fate)
        assert verify(HOME, disk).findings == []
    assert min(said.values()) > 20


def fate_of(log, body) -> str:
    """What a caller is told: see `sentinel.serve.opener`."""
    try:
        log.write(1, 1, log.clock(1), body)
    except StorageProblem:
        try:
            log.recover()
        except StorageProblem:
            return "not known"
        return "nothing stored"
    return "stored"


def test_a_record_that_is_refused_before_it_is_written_is_nowhere(simulated_disk):
    disk = simulated_disk.SimulatedDisk(1)
    log = FileLog(HOME, 1, disk, SEGMENT)
    with pytest.raises(StorageProblem, match="larger than a segment"):
        log.write(1, 1, 1, b"x" * 2_000)
    log.recover()
    log.write(1, 1, 1, b"next")
    disk.kill()
    assert bodies(FileLog(HOME, 1, disk, SEGMENT)) == [b"next"]
