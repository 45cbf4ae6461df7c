"""What a window keeps: how an event enters and leaves it, and how an output is read. Part of the kernel."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import MISSING
from sentinel.features import layout as at
from sentinel.features.exact import add, magnitude, multiply, subtract, variance_numerator
from sentinel.features.jit import inlined
from sentinel.features.layout import GroupPlan
from sentinel.features.state import GroupState
from sentinel.features.table import VALUE, Table, hash_of, is_free, locate, mix, put, remove


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
        elif kind == at.DISTINCT:
            if value != 0:
                cells[cell] += count_value(state.values, plan.aggregates[a, at.SALT], cells[at.KEY_HASH], value)
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
        elif kind == at.DISTINCT:
            if value != 0:
                cells[cell] -= uncount_value(state.values, plan.aggregates[a, at.SALT], cells[at.KEY_HASH], value)
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


@inlined
def count_value(values: Table, salt: int, key: int, value: int) -> int:
    """1 when the value is new in the window."""
    found_by = value_key(salt, key, value)
    place = locate(values, found_by, hash_of(values, found_by))
    if not is_free(values, place):
        values.places[place, VALUE] += 1
        return 0
    put(values, place, found_by, 1)
    return 1


@inlined
def uncount_value(values: Table, salt: int, key: int, value: int) -> int:
    """1 when the last event with that value has left the window."""
    found_by = value_key(salt, key, value)
    place = locate(values, found_by, hash_of(values, found_by))
    if is_free(values, place):
        return 0
    values.places[place, VALUE] -= 1
    if values.places[place, VALUE] > 0:
        return 0
    remove(values, place)
    return 1
