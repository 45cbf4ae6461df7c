"""The scorer: which models it takes, and that a row's score is its own."""

import numpy as np
import onnx
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sentinel.errors import BundleProblem
from sentinel.model.onnx_file import OnnxFile
from sentinel.model.scorer import Scorer
from sentinel.model.trees import take_out_trees
from sentinel.train.learners.xgboost import FittedXGBoost

N_FEATURES = 8


def trained(trees):
    """A model of so many trees, and 1,000 rows."""
    rng = np.random.default_rng(trees)
    rows = rng.normal(size=(1000, N_FEATURES)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    labels = np.nan_to_num(rows).sum(axis=1) + rng.normal(size=len(rows)) > 2
    parameters = {"objective": "binary:logistic", "nthread": 1, "eta": 0.1}
    return FittedXGBoost(xgboost.train(parameters, xgboost.DMatrix(rows, labels), trees)).to_onnx(N_FEATURES), rows


@pytest.fixture(scope="module")
def model():
    return trained(30)


# ONNX Runtime has its own ways for one row, for 50 rows, for 80 and for 128 trees, and for blocks of 128 rows
@pytest.mark.parametrize("trees", [1, 78, 79, 80, 127, 128, 300])
def test_a_score_does_not_depend_on_its_neighbours(trees):
    graph, rows = trained(trees)
    scorer = Scorer(graph)
    whole = scorer.score(rows)
    for size in (1, 2, 3, 7, 16, 31, 49, 50, 51, 64, 127, 128, 129, 500, 999):
        parts = np.concatenate([scorer.score(rows[i : i + size]) for i in range(0, len(rows), size)])
        assert parts.tobytes() == whole.tobytes(), size


def test_a_score_does_not_depend_on_its_place(model):
    graph, rows = model
    scorer = Scorer(graph)
    order = np.random.default_rng(0).permutation(len(rows))
    assert scorer.score(rows[order]).tobytes() == scorer.score(rows)[order].tobytes()


def test_scores_are_one_probability_a_row(model):
    graph, rows = model
    scores = Scorer(graph).score(rows)
    assert scores.shape == (1000,)
    assert scores.dtype == np.float32
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert Scorer(graph).score(rows[:0]).shape == (0,)


def test_wider_numbers_and_other_layouts_give_the_same(model):
    graph, rows = model
    scorer = Scorer(graph)
    expected = scorer.score(rows).tobytes()
    assert scorer.score(rows.astype(np.float64)).tobytes() == expected
    assert scorer.score(np.asfortranarray(rows)).tobytes() == expected


def test_rows_are_left_as_they_were(model):
    graph, rows = model
    before = rows.tobytes()
    Scorer(graph).score(rows)
    assert rows.tobytes() == before


@pytest.mark.parametrize("shape", [(3, N_FEATURES - 1), (3, N_FEATURES + 1), (N_FEATURES,), (1, 1, N_FEATURES)])
def test_rows_of_another_width_say_so(model, shape):
    with pytest.raises(BundleProblem, match="rows of 8 features"):
        Scorer(model[0]).score(np.zeros(shape, np.float32))


def test_what_is_no_model_says_so():
    with pytest.raises(BundleProblem, match="no ONNX model"):
        Scorer(b"nothing")


FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def graph_of(nodes, inputs, outputs):
    def info(tensors):
        return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in tensors]

    graph = helper.make_graph(nodes, "made by hand", info(inputs), info(outputs))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def sigmoid(kind, shape):
    return graph_of([helper.make_node("Sigmoid", ["x"], ["y"])], [("x", kind, shape)], [("y", kind, shape)])


OTHERS = {
    "no fixed width": sigmoid(FLOAT, [None, None]),
    "a named width": sigmoid(FLOAT, [None, "width"]),
    "a fixed number of rows": sigmoid(FLOAT, [1, 1]),
    "one number a row in": sigmoid(FLOAT, [None]),
    "several numbers a row out": sigmoid(FLOAT, [None, 4]),
    "float64": sigmoid(DOUBLE, [None, 1]),
    "no input": graph_of([helper.make_node("Constant", [], ["y"], value_float=1.0)], [], [("y", FLOAT, [])]),
    "two inputs": graph_of(
        [helper.make_node("Add", ["x", "z"], ["y"])],
        [("x", FLOAT, [None, 1]), ("z", FLOAT, [None, 1])],
        [("y", FLOAT, [None, 1])],
    ),
    "two outputs": graph_of(
        [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])],
        [("x", FLOAT, [None, 1])],
        [("y", FLOAT, [None, 1]), ("z", FLOAT, [None, 1])],
    ),
}


@pytest.mark.parametrize("graph", OTHERS.values(), ids=OTHERS.keys())
def test_a_model_of_another_form_says_so(graph):
    with pytest.raises(BundleProblem, match="one float32 tensor"):
        Scorer(graph)


def test_a_column_or_a_plain_row_of_scores_will_do():
    rows = np.zeros((3, 1), np.float32)
    plain = graph_of(
        [helper.make_node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=0)],
        [("x", FLOAT, [None, 1])],
        [("y", FLOAT, [None])],
    )
    assert Scorer(plain).score(rows).tolist() == [0, 0, 0]
    assert Scorer(sigmoid(FLOAT, [None, 1])).score(rows).tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("trees", [1, 30, 300])
