"""Folds in the order of time: what a model would have known then, and what it is asked about next."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import DataProblem

FEWEST_FRAUDS = 5
"""In the part of a fold that is learned from, and in the one that is validated on."""


class Fold(NamedTuple):
    """Row numbers, ascending, of what is learned from and of what is validated on, all of it later."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


def time_folds(
    time_us: NDArray[np.int64], labels: NDArray[np.int8], *, folds: int, size: int, gap_us: int = 0
) -> list[Fold]:
    """At most `folds` folds of n rows in order of time, the oldest first; each validates on about `size` rows.

    The newest fold validates on the last rows, the one before it on those before, and so on; each learns from all that
    is older than its validation by more than `gap_us`, which is how long labels take. Rows of the same instant as a
    border are on its later side. An older fold with fewer than `FEWEST_FRAUDS` frauds on a side tells nothing and is
    left out. Raises DataProblem where the newest has a side of one kind only.
    """
    n = len(time_us)
    found = []
    for back in range(folds, 0, -1):
        begin = _first_of_instant(time_us, n - back * size)
        end = n if back == 1 else _first_of_instant(time_us, n - (back - 1) * size)
        learned = int(np.searchsorted(time_us, time_us[begin] - gap_us, side="left")) if begin > 0 else 0
        fold = Fold(np.arange(learned), np.arange(max(begin, 0), end))
        if all(_has_both(labels[rows], FEWEST_FRAUDS if back > 1 else 1) for rows in fold):
            found.append(fold)
        elif back == 1:
            raise DataProblem(
                f"{n:,} transactions, {int((labels == 1).sum()):,} of them fraud, cannot be learned from and "
                "validated on: both need frauds and others; bring a longer history, or a longer validation_share"
            )
    return found


def random_folds(labels: NDArray[np.int8], *, folds: int, size: int, seed: int) -> list[Fold]:
    """At most `folds` folds of n rows whatever their time, each validating on `size` rows that no other one does.

    Each has its share of the frauds (stratified). For comparison with figures that were made so: such a split lets a
    model learn from what came later.
    """
    fraudulent, others = (np.random.default_rng(seed).permutation(np.flatnonzero(labels == one)) for one in (1, 0))
    shares = [max(round(size * len(rows) / len(labels)), 1) for rows in (fraudulent, others)]
    found = []
    for begin in range(folds):
        parts = [rows[begin * n : (begin + 1) * n] for rows, n in zip((fraudulent, others), shares, strict=True)]
        if any(
            len(part) < n or n == len(rows) for part, n, rows in zip(parts, shares, (fraudulent, others), strict=True)
        ):
            break
        validation = np.sort(np.concatenate(parts))
        found.append(Fold(np.setdiff1d(np.arange(len(labels)), validation), validation))
    if not found:
        raise DataProblem(f"{int((labels == 1).sum()):,} frauds are too few to learn from and validate on; bring more")
    return found


def merged(folds: Sequence[Fold]) -> NDArray[np.int64]:
    """The rows that are validated on in any of the folds, fold by fold."""
    return np.concatenate([fold.validation for fold in folds])


def _first_of_instant(time_us: NDArray[np.int64], row: int) -> int:
    return int(np.searchsorted(time_us, time_us[row], side="left")) if row >= 0 else -1


def _has_both(labels: NDArray[np.int8], fewest: int) -> bool:
    return fewest <= int((labels == 1).sum()) < len(labels)
