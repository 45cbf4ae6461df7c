"""The memory store: everything remembered about every key, and the one way to advance it."""

import io
import time
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import JournalProblem
from sentinel.events.log import EventLog
from sentinel.features.hashtable import rehash
from sentinel.features.kernel import (
    ENOUGH,
    FREE_EVENT,
    MORE_EVENTS,
    MORE_IDS,
    MORE_KEYS,
    MORE_VALUES,
    N_EVENTS,
    N_KEYS,
    NONE,
    ROW,
    GroupState,
    advance,
    fill_rows,
)
from sentinel.features.plan import CompiledPlan, FeaturePlan, GroupPlan, compile_plan

_FIRST_ROWS = 1024
_PIECE = 1 << 18


class MemoryStore:
    """The state of one feature plan, in memory. One thread may use it at a time.

    State depends on nothing but the events it has taken, in their order: two stores that took the same events,
    in whatever batches, give the same bits for whatever comes next.
    """

    def __init__(self, plan: FeaturePlan) -> None:
        self.plan = plan
        self.compiled: CompiledPlan = compile_plan(plan)
        self._groups = [_empty_state(group) for group in self.compiled.groups]

    def advance(self, log: EventLog) -> "Features":
        """Take the events of `log` and return what was known at each of its transactions."""
        outcomes = int(np.count_nonzero(log.is_outcome))
        n = len(log) - outcomes
        out = np.empty((n, self.compiled.width))
        late = np.zeros(n, np.uint8)
        known = np.zeros(len(log), np.uint8)
        for g, plan in enumerate(self.compiled.groups):
            self._groups[g].counters[ROW] = 0
            done, shortage = 0, -1
            while shortage != ENOUGH:
                if shortage > ENOUGH:
                    self._groups[g] = _grown(self._groups[g], shortage)
                done, shortage = advance(
                    plan, self._groups[g], done, log.is_outcome, log.ids, log.time_us, log.exact, log.texts,
                    log.labels, out, late, known,
                )  # fmt: skip
        fill_rows(self.compiled.rows, log.is_outcome, log.time_us, log.exact, log.plain, log.texts, out)
        return Features(out[:, : self.compiled.outputs], late, known)

    def make_room(self) -> None:
        """Have room for half as much again, so that what comes next need not wait until the state has grown."""
        for g, state in enumerate(self._groups):
            used = {MORE_KEYS: int(state.counters[N_KEYS]), MORE_EVENTS: int(state.counters[N_EVENTS])}
            if len(state.keys) < 1.5 * used[MORE_KEYS]:
                self._groups[g] = self._groups[g]._replace(keys=_longer(state.keys))
            if len(state.events) < 1.5 * used[MORE_EVENTS]:
                self._groups[g] = self._groups[g]._replace(events=_longer(state.events))

    def nbytes(self) -> int:
        """Bytes held by the state."""
        return sum(array.nbytes for state in self._groups for array in state)

    def keys(self) -> int:
        """How many keys are remembered, over all groups."""
        return sum(int(state.counters[N_KEYS]) for state in self._groups)

    def snapshot(self, room: dict[str, NDArray[Any]] | None = None) -> dict[str, NDArray[Any]]:
        """A copy of the whole state, cut to what is in use; `restore` takes it back bit for bit.

        `room` is where copies go, and grows as needed: given again, it saves the time that fresh memory takes.
        """
        taken: dict[str, NDArray[Any]] = {}
        room = {} if room is None else room
        for g, state in enumerate(self._groups):
            used = {"keys": int(state.counters[N_KEYS]), "events": int(state.counters[N_EVENTS])}
            for name, array in state._asdict().items():
                taken[f"{g}.{name}"] = _copied(array[: used.get(name, len(array))], f"{g}.{name}", room)
        return taken

    def restore(self, taken: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by a snapshot of a store with the same plan.

        Raises JournalProblem when the snapshot belongs to another plan.
        """
        restored = []
        for g, state in enumerate(self._groups):
            try:
                arrays = {name: np.array(taken[f"{g}.{name}"]) for name in state._fields}
            except KeyError:
                raise JournalProblem("the snapshot belongs to another feature plan; replay the journal") from None
            found = GroupState(**arrays)
            if found.keys.shape[1:] != state.keys.shape[1:] or found.events.shape[1:] != state.events.shape[1:]:
                raise JournalProblem("the snapshot belongs to another feature plan; replay the journal")
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


def _copied(array: NDArray[Any], name: str, room: dict[str, NDArray[Any]]) -> NDArray[Any]:
    found = room.get(name)
    if found is None or len(found) < len(array):
        room[name] = found = np.empty((len(array) + len(array) // 2, *array.shape[1:]), array.dtype)
    copy = found[: len(array)]
    np.copyto(copy, array)
    return copy


def pack(snapshot: Mapping[str, NDArray[Any]]) -> bytes:
    """A snapshot as bytes (NumPy's npz; each part carries a CRC)."""
    buffer = io.BytesIO()
    write_packed(snapshot, buffer)
    return buffer.getvalue()


def write_packed(snapshot: Mapping[str, NDArray[Any]], file: IO[bytes], pause_s: float = 0.0) -> None:
    """Write what `pack` returns to a file, in small pieces with pauses, so that no other thread waits for long."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in snapshot.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                header = np.lib.format.header_data_from_array_1_0(array)
                np.lib.format.write_array_header_1_0(entry, header)
                flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                for begin in range(0, len(flat), _PIECE):
                    entry.write(flat[begin : begin + _PIECE])
                    if pause_s:
                        time.sleep(pause_s)


def unpack(data: bytes) -> dict[str, NDArray[Any]]:
    """The snapshot that `pack` wrote. Raises JournalProblem when the bytes are damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:
        raise JournalProblem(f"the snapshot is damaged ({error})") from error


def _empty_state(plan: GroupPlan) -> GroupState:
    counters = np.zeros(6, np.int64)
    counters[FREE_EVENT] = NONE
    return GroupState(
        counters=counters,
        key_table=np.zeros(4 * _FIRST_ROWS, np.uint64),
        key_slots=np.zeros(4 * _FIRST_ROWS, np.int64),
        keys=np.zeros((_FIRST_ROWS, int(plan.shape[1])), np.int64),
        events=np.zeros((_FIRST_ROWS, int(plan.shape[2])), np.int64),
        value_table=np.zeros(4 * _FIRST_ROWS, np.uint64),
        value_counts=np.zeros(4 * _FIRST_ROWS, np.int64),
        id_table=np.zeros(4 * _FIRST_ROWS, np.uint64),
        id_events=np.zeros(4 * _FIRST_ROWS, np.int64),
    )


def _grown(state: GroupState, shortage: int) -> GroupState:
    """The same state with twice the room for what ran out."""
    if shortage == MORE_EVENTS:
        return state._replace(events=_longer(state.events))
    if shortage == MORE_VALUES:
        table, counts = _roomier(state.value_table, state.value_counts)
        return state._replace(value_table=table, value_counts=counts)
    if shortage == MORE_IDS:
        table, events = _roomier(state.id_table, state.id_events)
        return state._replace(id_table=table, id_events=events)
    assert shortage == MORE_KEYS  # noqa: S101 - the kernel knows no other
    grown = state
    if 2 * state.counters[N_KEYS] >= len(state.key_table):
        table, slots = _roomier(state.key_table, state.key_slots)
        grown = grown._replace(key_table=table, key_slots=slots)
    if state.counters[N_KEYS] == len(state.keys):
        grown = grown._replace(keys=_longer(state.keys))
    return grown


def _longer(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    longer = np.zeros((max(_FIRST_ROWS, 2 * len(rows)), rows.shape[1]), np.int64)
    longer[: len(rows)] = rows
    return longer


def _roomier(table: NDArray[np.uint64], values: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    new_table, new_values = np.zeros(2 * len(table), np.uint64), np.zeros(2 * len(values), np.int64)
    rehash(table, values, new_table, new_values)
    return new_table, new_values
