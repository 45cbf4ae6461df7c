"""Which entries the log holds, by the hash of their id: the newest in tables in memory, all others in runs on the disk.

Everything here is derived from the log: a file that is missing or damaged is made again from it.
"""

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import StorageProblem
from sentinel.record.bloom import BloomFilter
from sentinel.record.entries import index_keys
from sentinel.record.id_run import IdRun, IdRuns, Rows, RunHead, open_run, write_run
from sentinel.record.id_table import IdTable
from sentinel.record.log import Follower, LogReader

GENERATION = 1 << 17
"""Keys that are gathered in memory before they are written."""

_MERGED = 8  # runs of about the same size
_SLOTS = 1 << 14
_POLL_S = 0.5
_PAUSE_S = 0.002
_NONE = np.empty(0, np.uint64)
_logger = logging.getLogger(__name__)


class _Generation:
    """A table with the keys of all entries from `first` up to `end`, and maybe of some after it that are void."""

    def __init__(self, first: int, keys: int) -> None:
        self.first = self.end = first
        self.table = IdTable(2 << (keys - 1).bit_length())

    def rows(self) -> list[Rows]:
        """All of it, in parts: each is in order of the keys, and made within a fraction of a millisecond."""
        parts = []
        for begin in range(0, len(self.table.hashes), _SLOTS):
            keys, positions = self.table.hashes[begin : begin + _SLOTS], self.table.numbers[begin : begin + _SLOTS]
            mine = (keys != 0) & (positions >= self.first) & (positions < self.end)
            rows = np.column_stack((keys[mine], positions[mine].view(np.uint64)))
            parts.append(rows.take(rows[:, 0].argsort(), axis=0))
        return parts


class _Closing(Exception):
    """What is being written is given up."""


