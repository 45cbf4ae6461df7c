"""What is hashed with another key from now on: a row passes from its key's former name to the new one.

A row may also hold a secret of others, such as the cards of a device. Events are not rewritten, as there may be a
million of them: while a row's windows have the former name of such a value, it is counted under that one. Part of the
kernel.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.features import layout as at
from sentinel.features.event_list import after
from sentinel.features.jit import entry, entry_beside, inlined
from sentinel.features.layout import GroupPlan
from sentinel.features.state import GroupState
from sentinel.features.table import (
    FREE,
    KEY,
    SEGMENT,
    VALUE,
    has_room,
    hash_of,
    held,
    is_free,
    locate,
    mix,
    put,
    remove,
    segments_of,
)
from sentinel.features.windows import count_value, is_of, move_count, next_to_leave, times_counted, uncount_value

_FORMER, _USED, _CELLS = range(1, 4)
"""Where they stand behind what a name is found by, as names are saved: the former one, when that was used last."""

_SALT, _ONE = np.uint64(0x6E616D6573), np.uint64(1)


@entry  # not inlined: it is called too seldom to make `advance` larger
def pass_on(plan: GroupPlan, state: GroupState, former: np.uint64, key: np.uint64) -> bool:
    """Make the row of the key's former name its own, unless it has one; False where there is no room for that."""
    place = locate(state.slots, former, hash_of(state.slots, former))
    if is_free(state.slots, place) or not is_free(state.slots, locate(state.slots, key, hash_of(state.slots, key))):
        return True
    slot = state.slots.places[place, VALUE]
    cells = state.keys[slot]
    hashed: Any = np.int64(key)
    remove(state.slots, place)
    put(state.slots, locate(state.slots, key, hash_of(state.slots, key)), key, slot)
    for w in range(len(plan.windows)):
        for a in range(plan.windows[w, at.FIRST], plan.windows[w, at.END]):
            is_counted = plan.aggregates[a, at.KIND] >= at.COUNTED
            if is_counted and not count_under(plan, state, cells, w, a, hashed):
                return False
    cells[at.KEY_HASH] = hashed
    return True


@inlined
def count_under(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], w: int, a: int, key: int) -> bool:
    """Count the values inside a window under another key; what it keeps stays the same. False without room."""
    events, salt, field = state.events, plan.aggregates[a, at.SALT], plan.aggregates[a, at.FIELD]
    begin, former = plan.windows[w, at.WINDOW_CELL], cells[at.KEY_HASH]
    reach = plan.windows[w, at.OVER] + plan.windows[w, at.DELAY]
    event = next_to_leave(cells, begin)
    last = cells[begin + at.ENTER] if plan.windows[w, at.DELAY] > 0 else at.NONE
    while event != last:
        value = events[event + field]
        lateness = events[event + at.COUNTED_AT] - events[event + at.HAPPENED_AT]
        if lateness < reach and value != 0 and is_of(plan, state, w, event):
            if not has_room(state.values, 2):
                return False
            left = uncount_value(state.values, salt, former, value)
            n = count_value(state.values, salt, key, value)
            if plan.aggregates[a, at.KIND] == at.TOP:
                move_count(state.values, salt, former, left + 1, left)
                move_count(state.values, salt, key, n - 1, n)
        event = after(plan, state, cells, event)
    return True


@entry  # not inlined: see above
def name_in_row(
    plan: GroupPlan, state: GroupState, key: int, cell: int, name: np.uint64, former: np.uint64, received: int
) -> np.uint64:
    """The name that the key's row has for a value of the event cell `cell`: a former one, while it has that only.

    `former` is FREE where it is not said any more; then it is what was used before.
    """
    if name == FREE or holds(plan, state, key, cell, name):
        return name
    if former == FREE or not holds(plan, state, key, cell, former):
        former = former_in_use(plan, state, name if former == FREE else former, received)
        if former == FREE or not holds(plan, state, key, cell, former):
            return name
    hashed: Any = np.int64(former)
    use_name(state, names_key(name), hashed, received)
    return former


