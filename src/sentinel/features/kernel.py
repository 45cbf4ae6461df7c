"""The window kernel: one compiled function for a year of history and for the transaction of this moment.

`advance` takes events in the order of their arrival. For each it moves the key's clock forward, lets events
leave and enter the windows, and reads the outputs from the running aggregates: a constant number of steps per
event, however long the windows are. Everything that is added up is a whole number, so what remains after a
removal is exactly what a fresh sum would give.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.events.log import LABEL_UNKNOWN, MISSING, NO_TEXT
from sentinel.features.exact import add, magnitude, multiply, subtract, variance_numerator
from sentinel.features.hashtable import FREE, locate, mix, remove_at
from sentinel.features.jit import entry, inlined
from sentinel.features.plan import (
    AFTER,
    BEFORE,
    CLOCK,
    COUNTED_AT,
    DISTINCT,
    ENTER,
    EVENT_ID,
    FRAUDS,
    HAPPENED_AT,
    HEAD,
    INSIDE,
    KEY_HASH,
    LABEL,
    LEAVE,
    MINIMUM,
    NEXT,
    OUT_COUNT,
    OUT_DISTANCE,
    OUT_DISTINCT,
    OUT_EXTREME,
    OUT_FRAUD_RATE,
    OUT_FRAUDS,
    OUT_LAST,
    OUT_MEAN,
    OUT_SESSION_COUNT,
    OUT_SESSION_SECONDS,
    OUT_SESSION_TOTAL,
    OUT_SINCE,
    OUT_STD,
    OUT_TOTAL,
    ROW_CATEGORY,
    ROW_EXACT,
    ROW_HOUR,
    ROW_PLAIN,
    ROW_RATIO,
    ROW_WEEKDAY,
    ROW_WEEKEND,
    SEEN,
    SLOT,
    SQUARES,
    SUM,
    TAIL,
    GroupPlan,
    RowPlan,
)
from sentinel.features.prefetch import prefetch

AHEAD = 4
"""How many events before its turn an event's memory is asked for."""
NONE = -1
"""No event: a cursor at the end of its list."""
EARTH_RADIUS_KM = 6371.0088
_RADIANS_PER_UNIT = math.pi / 180.0 / 1e6  # places are in millionths of a degree
_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US

# Counters of a group's state.
N_KEYS, N_EVENTS, FREE_EVENT, N_VALUES, N_IDS, ROW = range(6)
# What a group ran out of.
ENOUGH, MORE_KEYS, MORE_EVENTS, MORE_VALUES, MORE_IDS = range(5)


class GroupState(NamedTuple):
    """All that is remembered for one kind of key, in flat arrays.

    `key_table`/`key_slots` find a key's row in `keys`; `events` is a pool of linked event rows;
    `value_table`/`value_counts` count the values inside windows that count distinct ones; `id_table`/
    `id_events` find an event by its transaction when its outcome arrives.
    """

    counters: NDArray[np.int64]
    key_table: NDArray[np.uint64]
    key_slots: NDArray[np.int64]
    keys: NDArray[np.int64]
    events: NDArray[np.int64]
    value_table: NDArray[np.uint64]
    value_counts: NDArray[np.int64]
    id_table: NDArray[np.uint64]
    id_events: NDArray[np.int64]


