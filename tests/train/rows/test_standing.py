"""Rows that stand for others: what is held out weighs in training, in thresholds and in every figure."""

import dataclasses

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.detectors import load_detector
from sentinel.errors import DataProblem
from sentinel.events.files import history_of_frame
from sentinel.events.stamps import WEIGHT
from sentinel.learner import XGBoost
from sentinel.model.bundle import MODEL_FILE, load_bundle
from sentinel.model.registry import Registry
from sentinel.policy.thresholds import Thresholds
from sentinel.train.figures.evaluate import evaluate
from sentinel.train.figures.resampling import Ranking
from sentinel.train.fitting.fit import code_columns, fit
from sentinel.train.pipeline import Making, train
from sentinel.train.rows.dataset import Part, build_dataset, joined
from sentinel.train.rows.fingerprint import history_sha256
from sentinel.train.rows.measured import measure
from sentinel.train.rows.standing import known_labels, stands_for
from sentinel.train.search.experiment import Experiment

SHOP = load_detector("tests/shop_detector.py")
ONE_FOLD = Experiment(folds=1, seeds=1)
N = 5_000


def quiet(*_):
    """Nobody looks at the progress."""


def weighted(frame, weights):
    return frame.with_columns(pl.Series(WEIGHT, weights, pl.Float64))


@pytest.fixture(scope="module")
def frame(make_shop_frame):
    return make_shop_frame(N, seed=8)


@pytest.fixture(scope="module")
def weights():
    """Of every tenth row nobody was told, others stand for it; every fifteenth stands for twenty."""
    return [0.0 if i % 10 == 3 else 20.0 if i % 15 == 4 else 1.0 for i in range(N)]


@given(st.floats(0, 60), st.integers(0, 2**32))
def test_a_weight_is_a_whole_number_of_times_that_is_right_on_average(weight, seed):
    n = 2_000
    frame = pl.DataFrame({"transaction_id": [f"{seed}-{i}" for i in range(n)], WEIGHT: [weight] * n})
    times = stands_for(frame, SHOP.schema)
    times = np.ones(n, np.int64) if times is None else times
    assert set(times.tolist()) <= {int(weight), int(weight) + 1}
    rest = weight - int(weight)
    assert abs(times.mean() - weight) <= 5 * np.sqrt(rest * (1 - rest) / n) + 1e-9


def test_a_row_stands_for_as_many_whatever_is_beside_it(frame):
    whole = stands_for(weighted(frame, [3.7] * N), SHOP.schema)
    part = stands_for(weighted(frame, [3.7] * N)[1_000:1_500], SHOP.schema)
    np.testing.assert_array_equal(whole[1_000:1_500], part)
    assert set(whole.tolist()) == {3, 4}


