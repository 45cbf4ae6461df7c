"""The features that need no memory: fields, categories, parts of the time, and what is made of other features."""

import math

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import MISSING, TRANSACTION
from sentinel.features import layout as at
from sentinel.features.jit import entry, inlined
from sentinel.features.layout import RowPlan
from sentinel.features.search import first_from
from sentinel.features.table import FREE

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_TURN = 2.0 * math.pi


@entry
def fill_rows(
    plan: RowPlan,
    kinds: NDArray[np.uint8],
    time_us: NDArray[np.int64],
    exact: NDArray[np.int64],
    plain: NDArray[np.float64],
    texts: NDArray[np.uint64],
    former: NDArray[np.uint64],
    out: NDArray[np.float64],
) -> None:
    """Write the outputs that need no memory of the key, those made of other outputs included.

    A category that is known by its former name only has the code of that; see `kernel.advance`.
    """
    row = 0
    for i in range(len(time_us)):
        if kinds[i] != TRANSACTION:
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
            elif how == at.ROW_BETWEEN:
                begin, end = instant(first, time_us, exact, i), instant(second, time_us, exact, i)
                value = np.nan if begin == MISSING or end == MISSING else (end - begin) / 1e6
            elif how == at.ROW_DIFFERENCE:
                value = out[row, first] - out[row, second]
            elif how == at.ROW_ROUND:
                is_round = exact[i, first] % plan.steps[s, at.STEP_SCALE] == 0
                value = np.nan if exact[i, first] == MISSING else 1.0 if is_round else 0.0
            elif how == at.ROW_SINE or how == at.ROW_COSINE:
                angle = out[row, first] / plan.periods[second] * _TURN
                value = math.sin(angle) if how == at.ROW_SINE else math.cos(angle)
            else:
                value = clock_part(how, first, local_time(plan, second, time_us[i]))
            out[row, plan.steps[s, at.STEP_OUTPUT]] = value
        row += 1


@inlined
def instant(column: int, time_us: NDArray[np.int64], exact: NDArray[np.int64], i: int) -> int:
    """A further time of an event, or when it happened where `column` is NONE; microseconds."""
    found: int = time_us[i] if column == at.NONE else exact[i, column]
    return found


@inlined
def code_of(plan: RowPlan, category: int, text: np.uint64) -> float:
    """The learned code of a text; one code above them all for any other; NaN when it is missing."""
    if text == FREE:
        return np.nan
    end = plan.table_ends[category + 1]
    place = first_from(plan.table_keys, plan.table_ends[category], end, text)
    is_known = place < end and plan.table_keys[place] == text
    return plan.table_values[place] if is_known else unknown_code(plan, category)


@inlined
def local_time(plan: RowPlan, zone: int, time_us: int) -> int:
    """An instant by the clocks of a time zone, whose first offset holds from the beginning on."""
    if zone == at.NONE:
        return time_us
    begin, end = plan.table_ends[zone], plan.table_ends[zone + 1]
    place = first_from(plan.table_keys, begin, end, np.uint64(max(time_us, 0) + 1)) - 1
    offset: int = plan.table_values[max(place, begin)]
    return time_us + int(offset)


@inlined
def unknown_code(plan: RowPlan, category: int) -> float:
    """The code of a text that was not learned."""
    return float(plan.table_ends[category + 1] - plan.table_ends[category])


@inlined
def clock_part(how: int, last_hour: int, time_us: int) -> float:
    """Hour, weekday (Monday is 0), weekend, night or hours since midnight of an instant."""
    if how == at.ROW_TIME_OF_DAY:
        return (time_us % _DAY_US) / _HOUR_US
    hour = (time_us % _DAY_US) // _HOUR_US
    weekday = (time_us // _DAY_US + 3) % 7  # 1970-01-01 was a Thursday
    if how == at.ROW_HOUR:
        return float(hour)
    if how == at.ROW_WEEKDAY:
        return float(weekday)
    if how == at.ROW_WEEKEND:
        return 1.0 if weekday >= 5 else 0.0
    return 1.0 if hour <= last_hour else 0.0
