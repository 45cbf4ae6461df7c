"""The features that need no memory: fields, categories, parts of the time, and ratios of other features."""

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import MISSING
from sentinel.features import layout as at
from sentinel.features.jit import entry, inlined
from sentinel.features.layout import RowPlan
from sentinel.features.table import FREE

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US


@entry
def fill_rows(
    plan: RowPlan,
    is_outcome: NDArray[np.uint8],
    time_us: NDArray[np.int64],
    exact: NDArray[np.int64],
    plain: NDArray[np.float64],
    texts: NDArray[np.uint64],
    former: NDArray[np.uint64],
    out: NDArray[np.float64],
) -> None:
    """Write the outputs that need no memory of the key, ratios of other outputs included.

    A category that is known by its former name only has the code of that; see `kernel.advance`.
    """
    row = 0
    for i in range(len(time_us)):
        if is_outcome[i]:
            continue
        for s in range(len(plan.steps)):
            how, first, second = plan.steps[s, at.STEP_HOW], plan.steps[s, at.OPERAND], plan.steps[s, at.SECOND_OPERAND]
            if how == at.ROW_EXACT:
                value = np.nan if exact[i, first] == MISSING else exact[i, first] / plan.steps[s, at.STEP_SCALE]
            elif how == at.ROW_PLAIN:
                value = plain[i, first]
            elif how == at.ROW_CATEGORY:
                value = code_of(plan, second, texts[i, first])
                if len(former) > 0 and former[i, first] != FREE and value == unknown_code(plan, second):
                    value = code_of(plan, second, former[i, first])
            elif how == at.ROW_RATIO:
                top, bottom = out[row, first], out[row, second]
                value = np.nan if bottom == 0.0 else top / bottom
            else:
                value = clock_part(how, first, time_us[i])
            out[row, plan.steps[s, at.STEP_OUTPUT]] = value
        row += 1


@inlined
def code_of(plan: RowPlan, category: int, text: np.uint64) -> float:
    """The learned code of a text; one code above them all for any other; NaN when it is missing."""
    if text == FREE:
        return np.nan
    low, high = plan.ends[category], plan.ends[category + 1]
    end = high
    while low < high:
        middle = (low + high) // 2
        if plan.known[middle] < text:
            low = middle + 1
        else:
            high = middle
    return plan.codes[low] if low < end and plan.known[low] == text else unknown_code(plan, category)


@inlined
def unknown_code(plan: RowPlan, category: int) -> float:
    """The code of a text that was not learned."""
    return float(plan.ends[category + 1] - plan.ends[category])


@inlined
def clock_part(how: int, last_hour: int, time_us: int) -> float:
    """Hour, weekday (Monday is 0), weekend or night of an instant, UTC."""
    hour = (time_us % _DAY_US) // _HOUR_US
    weekday = (time_us // _DAY_US + 3) % 7  # 1970-01-01 was a Thursday
    if how == at.ROW_HOUR:
        return float(hour)
    if how == at.ROW_WEEKDAY:
        return float(weekday)
    if how == at.ROW_WEEKEND:
        return 1.0 if weekday >= 5 else 0.0
    return 1.0 if hour <= last_hour else 0.0
