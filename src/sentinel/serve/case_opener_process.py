"""The case opener's process: keeps it running, and knows how far behind it is."""

from pathlib import Path

from sentinel.child_process import Child, Supervisor
from sentinel.errors import SentinelError
from sentinel.record.log import Follower, LogReader
from sentinel.record.problem import problem_of
from sentinel.record.projector import DATABASE
from sentinel.record.written.written_database import OpenedLate
from sentinel.review.case_store.opener import CASES_BY, DEADLINES, KEEP, WHO
from sentinel.review.case_store.progress import cases_position


class CaseOpenerProcess(Supervisor):
    """Keeps the case opener of a home folder running. No decision waits for it."""

    def __init__(
        self, home: Path, log: LogReader, database_url: str | None, by: str | None, deadlines: str, keep: str,
    ) -> None:  # fmt: skip
        super().__init__(WHO, first_wait_s=1.0, longest_wait_s=30.0)
        self._home, self._log = home, log
        self._written = OpenedLate(home, database_url)
        self._environment = {DATABASE: database_url or "", CASES_BY: by or "", DEADLINES: deadlines, KEEP: keep}

    def start(self) -> None:
        """Have cases opened; returns at once, and may be called again."""
        if self._wanted is None:
            self.follow(str(self._home))

    def close(self, patience_s: float = 5.0) -> None:
        """End it, and release the database."""
        super().close(patience_s)
        self._written.close()

    def lag(self) -> int | None:
        """How many entries were not looked at for cases yet, or None while that is not known; may wait for a disk."""
        try:
            position = cases_position(self._written.get())
        except SentinelError:
            return None
        return None if position is None else Follower(self._log, position).lag

    @property
    def status(self) -> str:
        """`ok`, or what stands in the way."""
        return problem_of(self._home, WHO) or (self._reason if self._child is None else None) or "ok"

    def _begin(self, wanted: str, now_s: float) -> Child:  # noqa: ARG002
        return Child("sentinel.review.case_store.opener", ["--home", wanted], environment=self._environment)
