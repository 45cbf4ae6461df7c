"""The memory store: the feature state of every key."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from sentinel.errors import StorageProblem
from sentinel.events.columns import TRANSACTION, EventColumns
from sentinel.events.times import duration_us
from sentinel.features import layout as at
from sentinel.features.derived import Columns, derive
from sentinel.features.forgetting import count_forgotten
from sentinel.features.kernel import advance, advance_beside
from sentinel.features.layout import GroupPlan
from sentinel.features.memory import give_back, reserve, take_ahead
from sentinel.features.plan import CompiledPlan, FeaturePlan
from sentinel.features.profile import NO_ROOM, drop_keys, read_profiles, write_all, write_keys
from sentinel.features.renaming import names_in_use, read_names
from sentinel.features.rows import fill_rows
from sentinel.features.state import GroupState
from sentinel.features.table import Table, bytes_of, empty_table, places_bytes

_STEP = 10_000  # keys
_RECEIVED = "received"
_NO_NAMES = np.empty(0, np.int64)
_LATEST = at.NEVER  # no time in microseconds is so far from 1970
_LEAST_AHEAD, _MOST_AHEAD = 4 << 20, 32 << 20
_FIRST_BYTES = 1 << 16
PROFILE_HEAD = struct.Struct("<BQ")  # of a profile: the kernel's version, the fingerprint of the plan
CHECK_BYTES = 4  # behind a profile: of its XXH3


class MemoryStore:
    """The state of one feature plan, in memory. One thread may use it at a time.

    State depends on nothing but the events it has taken, in their order: two stores that took the same events,
    in whatever batches, give the same bits for whatever comes next. It grows with the keys that are remembered, not
    with those that ever were: see `FeaturePlan.forget_after`. With `threads` the groups of a call run in them, side by
    side, which pays where a call has thousands of events; the bits are the same.
    """

    def __init__(self, plan: FeaturePlan, threads: ThreadPoolExecutor | None = None) -> None:
        self.plan = plan
        self._threads = threads
        self.compiled = plan.compiled
        self._groups = [empty_state(group) for group in self.compiled.groups]
        self._max_ahead_us = duration_us(plan.schema.max_ahead)
        self._received_us = at.NONE  # of the newest event
        self._taken: dict[int, int] = {}  # up to which byte memory was taken ahead, by region
        self._fingerprints = [
            _fingerprint(plan, self.compiled, name, group)
            for name, group in zip(self.compiled.names, self.compiled.groups, strict=True)
        ]
        self._nothing_former = np.empty((0, len(plan.schema.texts)), np.uint64)

    def advance(self, events: EventColumns, former: NDArray[np.uint64] | None = None) -> "Features":
        """Take these events and return what was known at each of its transactions.

        `former` (n, texts) has the hashes of what texts were before the hash key was changed, NO_TEXT where that is
        nothing else: what is remembered under them is remembered under the new ones from then on.
        What follows a key counts an event at its own time, or at its arrival plus `max_ahead` where that is earlier.
        Raises StorageProblem when memory runs out, or a window of one key is full: the store can no longer be used.
        """
        columns, out = self.columns_of(events, former), self.room_for(events)
        late, known = self.advance_some(self.groups, events, columns, out)
        return Features(self.filled(events, columns, out), late, known)

    def room_for(self, events: EventColumns) -> NDArray[np.float64]:
        """The work area (transactions, width) of these events, with nothing in it yet."""
        return np.empty((int(np.count_nonzero(events.kinds == TRANSACTION)), self.compiled.width))

    def advance_some(
        self, groups: Sequence[str], events: EventColumns, columns: Columns, out: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Have these groups take the events, and write what they know into their columns of `out`.

        `columns` are those of the events (`columns_of`). Returns `late` and `known` of `Features`. Each group has a
        state of its own: those of one plan may be advanced one after the other, in different stores too, before
        `filled` is asked for the rows. Raises StorageProblem as `advance`.
        """
        ids, labels = _writeable(events.ids), _writeable(events.labels)
        counted_us = np.minimum(events.time_us, events.received_us + self._max_ahead_us)
        exact, texts, former = columns
        late, known = np.zeros(len(out), np.uint8), np.zeros(len(events), np.uint8)
        arrays = (
            events.kinds, ids, counted_us, events.received_us, exact, texts, former, labels, out, late, known
        )  # fmt: skip
        if min(self._advance_groups(groups, arrays), default=len(events)) < len(events):
            raise no_memory()
        if len(events):
            self._received_us = int(events.received_us[-1])
        return late, known

    def filled(self, events: EventColumns, columns: Columns, out: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rows (transactions, features), once every group has written what it knows into `out`."""
        exact, texts, former = columns
        fill_rows(self.compiled.rows, events.kinds, events.time_us, exact, events.plain, texts, former, out)
        return out[:, : self.compiled.outputs]

    def written_by(self, by: str) -> NDArray[np.int64]:
        """The columns of the work area (columns,) that the group `by` writes."""
        columns: NDArray[np.int64] = np.unique(self.compiled.groups[self._group_of(by)].outputs[:, at.OUTPUT])
        return columns

    def _advance_groups(self, names: Sequence[str], arrays: tuple[NDArray[Any], ...]) -> Iterator[int]:
        """How many of the events each of these groups took."""
        groups = [(self.compiled.groups[g], self._groups[g]) for g in map(self._group_of, names)]
        if self._threads is None:
            return (advance(plan, state, *arrays) for plan, state in groups)
        begun = [self._threads.submit(advance_beside, plan, state, *arrays) for plan, state in groups]
        return (one.result() for one in begun)

    def columns_of(self, events: EventColumns, former: NDArray[np.uint64] | None = None) -> Columns:
        """The columns of these events that the kernel reads: a group's key is one of the texts."""
        former = self._nothing_former if former is None else former
        derived = self.compiled.derived
        return (events.exact, events.texts, former) if derived is None else derive(derived, events, former)

    def make_room(self) -> None:
        """Take memory for what comes next; from any thread, a few times a second while transactions are decided."""
        regions = (one for group in self._groups for one in _used(group))
        for n, (array, begin, end) in enumerate(regions):
            ahead = end + min(max((end - begin) // 4, _LEAST_AHEAD), _MOST_AHEAD)
            if self._taken.get(n, begin) < ahead:
                self._taken[n] = take_ahead(array, max(self._taken.get(n, begin), end), ahead)

    def give_back(self) -> None:
        """Take the memory away from a store that is used no more; from any thread, beside others that go on."""
        groups, self._groups = self._groups, []
        for array, begin, end in (one for group in groups for one in _used(group)):
            give_back(array, begin, end + _MOST_AHEAD)

    def nbytes(self) -> int:
        """Bytes of memory that the state has written to."""
        return sum(map(_bytes_of, self._groups))

    def spare_bytes(self) -> int:
        """Bytes among them that nothing stands in any longer, or what is forgotten; it looks at every key."""
        return sum(
            _spare_bytes_of(plan, state, count_forgotten(plan, state, self._received_us))
            for plan, state in zip(self.compiled.groups, self._groups, strict=True)
        )

    def keys(self) -> int:
        """How many keys are remembered, over all groups."""
        return sum(int(state.counters[at.ALIVE]) for state in self._groups)

    def forgotten(self) -> int:
        """How many keys were forgotten so far, over all groups; one that comes back may be forgotten again."""
        return sum(int(state.counters[at.FORGOTTEN]) for state in self._groups)

    def export(self, by: str, keys: NDArray[np.uint64]) -> list[bytes]:
        """The profiles of these keys (n,), hashes of the group `by`; empty for one that is not remembered.

        Raises KeyError for a name that is none of `groups`.
        """
        g = self._group_of(by)
        data, ends, done = np.empty(_FIRST_BYTES, np.uint8), np.zeros(len(keys), np.int64), 0
        while (done := write_keys(self.compiled.groups[g], self._groups[g], keys, data, ends, done)) < len(keys):
            data = np.concatenate([data, np.empty_like(data)])
        head, whole = self.profile_head(by), data[: ends.max(initial=0)].tobytes()
        profiles, begin = [], 0
        for end in ends.tolist():
            profiles.append(sealed_profile(head, whole[begin:end]) if end > begin else b"")
            begin = end
        return profiles

    def profile_head(self, by: str) -> bytes:
        """What profiles of the group `by` begin with: the kernel's version and the fingerprint of what is kept."""
        return PROFILE_HEAD.pack(at.KERNEL_VERSION, self._fingerprints[self._group_of(by)])

    def load(self, by: str, profiles: Sequence[bytes]) -> None:
        """Go on from these profiles of keys of the group `by`; keys that are remembered already are replaced.

        Raises StorageProblem for one that is damaged, or was made for another plan; then none is taken, but for those
        before one whose checksum was made for what it cannot be.
        """
        g = self._group_of(by)
        head = self.profile_head(by)
        bodies = [profile_body(by, head, profile) for profile in profiles if profile]
        ends = np.cumsum([len(one) for one in bodies], dtype=np.int64)
        self._read(self._groups, g, np.frombuffer(b"".join(bodies), np.uint8), ends)

    def keys_of(self, by: str) -> NDArray[np.uint64]:
        """The keys (n,) of the group `by` that are not forgotten, as hashes."""
        g = self._group_of(by)
        rows = self._groups[g].keys[: int(self._groups[g].counters[at.N_KEYS])]
        is_free, silent_us = rows[:, at.HEARD] == at.NEVER, self._received_us - rows[:, at.HEARD]
        keys: NDArray[np.int64] = rows[~is_free & (silent_us <= self.compiled.groups[g].horizon), at.KEY_HASH]
        return keys.astype(np.uint64)

    def drop(self, by: str, keys: NDArray[np.uint64]) -> None:
        """Remember these keys (n,) of the group `by` no longer."""
        g = self._group_of(by)
        drop_keys(self.compiled.groups[g], self._groups[g], keys)

    def _group_of(self, by: str) -> int:
        if by not in self.compiled.names:
            raise KeyError(by)
        return self.compiled.names.index(by)

    @property
    def groups(self) -> list[str]:
        """What features follow, by name: a text, several (`card_id+merchant_id`), or of an event (`login:user`)."""
        return list(self.compiled.names)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """The profiles of all keys that are not forgotten; `restore` goes on from them with the same bits."""
        taken: dict[str, NDArray[Any]] = {_RECEIVED: np.array([self._received_us])}
        for g, (plan, state) in enumerate(zip(self.compiled.groups, self._groups, strict=True)):
            n, slot, end, data = int(state.counters[at.N_KEYS]), 0, 0, np.empty(_FIRST_BYTES, np.uint8)
            while slot < n:
                before = slot
                slot, end = write_all(plan, state, self._received_us, slot, min(slot + _STEP, n), data, end)
                if slot == before:
                    data = np.concatenate([data, np.empty_like(data)])
            taken[f"{g}.profiles"] = data[:end].copy()
            taken[f"{g}.plan"] = np.array([at.KERNEL_VERSION, self._fingerprints[g]], np.uint64)
            if len(names := names_in_use(plan, state, self._received_us)):
                taken[f"{g}.names"] = names
        return taken

    def restore(self, taken: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by a snapshot of a store with the same plan, in as little memory as it needs.

        Raises StorageProblem when the snapshot belongs to another plan, or is damaged; then nothing is changed.
        """
        expected = {_RECEIVED} | {f"{g}.{part}" for g in range(len(self._groups)) for part in ("plan", "profiles")}
        plans = [taken.get(f"{g}.plan") for g in range(len(self._groups))]
        wanted = [[at.KERNEL_VERSION, one] for one in self._fingerprints]
        optional = {f"{g}.names" for g in range(len(self._groups))}
        if taken.keys() - optional != expected or [one.tolist() for one in plans if one is not None] != wanted:
            raise StorageProblem("the snapshot belongs to another feature plan; replay the log")
        received = taken[_RECEIVED]
        if received.dtype != np.int64 or received.shape != (1,) or abs(int(received[0])) >= _LATEST:
            raise StorageProblem("the snapshot does not say when its newest event was received; it is damaged")
        restored = [empty_state(group) for group in self.compiled.groups]
        for g in range(len(restored)):
            profiles = taken[f"{g}.profiles"]
            if profiles.dtype != np.uint8 or profiles.ndim != 1:
                raise StorageProblem(f"profiles are bytes (n,), and these are {profiles.dtype} {profiles.shape}")
            self._read(restored, g, np.ascontiguousarray(profiles), np.zeros(0, np.int64))
            names = taken.get(f"{g}.names", _NO_NAMES)
            if names.dtype != np.int64 or names.ndim != 1 or not read_names(restored[g], np.ascontiguousarray(names)):
                raise StorageProblem("the former names in the snapshot cannot be any; it is damaged")
        self._groups, self._received_us, self._taken = restored, int(received[0]), {}

    def _read(self, groups: Sequence[GroupState], g: int, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """Profiles one after the other; where they end (n,), if that is known."""
        data, end, done = data.view(), 0, 0
        data.flags.writeable = False  # as bytes are: see `_writeable`
        while 0 <= end < len(data):
            end = read_profiles(self.compiled.groups[g], groups[g], data, end, ends[done : done + _STEP], _STEP)
            done += _STEP
        if end == NO_ROOM:
            raise no_memory()
        if end < 0:
            raise StorageProblem("profiles of this plan cannot be read; they are damaged")


def sealed_profile(head: bytes, body: bytes) -> bytes:
    """A profile with its head, and a checksum behind."""
    profile = head + body
    return profile + xxh3_64_digest(profile)[:CHECK_BYTES]


def profile_body(by: str, head: bytes, profile: bytes) -> bytes:
    """What a profile of the group `by` says. Raises StorageProblem where it is damaged, or has another head."""
    if not profile.startswith(head):
        raise StorageProblem(f"a profile of {by} belongs to another feature plan, or another version")
    if xxh3_64_digest(profile[:-CHECK_BYTES])[:CHECK_BYTES] != profile[-CHECK_BYTES:]:
        raise StorageProblem(f"a profile of {by} is damaged")
    return profile[PROFILE_HEAD.size : -CHECK_BYTES]


def _fingerprint(whole: FeaturePlan, compiled: CompiledPlan, name: str, plan: GroupPlan) -> int:
    """A number that two plans share if a profile holds the same for both: windows may differ that follow from it."""
    schema = whole.schema
    conditions = [msgspec.to_builtins(one) for one in compiled.conditions]
    exact: list[Any] = [*schema.whole_numbers.items(), ("conditions", conditions)]
    held: list[Any] = [
        name, plan.labelled, plan.reach, plan.kept_until,
        schema.place if plan.place != at.NONE else None,
        [schema.texts[one] if is_text else exact[one] for is_text, one in plan.stored[:, : at.EVENT_CELL].tolist()],
        [_held_last(exact, conditions, *one) for one in plan.lasts.tolist()],
        plan.sessions[:, : at.SESSION_CELL + 1].tolist(),
        [(exact[one], cell) for one, cell in plan.session_totals.tolist()],
    ]  # fmt: skip
    if plan.labelled and whole.trusted_sources is not None:
        held.append(sorted(whole.trusted_sources))
    return xxh3_64_intdigest(repr(held).encode())


def _held_last(exact: list[Any], conditions: list[Any], column: int, cell: int, condition: int) -> tuple[Any, ...]:
    what = "time" if column == at.NONE else exact[column]
    return (what, cell) if condition == at.NONE else (what, cell, conditions[condition])


def _writeable(column: NDArray[Any]) -> NDArray[Any]:
    """The column, or a copy where it cannot be written to.

    What is read from the log or a file cannot be, and the compiler would take that for another type: it would compile
    the kernel once more, for ten seconds, when a start replays the log.
    """
    return column if column.flags.writeable else column.copy()


def no_memory() -> StorageProblem:
    """What is said where the kernel took less than it was given."""
    return StorageProblem(
        "the feature state needs more memory than this machine has, or a window holds 134 million events of one key"
    )


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


def empty_state(plan: GroupPlan) -> GroupState:
    """The state of a group that remembers no key."""
    chunks_of_row = plan.home // plan.chunk_cells + 1
    memory = reserve(np.int64, plan.chunk_cells, share=2.0)
    rows = len(memory) // (2 * chunks_of_row)
    counters = np.zeros(at.COUNTERS, np.int64)
    counters[[at.FREE_CHUNK, at.FREE_KEY]] = at.NONE
    counters[at.END_OF_CHUNKS] = rows * chunks_of_row * plan.chunk_cells
    return GroupState(
        counters=counters,
        slots=empty_table(),
        keys=memory[: rows * chunks_of_row].reshape(rows, -1),
        events=memory.reshape(-1),
        values=empty_table(),
        ids=empty_table(),
        hashes=np.zeros(at.LOOKED_AHEAD + plan.event_cells, np.uint64),
        names=empty_table(),
    )


def _bytes_of(state: GroupState) -> int:
    chunks = int(state.counters[at.END_OF_CHUNKS]) - int(state.keys.size)
    rows = int(state.counters[at.N_KEYS]) * int(state.keys.shape[1])
    return 8 * (rows + chunks) + sum(map(bytes_of, _tables(state)))


def _tables(state: GroupState) -> tuple[Table, ...]:
    return state.slots, state.values, state.ids, state.names


def _used(state: GroupState) -> Iterator[tuple[NDArray[np.int64], int, int]]:
    """The large arrays, and from which byte to which they are used."""
    yield state.events, 0, 8 * int(state.counters[at.N_KEYS]) * int(state.keys.shape[1])
    yield state.events, 8 * int(state.keys.size), 8 * int(state.counters[at.END_OF_CHUNKS])
    for table in _tables(state):
        yield table.places, 0, places_bytes(table)


def _spare_bytes_of(plan: GroupPlan, state: GroupState, forgotten: int) -> int:
    counters = state.counters
    rows = int(counters[at.N_KEYS] - counters[at.ALIVE]) + forgotten
    return 8 * (rows * int(state.keys.shape[1]) + int(counters[at.FREE_CHUNKS]) * plan.chunk_cells)
