"""Fitting: the detector's learner on the training part, stopped early by the validation part."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from lightgbm.basic import LightGBMError

from sentinel.detector import Training
from sentinel.errors import InvalidDefinition
from sentinel.features.plan import FeaturePlan
from sentinel.learner import CatBoost, Learner, LightGBM, LogisticRegression, RandomForest, XGBoost
from sentinel.train.fitting.grown import EarlierTrees, Grown
from sentinel.train.fitting.imbalance import balanced, fraud_weight, with_weights
from sentinel.train.learners.fit_rows import FitRows, Progress
from sentinel.train.learners.fitted import Fitted
from sentinel.train.learners.lightgbm import fit_lightgbm
from sentinel.train.learners.logistic_regression import fit_logistic_regression
from sentinel.train.learners.random_forest import fit_random_forest
from sentinel.train.learners.xgboost import fit_xgboost
from sentinel.train.rows.dataset import Part

GROWS = (XGBoost, LightGBM, CatBoost)
"""The learners that can add trees to others: each fits on what sums of log-odds leave unexplained. The trees of a
forest know nothing of each other, and a regression has none."""

LIBRARIES = {
    XGBoost: "xgboost-cpu", LightGBM: "lightgbm", CatBoost: "catboost", RandomForest: "scikit-learn",
    LogisticRegression: "scikit-learn",
}  # fmt: skip
"""The distribution that each learner is from."""


def is_installed(learner: Learner) -> bool:
    """Whether the learner's library is there; CatBoost's is an extra of its own."""
    return not isinstance(learner, CatBoost) or find_spec("catboost") is not None


def fit(
    train: Part,
    validation: Part | None,
    training: Training,
    codes: Mapping[int, int],
    progress: Progress = lambda _done, _of: None,
    earlier: EarlierTrees | None = None,
) -> Fitted:
    """The fitted model; without a validation part it is not stopped early, and has all trees of its learner.

    `codes` are those of `code_columns`. A row of the training part weighs what it stands for. Frauds weigh in the
    validation part what they weigh in training, so that both are after the same thing; its rows are as they are. With
    `earlier` trees new ones are added to them. Raises InvalidDefinition where the learner's library is missing or
    refuses these settings, and DataProblem where it can make no model of these rows.
    """
    learned = _rows(train, codes)
    if train.stands is not None:
        learned = replace(learned, weights=train.stands.astype(np.float32))
    held = None if validation is None else _rows(validation, codes)
    if held is not None and training.imbalance != "none":
        held = with_weights(held, fraud_weight(learned))
    learned = balanced(learned, training.imbalance, training.seed)
    if earlier is not None:
        learned, held = _beginning(learned, earlier), held and _beginning(held, earlier)
    try:
        added = _fit_with(training.learner, learned, held, training.seed, progress)
        return added if earlier is None else Grown(earlier, added)
    except (ValueError, LightGBMError) as error:  # XGBoost's and scikit-learn's own are kinds of ValueError
        library, told = LIBRARIES[type(training.learner)], str(error).partition("\n")[0]
        raise InvalidDefinition(f"training: {library} refuses these settings: {told}") from error


def _beginning(part: FitRows, earlier: EarlierTrees) -> FitRows:
    return replace(part, begins=earlier.log_odds(part.rows).astype(np.float32))


def _fit_with(learner: Learner, train: FitRows, validation: FitRows | None, seed: int, progress: Progress) -> Fitted:
    match learner:
        case XGBoost():
            return fit_xgboost(learner, train, validation, seed, progress)
        case LightGBM():
            return fit_lightgbm(learner, train, validation, seed, progress)
        case CatBoost():
            return _fit_catboost(learner, train, validation, seed, progress)
        case RandomForest():
            return fit_random_forest(learner, train, seed, progress)
        case LogisticRegression():
            return fit_logistic_regression(learner, train, seed, progress)


def _fit_catboost(
    learner: CatBoost, train: FitRows, validation: FitRows | None, seed: int, progress: Progress
) -> Fitted:
    try:
        from sentinel.train.learners.catboost import fit_catboost  # an extra of its own
    except ModuleNotFoundError as error:
        if error.name != "catboost":
            raise
        raise InvalidDefinition("catboost is not installed: pip install 'sentinel-fraud[catboost]'") from error
    return fit_catboost(learner, train, validation, seed, progress)


def code_columns(plan: FeaturePlan) -> dict[int, int]:
    """The columns that hold the codes of categories, and how many codes each has, that of unknown values included."""
    return {
        column: len(plan.vocabulary.get(feature.of or "", ())) + 1
        for column, feature in enumerate(plan.features)
        if feature.kind == "category"
    }


def _rows(part: Part, codes: Mapping[int, int]) -> FitRows:
    return FitRows(part.rows, part.labels, np.ones(len(part), np.float32), codes)
