"""A linear model as a graph: the one form in which it is written, and read again to say why.

A row's numbers are centred and scaled, missing ones after the training median took their place; whether a number is
missing, and which code a category has, are numbers 0 or 1 of their own, and centred too. Each is multiplied with its
weight, and the sum is the log-odds. As all are centred on the training rows, what a number adds is its exact Shapley
value (features taken as independent), and the bias is what the model says on average.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import BundleProblem
from sentinel.model.onnx_file import OnnxFile

_LARGEST = np.finfo(np.float32).max

_NUMBERS = (
    ("Imputer", ("features",), "filled"),
    ("Clip", ("filled", "least", "most"), "finite"),
    ("Cast", ("finite",), "wide"),
    ("Sub", ("wide", "number_center"), "off_center"),
    ("Div", ("off_center", "number_scale"), "scaled"),
    ("Mul", ("scaled", "number_weight"), "of_numbers"),
    ("IsNaN", ("features",), "is_missing"),
    ("Cast", ("is_missing",), "missing"),
    ("Sub", ("missing", "missing_center"), "missing_off_center"),
    ("Mul", ("missing_off_center", "missing_weight"), "of_missing"),
    ("Add", ("of_numbers", "of_missing"), "of_features"),
    ("ReduceSum", ("of_features", "axis"), "of_row"),
)
_CODES = (
    ("MatMul", ("wide", "code_column"), "chosen"),
    ("Sub", ("chosen", "code"), "from_code"),
    ("Abs", ("from_code",), "distance"),
    ("Sub", ("unit", "distance"), "nearness"),
    ("Relu", ("nearness",), "is_code"),
    ("Sub", ("is_code", "code_center"), "code_off_center"),
    ("Mul", ("code_off_center", "code_weight"), "of_codes"),
    ("ReduceSum", ("of_codes", "axis"), "of_all_codes"),
    ("Add", ("of_row", "of_all_codes"), "of_all"),
)


_LOGISTIC = (
    ("Neg", ("logit",), "against"),
    ("Exp", ("against",), "odds_against"),
    ("Add", ("odds_against", "one"), "odds_of_all"),
    ("Div", ("one", "odds_of_all"), "fraud_probability"),
)


def _tail(total: str) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    return (("Add", (total, "bias"), "wide_logit"), ("Cast", ("wide_logit",), "logit"), *_LOGISTIC)


WITHOUT_CODES = (*_NUMBERS, *_tail("of_row"))
WITH_CODES = (*_NUMBERS, *_CODES, *_tail("of_all"))
"""The nodes of the graph: operator, what it takes, what it makes."""


class Columns(NamedTuple):
    """How rows of f features become the columns of a linear model: f numbers, f of what is missing, k codes.

    `fill` float32 (f,) takes the place of what is missing. `center`, `scale`, `missing_center` float64 (f,). Of the
    codes `feature` int64 is the column of the row that holds it, `code` float64 its number, `code_center` its share of
    the training rows; all (k,).
    """

    fill: NDArray[np.float32]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    missing_center: NDArray[np.float64]
    feature: NDArray[np.int64]
    code: NDArray[np.float64]
    code_center: NDArray[np.float64]

    def of(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """The columns, float64 (n, 2 f + k), of rows float32 (n, f)."""
        missing = np.isnan(rows)
        wide = np.clip(np.where(missing, self.fill, rows), -_LARGEST, _LARGEST).astype(np.float64)
        numbers = (wide - self.center) / self.scale
        codes = np.maximum(1 - np.abs(wide[:, self.feature] - self.code), 0) - self.code_center
        return np.hstack([numbers, missing - self.missing_center, codes])


class Linear(NamedTuple):
    """A linear model: `weights` float64 (2 f + k,) of the columns, and the `bias`, which is its average log-odds."""

    columns: Columns
    weights: NDArray[np.float64]
    bias: float

    @property
    def expected(self) -> float:
        """The average log-odds of the training rows."""
        return self.bias

    @property
    def n_features(self) -> int:
        """Features of a row."""
        return len(self.columns.fill)

    def contributions(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """What each feature adds to the log-odds, float64 (n, f), of rows float32 (n, f); NaN is missing."""
        f = self.n_features
        added = self.columns.of(rows) * self.weights
        found = added[:, :f] + added[:, f : 2 * f]
        for feature, of_code in zip(self.columns.feature, added[:, 2 * f :].T, strict=True):
            found[:, feature] += of_code
        return found


def is_linear(model: OnnxFile) -> bool:
    """Whether a model has exactly the nodes of a linear one, up to its log-odds, which may be calibrated after that."""
    return _form_of(model) is not None


def _form_of(model: OnnxFile) -> tuple[tuple[str, tuple[str, ...], str], ...] | None:
    nodes = tuple((node.operator, tuple(node.inputs), *node.outputs) for node in model.nodes)
    heads = {form: form[: -len(_LOGISTIC)] for form in (WITH_CODES, WITHOUT_CODES)}
    return next((form for form, head in heads.items() if nodes[: len(head)] == head), None)


def linear_of(model: OnnxFile) -> Linear:
    """The linear model in a graph for which `is_linear`. Raises BundleProblem where its numbers do not fit together."""
    f, fill = model.width, model.nodes[0].attributes.get("imputed_value_floats", [])
    has_codes = _form_of(model) is WITH_CODES
    column = model.constant("code_column") if has_codes else np.zeros((f, 0))
    code, code_center, code_weight = (
        model.constant(name) if has_codes else np.zeros(0) for name in ("code", "code_center", "code_weight")
    )
    of_numbers = [model.constant(name) for name in ("number_center", "number_scale", "number_weight")]
    of_missing = [model.constant(name) for name in ("missing_center", "missing_weight")]
    is_whole = column.ndim == 2 and len(column) == f and all(len(one) == f for one in (fill, *of_numbers, *of_missing))
    if not is_whole or {len(code), len(code_center), len(code_weight)} != {column.shape[1]}:
        raise BundleProblem("this model cannot say why: its numbers do not fit together; train anew")
    columns = Columns(
        np.array(fill, np.float32),
        of_numbers[0],
        of_numbers[1],
        of_missing[0],
        column.argmax(axis=0),
        code,
        code_center,
    )
    bias = float(model.constant("bias").sum())
    return Linear(columns, np.concatenate([of_numbers[2], of_missing[1], code_weight]), bias)
