"""Reliability: whether of the transactions with a score of 0.3 three in ten are frauds.

Nearly all scores are near 0, and bins of equal width would show one bin of all and many of nothing. Here each bin holds
as many expected frauds as the others, so that the curve says most where decisions are made.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

BINS = 12


class ReliabilityBin(msgspec.Struct, frozen=True):
    """The rows with scores from `low` to `high`, both included, and how many frauds were expected and came."""

    low: float
    high: float
    rows: int
    expected: float
    frauds: int


def reliability(scores: NDArray[np.floating[Any]], labels: NDArray[np.int8], bins: int = BINS) -> list[ReliabilityBin]:
    """Bins from the lowest scores on, of scores (n,) and labels (n,), 0 or 1. Equal scores share a bin.

    Each holds about the same sum of scores; there are fewer bins than `bins` where scores are equal. None without rows.
    """
    if len(scores) == 0:
        return []
    order = np.argsort(scores, kind="stable")
    ranked, truth = scores[order].astype(np.float64), labels[order] == 1
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # last row of each distinct score
    sums = np.cumsum(ranked)
    wanted = np.minimum(np.searchsorted(sums[ends], sums[-1] * np.arange(1, bins) / bins), len(ends) - 1)
    last = np.unique(np.append(ends[wanted], len(ranked) - 1))
    begins = np.append(0, last[:-1] + 1)
    return [
        ReliabilityBin(
            low=float(ranked[begin]),
            high=float(ranked[end]),
            rows=int(end - begin + 1),
            expected=float(ranked[begin : end + 1].sum()),
            frauds=int(truth[begin : end + 1].sum()),
        )
        for begin, end in zip(begins.tolist(), last.tolist(), strict=True)
    ]


def calibration_error(scores: NDArray[np.floating[Any]], labels: NDArray[np.int8]) -> float:
    """Expected calibration error: the mean over all rows of how far their bin's mean score is from its share of fraud.

    (Naeini, Cooper, Hauskrecht: *Obtaining well calibrated probabilities using Bayesian binning*, AAAI 2015, with the
    bins of `reliability`.) 0 without rows.
    """
    found = reliability(scores, labels)
    return sum(abs(one.expected - one.frauds) for one in found) / max(len(scores), 1)