@entry
def advance(
    plan: GroupPlan,
    state: GroupState,
    begin: int,
    is_outcome: NDArray[np.uint8],
    ids: NDArray[np.uint64],
    time_us: NDArray[np.int64],
    exact: NDArray[np.int64],
    texts: NDArray[np.uint64],
    labels: NDArray[np.int8],
    out: NDArray[np.float64],
    late: NDArray[np.uint8],
    known: NDArray[np.uint8],
) -> tuple[int, int]:
    """Take the events from `begin` on; return where it stopped and what it ran out of (ENOUGH at the end).

    Transactions write row after row of `out` (n, width) and set `late` where an event came after a newer one
    of its key. Outcomes set `known` where their transaction is still remembered.
    """
    counters = state.counters
    for i in range(begin, len(ids)):
        look_ahead(plan, state, i, is_outcome, texts)
        if is_outcome[i]:
            if plan.shape[4] and learn(plan, state, ids[i], labels[i]):
                known[i] = 1
            continue
        key = texts[i, plan.shape[0]]
        row = counters[ROW]
        if key == FREE:
            for o in range(len(plan.outputs)):
                out[row, plan.outputs[o, 4]] = np.nan
            counters[ROW] += 1
            continue
        shortage = room(plan, state)
        if shortage != ENOUGH:
            return i, shortage
        slot = slot_of(state, key)
        cells = state.keys[slot]
        before = cells[CLOCK]
        first = cells[SEEN] == 0
        now = time_us[i] if first else max(before, time_us[i])
        if time_us[i] < now:
            late[row] = 1
        move_windows(plan, state, cells, slot, now)
        write(plan, state, cells, BEFORE, now, first, exact, i, out, row)
        if now - time_us[i] < plan.shape[3]:
            event = append(plan, state, cells, slot, now, time_us[i], ids[i], exact, texts, labels, i)
            enter_current(plan, state, cells, slot, event)
        remember(plan, cells, now - before, first, now, exact, i)
        write(plan, state, cells, AFTER, now, first, exact, i, out, row)
        cells[CLOCK] = now
        cells[SEEN] += 1
        counters[ROW] += 1
    return len(ids), ENOUGH


@inlined
def look_ahead(
    plan: GroupPlan, state: GroupState, i: int, is_outcome: NDArray[np.uint8], texts: NDArray[np.uint64]
) -> None:
    """Have the rows of coming events in the cache by their turn: first the key's place, then its row, its events."""
    n = len(is_outcome)
    if i + 3 * AHEAD < n and not is_outcome[i + 3 * AHEAD]:
        place = np.int64(texts[i + 3 * AHEAD, plan.shape[0]] & np.uint64(len(state.key_table) - 1))
        prefetch(state.key_table.ctypes.data + 8 * place)
        prefetch(state.key_slots.ctypes.data + 8 * place)
    if i + 2 * AHEAD < n and not is_outcome[i + 2 * AHEAD]:
        place = np.int64(texts[i + 2 * AHEAD, plan.shape[0]] & np.uint64(len(state.key_table) - 1))
        row = state.keys.ctypes.data + 8 * state.key_slots[place] * plan.shape[1]
        for line in range(0, plan.shape[1], 8):
            prefetch(row + 8 * line)
    if i + AHEAD < n and not is_outcome[i + AHEAD]:
        place = np.int64(texts[i + AHEAD, plan.shape[0]] & np.uint64(len(state.key_table) - 1))
        cells = state.keys[state.key_slots[place]]
        for w in range(len(plan.windows)):
            begin = plan.windows[w, 2]
            prefetch(state.events.ctypes.data + 8 * cells[begin + LEAVE] * plan.shape[2])
            if plan.windows[w, 1] > 0:
                prefetch(state.events.ctypes.data + 8 * cells[begin + ENTER] * plan.shape[2])


@inlined
def room(plan: GroupPlan, state: GroupState) -> int:
    """ENOUGH when one more event of a new key surely fits."""
    counters = state.counters
    if counters[N_KEYS] == len(state.keys) or 2 * counters[N_KEYS] >= len(state.key_table):
        return MORE_KEYS
    if counters[FREE_EVENT] == NONE and counters[N_EVENTS] == len(state.events):
        return MORE_EVENTS
    if 2 * (counters[N_VALUES] + len(plan.aggregates)) > len(state.value_table):
        return MORE_VALUES
    if 2 * counters[N_IDS] >= len(state.id_table):
        return MORE_IDS
    return ENOUGH


@inlined
def slot_of(state: GroupState, key: np.uint64) -> int:
    """Row of this key, a new one on its first event."""
    place = locate(state.key_table, key)
    if state.key_table[place] == FREE:
        slot = state.counters[N_KEYS]
        state.counters[N_KEYS] += 1
        state.key_table[place] = key
        state.key_slots[place] = slot
        state.keys[slot, :] = NONE
        state.keys[slot, KEY_HASH] = np.int64(key)
        state.keys[slot, SEEN] = 0
    return state.key_slots[place]


