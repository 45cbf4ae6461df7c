"""Trees answered for sixteen rows at once: the same sums as ONNX Runtime's, bit for bit, in a fraction of the time.

QuickScorer (Lucchese et al., SIGIR 2015), with a row in each lane of a vector as in V-QuickScorer (SIGIR 2016). Walking
a tree waits for memory and for a branch prediction at every node. Here no tree is walked: every test is evaluated, for
sixteen rows in one comparison, and a false test (the row goes right) masks out the leaves on its left. The leftmost
leaf that remains is the exit leaf.

A missing value is above or below every threshold, as its node says: each row is stored in both versions, and a test
reads the one it needs.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sentinel.errors import BundleProblem
from sentinel.model.onnx_file import Node, OnnxFile
from sentinel.model.quickscorer import LEAVES, ROWS, exit_leaves

MOST_TESTS, DEEPEST = 256, 100
"""Tests in a tree, on average: with more, walking is cheaper. Levels of a tree."""

COVERS = "nodes_hitrates"
"""The attribute of an ensemble that has, for every node, the weight of the training rows that came by."""

_DOUBLE = 11  # the type of a tensor of float64
_MODES = {b"BRANCH_LT", b"LEAF"}
_PLAIN = {"aggregate_function": b"SUM", "n_targets": 1, "post_transform": b"NONE"}
_NEEDED = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")

F = TypeVar("F", bound=Callable[..., Any])


class Trees(NamedTuple):
    """Trees as lists of tests; the leaves of a tree, from left to right, are the bits of words of 32.

    - `features` int32, `thresholds` float32, `masks` uint32 (tests,): where a row's feature is not below the threshold,
      the test is false and only the leaves of its mask remain in the word. A feature from `n_features` on is the
      version in which missing is below every threshold.
    - `tests` int64 (words + 1,): where the tests of a word begin. `words` int64 (trees + 1,): where the words of a tree
      begin. `leaves` float32 (words * 32,): the value of each leaf. `sum_type`: in which they are added.
    """

    n_features: int
    features: NDArray[np.int32]
    thresholds: NDArray[np.float32]
    masks: NDArray[np.uint32]
    tests: NDArray[np.int64]
    words: NDArray[np.int64]
    leaves: NDArray[np.float32]
    sum_type: type[np.floating[Any]]

    def sums(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The sum of the exit leaves, float32 (n, 1), of rows float32 (n, n_features); NaN is missing."""
        out = np.empty((len(rows), 1), np.float32)
        _sum(
            rows, self.features, self.thresholds, self.masks, self.tests, self.words, self.leaves,
            np.zeros((2 * self.n_features + 1) * ROWS, np.float32), np.zeros(ROWS, np.int32), np.zeros(ROWS, np.int64),
            np.zeros(ROWS, self.sum_type), out,
        )  # fmt: skip
        return out


class FirstTrees(NamedTuple):
    """The trees that a model begins with: their node, and how many nodes they are, of which the last one is theirs.

    Where the row is cast to float64 before it comes to them (`is_wide`), ONNX Runtime adds in float64.
    """

    node: Node
    n_nodes: int
    is_wide: bool


def first_trees(model: OnnxFile) -> FirstTrees | None:
    """The trees of a model that begins with them; None for any other."""
    first = model.nodes[0]
    if first.operator == "TreeEnsembleRegressor" and first.inputs == model.inputs[:1]:
        return FirstTrees(first, 1, is_wide=False)
    if first.operator != "Cast" or first.attributes.get("to") != _DOUBLE or first.inputs != model.inputs[:1]:
        return None
    second = model.nodes[1] if len(model.nodes) > 1 else first
    if second.operator != "TreeEnsembleRegressor" or second.inputs != first.outputs:
        return None
    return FirstTrees(second, 2, is_wide=True)


def take_out_trees(model: OnnxFile, n_features: int) -> tuple[Trees, bytes, str] | None:
    """The trees of a model that begins with them, the model of what follows, and the name of its input.

    None for any other model: no ensemble in first place, splits of another kind, trees that are too large.
    """
    first = first_trees(model)
    if first is None or len(first.node.outputs) != 1 or not _is_plain(first.node.attributes):
        return None
    reads = {name for node in model.nodes[first.n_nodes :] for name in node.inputs}
    if reads & {*model.inputs, *first.node.inputs}:
        return None
    trees = _trees(first.node.attributes, n_features, np.float64 if first.is_wide else np.float32)
    return None if trees is None else (trees, model.after(first.n_nodes), first.node.outputs[0])


