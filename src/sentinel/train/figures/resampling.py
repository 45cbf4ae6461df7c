"""Resampling by card: what a figure would be if other cards had paid.

The transactions of a card are alike, and a card that was taken over has several frauds. To draw single transactions
would count each of them as news and make intervals too narrow; here a card comes with all of its transactions or not at
all (a cluster bootstrap: Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8), in the
Poisson form, where each card comes as often as a Poisson number of mean 1 says.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

REPLICATES = 200
SEED = 42
Scores: TypeAlias = NDArray[np.floating[Any]]
Weights: TypeAlias = NDArray[np.int64]


class Estimate(msgspec.Struct, frozen=True):
    """A figure and its 95 % confidence interval (percentiles of a bootstrap over cards)."""

    value: float
    low: float
    high: float


class RankingFigures(NamedTuple):
    """How well a ranking puts the frauds first."""

    average_precision: float
    auc_roc: float
    recall_at_fpr: float


def numbered(cards: NDArray[Any] | None, n: int) -> NDArray[np.int64]:
    """A number from 0 on for the card of each of n rows; None gives every row a number of its own."""
    if cards is None:
        return np.arange(n)
    numbers: NDArray[np.int64] = np.unique(cards, return_inverse=True)[1]
    return numbers


def card_weights(numbers: NDArray[np.int64], seed: int = SEED, replicates: int = REPLICATES) -> Iterator[Weights]:
    """For each replicate how often each row (n,) comes. The same numbers and seed give the same weights."""
    rng = np.random.default_rng(seed)
    cards = int(numbers.max(initial=-1)) + 1
    for _ in range(replicates):
        yield rng.poisson(1.0, cards)[numbers]


def estimate(value: float, sample: NDArray[np.float64]) -> Estimate:
    """A figure with the interval of its replicates (n,), of which those that are NaN could not be computed."""
    if np.isnan(sample).all():
        return Estimate(value, value, value)
    low, high = np.nanpercentile(sample, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


class Ranking:
    """Scores (n,) of rows with labels 0 or 1, sorted once for all replicates."""

    def __init__(self, scores: Scores, labels: NDArray[np.int8]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ranked = scores[self._order]
        self._truth = labels[self._order] == 1
        self._ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # last row of each distinct score

    def figures(self, weights: Weights, fpr: float = 0.01) -> RankingFigures:
        """The figures where row i comes `weights[i]` times; NaN where only one kind is left.

        `recall_at_fpr` is the recall while at most `fpr` of the legitimate rows are alarms.
        """
        drawn = weights[self._order]
        hits, misses = np.cumsum(drawn * self._truth)[self._ends], np.cumsum(drawn * ~self._truth)[self._ends]
        if hits[-1] == 0 or misses[-1] == 0:
            return RankingFigures(np.nan, np.nan, np.nan)
        precision = hits / np.maximum(hits + misses, 1)
        average = np.sum(precision * np.diff(hits, prepend=0)) / hits[-1]
        between = (hits + np.concatenate([[0], hits[:-1]])) / 2
        area = np.sum(np.diff(misses, prepend=0) * between) / (hits[-1] * misses[-1])
        within = np.searchsorted(misses, fpr * misses[-1], side="right") - 1
        return RankingFigures(float(average), float(area), float(hits[within] / hits[-1]) if within >= 0 else 0.0)
