"""A soft vote: several models of trees as one, whose log-odds are the mean of theirs.

The mean of sums of leaves is one sum of all their leaves, each divided by the number of models. So a vote is exported,
certified, scored by our own trees and explained as a single model is.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sentinel.train.learners.fitted import Fitted
from sentinel.train.learners.tree import Tree
from sentinel.train.learners.tree_graph import Ensemble
from sentinel.train.learners.tree_probes import split_probes


def can_vote(model: Fitted) -> bool:
    """Whether a model is a sum of log-odds by trees."""
    ensemble = model.ensemble()
    return ensemble is not None and ensemble.is_log_odds


class Vote:
    """Fitted models, each of which `can_vote`, as one."""

    def __init__(self, members: Sequence[Fitted]) -> None:
        self._members = tuple(members)

    @property
    def trees_used(self) -> int:
        """As `Fitted`: the trees of all members."""
        return sum(member.trees_used or 0 for member in self._members)

    def log_odds(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `Fitted`."""
        return np.asarray(np.mean([member.log_odds(rows) for member in self._members], axis=0))

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Fitted`."""
        return np.asarray(expit(self.log_odds(rows)), np.float32)

    def ensemble(self) -> Ensemble:
        """As `Fitted`."""
        return Ensemble(list(self._trees()))

    def to_onnx(self, n_features: int) -> bytes:
        """As `Fitted`."""
        for member in self._members:
            member.to_onnx(n_features)  # refuses another number of features
        return self.ensemble().to_onnx(n_features)

    def split_probes(self, base_rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """As `Fitted`."""
        return split_probes(self.ensemble().trees, self.predict, base_rows)

    def _trees(self) -> Iterator[Tree]:
        for member in self._members:
            ensemble = member.ensemble()
            for tree in ensemble.trees if ensemble is not None else ():
                is_leaf = tree.left == -1
                weighted = np.where(is_leaf, tree.value / np.float32(len(self._members)), tree.value)
                yield tree._replace(value=weighted.astype(np.float32))
