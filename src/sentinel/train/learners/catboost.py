"""CatBoost: boosted trees of which every level asks one question, stopped early by the validation part."""

import json
import tempfile
from pathlib import Path
from typing import Any

import catboost
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import CertificateRefused, DataProblem
from sentinel.learner import CatBoost
from sentinel.train.learners.fit_rows import THREADS, FitRows, Progress
from sentinel.train.learners.fitted_trees import FittedTrees
from sentinel.train.learners.tree import LEAF, Tree, above, leaf_alone
from sentinel.train.learners.tree_graph import Ensemble


class FittedCatBoost(FittedTrees):
    """A classifier of Logloss on numbers alone, with all the trees that it has."""

    def __init__(self, model: catboost.CatBoost) -> None:
        self.model = model

    @property
    def trees_used(self) -> int:
        """As `Fitted`."""
        n: int = self.model.tree_count_
        return n

    @property
    def n_features(self) -> int:
        """As `FittedTrees`."""
        return len(self.model.feature_names_)

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Fitted`."""
        scores = self.model.predict(rows, prediction_type="Probability", thread_count=THREADS)
        found: NDArray[np.float32] = scores[:, 1].astype(np.float32)
        return found

    def log_odds(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `Fitted`."""
        found: NDArray[np.float64] = self.model.predict(rows, prediction_type="RawFormulaVal", thread_count=THREADS)
        return found

    def ensemble(self) -> Ensemble:
        """As `FittedTrees`."""
        saved = _saved(self.model)
        if "oblivious_trees" not in saved or set(saved["features_info"]) != {"float_features"}:
            raise CertificateRefused("only CatBoost's symmetric trees on numbers can be exported")
        scale, (bias,) = saved["scale_and_bias"]
        missing_right = [one["nan_value_treatment"] == "AsTrue" for one in saved["features_info"]["float_features"]]
        trees = [_tree(one, scale, missing_right) for one in saved["oblivious_trees"]]
        return Ensemble([leaf_alone(bias), *trees])


class _Report:
    def __init__(self, progress: Progress, trees: int) -> None:
        self.progress = progress
        self.trees = trees

    def after_iteration(self, info: Any) -> bool:
        """Report the progress; never stop the fit."""
        self.progress(info.iteration, self.trees)
        return True


def fit_catboost(
    learner: CatBoost, train: FitRows, validation: FitRows | None, seed: int, progress: Progress
) -> FittedCatBoost:
    """The model, cut to its best number of trees by `eval_metric`; all of them where there is no validation part.

    Raises DataProblem where every feature is constant, of which CatBoost makes no model.
    """
    model = catboost.CatBoost(_parameters(learner, seed))
    held = None if validation is None else _pool(validation)
    try:
        model.fit(
            _pool(train),
            eval_set=held,
            use_best_model=held is not None,
            early_stopping_rounds=None if held is None else learner.patience,
            callbacks=[_Report(progress, learner.trees)],
        )
    except catboost.CatBoostError as error:
        raise DataProblem(f"CatBoost cannot learn from these rows with these settings: {error}") from error
    progress(learner.trees, learner.trees)
    return FittedCatBoost(model)


def _pool(part: FitRows) -> catboost.Pool:
    labels = part.labels.astype(np.int32)
    return catboost.Pool(part.rows, labels, weight=part.weights, baseline=part.begins, thread_count=THREADS)


def _parameters(learner: CatBoost, seed: int) -> dict[str, object]:
    given = {
        name: getattr(learner, name)
        for name in (
            "eval_metric", "depth", "learning_rate", "subsample", "rsm", "l2_leaf_reg", "random_strength",
            "border_count",
        )
    }  # fmt: skip
    return {
        **given, "iterations": learner.trees, "loss_function": "Logloss", "bootstrap_type": "Bernoulli",
        "random_seed": seed, "thread_count": THREADS, "allow_writing_files": False, "logging_level": "Silent",
    }  # fmt: skip


def _saved(model: catboost.CatBoost) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="sentinel-catboost-") as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        saved: dict[str, Any] = json.loads(path.read_bytes())
    return saved


def _tree(saved: dict[str, Any], scale: float, missing_right: list[bool]) -> Tree:
    """A symmetric tree, unrolled: its last question at the root, as its answer is the highest bit of a leaf's number.

    CatBoost goes right where `x > border`. Node n has the children 2 n + 1 and 2 n + 2.
    """
    questions = saved["splits"] or []
    if any(one["split_type"] != "FloatFeature" for one in questions):
        raise CertificateRefused("splits by category cannot be exported; give categories as numbers")
    depth = len(questions)
    inner, leaves = 2**depth - 1, 2**depth
    level = np.array([n.bit_length() - 1 for n in range(1, inner + 1)], np.int64)  # of every inner node
    asked = [questions[depth - 1 - one] for one in level]
    features = np.array([one["float_feature_index"] for one in asked], np.int64)
    thresholds = above(np.array([np.float32(one["border"]) for one in asked], np.float64))
    numbers = np.arange(inner)
    return Tree(
        left=np.concatenate([2 * numbers + 1, np.full(leaves, LEAF)]),
        right=np.concatenate([2 * numbers + 2, np.full(leaves, LEAF)]),
        feature=np.concatenate([features, np.zeros(leaves, np.int64)]),
        value=np.concatenate([thresholds, scale * np.array(saved["leaf_values"])]).astype(np.float32),
        missing_left=np.array([not missing_right[one] for one in features] + [False] * leaves),
        cover=_covers(np.array(saved["leaf_weights"], np.float64)),
    )


def _covers(leaves: NDArray[np.float64]) -> NDArray[np.float32]:
    """The weights of all nodes, from those of the leaves."""
    levels = [leaves]
    while len(levels[0]) > 1:
        levels.insert(0, levels[0].reshape(-1, 2).sum(axis=1))
    return np.concatenate(levels).astype(np.float32)
