"""Experiments: what is tried, what is kept, and that the manifest says exactly that."""

import itertools

import msgspec
import numpy as np
import pytest

from sentinel.detector import Training
from sentinel.detectors import load_detector
from sentinel.errors import InvalidDefinition
from sentinel.events.files import history_of_frame
from sentinel.learner import RandomForest, XGBoost
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.train.fitting.calibrated import Calibrated
from sentinel.train.fitting.fit import code_columns, fit
from sentinel.train.fitting.vote import Vote
from sentinel.train.pipeline import Making, train
from sentinel.train.rows.dataset import build_dataset, joined, parts_of
from sentinel.train.rows.unseen import unseen_rows
from sentinel.train.search.experiment import QUICK, Experiment, Setting, explore, folds_of, shares_scale

SHOP = load_detector("tests/shop_detector.py")
LEARNER = XGBoost(trees=25, patience=10, max_depth=3, eval_metric="logloss")
OTHERS = (XGBoost(trees=20, patience=5, eval_metric="logloss"),)
DETECTOR = msgspec.structs.replace(SHOP, training=msgspec.structs.replace(SHOP.training, learner=LEARNER))
N = 5_000


def quiet(*_):
    """Nobody looks at the progress."""


@pytest.fixture(scope="module")
def history(make_shop_frame):
    return history_of_frame(make_shop_frame(N, seed=11), DETECTOR.schema)


@pytest.fixture(scope="module")
def data(history):
    return build_dataset(DETECTOR, history, quiet)


