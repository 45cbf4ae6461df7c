"""The observers: the drift window and an experiment's tallies, of what the log and the vectors bring."""

import time

import msgspec
import numpy as np
import pytest

from sentinel.errors import StorageProblem
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment, Experiment
from sentinel.policy.experiment import Tally
from sentinel.policy.thresholds import Thresholds
from sentinel.review.drift import DriftSettings
from sentinel.serve import observers as observers_module
from sentinel.serve.lineup import load_lineup
from sentinel.serve.observers import Observers

SERVED = Deployment(revision=1).with_champion("v1")
TRYING = msgspec.structs.replace(SERVED, experiment=Experiment("spring", "v2", 50.0, "2025-01-31T00:00:00Z"))
NOTHING = (Tally(), Tally(), 1.0)


@pytest.fixture(scope="module")
def registry(two_models_home):
    return Registry(two_models_home / "models")


@pytest.fixture(scope="module")
def lineups(registry):
    alone = load_lineup(SERVED, registry)
    return {"alone": alone, "trying": load_lineup(TRYING, registry, alone)}


@pytest.fixture
def home(home_of, fake_log, lineups):
    home = home_of(lineups["trying"], fake_log.FakeLog())
    home.open()
    return home


@pytest.fixture
def observers_of():
    made = []

    def make(log, window=5_000):
        made.append(Observers(log, DriftSettings(window=window), 10.0, 5.0))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def rows(n, width=12):
    return np.zeros((n, width), np.float32), np.zeros(n, np.float32)


def test_before_there_is_a_champion_there_is_nothing_to_see(observers_of):
    observers = observers_of(None)
    observers.observe(*rows(3))
    observers.catch_up()
    assert observers.drift_report() is None
    assert observers.tallies(TRYING.experiment) == NOTHING


def test_rows_of_a_model_that_has_just_been_swapped_in_disturb_no_one(observers_of, lineups):
    observers = observers_of(None)
    observers.follow(SERVED, lineups["alone"])
    observers.catch_up()
    observers.observe(*rows(3))
    observers.observe(*rows(2, width=5))
    assert observers.drift_report().current_count == 3


def test_the_champions_own_decisions_are_in_the_window_and_no_others(home, observers_of, lineups):
    home.handle([home.payment(i) for i in range(90)], [1 if i % 3 == 0 else 2**62 for i in range(90)])
    observers = observers_of(home.log)
    observers.follow(TRYING, lineups["trying"])
    observers.catch_up()
    deciders = [row.decider for row in home.decisions()]
    of_champion = sum((one.variant, one.degraded) == ("a", None) for one in deciders)
    assert 20 < of_champion < 60
    assert observers.drift_report().current_count == of_champion


def test_a_start_looks_back_as_far_as_the_window_is_long(home, observers_of, lineups):
    home.lineup = lineups["alone"]
    home.reopen()
    home.pay(range(1_200), at_once=100)
    observers = observers_of(home.log, window=600)
    observers.follow(SERVED, lineups["alone"])
    observers.catch_up()
    assert observers.drift_report().current_count == 600


def test_a_window_begun_anew_has_what_comes_from_then_on(home, observers_of, lineups):
    home.lineup = lineups["alone"]
    home.reopen()
    observers = observers_of(home.log)
    observers.follow(SERVED, lineups["alone"])
    observers.catch_up()
    home.pay(range(30))
    observers.reset_drift()
    home.pay(range(30, 50))
    observers.catch_up()
    assert observers.drift_report().current_count == 20


def test_other_thresholds_leave_window_and_tallies_as_they_are(home, observers_of, lineups, registry):
    home.pay(range(60))
    observers = observers_of(home.log)
    observers.follow(TRYING, lineups["trying"])
    observers.catch_up()
    before = observers.drift_report().current_count, observers.tallies(TRYING.experiment)
    strict = TRYING.with_thresholds(Thresholds(0.0, 0.0), "a").with_split(80.0)
    observers.follow(strict, load_lineup(strict, registry, lineups["trying"]))
    assert (observers.drift_report().current_count, observers.tallies(strict.experiment)) == before
    assert sum(one.decisions for one in before[1][:2]) == 60


def test_one_experiment_is_never_told_the_tallies_of_another(home, observers_of, lineups, registry):
    home.pay(range(60))
    observers = observers_of(home.log)
    observers.follow(TRYING, lineups["trying"])
    observers.catch_up()
    summer = msgspec.structs.replace(TRYING.experiment, id="summer")
    assert observers.tallies(summer) == NOTHING
    assert observers.tallies(None) == NOTHING
    after = msgspec.structs.replace(TRYING, experiment=summer)
    observers.follow(after, load_lineup(after, registry, lineups["trying"]))
    observers.catch_up()
    assert observers.tallies(summer) == observers.tallies(TRYING.experiment) == NOTHING
    observers.follow(SERVED, lineups["alone"])
    assert observers.tallies(summer) == NOTHING


def test_the_log_is_followed_in_a_thread_through_what_cannot_be_read_for_a_while(
    home, observers_of, lineups, monkeypatch, caplog
):
    monkeypatch.setattr(observers_module, "_EVERY_S", 0.01)
    read, faults = home.log.read, [ZeroDivisionError(), StorageProblem("the disk is gone")]

    def failing(position, limit):
        if faults:
            raise faults.pop()
        return read(position, limit)

    home.pay(range(60))
    monkeypatch.setattr(home.log, "read", failing)
    observers = observers_of(home.log)
    observers.follow(TRYING, lineups["trying"])
    observers.start()
    end = time.monotonic() + 60
    while sum(one.decisions for one in observers.tallies(TRYING.experiment)[:2]) < 60:
        assert time.monotonic() < end, "it was never counted"
        time.sleep(0.005)
    observers.stop()
    assert "cannot be counted: the disk is gone" in caplog.text
    assert "could not be counted; it is tried again" in caplog.text
