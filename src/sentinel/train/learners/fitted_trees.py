"""A fitted model of trees: what there is to do once they have the one form."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import CertificateRefused
from sentinel.train.learners.tree_graph import Ensemble
from sentinel.train.learners.tree_probes import split_probes


class FittedTrees(ABC):
    """Trees of a library, which are exported and put to the test in one way. The methods are those of `Fitted`."""

    @property
    @abstractmethod
    def trees_used(self) -> int:
        """How many trees the library has."""

    @property
    @abstractmethod
    def n_features(self) -> int:
        """On how many features they were trained."""

    @abstractmethod
    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fraud probabilities (n,) of rows (n, features), by the library; NaN is missing."""

    @abstractmethod
    def ensemble(self) -> Ensemble:
        """The trees. Raises CertificateRefused where they ask what a tree of ours does not."""

    def to_onnx(self, n_features: int) -> bytes:
        """As `Fitted`."""
        if self.n_features != n_features:
            raise CertificateRefused(f"the model was trained on {self.n_features} features, not on {n_features}")
        return self.ensemble().to_onnx(n_features)

    def split_probes(self, base_rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """As `Fitted`."""
        return split_probes(self.ensemble().trees, self.predict, base_rows)
