"""What a window keeps: how an event enters and leaves it, and how an output is read. Part of the kernel."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import MISSING, NO_TEXT
from sentinel.features import layout as at
from sentinel.features.exact import LOG_UNITS, add, magnitude, multiply, subtract, times_log, variance_numerator
from sentinel.features.jit import entry, inlined
from sentinel.features.layout import GroupPlan
from sentinel.features.state import GroupState
from sentinel.features.table import VALUE, Table, hash_of, is_free, locate, mix, put, remove


@inlined
def is_of(plan: GroupPlan, state: GroupState, window: int, event: int) -> bool:
    """Whether an event fulfils the condition of a window."""
    if plan.bits_cell == 0:
        return True
    condition = plan.windows[window, at.CONDITION]
    return condition == at.NONE or (state.events[event + plan.bits_cell] >> condition) & 1 == 1


@inlined
def enter(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], window: int, event: int) -> None:
    """Add an event to a window's aggregates."""
    events = state.events
    cells[plan.windows[window, at.WINDOW_CELL]] += 1  # how many are inside: the low bits
    for a in range(plan.windows[window, at.FIRST], plan.windows[window, at.END]):
        kind, cell, links = plan.aggregates[a, at.KIND], plan.aggregates[a, at.CELL], plan.aggregates[a, at.LINKS]
        value = events[event + plan.aggregates[a, at.FIELD]]
        if kind == at.FRAUDS:
            cells[cell] += 1 if value == 1 else 0
        elif kind >= at.COUNTED:
            salt, key = plan.aggregates[a, at.SALT], cells[at.KEY_HASH]
            if value == NO_TEXT:
                continue
            if kind == at.DISTINCT:
                cells[cell] += 1 if count_value(state.values, salt, key, value) == 1 else 0
            else:
                cells[cell] = enter_mixture(state.values, kind, salt, key, cells[cell], value)
        elif kind == at.TEXTS:
            cells[cell] += 1 if value != NO_TEXT else 0
        elif value == MISSING:
            continue
        elif kind == at.VALUES:
            cells[cell] += 1
        elif kind == at.SUM:
            cells[cell] += value
        elif kind == at.SQUARES:
            square = multiply(magnitude(value), magnitude(value))
            high, low = add(np.uint64(cells[cell]), np.uint64(cells[cell + 1]), square[0], square[1])
            cells[cell], cells[cell + 1] = np.int64(high), np.int64(low)
        else:
            push_extreme(events, cells, kind, cell, plan.aggregates[a, at.FIELD], links, event)


@inlined
def leave(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], window: int, event: int) -> None:
    """Take an event out of a window's aggregates."""
    events = state.events
    cells[plan.windows[window, at.WINDOW_CELL]] -= 1
    for a in range(plan.windows[window, at.FIRST], plan.windows[window, at.END]):
        kind, cell, links = plan.aggregates[a, at.KIND], plan.aggregates[a, at.CELL], plan.aggregates[a, at.LINKS]
        value = events[event + plan.aggregates[a, at.FIELD]]
        if kind == at.FRAUDS:
            cells[cell] -= 1 if value == 1 else 0
        elif kind >= at.COUNTED:
            salt, key = plan.aggregates[a, at.SALT], cells[at.KEY_HASH]
            if value == NO_TEXT:
                continue
            if kind == at.DISTINCT:
                cells[cell] -= 1 if uncount_value(state.values, salt, key, value) == 0 else 0
            else:
                cells[cell] = leave_mixture(state.values, kind, salt, key, cells[cell], value)
        elif kind == at.TEXTS:
            cells[cell] -= 1 if value != NO_TEXT else 0
        elif value == MISSING:
            continue
        elif kind == at.VALUES:
            cells[cell] -= 1
        elif kind == at.SUM:
            cells[cell] -= value
        elif kind == at.SQUARES:
            square = multiply(magnitude(value), magnitude(value))
            high, low = subtract(np.uint64(cells[cell]), np.uint64(cells[cell + 1]), square[0], square[1])
            cells[cell], cells[cell + 1] = np.int64(high), np.int64(low)
        elif cells[cell] == event:
            pop_extreme(events, cells, cell, links)


@inlined
def read_window(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], o: int) -> float:
    """One output of a window; NaN where there is nothing to say."""
    how, cell, scale = plan.outputs[o, at.HOW], plan.outputs[o, at.OF_CELL], plan.outputs[o, at.SCALE]
    n: Any = inside(cells, plan.outputs[o, at.OF_WINDOW])
    if how == at.OUT_COUNT:
        return float(n)
    if how == at.OUT_DISTINCT or how == at.OUT_FRAUDS:
        return float(cells[cell])
    if how == at.OUT_FRAUD_RATE:
        return 0.0 if n == 0 else cells[cell] / n
    if how == at.OUT_EXTREME:
        return np.nan if cells[cell] == at.NONE else state.events[cells[cell] + plan.outputs[o, at.OF_FIELD]] / scale
    if how == at.OUT_TOTAL:
        return cells[cell] / scale
    if plan.outputs[o, at.OF_VALUES] != at.NONE:
        n = cells[plan.outputs[o, at.OF_VALUES]]
    if n == 0:
        return np.nan
    if how == at.OUT_MEAN:
        return cells[cell] / (n * scale)
    if how == at.OUT_TOP_SHARE:
        return cells[cell] / n
    if how == at.OUT_ENTROPY:
        return (times_log(n) - cells[cell]) / (n * LOG_UNITS)
    squares = plan.outputs[o, at.OF_SQUARES]
    numerator = variance_numerator(n, cells[cell], np.uint64(cells[squares]), np.uint64(cells[squares + 1]))
    return math.sqrt(numerator) / (n * scale)


