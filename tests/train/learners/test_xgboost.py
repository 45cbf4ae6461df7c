"""The export against XGBoost itself, and the rows that put every split to the test."""

import time

import numpy as np
import onnx
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import CertificateRefused
from sentinel.model.certificate import LIMIT, certify
from sentinel.model.scorer import Scorer
from sentinel.train.learners.tree import Tree
from sentinel.train.learners.xgboost import FittedXGBoost, base_logit, trees_of

N_FEATURES = 6


def sample(seed, missing=0.2):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(1500, N_FEATURES)).astype(np.float32)
    rows[:, 1] = np.rint(rows[:, 1] * 3)  # ties
    rows[:, 2] = 1.0  # tells nothing
    rows[rng.random(rows.shape) < missing] = np.nan
    labels = np.nan_to_num(rows[:, 0]) + np.nan_to_num(rows[:, 1]) + rng.normal(size=len(rows)) > 2
    return rows, labels


def booster(seed, *, rounds=20, missing=0.2, **parameters):
    rows, labels = sample(seed, missing)
    given = {"objective": "binary:logistic", "nthread": 1, "max_depth": 5, "seed": seed} | parameters
    return xgboost.train(given, xgboost.DMatrix(rows, labels), rounds), rows


def certificate(model, rows):
    scorer = Scorer(FittedXGBoost(model).to_onnx(N_FEATURES))
    return certify(FittedXGBoost(model).predict, scorer, rows, FittedXGBoost(model).split_probes(rows))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"tree_method": "exact"},
        {"tree_method": "hist", "max_bin": 4},
        {"max_depth": 1},
        {"max_depth": 9, "rounds": 60, "eta": 0.05},
        {"missing": 0.0},
        {"missing": 0.9},
        *({"base_score": share} for share in (1e-9, 1e-5, 0.001, 0.5, 0.999, 0.99999, 1 - 1e-7)),
        {"num_parallel_tree": 3, "subsample": 0.5, "rounds": 5},
        {"rounds": 1, "gamma": 1e9},  # a tree of one leaf
    ],
)
def test_export_and_original_agree_on_every_row_and_every_edge(parameters):
    model, rows = booster(3, **parameters)
    found = certificate(model, rows)
    assert found.largest <= 2e-7 < LIMIT
    assert found.test_rows == len(rows)
    assert found.splits == sum(len(tree.splits()) for tree in trees_of(model))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    depth=st.integers(1, 8),
    method=st.sampled_from(["exact", "hist"]),
    missing=st.floats(0, 0.95),
    base_score=st.floats(1e-6, 1 - 1e-6),
)
def test_any_booster_is_exported_as_it_is(seed, depth, method, missing, base_score):
    model, rows = booster(seed, rounds=8, missing=missing, max_depth=depth, tree_method=method, base_score=base_score)
    assert certificate(model, rows).largest <= 2e-7


def logits(model, rows):
    graph = onnx.load_from_string(FittedXGBoost(model).to_onnx(N_FEATURES))
    del graph.graph.node[1:]
    graph.graph.node[0].output[0] = "fraud_probability"
    return Scorer(graph.SerializeToString()).score(rows)


@pytest.mark.parametrize("base_score", [None, 1e-9, 0.001, 0.3, 0.9999, 0.99999])
def test_the_sums_are_those_of_xgboost_bit_for_bit(base_score):
    model, rows = booster(9, rounds=150, **({"base_score": base_score} if base_score else {}))
    native = model.inplace_predict(rows, predict_type="margin", missing=np.nan)
    assert logits(model, rows).tobytes() == native.tobytes()


@pytest.mark.parametrize("base_score", [1e-6, 1e-5])
def test_small_scores_keep_their_digits(base_score):
    model, rows = booster(9, base_score=base_score, eta=0.01)
    native, served = FittedXGBoost(model).predict(rows), Scorer(FittedXGBoost(model).to_onnx(N_FEATURES)).score(rows)
    assert native.max() < 0.01
    assert (np.abs(served - native) / native).max() < 1e-6


def leaf_of(tree, row):
    """Walk down by hand; the nodes passed and the leaf."""
    node, passed = 0, []
    while tree.left[node] != -1:
        passed.append(node)
        value = row[tree.feature[node]]
        left = tree.missing_left[node] if np.isnan(value) else value < tree.value[node]
        node = tree.left[node] if left else tree.right[node]
    return passed, node


@pytest.mark.parametrize("seed", range(4))
def test_the_probes_reach_their_split_and_both_its_sides(seed):
    model, rows = booster(seed, rounds=8, tree_method="exact" if seed % 2 else "hist")
    for tree, probes in zip(trees_of(model), FittedXGBoost(model).split_probes(rows), strict=True):
        reached, sides, leaves = set(), {}, set()
        for probe in probes:
            passed, leaf = leaf_of(tree, probe)
            leaves.add(leaf)
            for node, after in zip(passed, [*passed[1:], leaf], strict=True):
                reached.add(node)
                sides.setdefault(node, set()).add(after)
        assert reached == set(tree.splits().tolist())
        assert all(len(found) == 2 for found in sides.values())
        assert leaves == set(np.flatnonzero(tree.left == -1).tolist())


