"""Derived columns, made before the kernel runs: see `derived_plan`."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import MISSING, EventColumns
from sentinel.features import derived_plan as at
from sentinel.features.derived_plan import DerivedPlan
from sentinel.features.jit import entry, inlined
from sentinel.features.search import first_from
from sentinel.features.table import FREE, mix

_SALT = np.uint64(0x6B657973)


Columns: TypeAlias = tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]
"""What the kernel reads of events: `exact`, `texts` and `former`, the derived columns included."""


def derive(plan: DerivedPlan, events: EventColumns, former: NDArray[np.uint64]) -> Columns:
    """The columns of these events, with the derived ones behind them; `former` has a row for each event, or none."""
    exact, texts = events.exact, events.texts
    if len(plan.parts):
        keys = int(plan.parts[-1, 0]) + 1
        texts, former = _widened(texts, keys), _widened(former, keys)
        mix_keys(plan, texts, former)
    if len(plan.steps):
        exact = _widened(exact, 1)
        mark_conditions(plan, exact, events.plain, events.texts)
    return exact, texts, former


def _widened(columns: NDArray[Any], more: int) -> NDArray[Any]:
    wide = np.empty((len(columns), columns.shape[1] + more), columns.dtype)
    wide[:, : columns.shape[1]] = columns
    return wide


@entry
def mix_keys(plan: DerivedPlan, texts: NDArray[np.uint64], former: NDArray[np.uint64]) -> None:
    """Fill the columns of keys of several fields: a hash of their hashes, missing where one of them is.

    A key's former name is made of what its parts were; a part that has no former name has always been what it is.
    """
    n_parts = len(plan.parts)
    begin = texts.shape[1] - (plan.parts[n_parts - 1, 0] + 1)
    for i in range(len(texts)):
        p = 0
        while p < n_parts:
            number = plan.parts[p, 0]
            name, was, is_renamed, is_whole = _SALT, _SALT, False, True
            while p < n_parts and plan.parts[p, 0] == number:
                text = texts[i, plan.parts[p, 1]]
                is_whole = is_whole and text != FREE
                name = mix(text, name)
                if len(former) > 0:
                    before = former[i, plan.parts[p, 1]]
                    is_renamed = is_renamed or before != FREE
                    was = mix(text if before == FREE else before, was)
                p += 1
            texts[i, begin + number] = name if is_whole else FREE
            if len(former) > 0:
                former[i, begin + number] = was if is_whole and is_renamed else FREE


@entry
def mark_conditions(
    plan: DerivedPlan, exact: NDArray[np.int64], plain: NDArray[np.float64], texts: NDArray[np.uint64]
) -> None:
    """Fill the last exact column with a bit for each condition that the event fulfils."""
    for i in range(len(exact)):
        bits, stack = np.int64(0), np.int64(0)
        for s in range(len(plan.steps)):
            do = plan.steps[s, at.DO]
            if do == at.STEP_STORE:
                bits |= (stack & 1) << plan.steps[s, at.COLUMN]
                stack >>= 1
            elif do == at.STEP_AND:
                stack = (stack >> 1) & (stack | ~np.int64(1))
            elif do == at.STEP_OR:
                stack = (stack >> 1) | (stack & 1)
            elif do == at.STEP_NOT:
                stack ^= 1
            else:
                stack = (stack << 1) | holds(plan, s, exact, plain, texts, i)
        exact[i, exact.shape[1] - 1] = bits


@inlined
def holds(
    plan: DerivedPlan, s: int, exact: NDArray[np.int64], plain: NDArray[np.float64], texts: NDArray[np.uint64], i: int
) -> int:
    """Whether an event fulfils a comparison: 1 or 0."""
    do, column, low, high = (
        plan.steps[s, at.DO],
        plan.steps[s, at.COLUMN],
        plan.steps[s, at.LOW],
        plan.steps[s, at.HIGH],
    )
    negated = plan.steps[s, at.NEGATED]
    if do == at.STEP_TEXT:
        text = texts[i, column]
        return 0 if text == FREE else is_among(plan, low, high, text) ^ negated
    if do == at.STEP_EXACT:
        whole = exact[i, column]
        return 0 if whole == MISSING else (1 if low <= whole <= high else 0) ^ negated
    if do == at.STEP_PLAIN:
        number = plain[i, column]
        is_between = plan.ranges[low, 0] <= number <= plan.ranges[low, 1]
        return 0 if np.isnan(number) else (1 if is_between else 0) ^ negated
    if do == at.STEP_NO_TEXT:
        return 1 if texts[i, column] == FREE else 0
    if do == at.STEP_NO_EXACT:
        return 1 if exact[i, column] == MISSING else 0
    return 1 if np.isnan(plain[i, column]) else 0


@inlined
def is_among(plan: DerivedPlan, low: int, end: int, text: np.uint64) -> int:
    """Whether a hash is one of the sorted `words` from `low` up to `end`: 1 or 0."""
    place = first_from(plan.words, low, end, text)
    return 1 if place < end and plan.words[place] == text else 0
