"""The window kernel: one compiled function for a year of history and for the transaction of this moment.

`advance` takes events in the order of their arrival. For each it moves the key's clock forward, lets events
leave and enter the windows, and reads the outputs from the running aggregates: a constant number of steps per
event, however long the windows are. What a group counts may also be events of the context; transactions then only move
its clocks and read it. Everything that is added up is a whole number, so what remains after a
removal is exactly what a fresh sum would give.

A key that was not heard of for longer than the plan's horizon is forgotten: it begins anew.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import LABEL_UNKNOWN, MISSING, OUTCOME, TRANSACTION
from sentinel.features import layout as at
from sentinel.features.event_list import append, label, let_go
from sentinel.features.forgetting import NEW_KEY_WEIGHT, SWEEP_EVERY, is_forgotten, move_windows, renew, sweep
from sentinel.features.jit import entry, entry_beside, inlined
from sentinel.features.layout import GroupPlan
from sentinel.features.prefetch import prefetch
from sentinel.features.renaming import name_in_row, pass_on, sweep_names
from sentinel.features.state import GroupState
from sentinel.features.table import FREE, VALUE, has_room, hash_of, home, is_empty, is_free, locate, put
from sentinel.features.windows import enter, inside, is_of, next_to_leave, read_window, times_counted

AHEAD = 4
"""How many events ahead memory is prefetched, in three steps: 3 AHEAD < LOOKED_AHEAD."""

SPARE_VALUES = 64
"""Room for values beside those of one event: those that enter a delayed window together."""

EARTH_RADIUS_KM = 6371.0088
_RADIANS_PER_UNIT = math.pi / 180.0 / 1e6  # places are in millionths of a degree


@entry
def advance(
    plan: GroupPlan,
    state: GroupState,
    kinds: NDArray[np.uint8],
    ids: NDArray[np.uint64],
    time_us: NDArray[np.int64],
    received_us: NDArray[np.int64],
    exact: NDArray[np.int64],
    texts: NDArray[np.uint64],
    former: NDArray[np.uint64],
    labels: NDArray[np.int8],
    out: NDArray[np.float64],
    late: NDArray[np.uint8],
    known: NDArray[np.uint8],
) -> int:
    """Take events; return how many were taken: not all where memory ran out, or a window of a key is full.

    Transactions write row after row of `out` (n, width) and set `late` where one came after a newer event
    of its key. Outcomes set `known` where their transaction is still remembered. `received_us` never decreases.
    `former` has what texts were before the hash key was changed, or no rows.
    """
    row = 0
    has_former = len(former) > 0
    is_renaming = has_former or not is_empty(state.names)
    for i in range(-3 * AHEAD, len(ids)):
        look_ahead(plan, state, i, kinds, texts)
        if i < 0:
            continue
        if kinds[i] == OUTCOME:
            if plan.labelled and learn(plan, state, ids[i], labels[i], received_us[i]):
                known[i] = 1
            continue
        feeds, reads = kinds[i] == plan.feeds, kinds[i] == TRANSACTION
        if not feeds and not reads:
            continue
        key = texts[i, plan.key]
        if key == FREE:
            if reads:
                for o in range(len(plan.outputs)):
                    out[row, plan.outputs[o, at.OUTPUT]] = np.nan
                row += 1
            if feeds and plan.labelled:
                let_go(state, ids[i])
            continue
        if not fits(plan, state):
            return i
        state.counters[at.SINCE_SWEEP] += 1
        if state.counters[at.SINCE_SWEEP] >= SWEEP_EVERY and state.counters[at.N_KEYS] > 0:  # no row is one before
            sweep(plan, state, received_us[i])
            if is_renaming:
                sweep_names(plan, state, received_us[i])
        if has_former and former[i, plan.key] != FREE and not pass_on(plan, state, former[i, plan.key], key):
            return i
        slot = slot_of(plan, state, key, state.hashes[i & (at.LOOKED_AHEAD - 1)], feeds)
        if not feeds and (slot == at.NONE or is_forgotten(plan, state.keys[slot], received_us[i])):
            write_nothing(plan, texts, i, out, row)
            row += 1
            continue
        cells = state.keys[slot]
        before = cells[at.CLOCK]
        begins_anew = is_forgotten(plan, cells, received_us[i])
        first = begins_anew or cells[at.HEARD] == at.NEVER
        now = time_us[i] if first else max(before, time_us[i])
        if reads and time_us[i] < now:
            late[row] = 1
        move_windows(plan, state, cells, before + plan.reach if begins_anew else now)
        if begins_anew:
            renew(plan, state, slot, key)
            state.counters[at.FORGOTTEN] += 1
        if is_full(plan, cells):
            return i
        for s in range(len(plan.stored)):
            if plan.stored[s, at.IS_TEXT]:
                cell, name = plan.stored[s, at.EVENT_CELL], texts[i, plan.stored[s, at.STORED_COLUMN]]
                if is_renaming:
                    was = former[i, plan.stored[s, at.STORED_COLUMN]] if has_former else FREE
                    name = name_in_row(plan, state, cells[at.KEY_HASH], cell, name, was, received_us[i])
                state.hashes[at.LOOKED_AHEAD + cell] = name
        if reads:
            write(plan, state, cells, at.BEFORE, now, first, exact, i, out, row)
        if feeds and now - time_us[i] < plan.reach:
            event = append(plan, state, cells, now, time_us[i])
            for s in range(len(plan.stored)):
                column, cell = plan.stored[s, at.STORED_COLUMN], plan.stored[s, at.EVENT_CELL]
                if plan.stored[s, at.IS_TEXT]:
                    state.events[event + cell] = np.int64(state.hashes[at.LOOKED_AHEAD + cell])
                else:
                    state.events[event + cell] = exact[i, column]
            if plan.labelled:
                label(state, event, slot, ids[i] if labels[i] == LABEL_UNKNOWN else FREE, labels[i])
            enter_current(plan, state, cells, event)
        elif feeds and plan.labelled:
            let_go(state, ids[i])
        if feeds:
            remember(plan, cells, now - before, first, now, exact, i)
            cells[at.HEARD] = received_us[i]
        if reads:
            write(plan, state, cells, at.AFTER, now, first, exact, i, out, row)
            row += 1
        cells[at.CLOCK] = now
    return len(ids)


@entry_beside
def advance_beside(
    plan: GroupPlan,
    state: GroupState,
    kinds: NDArray[np.uint8],
    ids: NDArray[np.uint64],
    time_us: NDArray[np.int64],
    received_us: NDArray[np.int64],
    exact: NDArray[np.int64],
    texts: NDArray[np.uint64],
    former: NDArray[np.uint64],
    labels: NDArray[np.int8],
    out: NDArray[np.float64],
    late: NDArray[np.uint8],
    known: NDArray[np.uint8],
) -> int:
    """The same while other threads go on: groups share no state, and write different columns of `out`."""
    taken: int = advance(plan, state, kinds, ids, time_us, received_us, exact, texts, former, labels, out, late, known)
    return taken


@inlined
def look_ahead(plan: GroupPlan, state: GroupState, i: int, kinds: NDArray[np.uint8], texts: NDArray[np.uint64]) -> None:
    """Prefetch the memory of coming events: first the key's place in the table, then its row, then its events."""
    n, ring = len(kinds), at.LOOKED_AHEAD - 1
    coming = i + 3 * AHEAD
    if coming < n and kinds[coming] != OUTCOME:
        state.hashes[coming & ring] = hash_of(state.slots, texts[coming, plan.key])
        prefetch(state.slots.places.ctypes.data + 16 * home(state.slots, state.hashes[coming & ring]))
    coming = i + 2 * AHEAD
    if 0 <= coming < n and kinds[coming] != OUTCOME:
        slot = state.slots.places[home(state.slots, state.hashes[coming & ring]), VALUE]
        row = state.keys.ctypes.data + 8 * slot * state.keys.shape[1]
        for cell in range(0, state.keys.shape[1], 8):
            prefetch(row + 8 * cell)
    coming = i + AHEAD
    if 0 <= coming < n and kinds[coming] != OUTCOME:
        cells = state.keys[state.slots.places[home(state.slots, state.hashes[coming & ring]), VALUE]]
        events = state.events.ctypes.data
        prefetch(events + 8 * cells[at.TAIL])
        prefetch(events + 8 * (cells[at.TAIL] + plan.event_cells))
        before = cells[at.TAIL]
        for w in range(len(plan.windows)):
            begin = plan.windows[w, at.WINDOW_CELL]
            event = next_to_leave(cells, begin)
            if event != before and event >= state.keys.size:
                prefetch(events + 8 * event)
                prefetch(events + 8 * (event + plan.event_cells))
                before = event
            if plan.windows[w, at.DELAY] > 0:
                prefetch(events + 8 * cells[begin + at.ENTER])