def check_trees(model: OnnxFile) -> None:
    """Raise BundleProblem for trees that lead anywhere but to later nodes of their own and to features of the row.

    To be asked before anything walks them: what walks trees relies on it.
    """
    for node in model.nodes:
        if node.operator == "TreeEnsembleRegressor":
            _check_columns(node.attributes)
            _check_nodes(node.attributes, model.width)


def _check_columns(given: dict[str, Any]) -> None:
    kinds = {f"nodes_{name}": bytes if name == "modes" else float if name == "values" else int for name in _NEEDED}
    kinds |= {"target_treeids": int, "target_nodeids": int, "target_ids": int, "target_weights": float}
    columns = {name: given.get(name) for name in kinds}
    is_whole = all(
        isinstance(column, list) and all(isinstance(one, kinds[name]) for one in column)
        for name, column in columns.items()
    )
    below = given.get("nodes_missing_value_tracks_true") or []
    covers = given.get(COVERS) or []
    if not is_whole or not isinstance(below, list) or not set(below) <= {0, 1} or not isinstance(covers, list):
        raise BundleProblem("the trees of the model lack something; train anew")
    n = {len(given[f"nodes_{name}"]) for name in _NEEDED} | {len(some) for some in (below, covers) if some}
    m = {len(given[name]) for name in kinds if name.startswith("target_")}
    if len(n) != 1 or len(m) != 1:
        raise BundleProblem("the columns of the model's trees are not of one length; train anew")
    if given.get("n_targets", 1) != 1 or set(given["target_ids"]) - {0}:
        raise BundleProblem("the trees of the model have several targets; train anew")


def _check_nodes(given: dict[str, Any], n_features: int) -> None:
    trees, numbers, features, modes, lefts, rights = (
        given[f"nodes_{name}"] for name in ("treeids", "nodeids", "featureids", "modes", "truenodeids", "falsenodeids")
    )
    sizes = Counter(trees)
    known: set[tuple[int, int]] = set()
    for tree, number, feature, mode, left, right in zip(trees, numbers, features, modes, lefts, rights, strict=True):
        is_inside = 0 <= number < sizes[tree] and 0 <= feature < n_features and (tree, number) not in known
        if not is_inside or not (mode == b"LEAF" or (number < left < sizes[tree] and number < right < sizes[tree])):
            raise BundleProblem(
                f"node {number} of tree {tree} of the model is not in its place, reads feature {feature} of "
                f"{n_features}, or leads to a node that is not there; train anew"
            )
        known.add((tree, number))
    if not known.issuperset(zip(given["target_treeids"], given["target_nodeids"], strict=True)):
        raise BundleProblem("a leaf of the model belongs to no tree; train anew")


def _is_plain(given: dict[str, Any]) -> bool:
    if given.get("base_values") or any(f"nodes_{name}" not in given for name in _NEEDED):
        return False
    if not set(given["nodes_modes"]) <= _MODES or any(given["target_ids"]):
        return False
    plain = all(given.get(name, value) == value for name, value in _PLAIN.items())
    values = np.array(given["nodes_values"])
    return plain and bool((values > -np.inf).all())  # below infinity is every number, below minus infinity none is


class _Test(NamedTuple):
    """A node's test, for one word of its tree."""

    word: int
    feature: int
    threshold: float
    mask: int


class TreeNode(NamedTuple):
    """A node of a tree; a leaf has no `left`. From `n_features` on, a `feature` sends what is missing to the left."""

    weight: float
    feature: int
    threshold: float
    left: int | None
    right: int


