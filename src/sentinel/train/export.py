"""Export: the trained trees as an ONNX graph, and rows that put every one of their splits to the test.

The graph is written by hand rather than by onnxmltools. That gives a second output nobody reads, and adds the
base score after the trees; XGBoost adds it before them. Here it is a tree of its own in first place, so both sum the
same float32 numbers in the same order and the scores are equal but for the last bits of the logistic function.

That function is spelled out, 1 / (1 + exp(-logit)). ONNX Runtime's Sigmoid is good to 1e-7 of one, which is nothing
for a score of 0.5 and much for one of 0.0001: small scores lose digits, change places and end at 0. Its
TreeEnsembleRegressor takes a post_transform of LOGISTIC and ignores it.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
import xgboost
from numpy.typing import NDArray
from onnx import TensorProto, helper

from sentinel.errors import CertificateRefused

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8
_LEAF = -1


class Tree(NamedTuple):
    """One tree of a booster; arrays with an entry per node, the root first.

    `left` and `right` are -1 at a leaf, where `value` is what it adds; elsewhere rows with `feature` below `value`
    go left, rows without it go where `missing_left` says. `cover` is the weight of the training rows that came by.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    value: NDArray[np.float32]
    missing_left: NDArray[np.bool_]
    cover: NDArray[np.float32]

    def splits(self) -> NDArray[np.int64]:
        """The nodes that split."""
        return np.flatnonzero(self.left != _LEAF)


def trees_of(booster: xgboost.Booster) -> list[Tree]:
    """All trees of the booster. Raises CertificateRefused for a booster of another kind."""
    learner = _saved(booster)["learner"]
    _refuse_others(learner)
    return [
        Tree(
            left=np.array(tree["left_children"], np.int64),
            right=np.array(tree["right_children"], np.int64),
            feature=np.array(tree["split_indices"], np.int64),
            value=np.array(tree["split_conditions"], np.float32),
            missing_left=np.array(tree["default_left"], bool),
            cover=np.array(tree["sum_hessian"], np.float32),
        )
        for tree in learner["gradient_booster"]["model"]["trees"]
    ]


def base_logit(booster: xgboost.Booster) -> np.float32:
    """What a row's sum starts from: the answer of the booster without its trees.

    XGBoost is asked, as it clips and rounds the base score in a way of its own.
    """
    saved = _saved(booster)
    model = saved["learner"]["gradient_booster"]["model"]
    model |= {"trees": [], "tree_info": [], "iteration_indptr": [0]}
    model["gbtree_model_param"]["num_trees"] = "0"
    saved["learner"]["learner_model_param"]["boost_from_average"] = "0"  # the base score is settled
    bare = xgboost.Booster(model_file=bytearray(json.dumps(saved).encode()))
    row = np.zeros((1, booster.num_features()), np.float32)
    return np.float32(bare.inplace_predict(row, predict_type="margin")[0])


def _saved(booster: xgboost.Booster) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads(booster.save_raw("json"))
    return saved


def _refuse_others(learner: dict[str, Any]) -> None:
    kind, model = learner["objective"]["name"], learner["gradient_booster"]
    if kind != "binary:logistic" or model["name"] != "gbtree":
        raise CertificateRefused(f"only trees with binary:logistic can be exported, not {model['name']} with {kind}")
    if learner["learner_model_param"]["num_target"] != "1":
        raise CertificateRefused("only a model of one label can be exported")
    if any(any(tree["split_type"]) for tree in model["model"]["trees"]):
        raise CertificateRefused("splits by category cannot be exported; give categories as numbers")


