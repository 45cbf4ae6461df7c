"""A front follows what is applied: it switches to it, keeps what it has where that cannot be had, and says how old it is."""

import asyncio
import shutil
from contextlib import asynccontextmanager

import msgspec
import pytest

from sentinel.config import read_settings
from sentinel.errors import StorageProblem
from sentinel.front_app import _loader
from sentinel.policy.model_call import Limits, ModelCaller
from sentinel.policy.thresholds import Thresholds
from sentinel.record.applied import HomeDeployment
from sentinel.record.home_reader import open_log
from sentinel.record.snapshots import Snapshots
from sentinel.transport.wide.following import OLD_S, Following
from sentinel.transport.wide.judging import KnownLists

PATIENCE_S = 60


class Followed:
    """A home whose log is followed, a clock, and what was switched to."""

    def __init__(self, home):
        self.home, self.now_s, self.is_away, self.switched = home, 100.0, False, []
        self.deployment = HomeDeployment(home)
        models, lists = ModelCaller(Limits(deadline_s=10.0)), KnownLists()
        load = _loader(read_settings({"home": home}), models, lists)
        self.following = Following(self.opened, Snapshots(home / "snapshots"), load, lists, lambda: self.now_s)
        self.following.follow_with(self.switched.append)

    def opened(self):
        if self.is_away:
            raise StorageProblem("the log is away")
        return open_log(self.home)

    def change(self, **what):
        self.deployment.change(lambda before: msgspec.structs.replace(before, **what))

    @asynccontextmanager
    async def running(self):
        self.following.start()
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield
        finally:
            await asyncio.to_thread(self.following.stop)

    async def until(self, what):
        while not what():
            await asyncio.sleep(0.02)


@pytest.fixture
def followed(two_models_home, tmp_path):
    return Followed(shutil.copytree(two_models_home, tmp_path / "home"))


def test_what_is_applied_is_switched_to(followed):
    async def follow():
        async with followed.running():
            followed.change(thresholds=Thresholds(0.1, 0.9))
            await followed.until(lambda: len(followed.switched) == 1)
            followed.change(champion="v2", thresholds=None)
            await followed.until(lambda: len(followed.switched) == 2)

    asyncio.run(follow())
    first, second = followed.switched
    assert (first.contender.version, first.contender.thresholds) == ("v1", Thresholds(0.1, 0.9))
    assert (second.contender.version, second.lineup.revision) == ("v2", first.lineup.revision + 1)


def test_what_cannot_be_loaded_changes_nothing_and_is_said(followed):
    async def follow():
        async with followed.running():
            (followed.home / "models" / "v2").rename(followed.home / "away")
            followed.change(champion="v2")
            await followed.until(lambda: followed.following.problem is not None)
            said, followed.now_s = followed.following.problem, followed.now_s + OLD_S + 1
            assert followed.switched == []
            assert followed.following.is_old
            assert said in followed.following.why_old
            (followed.home / "away").rename(followed.home / "models" / "v2")
            await followed.until(lambda: followed.following.problem is None)
            return said

    assert "v2" in asyncio.run(follow())
    assert [one.contender.version for one in followed.switched] == ["v2"]
    assert not followed.following.is_old


def test_a_log_that_is_away_makes_what_is_known_old(followed):
    async def follow():
        async with followed.running():
            followed.is_away = True
            followed.following._close()  # as after a fault
            await followed.until(lambda: followed.following.problem == "the log is away")
            assert not followed.following.is_old
            followed.now_s += OLD_S + 1
            assert "31 s ago: the log is away" in followed.following.why_old
            followed.is_away = False
            await followed.until(lambda: followed.following.problem is None)

    asyncio.run(follow())
    assert not followed.following.is_old
    assert followed.switched == []
