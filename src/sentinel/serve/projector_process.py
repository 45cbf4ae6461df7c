"""The projector's process: keeps it running, and knows how far behind its view is."""

from contextlib import closing
from pathlib import Path

from sentinel.child_process import Child, Supervisor
from sentinel.errors import SentinelError
from sentinel.record.log import Follower, LogReader
from sentinel.record.projector import DATABASE
from sentinel.record.views.place import ViewPlace


class ProjectorProcess(Supervisor):
    """Keeps the projector of a home folder running. No decision waits for it."""

    def __init__(self, home: Path, log: LogReader, place: ViewPlace, database_url: str | None) -> None:
        super().__init__("projector", first_wait_s=1.0, longest_wait_s=30.0)
        self._home = home
        self._log = log
        self._place = place
        self._environment = {} if database_url is None else {DATABASE: database_url}

    def start(self) -> None:
        """Have the view follow the log; returns at once."""
        self.follow(str(self._home))

    def lag(self) -> int | None:
        """How many entries the view is behind, or None while it cannot be read; may wait for a disk."""
        try:
            with closing(self._place.open()) as view:
                return Follower(self._log, view.position.position).lag
        except SentinelError:
            return None

    def _begin(self, wanted: str, now_s: float) -> Child:  # noqa: ARG002
        return Child("sentinel.record.projector", ["--home", wanted], niceness=10, environment=self._environment)
