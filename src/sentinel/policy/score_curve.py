"""The score curve: how many frauds and others, and how much money, lie at or above each score.

It is a few hundred numbers, and all that is needed to say what any thresholds would have done.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.policy.costs import Costs
from sentinel.policy.sample import Sample
from sentinel.policy.thresholds import Action, Thresholds

MOST_POINTS = 300


class Consequences(msgspec.Struct, frozen=True, kw_only=True):
    """What thresholds do with a sample.

    - `cost`: what all of it costs, and `cost_a_day`; `saved`: how much less than to approve everything.
    - `precision` (None without an alarm), `recall` (None without a fraud), `f1`: an alarm is any action but approve.
    - `challenges_a_day`, `reviews_a_day`, `blocks_a_day`: on average, transactions without an outcome included.
    """

    thresholds: Thresholds
    cost: float
    cost_a_day: float
    saved: float
    precision: float | None
    recall: float | None
    f1: float | None
    challenges_a_day: float
    reviews_a_day: float
    blocks_a_day: float


class ScoreCurve(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a sample, at `points` (k,), ascending from 0: how many `frauds` (k,) and `others` (k,) score as much or more.

    `fraud_amounts` (k,) is what those frauds come to. `days` is how long the sample is, and each of it stands for
    `a_day` transactions a day. Between two points the upper one counts.
    """

    points: tuple[float, ...]
    frauds: tuple[int, ...]
    others: tuple[int, ...]
    fraud_amounts: tuple[float, ...]
    days: float
    a_day: float

    @classmethod
    def of(cls, sample: Sample, exactly_at: Sequence[float] = ()) -> "ScoreCurve":
        """The curve at these scores, and at up to 300 more that separate the transactions at the upper end best."""
        scores, is_fraud = sample.scores.astype(np.float64), sample.labels == 1
        points = np.union1d(_points(scores, is_fraud), [0.0, *exactly_at])
        order = np.argsort(scores)
        places = np.searchsorted(scores[order], points)
        frauds, others, amounts = (
            _from_above(one[order].astype(np.float64), places)
            for one in (is_fraud, ~is_fraud, np.where(is_fraud, sample.amounts, 0.0))
        )
        return cls(
            points=tuple(points.tolist()),
            frauds=tuple(map(int, frauds)),
            others=tuple(map(int, others)),
            fraud_amounts=tuple(amounts.tolist()),
            days=sample.days,
            a_day=sample.a_day,
        )

    def consequences(self, thresholds: Thresholds, costs: Costs) -> Consequences:
        """What these thresholds do, and what it costs."""
        begins = (0.0, thresholds.alarm, thresholds.review, thresholds.block)
        above = np.array([[0.0] * 3 if one is None else self._at(one) for one in begins] + [[0.0] * 3])
        frauds, others, amounts = (above[:-1] - above[1:]).T  # of each action, from the mildest on
        totals = costs.totals(frauds, others, amounts)
        cost = float(sum(totals[action][place] for place, action in enumerate(Action)))
        nothing_done = float(costs.totals(above[:1, 0], above[:1, 1], above[:1, 2])[Action.APPROVE][0])
        caught, alarms, of = above[1, 0], above[1, 0] + above[1, 1], above[0, 0]
        loads = (frauds + others) * self.a_day
        return Consequences(
            thresholds=thresholds,
            cost=cost,
            cost_a_day=cost / self.days,
            saved=nothing_done - cost,
            precision=float(caught / alarms) if alarms else None,
            recall=float(caught / of) if of else None,
            f1=float(2 * caught / (alarms + of)) if alarms + of else None,
            challenges_a_day=float(loads[1]),
            reviews_a_day=float(loads[2]),
            blocks_a_day=float(loads[3]),
        )

    def sweep(self, thresholds: Thresholds, moved: Action, costs: Costs) -> list[Consequences]:
        """The same with one of the thresholds at each point in turn; the milder or harsher ones give way to it."""
        return [self.consequences(_with(thresholds, moved, point), costs) for point in self.points]

    def _at(self, threshold: float) -> tuple[float, float, float]:
        place = int(np.searchsorted(self.points, threshold))
        if place == len(self.points):
            return 0.0, 0.0, 0.0
        return self.frauds[place], self.others[place], self.fraud_amounts[place]


def _with(thresholds: Thresholds, moved: Action, at: float) -> Thresholds:
    review, block, challenge = thresholds.review, thresholds.block, thresholds.challenge
    if moved is Action.CHALLENGE:
        review, block, challenge = max(review, at), None if block is None else max(block, at), at
    elif moved is Action.REVIEW:
        review, block, challenge = (
            at, None if block is None else max(block, at), None if challenge is None else min(challenge, at)
        )  # fmt: skip
    else:
        review, block, challenge = min(review, at), at, None if challenge is None else min(challenge, at)
    return Thresholds(review, block, challenge)


def _points(scores: NDArray[np.float64], is_fraud: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The distinct scores; of many those of evenly chosen frauds, and of others ever closer to the top."""
    distinct = np.unique(scores)
    if len(distinct) <= MOST_POINTS:
        return distinct
    frauds, others = np.unique(scores[is_fraud]), np.sort(scores[~is_fraud])[::-1]
    of_frauds = frauds[np.linspace(0, len(frauds) - 1, min(len(frauds), MOST_POINTS // 2)).astype(int)]
    ranks = np.unique(np.geomspace(1, len(others), MOST_POINTS // 2).astype(int)) - 1
    return np.union1d(of_frauds, others[ranks])


def _from_above(values: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum of the values from each place to the end."""
    return np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])[places]