@inlined
def clear_windows(plan: GroupPlan, cells: NDArray[np.int64]) -> None:
    """Give a new key's windows their empty aggregates."""
    for w in range(len(plan.windows)):
        cells[plan.windows[w, 2] + INSIDE] = 0
        for a in range(plan.windows[w, 3], plan.windows[w, 4]):
            kind, cell = plan.aggregates[a, 0], plan.aggregates[a, 2]
            if kind == SUM or kind == SQUARES:
                cells[cell] = 0
                cells[cell + 1] = 0
            elif kind == DISTINCT or kind == FRAUDS:
                cells[cell] = 0


@inlined
def move_windows(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], slot: int, now: int) -> None:
    """Bring every window of the key to `now`, then free the events that have left them all."""
    if cells[SEEN] == 0:
        clear_windows(plan, cells)
        return
    events = state.events
    for w in range(len(plan.windows)):
        over, delay, begin = plan.windows[w, 0], plan.windows[w, 1], plan.windows[w, 2]
        if delay > 0:
            event = cells[begin + ENTER]
            while event != NONE and events[event, COUNTED_AT] <= now - delay:
                if events[event, COUNTED_AT] - events[event, HAPPENED_AT] < over + delay:
                    enter(plan, state, cells, slot, w, event)
                event = events[event, NEXT]
            cells[begin + ENTER] = event
        event = cells[begin + LEAVE]
        while event != NONE and events[event, COUNTED_AT] <= now - delay - over:
            if events[event, COUNTED_AT] - events[event, HAPPENED_AT] < over + delay:
                leave(plan, state, cells, slot, w, event)
            event = events[event, NEXT]
        cells[begin + LEAVE] = event
    event = cells[HEAD]
    while event != NONE and events[event, COUNTED_AT] <= now - plan.shape[3]:
        after = events[event, NEXT]
        release(plan, state, event)
        event = after
    cells[HEAD] = event
    if event == NONE:
        cells[TAIL] = NONE


@inlined
def append(
    plan: GroupPlan,
    state: GroupState,
    cells: NDArray[np.int64],
    slot: int,
    now: int,
    happened_at: int,
    event_id: np.uint64,
    exact: NDArray[np.int64],
    texts: NDArray[np.uint64],
    labels: NDArray[np.int8],
    i: int,
) -> int:
    """Put event i at the end of the key's list; every cursor that waits at the end now points to it."""
    counters, events = state.counters, state.events
    event = counters[FREE_EVENT]
    if event == NONE:
        event = counters[N_EVENTS]
        counters[N_EVENTS] += 1
    else:
        counters[FREE_EVENT] = events[event, NEXT]
    events[event, COUNTED_AT] = now
    events[event, HAPPENED_AT] = happened_at
    events[event, NEXT] = NONE
    for s in range(len(plan.stored)):
        column, cell = plan.stored[s, 1], plan.stored[s, 2]
        events[event, cell] = np.int64(texts[i, column]) if plan.stored[s, 0] else exact[i, column]
    if plan.shape[4]:
        events[event, LABEL] = labels[i]
        events[event, SLOT] = slot
        events[event, EVENT_ID] = NO_TEXT
        if labels[i] == LABEL_UNKNOWN:
            await_outcome(state, event, event_id)
    if cells[TAIL] != NONE:
        events[cells[TAIL], NEXT] = event
    else:
        cells[HEAD] = event
    cells[TAIL] = event
    for w in range(len(plan.windows)):
        begin = plan.windows[w, 2]
        if cells[begin + ENTER] == NONE:
            cells[begin + ENTER] = event
        if cells[begin + LEAVE] == NONE:
            cells[begin + LEAVE] = event
    return event


@inlined
def await_outcome(state: GroupState, event: int, event_id: np.uint64) -> None:
    """Make the event known by its transaction id, so that its outcome finds it."""
    state.events[event, EVENT_ID] = np.int64(event_id)
    place = locate(state.id_table, event_id)
    if state.id_table[place] == FREE:
        state.counters[N_IDS] += 1
    state.id_table[place] = event_id
    state.id_events[place] = event


@inlined
def enter_current(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], slot: int, event: int) -> None:
    """Count the newest event in every window that is not delayed and that its own time is still inside."""
    lateness = state.events[event, COUNTED_AT] - state.events[event, HAPPENED_AT]
    for w in range(len(plan.windows)):
        if plan.windows[w, 1] == 0 and lateness < plan.windows[w, 0]:
            enter(plan, state, cells, slot, w, event)


