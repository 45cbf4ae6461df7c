"""The linear model against scikit-learn's own, and its reasons against the definition."""

import itertools
import math

import numpy as np
import onnx
import pytest

from sentinel.errors import BundleProblem
from sentinel.learner import LogisticRegression
from sentinel.model.linear import is_linear, linear_of
from sentinel.model.onnx_file import OnnxFile
from sentinel.model.scorer import Scorer
from sentinel.train.learners.fit_rows import FitRows
from sentinel.train.learners.logistic_regression import fit_logistic_regression

N, F = 400, 4


def sample(seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(N, F)).astype(np.float32)
    rows[:, 1] = rows[:, 1] * 1e7 + 1.7e9  # such as a time: far from 0
    rows[:, 2] = rng.integers(0, 3, N)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    labels = (np.nan_to_num(rows[:, 0]) + (rows[:, 2] == 1) + rng.normal(size=N) > 1).astype(np.int8)
    return FitRows(rows, labels, np.ones(N, np.float32), {2: 3})


def fitted(seed=0):
    train = sample(seed)
    return fit_logistic_regression(LogisticRegression(), train, 42, lambda _done, _of: None), train


def test_the_columns_are_filled_centred_and_scaled_on_the_training_rows():
    model, train = fitted()
    columns = model.columns.of(train.rows)
    assert columns.shape == (N, 2 * F + 3)
    assert np.abs(columns.mean(axis=0)).max() < 1e-6
    assert columns[:, [0, 1, 3]].std(axis=0) == pytest.approx(1)
    assert (columns[:, 2] == 0).all()  # a code is no number
    known = train.rows[~np.isnan(train.rows[:, 1]), 1]
    assert model.columns.fill[1] == np.median(known)
    for code in range(3):
        assert (columns[:, 2 * F + code] + model.columns.code_center[code] == (train.rows[:, 2] == code)).all()


def test_reasons_are_the_shapley_values_by_definition():
    """Of the game in which what is not known is drawn from the training rows, each feature by itself."""
    model, train = fitted()
    linear = linear_of(OnnxFile(model.to_onnx(F)))
    logits = model.regression.decision_function

    def worth(row, known):
        """The mean log-odds when only these are known; a linear model may average its columns one by one."""
        columns = model.columns.of(train.rows).mean(axis=0)
        own = model.columns.of(row[None])[0]
        for feature in known:
            here = [feature, F + feature, *(2 * F + np.flatnonzero(model.columns.feature == feature))]
            columns[here] = own[here]
        return float(logits(columns[None])[0])

    for row in train.rows[:5]:
        wanted = np.zeros(F)
        for feature in range(F):
            others = [n for n in range(F) if n != feature]
            for size in range(F):
                weight = math.factorial(size) * math.factorial(F - size - 1) / math.factorial(F)
                for known in itertools.combinations(others, size):
                    wanted[feature] += weight * (worth(row, (*known, feature)) - worth(row, known))
        assert linear.contributions(row[None])[0] == pytest.approx(wanted, abs=1e-6)
        assert linear.expected == pytest.approx(worth(row, ()), abs=1e-6)


def test_a_number_far_from_zero_loses_no_digits():
    model, train = fitted()
    served = Scorer(model.to_onnx(F)).score(train.rows)
    assert np.abs(served - model.predict(train.rows)).max() < 2e-7


@pytest.mark.parametrize("change", ["operator", "wiring", "length", "kind"])
def test_a_graph_that_was_changed_is_not_explained_as_a_linear_one(change):
    graph = onnx.load_from_string(fitted()[0].to_onnx(F))
    tensors = {one.name: one for one in graph.graph.initializer}
    match change:
        case "operator":
            graph.graph.node[3].op_type = "Add"
        case "wiring":
            graph.graph.node[3].input[1] = "number_scale"
        case "length":
            tensors["number_weight"].CopyFrom(onnx.numpy_helper.from_array(np.zeros(1), "number_weight"))
        case _:
            tensors["bias"].CopyFrom(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "bias"))
    file = OnnxFile(graph.SerializeToString())
    if change in ("operator", "wiring"):
        assert not is_linear(file)
        return
    assert is_linear(file)
    with pytest.raises(BundleProblem, match="train anew"):
        linear_of(file)
