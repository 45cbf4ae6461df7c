"""A store that keeps nothing but profiles between batches: what Redis and Flink do with a mapping of their own."""

from collections.abc import MutableMapping

import numpy as np

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
        _, texts, _ = self._memory.columns_of(events)
        keys = [np.unique(texts[:, column]) for column in self._columns]
        keys = [of_group[of_group != NO_TEXT] for of_group in keys]
        memory, groups = self._memory, self._memory.groups
        try:
            for by, of_group in zip(groups, keys, strict=True):
                memory.load(by, [self._profiles.get((by, key), b"") for key in of_group.tolist()])
            features = memory.advance(events)
            found = {
                (by, key): profile
                for by, of_group in zip(groups, keys, strict=True)
                for key, profile in zip(of_group.tolist(), memory.export(by, of_group), strict=True)
                if profile
            }
        finally:
            for by, of_group in zip(groups, keys, strict=True):
                memory.drop(by, of_group)
        self._profiles.update(found)
        return features
