"""The snapshotter: follows the log with the feature states that a start may need, and saves them now and then.

`python -m sentinel.record.snapshotter --home H` runs one as a process.
"""

import argparse
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from sentinel.child_process import die_with_parent, yield_to_decisions
from sentinel.errors import SentinelError, StorageProblem, UnknownVersion
from sentinel.model.bundle import Manifest, load_bundle, read_manifest
from sentinel.model.registry import Registry, TrustedKeys
from sentinel.model.signing import read_trusted_keys
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import deployment_in
from sentinel.record.feature_state import PAGE, FeatureState, activation_of
from sentinel.record.home_reader import open_log
from sentinel.record.lock import WriterLock
from sentinel.record.log import Kind, LogReader
from sentinel.record.private import keep_private
from sentinel.record.problem import tell_problem
from sentinel.record.snapshots import REST_S, Snapshots
from sentinel.record.table_state import NAME as TABLES
from sentinel.record.table_state import TableState
from sentinel.record.whole_snapshots import check_kept

PROGRAM = "snapshotter"
SNAPSHOT_EVERY = 250_000
"""Entries after which a state is saved again."""

AT_LATEST_S = 600.0
"""After which a state is saved again when anything came."""

LOOK_EVERY_S, RETRY_S = 2.0, 30.0  # for something to follow; what failed
_PAUSE_S = 0.25
_logger = logging.getLogger(__name__)


def kept_in(deployment: Deployment) -> list[str]:
    """The versions whose states have snapshots: those that decide, and the one that a roll-back would return to."""
    challenger = deployment.experiment.version if deployment.experiment else None
    named = (deployment.champion, challenger, *deployment.previous[-1:])
    return [version for version in named if version is not None]


def _cannot_return(version: str, deployment: Deployment, log: LogReader, manifest: Manifest, folder: Path) -> bool:
    """Whether it is a previous champion of which the log no longer has enough."""
    if version not in deployment.previous[-1:]:
        return False
    try:
        check_kept(log, manifest, folder)
    except UnknownVersion:
        return True
    return False


_State: TypeAlias = FeatureState | TableState


class _Kept:
    """A state that is kept, loaded or not: of the first version that was found to have it, or the tables.

    `make` makes it, not loaded, from the position on from which it takes the log.
    """

    def __init__(self, version: str, make: Callable[[int], _State]) -> None:
        self.version = version
        self.make = make
        self.begin: int | None = None
        self.state: _State | None = None
        self.saved_s = 0.0
        self.not_before_s = 0.0
        self.problem: str | None = None

    def put_off(self, problem: str, now_s: float) -> None:
        """Nothing is tried until later."""
        self.problem, self.not_before_s = f"{self.version}: {problem}", now_s + RETRY_S


