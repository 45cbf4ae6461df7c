"""The actions, and the scores from which they are taken."""

from enum import StrEnum
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Action(StrEnum):
    """What happens to a transaction, from the mildest on. A challenge asks the customer for proof (3-D Secure)."""

    APPROVE = "approve"
    CHALLENGE = "challenge"
    REVIEW = "review"
    BLOCK = "block"


ACTIONS = (Action.APPROVE, Action.REVIEW, Action.BLOCK, Action.CHALLENGE)
"""The actions by their level: the number that stands for one in the log, and no rank. `Action` has their order."""


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Probabilities from which a transaction is challenged, reviewed and blocked; never, where one is None.

    `challenge` is at most `review`, and that at most `block`. JSON says nothing of a challenge that there is not.
    """

    review: Share
    block: Share | None
    challenge: Share | None = None

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
        if fraud_probability >= self.review:
            return 1
        return 3 if self.challenge is not None and fraud_probability >= self.challenge else 0

    def levels(self, scores: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The same for scores (n,), uint8 (n,)."""
        levels = (scores >= self.review).astype(np.uint8)
        if self.challenge is not None:
            levels[(levels == 0) & (scores >= self.challenge)] = 3
        if self.block is not None:
            levels[scores >= self.block] = 2
        return levels

    @property
    def alarm(self) -> float:
        """The probability from which a transaction is not simply approved."""
        return self.review if self.challenge is None else self.challenge

    @property
    def begins(self) -> tuple[float, ...]:
        """The probabilities at which its actions begin."""
        return tuple(one for one in (self.challenge, self.review, self.block) if one is not None)
