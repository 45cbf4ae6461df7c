"""What if something else had been in force: actions, money and work, beside what was decided."""

from collections.abc import Mapping
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.policy.costs import Costs
from sentinel.policy.sample import DAY_US
from sentinel.policy.thresholds import ACTIONS, Action, Thresholds
from sentinel.review.past_scores import PastScores


class Day(msgspec.Struct, frozen=True):
    """How many transactions got each action on one day (UTC)."""

    date: str
    challenge: int
    review: int
    block: int


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """One way to decide the transactions of a period.

    `decisions` is how many got each action. The rest is of those whose outcome and amount are known: `caught` and
    `missed` frauds and `false_alarms`, where an alarm is any action but approve, and what it cost together. `busiest`
    is the day with the most reviews.
    """

    decisions: dict[str, int]
    caught: int
    missed: int
    false_alarms: int
    precision: float | None
    recall: float | None
    cost: float
    busiest: Day
    days: list[Day]


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided in a period, and what else would have been decided of the same transactions.

    - `transactions`, `judged`: how many, and of how many of them outcome and amount are known.
    - `moved`: action then -> action otherwise -> how many; `moved_frauds` the known frauds among them.
    - `blocked_unknown`: how many were blocked and have no outcome. Of what was blocked or challenged it is rarely
      known whether it was fraud, so what milder decisions would have cost is told from those where it is.
    """

    version: str
    since: str
    until: str
    costs: Costs
    transactions: int
    judged: int
    frauds: int
    blocked_unknown: int
    was: Decided
    would_be: Decided
    moved: dict[str, dict[str, int]]
    moved_frauds: dict[str, dict[str, int]]

    @classmethod
    def of(
        cls, past: PastScores, version: str, period: tuple[str, str], levels: NDArray[np.uint8], costs: Costs,
        **more: Any,
    ) -> Self:  # fmt: skip
        """What was decided beside these levels (n,)."""
        fraud = past.judged & (past.labels == 1)
        blocked = past.levels == ACTIONS.index(Action.BLOCK)
        return cls(
            version=version,
            since=period[0],
            until=period[1],
            costs=costs,
            transactions=len(past.scores),
            judged=int(np.count_nonzero(past.judged)),
            frauds=int(np.count_nonzero(fraud)),
            blocked_unknown=int(np.count_nonzero(blocked & ~past.judged)),
            was=decided_so(past, past.levels, costs),
            would_be=decided_so(past, levels, costs),
            moved=_moved(past.levels, levels),
            moved_frauds=_moved(past.levels[fraud], levels[fraud]),
            **more,
        )


class WhatIf(Against, frozen=True, kw_only=True):
    """What these thresholds would have decided from the same scores."""

    thresholds: Thresholds


def what_if(past: PastScores, version: str, period: tuple[str, str], thresholds: Thresholds, costs: Costs) -> WhatIf:
    """What these thresholds would have done with what was scored in a period; rules are left out, then and now."""
    past = past._replace(levels=past.own_levels)
    return WhatIf.of(past, version, period, thresholds.levels(past.scores), costs, thresholds=thresholds)


def decided_so(past: PastScores, levels: NDArray[np.uint8], costs: Costs) -> Decided:
    """What comes of deciding the transactions of a period by these levels (n,)."""
    known = past.judged
    alarm, fraud = levels[known] != 0, past.labels[known] == 1
    caught, missed, false_alarms = (
        int(np.count_nonzero(one)) for one in (alarm & fraud, ~alarm & fraud, alarm & ~fraud)
    )
    days = _days(past.received_us, levels)
    return Decided(
        decisions=_counts(levels),
        caught=caught,
        missed=missed,
        false_alarms=false_alarms,
        precision=caught / (caught + false_alarms) if caught + false_alarms else None,
        recall=caught / (caught + missed) if caught + missed else None,
        cost=_cost(costs.losses(past.labels[known], past.amounts[known]), levels[known]),
        busiest=max(days, key=lambda day: day.review),
        days=days,
    )


def _cost(losses: Mapping[Action, NDArray[np.float64]], levels: NDArray[np.uint8]) -> float:
    return float(sum(losses[action][levels == level].sum() for level, action in enumerate(ACTIONS)))


def _counts(levels: NDArray[np.uint8]) -> dict[str, int]:
    found = np.bincount(levels, minlength=len(ACTIONS)).tolist()
    return {str(action): found[ACTIONS.index(action)] for action in Action}


def _moved(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> dict[str, dict[str, int]]:
    return {str(action): _counts(after[before == ACTIONS.index(action)]) for action in Action}


def _days(received_us: NDArray[np.int64], levels: NDArray[np.uint8]) -> list[Day]:
    """Every day of the period that has a transaction."""
    days, of = np.unique(received_us // DAY_US, return_inverse=True)
    counted = np.zeros((len(days), len(ACTIONS)), np.int64)
    np.add.at(counted, (of, levels), 1)
    dates = np.datetime_as_string(days.astype("datetime64[D]")).tolist()
    columns = [counted[:, ACTIONS.index(one)].tolist() for one in (Action.CHALLENGE, Action.REVIEW, Action.BLOCK)]
    return [Day(*row) for row in zip(dates, *columns, strict=True)]
