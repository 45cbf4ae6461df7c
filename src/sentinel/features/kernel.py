"""The window kernel: one compiled function for a year of history and for the transaction of this moment.

`advance` takes events in the order of their arrival. For each it moves the key's clock forward, lets events
leave and enter the windows, and reads the outputs from the running aggregates: a constant number of steps per
event, however long the windows are. Everything that is added up is a whole number, so what remains after a
removal is exactly what a fresh sum would give.

A key that was not heard of for longer than the plan's horizon is forgotten: it begins anew, whether its row was used
again meanwhile or not. Rows are looked at in turn, some every few events, and freed when their key is forgotten.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import LABEL_UNKNOWN, MISSING, NO_TEXT
from sentinel.features import layout as at
from sentinel.features.hashtable import FREE, locate, remove_at
from sentinel.features.jit import entry, inlined
from sentinel.features.layout import GroupPlan, GroupState
from sentinel.features.prefetch import prefetch
from sentinel.features.windows import enter, leave, read_window

AHEAD = 4
"""How many events ahead memory is prefetched."""

SWEEP_EVERY, SWEPT_ROWS, FREED_EVENTS = 32, 64, 8
"""After so many events so many keys are looked at, and each time so many events of a forgotten one are freed."""
EARTH_RADIUS_KM = 6371.0088
_RADIANS_PER_UNIT = math.pi / 180.0 / 1e6  # places are in millionths of a degree

# What a group ran out of.
ENOUGH, MORE_KEYS, MORE_EVENTS, MORE_VALUES, MORE_IDS = range(5)


@entry
def advance(
    plan: GroupPlan,
    state: GroupState,
    begin: int,
    is_outcome: NDArray[np.uint8],
    ids: NDArray[np.uint64],
    time_us: NDArray[np.int64],
    received_us: NDArray[np.int64],
    exact: NDArray[np.int64],
    texts: NDArray[np.uint64],
    labels: NDArray[np.int8],
    out: NDArray[np.float64],
    late: NDArray[np.uint8],
    known: NDArray[np.uint8],
) -> tuple[int, int]:
    """Take the events from `begin` on; return where it stopped and what it ran out of (ENOUGH at the end).

    Transactions write row after row of `out` (n, width) and set `late` where an event came after a newer one
    of its key. Outcomes set `known` where their transaction is still remembered. `received_us` never decreases.
    """
    row = 0
    for i in range(begin):
        row += 1 - is_outcome[i]
    for i in range(begin, len(ids)):
        look_ahead(plan, state, i, is_outcome, texts)
        if is_outcome[i]:
            if plan.labelled and learn(plan, state, ids[i], labels[i], received_us[i]):
                known[i] = 1
            continue
        key = texts[i, plan.key]
        if key == FREE:
            for o in range(len(plan.outputs)):
                out[row, plan.outputs[o, at.OUTPUT]] = np.nan
            row += 1
            continue
        shortage = room(plan, state)
        if shortage != ENOUGH:
            return i, shortage
        state.counters[at.SINCE_SWEEP] += 1
        if state.counters[at.SINCE_SWEEP] == SWEEP_EVERY:
            sweep(plan, state, received_us[i])
        slot = slot_of(plan, state, key)
        cells = state.keys[slot]
        before = cells[at.CLOCK]
        is_forgotten = received_us[i] - cells[at.HEARD] > plan.horizon and cells[at.SEEN] > 0
        first = is_forgotten or cells[at.SEEN] == 0
        now = time_us[i] if first else max(before, time_us[i])
        if time_us[i] < now:
            late[row] = 1
        move_windows(plan, state, cells, before + plan.reach if is_forgotten else now)
        if is_forgotten:
            renew(plan, cells, key)
            state.counters[at.FORGOTTEN] += 1
        write(plan, state, cells, at.BEFORE, now, first, exact, i, out, row)
        if now - time_us[i] < plan.reach:
            event = append(plan, state, cells, slot, now, time_us[i], ids[i], exact, texts, labels, i)
            enter_current(plan, state, cells, event)
        remember(plan, cells, now - before, first, now, exact, i)
        write(plan, state, cells, at.AFTER, now, first, exact, i, out, row)
        cells[at.CLOCK] = now
        cells[at.HEARD] = received_us[i]
        cells[at.SEEN] += 1
        row += 1
    return len(ids), ENOUGH


@inlined
def look_ahead(
    plan: GroupPlan, state: GroupState, i: int, is_outcome: NDArray[np.uint8], texts: NDArray[np.uint64]
) -> None:
    """Prefetch the memory of coming events: first the key's place in the table, then its row, then its events."""
    n = len(is_outcome)
    if i + 3 * AHEAD < n and not is_outcome[i + 3 * AHEAD]:
        place = np.int64(texts[i + 3 * AHEAD, plan.key] & np.uint64(len(state.key_table) - 1))
        prefetch(state.key_table.ctypes.data + 8 * place)
        prefetch(state.key_slots.ctypes.data + 8 * place)
    if i + 2 * AHEAD < n and not is_outcome[i + 2 * AHEAD]:
        place = np.int64(texts[i + 2 * AHEAD, plan.key] & np.uint64(len(state.key_table) - 1))
        row = state.keys.ctypes.data + 8 * state.key_slots[place] * len(plan.fresh)
        for line in range(0, len(plan.fresh), 8):
            prefetch(row + 8 * line)
    if i + AHEAD < n and not is_outcome[i + AHEAD]:
        place = np.int64(texts[i + AHEAD, plan.key] & np.uint64(len(state.key_table) - 1))
        cells = state.keys[state.key_slots[place]]
        for w in range(len(plan.windows)):
            begin = plan.windows[w, at.WINDOW_CELL]
            prefetch(state.events.ctypes.data + 8 * cells[begin + at.LEAVE] * plan.event_cells)
            if plan.windows[w, at.DELAY] > 0:
                prefetch(state.events.ctypes.data + 8 * cells[begin + at.ENTER] * plan.event_cells)