def to_onnx(booster: xgboost.Booster, n_features: int) -> bytes:
    """The model as ONNX: float32 `features` (n, n_features) in, float32 `fraud_probability` (n, 1) out.

    All trees are exported: after an early stop, cut the booster to its best iteration first. The same booster gives
    the same bytes. Raises CertificateRefused for a booster of another kind or another number of features.
    """
    if booster.num_features() != n_features:
        raise CertificateRefused(f"the booster was trained on {booster.num_features()} features, not on {n_features}")
    nodes: dict[str, list[Any]] = {name: [] for name in _NODE_FIELDS}
    leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    alone = Tree(*(np.array([one]) for one in (_LEAF, _LEAF, 0, base_logit(booster), False, 0.0)))
    for number, tree in enumerate([alone, *trees_of(booster)]):
        _add_tree(nodes, leaves, number, tree)
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["logit"],
        domain="ai.onnx.ml",
        n_targets=1,
        **{f"nodes_{name}": values for name, values in nodes.items()},
        **{f"target_{name}": values for name, values in leaves.items()},
    )
    graph = helper.make_graph(
        [ensemble, *_logistic("logit", "fraud_probability")],
        "sentinel",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, n_features])],
        [helper.make_tensor_value_info("fraud_probability", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="sentinel")
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _logistic(logit: str, probability: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Neg", [logit], ["against"]),
        helper.make_node("Exp", ["against"], ["odds_against"]),
        helper.make_node("Add", ["odds_against", "one"], ["odds_of_all"]),
        helper.make_node("Div", ["one", "odds_of_all"], [probability]),
    ]


_NODE_FIELDS = (
    "treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true",
    "hitrates",
)  # fmt: skip


def _add_tree(nodes: dict[str, list[Any]], leaves: dict[str, list[Any]], number: int, tree: Tree) -> None:
    n = len(tree.left)
    is_leaf = tree.left == _LEAF
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


def split_probes(booster: xgboost.Booster, base_rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """For each tree rows (4 a split, features) that reach its splits and stand on their edges.

    The split's feature is set to the threshold, to its two float32 neighbours and to missing; the features above it
    are set so that the row gets there; the rest is as in one of `base_rows`, (n, features) or (features,). That is the
    row with the score nearest to one half, where a wrong leaf changes the probability most: give all rows there are.
    A split that no row can reach has no probes.
    """
    base_row = _most_doubtful(booster, np.atleast_2d(base_rows))
    for tree in trees_of(booster):
        rows = [edge for node, row in _reaching(tree, base_row) for edge in _edges(tree, node, row)]
        if rows:
            yield np.array(rows, np.float32)


def _most_doubtful(booster: xgboost.Booster, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    doubtful: NDArray[np.float32] = rows[np.abs(booster.inplace_predict(rows, missing=np.nan) - 0.5).argmin()]
    return doubtful


def _edges(tree: Tree, node: int, row: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    threshold = tree.value[node]
    below, above = np.nextafter(threshold, np.float32(-np.inf)), np.nextafter(threshold, np.float32(np.inf))
    for value in (threshold, below, above, np.float32(np.nan)):
        edge = row.copy()
        edge[tree.feature[node]] = value
        yield edge


class _Room(NamedTuple):
    """What a path leaves of one feature: values from `low` to `high`, and whether it may be missing."""

    low: np.float32 = np.float32(-np.inf)
    high: np.float32 = np.float32(np.inf)
    missing: bool = True

    def below(self, threshold: np.float32, missing_left: bool) -> "_Room":
        """To the left of a split."""
        under = np.nextafter(threshold, np.float32(-np.inf))
        return _Room(self.low, min(self.high, under), self.missing and missing_left)

    def from_(self, threshold: np.float32, missing_left: bool) -> "_Room":
        """To the right of a split."""
        return _Room(max(self.low, threshold), self.high, self.missing and not missing_left)

    def values(self, *, highest: bool) -> list[np.float32]:
        """A value that stays inside: the highest or lowest there is, else missing, else none."""
        if self.low <= self.high:
            return [self.high if highest else self.low]
        return [np.float32(np.nan)] if self.missing else []


def _reaching(tree: Tree, base_row: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Every split with a row that reaches it: each step down puts its feature inside what the path allows."""
    waiting: list[tuple[int, NDArray[np.float32], dict[int, _Room]]] = [(0, base_row, {})]
    while waiting:
        node, row, rooms = waiting.pop()
        if tree.left[node] == _LEAF:
            continue
        yield node, row
        feature, threshold, missing_left = int(tree.feature[node]), tree.value[node], bool(tree.missing_left[node])
        room = rooms.get(feature, _Room())
        for child, narrowed, highest in (
            (tree.left[node], room.below(threshold, missing_left), True),
            (tree.right[node], room.from_(threshold, missing_left), False),
        ):
            for value in narrowed.values(highest=highest):
                down = row.copy()
                down[feature] = value
                waiting.append((int(child), down, {**rooms, feature: narrowed}))
