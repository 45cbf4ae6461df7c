"""Policies: by what rule the thresholds of a detector are chosen, from scores that its model did not learn from."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition
from sentinel.policy.costs import Costs
from sentinel.policy.least_loss import least_loss_cuts
from sentinel.policy.review_time import ReviewTime
from sentinel.policy.sample import Sample
from sentinel.policy.thresholds import Action, Share, Thresholds

Scores: TypeAlias = NDArray[np.floating[Any]]


class Policy(ReviewTime, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="by", tag="false_alarms"):
    """By the largest shares of legitimate transactions that may be disturbed.

    `review_at_fpr` bounds the share that is reviewed or blocked, `block_at_fpr` the share that is blocked, and
    `challenge_at_fpr` the share that is not simply approved. With None nothing is ever blocked or challenged. `costs`
    are for reports.
    """

    review_at_fpr: Share = 0.01
    block_at_fpr: Share | None = 0.001
    challenge_at_fpr: Share | None = None
    costs: Costs = Costs()

    def __post_init__(self) -> None:
        ReviewTime.__post_init__(self)
        block = self.review_at_fpr if self.block_at_fpr is None else self.block_at_fpr
        if not 0.0 < block <= self.review_at_fpr < 1.0:
            raise InvalidDefinition(
                f"policy: block_at_fpr ({self.block_at_fpr}) must be above 0 and at most "
                f"review_at_fpr ({self.review_at_fpr}), and both below 1"
            )
        if self.challenge_at_fpr is not None and not self.review_at_fpr <= self.challenge_at_fpr < 1.0:
            raise InvalidDefinition(
                f"policy: challenge_at_fpr ({self.challenge_at_fpr}) must be at least "
                f"review_at_fpr ({self.review_at_fpr}), and below 1"
            )

    @property
    def actions(self) -> frozenset[Action]:
        """What it can decide."""
        return _with_approve(Action.REVIEW, self.challenge_at_fpr is not None, self.block_at_fpr is not None)

    def choose(self, sample: Sample) -> Thresholds:
        """The thresholds that disturb its shares of the legitimate transactions of this sample."""
        legitimate = _legitimate(sample)
        review = _above(legitimate, self.review_at_fpr * len(legitimate))
        block, challenge = self.block_at_fpr, self.challenge_at_fpr
        return Thresholds(
            review=review,
            block=None if block is None else max(review, _above(legitimate, block * len(legitimate))),
            challenge=None if challenge is None else min(review, _above(legitimate, challenge * len(legitimate))),
        )


class LeastLoss(ReviewTime, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="by", tag="loss"):
    """By the least expected loss under `costs`, among all thresholds together.

    It reviews where that pays, blocks and challenges where it pays and `block` and `challenge` allow it. With few
    frauds the thresholds hang on single ones of them: look at the intervals.
    """

    costs: Costs = Costs()
    block: bool = True
    challenge: bool = False

    @property
    def actions(self) -> frozenset[Action]:
        """What it can decide."""
        return _with_approve(Action.REVIEW, self.challenge, self.block)

    def choose(self, sample: Sample) -> Thresholds:
        """The thresholds with the least loss on this sample, each halfway between two of its scores.

        Where blocking never pays there, nothing is blocked. A challenge or a review that never pays begins where the
        next action does, or above all scores.
        """
        _legitimate(sample)
        actions = [action for action in Action if action in self.actions]
        losses = self.costs.losses(sample.labels, sample.amounts)
        scores, cuts = least_loss_cuts(sample.scores, losses, actions)
        begins = {action: _between(scores, cut) for action, cut in zip(actions[1:], cuts, strict=True)}
        never_blocks = not self.block or cuts[-1] == len(scores)
        return Thresholds(
            review=begins[Action.REVIEW],
            block=None if never_blocks else begins[Action.BLOCK],
            challenge=begins.get(Action.CHALLENGE),
        )


class ReviewCapacity(ReviewTime, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="by", tag="capacity"):
    """By how many transactions can be reviewed a day, on average: those with the highest scores.

    What is blocked, by the share of legitimate ones as in `Policy`, takes no capacity. `challenges_a_day` are the next
    ones below, None for none. `costs` are for reports.
    """

    reviews_a_day: float
    block_at_fpr: Share | None = 0.001
    challenges_a_day: float | None = None
    costs: Costs = Costs()

    def __post_init__(self) -> None:
        ReviewTime.__post_init__(self)
        if not 0.0 < self.reviews_a_day < np.inf:
            raise InvalidDefinition(f"policy: reviews_a_day is {self.reviews_a_day}; give a number above 0")
        if self.block_at_fpr is not None and not 0.0 < self.block_at_fpr < 1.0:
            raise InvalidDefinition(f"policy: block_at_fpr is {self.block_at_fpr}; give a share above 0 and below 1")
        if self.challenges_a_day is not None and not 0.0 < self.challenges_a_day < np.inf:
            raise InvalidDefinition(f"policy: challenges_a_day is {self.challenges_a_day}; give a number above 0")

    @property
    def actions(self) -> frozenset[Action]:
        """What it can decide."""
        return _with_approve(Action.REVIEW, self.challenges_a_day is not None, self.block_at_fpr is not None)

    def choose(self, sample: Sample) -> Thresholds:
        """The thresholds that would have had no more reviews a day in this sample, on average."""
        legitimate, block, taken = _legitimate(sample), None, 0
        if self.block_at_fpr is not None:
            block = _above(legitimate, self.block_at_fpr * len(legitimate))
            taken = int(np.count_nonzero(sample.scores >= block))
        review = _above(sample.scores, taken + self.reviews_a_day / sample.a_day)
        if self.challenges_a_day is None:
            return Thresholds(review=review, block=block)
        taken = int(np.count_nonzero(sample.scores >= review))
        challenge = _above(sample.scores, taken + self.challenges_a_day / sample.a_day)
        return Thresholds(review=review, block=block, challenge=challenge)


class CostGrid(ReviewTime, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="by", tag="cost_grid"):
    """By the cheapest of the 99 thresholds 0.01, 0.02, .. 0.99; what reaches it is blocked.

    A fraud that goes through costs 500, a false alarm 50, whatever the amounts; the first of equal ones is taken.
    """

    costs: Costs = Costs(missed_fraud_share=0.0, missed_fraud=500.0, false_alarm=50.0)

    @property
    def actions(self) -> frozenset[Action]:
        """What it can decide."""
        return frozenset((Action.APPROVE, Action.BLOCK))

    def choose(self, sample: Sample) -> Thresholds:
        """The cheapest threshold of the grid on this sample."""
        _legitimate(sample)
        losses = self.costs.losses(sample.labels, sample.amounts)
        order = np.argsort(sample.scores)
        approved = np.concatenate([[0.0], np.cumsum(losses[Action.APPROVE][order])])
        blocked = np.concatenate([[0.0], np.cumsum(losses[Action.BLOCK][order])])
        grid = np.linspace(0.01, 0.99, 99)
        below = np.searchsorted(sample.scores[order], grid)
        cheapest = float(grid[np.argmin(approved[below] + blocked[-1] - blocked[below])])
        return Thresholds(review=cheapest, block=cheapest)


class LegitimateQuantile(
    ReviewTime, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="by", tag="quantile"
):
    """By a quantile of the legitimate scores, held between 0.0001 and 0.9999; 0.5 without any. Nothing is blocked.

    With many equal scores it may disturb far more than `target_fpr` of the legitimate ones; `Policy` never does.
    """

    target_fpr: Share = 0.01
    costs: Costs = Costs()

    def __post_init__(self) -> None:
        ReviewTime.__post_init__(self)
        if not 0.0 < self.target_fpr < 1.0:
            raise InvalidDefinition(f"policy: target_fpr is {self.target_fpr}; give a share above 0 and below 1")

    @property
    def actions(self) -> frozenset[Action]:
        """What it can decide."""
        return frozenset((Action.APPROVE, Action.REVIEW))

    def choose(self, sample: Sample) -> Thresholds:
        """The quantile of this sample."""
        legitimate = sample.scores[sample.labels == 0]
        found = float(np.quantile(legitimate, 1 - self.target_fpr)) if len(legitimate) else 0.5
        return Thresholds(review=min(max(found, 0.0001), 0.9999), block=None)


AnyPolicy: TypeAlias = Policy | LeastLoss | ReviewCapacity | CostGrid | LegitimateQuantile


def declares_costs(policy: AnyPolicy) -> bool:
    """Whether a detector has costs of its own, or thresholds by costs: not only the round figures of a default."""
    return isinstance(policy, LeastLoss) or policy.costs != Costs()


def _with_approve(review: Action, challenge: bool, block: bool) -> frozenset[Action]:
    found = [Action.APPROVE, review]
    return frozenset(found + [Action.CHALLENGE] * challenge + [Action.BLOCK] * block)


def _legitimate(sample: Sample) -> Scores:
    """The scores of the legitimate ones. Raises InvalidDefinition where there are none."""
    found: Scores = sample.scores[sample.labels == 0]
    if len(found) == 0:
        raise InvalidDefinition("no legitimate transaction among the validation rows; choose a longer validation part")
    return found


def _above(scores: Scores, rows: float) -> float:
    """The least float32 that at most so many of these scores reach; a certainty cannot be exceeded."""
    if rows >= len(scores):
        return 0.0
    spared = float(np.sort(scores)[::-1][int(rows)])
    found = np.float32(spared)
    return float(min(np.nextafter(found, np.float32(2)), np.float32(1.0)) if found <= spared else found)


def _between(scores: NDArray[np.float64], cut: int) -> float:
    """A threshold that the scores from number `cut` on reach, and no earlier one."""
    if cut == 0:
        return 0.0
    if cut == len(scores):
        return _above(scores, 0)
    return float((scores[cut - 1] + scores[cut]) / 2)
