"""How long frauds take to become known, from those that are known by now.

What is known by now is a biased sample: of a transaction of yesterday only what took less than a day can be known. The
delays are truncated on the right by the age of their transaction, and the estimate allows for that: the product-limit
estimate in reverse time (Lagakos, Barraj and De Gruttola, Nonparametric analysis of truncated survival data, with
application to AIDS, Biometrika 75, 1988; Kalbfleisch and Lawless, JASA 84, 1989). It is the distribution of the delay
among frauds that become known within the longest age that was seen.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

FEWEST = 20
"""Known frauds: of fewer nothing is estimated."""

MATURE = 0.95
"""A transaction is old enough to be called legitimate when so large a share of frauds would be known."""

ASSUMED_US = 30 * 86_400_000_000
"""The delay where too few frauds are known to tell."""


class LabelDelay(msgspec.Struct, frozen=True):
    """The delay of labels: microseconds within which each share of frauds becomes known.

    `mature_us` is the age from which on silence means no fraud: that of the share `MATURE`, or `ASSUMED_US` where
    `frauds`, those that were looked at, are fewer than `FEWEST` (`is_assumed`). `naive_us` is the same quantile without
    regard to truncation. `longest_us` is the greatest age of a known fraud's transaction: nothing is known of what
    takes longer.
    """

    frauds: int
    is_assumed: bool
    mature_us: int
    naive_us: int | None
    longest_us: int
    quantiles: dict[str, int]


def estimate_delay(
    delays_us: Sequence[int] | NDArray[np.int64], ages_us: Sequence[int] | NDArray[np.int64]
) -> LabelDelay:
    """The delay from frauds that became known `delays_us` after their transactions, which are `ages_us` old now.

    Both (n,), with 0 <= delay <= age.
    """
    delays, ages = np.asarray(delays_us, np.int64), np.asarray(ages_us, np.int64)
    if len(delays) < FEWEST:
        return LabelDelay(len(delays), True, ASSUMED_US, None, int(ages.max(initial=0)), {})
    steps, known = known_within(delays, ages)
    shares = {f"{share:.0%}": quantile(steps, known, share) for share in (0.5, 0.8, 0.9, MATURE, 0.99)}
    naive = int(np.quantile(delays, MATURE, method="inverted_cdf"))
    mature = shares[f"{MATURE:.0%}"]
    return LabelDelay(len(delays), False, mature, naive, int(ages.max()), shares)


def known_within(delays: NDArray[np.int64], ages: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The distribution of the delay: its steps (k,), ascending, and the share that is known within each of them (k,).

    At risk at a step u, in reverse time, are those with delay <= u <= age. Where at some step all at risk have that
    very delay, nothing says how much lies below it: what does counts as nothing then.

    >>> steps, known = known_within(np.array([1, 2, 2, 4]), np.array([9, 9, 9, 9]))
    >>> steps.tolist(), known.tolist()
    ([1, 2, 4], [0.25, 0.75, 1.0])
    """
    steps, counts = np.unique(delays, return_counts=True)
    begun = np.searchsorted(np.sort(delays), steps, side="right")
    ended = np.searchsorted(np.sort(ages), steps, side="left")
    hazard = counts / (begun - ended)
    above = np.concatenate([np.cumprod((1.0 - hazard)[::-1])[::-1][1:], [1.0]])
    return steps, above


def quantile(steps: NDArray[np.int64], known: NDArray[np.float64], share: float) -> int:
    """The first step within which at least this share is known."""
    place = int(np.searchsorted(known, share - 1e-12))
    return int(steps[min(place, len(steps) - 1)])
