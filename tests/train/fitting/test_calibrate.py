"""Calibration: scores come to mean what they say, in their old order, and the graph computes the same."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from scipy.special import expit as sigmoid

from sentinel.model.onnx_file import OnnxFile
from sentinel.train.fitting.calibrate import Beta, Isotonic, calibrate, calibration_nodes

METHODS = ("beta", "isotonic")


def told(seed, n=20_000, bend=lambda logits: 0.5 * logits - 1.5):
    """Log-odds of a model, and labels that follow another function of them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2, 2, n)
    return logits, (rng.random(n) < sigmoid(bend(logits))).astype(np.int8)


def graph_of(calibration):
    nodes, constants = calibration_nodes(calibration, "logit", "out")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("logit", TensorProto.FLOAT, [None, 1])],
        [value("out", TensorProto.FLOAT, [None, 1])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def in_onnx(calibration, logits):
    session = onnxruntime.InferenceSession(graph_of(calibration), providers=["CPUExecutionProvider"])
    return session.run(None, {"logit": logits.astype(np.float32).reshape(-1, 1)})[0].ravel()


@pytest.mark.parametrize("method", METHODS)
def test_scores_come_to_mean_what_they_say(method):
    logits, labels = told(1)
    fresh, truth = told(2)
    calibrated = sigmoid(calibrate(method, logits, labels)(fresh))
    for low, high in ((0.0, 0.05), (0.05, 0.1), (0.1, 0.3), (0.3, 0.6)):
        here = (calibrated >= low) & (calibrated < high)
        assert here.sum() > 100
        assert calibrated[here].mean() == pytest.approx(truth[here].mean(), abs=0.03)
    assert abs(sigmoid(fresh).mean() - truth.mean()) > 0.05  # it was off before


def test_beta_finds_the_line_that_was_bent():
    logits, labels = told(3, n=60_000)
    found = calibrate("beta", logits, labels)
    assert (found.a, found.b, found.c) == pytest.approx((0.5, 0.5, -1.5), abs=0.1)


def test_beta_changes_little_of_what_is_right():
    logits, labels = told(4, n=40_000, bend=lambda logits: logits)
    assert np.abs(sigmoid(calibrate("beta", logits, labels)(logits)) - sigmoid(logits)).max() < 0.03


def test_isotonic_follows_what_no_line_can():
    bend = lambda logits: np.where(logits < -2, -3.0, 0.5) + 0.2 * logits  # noqa: E731
    logits, labels = told(5, n=50_000, bend=bend)
    found = {method: sigmoid(calibrate(method, logits, labels)(logits)) for method in METHODS}
    errors = {method: np.abs(one - sigmoid(bend(logits))).mean() for method, one in found.items()}
    assert errors["isotonic"] < errors["beta"] / 2


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(4, 300),
    method=st.sampled_from(METHODS),
    spread=st.sampled_from([0.0, 0.1, 3.0, 30.0]),
    kind=st.sampled_from(["chance", "apart", "backwards", "tied"]),
)
def test_any_scores_keep_their_order_and_the_graph_says_the_same(seed, n, method, spread, kind):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, spread, n)
    if kind == "tied":
        logits = np.rint(logits)
    labels = (np.arange(n) % 4 == 0).astype(np.int8)
    if kind == "apart":
        labels = (logits >= np.sort(logits)[n // 2]).astype(np.int8)
    if kind == "backwards":
        labels = (logits < np.sort(logits)[n // 2]).astype(np.int8)
    calibration = calibrate(method, logits, labels)
    asked = np.concatenate([np.sort(logits), [-80.0, -20.0, 0.0, 20.0, 80.0]])
    asked = np.unique(asked.astype(np.float32)).astype(np.float64)
    found = calibration(asked)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0)[np.diff(asked) > 1e-6].all()
    assert np.abs(sigmoid(in_onnx(calibration, asked).astype(np.float64)) - sigmoid(found)).max() < 1e-6
    OnnxFile(graph_of(calibration))  # what a server accepts


def test_the_lines_go_on_outside_of_what_was_seen():
    found = Isotonic(at=[-1.0, 0.0, 2.0], value=[-2.0, 0.0, 1.0])
    np.testing.assert_allclose(found(np.array([-3.0, -0.5, 1.0, 5.0])), [-4.0, -1.0, 0.5, 4.0])


def test_the_identity_is_a_beta():
    logits = np.linspace(-20, 20, 50)
    np.testing.assert_allclose(Beta(1.0, 1.0, 0.0)(logits), logits)


def test_none_is_no_calibration():
    assert calibrate("none", np.zeros(3), np.array([0, 1, 0], np.int8)) is None


def test_the_operators_are_those_of_the_plain_ones():
    for method in METHODS:
        graph = onnx.load_from_string(graph_of(calibrate(method, *told(6))))
        onnx.checker.check_model(graph)
