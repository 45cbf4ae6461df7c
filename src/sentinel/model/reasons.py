"""Reasons: why a model came to a score, in the detector's own words."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import BundleProblem
from sentinel.model.contributions import Paths, paths_of
from sentinel.model.linear import Linear, is_linear, linear_of
from sentinel.model.onnx_file import OnnxFile

MOST_REASONS = 10


class Reason(msgspec.Struct, frozen=True):
    """What one feature added, in the explanation's unit: above 0 it spoke for fraud. A `value` of None is missing.

    `words` are what the detector says of the feature, or None.
    """

    feature: str
    value: float | None
    contribution: float
    words: str | None = None


class Explanation(msgspec.Struct, frozen=True):
    """Why a score is what it is: `expected` + the contributions of the reasons + `others` = the log-odds of fraud.

    Of a random forest it is the probability of fraud; `unit` says which. Of a calibrated model it is what the model
    says before its calibration, which changes the scale of all scores and the order of none.
    `expected` is what the model says on average over its training rows. The reasons are those that moved the score
    most, in either direction; `others` is what all other features added together.
    """

    expected: float
    reasons: Sequence[Reason]
    others: float
    unit: Literal["log_odds", "probability"] = "log_odds"


class Explainer:
    """Explains the scores of one model; may be used from any thread.

    `names` are the model's features in their order, `words` what the detector says of some of them. Raises
    BundleProblem for a model that cannot be explained.
    """

    def __init__(self, model: OnnxFile, names: Sequence[str], words: Mapping[str, str]) -> None:
        self._model: Paths | Linear = linear_of(model) if is_linear(model) else paths_of(model)
        self._unit: Literal["log_odds", "probability"] = "probability" if _adds_shares(model) else "log_odds"
        self._names = tuple(names)
        self._words = words
        if self._model.n_features != len(self._names):
            raise BundleProblem(f"the model takes {self._model.n_features} features, and {len(self._names)} are named")

    @property
    def n_features(self) -> int:
        """How many features a row has."""
        return len(self._names)

    def explain(self, row: NDArray[np.float64], most: int = MOST_REASONS) -> Explanation:
        """Why a row (n_features,) has its score, with so many reasons at most; none that added nothing."""
        added = self._model.contributions(row[None].astype(np.float32))[0]
        order = [int(n) for n in np.argsort(-np.abs(added), kind="stable") if added[n] != 0]
        reasons = [self._reason(n, float(row[n]), float(added[n])) for n in order[:most]]
        return Explanation(self._model.expected, reasons, float(added[order[most:]].sum()), self._unit)

    def contributions(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """What each feature adds, in the unit of an explanation, to rows (n, features): float64 of that shape."""
        return self._model.contributions(rows)

    def _reason(self, n: int, value: float, contribution: float) -> Reason:
        name = self._names[n]
        return Reason(name, None if math.isnan(value) else value, contribution, self._words.get(name))


def _adds_shares(model: OnnxFile) -> bool:
    """Whether what its trees add up is the probability itself, kept within 0 and 1."""
    pairs = zip(model.nodes, model.nodes[1:], strict=False)
    return any(
        (one.operator, after.operator) == ("TreeEnsembleRegressor", "Clip") and after.inputs[0] == one.outputs[0]
        for one, after in pairs
    )
