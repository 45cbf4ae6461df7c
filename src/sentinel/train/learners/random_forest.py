"""The random forest of scikit-learn: the mean of the shares of fraud in its trees' leaves."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from sentinel.learner import RandomForest
from sentinel.train.learners.fit_rows import THREADS, FitRows, Progress
from sentinel.train.learners.fitted import log_odds_of
from sentinel.train.learners.fitted_trees import FittedTrees
from sentinel.train.learners.tree import LEAF, Tree, above
from sentinel.train.learners.tree_graph import Ensemble

_TOGETHER = 10


class FittedRandomForest(FittedTrees):
    """A forest of the classes 0 and 1."""

    def __init__(self, forest: RandomForestClassifier) -> None:
        self.forest = forest

    @property
    def trees_used(self) -> int:
        """As `Fitted`."""
        return len(self.forest.estimators_)

    @property
    def n_features(self) -> int:
        """As `FittedTrees`."""
        return int(self.forest.n_features_in_)

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Fitted`."""
        scores: NDArray[np.float32] = self.forest.predict_proba(rows)[:, 1].astype(np.float32)
        return scores

    def log_odds(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `Fitted`."""
        return log_odds_of(self.predict(rows))

    def ensemble(self) -> Ensemble:
        """As `FittedTrees`; a leaf adds its share of fraud, divided by the number of trees."""
        trees = [one.tree_ for one in self.forest.estimators_]
        return Ensemble([_tree(one, len(trees)) for one in trees], is_log_odds=False)


def fit_random_forest(learner: RandomForest, train: FitRows, seed: int, progress: Progress) -> FittedRandomForest:
    """The forest, of all its trees: nothing stops it early."""
    forest = RandomForestClassifier(
        n_estimators=0, max_depth=learner.max_depth, min_samples_leaf=learner.min_samples_leaf,
        max_features=learner.max_features, max_samples=learner.max_samples, n_jobs=THREADS, random_state=seed,
        warm_start=True,
    )  # fmt: skip
    for done in range(0, learner.trees, _TOGETHER):
        forest.n_estimators = min(done + _TOGETHER, learner.trees)
        forest.fit(train.rows, train.labels, sample_weight=train.weights)
        progress(forest.n_estimators, learner.trees)
    return FittedRandomForest(forest)


def _tree(tree: Any, n_trees: int) -> Tree:
    """Its nodes in scikit-learn's order. What it asks, `x <= threshold` of float64, becomes `x < t` of float32."""
    is_leaf = tree.children_left == LEAF
    shares = tree.value[:, 0, 1] / tree.value[:, 0, :].sum(axis=1)
    return Tree(
        left=tree.children_left.astype(np.int64),
        right=tree.children_right.astype(np.int64),
        feature=np.where(is_leaf, 0, tree.feature).astype(np.int64),
        value=np.where(is_leaf, (shares / n_trees).astype(np.float32), above(np.where(is_leaf, 0, tree.threshold))),
        missing_left=tree.missing_go_to_left.astype(bool),
        cover=tree.weighted_n_node_samples.astype(np.float32),
    )
