"""How a key is forgotten: at once when it comes back after its horizon, and in turn, in small steps, when it does not.

Both give the same: what is swept has been forgotten already. Part of the kernel.
"""

import numpy as np
from numpy.typing import NDArray

from sentinel.features import layout as at
from sentinel.features.event_list import after, head, release
from sentinel.features.jit import entry, entry_beside, inlined
from sentinel.features.layout import GroupPlan
from sentinel.features.prefetch import prefetch
from sentinel.features.state import GroupState
from sentinel.features.table import hash_of, locate, remove
from sentinel.features.windows import enter, inside, is_of, leave, next_to_leave, set_next_to_leave

SWEEP_EVERY, SWEPT_ROWS, FREED_EVENTS = 256, 64, 8
"""After so many events so many rows are looked at, and each time so many events of a forgotten key are freed."""

NEW_KEY_WEIGHT = 16
"""A new key counts as so many events: it wants a row."""

_ROWS_AHEAD = 8


@inlined
def is_forgotten(plan: GroupPlan, cells: NDArray[np.int64], received: int) -> bool:
    """Whether a key that is heard of now was silent for longer than its horizon."""
    return received - cells[at.HEARD] > plan.horizon


@inlined
def renew(plan: GroupPlan, state: GroupState, slot: int, key: np.uint64) -> None:
    """Make a row without events that of a key which was never heard of."""
    cells = state.keys[slot]
    for c in range(len(plan.fresh)):  # as a slice it would be copied, and nothing here allocates
        cells[c] = plan.fresh[c]
    cells[at.KEY_HASH] = np.int64(key)
    cells[at.HOME] = slot * state.keys.shape[1] + plan.home + at.CHUNK_HEAD


@entry  # not inlined: it is called too seldom to make `advance` larger
def sweep(plan: GroupPlan, state: GroupState, received: int) -> None:
    """Look at the rows that are next in turn, and free the keys that are forgotten: some events of each at a time."""
    counters = state.counters
    counters[at.SINCE_SWEEP] = 0
    for _ in range(SWEPT_ROWS):
        if counters[at.SWEPT] >= counters[at.N_KEYS]:
            counters[at.SWEPT] = 0
            counters[at.OLDEST] = counters[at.OLDEST_SWEPT]
            counters[at.OLDEST_SWEPT] = received  # rows behind this one may be filled meanwhile, but not earlier
        if received - counters[at.OLDEST] <= plan.horizon:  # nobody can be forgotten yet
            return
        slot = counters[at.SWEPT]
        cells = state.keys[slot]
        prefetch(state.keys.ctypes.data + 8 * (slot + _ROWS_AHEAD) * state.keys.shape[1])
        if not is_forgotten(plan, cells, received):
            counters[at.SWEPT] = slot + 1
            counters[at.OLDEST_SWEPT] = min(counters[at.OLDEST_SWEPT], cells[at.HEARD])
            continue
        last = head(plan, cells)
        for _ in range(FREED_EVENTS):
            if last != at.NONE:
                last = after(plan, state, cells, last)
        counted_at = cells[at.CLOCK] if last == at.NONE else state.events[last + at.COUNTED_AT]
        move_windows(plan, state, cells, counted_at + plan.reach)
        if cells[at.TAIL] == at.NONE:
            free_key(state, slot)
            counters[at.FORGOTTEN] += 1
            counters[at.SWEPT] = slot + 1


@entry_beside
def count_forgotten(plan: GroupPlan, state: GroupState, received: int) -> int:
    """How many rows are of keys that are forgotten and not freed yet."""
    n = 0
    for slot in range(state.counters[at.N_KEYS]):
        n += is_forgotten(plan, state.keys[slot], received)
    return n


@inlined
def free_key(state: GroupState, slot: int) -> None:
    """Have the row of a key that has no events used again."""
    counters, cells = state.counters, state.keys[slot]
    key = np.uint64(cells[at.KEY_HASH])
    remove(state.slots, locate(state.slots, key, hash_of(state.slots, key)))
    cells[at.HEARD] = at.NEVER
    cells[at.TAIL] = counters[at.FREE_KEY]
    counters[at.FREE_KEY] = slot
    counters[at.ALIVE] -= 1


@inlined
def move_windows(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], now: int) -> None:
    """Bring every window of the key to `now`, then free the events that have left them all."""
    events, first = state.events, head(plan, cells)
    for w in range(len(plan.windows)):
        over, delay, begin = plan.windows[w, at.OVER], plan.windows[w, at.DELAY], plan.windows[w, at.WINDOW_CELL]
        if delay > 0:
            event = cells[begin + at.ENTER]
            while (
                event != at.NONE
                and events[event + at.COUNTED_AT] <= now - delay
                and inside(cells, begin) < at.MOST_INSIDE  # one that is full is refused: see `advance`
            ):
                lateness = events[event + at.COUNTED_AT] - events[event + at.HAPPENED_AT]
                if lateness < over + delay and is_of(plan, state, w, event):
                    enter(plan, state, cells, w, event)
                event = after(plan, state, cells, event)
            cells[begin + at.ENTER] = event
        event = next_to_leave(cells, begin)
        while event != at.NONE and events[event + at.COUNTED_AT] <= now - delay - over:
            lateness = events[event + at.COUNTED_AT] - events[event + at.HAPPENED_AT]
            if lateness < over + delay and is_of(plan, state, w, event):
                leave(plan, state, cells, w, event)
            event = after(plan, state, cells, event)
        set_next_to_leave(cells, begin, event)
    while first != at.NONE and events[first + at.COUNTED_AT] <= now - plan.reach:
        first = release(plan, state, cells, first)
