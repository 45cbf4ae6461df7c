"""LightGBM: boosted trees that grow leaf by leaf, stopped early by the validation part."""

from collections.abc import Iterator
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import CertificateRefused
from sentinel.learner import LightGBM
from sentinel.train.learners.fit_rows import THREADS, FitRows, Progress
from sentinel.train.learners.fitted_trees import FittedTrees
from sentinel.train.learners.tree import LEAF, Tree, above
from sentinel.train.learners.tree_graph import Ensemble

_MOST_FOR_BINS = 100_000
_ZERO = np.float32(1e-35)


class FittedLightGBM(FittedTrees):
    """The first `trees_used` trees of a booster with the objective binary, without categorical features of its own."""

    def __init__(self, booster: lightgbm.Booster, trees_used: int) -> None:
        self.booster = booster
        self._trees_used = trees_used

    @property
    def trees_used(self) -> int:
        """As `Fitted`."""
        return self._trees_used

    @property
    def n_features(self) -> int:
        """As `FittedTrees`."""
        n: int = self.booster.num_feature()
        return n

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Fitted`."""
        scores: NDArray[np.float64] = self.booster.predict(rows, num_iteration=self._trees_used, num_threads=THREADS)
        return scores.astype(np.float32)

    def log_odds(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `Fitted`."""
        found: NDArray[np.float64] = self.booster.predict(
            rows, num_iteration=self._trees_used, raw_score=True, num_threads=THREADS
        )
        return found

    def ensemble(self) -> Ensemble:
        """As `FittedTrees`."""
        saved = self.booster.dump_model(num_iteration=self._trees_used)
        if saved["objective"] != "binary sigmoid:1" or saved["num_tree_per_iteration"] != 1 or saved["average_output"]:
            raise CertificateRefused(
                f"only boosted trees with objective binary can be exported, not {saved['objective']}"
            )
        return Ensemble([_tree(one["tree_structure"]) for one in saved["tree_info"]])


def fit_lightgbm(
    learner: LightGBM, train: FitRows, validation: FitRows | None, seed: int, progress: Progress
) -> FittedLightGBM:
    """The booster, cut to its best number of trees by `eval_metric`; all of them where there is no validation part."""

    def tell(environment: lightgbm.callback.CallbackEnv) -> None:
        progress(environment.iteration + 1, learner.trees)

    matrix = lightgbm.Dataset(
        train.rows,
        train.labels,
        weight=train.weights,
        init_score=train.begins,
        reference=_binned(learner, train, seed),
        params=_of_bins(learner),
    )
    held = []
    if validation is not None:
        held = [
            lightgbm.Dataset(
                validation.rows, validation.labels, weight=validation.weights, init_score=validation.begins,
                reference=matrix,
            )
        ]  # fmt: skip
    booster = lightgbm.train(
        _parameters(learner, seed),
        matrix,
        learner.trees,
        valid_sets=held,
        callbacks=[tell, *([lightgbm.early_stopping(learner.patience, verbose=False)] if held else [])],
    )
    progress(learner.trees, learner.trees)
    return FittedLightGBM(booster, booster.best_iteration if held else booster.current_iteration())


def _binned(learner: LightGBM, train: FitRows, seed: int) -> lightgbm.Dataset | None:
    """Rows of which LightGBM takes the borders of its bins: as many frauds as legitimate payments.

    Plain quantiles separate the legitimate ones, and the frauds, one in a hundred or fewer, would share a bin.
    """
    legitimate, frauds = np.flatnonzero(train.labels == 0), np.flatnonzero(train.labels == 1)
    if min(len(legitimate), len(frauds)) == 0:
        return None
    rng = np.random.default_rng(seed)
    some = rng.choice(legitimate, min(len(legitimate), _MOST_FOR_BINS), replace=False)
    both = np.concatenate([np.sort(some), np.resize(frauds, max(len(some), len(frauds)))])
    return lightgbm.Dataset(train.rows[both], train.labels[both], params=_of_bins(learner)).construct()


def _of_bins(learner: LightGBM) -> dict[str, object]:
    return {
        "max_bin": learner.max_bin, "bin_construct_sample_cnt": 4 * _MOST_FOR_BINS, "feature_pre_filter": False,
        "verbosity": -1, "num_threads": THREADS,
    }  # fmt: skip


def _parameters(learner: LightGBM, seed: int) -> dict[str, object]:
    given = {
        name: getattr(learner, name)
        for name in (
            "num_leaves", "max_depth", "learning_rate", "subsample", "colsample_bytree", "min_child_samples",
            "min_child_weight", "reg_lambda",
        )
    }  # fmt: skip
    return {
        **given, **_of_bins(learner), "objective": "binary", "metric": learner.eval_metric, "bagging_freq": 1,
        "seed": seed, "deterministic": True, "force_col_wise": True,
    }  # fmt: skip


def _tree(root: dict[str, Any]) -> Tree:
    """Its nodes in depth first order. A node of missing type None reads a missing value as 0."""
    nodes = list(_walk(root))
    place = {id(node): number for number, node in enumerate(nodes)}
    is_leaf = np.array(["split_feature" not in node for node in nodes])
    thresholds = _below(np.array([node.get("threshold", 0.0) for node in nodes]))
    kinds = {node["missing_type"] for node in nodes if "missing_type" in node}
    if kinds - {"None", "NaN"} or {node.get("decision_type", "<=") for node in nodes} != {"<="}:
        raise CertificateRefused("splits by category, and zeros that are taken as missing, cannot be exported")
    return Tree(
        left=np.array([place[id(node["left_child"])] if "left_child" in node else LEAF for node in nodes]),
        right=np.array([place[id(node["right_child"])] if "right_child" in node else LEAF for node in nodes]),
        feature=np.array([node.get("split_feature", 0) for node in nodes]),
        value=np.where(is_leaf, np.array([node.get("leaf_value", 0.0) for node in nodes], np.float32), thresholds),
        missing_left=np.array([_goes_left(node) for node in nodes]),
        cover=np.array([node.get("internal_count", node.get("leaf_count", 0)) for node in nodes], np.float32),
    )


def _below(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The t for which `x < t`, of float32, asks what LightGBM asks by `x <= threshold`.

    It reads numbers as 0 that are not further from 0 than _ZERO: a threshold among these has all of them on one side.
    """
    snapped = np.where((thresholds >= 0) & (thresholds < _ZERO), _ZERO, thresholds)
    return np.where((snapped < 0) & (snapped >= -_ZERO), -_ZERO, above(snapped))


def _goes_left(node: dict[str, Any]) -> bool:
    """What is missing."""
    if node.get("missing_type") == "None":
        return bool(node["threshold"] >= 0)
    return bool(node.get("default_left", False))


def _walk(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if "split_feature" in node:
            waiting += [node["right_child"], node["left_child"]]
