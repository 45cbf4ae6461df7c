"""The export against XGBoost itself, and the certificate against sabotage."""

import numpy as np
import onnx
import pytest
import xgboost

from sentinel.errors import BundleProblem, CertificateRefused
from sentinel.model.certificate import LIMIT, certify
from sentinel.model.scorer import CHUNK, Scorer
from sentinel.train.export import split_probes, to_onnx, trees_of
from sentinel.train.fit import predict

N_FEATURES = 6


def booster(seed, *, rounds=20, missing=0.2, **parameters):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(1500, N_FEATURES)).astype(np.float32)
    rows[:, 1] = np.rint(rows[:, 1] * 3)  # ties
    rows[:, 2] = 1.0  # tells nothing
    rows[rng.random(rows.shape) < missing] = np.nan
    labels = np.nan_to_num(rows[:, 0]) + np.nan_to_num(rows[:, 1]) + rng.normal(size=len(rows)) > 2
    given = {"objective": "binary:logistic", "nthread": 1, "max_depth": 5, "seed": seed} | parameters
    return xgboost.train(given, xgboost.DMatrix(rows, labels), rounds), rows


def certificate(model, rows, exported=None):
    scorer = Scorer(exported or to_onnx(model, N_FEATURES))
    return certify(lambda given: predict(model, given), scorer, rows, split_probes(model, rows[0]))


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
        {"base_score": 0.001},
        {"base_score": 0.999},
        {"num_parallel_tree": 3, "subsample": 0.5, "rounds": 5},
        {"rounds": 1, "gamma": 1e9},  # a tree of one leaf
    ],
)
def test_export_and_original_agree_on_every_row_and_every_edge(parameters):
    model, rows = booster(3, **parameters)
    found = certificate(model, rows)
    assert found.largest <= 5e-7 < LIMIT
    assert found.test_rows == len(rows)
    assert found.splits == sum(len(tree.splits()) for tree in trees_of(model)[1])


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
    for tree, probes in zip(trees_of(model)[1], split_probes(model, rows[0]), strict=True):
        reached, sides = set(), {}
        for probe in probes:
            passed, leaf = leaf_of(tree, probe)
            for node, after in zip(passed, [*passed[1:], leaf], strict=True):
                reached.add(node)
                sides.setdefault(node, set()).add(after)
        assert reached == set(tree.splits().tolist())
        assert all(len(found) == 2 for found in sides.values())


def test_a_walk_by_hand_gives_the_scores():
    model, rows = booster(5)
    base, trees = trees_of(model)
    logits = []
    for row in rows[:200]:
        total = np.float32(base)
        for tree in trees:
            total = np.float32(total + tree.value[leaf_of(tree, row)[1]])
        logits.append(float(total))
    by_hand = 1 / (1 + np.exp(-np.array(logits)))
    assert np.abs(by_hand - Scorer(to_onnx(model, N_FEATURES)).score(rows[:200])).max() < 3e-7


def sabotaged(model, change):
    graph = onnx.load_from_string(to_onnx(model, N_FEATURES))
    attributes = {attribute.name: attribute for attribute in graph.graph.node[0].attribute}
    change(attributes)
    return graph.SerializeToString()


def first_split(attributes):
    return list(attributes["nodes_modes"].strings).index(b"BRANCH_LT")


def nudge(attributes):
    at = first_split(attributes)
    values = attributes["nodes_values"].floats
    values[at] = float(np.nextafter(np.float32(values[at]), np.float32(np.inf)))


def include_the_threshold(attributes):
    at = first_split(attributes)
    attributes["nodes_modes"].strings[at] = b"BRANCH_LEQ"
    for i, mode in enumerate(attributes["nodes_modes"].strings):
        if mode == b"BRANCH_LT":
            attributes["nodes_modes"].strings[i] = b"BRANCH_LEQ"


def turn_missing(attributes):
    at = first_split(attributes)
    tracks = attributes["nodes_missing_value_tracks_true"].ints
    tracks[at] = 1 - tracks[at]


def change_a_leaf(attributes):
    attributes["target_weights"].floats[-1] += 0.001


@pytest.mark.parametrize("change", [nudge, include_the_threshold, turn_missing, change_a_leaf])
def test_the_smallest_sabotage_is_found(change):
    model, rows = booster(7, missing=0.0)
    few = rows[:1]  # the edges must find it, not the rows
    with pytest.raises(CertificateRefused, match="not the trained one"):
        certificate(model, few, sabotaged(model, change))


def test_export_is_the_same_every_time():
    model, _ = booster(1)
    assert to_onnx(model, N_FEATURES) == to_onnx(model, N_FEATURES)


def test_a_score_does_not_depend_on_its_neighbours():
    model, rows = booster(2, rounds=100)
    scorer = Scorer(to_onnx(model, N_FEATURES))
    whole = scorer.score(rows)
    for size in (1, 2, 3, 31, CHUNK, CHUNK + 1, 64, 200, 1000):
        parts = np.concatenate([scorer.score(rows[i : i + size]) for i in range(0, len(rows), size)])
        assert (parts.view(np.int32) == whole.view(np.int32)).all(), size


def test_early_stopping_is_exported_as_cut():
    model, rows = booster(4, rounds=30)
    cut = model[:7]
    assert len(trees_of(cut)[1]) == 7
    assert certificate(cut, rows).largest <= 5e-7


def test_another_kind_of_model_is_refused():
    model, _ = booster(1, objective="reg:squarederror")
    with pytest.raises(CertificateRefused, match="binary:logistic"):
        to_onnx(model, N_FEATURES)


def test_rows_of_another_width_and_broken_models_say_so():
    model, rows = booster(1)
    with pytest.raises(BundleProblem, match="6 features"):
        Scorer(to_onnx(model, N_FEATURES)).score(rows[:, :3])
    with pytest.raises(BundleProblem, match="no ONNX model"):
        Scorer(b"nothing")