@inlined
def release(plan: GroupPlan, state: GroupState, event: int) -> None:
    """Return an event's row to the pool."""
    if plan.shape[4] and state.events[event, EVENT_ID] != NO_TEXT:
        place = locate(state.id_table, np.uint64(state.events[event, EVENT_ID]))
        if state.id_table[place] != FREE and state.id_events[place] == event:
            remove_at(state.id_table, state.id_events, place)
            state.counters[N_IDS] -= 1
    state.events[event, NEXT] = state.counters[FREE_EVENT]
    state.counters[FREE_EVENT] = event


@inlined
def enter(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], slot: int, window: int, event: int) -> None:
    """Add an event to a window's aggregates."""
    events = state.events
    cells[plan.windows[window, 2] + INSIDE] += 1
    for a in range(plan.windows[window, 3], plan.windows[window, 4]):
        kind, cell, links = plan.aggregates[a, 0], plan.aggregates[a, 2], plan.aggregates[a, 3]
        value = events[event, plan.aggregates[a, 1]]
        if kind == FRAUDS:
            cells[cell] += 1 if value == 1 else 0
        elif kind == DISTINCT:
            if value != 0:
                cells[cell] += count_value(state, plan.aggregates[a, 4], slot, value)
        elif value == MISSING:
            continue
        elif kind == SUM:
            cells[cell] += 1
            cells[cell + 1] += value
        elif kind == SQUARES:
            square = multiply(magnitude(value), magnitude(value))
            high, low = add(np.uint64(cells[cell]), np.uint64(cells[cell + 1]), square[0], square[1])
            cells[cell], cells[cell + 1] = np.int64(high), np.int64(low)
        else:
            push_extreme(events, cells, kind, cell, plan.aggregates[a, 1], links, event)


@inlined
def leave(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], slot: int, window: int, event: int) -> None:
    """Take an event out of a window's aggregates."""
    events = state.events
    cells[plan.windows[window, 2] + INSIDE] -= 1
    for a in range(plan.windows[window, 3], plan.windows[window, 4]):
        kind, cell, links = plan.aggregates[a, 0], plan.aggregates[a, 2], plan.aggregates[a, 3]
        value = events[event, plan.aggregates[a, 1]]
        if kind == FRAUDS:
            cells[cell] -= 1 if value == 1 else 0
        elif kind == DISTINCT:
            if value != 0:
                cells[cell] -= uncount_value(state, plan.aggregates[a, 4], slot, value)
        elif value == MISSING:
            continue
        elif kind == SUM:
            cells[cell] -= 1
            cells[cell + 1] -= value
        elif kind == SQUARES:
            square = multiply(magnitude(value), magnitude(value))
            high, low = subtract(np.uint64(cells[cell]), np.uint64(cells[cell + 1]), square[0], square[1])
            cells[cell], cells[cell + 1] = np.int64(high), np.int64(low)
        elif cells[cell] == event:
            pop_extreme(events, cells, cell, links)


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
    while tail != NONE:
        beaten = events[tail, field] >= value if kind == MINIMUM else events[tail, field] <= value
        if not beaten:
            break
        tail = events[tail, links]
    events[event, links] = tail
    events[event, links + 1] = NONE
    if tail == NONE:
        cells[cell] = event
    else:
        events[tail, links + 1] = event
    cells[cell + 1] = event


@inlined
def pop_extreme(events: NDArray[np.int64], cells: NDArray[np.int64], cell: int, links: int) -> None:
    """The head of the monotone list has left the window."""
    head = events[cells[cell], links + 1]
    cells[cell] = head
    if head == NONE:
        cells[cell + 1] = NONE
    else:
        events[head, links] = NONE


@inlined
def value_key(salt: int, slot: int, value: int) -> np.uint64:
    """Key of a value inside one window of one key."""
    return mix(np.uint64(value), mix(np.uint64(slot), np.uint64(salt)))


@inlined
def count_value(state: GroupState, salt: int, slot: int, value: int) -> int:
    """1 when the value is new in the window."""
    key = value_key(salt, slot, value)
    place = locate(state.value_table, key)
    state.value_counts[place] += 1
    if state.value_table[place] != FREE:
        return 0
    state.value_table[place] = key
    state.counters[N_VALUES] += 1
    return 1