@inlined
def room(plan: GroupPlan, state: GroupState) -> int:
    """ENOUGH when one more event of a new key surely fits."""
    counters = state.counters
    if counters[at.FREE_KEY] == at.NONE and counters[at.N_KEYS] == len(state.keys):
        return MORE_KEYS
    if 2 * counters[at.ALIVE] >= len(state.key_table):
        return MORE_KEYS
    if counters[at.FREE_EVENT] == at.NONE and counters[at.N_EVENTS] == len(state.events):
        return MORE_EVENTS
    if 2 * (counters[at.N_VALUES] + len(plan.aggregates)) > len(state.value_table):
        return MORE_VALUES
    if 2 * counters[at.N_IDS] >= len(state.id_table):
        return MORE_IDS
    return ENOUGH


@inlined
def slot_of(plan: GroupPlan, state: GroupState, key: np.uint64) -> int:
    """Row of this key, a new one on its first event."""
    place = locate(state.key_table, key)
    if state.key_table[place] == FREE:
        counters = state.counters
        slot = counters[at.FREE_KEY]
        if slot == at.NONE:
            slot = counters[at.N_KEYS]
            counters[at.N_KEYS] += 1
        else:
            counters[at.FREE_KEY] = state.keys[slot, at.HEAD]
        counters[at.ALIVE] += 1
        state.key_table[place] = key
        state.key_slots[place] = slot
        renew(plan, state.keys[slot], key)
    return state.key_slots[place]


@inlined
def renew(plan: GroupPlan, cells: NDArray[np.int64], key: np.uint64) -> None:
    """Make a row that of a key which was never heard of."""
    for c in range(len(plan.fresh)):  # as a slice it would be copied, and nothing here allocates
        cells[c] = plan.fresh[c]
    cells[at.KEY_HASH] = np.int64(key)


@entry  # not inlined: it is called too seldom to make `advance` larger
def sweep(plan: GroupPlan, state: GroupState, received: int) -> None:
    """Look at the rows that are next in turn, and free the keys that are forgotten: some events of each at a time."""
    counters = state.counters
    counters[at.SINCE_SWEEP] = 0
    for _ in range(SWEPT_ROWS):
        if counters[at.SWEPT] >= counters[at.N_KEYS]:
            counters[at.SWEPT] = 0
            counters[at.OLDEST], counters[at.OLDEST_SWEPT] = counters[at.OLDEST_SWEPT], at.NEVER
        if received - counters[at.OLDEST] <= plan.horizon:  # nobody can be forgotten yet
            return
        slot = counters[at.SWEPT]
        cells = state.keys[slot]
        prefetch(state.keys.ctypes.data + 8 * (slot + 2 * AHEAD) * len(plan.fresh))
        if received - cells[at.HEARD] <= plan.horizon:
            counters[at.SWEPT] = slot + 1
            counters[at.OLDEST_SWEPT] = min(counters[at.OLDEST_SWEPT], cells[at.HEARD])
            continue
        last = cells[at.HEAD]
        for _ in range(FREED_EVENTS):
            if last != at.NONE:
                last = state.events[last, at.NEXT]
        counted_at = cells[at.CLOCK] if last == at.NONE else state.events[last, at.COUNTED_AT]
        move_windows(plan, state, cells, counted_at + plan.reach)
        if cells[at.HEAD] == at.NONE:
            free_key(state, cells, slot)
            counters[at.SWEPT] = slot + 1


