"""The process that writes the archive: keeps it running, has it finish at the end, and knows how far behind it is."""

from pathlib import Path
from typing import NamedTuple

from sentinel.child_process import Child, Supervisor
from sentinel.events.times import SECOND_US
from sentinel.record.archive.follower import EVERY_S
from sentinel.record.archive.place import PROGRAM, address_of, mark_of
from sentinel.record.log import LogReader
from sentinel.record.problem import problem_of


class ArchiveStatus(NamedTuple):
    """`ok` or what stands in the way; entries that are durable and not in the archive; where that is."""

    status: str
    lag: int
    archive: str


class ArchiverProcess(Supervisor):
    """Keeps the archiver of a home folder running. No decision waits for it; pruning does.

    `keep_us` is how long segments stay in the archive, `log_us` how long in the log, None for ever: what is to leave
    soon is archived soon. At the end it gets `patience_s` for what is left.
    """

    def __init__(
        self, home: Path, log: LogReader, address: str, keep_us: int | None, log_us: int | None, patience_s: float
    ) -> None:
        super().__init__("archiver", first_wait_s=1.0, longest_wait_s=30.0)
        self._home, self._log, self._address, self._patience_s = home, log, address_of(address), patience_s
        every_s = EVERY_S if log_us is None else min(EVERY_S, log_us / SECOND_US / 24)
        self._often = ["--every", f"{every_s:g}", *([] if keep_us is None else ["--keep-us", str(keep_us)])]

    def start(self) -> None:
        """Have the archive follow the log; returns at once, and may be called again."""
        if self._wanted is None:
            self.follow(str(self._home))

    @property
    def status(self) -> ArchiveStatus:
        """How far the archive is behind."""
        mark = mark_of(self._home, self._address)
        end = mark.end if mark is not None and mark.log_id == self._log.log_id else self._log.first
        problem = problem_of(self._home, PROGRAM) or (self._reason if self._child is None else None)
        return ArchiveStatus(problem or "ok", max(self._log.durable - end, 0), self._address)

    def close(self, patience_s: float = 5.0) -> None:
        """Have it put what there is, and wait until it is gone."""
        super().close(patience_s + self._patience_s)

    def _begin(self, wanted: str, now_s: float) -> Child:  # noqa: ARG002
        return Child("sentinel.record.archive.follower", ["--home", wanted, "--archive", self._address, *self._often])

    def _end(self) -> None:
        if self._closing and self._child is not None:
            self._child.finish(self._patience_s)
        super()._end()
