"""Thresholds: chosen on validation data for a bearable number of false alarms, applied to every score."""

from enum import StrEnum
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Action(StrEnum):
    """What happens to a transaction."""

    APPROVE = "approve"
    REVIEW = "review"
    BLOCK = "block"


ACTIONS = tuple(Action)
"""The actions by their level, from the mildest on."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The largest shares of legitimate transactions that may be reviewed or blocked.

    `review_at_fpr` bounds the share that is reviewed or blocked, `block_at_fpr` the share that is blocked; with None
    nothing is ever blocked, only approved or reviewed.
    """

    review_at_fpr: Share = 0.01
    block_at_fpr: Share | None = 0.001

    def __post_init__(self) -> None:
        block = self.review_at_fpr if self.block_at_fpr is None else self.block_at_fpr
        if not 0.0 < block <= self.review_at_fpr < 1.0:
            raise InvalidDefinition(
                f"policy: block_at_fpr ({self.block_at_fpr}) must be above 0 and at most "
                f"review_at_fpr ({self.review_at_fpr}), and both below 1"
            )


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Probabilities from which a transaction is reviewed and blocked; with `block` None it is never blocked."""

    review: Share
    block: Share | None

    def action(self, fraud_probability: float) -> Action:
        """The action for one score.

        >>> Thresholds(review=0.3, block=0.9).action(0.3)
        <Action.REVIEW: 'review'>
        """
        return ACTIONS[self.level(fraud_probability)]

    def level(self, fraud_probability: float) -> int:
        """The place of the action for one score among `ACTIONS`: to look one up by name costs more than deciding it."""
        if self.block is not None and fraud_probability >= self.block:
            return 2
        return 1 if fraud_probability >= self.review else 0

    def levels(self, scores: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The same for scores (n,), uint8 (n,)."""
        levels = (scores >= self.review).astype(np.uint8)
        if self.block is not None:
            levels[scores >= self.block] = 2
        return levels


def choose_thresholds(scores: NDArray[np.float32], labels: NDArray[np.int8], policy: Policy) -> Thresholds:
    """The thresholds that disturb the policy's shares of the legitimate transactions in this sample.

    `scores` (n,) are probabilities, `labels` (n,) 0 or 1; take rows that the model was not fitted on.
    """
    legitimate = scores[labels == 0]
    if len(legitimate) == 0:
        raise InvalidDefinition("no legitimate transaction among the validation rows; choose a longer validation part")
    review = float(_exceeded_by(legitimate, policy.review_at_fpr))
    if policy.block_at_fpr is None:
        return Thresholds(review=review, block=None)
    return Thresholds(review=review, block=max(review, float(_exceeded_by(legitimate, policy.block_at_fpr))))


def _exceeded_by(legitimate: NDArray[np.float32], share: float) -> np.float32:
    """The least float32 that at most `share` of these scores reach."""
    descending = np.sort(legitimate)[::-1]
    first_spared = int(np.floor(share * len(descending)))
    return min(np.nextafter(descending[first_spared], np.float32(2)), np.float32(1.0))
