"""The rollout on real bundles: a deployment that can be loaded is followed, any other changes nothing but `problem`."""

import asyncio
import shutil
import time

import msgspec
import pytest

from sentinel.errors import NotReady, StorageProblem
from sentinel.model.registry import Registry
from sentinel.policy.model_call import Limits
from sentinel.policy.thresholds import Thresholds
from sentinel.record.applied import NAME, HomeDeployment, deployment_in, log_folder
from sentinel.record.file_log import FileLog
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.log import Kind
from sentinel.record.snapshots import Snapshots
from sentinel.serve.engine import Engine
from sentinel.serve.rollout import Rollout
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.vectors.score_cache import ScoreCache
from sentinel.serve.worker import Worker
from sentinel.telemetry.counters import Counters, Slot

VECTOR = [20.5, 0.1, 1.0, 1.0, 2.0, 20.5, None, None, 1.0, 3600.0, 4.0, 0.02]
PATIENT = Limits(deadline_s=10.0)


@pytest.fixture
def home(four_models_home, tmp_path):
    shutil.copytree(four_models_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def record(home):
    return HomeDeployment(home)


class Process:
    """What of a server follows the deployment: a predictor in a process that does not own the log."""

    def __init__(self, home):
        self.home = home
        self.counters = Counters()
        self.predictor = Predictor(PATIENT, ScoreCache(1000, 1000.0), 1000, self.counters)
        self.worker = None
        self.rollout = self.new_rollout()

    def new_rollout(self):
        deployment = HomeDeployment(self.home)

        async def change(how):
            return await asyncio.to_thread(deployment.change, how)

        return Rollout(deployment.read, change, Registry(self.home / "models"), self.counters.for_thread(2))

    async def __aenter__(self):
        self.rollout.start(self.predictor, self.worker)
        if self.worker:
            self.worker.start()
        return self

    async def __aexit__(self, *_):
        await asyncio.to_thread(self.rollout.stop)
        if self.worker:
            await asyncio.to_thread(self.worker.stop)
        self.predictor.stop()

    async def promote(self, version):
        return await self.rollout.change(lambda deployment: deployment.with_champion(version))

    @property
    def version(self):
        return self.predictor.lineup and self.predictor.lineup.champion.version

    async def answer(self):
        """The version that answers a vector now."""
        told = []
        body = msgspec.json.encode({"features": VECTOR})
        self.predictor.ask(body, time.monotonic_ns(), 2**62, told.append)
        await asyncio.sleep(0)
        return msgspec.json.decode(told[0])["model_version"]


class Owner(Process):
    """A process that owns the log, and decides."""

    def new_rollout(self):
        self.log = FileLog.open(log_folder(self.home), time.time_ns() // 1000, 1 << 20)
        self.worker = Worker(self.log, self.open_engine, 1000)

        async def change(how):
            return self.worker.apply(how)

        registry = Registry(self.home / "models")
        return Rollout(lambda: deployment_in(self.log), change, registry, self.counters.for_thread(2))

    def open_engine(self):
        journal = Journal(self.log, IdIndex(self.home / "ids", self.log))
        lineup = self.rollout.first_lineup()
        return Engine(lineup, journal, Snapshots(self.home / "snapshots"), PATIENT, self.counters.for_thread(1))

    async def __aexit__(self, *given):
        await super().__aexit__(*given)
        self.log.close()


async def until(what, patience_s=60.0):
    end = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.01)


# the first lineup


def test_what_the_record_names_first_answers_before_anything_is_followed(home):
    process = Process(home)
    process.rollout.load_first()
    loaded = process.rollout.lineup
    assert (loaded.champion.version, process.rollout.deployment.champion) == ("v1", "v1")

    async def run():
        async with process:
            assert await process.answer() == "v1"
            assert await process.rollout.reach(1) is None
            assert await process.answer() == "v1"

    asyncio.run(run())
    assert process.predictor.lineup is loaded  # it is not loaded again
    assert process.counters.totals()[Slot.SWAPS] == 0


@pytest.mark.parametrize("champion", [None, "v9"])
def test_without_a_first_model_the_reason_is_told_until_there_is_one(home, record, champion):
    record.change(lambda deployment: msgspec.structs.replace(deployment, champion=champion))
    process = Process(home)
    process.rollout.load_first()
    assert (process.version, process.rollout.problem) == (None, "still loading")
    reason = "no model 'v9'" if champion else "no champion; run `sentinel train`"

    async def run():
        async with process:
            assert reason in await process.rollout.reach(2)
            with pytest.raises(NotReady, match="No model can answer: .*" + reason):
                await process.answer()
            with pytest.raises(NotReady, match=reason):
                process.rollout.first_lineup()
            after = record.change(lambda deployment: deployment.with_champion("v2"))
            assert await process.rollout.reach(after.revision) is None
            assert await process.answer() == "v2"
            assert process.rollout.first_lineup() is process.predictor.lineup

    asyncio.run(run())


# changes


def test_the_predictor_has_switched_when_reach_returns(home, record):
    process = Process(home)

    async def run():
        async with process:
            assert await process.rollout.reach(1) is None
            for n in range(12):
                wanted = ("v2", "v3", "v1")[n % 3]
                after = record.change(lambda deployment, wanted=wanted: deployment.with_champion(wanted))
                assert process.version != wanted
                assert await process.rollout.reach(after.revision) is None
                assert (process.version, process.predictor.lineup.revision) == (wanted, after.revision)
                assert await process.answer() == wanted
                assert process.rollout.deployment == after

    asyncio.run(run())
    assert process.counters.totals()[Slot.SWAPS] == 12


def test_a_change_is_found_without_anyone_waiting_for_it(home, record):
    async def run():
        async with Process(home) as process:
            assert await process.rollout.reach(1) is None
            record.promote("v2")
            await until(lambda: process.version == "v2", 2.0)

    asyncio.run(run())


def test_what_is_loaded_is_taken_over_and_is_no_swap(home, record):
    process = Process(home)

    async def run():
        async with process:
            assert await process.rollout.reach(1) is None
            bundle = process.predictor.lineup.champion.bundle
            after = record.change(lambda deployment: deployment.with_thresholds(Thresholds(0.0, None), "a"))
            assert await process.rollout.reach(after.revision) is None
            assert process.predictor.lineup.champion.bundle is bundle
            assert process.predictor.lineup.champion.thresholds == Thresholds(0.0, None)

    asyncio.run(run())
    assert process.counters.totals()[Slot.SWAPS] == 0


def test_quick_changes_end_at_the_last(home, record):
    process = Process(home)

    async def run():
        async with process:
            assert await process.rollout.reach(1) is None
            revisions = [
                record.change(lambda deployment, wanted=wanted: deployment.with_champion(wanted)).revision
                for wanted in ("v2", "v3", "v1", "v4")
            ]
            assert [await process.rollout.reach(one) for one in reversed(revisions)] == [None] * 4
            for _ in range(10):
                assert (process.version, process.predictor.lineup.revision) == ("v4", revisions[-1])
                await asyncio.sleep(0.05)

    asyncio.run(run())


def test_two_that_change_and_wait_at_once_both_arrive(home, record):
    async def change(process, wanted):
        after = await asyncio.to_thread(record.change, lambda deployment: deployment.with_champion(wanted))
        assert await process.rollout.reach(after.revision) is None
        assert process.predictor.lineup.revision >= after.revision

    async def run():
        async with Process(home) as process:
            assert await process.rollout.reach(1) is None
            await asyncio.gather(change(process, "v2"), change(process, "v3"))
            assert (process.version, process.predictor.lineup.revision) == (record.champion(), 3)

    asyncio.run(run())


# what cannot be loaded


def test_an_unknown_version_changes_nothing_but_the_problem(home, record):
    process = Process(home)

    async def run():
        async with process:
            assert await process.rollout.reach(1) is None
            loaded, deployment = process.predictor.lineup, process.rollout.deployment
            after = record.change(lambda one: one.with_champion("v9"))
            problem = await process.rollout.reach(after.revision)
            assert "no model 'v9'" in problem
            assert process.rollout.problem == problem
            assert process.predictor.lineup is loaded
            assert process.rollout.deployment == deployment
            assert await process.answer() == "v1"
            after = record.change(lambda one: one.with_champion("v2"))
            assert await process.rollout.reach(after.revision) is None
            assert (process.rollout.problem, await process.answer()) == (None, "v2")

    asyncio.run(run())


def test_a_model_that_appears_later_is_found_without_another_change(home, record):
    bundle = home / "models" / "v2"
    bundle.rename(home / "v2")

    async def run():
        async with Process(home) as process:
            assert await process.rollout.reach(1) is None
            after = record.change(lambda one: one.with_champion("v2"))
            assert "no model 'v2'" in await process.rollout.reach(after.revision)
            (home / "v2").rename(bundle)
            await until(lambda: process.rollout.problem is None)
            assert await process.rollout.reach(after.revision) is None
            assert await process.answer() == "v2"

    asyncio.run(run())


def test_a_deployment_that_cannot_be_read_is_told_until_there_is_another(home, record):
    def write(body):
        log = FileLog.open(log_folder(home), 0)
        log.write(Kind.APPLIED, 1, log.clock(0), body, standing=NAME)
        log.close()

    async def run():
        async with Process(home) as process:
            assert await process.rollout.reach(1) is None
            good = msgspec.json.encode(record.read())
            write(b'{"from": "the future"}')
            # of which no one knows a revision
            assert "of another version of Sentinel" in await process.rollout.reach(2, patience_s=0.5)
            assert await process.answer() == "v1"
            write(good)
            await until(lambda: process.rollout.problem is None)
            await process.promote("v2")
            assert await process.rollout.reach(2) is None
            assert await process.answer() == "v2"

    asyncio.run(run())


def test_a_revision_that_does_not_come_is_told_after_the_patience(home):
    async def run():
        async with Process(home) as process:
            assert await process.rollout.reach(1) is None
            assert await process.rollout.reach(5, patience_s=1.0) == "revision 5 is not loaded after 1 s"
            assert process.rollout.problem is None

    asyncio.run(run())


# the engine


def test_engine_and_predictor_are_both_there_when_reach_returns(home):
    async def run():
        async with Owner(home) as process:
            await until(lambda: process.worker.engine is not None)
            for wanted in ("v2", "v3", "v1"):  # v3 has a history of its own
                after = await process.promote(wanted)
                assert await process.rollout.reach(after.revision) is None
                for lineup in (process.worker.engine.lineup, process.predictor.lineup):
                    assert (lineup.champion.version, lineup.revision) == (wanted, after.revision)
            after = await process.promote("v9")
            assert "no model 'v9'" in await process.rollout.reach(after.revision)
            assert process.worker.engine.lineup.champion.version == process.version == "v1"

    asyncio.run(run())


def test_an_owner_without_a_champion_gets_its_engine_with_the_first(home, record):
    record.change(lambda deployment: msgspec.structs.replace(deployment, champion=None))

    async def run():
        async with Owner(home) as process:
            await until(lambda: "no champion" in process.worker.reason)
            after = await process.promote("v2")
            assert await process.rollout.reach(after.revision) is None
            await until(lambda: process.worker.engine is not None)
            assert process.worker.engine.lineup.champion.version == "v2"

    asyncio.run(run())


class SlowToOpen(Owner):
    """Its engine opens with what was in force before the predictor went on to v2."""

    async def __aenter__(self):
        self.loop = asyncio.get_running_loop()
        return await super().__aenter__()

    def open_engine(self):
        engine = super().open_engine()
        asyncio.run_coroutine_threadsafe(self.promote("v2"), self.loop).result()
        asyncio.run(until(lambda: self.version == "v2"))
        assert engine.lineup.champion.version == "v1"
        return engine


def test_an_engine_that_opened_with_an_older_lineup_is_brought_along(home):
    async def run():
        async with SlowToOpen(home) as process:
            await until(lambda: process.worker.engine is not None)
            await until(lambda: process.worker.engine.lineup.champion.version == "v2")
            assert process.worker.engine.lineup.revision == 2

    asyncio.run(run())


def test_after_a_fault_the_next_engine_has_the_lineup_in_force(home, monkeypatch):
    def refuse(*_given, **_more):
        monkeypatch.undo()
        raise StorageProblem("no space left on device")

    async def run():
        async with Owner(home) as process:
            await until(lambda: process.worker.engine is not None)
            first = process.worker.engine
            assert await process.rollout.reach((await process.promote("v2")).revision) is None
            monkeypatch.setattr(process.log, "write", refuse)
            with pytest.raises(StorageProblem):
                await process.promote("v3")
            await until(lambda: process.worker.engine is not None)
            assert process.worker.engine is not first
            assert process.worker.engine.lineup is process.rollout.lineup
            assert process.rollout.deployment.champion == process.version == "v2"
            assert await process.rollout.reach((await process.promote("v3")).revision) is None
            assert process.worker.engine.lineup.champion.version == process.version == "v3"

    asyncio.run(run())
