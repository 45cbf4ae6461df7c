"""The events of a key: a list of chunks, so that what follows each other lies side by side. Part of the kernel.

An event is known by where its first cell stands in `events`, and stays there until every window has let go of it.
"""

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import NO_TEXT
from sentinel.features import layout as at
from sentinel.features.jit import inlined
from sentinel.features.layout import GroupPlan
from sentinel.features.state import GroupState
from sentinel.features.table import VALUE, hash_of, is_free, locate, put, remove
from sentinel.features.windows import next_to_leave, set_next_to_leave


@inlined
def head(plan: GroupPlan, cells: NDArray[np.int64]) -> int:
    """The key's first event, or NONE."""
    return at.NONE if cells[at.TAIL] == at.NONE else next_to_leave(cells, plan.longest)


@inlined
def after(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], event: int) -> int:
    """The event that follows this one, or NONE."""
    if event == cells[at.TAIL]:
        return at.NONE
    if is_last_in_chunk(plan, event):
        return state.events[chunk_of(plan, event)]
    return event + plan.event_cells


@inlined
def is_last_in_chunk(plan: GroupPlan, event: int) -> bool:
    """Whether the event is the last that its chunk can hold."""
    return event & (plan.chunk_cells - 1) == plan.last_in_chunk


@inlined
def chunk_of(plan: GroupPlan, event: int) -> int:
    """Where the event's chunk begins."""
    return event & ~(plan.chunk_cells - 1)


@inlined
def append(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], counted_at: int, happened_at: int) -> int:
    """A new last event of the key; every cursor that waits at the end now points to it."""
    events, tail = state.events, cells[at.TAIL]
    if tail == at.NONE or is_last_in_chunk(plan, tail):
        event = take_chunk(plan, state, cells)
        if tail != at.NONE:
            events[chunk_of(plan, tail)] = event
    else:
        event = tail + plan.event_cells
    cells[at.TAIL] = event
    events[event + at.COUNTED_AT] = counted_at
    events[event + at.HAPPENED_AT] = happened_at
    for w in range(len(plan.windows)):
        begin = plan.windows[w, at.WINDOW_CELL]
        if next_to_leave(cells, begin) == at.NONE:
            set_next_to_leave(cells, begin, event)
        if plan.windows[w, at.DELAY] > 0 and cells[begin + at.ENTER] == at.NONE:
            cells[begin + at.ENTER] = event
    return event


@inlined
def take_chunk(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64]) -> int:
    """A chunk that is free, the row's own if it is; where its first event begins."""
    counters, event = state.counters, cells[at.HOME]
    if event != at.NONE:
        cells[at.HOME] = at.NONE
        return event
    event = counters[at.FREE_CHUNK]
    if event == at.NONE:
        event = counters[at.END_OF_CHUNKS] + at.CHUNK_HEAD
        counters[at.END_OF_CHUNKS] += plan.chunk_cells
    else:
        counters[at.FREE_CHUNK] = state.events[chunk_of(plan, event)]
        counters[at.FREE_CHUNKS] -= 1
    return event


@inlined
def release(plan: GroupPlan, state: GroupState, cells: NDArray[np.int64], event: int) -> int:
    """Forget the key's first event, which has left every window, and free its chunk if that is empty now; the next."""
    events, following = state.events, after(plan, state, cells, event)
    if plan.labelled and events[event + at.EVENT_ID] != NO_TEXT:
        event_id = np.uint64(events[event + at.EVENT_ID])
        place = locate(state.ids, event_id, hash_of(state.ids, event_id))
        if not is_free(state.ids, place) and state.ids.places[place, VALUE] == event:
            remove(state.ids, place)  # an id that was given again is of the later event
    if following == at.NONE:
        cells[at.TAIL] = at.NONE
    if following == at.NONE or is_last_in_chunk(plan, event):
        chunk = chunk_of(plan, event)
        if chunk < state.keys.size:
            cells[at.HOME] = chunk + at.CHUNK_HEAD
        else:
            events[chunk] = state.counters[at.FREE_CHUNK]
            state.counters[at.FREE_CHUNK] = chunk + at.CHUNK_HEAD
            state.counters[at.FREE_CHUNKS] += 1
    return following


@inlined
def label(state: GroupState, event: int, slot: int, event_id: np.uint64, truth: int) -> None:
    """Note the label of an event of row `slot`; with an id its outcome finds it."""
    events = state.events
    events[event + at.SLOT] = slot
    events[event + at.EVENT_ID] = np.int64(event_id)
    events[event + at.LABEL] = truth
    if event_id != NO_TEXT:
        put(state.ids, locate(state.ids, event_id, hash_of(state.ids, event_id)), event_id, event)


@inlined
def let_go(state: GroupState, event_id: np.uint64) -> None:
    """Have no event found by this id: it was given to a later transaction, which is not among the events."""
    place = locate(state.ids, event_id, hash_of(state.ids, event_id))
    if not is_free(state.ids, place):
        remove(state.ids, place)