class IdIndex:
    """Finds the positions of decisions and outcomes, also of those that were just added.

    `add`, `void_from` and `forget_before` belong to one thread and never wait for a disk; `find` may be called from
    any. A thread of its own writes full tables as runs once their entries are durable, and merges eight runs into one.
    """

    def __init__(self, folder: Path, log: LogReader, generation: int = GENERATION) -> None:
        """Catch up with what is durable in the log. Raises StorageProblem when the log cannot be read."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._log, self._generation = folder, log, generation
        self._oldest = log.first
        self._tables: tuple[_Generation, ...] = ()
        self._swapping, self._tidying, self._closing = threading.Lock(), threading.Lock(), threading.Event()
        self._runs = IdRuns(self._usable())
        position = log.first
        for run in self._runs.all:
            if position < run.first:
                self._index(position, run.first)
            position = run.end
        self._index(position, log.durable)
        self.find(np.ones(1, np.uint64))  # compiled now, not in the first decision
        BloomFilter(0).add(_NONE.reshape(-1, 2)[:, 0])
        self._thread = threading.Thread(target=self._work, name="ids", daemon=True)
        self._thread.start()

    @property
    def position(self) -> int:
        """All entries before it were added."""
        return self._tables[-1].end

    @property
    def remembered_from(self) -> int:
        """No entry before this position is found."""
        return self._oldest

    def add(self, keys: NDArray[np.uint64], position: int) -> None:
        """Add the entries from `position` on: keys[i] stands at `position` + i. Nothing after them is in the log."""
        self.void_from(position)
        active, end = self._tables[-1], position + len(keys)
        active.table = active.table.with_room_for(len(keys))  # it has none after a huge batch only
        active.table.put(keys, np.arange(position, end))
        active.end = end
        if active.table.count >= self._generation:
            self._begin(end)

    def follow(self) -> None:
        """Add what is durable by now and was written by another process; from the thread of `add`."""
        follower = Follower(self._log, self.position)
        for page in follower.rest():
            for record in page:
                self.add(index_keys(record), record.position)
        self.add(_NONE, follower.position)

    def void_from(self, position: int) -> None:
        """Entries from this position on, none of them durable, are not in the log any more."""
        if position < self.position:
            for each in self._tables:
                each.first, each.end = min(each.first, position), min(each.end, position)
            self._begin(position)

    def find(self, keys: NDArray[np.uint64]) -> list[int]:
        """All positions at which one of these keys may stand, in order."""
        found = [position for each in self._tables for position in each.table.numbers_of(keys) if position < each.end]
        found += self._runs.find(keys)  # after the tables, so that nothing is missed on its way
        return sorted({position for position in found if position >= self._oldest}) if found else found

    def forget_before(self, position: int) -> None:
        """Entries before this position are no longer in the log."""
        self._oldest = max(self._oldest, position)

    def tidy(self) -> None:
        """Write the tables that are full and durable, delete what is forgotten, merge runs: whatever is due."""
        with self._tidying:
            self._write_tables()
            self._replace([run for run in self._runs.all if run.end <= self._oldest], [])
            while (group := self._alike()) and self._has_space_for(group):
                self._merge(group)

    def close(self) -> None:
        """Give up what is being written: the next start makes it again from the log."""
        self._closing.set()
        self._thread.join()

    def _usable(self) -> Iterator[IdRun]:
        """The runs of this log. All other files are deleted."""
        end = self._log.first
        for draft in self._folder.glob("*.draft"):
            draft.unlink()
        runs = [run for path in self._folder.glob("*.ids") if (run := self._opened(path))]
        for run in sorted(runs, key=lambda run: (run.first, -run.end)):
            if run.end <= end:  # it is forgotten, or was merged into the one before
                run.path.unlink()
            else:
                end = run.end
                yield run

    def _opened(self, path: Path) -> IdRun | None:
        try:
            return open_run(path, self._log.log_id, self._log.durable)
        except StorageProblem as error:
            _logger.warning("%s; it is deleted, and made again from the log", error)
            path.unlink()
            return None

    def _index(self, begin: int, end: int) -> None:
        """Add what the log has from `begin` up to `end`."""
        self._begin(begin)
        for page in Follower(self._log, begin).rest():
            if page[0].position >= end:
                break
            for record in page:
                self.add(index_keys(record), record.position)
            self._unless_the_disk_fails(self._write_tables)
        self.add(_NONE, max(end, self.position))

    def _begin(self, position: int) -> None:
        """Go on with an empty table."""
        fresh = _Generation(position, self._generation)
        with self._swapping:
            self._tables = (*self._tables, fresh)

    def _work(self) -> None:
        with contextlib.suppress(_Closing):
            while not self._closing.wait(_POLL_S):
                self._unless_the_disk_fails(self.tidy)

    def _unless_the_disk_fails(self, task: Callable[[], None]) -> None:
        try:
            task()
        except OSError as error:
            _logger.warning("no ids written, they stay in memory or in many files: %s", error)

    def _write_tables(self) -> None:
        """Write those that are full and durable as runs."""
        for full in self._tables[:-1]:
            if full.end > self._log.durable:
                return
            if full.first < full.end:
                self._replace([], [self._written(full.first, full.end, full.rows(), self._pause)])
            with self._swapping:
                self._tables = tuple(each for each in self._tables if each is not full)

    def _merge(self, group: Sequence[IdRun]) -> None:
        def between() -> None:
            self._pause()
            self._write_tables()  # a large merge takes minutes

        sources = [run.rows for run in group]
        self._replace(group, [self._written(group[0].first, group[-1].end, sources, between)])

    def _written(self, first: int, end: int, sources: Sequence[Rows], between: Callable[[], None]) -> IdRun:
        head = RunHead(log_id=self._log.log_id, first=first, end=end)
        return write_run(self._folder, head, sources, self._oldest, between)

    def _pause(self) -> None:
        if self._closing.wait(_PAUSE_S):
            raise _Closing

    def _replace(self, old: Sequence[IdRun], new: Sequence[IdRun]) -> None:
        if old or new:
            self._runs = IdRuns([*(run for run in self._runs.all if run not in old), *new])
        for run in old:
            run.path.unlink(missing_ok=True)

    def _has_space_for(self, group: Sequence[IdRun]) -> bool:
        """Whether the disk has four times as much: the log comes first."""
        return shutil.disk_usage(self._folder).free > 4 * sum(run.rows.nbytes for run in group)

    def _alike(self) -> Sequence[IdRun]:
        """The oldest runs that are to be merged, if any."""
        runs = self._runs.all
        sizes = [(max(len(run.rows) // self._generation, 1).bit_length() - 1) // 3 for run in runs]
        for n in range(len(runs) - _MERGED + 1):
            if len(set(sizes[n : n + _MERGED])) == 1:
                return runs[n : n + _MERGED]
        return ()
