"""Which learner fits, and what is said where it cannot."""

import sys

import numpy as np
import pytest

from sentinel.commands.experiment import with_learner
from sentinel.detector import Training
from sentinel.detectors import load_detector
from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.features.plan import FeaturePlan
from sentinel.learner import LEARNERS, CatBoost, LightGBM, LogisticRegression, RandomForest, XGBoost
from sentinel.train.fitting.fit import code_columns, fit
from sentinel.train.rows.dataset import Part


def test_another_learner_has_its_usual_settings_and_the_rest_stays():
    training = Training(test_share=0.3, seed=7, learner=XGBoost(trees=3))
    assert with_learner(training, "lightgbm") == Training(test_share=0.3, seed=7, learner=LightGBM())


def test_the_detectors_own_learner_keeps_its_settings():
    training = Training(learner=XGBoost(trees=3))
    assert with_learner(training, "xgboost") == training


def test_an_unknown_learner_is_refused_with_all_that_there_are():
    with pytest.raises(InvalidDefinition, match=f"no learner boost; there are {', '.join(LEARNERS)}"):
        with_learner(Training(), "boost")


def test_without_catboost_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "catboost", None)
    monkeypatch.delitem(sys.modules, "sentinel.train.learners.catboost", raising=False)
    part = Part(np.zeros((2, 1), np.float32), np.array([0, 1], np.int8), np.arange(2), np.zeros((2, 1), np.float32))
    with pytest.raises(InvalidDefinition, match=r"pip install 'sentinel-fraud\[catboost\]'"):
        fit(part, part, Training(learner=CatBoost()), {})


def test_the_columns_of_codes_are_those_of_categories_with_one_code_for_the_unknown():
    detector = load_detector("payments")
    plan: FeaturePlan = detector.plan({"channel": ("chip", "web"), "country": ("ES",)})
    named = {plan.names[column]: n for column, n in code_columns(plan).items()}
    assert named == {"merchant_category": 1, "channel": 3, "country": 2}


def small():
    rows = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    return Part(rows, (rows[:, 0] > 0.5).astype(np.int8), np.arange(80), rows)


@pytest.mark.parametrize(
    "learner",
    [
        XGBoost(eval_metric="luck"), LightGBM(eval_metric="luck"), LightGBM(num_leaves=1), RandomForest(max_features=-1.0),
        LogisticRegression(max_iter=-1),
    ],
    ids=repr,
)  # fmt: skip
def test_settings_that_a_library_refuses_are_an_error_of_the_detector(learner):
    with pytest.raises(InvalidDefinition, match=r"refuses these settings: .+"):
        fit(small(), small(), Training(learner=learner), {})


def test_catboost_says_what_it_cannot_learn_with():
    with pytest.raises(DataProblem, match=r"CatBoost cannot learn .*luck"):
        fit(small(), small(), Training(learner=CatBoost(eval_metric="luck")), {})


@pytest.mark.parametrize("given", [{"trees": 0}, {"patience": 0}])
@pytest.mark.parametrize("kind", [XGBoost, LightGBM, CatBoost])
def test_no_tree_and_no_patience_are_refused(kind, given):
    with pytest.raises(InvalidDefinition, match="has to be 1 at least"):
        kind(**given)
