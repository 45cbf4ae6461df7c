"""The certificate against sabotage: no change of the exported trees is too small."""

import msgspec
import numpy as np
import onnx
import pytest
import xgboost

from sentinel.errors import CertificateRefused
from sentinel.model.certificate import EDGES, LIMIT, Certificate, certify
from sentinel.model.scorer import Scorer
from sentinel.train.learners.xgboost import FittedXGBoost

N_FEATURES = 6


class Answers:
    """Stands for a scorer: answers each row by a function of it."""

    def __init__(self, answer):
        self.answer = answer

    def score(self, rows):
        return np.array([self.answer(row) for row in rows], np.float32)


def half(rows):
    return np.full(len(rows), 0.5, np.float32)


def zeros(n):
    return np.zeros((n, 1), np.float32)


def test_a_certificate_tells_what_was_compared_and_the_largest_difference_of_each_kind():
    test_rows = np.array([[1], [2]], np.float32)
    probes = [np.array([[3], [4], [5], [6]], np.float32), np.array([[3], [3], [3], [7]], np.float32)]
    off = {1: 0, 2: 3e-7, 3: 1e-7, 4: -5e-7, 5: 0, 6: 2e-7, 7: -6e-7}
    found = certify(half, Answers(lambda row: 0.5 + off[int(row[0])]), test_rows, iter(probes))
    assert (found.limit, found.test_rows, found.splits) == (LIMIT, 2, 2)
    assert found.largest_on_test_rows == pytest.approx(3e-7, abs=6e-8)
    assert found.largest_on_thresholds == pytest.approx(5e-7, abs=6e-8)
    assert found.largest_on_missing == found.largest == pytest.approx(6e-7, abs=6e-8)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Certificate) == found


@pytest.mark.parametrize("wrong", [0.5 + 2e-6, 0.5 - 2e-6, np.nan, np.inf])
def test_a_wrong_test_row_is_named_with_both_answers(wrong):
    rows = np.array([[0], [0], [1], [1]], np.float32)
    with pytest.raises(CertificateRefused, match=rf"test row 2 it says {wrong:.6g}.*trained one 0\.5; 2 of 4 rows"):
        certify(half, Answers(lambda row: wrong if row[0] else 0.5), rows, [])


@pytest.mark.parametrize("edge", range(4))
def test_a_wrong_probe_is_named_by_its_split_and_edge(edge):
    second = zeros(8)
    second[4 + edge] = 1
    with pytest.raises(CertificateRefused, match=f"on split 2 at {EDGES[edge]} it"):
        certify(half, Answers(lambda row: 0.6 if row[0] else 0.5), zeros(3), [zeros(4), second])


@pytest.mark.parametrize("both", [np.nan, 1.5, -0.25])
def test_what_is_no_probability_is_refused_even_where_both_agree(both):
    with pytest.raises(CertificateRefused, match="test row 0"):
        certify(lambda rows: np.full(len(rows), both, np.float32), Answers(lambda _: both), zeros(1), [])


def test_a_trained_model_that_answers_nan_is_refused():
    with pytest.raises(CertificateRefused, match="the trained one nan"):
        certify(lambda rows: np.full(len(rows), np.nan, np.float32), Answers(lambda _: 0.5), zeros(1), [])


def trained(fraud, missing):
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(20_000, N_FEATURES)).astype(np.float32)
    worth = rows[:, :4].sum(axis=1) + rng.normal(size=len(rows))
    rows[rng.random(rows.shape) < missing] = np.nan
    labels = worth > np.quantile(worth, 1 - fraud)
    parameters = {"objective": "binary:logistic", "nthread": 1, "max_depth": 4, "eta": 0.1}
    return xgboost.train(parameters, xgboost.DMatrix(rows, labels), 25), rows


@pytest.fixture(scope="module", params=[(0.3, 0.0), (0.3, 0.2), (0.002, 0.1)], ids=["full", "gaps", "rare"])
def model(request):
    """A booster, its rows, its probes and its graph; with missing values or none, with much fraud or little."""
    booster, rows = trained(*request.param)
    return booster, rows, list(FittedXGBoost(booster).split_probes(rows)), FittedXGBoost(booster).to_onnx(N_FEATURES)


class Graph:
    """An exported model whose trees can be tampered with."""

    def __init__(self, exported):
        self._model = onnx.load_from_string(exported)
        attributes = {attribute.name: attribute for attribute in self._model.graph.node[0].attribute}
        self.modes = attributes["nodes_modes"].strings
        self.thresholds = attributes["nodes_values"].floats
        self.missing_left = attributes["nodes_missing_value_tracks_true"].ints
        self.leaves = attributes["target_weights"].floats
        self.trees = np.array(attributes["target_treeids"].ints)
        self.splits = [i for i, mode in enumerate(self.modes) if mode == b"BRANCH_LT"]

    def scorer(self):
        return Scorer(self._model.SerializeToString())


def refused(model, graph):
    """Whether the edges alone, with a single row beside them, give the change away."""
    booster, rows, probes, _ = model
    try:
        certify(FittedXGBoost(booster).predict, graph.scorer(), rows[:1], probes)
    except CertificateRefused:
        return True
    return False


def some(items, n=60):
    return np.random.default_rng(0).choice(items, min(n, len(items)), replace=False).tolist()


def test_an_honest_export_is_certified(model):
    booster, rows, probes, exported = model
    graph = Graph(exported)
    found = certify(FittedXGBoost(booster).predict, graph.scorer(), rows, probes)
    assert found.largest <= 2e-7
    assert found.splits == len(graph.splits)
    assert found.test_rows == len(rows)


@pytest.mark.parametrize("towards", [-np.inf, np.inf])
def test_a_threshold_one_float_off_is_refused(model, towards):
    for split in some(Graph(model[3]).splits):
        graph = Graph(model[3])
        graph.thresholds[split] = float(np.nextafter(np.float32(graph.thresholds[split]), np.float32(towards)))
        assert refused(model, graph), split


def test_a_split_that_takes_its_threshold_to_the_left_is_refused(model):
    for split in some(Graph(model[3]).splits):
        graph = Graph(model[3])
        graph.modes[split] = b"BRANCH_LEQ"
        assert refused(model, graph), split


def test_missing_values_turned_to_the_other_side_are_refused_wherever_one_can_arrive(model):
    rng = np.random.default_rng(1)
    rows = model[1].copy()
    rows[rng.random(rows.shape) < 0.3] = np.nan
    honest = Graph(model[3]).scorer().score(rows)
    found = 0
    for split in some(Graph(model[3]).splits):
        graph = Graph(model[3])
        graph.missing_left[split] = 1 - graph.missing_left[split]
        told = refused(model, graph)
        assert told or (graph.scorer().score(rows) == honest).all(), split
        found += told
    assert found > 50


def test_a_leaf_a_little_off_is_refused(model):
    for leaf in some(range(Graph(model[3]).trees.size)):
        graph = Graph(model[3])
        graph.leaves[leaf] += 0.001
        assert refused(model, graph), leaf


def test_a_tree_that_is_gone_is_refused(model):
    for tree in range(Graph(model[3]).trees.max() + 1):  # the first is the base score
        graph = Graph(model[3])
        for leaf in np.flatnonzero(graph.trees == tree):
            graph.leaves[int(leaf)] = 0.0
        assert refused(model, graph), tree