def test_trees_give_the_bits_of_onnx_runtime(trees):
    graph, rows = trained(trees)
    own, whole = Scorer(graph), Scorer(graph, own_trees=False)
    for value in (np.inf, -np.inf, np.float32(3e38), np.float32(1e-45), -0.0, np.nan):
        rows[::7, int(abs(hash(str(value)))) % N_FEATURES] = value
        assert own.score(rows).tobytes() == whole.score(rows).tobytes()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.floats(0, 0.9), st.sampled_from(["depthwise", "lossguide"]))
def test_any_trees_give_the_bits_of_onnx_runtime(seed, depth, missing, policy):
    rng = np.random.default_rng(seed)
    rows = rng.choice(rng.normal(size=40).astype(np.float32), (300, 4))
    rows[rng.random(rows.shape) < missing] = np.nan
    labels = rng.random(300) < 0.3
    parameters = {"objective": "binary:logistic", "nthread": 1, "max_depth": depth, "grow_policy": policy,
                  "tree_method": "hist", "min_child_weight": 0, "seed": seed}  # fmt: skip
    graph = FittedXGBoost(xgboost.train(parameters, xgboost.DMatrix(rows, labels), 12)).to_onnx(4)
    assert take_out_trees(OnnxFile(graph), 4) is not None
    assert Scorer(graph).score(rows).tobytes() == Scorer(graph, own_trees=False).score(rows).tobytes()


def test_a_threshold_above_all_sends_every_number_to_the_left(model):
    """Infinity itself is on the right, and what is missing goes as the node says."""
    graph = onnx.load_from_string(model[0])
    fields = {one.name: one for one in graph.graph.node[0].attribute}
    fields["nodes_values"].floats[1] = np.inf
    changed = graph.SerializeToString()
    assert take_out_trees(OnnxFile(changed), N_FEATURES) is not None
    rows = model[1].copy()
    for n, value in enumerate((np.inf, -np.inf, np.finfo(np.float32).max, np.nan)):
        rows[n::9] = value
    assert Scorer(changed).score(rows).tobytes() == Scorer(changed, own_trees=False).score(rows).tobytes()


def test_trees_that_are_too_large_are_left_to_onnx_runtime():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(3000, 2)).astype(np.float32)
    parameters = {"objective": "binary:logistic", "nthread": 1, "max_depth": 0, "max_leaves": 400, "grow_policy": "lossguide",
                  "tree_method": "hist", "min_child_weight": 0, "eta": 1.0}  # fmt: skip
    graph = FittedXGBoost(xgboost.train(parameters, xgboost.DMatrix(rows, rng.random(3000) < 0.5), 3)).to_onnx(2)
    assert take_out_trees(OnnxFile(graph), 2) is None
    assert Scorer(graph).score(rows).shape == (3000,)


@pytest.mark.parametrize("change", ["mode", "threshold below all", "order of nodes", "maximum"])
def test_other_trees_are_left_to_onnx_runtime(model, change):
    graph = onnx.load_from_string(model[0])
    fields = {one.name: one for one in graph.graph.node[0].attribute}
    if change == "mode":
        fields["nodes_modes"].strings[0 if fields["nodes_modes"].strings[0] != b"LEAF" else 1] = b"BRANCH_LEQ"
    elif change == "threshold below all":
        fields["nodes_values"].floats[1] = -np.inf
    elif change == "order of nodes":
        for name in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids", "missing_value_tracks_true"):
            numbers = fields[f"nodes_{name}"].ints
            numbers[:] = numbers[2:] + numbers[:2]
        for numbers in (fields["nodes_values"].floats, fields["nodes_modes"].strings):
            numbers[:] = numbers[2:] + numbers[:2]
    else:
        graph.graph.node[0].attribute.append(helper.make_attribute("aggregate_function", "MAX"))
    assert take_out_trees(OnnxFile(graph.SerializeToString()), N_FEATURES) is None


def chain(splits):
    """One tree whose every split has a leaf on its left and the rest of the tree on its right."""
    last = 2 * splits
    numbers = range(last + 1)
    is_leaf = [n % 2 == 1 or n == last for n in numbers]
    leaves = [n for n in numbers if is_leaf[n]]
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, aggregate_function="SUM",
        post_transform="NONE", nodes_treeids=[0] * len(numbers), nodes_nodeids=list(numbers),
        nodes_featureids=[0] * len(numbers), nodes_values=[0.0 if is_leaf[n] else n / 2 for n in numbers],
        nodes_modes=["LEAF" if is_leaf[n] else "BRANCH_LT" for n in numbers],
        nodes_truenodeids=[0 if is_leaf[n] else n + 1 for n in numbers],
        nodes_falsenodeids=[0 if is_leaf[n] else n + 2 for n in numbers],
        target_treeids=[0] * len(leaves), target_nodeids=leaves, target_ids=[0] * len(leaves),
        target_weights=[n / last for n in leaves],
    )  # fmt: skip
    graph = helper.make_graph(
        [node, helper.make_node("Sigmoid", ["y"], ["p"])], "chain",
        [helper.make_tensor_value_info("x", FLOAT, [None, 1])], [helper.make_tensor_value_info("p", FLOAT, [None, 1])],
    )  # fmt: skip
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8).SerializeToString()


@pytest.mark.parametrize(("splits", "is_own"), [(31, True), (32, True), (90, True), (200, False)])
def test_a_chain_of_splits_has_its_leaves_in_several_parts_and_must_not_cost_the_stack(splits, is_own):
    graph = chain(splits)
    rows = np.linspace(-2, splits + 2, 777, dtype=np.float32).reshape(-1, 1)
    assert (take_out_trees(OnnxFile(graph), 1) is not None) == is_own
    assert Scorer(graph).score(rows).tobytes() == Scorer(graph, own_trees=False).score(rows).tobytes()
