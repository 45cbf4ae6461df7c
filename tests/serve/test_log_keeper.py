"""The log keeper: its thread takes one step after the other, outlives what fails, and ends when it is told to."""

import asyncio
import time
from contextlib import closing

import msgspec
import pytest

from sentinel.errors import LogDamaged, NotReady, StorageProblem
from sentinel.record.archive.archiver import Archiver
from sentinel.record.archive.place import PROGRAM, open_archive
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.problem import tell_problem
from sentinel.record.projector import Projector
from sentinel.record.pruning import Retention
from sentinel.record.segment import segment_name
from sentinel.record.views.place import ViewPlace
from sentinel.record.views.sqlite import FILE, SqliteView
from sentinel.serve import log_keeper
from sentinel.serve.log_keeper import LogKeeper
from sentinel.serve.worker import Worker

OFTEN = Retention(keep_us=24_000_000, remember_us=24_000_000)  # every second
NEVER = Retention(keep_us=None, remember_us=24_000_000)


def no_engine():
    raise StorageProblem("the disk is full")


class Desk:
    """A log of 1970 in small segments with its view, and a keeper beside a worker that has no engine."""

    def __init__(self, home, retention):
        self.log = FileLog.open(home / "log", 1, segment_bytes=4_096)
        for n in range(100):
            self.log.write(Kind.HEARTBEAT, 1, n + 1, b"x" * 500)
        with closing(SqliteView(home / FILE)) as view:
            Projector(view, self.log, dict).step()
        self.keeper = LogKeeper(home, self.log, retention, ViewPlace(home))
        self._worker = Worker(self.log, no_engine, 10)

    async def __aenter__(self):
        self._worker.start()
        self.keeper.start(self._worker)
        return self

    async def __aexit__(self, *_):
        await asyncio.to_thread(self.keeper.stop)
        await asyncio.to_thread(self._worker.stop)
        self.log.close()

    async def until(self, what):
        end = time.monotonic() + 60
        while not (found := what()):
            assert time.monotonic() < end, "it did not happen"
            await asyncio.sleep(0.01)
        return found


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(log_keeper, "_FIRST_S", 0.05)
    monkeypatch.setattr(log_keeper, "_PAUSE_S", 0.01)


def test_it_prunes_step_by_step_also_while_there_is_no_engine(tmp_path):
    async def scenario():
        async with Desk(tmp_path, OFTEN) as desk:
            await desk.until(lambda: desk.keeper.last and not desk.keeper.last.more)
            assert desk.log.closed(9) == []
            assert desk.log.durable == 101, "nothing is written without an engine"
            assert desk.keeper.pruned_at is not None
            assert desk.keeper.last.first == desk.log.first > 90

    asyncio.run(scenario())


def test_an_archive_that_lacks_the_log_holds_it_back_as_long_as_it_does(tmp_path):
    address = str(tmp_path / "archive")

    async def scenario():
        async with Desk(tmp_path, msgspec.structs.replace(OFTEN, archive=address)) as desk:
            (why,) = await desk.until(lambda: desk.keeper.last and desk.keeper.last.held_by)
            assert why == f"the archive {address} has its segments before position 0"
            assert why in desk.keeper.warning(desk.log.sizes.oldest_us)
            assert desk.log.first == 1
            tell_problem(tmp_path, PROGRAM, "the bucket has gone")
            await desk.until(lambda: desk.keeper.last.held_by == ["the bucket has gone"])
            with closing(FileLogReader(tmp_path / "log")) as log:
                archiver = Archiver(tmp_path, log, open_archive(address, tmp_path))
                while archiver.step(1):
                    pass
            held = await asyncio.wrap_future(desk.keeper.prune(desk.keeper.retention))
            assert (held.removed, held.held_by) == (0, ["the bucket has gone"])
            tell_problem(tmp_path, PROGRAM, None)
            await desk.until(lambda: desk.log.first > 90)

    asyncio.run(scenario())


