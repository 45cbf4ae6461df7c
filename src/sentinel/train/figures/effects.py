"""What thresholds do a day, in money and work, with confidence intervals."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.model.bundle import Manifest
from sentinel.policy.costs import Costs
from sentinel.policy.sample import Sample
from sentinel.policy.thresholds import ACTIONS, Action, Thresholds
from sentinel.train.figures.resampling import SEED, Estimate, Weights, card_weights, estimate, numbered


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """Of every day of a sample, on average: what all decisions cost, and how many transactions get each action.

    `saved_a_day` is how much less that is than to approve everything. Intervals are percentiles of a bootstrap over
    cards. They are too narrow where the cost hangs on few large frauds that were missed.
    """

    costs: Costs
    days: float
    cost_a_day: Estimate
    saved_a_day: Estimate
    challenges_a_day: Estimate
    reviews_a_day: Estimate
    blocks_a_day: Estimate


def costs_of(manifest: Manifest) -> Costs:
    """What decisions cost by the detector that a bundle was trained for."""
    found: Costs = msgspec.convert(manifest.metrics["effects"]["costs"], Costs)
    return found


def effects(
    sample: Sample, thresholds: Thresholds, costs: Costs, cards: NDArray[Any] | None = None, seed: int = SEED
) -> Effects:
    """What these thresholds do with a sample. `cards` (n,) says whose each row is; None takes each for its own."""
    levels = thresholds.levels(sample.scores.astype(np.float64))
    matters = (levels != 0) | (sample.labels == 1)
    levels, labels, amounts = levels[matters], sample.labels[matters], sample.amounts[matters]
    losses = costs.losses(labels, amounts)
    lost = np.zeros(len(levels))
    for level, action in enumerate(ACTIONS):
        lost = np.where(levels == level, losses[action], lost)
    of_action = [levels == ACTIONS.index(one) for one in (Action.CHALLENGE, Action.REVIEW, Action.BLOCK)]
    columns = np.column_stack([lost, losses[Action.APPROVE] - lost, *of_action]).astype(np.float64)
    columns /= [sample.days, sample.days, *(3 * [1 / sample.a_day])]
    weights = (drawn[matters] for drawn in card_weights(numbered(cards, len(matters)), seed))
    cost, saved, challenges, reviews, blocks = _estimates(columns, weights)
    return Effects(
        costs=costs, days=sample.days, cost_a_day=cost, saved_a_day=saved, challenges_a_day=challenges,
        reviews_a_day=reviews, blocks_a_day=blocks,
    )  # fmt: skip


def _estimates(columns: NDArray[np.float64], weights: Iterator[Weights]) -> list[Estimate]:
    """The sums of columns (n, m), and their intervals by weights (n,) of the rows."""
    drawn = np.array([one @ columns for one in weights])
    return [estimate(float(total), sample) for total, sample in zip(columns.sum(axis=0), drawn.T, strict=True)]