def steady_clock():
    """A clock on which whatever is timed takes a second."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


def setting_of(data, study=None):
    return Setting(code_columns(data.plan), OTHERS, study, steady_clock(), quiet)


def trained(tmp_path, history, how, detector=DETECTOR, **given):
    registry = Registry(tmp_path / "models")
    version = train(detector, history, registry, quiet, Making(how=how, clock=steady_clock(), **given)).version
    return load_bundle(registry.path(version))


def test_one_fit_is_that_of_the_training_part_and_thresholds_are_of_the_validation_part(data):
    found = explore(data, DETECTOR.training, QUICK, setting_of(data))
    alone = fit(data.train, data.validation, DETECTOR.training, code_columns(data.plan))
    assert found.model.to_onnx(len(data.plan.features)) == alone.to_onnx(len(data.plan.features))
    np.testing.assert_allclose(found.scores, alone.predict(data.validation.rows), rtol=1e-5)
    assert found.held.labels.tolist() == data.validation.labels.tolist()
    assert found.calibration is None


def test_a_refit_learns_from_the_validation_part_too_with_the_trees_of_the_folds(data):
    found = explore(data, DETECTOR.training, Experiment(seeds=1, folds=3), setting_of(data))
    (used,) = found.trainings
    again = fit(joined(data.train, data.validation), None, used, code_columns(data.plan))
    assert found.model.to_onnx(len(data.plan.features)) == again.to_onnx(len(data.plan.features))
    assert found.model.trees_used == used.learner.trees <= LEARNER.trees
    assert len(found.folds) == 3
    assert len(found.scores) == sum(fold["validation"]["rows"] for fold in found.folds)


def test_several_seeds_vote_where_models_can(data):
    found = explore(data, DETECTOR.training, Experiment(folds=2), setting_of(data))
    assert [one.seed for one in found.trainings] == [42, 43, 44]
    part, codes = joined(data.train, data.validation), code_columns(data.plan)
    votes = [fit(part, None, one, codes).log_odds(data.test.rows) for one in found.trainings]
    np.testing.assert_allclose(found.model.log_odds(data.test.rows), np.mean(votes, axis=0), atol=1e-6)
    forest = msgspec.structs.replace(DETECTOR.training, learner=RandomForest(trees=5))
    assert len(explore(data, forest, Experiment(folds=2), setting_of(data)).trainings) == 1


class Moved:
    """A model whose log-odds are all higher."""

    def __init__(self, model, by):
        self.model, self.by = model, by

    def log_odds(self, rows):
        return self.model.log_odds(rows) + self.by


def test_a_refit_on_another_scale_than_the_folds_is_noticed(data):
    found = explore(data, DETECTOR.training, Experiment(seeds=1, folds=3), setting_of(data))
    assert found.is_refitted
    part, logits = joined(data.train, data.validation), np.log(found.raw_scores / (1 - found.raw_scores))
    assert shares_scale(found.model, part, logits, found.held.labels)
    assert not shares_scale(Moved(found.model, 5.0), part, logits, found.held.labels)
    assert shares_scale(Moved(found.model, -5.0), part, logits, found.held.labels)


def test_a_refit_on_another_scale_leaves_the_model_of_the_newest_fold(data, monkeypatch):
    monkeypatch.setattr("sentinel.train.search.experiment.MOST_ALARMS", -1.0)
    found = explore(data, DETECTOR.training, Experiment(seeds=1, folds=3), setting_of(data))
    assert not found.is_refitted
    assert found.trainings == (DETECTOR.training,)
    alone = fit(data.train, data.validation, DETECTOR.training, code_columns(data.plan))
    assert found.model.to_onnx(len(data.plan.features)) == alone.to_onnx(len(data.plan.features))


def test_scores_that_thresholds_are_chosen_on_are_of_rows_that_no_model_had_seen(data):
    how = Experiment(seeds=1, folds=3, calibration="none")
    found, codes = explore(data, DETECTOR.training, how, setting_of(data)), code_columns(data.plan)
    part, begin = joined(data.train, data.validation), 0
    for fold in folds_of(data, DETECTOR.training, how):
        held = part.take(fold.validation)
        assert part.time_us[fold.train].max() < held.time_us.min()
        alone = fit(part.take(fold.train), held, DETECTOR.training, codes)
        scores = found.scores[begin : begin + len(held)]
        np.testing.assert_allclose(scores, alone.predict(held.rows), rtol=1e-5)
        begin += len(held)


def test_the_manifest_has_what_the_model_was_made_with(tmp_path, history, data):
    bundle = trained(tmp_path, history, Experiment(seeds=1, folds=2))
    told = bundle.manifest.training["experiment"]
    (used,) = msgspec.convert(told["models"], list[Training])
    part = joined(data.train, data.validation)
    model = fit(part, None, used, code_columns(data.plan))
    calibrated = Calibrated(
        model, explore(data, DETECTOR.training, Experiment(seeds=1, folds=2), setting_of(data)).calibration
    )
    assert told["calibrated"]["method"] == "beta"
    np.testing.assert_allclose(bundle.scorer.score(data.test.rows), calibrated.predict(data.test.rows), atol=1e-6)
    facts = bundle.manifest.training
    assert msgspec.convert({name: facts[name] for name in Training.__struct_fields__}, Training) == used
    assert (told["refit"], told["calibration"], told["budget_s"], told["trials"]) == ("validation", "beta", None, 0)
    assert {"numpy", "xgboost-cpu", "python"} <= bundle.manifest.libraries.keys()


def test_with_all_the_test_part_is_learned_from_after_it_was_reported_on(tmp_path, history, data):
    less, everything = (
        trained(tmp_path / refit, history, Experiment(seeds=1, folds=2, refit=refit)) for refit in ("validation", "all")
    )
    assert less.manifest.metrics == everything.manifest.metrics
    assert less.manifest.thresholds == everything.manifest.thresholds
    rows = joined(data.train, data.validation, data.test)
    (used,) = msgspec.convert(everything.manifest.training["experiment"]["models"], list[Training])
    calibration = explore(data, DETECTOR.training, Experiment(seeds=1, folds=2), setting_of(data)).calibration
    expected = Calibrated(fit(rows, None, used, code_columns(data.plan)), calibration).predict(data.test.rows)
    np.testing.assert_allclose(everything.scorer.score(data.test.rows), expected, atol=1e-6)
    assert np.abs(less.scorer.score(data.test.rows) - expected).max() > 1e-3


def test_the_same_experiment_gives_the_same_model(tmp_path, history):
    once, again = (trained(tmp_path / name, history, Experiment(seeds=1, folds=2)) for name in "ab")
    assert once.manifest.files["model.onnx"] == again.manifest.files["model.onnx"]
    other = msgspec.structs.replace(DETECTOR, training=msgspec.structs.replace(DETECTOR.training, seed=7))
    assert trained(tmp_path / "c", history, Experiment(seeds=1, folds=2), other).manifest.files != once.manifest.files


def test_a_search_tries_the_detectors_own_and_others_and_goes_on_where_it_ended(tmp_path, data):
    study, tried = tmp_path / "studies" / "a.study", []

    def explored(budget_s):
        found = explore(data, DETECTOR.training, Experiment(budget_s=budget_s, folds=2), setting_of(data, study))
        tried.append(found.trials)
        return found

    first = explored(10.0)
    assert first.trials >= 2
    assert any("own" in line.name for line in first.board)
    again = explored(10.0)
    assert again.trials == first.trials  # the budget is used
    assert [line.average_precision for line in again.board] == [line.average_precision for line in first.board]
    assert explored(25.0).trials > first.trials


def test_the_best_line_of_the_board_is_kept_unless_a_vote_pays(tmp_path, data):
    found = explore(data, DETECTOR.training, Experiment(budget_s=12.0, folds=2), setting_of(data))
    worths = [line.worth for line in found.board]
    assert worths == sorted(worths, reverse=True)
    assert all(line.worth <= line.average_precision.value for line in found.board)
    singles = [line for line in found.board if not line.name.startswith("vote")]
    assert found.model.trees_used == sum(used.learner.trees for used in found.trainings)
    assert isinstance(found.model, Vote)
    if len(found.trainings) == len(singles[0].training):
        assert [msgspec.structs.replace(one, learner=None) for one in found.trainings] == [
            msgspec.structs.replace(one, learner=None) for one in singles[0].training
        ]
    for line in found.board:
        assert line.average_precision.low <= line.average_precision.value <= line.average_precision.high
        assert line.row_us is not None


def test_a_random_split_is_that_of_scikit_learn():
    from sklearn.model_selection import train_test_split

    labels = (np.arange(2_000) % 25 == 0).astype(np.int8)
    training = Training(split="random", test_share=0.2, validation_share=0.16)
    train_rows, validation, test = parts_of(training, np.arange(2_000), labels)
    rest, expected = train_test_split(np.arange(2_000), test_size=0.2, stratify=labels, random_state=42)
    assert test.tolist() == sorted(expected)
    assert sorted([*train_rows, *validation]) == sorted(rest)
    assert len(validation) == 320
    assert labels[test].sum() == 16


def test_the_test_part_of_a_random_split_is_found_again(tmp_path, history):
    training = msgspec.structs.replace(DETECTOR.training, split="random", test_share=0.2, validation_share=0.16, seed=9)
    detector = msgspec.structs.replace(DETECTOR, training=training)
    bundle = trained(tmp_path, history, Experiment(seeds=1, folds=2, refit="all"), detector)
    found = unseen_rows(bundle, DETECTOR, history, quiet)  # the detector as it is declared, split by time
    test = build_dataset(detector, history, quiet).test
    assert found.rows.tobytes() == test.rows.tobytes()
    assert found.labels.tolist() == test.labels.tolist()
    assert "which it has learned from after it was measured" in found.said


def test_folds_of_a_random_split_are_random(history):
    training = msgspec.structs.replace(DETECTOR.training, split="random", test_share=0.2, validation_share=0.16)
    detector = msgspec.structs.replace(DETECTOR, training=training)
    data = build_dataset(detector, history, quiet)
    assert data.train.time_us.max() > data.test.time_us.min()
    folds = folds_of(data, training, Experiment(seeds=1, folds=3))
    assert len(folds) == 3
    assert folds[0].train.max() > folds[0].validation.min()


@pytest.mark.parametrize("given", [{"folds": 0}, {"budget_s": 0.0}, {"budget_s": -1.0}])
def test_an_experiment_without_a_fold_or_time_is_refused(given):
    with pytest.raises(InvalidDefinition, match="a fold or more"):
        Experiment(**given)