def test_it_outlives_what_fails_and_says_so_meanwhile(tmp_path):
    async def scenario():
        desk = Desk(tmp_path, OFTEN)
        second = tmp_path / "log" / segment_name(desk.log.closed(1)[0].until)
        whole = second.read_bytes()
        second.write_bytes(bytes(100) + whole[100:])
        async with desk:
            problem = await desk.until(lambda: desk.keeper.problem)
            assert "its head is not as it was written" in problem
            assert problem in desk.keeper.warning(0)
            with pytest.raises(LogDamaged):
                await asyncio.wrap_future(desk.keeper.prune(OFTEN))
            second.write_bytes(whole)
            await desk.until(lambda: desk.log.first > 90)
            assert (desk.keeper.problem, desk.keeper.warning(0)) == (None, None)

    asyncio.run(scenario())


def test_who_asks_all_the_time_does_not_keep_it_from_its_work(tmp_path):
    async def scenario():
        async with Desk(tmp_path, OFTEN) as desk:
            end = time.monotonic() + 60
            while desk.log.first == 1:
                assert time.monotonic() < end
                await asyncio.wrap_future(desk.keeper.look(NEVER))

    asyncio.run(scenario())


def test_what_is_asked_is_answered_in_its_thread_and_no_sooner_than_the_rest(tmp_path):
    async def scenario():
        async with Desk(tmp_path, NEVER) as desk:
            would = await asyncio.wrap_future(desk.keeper.look(OFTEN))
            assert (would.dry_run, would.removed, desk.log.first) == (True, len(desk.log.closed(99)), 1)
            steps = [desk.keeper.prune(OFTEN) for _ in range(2)]
            done = [await asyncio.wrap_future(step) for step in steps]
            assert [step.removed for step in done] == [4, 4]
            assert done[0].more
            assert done[1].segments == would.segments - 8

    asyncio.run(scenario())


def test_who_asked_and_has_gone_does_not_end_it(tmp_path):
    async def scenario():
        async with Desk(tmp_path, NEVER) as desk:
            asked = [desk.keeper.look(OFTEN) for _ in range(20)]
            assert asked[-1].cancel()
            assert (await asyncio.wrap_future(desk.keeper.look(OFTEN))).removed > 0

    asyncio.run(scenario())


def test_whoever_still_waits_when_it_ends_is_told(tmp_path):
    async def scenario():
        async with Desk(tmp_path, NEVER) as desk:
            asked = [desk.keeper.look(OFTEN) for _ in range(50)]
            await asyncio.to_thread(desk.keeper.stop)
            assert asked[0].result(0).dry_run
            for late in (asked[-1], desk.keeper.prune(OFTEN)):
                with pytest.raises(NotReady, match="shutting down"):
                    late.result(0)

    asyncio.run(scenario())


def test_it_ends_in_the_middle_of_a_step(tmp_path, monkeypatch):
    monkeypatch.setattr("sentinel.record.pruning._PAUSE_S", 300.0)

    async def scenario():
        async with Desk(tmp_path, NEVER) as desk:
            second = desk.log.closed(1)[0].until
            asked = desk.keeper.prune(OFTEN)
            await desk.until(lambda: desk.log.first > 1)
            await asyncio.to_thread(desk.keeper.stop)
            with pytest.raises(NotReady, match="shutting down"):
                asked.result(0)
            assert desk.log.first == second

    asyncio.run(scenario())


def test_the_longer_the_log_is_kept_the_rarer_it_is_looked_at(tmp_path):
    log = FileLog.open(tmp_path / "log", 1)
    every_s = [
        LogKeeper(tmp_path, log, Retention(keep_us, 1), ViewPlace(tmp_path))._every_s()
        for keep_us in (None, 180 * 86_400_000_000, 3_600_000_000, 1_000_000)
    ]
    assert every_s == [3_600, 3_600, 150, 1]
    log.close()
