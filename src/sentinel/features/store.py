"""The memory store: the feature state of every key."""

import io
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import StorageProblem
from sentinel.events.columns import EventColumns
from sentinel.events.times import duration_us
from sentinel.features.hashtable import rehash
from sentinel.features.kernel import ENOUGH, MORE_EVENTS, MORE_IDS, MORE_KEYS, MORE_VALUES, advance
from sentinel.features.layout import (
    ALIVE,
    COUNTERS,
    FORGOTTEN,
    FREE_EVENT,
    FREE_KEY,
    N_EVENTS,
    N_IDS,
    N_KEYS,
    N_VALUES,
    NEVER,
    NONE,
    OLDEST_SWEPT,
    GroupPlan,
    GroupState,
)
from sentinel.features.plan import CompiledPlan, FeaturePlan, compile_plan
from sentinel.features.rows import fill_rows

_FIRST_ROWS = 1024
_PIECE = 1 << 18


class MemoryStore:
    """The state of one feature plan, in memory. One thread may use it at a time.

    State depends on nothing but the events it has taken, in their order: two stores that took the same events,
    in whatever batches, give the same bits for whatever comes next. It grows with the keys that are remembered, not
    with those that ever were: see `FeaturePlan.forget_after`.
    """

    def __init__(self, plan: FeaturePlan) -> None:
        self.plan = plan
        self.compiled: CompiledPlan = compile_plan(plan)
        self._groups = [_empty_state(group) for group in self.compiled.groups]
        self._max_ahead_us = duration_us(plan.schema.max_ahead)
        self._spare: dict[str, NDArray[Any]] = {}

    def advance(self, events: EventColumns) -> "Features":
        """Take these events and return what was known at each of its transactions.

        What follows a key counts an event at its own time, or at its arrival plus `max_ahead` where that is earlier.
        """
        counted_us = np.minimum(events.time_us, events.received_us + self._max_ahead_us)
        outcomes = int(np.count_nonzero(events.is_outcome))
        n = len(events) - outcomes
        out = np.empty((n, self.compiled.width))
        late = np.zeros(n, np.uint8)
        known = np.zeros(len(events), np.uint8)
        for g, plan in enumerate(self.compiled.groups):
            done, shortage = 0, -1
            while shortage != ENOUGH:
                if shortage > ENOUGH:
                    self._groups[g] = _grown(self._groups[g], shortage, partial(self._twice, g))
                done, shortage = advance(
                    plan, self._groups[g], done, events.is_outcome, events.ids, counted_us, events.received_us,
                    events.exact, events.texts, events.labels, out, late, known,
                )  # fmt: skip
        fill_rows(self.compiled.rows, events.is_outcome, events.time_us, events.exact, events.plain, events.texts, out)
        return Features(out[:, : self.compiled.outputs], late, known)

    def grows_soon(self) -> bool:
        """Whether an array is so full that memory for its growth should be made."""
        return any(True for _ in self._lacking())

    def _lacking(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """The arrays that grow soon and have no memory made for it."""
        for g, state in enumerate(self._groups):
            for name in _filling(state):
                array, spare = getattr(state, name), self._spare.get(f"{g}.{name}")
                if spare is None or spare.shape != _twice_of(array):
                    yield f"{g}.{name}", array

    def make_room(self, pause_s: float = 0.0) -> None:
        """Make the memory for what grows soon; from any thread.

        It is written to once, in small pieces with pauses: memory that was never used takes up to twenty times as long,
        and everyone would wait for that.
        """
        for name, array in list(self._lacking()):
            self._spare[name] = _touched(_twice_of(array), array.dtype, pause_s)

    def _twice(self, g: int, name: str) -> NDArray[Any]:
        """Zeros, twice as long as the array of this name."""
        array, spare = getattr(self._groups[g], name), self._spare.pop(f"{g}.{name}", None)
        if spare is not None and spare.shape == _twice_of(array):
            return spare
        return np.zeros(_twice_of(array), array.dtype)

    def nbytes(self) -> int:
        """Bytes held by the state."""
        return sum(array.nbytes for state in self._groups for array in state)

    def keys(self) -> int:
        """How many keys are remembered, over all groups."""
        return sum(int(state.counters[ALIVE]) for state in self._groups)

    def forgotten(self) -> int:
        """How many keys were forgotten so far, over all groups; one that comes back may be forgotten again."""
        return sum(int(state.counters[FORGOTTEN]) for state in self._groups)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """A copy of the whole state, cut to what is in use; `restore` takes it back bit for bit."""
        taken: dict[str, NDArray[Any]] = {}
        for g, state in enumerate(self._groups):
            used = {"keys": int(state.counters[N_KEYS]), "events": int(state.counters[N_EVENTS])}
            for name, array in state._asdict().items():
                taken[f"{g}.{name}"] = array[: used.get(name, len(array))].copy()
        return taken

    def restore(self, taken: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by a snapshot of a store with the same plan.

        Raises StorageProblem when the snapshot belongs to another plan.
        """
        restored = []
        for g, state in enumerate(self._groups):
            try:
                arrays = {name: np.array(taken[f"{g}.{name}"]) for name in state._fields}
            except KeyError:
                raise StorageProblem("the snapshot belongs to another feature plan; replay the log") from None
            found = GroupState(**arrays)
            if found.keys.shape[1:] != state.keys.shape[1:] or found.events.shape[1:] != state.events.shape[1:]:
                raise StorageProblem("the snapshot belongs to another feature plan; replay the log")
            restored.append(found)
        self._groups = restored


class Features:
    """What `MemoryStore.advance` returns.

    - `rows` float64 (transactions, features): NaN is missing.
    - `late` uint8 (transactions,): 1 where a newer event of one of its keys had come before.
    - `known` uint8 (events,): 1 for an outcome whose transaction is still remembered.
    """

    __slots__ = ("known", "late", "rows")

    def __init__(self, rows: NDArray[np.float64], late: NDArray[np.uint8], known: NDArray[np.uint8]) -> None:
        self.rows = rows
        self.late = late
        self.known = known


def pack(snapshot: Mapping[str, NDArray[Any]]) -> bytes:
    """A snapshot as bytes (NumPy's npz; each part carries a CRC)."""
    buffer = io.BytesIO()
    write_packed(snapshot, buffer)
    return buffer.getvalue()


def write_packed(snapshot: Mapping[str, NDArray[Any]], file: IO[bytes]) -> None:
    """Write what `pack` returns to a file, in small pieces."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in snapshot.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                header = np.lib.format.header_data_from_array_1_0(array)
                np.lib.format.write_array_header_1_0(entry, header)
                flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                for begin in range(0, len(flat), _PIECE):
                    entry.write(flat[begin : begin + _PIECE])


def unpack(data: bytes) -> dict[str, NDArray[Any]]:
    """The snapshot that `pack` wrote. Raises StorageProblem when the bytes are damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:
        raise StorageProblem(f"the snapshot is damaged ({error})") from error


def _empty_state(plan: GroupPlan) -> GroupState:
    counters = np.zeros(COUNTERS, np.int64)
    counters[[FREE_EVENT, FREE_KEY]] = NONE
    counters[OLDEST_SWEPT] = NEVER
    return GroupState(
        counters=counters,
        key_table=np.zeros(4 * _FIRST_ROWS, np.uint64),
        key_slots=np.zeros(4 * _FIRST_ROWS, np.int64),
        keys=np.zeros((_FIRST_ROWS, len(plan.fresh)), np.int64),
        events=np.zeros((_FIRST_ROWS, plan.event_cells), np.int64),
        value_table=np.zeros(4 * _FIRST_ROWS, np.uint64),
        value_counts=np.zeros(4 * _FIRST_ROWS, np.int64),
        id_table=np.zeros(4 * _FIRST_ROWS, np.uint64),
        id_events=np.zeros(4 * _FIRST_ROWS, np.int64),
    )


def _touched(shape: tuple[int, ...], dtype: np.dtype[Any], pause_s: float) -> NDArray[Any]:
    """Zeros in memory that has been written to."""
    array = np.empty(shape, dtype)
    flat = array.reshape(-1).view(np.uint8)
    for begin in range(0, len(flat), _PIECE):
        flat[begin : begin + _PIECE] = 0
        if pause_s:
            time.sleep(pause_s)
    return array


def _twice_of(array: NDArray[Any]) -> tuple[int, ...]:
    return (max(2 * len(array), _FIRST_ROWS), *array.shape[1:])


def _filling(state: GroupState) -> list[str]:
    """The arrays that have used three fifths of what they hold before they grow."""
    keys, events, values, ids = (int(state.counters[one]) for one in (ALIVE, N_EVENTS, N_VALUES, N_IDS))
    shares = {
        "events": events / max(len(state.events), 1),  # a restored state holds just what is in use
        "keys": keys / max(len(state.keys), 1),
        **dict.fromkeys(("key_table", "key_slots"), 2 * keys / len(state.key_table)),
        **dict.fromkeys(("value_table", "value_counts"), 2 * values / len(state.value_table)),
        **dict.fromkeys(("id_table", "id_events"), 2 * ids / len(state.id_table)),
    }
    return [name for name, share in shares.items() if share > 0.6]


def _grown(state: GroupState, shortage: int, twice: Callable[[str], NDArray[Any]]) -> GroupState:
    """The same state with twice the room for what ran out."""
    if shortage == MORE_EVENTS:
        return state._replace(events=_longer(state.events, twice("events")))
    if shortage == MORE_VALUES:
        table, counts = twice("value_table"), twice("value_counts")
        rehash(state.value_table, state.value_counts, table, counts)
        return state._replace(value_table=table, value_counts=counts)
    if shortage == MORE_IDS:
        table, events = twice("id_table"), twice("id_events")
        rehash(state.id_table, state.id_events, table, events)
        return state._replace(id_table=table, id_events=events)
    assert shortage == MORE_KEYS  # noqa: S101 - the kernel knows no other
    grown = state
    if 2 * state.counters[ALIVE] >= len(state.key_table):
        table, slots = twice("key_table"), twice("key_slots")
        rehash(state.key_table, state.key_slots, table, slots)
        grown = grown._replace(key_table=table, key_slots=slots)
    if state.counters[FREE_KEY] == NONE and state.counters[N_KEYS] == len(state.keys):
        grown = grown._replace(keys=_longer(state.keys, twice("keys")))
    return grown


def _longer(rows: NDArray[np.int64], longer: NDArray[np.int64]) -> NDArray[np.int64]:
    longer[: len(rows)] = rows
    return longer
