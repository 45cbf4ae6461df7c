"""The one form that the trees of every library are brought into."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAF = -1


class Tree(NamedTuple):
    """One tree; arrays with an entry per node, the root first and every parent before its children.

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
        return np.flatnonzero(self.left != LEAF)


def leaf_alone(value: float) -> Tree:
    """A tree that is one leaf, of no cover: what every row's sum starts from."""
    return Tree(
        left=np.array([LEAF]),
        right=np.array([LEAF]),
        feature=np.array([0]),
        value=np.array([value], np.float32),
        missing_left=np.array([False]),
        cover=np.zeros(1, np.float32),
    )


def above(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """For each threshold the float32 t such that a float32 x is at most the threshold exactly if x < t.

    Infinity where every number is. Libraries that ask `x <= threshold` with a threshold of float64 are turned into
    `x < t` this way, and no float32 changes sides.

    >>> above(np.array([0.5, 0.1])) > np.float32([0.5, 0.1])
    array([ True, False])
    """
    with np.errstate(all="ignore"):  # of infinity, and of numbers too small to be whole
        nearest = thresholds.astype(np.float32)
        not_above = np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)
        return np.nextafter(not_above, np.float32(np.inf))
