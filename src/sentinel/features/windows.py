"""What a window keeps: how an event enters and leaves it, and how an output is read. Part of the kernel."""

import math

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import MISSING
from sentinel.features import layout as at
from sentinel.features.exact import add, magnitude, multiply, subtract, variance_numerator
from sentinel.features.hashtable import FREE, locate, mix, remove_at
from sentinel.features.jit import inlined
from sentinel.features.layout import GroupPlan, GroupState


@inlined
def enter(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], window: int, event: int) -> None:
    """Add an event to a window's aggregates."""
    events = state.events
    cells[plan.windows[window, at.WINDOW_CELL] + at.INSIDE] += 1
    for a in range(plan.windows[window, at.FIRST], plan.windows[window, at.END]):
        kind, cell, links = plan.aggregates[a, at.KIND], plan.aggregates[a, at.CELL], plan.aggregates[a, at.LINKS]
        value = events[event, plan.aggregates[a, at.FIELD]]
        if kind == at.FRAUDS:
            cells[cell] += 1 if value == 1 else 0
        elif kind == at.DISTINCT:
            if value != 0:
                cells[cell] += count_value(state, plan.aggregates[a, at.SALT], cells[at.KEY_HASH], value)
        elif value == MISSING:
            continue
        elif kind == at.SUM:
            cells[cell] += 1
            cells[cell + 1] += value
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
    cells[plan.windows[window, at.WINDOW_CELL] + at.INSIDE] -= 1
    for a in range(plan.windows[window, at.FIRST], plan.windows[window, at.END]):
        kind, cell, links = plan.aggregates[a, at.KIND], plan.aggregates[a, at.CELL], plan.aggregates[a, at.LINKS]
        value = events[event, plan.aggregates[a, at.FIELD]]
        if kind == at.FRAUDS:
            cells[cell] -= 1 if value == 1 else 0
        elif kind == at.DISTINCT:
            if value != 0:
                cells[cell] -= uncount_value(state, plan.aggregates[a, at.SALT], cells[at.KEY_HASH], value)
        elif value == MISSING:
            continue
        elif kind == at.SUM:
            cells[cell] -= 1
            cells[cell + 1] -= value
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
    if how == at.OUT_COUNT:
        return float(cells[plan.outputs[o, at.OF_WINDOW] + at.INSIDE])
    if how == at.OUT_DISTINCT or how == at.OUT_FRAUDS:
        return float(cells[cell])
    if how == at.OUT_TOTAL:
        return cells[cell + 1] / scale
    if how == at.OUT_MEAN:
        return np.nan if cells[cell] == 0 else cells[cell + 1] / (cells[cell] * scale)
    if how == at.OUT_STD:
        n, squares = cells[cell], plan.outputs[o, at.BESIDE]
        if n == 0:
            return np.nan
        numerator = variance_numerator(n, cells[cell + 1], np.uint64(cells[squares]), np.uint64(cells[squares + 1]))
        return math.sqrt(numerator) / (n * scale)
    if how == at.OUT_EXTREME:
        return np.nan if cells[cell] == at.NONE else state.events[cells[cell], plan.outputs[o, at.OF_FIELD]] / scale
    inside = cells[plan.outputs[o, at.OF_WINDOW] + at.INSIDE]
    return 0.0 if inside == 0 else cells[cell] / inside


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
    value = events[event, field]
    tail = cells[cell + 1]
    while tail != at.NONE:
        beaten = events[tail, field] >= value if kind == at.MINIMUM else events[tail, field] <= value
        if not beaten:
            break
        tail = events[tail, links]
    events[event, links] = tail
    events[event, links + 1] = at.NONE
    if tail == at.NONE:
        cells[cell] = event
    else:
        events[tail, links + 1] = event
    cells[cell + 1] = event


@inlined
def pop_extreme(events: NDArray[np.int64], cells: NDArray[np.int64], cell: int, links: int) -> None:
    """The head of the monotone list has left the window."""
    head = events[cells[cell], links + 1]
    cells[cell] = head
    if head == at.NONE:
        cells[cell + 1] = at.NONE
    else:
        events[head, links] = at.NONE


@inlined
def value_key(salt: int, key: int, value: int) -> np.uint64:
    """What a value inside one window of one key is found by: nothing in it depends on where the key's row is."""
    return mix(np.uint64(value), mix(np.uint64(key), np.uint64(salt)))


@inlined
def count_value(state: GroupState, salt: int, key: int, value: int) -> int:
    """1 when the value is new in the window."""
    found_by = value_key(salt, key, value)
    place = locate(state.value_table, found_by)
    state.value_counts[place] += 1
    if state.value_table[place] != FREE:
        return 0
    state.value_table[place] = found_by
    state.counters[at.N_VALUES] += 1
    return 1


@inlined
def uncount_value(state: GroupState, salt: int, key: int, value: int) -> int:
    """1 when the last event with that value has left the window."""
    place = locate(state.value_table, value_key(salt, key, value))
    state.value_counts[place] -= 1
    if state.value_counts[place] > 0:
        return 0
    remove_at(state.value_table, state.value_counts, place)
    state.counters[at.N_VALUES] -= 1
    return 1