def test_without_weights_and_with_ones_everything_is_as_it_was(frame, tmp_path):
    assert stands_for(frame, SHOP.schema) is None
    models = []
    for name, one in (("plain", frame), ("ones", weighted(frame, [1.0, None] * (N // 2)))):
        registry = Registry(tmp_path / name)
        version = train(SHOP, history_of_frame(one, SHOP.schema), registry, quiet, Making(how=ONE_FOLD)).version
        models.append((registry.path(version) / MODEL_FILE).read_bytes())
    assert models[0] == models[1]


@pytest.mark.parametrize("wrong", [-1.0, float("inf"), 2e6, "many"])
def test_a_weight_that_is_none_is_refused(frame, wrong):
    spoilt = frame.with_columns(pl.Series(WEIGHT, [wrong] * N))
    with pytest.raises(DataProblem, match=r"log\.weight has what is no number from 0"):
        history_of_frame(spoilt, SHOP.schema)


def test_what_others_stand_for_has_no_label(frame, weights):
    history = history_of_frame(weighted(frame, weights), SHOP.schema)
    data = build_dataset(SHOP, history, quiet)
    parts = (data.train, data.validation, data.test)
    zeros = sum(weight == 0 for weight in weights)
    assert sum(len(part) for part in parts) == N - zeros
    assert sum(len(part.all_rows) for part in parts) == N
    assert sum(part.standing for part in parts) == sum(weights)
    labels = np.array([0, 1, -1], np.int8)
    assert known_labels(labels, np.array([0, 2, 1])).tolist() == [-1, 1, -1]


def test_a_row_weighs_in_the_fit_what_it_stands_for(frame, weights):
    """The same trees as of a part in which rows of weight 3 are there three times; nothing is drawn by rows."""
    data = build_dataset(SHOP, history_of_frame(frame, SHOP.schema), quiet)
    rng = np.random.default_rng(1)
    stands = rng.integers(1, 4, len(data.train))
    learner = XGBoost(trees=5, max_depth=3, subsample=1.0, colsample_bytree=1.0, tree_method="exact")
    training = msgspec.structs.replace(SHOP.training, learner=learner)
    heavy = dataclasses.replace(data.train, stands=stands)
    by_weight = fit(heavy, None, training, code_columns(data.plan))
    by_rows = fit(heavy.counted(), None, training, code_columns(data.plan))
    light = fit(data.train, None, training, code_columns(data.plan))
    rows = data.test.rows
    np.testing.assert_allclose(by_weight.log_odds(rows), by_rows.log_odds(rows), atol=1e-3)
    assert np.abs(by_weight.log_odds(rows) - light.log_odds(rows)).max() > 0.01


def test_figures_count_a_row_as_often_as_it_stands_for_one(frame, weights, tmp_path):
    """Against the sums with weights, which count no row twice."""
    history = history_of_frame(weighted(frame, weights), SHOP.schema)
    registry = Registry(tmp_path)
    manifest = train(SHOP, history, registry, quiet, Making(how=ONE_FOLD))
    bundle = load_bundle(registry.path(manifest.version))
    test = build_dataset(SHOP, history, quiet).test
    scores = bundle.scorer.score(test.rows)
    figures = Ranking(scores, test.labels).figures(test.stands)
    assert manifest.metrics["average_precision"]["value"] == pytest.approx(figures.average_precision)
    assert manifest.metrics["auc_roc"]["value"] == pytest.approx(figures.auc_roc)
    is_fraud = test.labels == 1
    assert manifest.metrics["frauds"] == test.stands[is_fraud].sum()
    assert manifest.training["rows"]["test"] == len(test)
    assert manifest.training["stand_for"]["test"] == test.standing > len(test)
    measured = measure(bundle, SHOP, history, quiet)
    limit = float(np.quantile(scores, 0.9))
    again = evaluate(measured.scores, measured.labels, Thresholds(limit, None), {}, measured.cards)
    caught, alarms = test.stands[(scores >= limit) & is_fraud].sum(), test.stands[scores >= limit].sum()
    assert again.review.caught == caught > 0
    assert again.review.precision == pytest.approx(caught / alarms)
    assert again.average_precision.value == pytest.approx(figures.average_precision)
    assert len(measured.once().labels) == len(test)
    assert measured.once().frauds == measured.frauds_seen
    assert (measured.frauds, measured.frauds_seen) == (test.stands[is_fraud].sum(), is_fraud.sum())


def test_another_weight_is_another_history(frame, weights):
    plain, heavy = (history_of_frame(one, SHOP.schema) for one in (frame, weighted(frame, weights)))
    other = history_of_frame(weighted(frame, [*weights[:-1], 7.0]), SHOP.schema)
    assert len({history_sha256(SHOP, one) for one in (plain, heavy, other)}) == 3


def test_parts_with_and_without_are_joined():
    ones = np.ones((2, 1), np.float32)
    plain = Part(ones, np.array([0, 1], np.int8), np.arange(2), ones)
    heavy = dataclasses.replace(plain, stands=np.array([3, 1]))
    assert joined(plain, plain).stands is None
    assert joined(plain, heavy).stands.tolist() == [1, 1, 3, 1]
    counted = joined(plain, heavy).counted()
    assert counted.labels.tolist() == [0, 1, 0, 0, 0, 1]
    assert len(counted.all_rows) == 4
    assert counted.stands is None
