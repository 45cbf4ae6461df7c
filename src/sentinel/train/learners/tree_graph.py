"""Trees as an ONNX graph.

The graph is written by hand rather than by a converter of each library. Those give a second output nobody reads, and
add numbers in another order than the library does. Here what a sum starts from is a tree of one leaf in first place.
XGBoost adds float32 numbers, and so does its graph, in the same order; the other libraries add float64 numbers, and
their graphs read the row as float64 first, which makes ONNX Runtime add in float64 as well.

The logistic function is spelled out, 1 / (1 + exp(-logit)). ONNX Runtime's Sigmoid is good to 1e-7 of one, which is
nothing for a score of 0.5 and much for one of 0.0001: small scores lose digits, change places and end at 0. Its
TreeEnsembleRegressor takes a post_transform of LOGISTIC and ignores it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from sentinel.train.learners.tree import LEAF, Tree

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8


class Ensemble(NamedTuple):
    """Trees in the order in which they are summed, and what their sum is: log-odds of fraud, or its probability.

    `sums` is the type in which the library adds them.
    """

    trees: Sequence[Tree]
    is_log_odds: bool = True
    sums: type[np.floating[Any]] = np.float64

    def to_onnx(self, n_features: int) -> bytes:
        """As `Fitted.to_onnx`."""
        is_double = self.sums is np.float64
        tail = logistic("sum", "fraud_probability") if self.is_log_odds else _within("sum", "fraud_probability")
        nodes = [self._node("wide" if is_double else "features", "sum"), *tail]
        if is_double:
            nodes.insert(0, helper.make_node("Cast", ["features"], ["wide"], to=TensorProto.DOUBLE))
        return model_of(nodes, n_features, {"zero": np.float32(0), "one": np.float32(1)})

    def _node(self, takes: str, gives: str) -> onnx.NodeProto:
        nodes: dict[str, list[Any]] = {name: [] for name in _NODE_FIELDS}
        leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
        for number, tree in enumerate(self.trees):
            _add_tree(nodes, leaves, number, tree)
        return helper.make_node(
            "TreeEnsembleRegressor",
            [takes],
            [gives],
            domain="ai.onnx.ml",
            n_targets=1,
            **{f"nodes_{name}": values for name, values in nodes.items()},
            **{f"target_{name}": values for name, values in leaves.items()},
        )


def model_of(nodes: Sequence[onnx.NodeProto], n_features: int, constants: dict[str, Any]) -> bytes:
    """The bytes of a model of these nodes, from `features` to `fraud_probability`; of the constants those it reads."""
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "sentinel",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, n_features])],
        [helper.make_tensor_value_info("fraud_probability", TensorProto.FLOAT, [None, 1])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in read],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="sentinel")
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def logistic(logit: str, probability: str) -> list[onnx.NodeProto]:
    """The nodes from log-odds to a probability; they read the constant `one`."""
    return [
        helper.make_node("Neg", [logit], ["against"]),
        helper.make_node("Exp", ["against"], ["odds_against"]),
        helper.make_node("Add", ["odds_against", "one"], ["odds_of_all"]),
        helper.make_node("Div", ["one", "odds_of_all"], [probability]),
    ]


def _within(total: str, probability: str) -> list[onnx.NodeProto]:
    """A sum of shares is a probability, but for its last bits."""
    return [helper.make_node("Clip", [total, "zero", "one"], [probability])]


_NODE_FIELDS = (
    "treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true",
    "hitrates",
)  # fmt: skip


def _add_tree(nodes: dict[str, list[Any]], leaves: dict[str, list[Any]], number: int, tree: Tree) -> None:
    n = len(tree.left)
    is_leaf = tree.left == LEAF
    nodes["treeids"] += [number] * n
    nodes["nodeids"] += range(n)
    nodes["featureids"] += np.where(is_leaf, 0, tree.feature).tolist()
    nodes["values"] += np.where(is_leaf, 0, tree.value).tolist()
    nodes["modes"] += ["LEAF" if leaf else "BRANCH_LT" for leaf in is_leaf]
    nodes["truenodeids"] += np.where(is_leaf, 0, tree.left).tolist()
    nodes["falsenodeids"] += np.where(is_leaf, 0, tree.right).tolist()
    nodes["hitrates"] += tree.cover.astype(float).tolist()
    nodes["missing_value_tracks_true"] += (tree.missing_left & ~is_leaf).astype(int).tolist()
    ends = np.flatnonzero(is_leaf)
    leaves["treeids"] += [number] * len(ends)
    leaves["nodeids"] += ends.tolist()
    leaves["ids"] += [0] * len(ends)
    leaves["weights"] += tree.value[ends].tolist()