@inlined
def fits(plan: GroupPlan, state: GroupState) -> bool:
    """Whether one more event of a new key surely fits."""
    counters = state.counters
    return (
        (counters[at.FREE_KEY] != at.NONE or counters[at.N_KEYS] < len(state.keys))
        and counters[at.END_OF_CHUNKS] + plan.chunk_cells <= len(state.events)
        and has_room(state.slots, 1)
        and has_room(state.values, SPARE_VALUES + 2 * len(plan.aggregates))
        and has_room(state.ids, 1)
        and has_room(state.names, 2 * len(plan.stored))
    )


@inlined
def is_full(plan: GroupPlan, cells: NDArray[np.int64]) -> bool:
    """Whether a window holds as many events of one key as can be counted: 134 million."""
    full = False
    for w in range(len(plan.windows)):
        full |= inside(cells, plan.windows[w, at.WINDOW_CELL]) == at.MOST_INSIDE
    return full


@inlined
def slot_of(plan: GroupPlan, state: GroupState, key: np.uint64, hashed: np.uint64, feeds: bool) -> int:
    """Row of this key; one that is not known gets a row when it has an event (`feeds`), else it is NONE."""
    place = locate(state.slots, key, hashed)
    if not is_free(state.slots, place):
        return state.slots.places[place, VALUE]
    if not feeds:
        return at.NONE
    counters = state.counters
    slot = counters[at.FREE_KEY]
    if slot == at.NONE:
        slot = counters[at.N_KEYS]
        counters[at.N_KEYS] += 1
    else:
        counters[at.FREE_KEY] = state.keys[slot, at.TAIL]
    counters[at.ALIVE] += 1
    counters[at.SINCE_SWEEP] += NEW_KEY_WEIGHT
    put(state.slots, place, key, slot)
    renew(plan, state, slot, key)
    return slot


