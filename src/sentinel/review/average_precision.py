"""Average precision: how far up a ranking puts the frauds, in one figure."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.floating[Any]], labels: NDArray[np.int8]) -> float:
    """Area under the precision-recall curve, by steps, of scores (n,) against labels (n,).

    At least one label is 1; any other value is no fraud. Equal scores share a step.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1], np.int8))
    0.8333333333333333
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(labels[order] == 1)
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # last row of each distinct score
    precision = hits[ends] / (ends + 1)
    return float((precision * np.diff(hits[ends], prepend=0)).sum() / hits[-1])
