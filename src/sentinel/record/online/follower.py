"""Writes the online view. `python -m sentinel.record.online.follower --home H` runs as a process."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sentinel.child_process import die_with_parent, yield_to_decisions
from sentinel.errors import SentinelError, StorageProblem
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import load_bundle, read_manifest
from sentinel.model.registry import Registry, TrustedKeys
from sentinel.model.signing import read_trusted_keys
from sentinel.record.applied import deployment_in
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.record.home_reader import open_log
from sentinel.record.log import Kind, LogReader, Record
from sentinel.record.online.layout import JOB, OnlineMoved, OnlinePosition, ProfileRow
from sentinel.record.online.place import PROGRAM, REDIS, open_online
from sentinel.record.online.rows import FeatureRows, TouchedKeys, kept_us
from sentinel.record.private import keep_private
from sentinel.record.problem import tell_problem
from sentinel.record.snapshots import Snapshots

if TYPE_CHECKING:
    from sentinel.record.online.store import OnlineStore

STEP = 2_048
_KEYS_AT_ONCE = 10_000
_PAUSE_S, _RETRY_S = 0.1, 2.0


class OnlineFollower:
    """Brings an online view up to the end of the log, for the champion that is in force when it begins.

    Where the view is of nothing yet, or of another feature state, all keys are written. A step that raises
    StorageProblem may have written a part, and is done again by the next follower: what is newer wins.
    """

    def __init__(
        self, store: "OnlineStore", log: LogReader, state: FeatureState, has_made: Callable[[str], bool], chosen_at: int
    ) -> None:
        """The champion was looked up when the log was durable up to `chosen_at`, or later."""
        self._store, self._log, self._state, self._chosen_at = store, log, state, chosen_at
        plan = state.bundle.manifest.plan
        self._rows, self._touched, self._kept_us = FeatureRows(plan, has_made), TouchedKeys(plan, log), kept_us(plan)
        self._at = store.position()
        if self._at is not None and self._at.log_id.startswith(JOB):
            raise StorageProblem(
                f"the profiles in {store.name} are those of a job of Flink; give this server another database of Redis "
                "(redis://host:6379/1)"
            )
        if self._at is not None and self._at.log_id != log.log_id:
            raise StorageProblem(
                f"the online view in {store.name} belongs to another log; `sentinel views rebuild --online` makes it "
                "anew from this one"
            )
        is_kept = self._at is not None and self._at.state_id == state.id and self._at.position <= log.durable
        self._whole = not is_kept
        self.position = max(self._at.position, log.first) if self._at is not None and is_kept else log.first
        """Features of everything before it are written."""

        self.is_over = False
        """Whether another model may be champion by now."""

    @property
    def lag(self) -> int:
        """How many positions are durable and not in the view yet."""
        return max(self._log.durable - self.position, 0)

    def step(self, now_us: int) -> bool:
        """Write what comes next, which was durable at `now_us`; whether there is more to do at once.

        Raises OnlineMoved where the view was emptied, or moved by another follower.
        """
        records = self._log.read(self.position, STEP)
        if not records:
            if self._whole:
                self._finish(self.position, "", now_us)
            elif self._at is not None:
                self._move(self._at._replace(at_us=now_us))
            return False
        end = records[-1].position + records[-1].rows
        for view, rows in zip(self._rows.views, self._rows.newest(records), strict=True):
            self._store.write_features(view.name, view.keys, list(view.columns), rows)
        if not self._whole:
            self._write_profiles(records, end)
        if not self._whole or end >= self._log.durable:
            self._finish(end, records[-1].chain.hex(), now_us)
        self.position = end
        self.is_over |= any(
            record.kind in (Kind.APPLIED, Kind.ACTIVATION) and record.position >= self._chosen_at for record in records
        )
        return sum(record.rows for record in records) >= STEP

    def _finish(self, end: int, chain: str, now_us: int) -> None:
        """Note how far it is; where all is new, after the profiles of all keys."""
        if self._whole:
            self._bring_state_to(end)
            for group in self._memory.groups:
                keys = self._memory.keys_of(group)
                for n in range(0, len(keys), _KEYS_AT_ONCE):
                    self._export(group, keys[n : n + _KEYS_AT_ONCE], now_us)
        self._move(OnlinePosition(self._log.log_id, end, chain, self._state.id, now_us))
        self._whole = False

    def _move(self, to: OnlinePosition) -> None:
        self._store.move(None if self._at is None else self._at.position, to)
        self._at = to

    def _write_profiles(self, records: Sequence[Record], end: int) -> None:
        self._bring_state_to(end)
        for group, keys in self._touched.of(records).items():
            self._export(group, keys, records[-1].received_us)

    def _export(self, group: str, keys: NDArray[np.uint64], heard_us: int) -> None:
        profiles = zip(keys.tolist(), self._memory.export(group, keys), strict=True)
        at, expires_ms = self._state.position, (heard_us + self._kept_us) // 1_000 + 1
        self._store.write_profiles(group, [ProfileRow(key, one, at, expires_ms) for key, one in profiles if one])

    def _bring_state_to(self, end: int) -> None:
        while self._state.position < end and self._state.take_next(self._log):
            pass

    @property
    def _memory(self) -> MemoryStore:
        assert self._state.store is not None  # noqa: S101 - it was restored
        return self._state.store


def open_follower(home: Path, url: str, log: LogReader, registry: Registry) -> OnlineFollower | None:
    """The follower of the champion that is in force; None while there is none that has decided."""
    chosen_at = log.durable
    version = deployment_in(log).champion
    if version is None:
        return None
    bundle = load_bundle(registry.path(version), registry.trusted)
    begin = activation_of(log, bundle.state_id)
    if begin is None:
        return None
    plan_sha256 = bundle.manifest.plan_sha256

    @cache
    def has_made(other: str) -> bool:
        try:
            return read_manifest(registry.path(other)).plan_sha256 == plan_sha256
        except (SentinelError, OSError):
            return False

    store = open_online(home, bundle.manifest.detector, url)
    store.exercise()
    state = FeatureState(bundle, begin)
    state.restore(log, Snapshots(home / "snapshots"))
    return OnlineFollower(store, log, state, has_made, chosen_at)


def follow(home: Path, url: str, wanted: Callable[[], bool], trusted: TrustedKeys = frozenset()) -> None:
    """Keep the online view of a home folder up to date while it is wanted, whatever happens to Redis or the log.

    After a fault everything is opened anew, again and again; `problem_of` tells of it meanwhile.
    """
    registry = Registry(home / "models", trusted)
    while wanted():
        try:
            with closing(open_log(home)) as log:
                _follow(home, open_follower(home, url, log, registry), wanted)
        except OnlineMoved:
            continue
        except SentinelError as problem:
            tell_problem(home, PROGRAM, str(problem))
        time.sleep(_RETRY_S)


def _follow(home: Path, follower: OnlineFollower | None, wanted: Callable[[], bool]) -> None:
    while follower is not None and wanted() and not follower.is_over:
        more = follower.step(time.time_ns() // 1_000)
        tell_problem(home, PROGRAM, None)
        time.sleep(0 if more else _PAUSE_S)


def main() -> int:
    """Run until killed, or until the parent process is gone."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.record.online.follower", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--trusted-keys", type=Path, help="file of public keys; models have to be signed by one")
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    keep_private()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
    yield_to_decisions()
    follow(given.home, os.environ[REDIS], die_with_parent(given.parent), read_trusted_keys(given.trusted_keys))
    return 0


if __name__ == "__main__":
    sys.exit(main())
