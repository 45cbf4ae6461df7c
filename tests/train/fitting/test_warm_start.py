"""A warm start: the champion's trees with new ones behind them, as one model that is certified like any other."""

import dataclasses

import msgspec
import numpy as np
import pytest

from sentinel import count
from sentinel.detectors import load_detector
from sentinel.errors import BundleProblem, DataProblem, InvalidDefinition
from sentinel.events.files import history_of_frame
from sentinel.learner import CatBoost, LightGBM, LogisticRegression, RandomForest, XGBoost
from sentinel.model.bundle import MODEL_FILE, load_bundle, plan_sha256, read_explainer
from sentinel.model.registry import Registry
from sentinel.train.fitting.fit import _fit_with
from sentinel.train.fitting.grown import EarlierTrees, Grown, as_one, trees_fitted
from sentinel.train.fitting.warm_start import fold_after, parent_of
from sentinel.train.learners.fit_rows import FitRows
from sentinel.train.pipeline import Making, train
from sentinel.train.rows.dataset import NEWEST, build_dataset
from sentinel.train.rows.unseen import unseen_rows
from sentinel.train.search.experiment import QUICK, Experiment

SHOP = load_detector("tests/shop_detector.py")
LEARNERS = {
    "xgboost": XGBoost(trees=30, patience=8, max_depth=3, learning_rate=0.1),
    "lightgbm": LightGBM(trees=30, patience=8, num_leaves=7, learning_rate=0.1),
    "catboost": CatBoost(trees=30, patience=8, depth=3, learning_rate=0.1),
}
ONE_FOLD = Experiment(folds=1, seeds=2)
N, MORE = 6_000, 9_000


def quiet(*_):
    """Nobody looks at the progress."""


def with_learner(learner):
    return msgspec.structs.replace(SHOP, training=msgspec.structs.replace(SHOP.training, learner=learner))


@pytest.fixture(scope="module")
def frame(make_shop_frame):
    return make_shop_frame(MORE, seed=5)


@pytest.fixture(scope="module", params=list(LEARNERS))
def home(request, tmp_path_factory, frame):
    """A registry with a champion of the older rows, and its detector."""
    detector = with_learner(LEARNERS[request.param])
    registry = Registry(tmp_path_factory.mktemp(request.param))
    train(detector, history_of_frame(frame[:N], detector.schema), registry, quiet, Making(how=ONE_FOLD))
    return registry, detector


def parent_in(registry, detector, version="v1"):
    model = (registry.path(version) / MODEL_FILE).read_bytes()
    return parent_of(load_bundle(registry.path(version)), model, detector)


def test_what_it_adds_is_one_certified_model_with_the_trees_before_in_front(home, frame):
    registry, detector = home
    history = history_of_frame(frame, detector.schema)
    parent = parent_in(registry, detector)
    manifest = train(detector, history, registry, quiet, Making(how=ONE_FOLD, parent=parent))
    told = manifest.training["warm_start"]
    assert told["parent"] == "v1"
    assert told["trees_before"] == len(parent.trees.trees) > 0
    assert told["trees_added"] > 0
    model = (registry.path(manifest.version) / MODEL_FILE).read_bytes()
    grown = EarlierTrees(model)
    assert manifest.training["trees_used"] == told["trees_before"] + told["trees_added"]
    for before, after in zip(parent.trees.trees, grown.trees, strict=False):
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)
    splits = sum(len(one.splits()) for one in grown.trees)  # a symmetric tree has a few that no row can reach
    assert 0.95 * splits < manifest.certificate.splits <= splits
    assert manifest.certificate.largest < 1e-6
    assert plan_sha256(manifest.plan) == plan_sha256(parent.plan)
    assert manifest.training[NEWEST] >= parent.newest_us
    bundle = load_bundle(registry.path(manifest.version))
    rows = unseen_rows(bundle, detector, history, quiet).rows[:100]
    added = sum_by_hand(grown.trees[len(parent.trees.trees) :], rows)
    assert np.std(added) > 0.01
    log_odds = grown.log_odds(rows)
    np.testing.assert_allclose(log_odds, parent.trees.log_odds(rows) + added, atol=1e-5)
    explained = read_explainer(registry.path(manifest.version)).contributions(rows).sum(axis=1)
    assert np.ptp(explained - log_odds) < 1e-4  # but for what the model says on average


def sum_by_hand(trees, rows):
    """What trees add to rows, a node after the other."""
    total = np.zeros(len(rows))
    for n, row in enumerate(rows):
        for tree in trees:
            node = 0
            while tree.left[node] != -1:
                value = row[tree.feature[node]]
                left = tree.missing_left[node] if np.isnan(value) else value < tree.value[node]
                node = tree.left[node] if left else tree.right[node]
            total[n] += float(tree.value[node])
    return total


def test_labels_that_the_champion_has_learned_from_say_nothing_of_more_trees(home, frame, tmp_path):
    registry, detector = home
    history = history_of_frame(frame, detector.schema)
    first = parent_in(registry, detector)
    again = Registry(tmp_path / "models")
    version = train(detector, history, again, quiet, Making(how=ONE_FOLD, parent=first)).version
    with pytest.raises(DataProblem, match=r"0 are newer than what the champion .* has learned from"):
        train(detector, history, again, quiet, Making(how=ONE_FOLD, parent=parent_in(again, detector, version)))


