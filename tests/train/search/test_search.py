"""The search: what is tried first, what a file remembers, and what it cannot."""

import itertools

import msgspec
import pytest

from sentinel.detector import Training
from sentinel.errors import StorageProblem
from sentinel.learner import LEARNERS, XGBoost
from sentinel.train.pipeline import SEARCHED
from sentinel.train.search.search import Search, study_file
from sentinel.train.search.spaces import SPACES

OWN = Training(learner=XGBoost(max_depth=4))
OTHERS = (XGBoost(max_depth=3), XGBoost(max_depth=6))


def steady_clock():
    """A clock on which every trial takes a second."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


def worth(training):
    """Deep trees and slow learning are best here."""
    return training.learner.max_depth / 10 - abs(training.learner.learning_rate - 0.05)


def run(file, budget_s, seed=1, attempt=worth):
    tried, told = [], []

    def noted(training):
        tried.append(training)
        return attempt(training)

    search = Search(file, seed)
    search.run(OWN, OTHERS, noted, budget_s, steady_clock(), lambda *done: told.append(done))
    return search, tried, told


def test_the_detectors_own_is_tried_first_and_then_each_learner_as_it_comes():
    _, tried, told = run(None, 5.0)
    assert [one.learner for one in tried[:3]] == [OWN.learner, *OTHERS]
    assert len(tried) == 5
    assert told[0] == (0, 5)
    assert told[-1] == (5, 5)
    assert all(msgspec.structs.replace(one, learner=OWN.learner) == OWN for one in tried)


def test_the_detectors_own_is_tried_however_small_the_budget_is():
    search, tried, _ = run(None, 0.0)
    assert tried == [OWN]
    assert [trial.training for trial in search.trials()] == [OWN]


def test_the_best_come_first_and_better_ones_are_found():
    search, tried, _ = run(None, 40.0)
    worths = [trial.worth for trial in search.trials()]
    assert worths == sorted(worths, reverse=True)
    assert worths[0] > max(map(worth, tried[:3]))


def test_a_search_goes_on_where_it_ended(tmp_path):
    file = study_file(tmp_path / "studies", history="a")
    first, tried, _ = run(file, 4.0)
    again, later, _ = run(file, 10.0)
    assert (len(tried), len(later)) == (4, 6)
    assert not {msgspec.json.encode(one) for one in later} & {msgspec.json.encode(one) for one in tried}
    assert len(again.trials()) == 10
    assert set(map(str, first.trials())) <= set(map(str, again.trials()))
    assert run(file, 10.0)[1] == []


def test_a_trial_that_was_interrupted_does_not_count(tmp_path):
    def interrupted(_training):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a.study", 4.0, attempt=interrupted)
    search, tried, _ = run(tmp_path / "a.study", 4.0)
    assert tried[0] == OWN
    assert len(search.trials()) == len(tried) == 4


def test_the_same_seed_proposes_the_same():
    assert run(None, 12.0)[1] == run(None, 12.0)[1] != run(None, 12.0, seed=2)[1]


def test_the_file_is_of_what_the_trials_were_made_on(tmp_path):
    assert study_file(tmp_path, history="a", folds=3) == study_file(tmp_path, folds=3, history="a")
    assert study_file(tmp_path, history="a", folds=3) != study_file(tmp_path, history="a", folds=2)


@pytest.mark.parametrize("damage", [b"no study\n", b'{"op_code": 99}\n'])
def test_a_damaged_study_is_refused(tmp_path, damage):
    file = tmp_path / "a.study"
    file.write_bytes(damage)
    with pytest.raises(StorageProblem, match="remove it to begin anew"):
        run(file, 3.0)


def test_a_study_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "studies").write_text("a file where the folder should be")
    with pytest.raises(StorageProblem, match="cannot be read or written"):
        run(tmp_path / "studies" / "a.study", 3.0)


@pytest.mark.parametrize("learner", SEARCHED, ids=lambda one: type(one).__name__)
def test_every_learner_can_be_searched(learner):
    tried = []
    search = Search(None, 1)
    search.run(OWN, (learner,), lambda one: tried.append(one) or 0.5, 6.0, steady_clock(), lambda *_: None)
    proposals = {msgspec.json.encode(one.learner) for one in tried[2:] if isinstance(one.learner, type(learner))}
    assert len(proposals) == 4
    assert SPACES.keys() == set(LEARNERS.values())
