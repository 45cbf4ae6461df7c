"""The share of fraud among what was decided long enough ago to be known, against that of the training history."""

import math

import msgspec

from sentinel.record.views import LabelCounts

WINDOW_DAYS = 30
_Z95 = 1.959963984540054


class MaturedFraud(msgspec.Struct, frozen=True, kw_only=True):
    """What turned out of the decisions of 30 days whose outcomes have had time to come.

    What was blocked and has no outcome is left out: nobody knows what it would have been. Anything else without one was
    no fraud by then. `low` and `high` bound the share with 95 % confidence (Wilson); `differs` when the share of the
    training history lies outside of them.
    """

    since: str
    until: str
    decisions: int
    labelled: int
    frauds: int
    share: float | None
    low: float | None
    high: float | None
    training_share: float
    differs: bool


def matured_fraud(counts: LabelCounts, training_share: float, since: str, until: str) -> MaturedFraud:
    """The share of fraud in these counts beside that of the training history."""
    n = counts.decisions - counts.blocked_without_outcome
    low, high = wilson(counts.frauds, n) if n else (None, None)
    return MaturedFraud(
        since=since,
        until=until,
        decisions=n,
        labelled=counts.labelled,
        frauds=counts.frauds,
        share=counts.frauds / n if n else None,
        low=low,
        high=high,
        training_share=training_share,
        differs=low is not None and high is not None and not low <= training_share <= high,
    )


def wilson(hits: float, n: float) -> tuple[float, float]:
    """Wilson's interval of a share (1927): it holds for few hits too, where the normal one reaches below zero.

    >>> [round(one, 4) for one in wilson(0, 100)], [round(one, 4) for one in wilson(50, 100)]
    ([0.0, 0.037], [0.4038, 0.5962])
    """
    share, z2 = hits / n, _Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = _Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)
