"""What would follow from other thresholds: a row for each of some shares of false alarms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.train.figures.evaluate import AtThreshold, at_threshold

FALSE_POSITIVE_RATES = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def threshold_table(scores: NDArray[np.floating[Any]], labels: NDArray[np.int8]) -> list[AtThreshold]:
    """The least thresholds at which at most these shares of the legitimate rows are alarms, the highest first.

    Scores (n,) and labels (n,), 0 or 1. Shares that come to the same threshold are one row.
    """
    ordered = np.sort(scores[labels == 0])[::-1]
    found: list[float] = []
    for share in FALSE_POSITIVE_RATES:
        spared = ordered[min(int(np.floor(share * len(ordered))), len(ordered) - 1)]
        threshold = float(np.nextafter(np.float32(spared), np.float32(2)))
        if not found or threshold != found[-1]:
            found.append(threshold)
    return [at_threshold(scores, labels, one) for one in found]
