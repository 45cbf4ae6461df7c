"""A group of features whose keys are kept elsewhere, one profile each: what an operator of a stream engine runs."""

import numpy as np

from sentinel.errors import StorageProblem
from sentinel.events.columns import NO_TEXT
from sentinel.features.event_cells import EventCells
from sentinel.features.one_profile import NOT_TAKEN, take_one
from sentinel.features.plan import FeaturePlan
from sentinel.features.profile import DAMAGED, NO_ROOM, drop_keys, write_keys
from sentinel.features.store import MemoryStore, empty_state, no_memory, profile_body, sealed_profile

_FIRST_BYTES = 1 << 14


class KeyedGroup:
    """Takes one event of one key at a time, with the bits that a MemoryStore gives for the events of that key.

    It remembers nothing between two events: the profile comes in and goes out. One thread may use it at a time.
    """

    def __init__(self, plan: FeaturePlan, store: MemoryStore, by: str) -> None:
        """`store` is an empty one of the plan; `by` is one of its groups."""
        self.by, self.cells = by, EventCells(plan, store)
        self._plan = store.compiled.groups[store.groups.index(by)]
        self._state, self._head = empty_state(self._plan), store.profile_head(by)
        self._data = np.empty(_FIRST_BYTES, np.uint8)
        self.column, self.horizon_us = int(self._plan.key), int(self._plan.horizon)

    def key_of(self, packed: bytes) -> int:
        """The key of a packed event, NO_TEXT where it has none."""
        return self.cells.key_hash(packed, self.column)

    def take(self, packed: bytes, profile: bytes) -> tuple[bytes, bytes]:
        """The event with what this group knows of it, and the key's next profile; empty is one of a new key.

        Raises StorageProblem for a profile that is damaged or of another plan.
        """
        cells, size = self.cells, 0
        cells.read(packed)
        if profile:
            body = profile_body(self.by, self._head, profile)
            size = len(body)
            self._make_room(size)
            self._data[:size] = np.frombuffer(body, np.uint8)
        end = take_one(
            self._plan, self._state, self._data, size, cells.kinds, cells.ids, cells.counted_us, cells.received_us,
            cells.exact, cells.texts, cells.former, cells.labels, cells.out, cells.late, cells.known,
        )  # fmt: skip
        if end == DAMAGED:
            raise StorageProblem(f"a profile of {self.by} cannot be read; it is damaged")
        if end == NOT_TAKEN:
            raise no_memory()
        if end == NO_ROOM:
            end = self._write_larger()
        return cells.packed(), sealed_profile(self._head, self._data[:end].tobytes()) if end else b""

    def _write_larger(self) -> int:
        """Write the profile that did not fit; where it ends."""
        keys, ends = self.cells.texts[0, self.column : self.column + 1], np.zeros(1, np.int64)
        while keys[0] != NO_TEXT and write_keys(self._plan, self._state, keys, self._data, ends, 0) < 1:
            self._make_room(2 * len(self._data))
        drop_keys(self._plan, self._state, keys)
        return int(ends[0])

    def _make_room(self, size: int) -> None:
        if len(self._data) < size:
            self._data = np.empty(max(size, 2 * len(self._data)), np.uint8)
