"""The thresholds of least loss: exact, over every way to cut the scores of a sample."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sentinel.policy.thresholds import Action

Floats = NDArray[np.float64]


def least_loss_cuts(
    scores: NDArray[np.floating], losses: Mapping[Action, Floats], actions: Sequence[Action]
) -> tuple[Floats, list[int]]:
    """Where each action begins, for the least sum of losses among all assignments that never get milder as scores grow.

    `scores` (n,), `losses` (n,) of each action, `actions` from the mildest on. Gives the distinct scores, ascending
    (m,), and for each action but the first the number of the first of them that gets it or a later one; m where none
    does. Of equal losses the mildest actions are taken. O(n log n): what is best up to a score for the actions so far
    is a running minimum of what was best up to a lower score without the last of them.
    """
    distinct, group = np.unique(scores, return_inverse=True)
    best, befores = _sums(losses[actions[0]], group, len(distinct)), []
    for action in actions[1:]:
        sums = _sums(losses[action], group, len(distinct))
        gain = best - sums
        least = np.minimum.accumulate(gain)
        places = np.where(gain == least, np.arange(len(gain)), 0)
        befores.append(np.maximum.accumulate(places))
        best = least + sums
    cuts, end = [], len(distinct)
    for before in reversed(befores):
        end = int(before[end])
        cuts.append(end)
    return distinct.astype(np.float64), cuts[::-1]


def _sums(losses: Floats, group: NDArray[np.int64], groups: int) -> Floats:
    """The losses of all groups before each place (groups + 1,)."""
    return np.concatenate([[0.0], np.cumsum(np.bincount(group, losses, groups))])
