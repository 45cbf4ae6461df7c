"""How far two samples of one distribution may lie apart: the bounds that drift is measured against.

`alpha` is the chance, at most, that a bound is exceeded when nothing differs; n and m are the sizes of the samples.
"""

import math

import numpy as np

from sentinel.model.reference import Counts
from sentinel.review.special_functions import chi2_quantile, lambert_below, relative_entropy

LEAST_EXPECTED = 10.0  # rows that each bin of the PSI expects; smaller bins are pooled


def mean_threshold(alpha: float, n: int, m: int, reach: float) -> float:
    """Bound of |z| for two samples of n and m values that lie at most `reach` standard deviations off the mean."""
    evidence = math.log(2.0 / alpha)
    slope = evidence * reach / (3.0 * min(n, m) * math.sqrt(1.0 / n + 1.0 / m))
    return slope + math.sqrt(slope * slope + 2.0 * evidence)


def ks_threshold(alpha: float, n: int, m: int) -> float:
    """Bound of the two-sample distance."""
    return math.sqrt(math.log(2.0 / alpha) / 2.0 * (1.0 / n + 1.0 / m))


def psi(live: Counts, base: Counts) -> float:
    """Population stability index of two counts over the same bins, half a row added to every bin.

    >>> round(psi(np.array([30, 70]), np.array([50, 50])), 3)
    0.166
    """
    q = (live + 0.5) / (live.sum() + 0.5 * len(live))
    p = (base + 0.5) / (base.sum() + 0.5 * len(base))
    return float(((q - p) * np.log(q / p)).sum())


def psi_threshold(alpha: float, n: int, base: Counts) -> float:
    """Bound of the PSI of n live rows against the bins of `base`, two or more.

    Far in the tail the PSI exceeds its chi2 limit, as bins that run empty weigh more than they should. The
    likelihood ratio G keeps to the limit, and in each bin the PSI is at most some multiple of G, largest where
    all of the evidence is one bin's shortfall. The bound is the quantile of chi2 times that multiple.
    """
    m = int(base.sum())
    effective = 1.0 / (1.0 / n + 1.0 / m)
    expected = effective * base / m
    limit = chi2_quantile(len(base) - 1, alpha)
    evidence = np.minimum(limit, 2.0 * expected)
    # The share of its expected rows that is left in a bin when its G is `evidence`: r ln r - r + 1 = G / 2e.
    inner = np.minimum((evidence / (2.0 * expected) - 1.0) / math.e, 0.0)
    left = np.array([math.exp(lambert_below(one) + 1.0) if one < -1e-300 else 0.0 for one in inner.tolist()]) * expected
    weighed = (expected - left) * np.log((expected + 0.5) / (left + 0.5))
    return limit * max(1.0, float((weighed / evidence).max())) / effective


def share_evidence(x: int, n: int, y: int, m: int) -> float:
    """Nats against x of n and y of m being draws of one population: a bound of -ln of either one-sided p-value."""
    pooled = (x + y) / (n + m)
    return max(
        size * (relative_entropy(q, pooled) + relative_entropy(1 - q, 1 - pooled))
        for q, size in ((x / n, n), (y / m, m))
    )


def pool(base: Counts, live: Counts) -> tuple[Counts, Counts]:
    """Both counts with the smallest bins of `base` put together until each expects LEAST_EXPECTED rows.

    Rows of both samples count, 1 / (1/live + 1/base) of them: next to a large base that is the live ones.
    """
    order = np.argsort(base, kind="stable")
    expected = base[order] * (live.sum() / (live.sum() + base.sum()))
    small = int((expected < LEAST_EXPECTED).sum())
    if small == 0:
        return base, live
    last = max(small, int(np.searchsorted(np.cumsum(expected), LEAST_EXPECTED)) + 1)
    starts = np.array([0, *range(last, len(base))])
    return np.add.reduceat(base[order], starts), np.add.reduceat(live[order], starts)
