"""How sure a figure is of what was validated on, and whether one ranking is better than another: fold by fold."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sentinel.train.figures.resampling import REPLICATES, Ranking, card_weights, numbered


def fold_precisions(
    rankings: Sequence[NDArray[np.float64]],
    labels: NDArray[np.int8],
    folds: NDArray[np.int64],
    cards: NDArray[np.uint64] | None,
    seed: int,
) -> NDArray[np.float64]:
    """Average precision of each of the rankings (k, each n,) on the same resamples of cards: (k, 1 + REPLICATES).

    The first column is of the rows as they are. Each is the mean over the folds, which `folds` (n,) numbers: the models
    of two folds are not on one scale. A fold in which no fraud was drawn counts as 0.
    """
    weights = [np.ones(len(labels), np.int64), *card_weights(numbered(cards, len(labels)), seed)]
    found = np.zeros((len(rankings), 1 + REPLICATES))
    numbers = np.unique(folds)
    for one in numbers:
        here = np.flatnonzero(folds == one)
        for k, scores in enumerate(rankings):
            ranking = Ranking(scores[here], labels[here])
            drawn = [ranking.figures(each[here]).average_precision for each in weights]
            found[k] += np.nan_to_num(drawn) / len(numbers)
    return found