def _trees(given: dict[str, Any], n_features: int, sum_type: type[np.floating[Any]]) -> Trees | None:
    trees = tree_nodes(given, n_features)
    tests: list[_Test] = []
    words: list[int] = [0]
    leaves: list[float] = []
    for nodes in trees or ():
        tree = _Tree(nodes, words[-1])
        if tree.is_too_deep:
            return None
        tests += sorted(tree.tests)
        words.append(words[-1] - (-len(tree.leaves) // LEAVES))
        leaves += tree.leaves + [0.0] * (-len(tree.leaves) % LEAVES)
    if trees is None or len(tests) > MOST_TESTS * len(trees):
        return None
    return Trees(
        n_features=n_features,
        features=np.array([one.feature for one in tests], np.int32),
        thresholds=np.array([one.threshold for one in tests], np.float32),
        masks=np.array([one.mask for one in tests], np.uint32),
        tests=np.searchsorted([one.word for one in tests], np.arange(words[-1] + 1)).astype(np.int64),
        words=np.array(words),
        leaves=np.array(leaves, np.float32),
        sum_type=sum_type,
    )


def tree_nodes(given: dict[str, Any], n_features: int) -> list[list[TreeNode]] | None:
    """The nodes of every tree, in the order of the trees; None unless parents come before children everywhere."""
    targets = zip(given["target_treeids"], given["target_nodeids"], given["target_weights"], strict=True)
    weights = {(tree, node): weight for tree, node, weight in targets}
    below = given.get("nodes_missing_value_tracks_true") or [0] * len(given["nodes_treeids"])
    trees: dict[int, list[TreeNode]] = {}
    for tree, number, feature, value, mode, left, right, is_below in zip(
        *(given[f"nodes_{name}"] for name in _NEEDED), below, strict=True
    ):
        nodes, is_leaf = trees.setdefault(tree, []), mode == b"LEAF"
        if number != len(nodes) or tree != next(reversed(trees)) or not (is_leaf or number < min(left, right)):
            return None
        weight = weights.get((tree, number), 0.0)
        nodes.append(TreeNode(weight, feature + n_features * is_below, value, None if is_leaf else left, right))
    return list(trees.values())


class _Tree:
    """The tests of a tree and its leaves from left to right."""

    def __init__(self, nodes: Sequence[TreeNode], first_word: int) -> None:
        self.tests: list[_Test] = []
        self.leaves: list[float] = []
        self.is_too_deep = False
        self._nodes = nodes
        self._first_word = first_word
        self._visit(0, 0)

    def _visit(self, number: int, depth: int) -> None:
        node = self._nodes[number]
        if node.left is None or depth == DEEPEST:
            self.is_too_deep |= depth == DEEPEST
            self.leaves.append(node.weight)
            return
        begin = len(self.leaves)
        self._visit(node.left, depth + 1)
        end = len(self.leaves)
        for word in range(begin // LEAVES, (end - 1) // LEAVES + 1):
            low, high = max(begin - word * LEAVES, 0), min(end - word * LEAVES, LEAVES)
            mask = (1 << LEAVES) - 1 - ((1 << high) - (1 << low))
            self.tests.append(_Test(self._first_word + word, node.feature, node.threshold, mask))
        self._visit(node.right, depth + 1)


def _compiled(function: F) -> F:
    compiled: F = njit(cache=True, error_model="numpy", _nrt=False)(function)
    return compiled


@_compiled
def _sum(
    rows: NDArray[np.float32], features: NDArray[np.int32], thresholds: NDArray[np.float32], masks: NDArray[np.uint32],
    tests: NDArray[np.int64], words: NDArray[np.int64], leaves: NDArray[np.float32], room: NDArray[np.float32],
    first: NDArray[np.int32], places: NDArray[np.int64], sums: NDArray[Any], out: NDArray[np.float32],
) -> None:  # fmt: skip
    n_features, infinity = rows.shape[1], np.float32(np.inf)
    line = 4 * ROWS  # sixteen lanes fill a cache line; one that straddles two takes twice the time
    skip = -room.ctypes.data % line // 4
    both = room[skip : skip + 2 * n_features * ROWS].reshape(2 * n_features, ROWS)
    for begin in range(0, len(rows), ROWS):
        together = min(ROWS, len(rows) - begin)
        for r in range(together):
            for c in range(n_features):
                value = rows[begin + r, c]
                missing = value != value
                both[c, r] = infinity if missing else value
                both[n_features + c, r] = -infinity if missing else value
        sums[:] = 0
        for tree in range(len(words) - 1):
            for word in range(words[tree + 1] - 1, words[tree] - 1, -1):
                exit_leaves(features, thresholds, masks, tests[word], tests[word + 1], both, first)
                for r in range(ROWS):
                    if first[r] < LEAVES:  # the leftmost word comes last, and it wins
                        places[r] = word * LEAVES + first[r]
            for r in range(ROWS):
                sums[r] += leaves[places[r]]
        for r in range(together):
            out[begin + r, 0] = sums[r]