@inlined
def uncount_value(state: GroupState, salt: int, slot: int, value: int) -> int:
    """1 when the last event with that value has left the window."""
    place = locate(state.value_table, value_key(salt, slot, value))
    state.value_counts[place] -= 1
    if state.value_counts[place] > 0:
        return 0
    remove_at(state.value_table, state.value_counts, place)
    state.counters[N_VALUES] -= 1
    return 1


@inlined
def remember(
    plan: GroupPlan,
    cells: NDArray[np.int64],
    pause: int,
    first: bool,
    now: int,
    exact: NDArray[np.int64],
    i: int,
) -> None:
    """Keep what the key's next transaction will ask about this one: last values, place, session."""
    for k in range(len(plan.lasts)):
        cells[plan.lasts[k, 1]] = exact[i, plan.lasts[k, 0]]
    if plan.shape[5] != NONE:
        cells[plan.shape[5]] = exact[i, plan.shape[6]]
        cells[plan.shape[5] + 1] = exact[i, plan.shape[7]]
    for s in range(len(plan.sessions)):
        begin = plan.sessions[s, 1]
        fresh = first or pause > plan.sessions[s, 0]
        if fresh:
            cells[begin] = now
            cells[begin + 1] = 0
        cells[begin + 1] += 1
        for t in range(plan.sessions[s, 2], plan.sessions[s, 3]):
            value, cell = exact[i, plan.session_totals[t, 0]], plan.session_totals[t, 1]
            if fresh:
                cells[cell] = 0
            if value != MISSING:
                cells[cell] += value


@inlined
def learn(plan: GroupPlan, state: GroupState, event_id: np.uint64, label: int) -> bool:
    """Note the truth about a remembered event, also in the windows it is inside. False when it is forgotten."""
    place = locate(state.id_table, event_id)
    if state.id_table[place] == FREE:
        return False
    events = state.events
    event = state.id_events[place]
    change = (1 if label == 1 else 0) - (1 if events[event, LABEL] == 1 else 0)
    events[event, LABEL] = label
    cells = state.keys[events[event, SLOT]]
    counted_at, happened_at = events[event, COUNTED_AT], events[event, HAPPENED_AT]
    for w in range(len(plan.windows)):
        over, delay = plan.windows[w, 0], plan.windows[w, 1]
        inside = (
            cells[CLOCK] - delay - over < counted_at <= cells[CLOCK] - delay and counted_at - happened_at < over + delay
        )
        if not inside:
            continue
        for a in range(plan.windows[w, 3], plan.windows[w, 4]):
            if plan.aggregates[a, 0] == FRAUDS:
                cells[plan.aggregates[a, 2]] += change
    return True


@inlined
def write(
    plan: GroupPlan,
    state: GroupState,
    cells: NDArray[np.int64],
    when: int,
    now: int,
    first: bool,
    exact: NDArray[np.int64],
    i: int,
    out: NDArray[np.float64],
    row: int,
) -> None:
    """Read the outputs that are due before, or after, the current event has been counted."""
    for o in range(len(plan.outputs)):
        if plan.outputs[o, 5] == when:
            out[row, plan.outputs[o, 4]] = read(
                plan, state, cells, plan.outputs[o, 0], plan.outputs[o, 1], plan.outputs[o, 2],
                plan.outputs[o, 3], now, first, exact, i,
            )  # fmt: skip


