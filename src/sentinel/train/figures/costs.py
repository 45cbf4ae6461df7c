"""What the decisions of a model cost on rows whose outcomes are known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.policy.costs import Costs
from sentinel.policy.thresholds import ACTIONS, Action, Thresholds

Scores = NDArray[np.floating[Any]]


def cost_of(levels: NDArray[np.uint8], labels: NDArray[np.int8], amounts: NDArray[np.float64], costs: Costs) -> float:
    """The cost of all rows together, in the currency.

    `levels` (n,) are places in `ACTIONS`, `labels` (n,) 0 or 1, `amounts` (n,) in the currency.
    """
    losses = costs.losses(labels, amounts)
    return float(sum(losses[action][levels == level].sum() for level, action in enumerate(ACTIONS)))


def cost_per_transaction(
    scores: Scores, labels: NDArray[np.int8], amounts: NDArray[np.float64], thresholds: Thresholds, costs: Costs
) -> float:
    """The mean cost of a row, decided by these thresholds."""
    return cost_of(thresholds.levels(scores.astype(np.float64)), labels, amounts, costs) / max(len(labels), 1)


def cost_curve(
    scores: Scores, labels: NDArray[np.int8], amounts: NDArray[np.float64], costs: Costs
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Thresholds (k,), falling, and what all rows cost together when everything from each on is blocked, float64 (k,).

    The first threshold blocks nothing.
    """
    losses = costs.losses(labels, amounts)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    more = np.cumsum((losses[Action.BLOCK] - losses[Action.APPROVE])[order])[ends]
    nothing = float(losses[Action.APPROVE].sum())
    above = np.nextafter(ranked[0], np.inf)
    return np.append(above, ranked[ends]), np.append(nothing, nothing + more)
