"""What is applied: the deployment in force is the newest APPLIED entry of the log, and every change is one more."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sentinel.errors import BundleProblem, DeploymentRefused
from sentinel.policy.deployment import Deployment
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind, Log, LogReader
from sentinel.record.log_reader import FileLogReader

NAME = "applied"
Change = Callable[[Deployment], Deployment]

_decode = msgspec.json.Decoder(Deployment).decode  # made once, before there are threads


def deployment_in(log: LogReader) -> Deployment:
    """What is in force; an empty deployment when nothing ever was. Raises BundleProblem when it cannot be read."""
    record = log.standing().get(NAME)
    if record is None:
        return Deployment()
    try:
        return _decode(record.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleProblem(
            f"the deployment at position {record.position} of the log is of another version of Sentinel ({error}); "
            "run that version, or a fresh --home"
        ) from error


def apply(log: Log, change: Change, now_us: int) -> Deployment:
    """Replace what is in force by what `change` makes of it, durable when this returns if the log writes at once.

    From the thread of the log's writer. Raises DeploymentRefused for a share or a split outside its range,
    StorageProblem when the log cannot be written, and whatever `change` raises; then nothing is changed.
    """
    before = deployment_in(log)
    after = change(before)
    if after == before:
        return before
    body = msgspec.json.encode(msgspec.structs.replace(after, revision=before.revision + 1))
    try:
        after = _decode(body)
    except msgspec.ValidationError as error:
        raise DeploymentRefused(f"this deployment could not be read back ({error}); nothing is changed") from error
    log.write(Kind.APPLIED, 1, now_us, body, standing=NAME)
    return after


class HomeDeployment:
    """The deployment of a home folder for a process that does not own its log: it reads on, and writes for a moment."""

    def __init__(self, home: Path) -> None:
        self._folder = log_folder(home)
        self._reader: FileLogReader | None = None
        self._known = -1, Deployment()

    def read(self) -> Deployment:
        """What is in force; little work while nothing is new. Raises BundleProblem, StorageProblem."""
        if self._reader is None:
            if not self._folder.exists():
                return Deployment()
            self._reader = FileLogReader(self._folder)
        end = self._reader.durable
        if end != self._known[0]:
            self._known = end, deployment_in(self._reader)
        return self._known[1]

    def champion(self) -> str:
        """The champion's version. Raises BundleProblem when there is none."""
        champion = self.read().champion
        if champion is None:
            raise BundleProblem(
                f"{self._folder.parent} has no champion; run `sentinel train`, or `sentinel models promote VERSION`"
            )
        return champion

    def change(self, change: Change) -> Deployment:
        """Take the writer's lock, change what is in force, and release it; see `apply` for what is raised.

        Raises StorageProblem as well while another process owns the log.
        """
        now_us = time.time_ns() // 1000
        log = FileLog.open(self._folder, now_us)
        try:
            return apply(log, change, log.clock(now_us))
        finally:
            log.close()

    def promote(self, version: str) -> None:
        """Make a version the champion. Raises DeploymentRefused while an experiment runs."""
        self.change(lambda deployment: deployment.with_champion(version))


def log_folder(home: Path) -> Path:
    """Where a home folder keeps its log."""
    return home / "log"