class Snapshotter:
    """Keeps the states that the deployment in the log names, and the tables, if it has any.

    Each is saved whenever `every` entries have come.

    While it is catching up, that waits until it has, for a save may take longer than to follow so many entries.
    A state is taken up once it decides (`activation_of`), for it is not known before from which entry on. Whatever is
    wrong with one stands in `problem`, is tried again later, and does not keep the others waiting. Use it from one
    thread; `now_s` is the time on any clock that does not run backwards.
    """

    def __init__(self, log: LogReader, registry: Registry, snapshots: Snapshots, every: int = SNAPSHOT_EVERY) -> None:
        self._log = log
        self._registry = registry
        self._snapshots = snapshots
        self._every = every
        self._kept: dict[str, _Kept] = {}
        self._problems: list[str] = []  # of what is deployed
        self._looked_s = float("-inf")
        self._has_news = False  # what is deployed may have changed; to look takes a while, so it waits for that

    @property
    def problem(self) -> str | None:
        """What keeps a state from being saved, or None."""
        return "; ".join(self._problems + [one.problem for one in self._kept.values() if one.problem]) or None

    @property
    def states(self) -> dict[str, _State]:
        """The states that are loaded, by their ids; the tables by theirs."""
        return {name: one.state for name, one in self._kept.items() if one.state is not None}

    def step(self, now_s: float) -> bool:
        """Take a few of the next entries with each state; whether there is more to do at once."""
        if self._has_news or now_s >= self._looked_s + (RETRY_S if self.states else LOOK_EVERY_S):
            self._has_news, self._looked_s, self._problems = False, now_s, []
            try:
                self._look()
            except SentinelError as error:
                self._problems.append(str(error))
        had_more = [self._advance(one, now_s) for one in self._kept.values()]
        return any(had_more)

    def finish(self) -> None:
        """Take what is durable by now, and save every state that is loaded."""
        for one in self._kept.values():
            try:
                if one.state is not None:
                    one.state.follow(self._log)
                    one.state.snapshot(self._log, self._snapshots)
            except SentinelError as error:
                _logger.warning("%s has no last snapshot: %s", one.version, error)

    def _look(self) -> None:
        """Keep the states that are named by now, and no other."""
        wanted: dict[str, _Kept] = {}
        deployment = deployment_in(self._log)
        for version in kept_in(deployment):
            try:
                manifest = read_manifest(self._registry.path(version))
            except SentinelError as error:
                self._problems.append(f"{version}: {error}")
                continue
            if _cannot_return(version, deployment, self._log, manifest, self._snapshots.folder):
                continue
            state_id = manifest.state_id
            wanted.setdefault(state_id, self._kept.get(state_id) or _Kept(version, self._opener(version)))
        if activation_of(self._log, TABLES) is not None:
            wanted[TABLES] = self._kept.get(TABLES) or _Kept(TABLES, TableState)
        for state_id, one in wanted.items():
            if one.begin is None:
                one.begin = activation_of(self._log, state_id)
        self._kept = wanted

    def _opener(self, version: str) -> Callable[[int], FeatureState]:
        """What makes the state of a version."""
        return lambda begin: FeatureState(load_bundle(self._registry.path(version), self._registry.trusted), begin)

    def _advance(self, one: _Kept, now_s: float) -> bool:
        """Take the next entries with a state, and save it when it is time; whether there are more at once."""
        if one.begin is None or now_s < one.not_before_s:
            return False
        try:
            if one.state is None:
                state = one.make(one.begin)
                state.restore(self._log, self._snapshots)
                one.state, one.saved_s = state, now_s
            records = one.state.take_next(self._log)
        except Exception as error:
            if not isinstance(error, SentinelError):
                _logger.exception("the features of %s could not be followed", one.version)
            one.state = None  # it may have taken a part of what it failed at
            one.put_off(str(error) or type(error).__name__, now_s)
            return False
        one.problem = None
        self._has_news |= any(record.kind in (Kind.APPLIED, Kind.ACTIVATION) for record in records)
        had_more = sum(record.rows for record in records) >= PAGE
        new, is_time = one.state.entries_since_snapshot, now_s >= one.saved_s + AT_LATEST_S
        if (new >= self._every and not had_more) or (new and is_time):
            self._save(one, one.state, now_s)
        return had_more

    def _save(self, one: _Kept, state: _State, now_s: float) -> None:
        try:
            state.snapshot(self._log, self._snapshots)
            one.saved_s = now_s
            if state.is_wasteful:
                one.state = None  # loaded anew from what was saved, it takes only what it needs
        except StorageProblem as error:
            one.put_off(str(error), now_s)


def follow(home: Path, every: int, wanted: Callable[[], bool], trusted: TrustedKeys = frozenset()) -> None:
    """Have snapshots of a home folder's states while it is wanted, and then last ones.

    `problem_of` tells of what stands in the way; a log that cannot be opened is tried again and again.
    """

    def rest() -> None:
        if wanted():
            time.sleep(REST_S)

    while wanted():
        try:
            lock = WriterLock.take(home / "snapshots")
            try:
                with closing(open_log(home)) as log:
                    snapshots = Snapshots(home / "snapshots", rest)
                    _follow(home, Snapshotter(log, Registry(home / "models", trusted), snapshots, every), wanted)
            finally:
                lock.release()
        except StorageProblem as problem:
            tell_problem(home, PROGRAM, str(problem))
            time.sleep(LOOK_EVERY_S)


def _follow(home: Path, snapshotter: Snapshotter, wanted: Callable[[], bool]) -> None:
    while wanted():
        more = snapshotter.step(time.monotonic())
        tell_problem(home, PROGRAM, snapshotter.problem)
        time.sleep(0 if more else _PAUSE_S)
    snapshotter.finish()


def main() -> int:
    """Run until SIGTERM, then save what there is; end at once when killed, or with the parent process."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.record.snapshotter", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--every", type=int, default=SNAPSHOT_EVERY, help="entries after which a state is saved again")
    parser.add_argument("--trusted-keys", type=Path, help="file of public keys; models have to be signed by one")
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    keep_private()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    yield_to_decisions()
    goes_on = die_with_parent(given.parent)
    follow(given.home, given.every, lambda: not asked and goes_on(), read_trusted_keys(given.trusted_keys))
    return 0


if __name__ == "__main__":
    sys.exit(main())