def test_the_four_probes_of_a_split_stand_on_its_edges():
    model, rows = booster(2, rounds=5, missing=0.0)
    for tree, probes in zip(trees_of(model), FittedXGBoost(model).split_probes(rows), strict=True):
        for four in probes.reshape(-1, 4, N_FEATURES):
            assert any(stands_on(tree, node, four) for node in leaf_of(tree, four[0])[0])


def stands_on(tree: Tree, node, four):
    feature, threshold = tree.feature[node], tree.value[node]
    at, below, above, missing = four[:, feature]
    others = np.delete(four, feature, axis=1)
    return (
        at == threshold
        and below == np.nextafter(threshold, np.float32(-np.inf))
        and above == np.nextafter(threshold, np.float32(np.inf))
        and np.isnan(missing)
        and np.array_equal(others[0:1].repeat(4, axis=0), others, equal_nan=True)
    )


def test_probes_start_from_the_most_doubtful_row():
    model, rows = booster(2, rounds=5)
    doubtful = rows[np.abs(FittedXGBoost(model).predict(rows) - 0.5).argmin()]
    for of_all, of_one in zip(
        FittedXGBoost(model).split_probes(rows), FittedXGBoost(model).split_probes(doubtful), strict=True
    ):
        assert np.array_equal(of_all, of_one, equal_nan=True)


def test_probes_of_a_large_model_take_seconds_at_most():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6000, 20)).astype(np.float32)
    parameters = {"objective": "binary:logistic", "nthread": 1, "max_depth": 6, "min_child_weight": 0}
    model = xgboost.train(parameters, xgboost.DMatrix(rows, rng.random(6000) < 0.5), 300)
    begun = time.process_time()
    splits = sum(len(probes) // 4 for probes in FittedXGBoost(model).split_probes(rows))
    assert splits > 10_000
    assert time.process_time() - begun < 5


def test_a_walk_by_hand_gives_the_scores():
    model, rows = booster(5)
    base, trees = base_logit(model), trees_of(model)
    sums = []
    for row in rows[:200]:
        total = np.float32(base)
        for tree in trees:
            total = np.float32(total + tree.value[leaf_of(tree, row)[1]])
        sums.append(float(total))
    by_hand = 1 / (1 + np.exp(-np.array(sums)))
    assert np.abs(by_hand - Scorer(FittedXGBoost(model).to_onnx(N_FEATURES)).score(rows[:200])).max() < 2e-7


def test_export_is_the_same_every_time():
    model, _ = booster(1)
    again = xgboost.Booster(model_file=model.save_raw("ubj"))
    assert (
        FittedXGBoost(model).to_onnx(N_FEATURES)
        == FittedXGBoost(model).to_onnx(N_FEATURES)
        == FittedXGBoost(again).to_onnx(N_FEATURES)
    )


def test_a_model_that_stopped_early_is_exported_as_cut():
    rows, labels = sample(4)
    rng = np.random.default_rng(4)
    validation = xgboost.DMatrix(rows[:500], labels[:500] ^ (rng.random(500) < 0.1))
    model = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1, "max_depth": 7},
        xgboost.DMatrix(rows[500:], labels[500:]),
        60,
        evals=[(validation, "validation")],
        early_stopping_rounds=5,
        verbose_eval=False,
    )
    cut = model[: model.best_iteration + 1]
    assert 1 < len(trees_of(cut)) == model.best_iteration + 1 < len(trees_of(model))
    assert certificate(cut, rows).largest <= 2e-7
    with pytest.raises(CertificateRefused):
        certify(
            FittedXGBoost(cut).predict,
            Scorer(FittedXGBoost(model).to_onnx(N_FEATURES)),
            rows,
            FittedXGBoost(cut).split_probes(rows),
        )


def test_another_kind_of_model_is_refused():
    model, _ = booster(1, objective="reg:squarederror")
    with pytest.raises(CertificateRefused, match="binary:logistic"):
        FittedXGBoost(model).to_onnx(N_FEATURES)


def test_several_labels_are_refused():
    rows, labels = sample(1)
    model = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(rows, np.c_[labels, ~labels]), 2
    )
    with pytest.raises(CertificateRefused, match="one label"):
        FittedXGBoost(model).to_onnx(N_FEATURES)


def test_splits_by_category_are_refused():
    rows, labels = sample(1, missing=0.0)
    rows[:, 1] = np.abs(rows[:, 1])
    kinds = ["q", "c", "q", "q", "q", "q"]
    data = xgboost.DMatrix(rows, labels, feature_types=kinds, enable_categorical=True)
    model = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 3)
    with pytest.raises(CertificateRefused, match="category"):
        FittedXGBoost(model).to_onnx(N_FEATURES)


@pytest.mark.parametrize("n_features", [N_FEATURES - 1, N_FEATURES + 1])
def test_another_number_of_features_is_refused(n_features):
    model, _ = booster(1, rounds=1)
    with pytest.raises(CertificateRefused, match="trained on 6 features"):
        FittedXGBoost(model).to_onnx(n_features)
