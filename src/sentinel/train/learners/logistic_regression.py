"""The logistic regression of scikit-learn, on columns that are filled, centred and scaled on the training part."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper
from sklearn.linear_model import LogisticRegression as SklearnRegression

from sentinel.errors import CertificateRefused
from sentinel.learner import LogisticRegression
from sentinel.model.linear import WITH_CODES, WITHOUT_CODES, Columns
from sentinel.train.learners.fit_rows import FitRows, Progress
from sentinel.train.learners.tree_graph import model_of
from sentinel.train.learners.tree_probes import edges, most_doubtful

_LARGEST = np.finfo(np.float32).max
_CASTS = {"wide": TensorProto.DOUBLE, "missing": TensorProto.DOUBLE, "logit": TensorProto.FLOAT}
_TOGETHER = 50_000
_MOST_CODES = 50


class FittedLogisticRegression:
    """A regression on the columns of rows."""

    trees_used = None

    def __init__(self, columns: Columns, regression: SklearnRegression) -> None:
        self.columns = columns
        self.regression = regression

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Fitted`."""
        parts = [rows[begin : begin + _TOGETHER] for begin in range(0, len(rows), _TOGETHER)]
        scores = [self.regression.predict_proba(self.columns.of(one))[:, 1] for one in parts]
        return np.concatenate(scores or [np.zeros(0)]).astype(np.float32)

    def log_odds(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `Fitted`."""
        found: NDArray[np.float64] = self.regression.decision_function(self.columns.of(rows))
        return found

    def ensemble(self) -> None:
        """As `Fitted`: it has no trees."""
        return

    def to_onnx(self, n_features: int) -> bytes:
        """As `Fitted`. The graph has what was learned of the columns inside."""
        columns, f = self.columns, len(self.columns.fill)
        if f != n_features:
            raise CertificateRefused(f"the model was trained on {f} features, not on {n_features}")
        weights = self.regression.coef_[0]
        constants = {
            "least": -_LARGEST, "most": _LARGEST, "one": np.float32(1), "unit": np.float64(1), "axis": np.array([1]),
            "number_center": columns.center, "number_scale": columns.scale, "number_weight": weights[:f],
            "missing_center": columns.missing_center, "missing_weight": weights[f : 2 * f],
            "code_column": np.eye(f)[:, columns.feature], "code": columns.code, "code_center": columns.code_center,
            "code_weight": weights[2 * f :], "bias": np.array([self.regression.intercept_[0]]),
        }  # fmt: skip
        form = WITH_CODES if len(columns.code) else WITHOUT_CODES
        return model_of([self._node(*one) for one in form], n_features, constants)

    def _node(self, operator: str, takes: tuple[str, ...], makes: str) -> NodeProto:
        given: dict[str, Any] = {"to": _CASTS[makes]} if operator == "Cast" else {}
        if operator == "Imputer":
            given = {
                "imputed_value_floats": self.columns.fill.tolist(), "replaced_value_float": np.nan,
                "domain": "ai.onnx.ml",
            }  # fmt: skip
        return helper.make_node(operator, list(takes), [makes], **given)

    def split_probes(self, base_rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """As `Fitted`: a number stands at what fills it, and one deviation to either side; a category at every code."""
        base_row = most_doubtful(self.predict, np.atleast_2d(base_rows))
        columns = self.columns
        for column, (fill, center, scale) in enumerate(zip(columns.fill, columns.center, columns.scale, strict=True)):
            codes = columns.code[columns.feature == column]
            places = codes if len(codes) else np.array([fill, center - scale, center + scale])
            rows = [_changed(base_row, column, value) for place in places for value in edges(_narrow(place))]
            yield np.array(rows, np.float32)


def _narrow(number: float) -> np.float32:
    """The float32, which is finite."""
    return np.float32(np.clip(number, -_LARGEST, _LARGEST))


def _changed(row: NDArray[np.float32], column: int, value: np.float32) -> NDArray[np.float32]:
    changed = row.copy()
    changed[column] = value
    return changed


def fit_logistic_regression(
    learner: LogisticRegression, train: FitRows, seed: int, progress: Progress
) -> FittedLogisticRegression:
    """The regression; the columns are learned from the same rows and nothing else."""
    columns = columns_of(train)
    regression = SklearnRegression(C=learner.C, solver="newton-cholesky", max_iter=learner.max_iter, random_state=seed)
    regression.fit(columns.of(train.rows), train.labels, sample_weight=train.weights)
    progress(1, 1)
    return FittedLogisticRegression(columns, regression)


def columns_of(train: FitRows) -> Columns:
    """What fills, centres and scales the columns: medians, means and deviations of the training rows.

    A number that is missing everywhere is filled with 0, one that never changes is not scaled. What stands for a
    category is not its code as a number, which an infinite scale makes 0; it is filled with no code. Of a category's
    codes the most frequent _MOST_CODES, which are the first, have a column.
    """
    n_features = train.rows.shape[1]
    numbers = np.array([column for column in range(n_features) if column not in train.codes], np.int64)
    missing = np.isnan(train.rows)
    fill = np.full(n_features, -2, np.float32)
    for column in numbers:
        known = train.rows[~missing[:, column], column]
        fill[column] = np.median(known) if len(known) else 0
    center, scale = np.zeros(n_features), np.full(n_features, np.inf)
    for column in numbers:
        wide = np.where(missing[:, column], fill[column], train.rows[:, column]).astype(np.float64)
        center[column], deviation = wide.mean(), wide.std()
        scale[column] = deviation if deviation > 0 else 1
    counts = [min(n, _MOST_CODES) for n in train.codes.values()]
    feature = np.repeat(list(train.codes), counts).astype(np.int64)
    code = np.array([one for n in counts for one in range(n)], np.float64)
    share = [float(np.mean(train.rows[:, column] == one)) for column, one in zip(feature, code, strict=True)]
    return Columns(fill, center, scale, missing.mean(axis=0), feature, code, np.array(share, np.float64))
