"""The log on a disk that fails, loses what was not synced and stops at any operation: what was acknowledged is kept."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from sentinel.errors import LogDamaged, StorageProblem
from sentinel.record.archive.folder_objects import FolderObjects
from sentinel.record.archive.segments import archive_segment
from sentinel.record.file_log import FileLog
from sentinel.record.log import Follower, Record
from sentinel.record.log_reader import FileLogReader
from sentinel.record.segment import HEAD, bases_in, chained, segment_in, segment_name
from sentinel.record.verify import verify

RUNS = int(os.environ.get("SENTINEL_SIMULATED_RUNS", "60"))
FIRST = int(os.environ.get("SENTINEL_SIMULATED_SEED", "1"))
HOME, ARCHIVE, LOG_ID = Path("/simulated/log"), Path("/simulated/archive"), "0123456789abcdef"


def all_of(log) -> list[Record]:
    return [record for page in Follower(log, log.first).rest(limit=30) for record in page]


class Run:
    """Some lives of one log, one after the other; `acknowledged` is what every later one has to show.

    Of what was pruned, before position `first`, nothing is shown; a pruning that did not end has removed any of the
    oldest segments up to position `wanted`. `copied` has base and end of each segment that was copied to the archive,
    and `archived` the bases of those whose copying has ended.
    """

    def __init__(self, seed: int, simulated_disk) -> None:
        self.random = random.Random(seed)
        self.disk = simulated_disk.SimulatedDisk(seed)
        self.power_cut = simulated_disk.PowerCut
        self.segment_bytes = self.random.choice((1_024, 2_048, 8_192))
        self.acknowledged: list[Record] = []
        self.standing: dict[str, bytes] = {}
        self.unknown: tuple[Record, str | None] | None = None
        self.first = self.wanted = 1
        self.gone = 1  # before it everything is pruned for good: a removal that was not synced may be undone
        self.copied: dict[int, int] = {}
        self.archived: set[int] = set()
        self.counts = Counter()
        self.written = 0

    def live(self) -> None:
        """Open the log, use it until the machine stops, and look at what is left."""
        self.disk.faults = self.random.choice((0.0, 0.01, 0.1))
        self.disk.stop_after = self.random.choice((None, self.random.randint(1, 150)))
        try:
            log = self.open()
            reader = FileLogReader(HOME, self.disk)
            for _ in range(self.random.randint(1, 40)):
                self.use(log, reader)
        except self.power_cut:
            self.counts["stopped"] += 1
        self.disk.faults, self.disk.stop_after = 0.0, None
        self.random.choice((self.disk.kill, self.disk.cut_power))()
        self.look()

    def look(self) -> None:
        """Without faults: everything is there, and whole."""
        log = self.open()
        found = verify(HOME, self.disk)
        assert found.findings == []
        assert found.entries == sum(record.rows for record in self.kept)
        self.check_archive()
        self.check(FileLogReader(HOME, self.disk))
        self.counts["segments"] += found.segments
        log.close()

    def open(self) -> FileLog:
        while True:
            try:
                log = FileLog(HOME, 7, self.disk, self.segment_bytes)
                break
            except LogDamaged:
                raise
            except StorageProblem:
                self.counts["opening failed"] += 1
                self.disk.kill()
        self.settle(log)
        self.check(log)
        return log

    @property
    def kept(self) -> list[Record]:
        return [record for record in self.acknowledged if record.position >= self.first]

    def settle(self, log: FileLog) -> None:
        """What was neither acknowledged nor declared void is there or not, and stays so; the same of what was pruned."""
        assert self.gone <= log.first <= self.wanted
        self.first = self.gone = self.wanted = log.first
        if self.unknown and len(all_of(log)) > len(self.kept):
            self.acknowledge(*self.unknown)
            self.counts["not acknowledged and kept"] += 1
        self.unknown = None

    def acknowledge(self, record: Record, standing: str | None) -> None:
        self.acknowledged.append(record)
        if standing:
            self.standing[standing] = record.body

    def check(self, log) -> None:
        assert log.first == self.first
        assert [record[:5] for record in all_of(log)] == [record[:5] for record in self.kept]
        assert {name: record.body for name, record in log.standing().items()} == self.standing

    def use(self, log: FileLog, reader: FileLogReader) -> None:
        what = self.random.random()
        if what < 0.75:
            self.write(log)
        elif what < 0.80:
            self.close_segment(log)
        elif what < 0.85:
            self.prune(log)
        elif what < 0.95:
            try:
                log.upkeep.work()
            except OSError:
                self.counts["upkeep failed"] += 1
        else:
            self.check(log)
            self.check_reader(self.random.choice((reader, FileLogReader(HOME, self.disk))))

    def check_reader(self, reader: FileLogReader) -> None:
        """Another process sees the beginning of what was acknowledged: all of it, unless telling it failed."""
        seen = all_of(reader)
        assert [record[:5] for record in seen] == [record[:5] for record in self.kept[: len(seen)]]
        assert self.disk.faults or len(seen) == len(self.kept)
        if self.first > 1:
            with pytest.raises(StorageProblem, match="no longer kept"):
                reader.read(self.random.randrange(1, self.first), 1)

    def check_archive(self) -> None:
        """What was copied is there, and whole; a copy that was not completed has no name."""
        bases = set(bases_in(self.disk.names(ARCHIVE / LOG_ID)))
        assert bases >= self.archived
        for base in bases:
            file = self.disk.open(ARCHIVE / LOG_ID / segment_name(base))
            until = self.copied[base]  # what the copy has after that is void
            stored = [one.record for one in chained(file, segment_in(file, base)) if one.record.kind != HEAD]
            copied = [record for record in stored if record.position < until]
            expected = [record for record in self.acknowledged if base <= record.position < until]
            assert [record[:5] for record in copied] == [record[:5] for record in expected]
            self.counts["archived"] += 1

    def prune(self, log: FileLog) -> None:
        """Copy the oldest segments and remove them, one or all of them."""
        closed = log.closed(self.random.choice((1, 99)))
        try:
            for one in closed:
                self.wanted = self.copied[one.base] = one.until
                archive_segment(
                    self.disk, HOME, one.base, one.until, FolderObjects(ARCHIVE, self.disk), LOG_ID, lambda: None
                )
                self.archived.add(one.base)
                log.prune(one.until)
                self.first = self.gone = one.until
                self.counts["pruned"] += 1
        except StorageProblem:
            self.counts["pruning failed"] += 1
            assert self.first <= log.first <= self.wanted
            self.wanted = max(self.wanted, log.first)
            self.first = log.first

    def close_segment(self, log: FileLog) -> None:
        """Go on in the next segment, which begins with a heartbeat, unless this one is empty."""
        end = log.durable
        self.unknown = Record(end, 0, 1, log.clock(0), b""), None
        try:
            log.close_segment(1 << 60, 0)
            if log.durable > end:
                self.acknowledge(*self.unknown)
                self.counts["closed"] += 1
            self.unknown = None
        except StorageProblem:
            self.counts["closing failed"] += 1
            self.recover(log)

    def write(self, log: FileLog) -> None:
        self.written += 1
        body = self.written.to_bytes(4, "little") + self.random.choice((self.random.randbytes, bytes))(
            self.random.choice((0, 5, 200, 900))
        )
        position = self.acknowledged[-1].position + self.acknowledged[-1].rows if self.acknowledged else 1
        record = Record(position, 1, self.random.randint(1, 9), log.clock(self.random.randint(0, 10**6)), body)
        standing = self.random.choice((None, None, None, "a", "b"))
        self.unknown = record, standing
        try:
            assert log.write(record.kind, record.rows, record.received_us, body, standing) == position
            self.acknowledge(record, standing)
            self.unknown = None
        except StorageProblem:
            self.counts["writing failed"] += 1
            if self.random.random() < 0.1:
                raise self.power_cut from None  # it ends before it has recovered
            self.recover(log)

    def recover(self, log: FileLog) -> None:
        while self.unknown:
            with pytest.raises(StorageProblem):
                log.write(1, 1, log.clock(0), b"refused until it has recovered")
            try:
                log.recover()
                self.unknown = None
            except StorageProblem:
                self.counts["recovering failed"] += 1


@pytest.mark.timeout(300 + RUNS)
def test_what_was_acknowledged_survives_faults_kills_and_power_cuts_and_what_was_voided_never_returns(simulated_disk):
    counts = Counter()
    for seed in range(FIRST, FIRST + RUNS):
        run = Run(seed, simulated_disk)
        try:
            for _ in range(run.random.randint(1, 8)):
                run.live()
        except BaseException:
            print(f"SENTINEL_SIMULATED_SEED={seed} SENTINEL_SIMULATED_RUNS=1 shows this again")
            raise
        counts += run.counts
        counts["acknowledged"] += len(run.acknowledged)
        counts["faults"] += run.disk.failed
    print(f"{RUNS} runs from seed {FIRST}: {dict(counts)}")
    assert counts["acknowledged"] > 20 * RUNS
    assert min(counts["pruned"], counts["archived"], counts["closed"]) > RUNS
