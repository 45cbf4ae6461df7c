"""The snapshotter's process: keeps it running, has it finish at the end, and knows how far behind the snapshots are."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sentinel.child_process import Child, Supervisor
from sentinel.record.feature_state import FeatureState, origin_of
from sentinel.record.log import LogReader
from sentinel.record.problem import problem_of
from sentinel.record.snapshots import Snapshots
from sentinel.record.snapshotter import PROGRAM


class SnapshotStatus(NamedTuple):
    """`ok` or what stands in the way; entries that a start would replay; how often the process was started again."""

    status: str
    lag: int
    restarts: int


class SnapshotterProcess(Supervisor):
    """Keeps the snapshotter of a home folder running: every so many entries it saves a state. No decision waits for it.

    At the end it gets `patience_s` for its last snapshots.
    """

    def __init__(
        self, home: Path, log: LogReader, every: int, patience_s: float, trusted_keys: Path | None = None
    ) -> None:
        super().__init__("snapshotter", first_wait_s=1.0, longest_wait_s=30.0)
        self._home = home
        self._log = log
        self._every = every
        self._trusted = ["--trusted-keys", str(trusted_keys)] if trusted_keys else []
        self._patience_s = patience_s
        self._snapshots = Snapshots(home / "snapshots")

    def start(self) -> None:
        """Have snapshots follow the log; returns at once, and may be called again."""
        if self._wanted is None:
            self.follow(str(self._home))

    def status(self, states: Iterable[FeatureState]) -> SnapshotStatus:
        """How far the newest snapshots of these states are behind; waits for a disk."""
        durable = self._log.durable
        starts = [self._newest(one) or one.begin for one in states]
        problem = problem_of(self._home, PROGRAM) or (self._reason if self._child is None else None)
        return SnapshotStatus(problem or "ok", max(durable - min(starts, default=durable), 0), self._restarts)

    def close(self, patience_s: float = 5.0) -> None:
        """Have it save what there is, and wait until it is gone."""
        super().close(patience_s + self._patience_s)

    def _newest(self, state: FeatureState) -> int | None:
        found = self._snapshots.positions(state.id, origin_of(self._log, state.bundle.manifest))
        return found[-1] if found else None

    def _begin(self, wanted: str, now_s: float) -> Child:  # noqa: ARG002
        arguments = ["--home", wanted, "--every", str(self._every), *self._trusted]
        return Child("sentinel.record.snapshotter", arguments)

    def _end(self) -> None:
        if self._closing and self._child is not None:
            self._child.finish(self._patience_s)
        super()._end()