@inlined
def holds(plan: GroupPlan, state: GroupState, key: int, cell: int, name: np.uint64) -> bool:
    """Whether a window of the key counts this value of an event cell."""
    value: Any = np.int64(name)
    for a in range(len(plan.aggregates)):
        is_of_cell = plan.aggregates[a, at.KIND] >= at.COUNTED and plan.aggregates[a, at.FIELD] == cell
        if is_of_cell and times_counted(state.values, plan.aggregates[a, at.SALT], key, value) > 0:
            return True
    return False


@inlined
def names_key(name: np.uint64) -> np.uint64:
    """What a former name is found by in `names`, an odd number; when it was used last is found by the even one below.

    Every array that the kernel is given costs a third of a microsecond a call, so one table has both.
    """
    return mix(name, _SALT) | np.uint64(3)


@inlined
def former_in_use(plan: GroupPlan, state: GroupState, name: np.uint64, received: int) -> np.uint64:
    """The former name under which a value was counted last, FREE when that was longer ago than anything matters."""
    names, key = state.names, names_key(name)
    used = locate(names, key ^ _ONE, hash_of(names, key ^ _ONE))
    if is_free(names, used) or received - names.places[used, VALUE] > plan.horizon:
        return FREE
    return np.uint64(names.places[locate(names, key, hash_of(names, key)), VALUE])


@inlined
def use_name(state: GroupState, key: np.uint64, former: int, used: int) -> None:
    """Note that a former name was used."""
    names = state.names
    put(names, locate(names, key, hash_of(names, key)), key, former)
    put(names, locate(names, key ^ _ONE, hash_of(names, key ^ _ONE)), key ^ _ONE, used)


@entry_beside
def sweep_names(plan: GroupPlan, state: GroupState, received: int) -> None:
    """Free the former names in the next segment of the table that are in use no longer."""
    names, segment = state.names, state.counters[at.SWEPT_NAMES]
    if segment >= segments_of(names):
        segment = 0
    state.counters[at.SWEPT_NAMES] = segment + 1
    place = segment * SEGMENT
    while place < (segment + 1) * SEGMENT:
        key = np.uint64(names.places[place, KEY])
        is_time = key != FREE and key & _ONE == 0
        if is_time and received - names.places[place, VALUE] > plan.horizon:
            remove(names, locate(names, key | _ONE, hash_of(names, key | _ONE)))
            remove(names, locate(names, key, hash_of(names, key)))  # what moves up into its place is looked at next
        else:
            place += 1


def names_in_use(plan: GroupPlan, state: GroupState, received: int) -> NDArray[np.int64]:
    """The former names in use (n x 3,), in any order: what each is found by, the name, when it was used last."""
    names = np.empty(_CELLS * (held(state.names) // 2), np.int64)
    return names[: write_names(plan, state, received, names)].copy()


@entry_beside
def write_names(plan: GroupPlan, state: GroupState, received: int, data: NDArray[np.int64]) -> int:
    """Write the former names in use; where they end."""
    names, end = state.names, 0
    for place in range(SEGMENT * segments_of(names)):
        key, used = np.uint64(names.places[place, KEY]), names.places[place, VALUE]
        if key != FREE and key & _ONE == 0 and received - used <= plan.horizon:
            former = names.places[locate(names, key | _ONE, hash_of(names, key | _ONE)), VALUE]
            data[end], data[end + _FORMER], data[end + _USED] = np.int64(key | _ONE), former, used
            end += _CELLS
    return end


@entry_beside
def read_names(state: GroupState, data: NDArray[np.int64]) -> bool:
    """Take over former names in use (n x 3,); False for what cannot be any, or where there is no room."""
    if len(data) % _CELLS:
        return False
    for begin in range(0, len(data), _CELLS):
        key, former, used = np.uint64(data[begin]), data[begin + _FORMER], data[begin + _USED]
        if key & np.uint64(3) != np.uint64(3) or former == 0 or not -at.NEVER < used < at.NEVER:
            return False
        if not has_room(state.names, 2):
            return False
        use_name(state, key, former, used)
    return True