@inlined
def enter_current(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], event: int) -> None:
    """Count the newest event in every window that is not delayed and that its own time is still inside."""
    lateness = state.events[event + at.COUNTED_AT] - state.events[event + at.HAPPENED_AT]
    for w in range(len(plan.windows)):
        is_inside = plan.windows[w, at.DELAY] == 0 and lateness < plan.windows[w, at.OVER]
        if is_inside and is_of(plan, state, w, event):
            enter(plan, state, cells, w, event)


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
        column, condition = plan.lasts[k, at.LAST_COLUMN], plan.lasts[k, at.LAST_CONDITION]
        if condition == at.NONE or (exact[i, exact.shape[1] - 1] >> condition) & 1 == 1:
            cells[plan.lasts[k, at.LAST_CELL]] = now if column == at.NONE else exact[i, column]
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
def learn(plan: GroupPlan, state: GroupState, event_id: np.uint64, truth: int, received: int) -> bool:
    """Set the label of a remembered event, also in the windows it is inside. False when the event is forgotten."""
    place = locate(state.ids, event_id, hash_of(state.ids, event_id))
    if is_free(state.ids, place):
        return False
    events = state.events
    event = state.ids.places[place, VALUE]
    cells = state.keys[events[event + at.SLOT]]
    if is_forgotten(plan, cells, received):
        return False
    change = (1 if truth == 1 else 0) - (1 if events[event + at.LABEL] == 1 else 0)
    events[event + at.LABEL] = truth
    counted_at, happened_at = events[event + at.COUNTED_AT], events[event + at.HAPPENED_AT]
    for w in range(len(plan.windows)):
        over, delay = plan.windows[w, at.OVER], plan.windows[w, at.DELAY]
        is_inside = (
            cells[at.CLOCK] - delay - over < counted_at <= cells[at.CLOCK] - delay
            and counted_at - happened_at < over + delay
            and is_of(plan, state, w, event)
        )
        if not is_inside:
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
        elif plan.outputs[o, at.HOW] < at.VALUE_OUTPUTS:
            out[row, plan.outputs[o, at.OUTPUT]] = read_value(plan, state, cells, o)
        else:
            out[row, plan.outputs[o, at.OUTPUT]] = read_key(plan, cells, o, now, first, exact, i)


@inlined
def write_nothing(plan: GroupPlan, texts: NDArray[np.uint64], i: int, out: NDArray[np.float64], row: int) -> None:
    """Write the outputs of a key of which nothing is remembered."""
    for o in range(len(plan.outputs)):
        how = plan.outputs[o, at.HOW]
        value = np.nan
        if how == at.OUT_COUNT or how == at.OUT_TOTAL or how == at.OUT_DISTINCT:
            value = 0.0
        elif how == at.OUT_IS_FIRST and texts[i, plan.outputs[o, at.OF_TEXT]] != FREE:
            value = 1.0
        out[row, plan.outputs[o, at.OUTPUT]] = value


@inlined
def read_value(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], o: int) -> float:
    """One output of a window that is about the transaction's own value of a text; NaN where it has none."""
    name = state.hashes[at.LOOKED_AHEAD + plan.outputs[o, at.OF_FIELD]]
    if name == FREE:
        return np.nan
    value: Any = np.int64(name)
    n = times_counted(state.values, plan.outputs[o, at.OF_SALT], cells[at.KEY_HASH], value)
    if plan.outputs[o, at.HOW] == at.OUT_IS_FIRST:
        return 1.0 if n == 0 else 0.0
    of_all = cells[plan.outputs[o, at.OF_VALUES]]
    return np.nan if of_all == 0 else n / of_all


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
    if how == at.OUT_SINCE_MARKED:
        return np.nan if cells[cell] == MISSING or first else (now - cells[cell]) / 1e6
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