@inlined
def read(
    plan: GroupPlan,
    state: GroupState,
    cells: NDArray[np.int64],
    how: int,
    cell: int,
    beside: int,
    scale: int,
    now: int,
    first: bool,
    exact: NDArray[np.int64],
    i: int,
) -> float:
    """One output of the key at `now`; NaN where there is nothing to say."""
    if how == OUT_COUNT or how == OUT_DISTINCT or how == OUT_FRAUDS:
        return float(cells[cell])
    if how == OUT_TOTAL:
        return cells[cell + 1] / scale
    if how == OUT_MEAN:
        return np.nan if cells[cell] == 0 else cells[cell + 1] / (cells[cell] * scale)
    if how == OUT_STD:
        n = cells[cell]
        if n == 0:
            return np.nan
        numerator = variance_numerator(n, cells[cell + 1], np.uint64(cells[beside]), np.uint64(cells[beside + 1]))
        return math.sqrt(numerator) / (n * scale)
    if how == OUT_EXTREME:
        return np.nan if cells[cell] == NONE else state.events[cells[cell], beside] / scale
    if how == OUT_FRAUD_RATE:
        return 0.0 if cells[beside] == 0 else cells[cell] / cells[beside]
    if how == OUT_SESSION_COUNT:
        return float(cells[cell + 1])
    if how == OUT_SESSION_TOTAL:
        return cells[cell] / scale
    if how == OUT_SESSION_SECONDS:
        return (now - cells[cell]) / 1e6
    if first:
        return np.nan
    if how == OUT_LAST:
        return np.nan if cells[cell] == MISSING else cells[cell] / scale
    if how == OUT_SINCE:
        return (now - cells[CLOCK]) / 1e6
    distance = kilometres(cells[cell], cells[cell + 1], exact[i, plan.shape[6]], exact[i, plan.shape[7]])
    if how == OUT_DISTANCE:
        return distance
    return distance / (max((now - cells[CLOCK]) / 1e6, 1.0) / 3600.0)


@inlined
def kilometres(latitude_a: int, longitude_a: int, latitude_b: int, longitude_b: int) -> float:
    """Great-circle distance of two places in millionths of a degree (haversine); NaN when one is missing."""
    if latitude_a == MISSING or longitude_a == MISSING or latitude_b == MISSING or longitude_b == MISSING:
        return np.nan
    phi_a, phi_b = latitude_a * _RADIANS_PER_UNIT, latitude_b * _RADIANS_PER_UNIT
    across = math.sin((phi_b - phi_a) / 2)
    along = math.sin((longitude_b - longitude_a) * _RADIANS_PER_UNIT / 2)
    h = across * across + math.cos(phi_a) * math.cos(phi_b) * (along * along)
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(h, 1.0)))


@entry
def fill_rows(
    plan: RowPlan,
    is_outcome: NDArray[np.uint8],
    time_us: NDArray[np.int64],
    exact: NDArray[np.int64],
    plain: NDArray[np.float64],
    texts: NDArray[np.uint64],
    out: NDArray[np.float64],
) -> None:
    """Write the outputs that need no memory of the key, ratios of other outputs included."""
    row = 0
    for i in range(len(time_us)):
        if is_outcome[i]:
            continue
        for s in range(len(plan.steps)):
            how, first, second = plan.steps[s, 0], plan.steps[s, 1], plan.steps[s, 2]
            if how == ROW_EXACT:
                value = np.nan if exact[i, first] == MISSING else exact[i, first] / plan.steps[s, 3]
            elif how == ROW_PLAIN:
                value = plain[i, first]
            elif how == ROW_CATEGORY:
                value = code_of(plan, second, texts[i, first])
            elif how == ROW_RATIO:
                top, bottom = out[row, first], out[row, second]
                value = np.nan if bottom == 0.0 else top / bottom
            else:
                value = clock_part(how, first, time_us[i])
            out[row, plan.steps[s, 4]] = value
        row += 1


@inlined
def code_of(plan: RowPlan, category: int, text: np.uint64) -> float:
    """The learned code of a text; one code above them all for any other; NaN when it is missing."""
    if text == FREE:
        return np.nan
    low, high = plan.ends[category], plan.ends[category + 1]
    unknown = float(high - low)
    end = high
    while low < high:
        middle = (low + high) // 2
        if plan.known[middle] < text:
            low = middle + 1
        else:
            high = middle
    return plan.codes[low] if low < end and plan.known[low] == text else unknown


@inlined
def clock_part(how: int, last_hour: int, time_us: int) -> float:
    """Hour, weekday (Monday is 0), weekend or night of an instant, UTC."""
    hour = (time_us % _DAY_US) // _HOUR_US
    weekday = (time_us // _DAY_US + 3) % 7  # 1970-01-01 was a Thursday
    if how == ROW_HOUR:
        return float(hour)
    if how == ROW_WEEKDAY:
        return float(weekday)
    if how == ROW_WEEKEND:
        return 1.0 if weekday >= 5 else 0.0
    return 1.0 if hour <= last_hour else 0.0
