"""The process that writes the online view: keeps it running, and knows how far behind it is."""

from pathlib import Path

from sentinel.child_process import Child, Supervisor
from sentinel.errors import SentinelError
from sentinel.record.log import Follower, LogReader
from sentinel.record.online.place import PROGRAM, REDIS, open_online
from sentinel.record.problem import problem_of


class OnlineProcess(Supervisor):
    """Keeps the follower of a home folder running that writes to Redis. Nothing waits for it, and nothing needs it."""

    def __init__(self, home: Path, log: LogReader, url: str, trusted_keys: Path | None = None) -> None:
        super().__init__("online view", first_wait_s=1.0, longest_wait_s=30.0)
        self._home, self._log, self._url = home, log, url
        self._trusted = ["--trusted-keys", str(trusted_keys)] if trusted_keys else []

    def start(self) -> None:
        """Have the view follow the log; returns at once, and may be called again."""
        if self._wanted is None:
            self.follow(str(self._home))

    def lag(self, detector: str) -> int | None:
        """How many entries the view of the home's detector is behind, or None while it cannot be read; asks Redis."""
        try:
            store = open_online(self._home, detector, self._url)
            try:
                at = store.position()
            finally:
                store.close()
        except SentinelError:
            return None
        return Follower(self._log, at.position if at else 0).lag

    @property
    def status(self) -> str:
        """`ok`, or what stands in the way."""
        return problem_of(self._home, PROGRAM) or (self._reason if self._child is None else None) or "ok"

    def _begin(self, wanted: str, now_s: float) -> Child:  # noqa: ARG002
        arguments = ["--home", wanted, *self._trusted]
        return Child("sentinel.record.online.follower", arguments, environment={REDIS: self._url})
