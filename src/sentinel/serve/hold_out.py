"""Holding out: of what a model would turn away, a declared share is approved, within a day's budget."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from sentinel.policy.holdout import Spent
from sentinel.policy.thresholds import ACTIONS, Action
from sentinel.record.entries import Drawn
from sentinel.serve.batch import Batch, Group
from sentinel.serve.lineup import Lineup

_WORDS = tuple(map(str, ACTIONS))
_APPROVE = ACTIONS.index(Action.APPROVE)


def hold_out(batch: Batch, lineup: Lineup, spent: Spent, amount_of: Callable[[Any], float]) -> Spent:
    """Draw what of a judged batch is approved instead; what the day has spent with it.

    The batch notes each that was eligible (`drawn`). What rules decided, or `on_fault`, is never held out, and
    neither is what a rule in force could decide, or a front has answered.
    """
    ruled = {one.place for one in batch.ruled if one.acted}
    for group in batch.groups:
        holdout = lineup.contender(group.decider.variant or "a").bundle.holdout
        if holdout is None or group.decider.degraded is not None:
            continue
        among = np.isin(group.levels, [ACTIONS.index(action) for action in holdout.actions])
        for row in np.flatnonzero(among).tolist():
            place = _place(group, row)
            if place in ruled or place in batch.given:
                continue
            amount = amount_of(batch.events[place])
            if not holdout.is_eligible(amount, spent.amount):
                continue
            is_approved = holdout.chooses(batch.ids[place])
            batch.drawn.append(Drawn(place, int(group.levels[row]), holdout.share, is_approved))
            if is_approved:
                group.levels[row] = _APPROVE
                spent = spent.plus(amount)
    return spent


def _place(group: Group, row: int) -> int:
    """Where in the batch a row of a group is."""
    return row if isinstance(group.where, slice) else int(group.where[row])


def say_held_out(batch: Batch) -> None:
    """Have the answers say which were held out, and what they would have been."""
    for one in batch.drawn:
        if one.is_approved:
            batch.answers[one.place] = msgspec.structs.replace(
                batch.answers[one.place], holdout=True, would_be=_WORDS[one.level]
            )