@inlined
def free_key(state: GroupState, cells: NDArray[np.int64], slot: int) -> None:
    """Have the row of a key that has no events used again."""
    counters = state.counters
    remove_at(state.key_table, state.key_slots, locate(state.key_table, np.uint64(cells[at.KEY_HASH])))
    cells[at.HEARD] = at.NEVER
    cells[at.HEAD] = counters[at.FREE_KEY]
    counters[at.FREE_KEY] = slot
    counters[at.ALIVE] -= 1
    counters[at.FORGOTTEN] += 1


@inlined
def move_windows(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], now: int) -> None:
    """Bring every window of the key to `now`, then free the events that have left them all."""
    events = state.events
    for w in range(len(plan.windows)):
        over, delay, begin = plan.windows[w, at.OVER], plan.windows[w, at.DELAY], plan.windows[w, at.WINDOW_CELL]
        if delay > 0:
            event = cells[begin + at.ENTER]
            while event != at.NONE and events[event, at.COUNTED_AT] <= now - delay:
                if events[event, at.COUNTED_AT] - events[event, at.HAPPENED_AT] < over + delay:
                    enter(plan, state, cells, w, event)
                event = events[event, at.NEXT]
            cells[begin + at.ENTER] = event
        event = cells[begin + at.LEAVE]
        while event != at.NONE and events[event, at.COUNTED_AT] <= now - delay - over:
            if events[event, at.COUNTED_AT] - events[event, at.HAPPENED_AT] < over + delay:
                leave(plan, state, cells, w, event)
            event = events[event, at.NEXT]
        cells[begin + at.LEAVE] = event
    event = cells[at.HEAD]
    while event != at.NONE and events[event, at.COUNTED_AT] <= now - plan.reach:
        after = events[event, at.NEXT]
        release(plan, state, event)
        event = after
    cells[at.HEAD] = event
    if event == at.NONE:
        cells[at.TAIL] = at.NONE


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
    event = counters[at.FREE_EVENT]
    if event == at.NONE:
        event = counters[at.N_EVENTS]
        counters[at.N_EVENTS] += 1
    else:
        counters[at.FREE_EVENT] = events[event, at.NEXT]
    events[event, at.COUNTED_AT] = now
    events[event, at.HAPPENED_AT] = happened_at
    events[event, at.NEXT] = at.NONE
    for s in range(len(plan.stored)):
        column, cell = plan.stored[s, at.STORED_COLUMN], plan.stored[s, at.EVENT_CELL]
        events[event, cell] = np.int64(texts[i, column]) if plan.stored[s, at.IS_TEXT] else exact[i, column]
    if plan.labelled:
        events[event, at.LABEL] = labels[i]
        events[event, at.SLOT] = slot
        events[event, at.EVENT_ID] = NO_TEXT
        if labels[i] == LABEL_UNKNOWN:
            await_outcome(state, event, event_id)
    if cells[at.TAIL] != at.NONE:
        events[cells[at.TAIL], at.NEXT] = event
    else:
        cells[at.HEAD] = event
    cells[at.TAIL] = event
    for w in range(len(plan.windows)):
        begin = plan.windows[w, at.WINDOW_CELL]
        if cells[begin + at.ENTER] == at.NONE:
            cells[begin + at.ENTER] = event
        if cells[begin + at.LEAVE] == at.NONE:
            cells[begin + at.LEAVE] = event
    return event


@inlined
def await_outcome(state: GroupState, event: int, event_id: np.uint64) -> None:
    """Index the event by its transaction id, so that its outcome finds it."""
    state.events[event, at.EVENT_ID] = np.int64(event_id)
    place = locate(state.id_table, event_id)
    if state.id_table[place] == FREE:
        state.counters[at.N_IDS] += 1
    state.id_table[place] = event_id
    state.id_events[place] = event


@inlined
def enter_current(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], event: int) -> None:
    """Count the newest event in every window that is not delayed and that its own time is still inside."""
    lateness = state.events[event, at.COUNTED_AT] - state.events[event, at.HAPPENED_AT]
    for w in range(len(plan.windows)):
        if plan.windows[w, at.DELAY] == 0 and lateness < plan.windows[w, at.OVER]:
            enter(plan, state, cells, w, event)


