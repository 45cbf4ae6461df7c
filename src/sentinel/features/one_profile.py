"""One event of one key, from the profile before it to the profile after it, in one call of the kernel."""

import numpy as np
from numpy.typing import NDArray

from sentinel.features.jit import entry
from sentinel.features.kernel import advance
from sentinel.features.layout import GroupPlan
from sentinel.features.profile import DAMAGED, NO_ROOM, drop, read_profile, write_profile
from sentinel.features.state import GroupState
from sentinel.features.table import FREE, VALUE, hash_of, is_free, locate

NOT_TAKEN = -3
"""Instead of a position: the kernel did not take the event, for want of memory."""


@entry
def take_one(
    plan: GroupPlan,
    state: GroupState,
    data: NDArray[np.uint8],
    size: int,
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
    """Take the one event of these columns, from the profile in the first `size` bytes of `data` to the one after it.

    Returns where that ends in `data`: 0 where nothing is remembered, NO_ROOM where it does not fit and is still in the
    state, DAMAGED where there is no profile of this key in `data`. Otherwise the state is empty again.
    """
    key = texts[0, plan.key]
    if size > 0:
        end = read_profile(plan, state, data[:size], 0)
        if end != size or key == FREE or is_free(state.slots, locate(state.slots, key, hash_of(state.slots, key))):
            return DAMAGED
    taken = advance(
        plan, state, kinds, ids, time_us, received_us, exact, texts, former, labels, out, late, known
    )  # fmt: skip
    if taken < 1:
        return NOT_TAKEN
    place = locate(state.slots, key, hash_of(state.slots, key))
    if key == FREE or is_free(state.slots, place):
        return 0
    end = write_profile(plan, state, state.keys[state.slots.places[place, VALUE]], data, 0)
    if end != NO_ROOM:
        drop(plan, state, key)
    return end
