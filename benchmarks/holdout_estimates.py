"""How often the intervals of what a holdout estimates hold the truth, and how far off it is to look at what is known.

Simulated months in which the truth of every blocked payment is known: 40,000 payments, blocked from a score of 0.35 on,
a budget and a largest amount. Each row has another share that is held out. Argument: the number of months (1,000).
"""

import math
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from report import publish
from sentinel.policy.holdout import Holdout, Spent
from sentinel.review.held_out import BlockedEstimate, Span, estimate_blocked

HOUR_US = 3_600_000_000
FALSE_ALARM = 20.0
SHARES = {"5 %, then 20 %": (0.05, 0.2), "2 %": (0.02, 0.02), "10 %": (0.1, 0.1)}
BLOCK = 0.35


class Month(NamedTuple):
    """What is true of a month, what is estimated, and what is seen without weights.

    `share` is that of fraud among what was eligible, `of_all` that among this and what got through, `recall` how much
    of the fraud the blocks find, and `saved` what they save: the amounts of frauds, less 20 for each legitimate one.
    """

    truth: dict[str, float]
    estimates: dict[str, Span]
    naive: dict[str, float]
    blocked: BlockedEstimate


def month(seed: int, shares: tuple[float, float], payments: int = 40_000) -> Month:
    """A month whose holdout has another share in its second half, when also more of what is blocked is fraud.

    Nothing is held out above an amount of 150, nor more than 600 a day.
    """
    rng = np.random.default_rng(seed)
    scores = rng.beta(0.12, 4.0, payments)
    late = np.arange(payments) >= payments // 2
    is_fraud = rng.random(payments) < np.clip(np.where(late, 1.3, 0.7) * scores, 0, 1)
    amounts = rng.lognormal(3.5, 1.0, payments)
    times_us = np.sort(rng.integers(0, 30 * 24 * HOUR_US, payments))
    eligible, chosen, propensities = _held_out(seed, shares, late, amounts, times_us, np.flatnonzero(scores >= BLOCK))
    through = int(np.count_nonzero(scores < BLOCK))
    missed, blocked = int(is_fraud[scores < BLOCK].sum()), int(is_fraud[eligible].sum())
    values = np.where(is_fraud, amounts, -FALSE_ALARM)
    found = estimate_blocked(propensities, is_fraud[chosen], len(eligible))
    normal = estimate_total(propensities, is_fraud[chosen].astype(np.float64), 1)
    spans = {
        "share": Span(found.share or 0.0, found.low or 0.0, 1.0 if found.high is None else found.high),
        "share, Student": normal,
        "of_all": found.fraud_share(missed, through),
        "recall": found.recall(missed),
        "saved": estimate_total(propensities, values[chosen], len(eligible)),
    }
    share = float(is_fraud[eligible].mean())
    return Month(
        truth={
            "share": share,
            "share, Student": share,
            "of_all": (missed + blocked) / (through + len(eligible)),
            "recall": blocked / (blocked + missed),
            "saved": float(values[eligible].sum()),
        },
        estimates={name: span for name, span in spans.items() if span is not None},
        naive={
            "share": float(is_fraud[chosen].mean()) if len(chosen) else 0.0,
            "of_all": (missed + int(is_fraud[chosen].sum())) / (through + len(chosen)),
        },
        blocked=found,
    )


def _held_out(
    seed: int, shares: tuple[float, float], late: Any, amounts: Any, times_us: Any, blocked: Any
) -> tuple[list[int], list[int], Any]:
    """Which of the blocked could be held out, which were, and the probabilities of those."""
    holdouts = [
        Holdout(share=share, most_amount=150.0, budget_a_day=600.0, seed=f"the seed of simulation {seed}")
        for share in shares
    ]
    spent, eligible, chosen, propensities = Spent(0, 0.0), list[int](), list[int](), list[float]()
    for n in blocked.tolist():
        holdout, spent = holdouts[int(late[n])], spent.on(int(times_us[n]))
        if holdout.is_eligible(amounts[n], spent.amount):
            eligible.append(n)
            if holdout.chooses(f"payment {n}"):
                chosen.append(n)
                propensities.append(holdout.share)
                spent = spent.plus(amounts[n])
    return eligible, chosen, np.array(propensities)


def estimate_total(propensities: NDArray[np.float64], values: NDArray[np.float64], eligible: int) -> Span | None:
    """The sum of a value (n,) over all eligible ones, such as what blocking them has saved; None of fewer than two.

    With the variance of a ratio, and Student's distribution; it is too short where it hangs on few large values.
    """
    n = len(propensities)
    if n < 2:
        return None
    weights = 1.0 / propensities
    mean = float((weights * values).sum() / weights.sum())
    error = math.sqrt(float((weights**2 * (values - mean) ** 2).sum()) * n / (n - 1)) / float(weights.sum())
    reach = _t95(n - 1) * error
    return Span(eligible * mean, eligible * (mean - reach), eligible * (mean + reach))


def _t95(freedom: int) -> float:
    """How many standard errors 95 % lie within, by Student's distribution (Abramowitz and Stegun, 26.7.5).

    >>> [round(_t95(n), 3) for n in (9, 30, 1_000)]
    [2.258, 2.042, 1.962]
    """
    z = 1.959963984540054
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def coverage(months: list[Month]) -> dict[str, float]:
    """By figure, the share of the months whose interval holds the truth; no interval holds it not."""
    return {
        name: float(np.mean([_holds(one.estimates.get(name), one.truth[name]) for one in months]))
        for name in months[0].truth
    }


def _holds(span: Span | None, truth: float) -> bool:
    return span is not None and span.low <= truth <= span.high


def means(months: list[Month]) -> dict[str, dict[str, float]]:
    """Of both shares: the truth, the estimate and the naive figure, on average."""
    return {
        name: {
            "truth": float(np.mean([one.truth[name] for one in months])),
            "estimate": float(np.mean([one.estimates[name].estimate for one in months if name in one.estimates])),
            "naive": float(np.mean([one.naive[name] for one in months])),
        }
        for name in ("share", "of_all")
    }


def main() -> None:
    """Simulate, and print."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    results = {}
    for name, shares in SHARES.items():
        months = [month(seed, shares) for seed in range(n)]
        results[name] = {
            "eligible": float(np.mean([one.blocked.eligible for one in months])),
            "held_out": float(np.mean([one.blocked.held_out for one in months])),
            "coverage": coverage(months),
            "means": means(months),
        }
    publish("holdout_estimates", f"{n} simulated months a row, seeds 0 to {n - 1}", results)


if __name__ == "__main__":
    main()