@inlined
def release(plan: GroupPlan, state: GroupState, event: int) -> None:
    """Return an event's row to the pool."""
    if plan.labelled and state.events[event, at.EVENT_ID] != NO_TEXT:
        place = locate(state.id_table, np.uint64(state.events[event, at.EVENT_ID]))
        if state.id_table[place] != FREE and state.id_events[place] == event:
            remove_at(state.id_table, state.id_events, place)
            state.counters[at.N_IDS] -= 1
    state.events[event, at.NEXT] = state.counters[at.FREE_EVENT]
    state.counters[at.FREE_EVENT] = event


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
    """Keep what the key's next transaction needs of this one: last values, place, session."""
    for k in range(len(plan.lasts)):
        cells[plan.lasts[k, at.LAST_CELL]] = exact[i, plan.lasts[k, at.LAST_COLUMN]]
    if plan.place != at.NONE:
        cells[plan.place] = exact[i, plan.latitude]
        cells[plan.place + 1] = exact[i, plan.longitude]
    for s in range(len(plan.sessions)):
        begin = plan.sessions[s, at.SESSION_CELL]
        fresh = first or pause > plan.sessions[s, at.GAP]
        if fresh:
            cells[begin + at.BEGAN] = now
            cells[begin + at.SIZE] = 0
        cells[begin + at.SIZE] += 1
        for t in range(plan.sessions[s, at.FIRST_TOTAL], plan.sessions[s, at.END_TOTAL]):
            value, cell = exact[i, plan.session_totals[t, at.TOTAL_COLUMN]], plan.session_totals[t, at.TOTAL_CELL]
            if fresh:
                cells[cell] = 0
            if value != MISSING:
                cells[cell] += value


@inlined
def learn(plan: GroupPlan, state: GroupState, event_id: np.uint64, label: int, received: int) -> bool:
    """Set the label of a remembered event, also in the windows it is inside. False when the event is forgotten."""
    place = locate(state.id_table, event_id)
    if state.id_table[place] == FREE:
        return False
    events = state.events
    event = state.id_events[place]
    cells = state.keys[events[event, at.SLOT]]
    if received - cells[at.HEARD] > plan.horizon:
        return False
    change = (1 if label == 1 else 0) - (1 if events[event, at.LABEL] == 1 else 0)
    events[event, at.LABEL] = label
    counted_at, happened_at = events[event, at.COUNTED_AT], events[event, at.HAPPENED_AT]
    for w in range(len(plan.windows)):
        over, delay = plan.windows[w, at.OVER], plan.windows[w, at.DELAY]
        inside = (
            cells[at.CLOCK] - delay - over < counted_at <= cells[at.CLOCK] - delay
            and counted_at - happened_at < over + delay
        )
        if not inside:
            continue
        for a in range(plan.windows[w, at.FIRST], plan.windows[w, at.END]):
            if plan.aggregates[a, at.KIND] == at.FRAUDS:
                cells[plan.aggregates[a, at.CELL]] += change
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
        if plan.outputs[o, at.WHEN] != when:
            continue
        if plan.outputs[o, at.HOW] < at.WINDOW_OUTPUTS:
            out[row, plan.outputs[o, at.OUTPUT]] = read_window(plan, state, cells, o)
        else:
            out[row, plan.outputs[o, at.OUTPUT]] = read_key(plan, cells, o, now, first, exact, i)


@inlined
def read_key(
    plan: GroupPlan,
    cells: NDArray[np.int64],
    o: int,
    now: int,
    first: bool,
    exact: NDArray[np.int64],
    i: int,
) -> float:
    """One output that is not of a window, at `now`; NaN where there is nothing to say."""
    how, cell, scale = plan.outputs[o, at.HOW], plan.outputs[o, at.OF_CELL], plan.outputs[o, at.SCALE]
    if how == at.OUT_SESSION_COUNT:
        return float(cells[cell + at.SIZE])
    if how == at.OUT_SESSION_TOTAL:
        return cells[cell] / scale
    if how == at.OUT_SESSION_SECONDS:
        return (now - cells[cell + at.BEGAN]) / 1e6
    if first:
        return np.nan
    if how == at.OUT_LAST:
        return np.nan if cells[cell] == MISSING else cells[cell] / scale
    if how == at.OUT_SINCE:
        return (now - cells[at.CLOCK]) / 1e6
    distance = kilometres(cells[cell], cells[cell + 1], exact[i, plan.latitude], exact[i, plan.longitude])
    if how == at.OUT_DISTANCE:
        return distance
    return distance / (max((now - cells[at.CLOCK]) / 1e6, 1.0) / 3600.0)


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
