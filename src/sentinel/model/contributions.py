"""Contributions: how much each feature has moved the sum of the trees, exactly, from the model's own trees.

The sum is the log-odds of fraud, or the probability where the trees are a forest's.

These are the SHAP values of trees (Lundberg et al., Nature Machine Intelligence 2020), path-dependent: a feature that
is not known follows each branch as often as the training rows did. They and the expected sum add up to the row's.

A leaf is reached when every feature on its path is inside the room that the path leaves it. With `o` 1 where it is
inside and `z` the share of training rows that go the path's way at the splits of this feature, its Shapley value in the
game of one leaf is an integral over t from 0 to 1: leaf (o - z) times the product, over the other features of the path,
of o t + z (1 - t). The integrand is a polynomial, and a Gauss-Legendre rule of half as many points as the path has
features gives its integral exactly. No subset is counted, and no path is unwound.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sentinel.errors import BundleProblem
from sentinel.model.onnx_file import OnnxFile
from sentinel.model.trees import COVERS, DEEPEST, TreeNode, first_trees, tree_nodes

LANES = 4
"""Points of a rule that are computed together: enough for eight features on a path."""


class Paths(NamedTuple):
    """The ways from the roots of all trees to their leaves, each as one step for every feature that it asks for.

    - `expected`: the sum for a row of which nothing is known. `n_features`: features of a row.
    - `begins` int64 (paths + 1,): where the steps of a path begin. `leaves` float64 (paths,): what its leaf adds.
    - `features` int32, `low`, `high` float32, `missing` bool, `shares` float64 (steps,): a row is inside a step when
      its feature is at least `low` and below `high`, or missing where it may be; of the training rows this share was.
    """

    expected: float
    n_features: int
    begins: NDArray[np.int64]
    leaves: NDArray[np.float64]
    features: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    missing: NDArray[np.bool_]
    shares: NDArray[np.float64]

    def contributions(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """What each feature adds to the sum of the trees, float64 (n, n_features), of rows float32 (n, n_features).

        NaN is missing. All of a row and `expected` are the row's sum.
        """
        out = np.zeros((len(rows), self.n_features))
        longest = int(np.diff(self.begins).max(initial=1))
        points, weights = _rules((longest + 1) // 2)
        _add(
            np.ascontiguousarray(rows, np.float32), self.begins, self.leaves, self.features, self.low, self.high,
            self.missing, self.shares, points, weights, np.empty(longest, np.bool_), out,
        )  # fmt: skip
        return out


def paths_of(model: OnnxFile) -> Paths:
    """The paths of a model that begins with trees. Raises BundleProblem for any other, or one without covers."""
    first = first_trees(model)
    covers = first and first.node.attributes.get(COVERS)
    if first is None or not covers:
        raise BundleProblem("this model cannot say why: it has no trees with their covers; train anew")
    trees = tree_nodes(first.node.attributes, model.width)
    if trees is None:
        raise BundleProblem("this model cannot say why: its trees are of another form; train anew")
    paths = _Paths(model.width)
    begin = 0
    for nodes in trees:
        paths.add(nodes, covers[begin : begin + len(nodes)])
        begin += len(nodes)
    return paths.whole()


class _Room(NamedTuple):
    """What a path leaves of one feature, and the share of the training rows that were inside."""

    low: float = -np.inf
    high: float = np.inf
    missing: bool = True
    share: float = 1.0


class _Paths:
    """Paths, tree by tree."""

    def __init__(self, n_features: int) -> None:
        self._n_features = n_features
        self._expected = 0.0
        self._leaves: list[float] = []
        self._ends: list[int] = [0]
        self._features: list[int] = []
        self._rooms: list[_Room] = []

    def add(self, nodes: Sequence[TreeNode], covers: Sequence[float]) -> None:
        """All paths of one tree. A tree that is a leaf has one without a step."""
        waiting: list[tuple[int, dict[int, _Room]]] = [(0, {})]
        while waiting:
            number, rooms = waiting.pop()
            node = nodes[number]
            if node.left is None:
                self._add_path(node.weight, rooms)
                continue
            if len(rooms) > DEEPEST:
                raise BundleProblem("this model cannot say why: its trees are too deep; train anew")
            feature, missing_left = node.feature % self._n_features, node.feature >= self._n_features
            room = rooms.get(feature, _Room())
            whole = covers[number]
            left, right = (covers[child] / whole if whole > 0 else 0.5 for child in (node.left, node.right))
            below = _Room(room.low, min(room.high, node.threshold), room.missing and missing_left, room.share * left)
            above = _Room(
                max(room.low, node.threshold), room.high, room.missing and not missing_left, room.share * right
            )
            waiting += [(node.left, {**rooms, feature: below}), (node.right, {**rooms, feature: above})]

    def whole(self) -> Paths:
        """All of them."""
        low, high, missing, shares = zip(*self._rooms, strict=True) if self._rooms else ((), (), (), ())
        return Paths(
            self._expected, self._n_features, np.array(self._ends, np.int64), np.array(self._leaves, np.float64),
            np.array(self._features, np.int32), np.array(low, np.float32), np.array(high, np.float32),
            np.array(missing, bool), np.array(shares, np.float64),
        )  # fmt: skip

    def _add_path(self, leaf: float, rooms: dict[int, _Room]) -> None:
        self._leaves.append(leaf)
        self._features += rooms
        self._rooms += rooms.values()
        self._ends.append(len(self._features))
        self._expected += leaf * float(np.prod([room.share for room in rooms.values()]))


@lru_cache(maxsize=16)
def _rules(most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre rules on 0 to 1 of 1 to `most` points: points and weights, (most, most + 3) each.

    What is beyond the points of a rule weighs nothing.
    """
    points, weights = np.full((most, most + LANES - 1), 0.5), np.zeros((most, most + LANES - 1))
    for n in range(1, most + 1):
        at, weight = np.polynomial.legendre.leggauss(n)
        points[n - 1, :n], weights[n - 1, :n] = (at + 1) / 2, weight / 2
    return points, weights


@njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _add(
    rows: Any, begins: Any, leaves: Any, features: Any, low: Any, high: Any, missing: Any, shares: Any, points: Any,
    weights: Any, inside: Any, out: Any,
) -> None:  # fmt: skip
    """Add the contributions of every path. `inside` bool (longest,) is room.

    The product of all factors is made once. For an inside step it is divided by its own factor, which is at least t;
    the steps that are outside, whose factor is z (1 - t), all get the same: the product divided by 1 - t.
    """
    for r in range(len(rows)):
        for path in range(len(leaves)):
            begin, n = begins[path], begins[path + 1] - begins[path]
            n_inside = 0
            for j in range(n):
                value = rows[r, features[begin + j]]
                inside[j] = missing[begin + j] if value != value else low[begin + j] <= value < high[begin + j]
                n_inside += inside[j]
            rule = (n + 1) // 2 - 1
            for block in range(0, rule + 1, LANES):  # of points; those beyond the rule weigh nothing
                t0, t1, t2, t3 = points[rule, block : block + LANES]
                product0, product1, product2, product3 = weights[rule, block : block + LANES]
                for j in range(n):
                    share = shares[begin + j]
                    slope = 1.0 - share if inside[j] else -share
                    product0 *= share + slope * t0
                    product1 *= share + slope * t1
                    product2 *= share + slope * t2
                    product3 *= share + slope * t3
                product0, product1, product2, product3 = (
                    leaves[path] * product0, leaves[path] * product1, leaves[path] * product2, leaves[path] * product3,
                )  # fmt: skip
                outside = 0.0
                if n_inside < n:
                    outside = (
                        product0 / (1.0 - t0) + product1 / (1.0 - t1) + product2 / (1.0 - t2) + product3 / (1.0 - t3)
                    )
                for j in range(n):
                    if inside[j]:
                        share = shares[begin + j]
                        slope = 1.0 - share
                        total = product0 / (share + slope * t0) + product1 / (share + slope * t1)
                        total += product2 / (share + slope * t2) + product3 / (share + slope * t3)
                        out[r, features[begin + j]] += slope * total
                    else:
                        out[r, features[begin + j]] -= outside
