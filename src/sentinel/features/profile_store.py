"""A store that keeps nothing but profiles between batches: what Redis and Flink do with a mapping of their own."""

from collections.abc import Mapping, MutableMapping

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import NO_TEXT, EventColumns
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import Features, MemoryStore

Profiles = MutableMapping[tuple[str, int], bytes]
"""Profiles by the name of the group and the hash of the key."""


class ProfileStore:
    """Takes batch after batch like a MemoryStore, with the same bits, and remembers every key as a profile.

    An outcome finds its transaction by the keys of it: its row of `texts` must hold them. Profiles of keys that were
    silent for longer than `horizon_us` may be deleted: they are forgotten already.
    """

    def __init__(self, plan: FeaturePlan, profiles: Profiles) -> None:
        self._profiles = profiles
        self._memory = MemoryStore(plan)
        self._columns = [group.key for group in self._memory.compiled.groups]
        self.horizon_us = self._memory.compiled.horizon_us

    def advance(self, events: EventColumns) -> Features:
        """Take these events and return what was known at each of its transactions.

        Raises StorageProblem for a profile that is damaged or of another plan; then nothing is changed.
        """
        keys, memory = self._keys(events), self._memory
        try:
            features = self._loaded(events, keys, self._profiles)
            found = {
                (by, key): profile
                for by, of_group in zip(memory.groups, keys, strict=True)
                for key, profile in zip(of_group.tolist(), memory.export(by, of_group), strict=True)
                if profile
            }
        finally:
            self._drop(keys)
        self._profiles.update(found)
        return features

    def known_at(self, events: EventColumns, profiles: Mapping[tuple[str, int], bytes]) -> Features:
        """What is known at each of these transactions by the profiles given, which stay as they are.

        A key that is not among them is new. Raises StorageProblem as `advance` does.
        """
        keys = self._keys(events)
        try:
            return self._loaded(events, keys, profiles)
        finally:
            self._drop(keys)

    def keys_of(self, events: EventColumns) -> list[tuple[str, int]]:
        """The group and the hash of each key of these events, once."""
        groups = zip(self._memory.groups, self._keys(events), strict=True)
        return [(by, key) for by, of_group in groups for key in of_group.tolist()]

    def _keys(self, events: EventColumns) -> list[NDArray[np.uint64]]:
        """The keys of each group."""
        _, texts, _ = self._memory.columns_of(events)
        keys = [np.unique(texts[:, column]) for column in self._columns]
        return [of_group[of_group != NO_TEXT] for of_group in keys]

    def _loaded(
        self, events: EventColumns, keys: list[NDArray[np.uint64]], profiles: Mapping[tuple[str, int], bytes]
    ) -> Features:
        for by, of_group in zip(self._memory.groups, keys, strict=True):
            self._memory.load(by, [profiles.get((by, key), b"") for key in of_group.tolist()])
        return self._memory.advance(events)

    def _drop(self, keys: list[NDArray[np.uint64]]) -> None:
        for by, of_group in zip(self._memory.groups, keys, strict=True):
            self._memory.drop(by, of_group)
