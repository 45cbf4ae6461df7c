"""What was blocked, estimated from the few that were approved instead: by their propensities, with an interval.

Of N transactions that could have been held out each was approved with a known probability, whatever it was. So those
that were approved stand for all of them, each for 1 / probability (Horvitz and Thompson 1952; divided by the sum of the
weights: Hajek 1971). The draws are independent, so the payments of one card need no care of their own.
"""

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.review.matured_fraud import wilson


class Span(msgspec.Struct, frozen=True):
    """An estimate, and its interval of 95 %."""

    estimate: float
    low: float
    high: float


class BlockedEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of `eligible` transactions that a model would have turned away, from `held_out` of them.

    `share` of them is fraud, between `low` and `high` with 95 % confidence: that is the precision of turning them away.
    All are None where none was held out. `effective` is for how many held out with equal weights those stand.
    """

    eligible: int
    held_out: int
    frauds_held_out: int
    effective: float
    share: float | None = None
    low: float | None = None
    high: float | None = None

    def fraud_share(self, frauds: int, others: int) -> Span | None:
        """The share of fraud among these and `others` transactions with so many known `frauds`."""
        return self._with(lambda share: (frauds + share * self.eligible) / max(others + self.eligible, 1))

    def recall(self, frauds: int) -> Span | None:
        """The share of all frauds that turning these away finds, where `frauds` got through or were found otherwise."""

        def found(share: float) -> float:
            blocked = share * self.eligible
            return blocked / (blocked + frauds) if blocked + frauds else 0.0

        return self._with(found)

    def _with(self, figure: Callable[[float], float]) -> Span | None:
        """A figure that grows with the share, and its interval."""
        if self.share is None or self.low is None or self.high is None:
            return None
        return Span(figure(self.share), figure(self.low), figure(self.high))


def estimate_blocked(propensities: NDArray[np.float64], is_fraud: NDArray[np.bool_], eligible: int) -> BlockedEstimate:
    """From those that were held out, their probabilities of that in (0, 1] and what they were, both (n,).

    The interval is Wilson's for as many as Kish's effective size of the sample: it holds for few held out, and few
    frauds among them, where one of the normal distribution is too short.
    """
    n, frauds = len(propensities), int(np.count_nonzero(is_fraud))
    if n == 0:
        return BlockedEstimate(eligible=eligible, held_out=0, frauds_held_out=0, effective=0.0)
    weights = 1.0 / propensities
    share = float(weights[is_fraud].sum() / weights.sum())
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    low, high = wilson(share * effective, effective)
    return BlockedEstimate(
        eligible=eligible, held_out=n, frauds_held_out=frauds, effective=effective, share=share, low=low, high=high
    )
