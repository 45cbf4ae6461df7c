"""A key's profile: all that is remembered of it, as bytes that any process with the same plan can go on from.

Written down is only what does not follow from the rest: the key's hash, its clock, when it was heard of, what features
without a window remember, and its events. What the windows hold follows from the events and the clock, to the last bit,
since it is made of whole numbers. Times stand as differences and small numbers in few bytes, so an event takes some
ten bytes where the kernel's own memory takes thirty.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import LABEL_UNKNOWN, NO_TEXT
from sentinel.features import layout as at
from sentinel.features.event_list import after, append, head, label, release
from sentinel.features.forgetting import free_key, is_forgotten, move_windows
from sentinel.features.jit import entry_beside, inlined
from sentinel.features.kernel import fits, slot_of
from sentinel.features.layout import GroupPlan
from sentinel.features.state import GroupState
from sentinel.features.table import FREE, VALUE, hash_of, is_free, locate
from sentinel.features.windows import enter, inside, is_of, set_next_to_leave

DAMAGED, NO_ROOM = -1, -2
"""Instead of a position: these are no profiles of this plan; the state or the buffer is full."""

_LONGEST = 10  # bytes of a number
_SEVEN = np.uint64(7)


@entry_beside
def write_keys(plan: GroupPlan, state: GroupState, keys: NDArray[np.uint64], data: NDArray[np.uint8],
               ends: NDArray[np.int64], begin: int) -> int:  # fmt: skip
    """Write the profiles of keys from number `begin` on into `data`, one after the other; how many are written by then.

    `ends` (n,) gets where each one ends; one that is not remembered takes no bytes.
    """
    end = 0 if begin == 0 else ends[begin - 1]
    for n in range(begin, len(keys)):
        place = locate(state.slots, keys[n], hash_of(state.slots, keys[n]))
        if keys[n] != FREE and not is_free(state.slots, place):
            end = write_profile(plan, state, state.keys[state.slots.places[place, VALUE]], data, end)
            if end == NO_ROOM:
                return n
        ends[n] = end
    return len(keys)


@entry_beside
def write_all(
    plan: GroupPlan, state: GroupState, received: int, first: int, last: int, data: NDArray[np.uint8], begin: int
) -> tuple[int, int]:
    """Write the profiles of the rows from `first` up to `last` whose keys are not forgotten at `received`.

    Returns the next row to write, and where the last profile ends.
    """
    for slot in range(first, last):
        cells = state.keys[slot]
        if cells[at.HEARD] != at.NEVER and not is_forgotten(plan, cells, received):
            end = write_profile(plan, state, cells, data, begin)
            if end == NO_ROOM:
                return slot, begin
            begin = end
    return last, begin


@entry_beside
def read_profiles(
    plan: GroupPlan, state: GroupState, data: NDArray[np.uint8], begin: int, ends: NDArray[np.int64], most: int
) -> int:
    """Take over `most` profiles, or all to the end, from `begin` on; where the last one ends, or what went wrong.

    `ends` is where each one has to end, or empty. A key that is remembered already is replaced.
    """
    for n in range(most):
        if begin == len(data):
            break
        begin = read_profile(plan, state, data, begin)
        if begin < 0:
            return begin
        if len(ends) and begin != ends[n]:
            return DAMAGED
    return begin


@entry_beside
def drop_keys(plan: GroupPlan, state: GroupState, keys: NDArray[np.uint64]) -> None:
    """Remember these keys no longer."""
    for n in range(len(keys)):
        drop(plan, state, keys[n])


@inlined
def drop(plan: GroupPlan, state: GroupState, key: np.uint64) -> None:
    """Remember a key no longer."""
    place = locate(state.slots, key, hash_of(state.slots, key))
    if key != FREE and not is_free(state.slots, place):
        slot = state.slots.places[place, VALUE]
        move_windows(plan, state, state.keys[slot], state.keys[slot, at.CLOCK] + plan.reach)
        free_key(state, slot)


@inlined
def discard(plan: GroupPlan, state: GroupState, slot: int) -> None:
    """Free a row whose events have entered no window yet: they must not leave one."""
    cells = state.keys[slot]
    event = head(plan, cells)
    while event != at.NONE:
        event = release(plan, state, cells, event)
    free_key(state, slot)


@inlined
def write_profile(
    plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], data: NDArray[np.uint8], begin: int
) -> int:
    """Write one profile; where it ends, or NO_ROOM."""
    events = state.events
    n, event = 0, head(plan, cells)
    while event != at.NONE:
        n += 1
        event = after(plan, state, cells, event)
    per_event = (2 + len(plan.stored)) * _LONGEST + (9 if plan.labelled else 0)
    if begin + 8 + (3 + plan.kept_until) * _LONGEST + n * per_event > len(data):
        return NO_ROOM
    end = write_eight(data, begin, np.uint64(cells[at.KEY_HASH]))
    end = write_number(data, end, cells[at.CLOCK])
    end = write_number(data, end, cells[at.HEARD] - cells[at.CLOCK])
    for c in range(len(at.FRESH_KEY), plan.kept_until):
        end = write_number(data, end, cells[c])
    end = write_number(data, end, n)
    before, event = cells[at.CLOCK], head(plan, cells)
    while event != at.NONE:
        end = write_number(data, end, events[event + at.COUNTED_AT] - before)
        end = write_number(data, end, events[event + at.COUNTED_AT] - events[event + at.HAPPENED_AT])
        if plan.labelled:
            end = write_eight(data, end, own_id(state, event))
            data[end] = events[event + at.LABEL] + 1
            end += 1
        for s in range(len(plan.stored)):
            value = events[event + plan.stored[s, at.EVENT_CELL]]
            if plan.stored[s, at.IS_TEXT]:
                end = write_eight(data, end, np.uint64(value))
            else:
                end = write_number(data, end, value)
        before = events[event + at.COUNTED_AT]
        event = after(plan, state, cells, event)
    return end


@inlined
def own_id(state: GroupState, event: int) -> np.uint64:
    """The id by which an outcome finds this event; NO_TEXT where it finds another one, or none."""
    event_id = np.uint64(state.events[event + at.EVENT_ID])
    if event_id == FREE:
        return event_id
    place = locate(state.ids, event_id, hash_of(state.ids, event_id))
    if is_free(state.ids, place) or state.ids.places[place, VALUE] != event:
        return np.uint64(NO_TEXT)
    return event_id


@inlined
def read_profile(plan: GroupPlan, state: GroupState, data: NDArray[np.uint8], begin: int) -> int:
    """Take over one profile; where it ends, DAMAGED or NO_ROOM."""
    if begin + 8 > len(data) or not fits(plan, state):
        return DAMAGED if begin + 8 > len(data) else NO_ROOM
    key = read_eight(data, begin)
    end, clock = read_number(data, begin + 8)
    end, unheard = read_number(data, end)
    is_time = -at.NEVER < clock < at.NEVER and -at.NEVER < unheard < at.NEVER
    if key == FREE or not is_time or clock + unheard >= at.NEVER:
        return DAMAGED
    drop(plan, state, key)
    slot = slot_of(plan, state, key, hash_of(state.slots, key), True)
    cells = state.keys[slot]
    cells[at.CLOCK], cells[at.HEARD] = clock, clock + unheard
    for c in range(len(at.FRESH_KEY), plan.kept_until):
        end, cells[c] = read_number(data, end)
    end, n = read_number(data, end)
    counted_at = cells[at.CLOCK]
    for i in range(n):
        end, since = read_number(data, end)
        end, lateness = read_number(data, end)
        counted_at += since
        is_inside = cells[at.CLOCK] - plan.reach < counted_at <= cells[at.CLOCK]
        event_id, truth = FREE, LABEL_UNKNOWN
        if plan.labelled:
            event_id = read_eight(data, end)
            truth = int(data[end + 8]) - 1 if end + 8 < len(data) else 0
            end += 9
        if end >= len(data) + 1 or not is_inside or (since < 0 and i > 0) or lateness < 0 or not -1 <= truth <= 1:
            discard(plan, state, slot)
            return DAMAGED
        if not fits(plan, state):
            discard(plan, state, slot)
            return NO_ROOM
        event = append(plan, state, cells, counted_at, counted_at - lateness)
        if plan.labelled:
            label(state, event, slot, event_id, truth)
        for s in range(len(plan.stored)):
            cell = event + plan.stored[s, at.EVENT_CELL]
            if plan.stored[s, at.IS_TEXT]:
                state.events[cell] = np.int64(read_eight(data, end))
                end += 8
            else:
                end, state.events[cell] = read_number(data, end)
    if end > len(data):
        discard(plan, state, slot)
        return DAMAGED
    fill_windows(plan, state, cells)
    return end


@inlined
def fill_windows(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64]) -> None:
    """Have the windows hold what they hold at the key's clock."""
    events, first = state.events, head(plan, cells)
    for w in range(len(plan.windows)):
        over, delay, begin = plan.windows[w, at.OVER], plan.windows[w, at.DELAY], plan.windows[w, at.WINDOW_CELL]
        entered_until = cells[at.CLOCK] - delay
        event = first
        while event != at.NONE and events[event + at.COUNTED_AT] <= entered_until - over:
            event = after(plan, state, cells, event)
        set_next_to_leave(cells, begin, event)
        while (
            event != at.NONE
            and events[event + at.COUNTED_AT] <= entered_until
            and inside(cells, begin) < at.MOST_INSIDE
        ):
            lateness = events[event + at.COUNTED_AT] - events[event + at.HAPPENED_AT]
            if lateness < over + delay and is_of(plan, state, w, event):
                enter(plan, state, cells, w, event)
            event = after(plan, state, cells, event)
        if delay > 0:
            cells[begin + at.ENTER] = event


