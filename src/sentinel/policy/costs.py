"""What decisions cost: the money behind a threshold."""

import math
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition
from sentinel.policy.thresholds import Action, Share

Floats = NDArray[np.float64]
Money = Annotated[float, msgspec.Meta(ge=0.0)]


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What each decision costs, in the currency of the amounts. The defaults are round figures: put your own in.

    - `missed_fraud_share`: the share of its amount that a fraud costs which goes through, `missed_fraud` what it costs
      besides, whatever its amount (the fee of a chargeback).
    - `false_alarm`: a legitimate transaction that is turned away.
    - `review`: a look by an analyst, who is taken to tell fraud from the rest.
    - `challenge`: asking for proof. Of legitimate customers the share `challenge_lost` gives up, which costs a false
      alarm; of frauds the share `challenge_stops` is stopped, the rest is missed.

    Approving what is legitimate, and blocking what is fraud, costs nothing.

    >>> Costs(review=2.0).losses(np.array([1, 0]), np.array([80.0, 25.0]))[Action.REVIEW].tolist()
    [2.0, 2.0]
    """

    missed_fraud_share: Share = 1.0
    missed_fraud: Money = 0.0
    false_alarm: Money = 10.0
    review: Money = 2.0
    challenge: Money = 0.1
    challenge_lost: Share = 0.05
    challenge_stops: Share = 0.9

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value, is_share = getattr(self, name), name in _SHARES
            if not 0.0 <= value <= (1.0 if is_share else math.inf) or math.isinf(value):
                raise InvalidDefinition(
                    f"costs: {name} is {value}; give {'a share from 0 to 1' if is_share else 'an amount of at least 0'}"
                )
        if self.missed_fraud_share == self.missed_fraud == 0.0:
            raise InvalidDefinition("costs: a missed fraud costs nothing; give missed_fraud_share or missed_fraud")

    def losses(self, labels: NDArray[np.int8], amounts: Floats) -> dict[Action, Floats]:
        """What each action costs for transactions with these labels (n,), 1 is fraud, and amounts (n,): (n,) each."""
        is_fraud = (labels == 1).astype(np.float64)
        return self.totals(is_fraud, 1 - is_fraud, amounts * is_fraud)

    def totals(self, frauds: Floats, others: Floats, fraud_amounts: Floats) -> dict[Action, Floats]:
        """The same for groups of them: how many frauds and others are in each, and what the frauds come to."""
        missed = self.missed_fraud_share * fraud_amounts + self.missed_fraud * frauds
        lost = self.challenge_lost * self.false_alarm * others
        return {
            Action.APPROVE: missed,
            Action.CHALLENGE: self.challenge * (frauds + others) + (1 - self.challenge_stops) * missed + lost,
            Action.REVIEW: self.review * (frauds + others),
            Action.BLOCK: self.false_alarm * others,
        }


_SHARES = ("missed_fraud_share", "challenge_lost", "challenge_stops")
