"""Contributions of features: XGBoost's own, the definition itself, and words for people."""

import itertools
import math

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import BundleProblem
from sentinel.model.bundle import read_explainer, read_manifest
from sentinel.model.contributions import Paths, paths_of
from sentinel.model.onnx_file import OnnxFile
from sentinel.model.reasons import Explainer
from sentinel.model.signing import make_key_pair, read_trusted_keys
from sentinel.model.trees import COVERS
from sentinel.train.learners.xgboost import FittedXGBoost, trees_of

N_FEATURES = 5
NAMES = [f"f{n}" for n in range(N_FEATURES)]


def booster(seed=1, *, rounds=15, n=800, **parameters):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    rows[:, 1] = np.rint(rows[:, 1] * 2)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    labels = np.nan_to_num(rows[:, 0]) * np.nan_to_num(rows[:, 1]) + rng.normal(size=n) > 0.7
    given = {"objective": "binary:logistic", "nthread": 1, "max_depth": 5, "seed": seed} | parameters
    return xgboost.train(given, xgboost.DMatrix(rows, labels), rounds), rows


def paths(model):
    return paths_of(OnnxFile(FittedXGBoost(model).to_onnx(N_FEATURES)))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"max_depth": 1},
        {"max_depth": 12, "min_child_weight": 0, "reg_lambda": 0.1},  # few features, again and again on one path
        {"tree_method": "hist", "max_bin": 4},
        {"scale_pos_weight": 30.0},
        {"base_score": 0.01},
        {"rounds": 1, "gamma": 1e9},  # a tree of one leaf
        {"subsample": 0.5, "rounds": 60},
    ],
)
def test_xgboost_says_the_same(parameters):
    model, rows = booster(**parameters)
    wanted = model.predict(xgboost.DMatrix(rows[:200]), pred_contribs=True)
    found = paths(model)
    assert np.abs(found.contributions(rows[:200]) - wanted[:, :-1]).max(initial=0.0) < 1e-5
    assert found.expected == pytest.approx(wanted[0, -1], abs=1e-5)


def by_definition(tree, row):
    """Shapley values of one tree, from the expectations over all subsets of features."""

    def expectation(known, node=0):
        if tree.left[node] == -1:
            return float(tree.value[node])
        left, right, feature = tree.left[node], tree.right[node], tree.feature[node]
        if feature in known:
            value = row[feature]
            goes_left = tree.missing_left[node] if np.isnan(value) else value < tree.value[node]
            return expectation(known, left if goes_left else right)
        share = float(tree.cover[left]) / float(tree.cover[node])
        return share * expectation(known, left) + (1 - share) * expectation(known, right)

    found = np.zeros(N_FEATURES)
    for feature in range(N_FEATURES):
        others = [n for n in range(N_FEATURES) if n != feature]
        for size in range(N_FEATURES):
            weight = math.factorial(size) * math.factorial(N_FEATURES - size - 1) / math.factorial(N_FEATURES)
            for known in itertools.combinations(others, size):
                found[feature] += weight * (expectation({*known, feature}) - expectation(set(known)))
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), depth=st.integers(1, 7), row=st.integers(0, 199))
def test_they_are_the_shapley_values_by_definition(seed, depth, row):
    model, rows = booster(seed, rounds=2, n=200, max_depth=depth, min_child_weight=0.5)
    wanted = sum(by_definition(tree, rows[row]) for tree in trees_of(model))
    assert paths(model).contributions(rows[[row]])[0] == pytest.approx(wanted, abs=1e-5)


def test_long_paths_are_exact_too():
    """A path of 24 features takes three blocks of points."""
    n = 24
    rng = np.random.default_rng(3)
    shares, inside = rng.uniform(0.05, 0.95, n), rng.random(n) < 0.5
    step = np.ones(n, np.float32)
    found = Paths(
        0.0, n, np.array([0, n]), np.array([3.0]), np.arange(n, dtype=np.int32), -step, step, ~step.astype(bool), shares
    ).contributions(np.where(inside, 0, 2).astype(np.float32)[None])[0]
    for feature in range(n):  # the polynomial's coefficients, by size of the subset that is known
        sizes = np.array([1.0])
        for other in (k for k in range(n) if k != feature):
            sizes = np.convolve(sizes, [shares[other], float(inside[other])])
        weights = [math.factorial(k) * math.factorial(n - 1 - k) / math.factorial(n) for k in range(n)]
        assert found[feature] == pytest.approx(
            3 * (inside[feature] - shares[feature]) * np.dot(weights, sizes), rel=1e-9
        )


def test_an_explanation_adds_up_and_has_the_detectors_words():
    model, rows = booster()
    explainer = Explainer(OnnxFile(FittedXGBoost(model).to_onnx(N_FEATURES)), NAMES, {"f0": "far from home"})
    margin = model.predict(xgboost.DMatrix(rows[:50]), output_margin=True)
    for row, wanted in zip(rows[:50].astype(np.float64), margin, strict=True):
        why = explainer.explain(row, most=2)
        assert why.expected + sum(one.contribution for one in why.reasons) + why.others == pytest.approx(
            wanted, abs=1e-5
        )
        sizes = [abs(one.contribution) for one in why.reasons]
        assert sizes == sorted(sizes, reverse=True)
        assert len(why.reasons) <= 2
        for one in why.reasons:
            assert one.words == ("far from home" if one.feature == "f0" else None)
            value = row[NAMES.index(one.feature)]
            assert one.value == (None if np.isnan(value) else value)


def test_a_model_without_covers_says_so():
    model, _ = booster()
    file = OnnxFile(FittedXGBoost(model).to_onnx(N_FEATURES))
    del file.nodes[0].attributes[COVERS]
    with pytest.raises(BundleProblem, match="cannot say why"):
        paths_of(file)


def test_other_names_than_the_models_are_refused():
    model, _ = booster()
    with pytest.raises(BundleProblem, match="takes 5 features, and 2 are named"):
        Explainer(OnnxFile(FittedXGBoost(model).to_onnx(N_FEATURES)), ["a", "b"], {})


def test_with_trusted_keys_a_model_without_a_signature_is_not_parsed(shop_home, tmp_path):
    trusted, _ = make_key_pair(tmp_path / "key")
    folder = shop_home / "models" / "v1"
    assert read_explainer(folder).explain(np.zeros(len(read_manifest(folder).plan.names))).reasons
    with pytest.raises(BundleProblem, match="sign"):
        read_explainer(folder, read_trusted_keys(trusted))
