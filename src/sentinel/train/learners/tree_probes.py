"""Rows that put every split of a model's trees to the test."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sentinel.train.learners.tree import LEAF, Tree

_HIGHEST = np.finfo(np.float32).max
Predict: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def split_probes(
    trees: Sequence[Tree], predict: Predict, base_rows: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    """For each tree rows (4 a split, features) that reach its splits and stand on their edges.

    The split's feature is set to the threshold, to its two float32 neighbours and to missing; the features above it
    are set so that the row gets there; the rest is as in one of `base_rows`, (n, features) or (features,). That is the
    row with the score nearest to one half, where a wrong leaf changes the probability most: give all rows there are.
    A split that no row can reach has no probes. Every number is finite.
    """
    base_row = most_doubtful(predict, np.atleast_2d(base_rows))
    for tree in trees:
        rows = [edge for node, row in _reaching(tree, base_row) for edge in _edges(tree, node, row)]
        if rows:
            yield np.array(rows, np.float32)


def most_doubtful(predict: Predict, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The row (features,) with the score nearest to one half."""
    doubtful: NDArray[np.float32] = rows[np.abs(predict(rows) - 0.5).argmin()]
    return doubtful


def _edges(tree: Tree, node: int, row: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for value in edges(tree.value[node]):
        edge = row.copy()
        edge[tree.feature[node]] = value
        yield edge


def edges(value: np.float32) -> NDArray[np.float32]:
    """The number, the float32 below and above it, all three finite, and NaN."""
    with np.errstate(all="ignore"):  # of infinity, and of numbers too small to be whole
        both = np.nextafter(value, np.array([-np.inf, np.inf], np.float32))
    return np.append(np.clip([value, *both], -_HIGHEST, _HIGHEST), np.nan).astype(np.float32)


class _Room(NamedTuple):
    """What a path leaves of one feature: values from `low` to `high`, and whether it may be missing."""

    low: np.float32 = -_HIGHEST
    high: np.float32 = _HIGHEST
    missing: bool = True

    def below(self, threshold: np.float32, missing_left: bool) -> "_Room":
        """To the left of a split."""
        with np.errstate(all="ignore"):
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
        if tree.left[node] == LEAF:
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
