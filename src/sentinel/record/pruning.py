"""Pruning: the oldest segments leave the log once nobody needs them, a few at a time."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from sentinel.errors import SentinelError
from sentinel.events.times import SECOND_US, iso
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import deployment_in
from sentinel.record.archive.place import archive_need
from sentinel.record.file_log import FileLog
from sentinel.record.log import LogReader
from sentinel.record.log_reader import FileLogReader
from sentinel.record.needs import StateNeeds, experiment_needs, table_needs, view_need
from sentinel.record.retention import ClosedSegment, Need, Plan, old_among, plan
from sentinel.record.views.place import ViewPlace
from sentinel.record.whole_snapshots import WholeSnapshots

_AT_ONCE = 4
ALL = 1 << 40
_DAY_US = 86_400_000_000
_PAUSE_S = 0.05  # after a removal: the log has its turn at the disk

_log = logging.getLogger(__name__)


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed from the log, or would be (`dry_run`), and what is in it then.

    `held_by` says, if a segment is old enough and stays, what needs it; `more` that others may go at once. `oldest` is
    when the oldest segment was made.
    """

    at: str
    dry_run: bool
    removed: int
    removed_bytes: int
    more: bool
    held_by: list[str]
    first: int
    oldest: str
    segments: int
    bytes: int


class Retention(msgspec.Struct, frozen=True):
    """For how long the log is kept, and its ids remembered, in microseconds; and which archive has what leaves.

    `keep_us` is None for ever, `archive`, its address, None where there is none.
    """

    keep_us: int | None
    remember_us: int
    archive: str | None = None


class Owner(Protocol):
    """What has to be done in the thread of the log's writer; raises SentinelError when that cannot be."""

    def close_segment(self, made_before_us: int) -> None:
        """See FileLog.close_segment."""

    def forget_ids(self, before: int) -> None:
        """Have ids before this position no longer found."""


Needs = Callable[[Path, Deployment, LogReader, WholeSnapshots], list[Need]]


class Outlook:
    """Knows what needs the log of a home folder; `others` tells what this package does not. Use it from one thread."""

    def __init__(self, home: Path, log: FileLogReader, view: ViewPlace, others: Needs) -> None:
        self._home, self._log, self._view, self._others = home, log, view, others
        self._whole = WholeSnapshots()
        self._states = StateNeeds(home, log, self._whole)

    def plan(self, retention: Retention, most: int, now_us: int) -> Plan:
        """What may go of the oldest segments, `most` of them at most. Raises StorageProblem."""
        old = self.old(retention, most, now_us)
        if not old:
            return Plan([], [])
        try:
            needs = self._needs(retention, old, now_us)
        except SentinelError as problem:  # what cannot be read may need all of it
            needs = [Need(old[0].base, str(problem))]
        return plan(old, needs)

    def old(self, retention: Retention, most: int, now_us: int) -> list[ClosedSegment]:
        """The segments that are old enough to go, `most` of them at most. Raises StorageProblem."""
        if retention.keep_us is None:
            return []
        return old_among(self._log.closed(most), now_us - retention.keep_us)

    def look(self, retention: Retention, now_us: int) -> Pruned:
        """What would go now. Raises StorageProblem."""
        found = self.plan(retention, ALL, now_us)
        return self.report(found.may_go, found, now_us, dry_run=True)

    def report(self, removed: Sequence[ClosedSegment], rest: Plan, now_us: int, *, dry_run: bool) -> Pruned:
        """These segments were removed, or would be; `rest` is what is planned for the others."""
        size = self._log.sizes
        return Pruned(
            at=iso(now_us),
            dry_run=dry_run,
            removed=len(removed),
            removed_bytes=sum(one.bytes for one in removed),
            more=not dry_run and bool(rest.may_go),
            held_by=[need.why for need in rest.held_by],
            first=self._log.first,
            oldest=iso(size.oldest_us),
            segments=size.segments,
            bytes=size.bytes,
        )

    def _needs(self, retention: Retention, old: Sequence[ClosedSegment], now_us: int) -> list[Need]:
        deployment = deployment_in(self._log)
        forgotten = [one.until for one in old_among(old, now_us - retention.remember_us)]
        remembered = Need(
            max(forgotten, default=old[0].base),
            f"its ids are remembered for {_spoken(retention.remember_us)} (SENTINEL_REMEMBER_IDS)",
        )
        return [
            remembered,
            view_need(self._view),
            *experiment_needs(deployment, self._log),
            *self._states.of(deployment),
            *table_needs(self._home, self._log, self._whole),
            *([archive_need(self._home, retention.archive, self._log.log_id)] if retention.archive else []),
            *self._others(self._home, deployment, self._log, self._whole),
        ]


def _spoken(us: int) -> str:
    return f"{us / _DAY_US:g} days" if us >= _DAY_US else f"{us / SECOND_US:g} seconds"


class Pruner:
    """Prunes the log of a home folder. Use it from one thread, not the writer's."""

    def __init__(self, log: FileLog, outlook: Outlook, owner: Owner, rest: Callable[[float], None]) -> None:
        """`rest` waits so many seconds; what it raises ends a step, and leaves everything whole."""
        self._log, self._outlook, self._owner, self._rest = log, outlook, owner, rest

    def step(self, retention: Retention, now_us: int) -> Pruned:
        """Forget ids, close what has been open for long, and remove up to four segments. Raises SentinelError.

        A segment is removed whole or not at all.
        """
        if retention.keep_us is not None:
            self._owner.close_segment(now_us - min(_DAY_US, retention.keep_us // 8))
        self._owner.forget_ids(self._log.first_after(now_us - retention.remember_us))
        removed: list[ClosedSegment] = []
        for one in self._outlook.plan(retention, _AT_ONCE, now_us).may_go:
            revision = deployment_in(self._log).revision
            if not self._outlook.plan(retention, 1, now_us).may_go:
                break  # somebody began to need it meanwhile
            if not self._log.prune(one.until, self._still_at(revision)):
                break  # or may have begun to
            removed.append(one)
            self._rest(_PAUSE_S)
        left = self._outlook.plan(retention, _AT_ONCE, now_us)
        return self._outlook.report(removed, left, now_us, dry_run=False)

    def _still_at(self, revision: int) -> Callable[[], bool]:
        return lambda: deployment_in(self._log).revision == revision
