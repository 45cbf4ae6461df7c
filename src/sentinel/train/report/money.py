"""What it costs, and what analysts can bear: cost and capacity against the number of alarms."""

from collections.abc import Iterator

import numpy as np

from sentinel.policy.costs import Costs
from sentinel.policy.thresholds import Thresholds
from sentinel.train.figures.costs import cost_curve
from sentinel.train.report.curves import CALM, GREEN, Axis, Curve, Mark, plot
from sentinel.train.report.quality import ranked
from sentinel.train.rows.measured import Measured

_DAY_US = 86_400_000_000
_MOST_COST = 1.5
"""Up to where the cost is drawn, as a share of that without a model."""


def cost_and_capacity(measured: Measured, thresholds: Thresholds, costs_of_each: Costs) -> Iterator[str]:
    """Two curves over alarms a day: the cost as a share of that without a model, and what is found among them.

    Whatever raises an alarm is blocked, in the left one.
    """
    scores, labels = measured.scores, measured.labels
    days = max((int(measured.time_us[-1]) - int(measured.time_us[0])) / _DAY_US, 1 / 24)
    falling, costs = cost_curve(scores, labels, measured.amounts, costs_of_each)
    ascending = np.sort(scores)
    alarms = (len(scores) - np.searchsorted(ascending, falling.astype(np.float32))) / days
    alarms[0] = 0.0
    share = costs / max(costs[0], 1e-9)
    low = 1 / days if days > 1 else 1.0
    axis = Axis("alarms a day", min(low, 1.0), max(float(alarms[-1]), 10.0), is_log=True)
    own = float(np.count_nonzero(scores >= thresholds.review)) / days
    best = int(np.argmin(share))
    at_own = int(np.searchsorted(alarms, own))
    marks = [Mark(f"least: {share[best]:.0%}", float(alarms[best]), float(share[best]), GREEN, alarms[best] <= own)]
    marks.append(Mark(f"review: {share[at_own]:.0%}", own, float(share[at_own]), is_left=own < alarms[best]))
    recall, precision = ranked(scores, labels)
    yield "<h2>Cost and capacity</h2><div class='two'>"
    shown = slice(0, int(np.flatnonzero(share <= _MOST_COST)[-1]) + 2)
    height = Axis("cost, 1 is without a model", 0, _MOST_COST)
    yield plot([Curve("cost", alarms[shown], share[shown])], axis, height, marks)
    curves = [Curve("recall", alarms[1:], recall, CALM), Curve("precision", alarms[1:], precision, GREEN)]
    found = float(np.mean(scores[labels == 1] >= thresholds.review))
    yield plot(curves, axis, Axis("share", 0, 1), [Mark("review", own, found)])
    missed = f"{costs_of_each.missed_fraud_share:.0%} of its amount"
    fixed = f" and {costs_of_each.missed_fraud:g}" if costs_of_each.missed_fraud else ""
    yield f"</div><p>Left: all alarms are blocked. A fraud that is let through costs {missed}{fixed}, a legitimate "
    yield f"payer who is turned away {costs_of_each.false_alarm:g}. "
    yield f"The least cost is at a score of {falling[best]:.5f}, {alarms[best]:,.1f} alarms a day; review begins at "
    yield f"{thresholds.review:.5f}, {own:,.1f} a day. Right: what is found, and what share of the alarms is right, "
    yield "when so many a day can be looked at.</p>"