@inlined
def write_number(data: NDArray[np.uint8], at_byte: int, value: int) -> int:
    """A signed number in seven bits a byte, the lowest first, its sign in the lowest bit; where it ends."""
    rest = np.uint64(value << 1) ^ np.uint64(value >> 63)
    while rest >= np.uint64(128):
        data[at_byte] = np.uint8(rest & np.uint64(127)) | np.uint8(128)
        rest = rest >> _SEVEN
        at_byte += 1
    data[at_byte] = np.uint8(rest)
    return at_byte + 1


@inlined
def read_number(data: NDArray[np.uint8], at_byte: int) -> tuple[int, int]:
    """Where a number ends, and the number; behind the end of the data where it is cut off."""
    rest, shift = np.uint64(0), 0
    while shift < 7 * _LONGEST:
        if at_byte >= len(data):
            return len(data) + 1, 0
        byte = np.uint64(data[at_byte])
        rest |= (byte & np.uint64(127)) << np.uint64(shift)
        shift += 7
        at_byte += 1
        if byte < np.uint64(128):
            number: Any = np.int64(rest >> np.uint64(1)) ^ -np.int64(rest & np.uint64(1))
            return at_byte, number
    return len(data) + 1, 0


@inlined
def write_eight(data: NDArray[np.uint8], at_byte: int, value: np.uint64) -> int:
    """A hash as it is, in eight bytes; where it ends."""
    for b in range(8):
        data[at_byte + b] = np.uint8((value >> np.uint64(8 * b)) & np.uint64(255))
    return at_byte + 8


@inlined
def read_eight(data: NDArray[np.uint8], at_byte: int) -> np.uint64:
    """The hash at this byte; 0 where it is cut off."""
    value = np.uint64(0)
    if at_byte + 8 <= len(data):
        for b in range(8):
            value |= np.uint64(data[at_byte + b]) << np.uint64(8 * b)
    return value