def test_a_champion_that_trees_cannot_be_added_to(home, frame):
    registry, detector = home
    bundle = load_bundle(registry.path("v1"))
    model = (registry.path("v1") / MODEL_FILE).read_bytes()
    other = XGBoost() if not isinstance(detector.training.learner, XGBoost) else LightGBM()
    for learner, match in (
        (RandomForest(), "random_forest adds no trees to others, xgboost, lightgbm, catboost do"),
        (LogisticRegression(), "logistic_regression adds no trees"),
        (other, "was made by .* and the detector learns with"),
    ):
        with pytest.raises(InvalidDefinition, match=match + ".*--warm-start out for a full fit"):
            parent_of(bundle, model, with_learner(learner))
    wider = msgspec.structs.replace(detector, features=(*detector.features, count(by="card", over="1h")))
    with pytest.raises(InvalidDefinition, match=r"v1 has other features than the detector.*full fit"):
        parent_of(bundle, model, wider)
    at_random = msgspec.structs.replace(detector.training, split="random")
    with pytest.raises(InvalidDefinition, match=r"cannot be told by time.*full fit"):
        parent_of(bundle, model, msgspec.structs.replace(detector, training=at_random))
    with pytest.raises(BundleProblem):
        parent_of(bundle, model[:-50], detector)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    found = rng.normal(size=(400, 4)).astype(np.float32)
    found[rng.random(found.shape) < 0.1] = np.nan
    return found


def test_a_forest_has_a_sum_of_shares(rows):
    detector = with_learner(RandomForest(trees=5))
    forest = fit_of(rows, detector.training.learner)
    with pytest.raises(InvalidDefinition, match="no sum of log-odds"):
        EarlierTrees(forest.to_onnx(4))


def fit_of(rows, learner, begins=None):
    labels = (np.nan_to_num(rows[:, 0]) + rows[:, 1] > 1).astype(np.int8)
    given = FitRows(rows, labels, np.ones(len(rows), np.float32), {}, begins)
    return _fit_with(learner, given, None, 1, quiet)


@pytest.mark.parametrize("name", list(LEARNERS))
def test_trees_are_read_back_as_they_were_written(rows, name):
    fitted = fit_of(rows, LEARNERS[name])
    found = EarlierTrees(fitted.to_onnx(4))
    for one, other in zip(fitted.ensemble().trees, found.trees, strict=True):
        for column, read in zip(one, other, strict=True):
            np.testing.assert_array_equal(column, read)
    np.testing.assert_allclose(found.log_odds(rows), fitted.log_odds(rows), atol=1e-5)


@pytest.mark.parametrize("name", list(LEARNERS))
def test_going_on_is_boosting_on(rows, name):
    """Ten trees and then ten more fit what they learn from better than the ten, and about as twenty at once do."""
    learner = msgspec.structs.replace(LEARNERS[name], trees=10, subsample=1.0)
    labels = (np.nan_to_num(rows[:, 0]) + rows[:, 1] > 1).astype(np.int8)

    def loss(log_odds):
        return float(np.mean(np.logaddexp(0, log_odds) - labels * log_odds))

    ten = EarlierTrees(fit_of(rows, learner).to_onnx(4))
    added = fit_of(rows, learner, ten.log_odds(rows).astype(np.float32))
    grown = Grown(ten, added)
    twenty = fit_of(rows, msgspec.structs.replace(learner, trees=20))
    assert trees_fitted(grown) == 10
    assert grown.trees_used == len(ten.trees) + 10
    assert loss(grown.log_odds(rows)) < 0.9 * loss(ten.log_odds(rows))
    assert loss(grown.log_odds(rows)) == pytest.approx(loss(twenty.log_odds(rows)), rel=0.1)


def test_a_vote_of_models_that_grew_has_the_earlier_trees_once(rows):
    learner = LEARNERS["xgboost"]
    ten = EarlierTrees(fit_of(rows, learner).to_onnx(4))
    begins = ten.log_odds(rows).astype(np.float32)
    grown = [Grown(ten, fit_of(rows, learner, begins * scale)) for scale in (1.0, 0.5)]
    voted = as_one(grown)
    assert len(voted.ensemble().trees) == len(ten.trees) + sum(len(one.added.ensemble().trees) for one in grown)
    np.testing.assert_allclose(voted.log_odds(rows), np.mean([one.log_odds(rows) for one in grown], axis=0), atol=1e-6)
    served = EarlierTrees(voted.to_onnx(4)).log_odds(rows)
    np.testing.assert_allclose(served, voted.log_odds(rows), atol=1e-5)


def test_only_what_the_champion_has_not_seen_stops_and_calibrates(home, frame):
    registry, detector = home
    parent = parent_in(registry, detector)
    data = build_dataset(detector, history_of_frame(frame, detector.schema), quiet, parent.plan)
    fold = fold_after(parent, data)
    times = np.concatenate([data.train.time_us, data.validation.time_us])
    assert len(fold.train) == len(data.train)
    assert (times[fold.validation] > parent.newest_us).all()
    assert parent.newest_us < data.test.time_us[0]
    late = dataclasses.replace(parent, newest_us=int(data.validation.time_us[len(data.validation) // 2]))
    assert 0 < len(fold_after(late, data).validation) < len(data.validation)


def test_a_warm_start_has_one_fold_and_no_search(home):
    registry, detector = home
    for how in (Experiment(folds=3), Experiment(folds=1, budget_s=10.0)):
        with pytest.raises(InvalidDefinition, match="one fold, the newest, and no search"):
            Making(how=how, parent=parent_in(registry, detector))
    assert Making(how=QUICK, parent=parent_in(registry, detector)).how == QUICK
