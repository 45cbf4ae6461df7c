"""What every fitted model can do, whichever library made it."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sentinel.train.learners.tree_graph import Ensemble

NEAREST = 1e-5
"""How near to 0 and 1 a probability may be whose log-odds are taken."""


class Fitted(Protocol):
    """A fitted model, as its own library has it."""

    @property
    def trees_used(self) -> int | None:
        """How many trees it has; None for a model that has none."""

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fraud probabilities (n,) of rows (n, features), by the library; NaN is missing."""

    def log_odds(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds of fraud (n,) of the same rows: what the probabilities are made of, or else `log_odds_of` them."""

    def ensemble(self) -> Ensemble | None:
        """The sum of trees that it is; None for a model of another kind."""

    def to_onnx(self, n_features: int) -> bytes:
        """The model as ONNX: float32 `features` (n, n_features) in, float32 `fraud_probability` (n, 1) out.

        The same model gives the same bytes. Raises CertificateRefused where it is of a kind that cannot be exported,
        or was trained on another number of features.
        """

    def split_probes(self, base_rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Rows that stand on every edge of the model, four for each: at it, below it, above it, and missing.

        Arrays (4 s, features). What a row needs beside the edge is taken from one of `base_rows`, (n, features) or
        (features,).
        """


def log_odds_of(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-odds of probabilities (n,) from a library that has none of its own, of which some are 0 and 1."""
    within = np.clip(scores.astype(np.float64), NEAREST, 1 - NEAREST)
    return np.asarray(np.log(within) - np.log1p(-within))
