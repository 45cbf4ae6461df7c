"""The watch: it ends an experiment that does harm, shows what is known of both, and outlives what fails."""

import asyncio
import time

import msgspec
import numpy as np
import pytest

from sentinel.errors import StorageProblem
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment, Experiment
from sentinel.policy.experiment import HOPELESS_AFTER
from sentinel.policy.model_call import Limits
from sentinel.record.applied import apply, deployment_in
from sentinel.review.drift import DriftSettings
from sentinel.serve import watch as watch_module
from sentinel.serve.observers import Observers
from sentinel.serve.rollout import Rollout
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.vectors.score_cache import ScoreCache
from sentinel.serve.watch import Watch
from sentinel.telemetry.counters import Counters, Slot

TRYING = msgspec.structs.replace(
    Deployment(revision=1).with_champion("v1"), experiment=Experiment("spring", "v2", 50.0, "2025-01-31T00:00:00Z")
)


class Broken:
    """A model that always fails."""

    def score(self, rows):
        raise RuntimeError(f"out of sorts, with {len(rows)} rows")


@pytest.fixture
def home(home_of, fake_log):
    return home_of(None, fake_log.FakeLog())


@pytest.fixture
def watch_of(home, two_models_home):
    """Makes a watch over what an engine does on the log of `home`."""
    made = []

    def make(deployment=TRYING, guards=True):
        home.log = home._given
        apply(home.log, lambda _nothing: deployment, 1)
        counters = Counters()
        observers = Observers(home.log, DriftSettings(), 10.0, 5.0)
        predictor = Predictor(Limits(), ScoreCache(0, 0.0), 100, counters, observers.observe)

        async def change(how):
            return apply(home.log, how, home.log.clock(home.now_us))

        registry = Registry(two_models_home / "models")
        rollout = Rollout(lambda: deployment_in(home.log), change, registry, counters)
        rollout.load_first()
        home.lineup = rollout.lineup
        home.open()
        made.append(Watch(rollout, predictor, None, observers, None, counters, guards=guards))
        return made[-1]

    yield make
    for one in made:
        one.predictor.stop()
        one.observers.stop()


def harm(home):
    """So many payments that the challenger has failed often enough."""
    home.lineup.challenger.scorer = Broken()
    home.pay(range(6 * HOPELESS_AFTER), at_once=50)


def test_an_experiment_that_does_harm_is_ended_and_says_why(home, watch_of):
    watch = watch_of()
    harm(home)
    asyncio.run(watch._look())
    after = deployment_in(home.log)
    assert (after.experiment, after.champion) == (None, "v1")
    assert (after.ended.id, after.ended.how) == ("spring", "aborted")


@pytest.mark.parametrize("is_broken", [False, True])
def test_an_experiment_that_does_none_and_one_that_others_look_after_go_on(home, watch_of, is_broken):
    watch = watch_of(guards=not is_broken)
    if is_broken:
        harm(home)
    else:
        home.pay(range(6 * HOPELESS_AFTER), at_once=50)
    asyncio.run(watch._look())
    assert deployment_in(home.log).experiment == TRYING.experiment


def test_the_next_experiment_is_not_ended_for_what_the_last_one_did(home, watch_of):
    """The rollout may go on from one to the other while the watch looks."""
    watch = watch_of()
    harm(home)

    summer = msgspec.structs.replace(TRYING.experiment, id="summer")

    async def run():
        await watch.catch_up()
        watch.rollout.deployment = await watch.rollout.change(
            lambda deployment: msgspec.structs.replace(deployment, experiment=summer)
        )
        await watch._guard()

    asyncio.run(run())
    assert deployment_in(home.log).experiment == summer


def test_the_status_counts_transactions_and_the_vectors_of_all_processes(home, watch_of):
    watch = watch_of()
    home.pay(range(60))
    watch.counters.set(Slot.EXPERIMENT_A_DECISIONS, 1_000)
    watch.counters.set(Slot.EXPERIMENT_A_BLOCKS, 100)
    shown = asyncio.run(watch.experiment_status())
    deciders = [row.decider for row in home.decisions()]
    of_a = sum(one.variant == "a" for one in deciders)
    assert (shown["version_a"], shown["version_b"], shown["split_percent"]) == ("v1", "v2", 50.0)
    assert (shown["predictions_a"], shown["predictions_b"]) == (1_000 + of_a, 60 - of_a)
    assert shown["blocks_a"] >= 100
    assert shown["experiment"] == TRYING.experiment


def test_without_an_experiment_the_status_says_so(home, watch_of):
    watch = watch_of(Deployment(revision=1).with_champion("v1"))
    home.pay(range(10))
    shown = asyncio.run(watch.experiment_status())
    assert (shown["ab_active"], shown["predictions_a"], shown["tallies"], shown["comparison"]) == (False, 0, None, None)
    assert "version_b" not in shown


def test_drift_is_shown_with_all_that_was_answered_before_and_can_begin_anew(home, watch_of):
    watch = watch_of(Deployment(revision=1).with_champion("v1"))
    home.pay(range(40))
    watch.observers.follow(watch.rollout.deployment, watch.rollout.lineup)
    watch.observers.catch_up()
    watch.observers.observe(np.zeros((3, 12), np.float32), np.zeros(3, np.float32))

    async def run():
        before = await watch.drift()
        await watch.reset_drift()
        return before.current_count, (await watch.drift()).current_count

    assert asyncio.run(run()) == (43, 0)


def test_before_there_is_a_model_drift_has_nothing_to_compare(home, two_models_home):
    counters = Counters()
    predictor = Predictor(Limits(), ScoreCache(0, 0.0), 100, counters)
    rollout = Rollout(Deployment, None, Registry(two_models_home / "models"), counters)
    watch = Watch(
        rollout, predictor, None, Observers(None, DriftSettings(), 1.0, 1.0), None, counters, guards=True
    )  # fmt: skip
    assert not asyncio.run(watch.drift())["baseline_locked"]
    predictor.stop()


def test_the_watch_outlives_a_disk_that_fails(home, watch_of, monkeypatch, caplog):
    monkeypatch.setattr(watch_module, "EVERY_S", 0.01)
    watch = watch_of()
    looks = []

    async def failing():
        looks.append(1)
        raise StorageProblem("no space left") if len(looks) % 2 else OSError("no space left either")

    monkeypatch.setattr(watch, "_look", failing)

    async def run():
        watch.start()
        end = time.monotonic() + 60
        while len(looks) < 4:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        await asyncio.to_thread(watch.stop)

    asyncio.run(run())
    assert "no space left either" in caplog.text