@inlined
def inside(cells: NDArray[np.int64], window_cell: int) -> int:
    """How many events are inside a window."""
    return cells[window_cell] & at.MOST_INSIDE


@inlined
def next_to_leave(cells: NDArray[np.int64], window_cell: int) -> int:
    """The first event that has not left a window, or NONE."""
    return cells[window_cell] >> at.INSIDE_BITS


@inlined
def set_next_to_leave(cells: NDArray[np.int64], window_cell: int, event: int) -> None:
    """Note the first event that has not left a window."""
    cells[window_cell] = (event << at.INSIDE_BITS) | inside(cells, window_cell)


@inlined
def push_extreme(
    events: NDArray[np.int64],
    cells: NDArray[np.int64],
    kind: int,
    cell: int,
    field: int,
    links: int,
    event: int,
) -> None:
    """Append to the window's monotone list: only events that can still become its extreme stay in it."""
    value = events[event + field]
    tail = cells[cell + 1]
    while tail != at.NONE:
        beaten = events[tail + field] >= value if kind == at.MINIMUM else events[tail + field] <= value
        if not beaten:
            break
        tail = events[tail + links]
    events[event + links] = tail
    events[event + links + 1] = at.NONE
    if tail == at.NONE:
        cells[cell] = event
    else:
        events[tail + links + 1] = event
    cells[cell + 1] = event


@inlined
def pop_extreme(events: NDArray[np.int64], cells: NDArray[np.int64], cell: int, links: int) -> None:
    """The head of the monotone list has left the window."""
    head = events[cells[cell] + links + 1]
    cells[cell] = head
    if head == at.NONE:
        cells[cell + 1] = at.NONE
    else:
        events[head + links] = at.NONE


@inlined
def value_key(salt: int, key: int, value: int) -> np.uint64:
    """What a value inside one window of one key is found by: nothing in it depends on where the key's row is."""
    return mix(np.uint64(value), mix(np.uint64(key), np.uint64(salt)))


@entry  # not inlined: few windows need it, and it would make the kernel larger
def enter_mixture(values: Table, kind: int, salt: int, key: int, kept: int, value: int) -> int:
    """What is kept of how often each value occurs, once a value has entered."""
    n = count_value(values, salt, key, value)
    if kind == at.ENTROPY:
        return kept + times_log(n) - times_log(n - 1)
    move_count(values, salt, key, n - 1, n)
    return max(kept, n)


@entry
def leave_mixture(values: Table, kind: int, salt: int, key: int, kept: int, value: int) -> int:
    """What is kept of how often each value occurs, once a value has left."""
    n = uncount_value(values, salt, key, value)
    if kind == at.ENTROPY:
        return kept - times_log(n + 1) + times_log(n)
    others = move_count(values, salt, key, n + 1, n)
    return n if others == 0 and kept == n + 1 else kept


@inlined
def move_count(values: Table, salt: int, key: int, n: int, now: int) -> int:
    """A value that occurred n times occurs `now` times: how many others occur n times."""
    salt = ~salt  # these are numbers, not values
    if now > 0:
        count_value(values, salt, key, now)
    return uncount_value(values, salt, key, n) if n > 0 else 0


@inlined
def times_counted(values: Table, salt: int, key: int, value: int) -> int:
    """How often a value occurs."""
    found_by = value_key(salt, key, value)
    place = locate(values, found_by, hash_of(values, found_by))
    return 0 if is_free(values, place) else values.places[place, VALUE]


@inlined
def count_value(values: Table, salt: int, key: int, value: int) -> int:
    """How often a value occurs once it has entered."""
    found_by = value_key(salt, key, value)
    place = locate(values, found_by, hash_of(values, found_by))
    n = 1 if is_free(values, place) else values.places[place, VALUE] + 1
    put(values, place, found_by, n)
    return n


@inlined
def uncount_value(values: Table, salt: int, key: int, value: int) -> int:
    """How often a value occurs once it has left."""
    found_by = value_key(salt, key, value)
    place = locate(values, found_by, hash_of(values, found_by))
    if is_free(values, place):
        return 0
    n = values.places[place, VALUE] - 1
    if n == 0:
        remove(values, place)
    else:
        values.places[place, VALUE] = n
    return n
